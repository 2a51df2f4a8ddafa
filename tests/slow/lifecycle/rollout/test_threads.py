"""Both arms of a Rollout of a registry use the threads of one Model."""

from __future__ import annotations

import os
import threading
import time
import warnings

import numpy as np
import pytest
from helpers.rollouts import Load
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

import modelkit as mk

WIDE = np.random.default_rng(0).normal(size=(40, 1030))
X = WIDE[:, :3]
Y = (X[:, 0] > 0).astype(int)
GUARDS = (mk.Guard("errors", floor=0.05),)
HALF = mk.RolloutPolicy((mk.RolloutStage(0.5, seconds=3600),), GUARDS)
SHADOW = mk.RolloutPolicy((mk.RolloutStage(0, seconds=3600), mk.RolloutStage(0.5)), GUARDS)
ROOM = 100  # seconds after which something hangs


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A model that runs on one thread, and one whose runs are split over all: it has 8 MiB."""
    folder = tmp_path_factory.mktemp("packages")
    for version in ("1", "2"):
        small = LogisticRegression(C=float(version)).fit(X, Y)
        large = MLPClassifier((1030,), max_iter=1, random_state=int(version))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has not converged, which does not matter here
            large.fit(WIDE, Y)
        for name, model, rows in (("small", small, X), ("large", large, WIDE[:8])):
            path = folder / f"{name}-{version}.mk"
            mk.save(model, path, example=rows, name=name, version=version)
    return folder


@pytest.fixture
def registry(tmp_path, packages):
    registry = mk.Registry(tmp_path / "models")
    for name in ("small", "large"):
        for version in ("1", "2"):
            registry.register(packages / f"{name}-{version}.mk")
        registry.set_alias(name, "champion", "1", expected=None, reason="first")
    return registry


def of_process():
    """The threads of this process, as the system counts them."""
    return len(os.listdir("/proc/self/task"))


def until(condition):
    end = time.monotonic() + ROOM
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def threads_of(rollout):
    return [model.placement.threads for model in rollout.models]


@pytest.mark.parametrize(
    ("threads", "each", "policy"), [(1, 1, HALF), (2, 1, HALF), (4, 2, SHADOW), (5, 2, HALF)]
)
def test_while_a_rollout_is_under_way_each_arm_has_half(registry, threads, each, policy):
    rollout = mk.Rollout(registry, "small", wrap=mk.Batcher, poll=1000, threads=threads)
    [champion] = rollout.models
    alone = registry.load("small", "1", threads=threads)
    assert threads_of(rollout) == [alone.placement.threads]
    expected = alone.run(X)["probabilities"]
    for end in (rollout.rollback, rollout.promote):
        registry.start_rollout("small", "2", policy, reason="try", force=True)
        rollout.refresh()
        assert champion is rollout.models[0]  # its layers, and what they know, stay
        assert threads_of(rollout) == [each, each]
        assert [batcher.plan.slots for batcher in rollout.models] == [each, each]
        np.testing.assert_array_equal(champion.run(X)["probabilities"], expected)
        end("by hand")
        assert rollout.placement.threads == threads
        assert rollout.models[0].plan.slots == threads
    assert rollout.manifest.version == "2"
    rollout.rollback("it was better")
    assert (rollout.manifest.version, rollout.placement.threads) == ("1", threads)
    rollout.close()


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="Linux alone")
def test_split_runs_of_both_arms_have_no_more_threads_than_those_of_one(registry):
    until(lambda: not any(each.name.startswith("modelkit") for each in threading.enumerate()))
    before = of_process()
    alone = registry.load("large", "1", threads=4)
    assert alone.placement.split
    expected = alone.run(WIDE)
    own = 3  # and the caller's
    until(lambda: of_process() == before + own)
    alone.close()
    until(lambda: of_process() == before)
    rollout = mk.Rollout(registry, "large", poll=1000, threads=4, seed=0)
    until(lambda: of_process() == before + own)
    registry.start_rollout("large", "2", HALF, reason="try")
    rollout.refresh()
    until(lambda: of_process() <= before + own)
    assert threads_of(rollout) == [2, 2]
    served = {}
    for _ in range(40):
        answers = rollout.run(WIDE)
        served[answers.served_by.version] = answers
    assert set(served) == {"1", "2"}
    np.testing.assert_array_equal(served["1"]["label"], expected["label"])
    np.testing.assert_allclose(
        served["1"]["probabilities"], expected["probabilities"], rtol=0, atol=1e-12
    )
    rollout.promote("it looks well")
    assert (rollout.placement.threads, rollout.placement.split) == (4, True)
    rollout.close()
    until(lambda: of_process() == before)


def test_calls_under_way_lose_nothing_when_threads_change(registry):
    rollout = mk.Rollout(registry, "large", wrap=mk.Batcher, poll=1000, threads=2)
    with Load(
        rollout, WIDE[:3], lambda answers: len(answers["label"]) == 3, threads=4, coroutines=8
    ) as load:
        for _ in range(3):
            registry.start_rollout("large", "2", HALF, reason="try", force=True)
            rollout.refresh()
            rollout.rollback("again")
    assert load.wrong == []
    assert sum(load.calls) > 0
    assert rollout.placement.threads == 2
    rollout.close()


def test_a_model_that_was_closed_is_not_opened_again(packages):
    model = mk.load(packages / "large-1.mk", threads=4)
    model.close()
    model._use_threads(2)
    assert model.closed
    assert model.placement.threads == 4
