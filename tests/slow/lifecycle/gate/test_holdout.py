"""Uses of a hold-out that several processes count."""

from __future__ import annotations

import multiprocessing

from helpers.rival_gates import use

import modelkit as mk
from modelkit.lifecycle.gate.holdout import counted_use

SPAWN = multiprocessing.get_context("spawn")


def test_gates_of_several_processes_are_told_apart(tmp_path):
    digest = "ab" * 32
    url = str(tmp_path / "models")
    results = SPAWN.Queue()
    gates = [[f"{worker}-{at}" for at in range(5)] for worker in range(3)]
    workers = [SPAWN.Process(target=use, args=(url, digest, own, results)) for own in gates]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=280) for _ in workers]
    for worker in workers:
        worker.join(280)
    assert sorted(use for own in found for use in own) == list(range(1, 16))
    again = [counted_use(mk.Registry(url).hold_out_folder(digest), gate) for gate in gates[0]]
    assert sorted(again) == sorted(next(each for each in found if set(each) == set(again)))
