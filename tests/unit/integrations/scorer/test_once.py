"""A process opens each package once, and keeps those that it used last."""

import gc
import threading
import weakref

import numpy as np
import pytest
from helpers.graphs import model_of, tensor

import modelkit as mk
from modelkit.integrations.scorer import scorer as module
from modelkit.integrations.scorer.once import MOST_PACKAGES, OncePerProcess

ROWS = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Many packages, each of which adds a number of its own."""
    folder = tmp_path_factory.mktemp("once")
    paths = []
    for number in range(MOST_PACKAGES + 4):
        graph = model_of(
            [("Add", ["x", "own"], ["y"], {})],
            [tensor("x", "n", 3)],
            [tensor("y", "n", 3)],
            {"own": np.float32([number])},
        )
        paths.append(folder / f"{number}.mk")
        mk.save(graph, paths[-1], example=ROWS, name="m", version=f"{number}")
    return paths


def held_models():
    return [key for _, _, key in module._held._values if key[0] == "model"]


def test_a_worker_that_scores_many_packages_keeps_the_last_ones(packages):
    module._held._values.clear()
    scorers = [mk.Scorer(path) for path in packages]
    opened = []
    for number, scorer in enumerate(scorers):
        assert scorer(ROWS)["y"][0, 0] == number
        opened.append(weakref.ref(scorer.model))
        assert len(held_models()) <= MOST_PACKAGES
    gc.collect()
    alive = [number for number, model in enumerate(opened) if model() is not None]
    assert alive == list(range(len(packages)))[-MOST_PACKAGES:]
    assert scorers[0](ROWS)["y"][0, 0] == 0  # is opened again


def test_as_many_as_are_kept_are_opened_once_however_they_take_turns(packages):
    module._held._values.clear()
    scorers = [mk.Scorer(path) for path in packages[:MOST_PACKAGES]]
    first = [scorer.model for scorer in scorers]
    for _ in range(3):
        for scorer, model in zip(scorers, first, strict=True):
            scorer(ROWS)
            assert scorer.model is model


def test_threads_that_ask_for_more_than_are_kept_each_get_their_own():
    held = OncePerProcess()
    start = threading.Barrier(8)
    wrong = []

    def ask(first):
        start.wait()
        for turn in range(400):
            digest = str((first * 7 + turn) % 30)
            found = held.get(digest, "value", lambda own=digest: [own])
            if found != [digest]:
                wrong.append((digest, found))

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len({digest for _, digest, _ in held._values}) <= MOST_PACKAGES
