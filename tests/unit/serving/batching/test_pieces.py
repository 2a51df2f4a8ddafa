"""Calls of many rows are run in pieces: none is larger than the largest batch, and others get in between."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.batchers import (
    ROOM,
    Gate,
    double,
    model_of,
    one_slot,
    row,
    steady,
    wait_until,
    waiting,
)

import modelkit as mk
from modelkit.errors import DeadlineExceeded
from modelkit.model.call import PLAIN
from modelkit.serving.batching import scheduler
from modelkit.serving.batching.policy import make_plan
from modelkit.serving.batching.queue import shortest_first
from modelkit.serving.batching.requests import Request


def test_outputs_of_a_split_call_that_do_not_fit_together_are_an_error():
    signature = mk.Signature(
        (mk.TensorSpec("x", "float32", ("n", 2)),),
        (mk.TensorSpec("y", "float32", ("n", "m")),),
        primary="y",
    )

    def ragged(feeds):
        rows = len(feeds["x"])
        if rows > 2:
            raise MemoryError
        return {"y": np.zeros((rows, int(feeds["x"][0, 0])), np.float32)}

    model = mk.FunctionModel(ragged, signature, batchable=True)
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    for cap in (2, 8):
        with mk.Batcher(
            model, max_rows=cap, plan=make_plan(((1, 3e-3), (cap, 6e-3)), 1, cap)
        ) as batcher:
            for ask in (batcher.predict, lambda x, batcher=batcher: batcher.submit(x).result(ROOM)):
                with pytest.raises(ValueError, match="dimensions"):
                    ask(x)


def test_large_calls_that_overlap_let_a_single_row_through():
    plan = make_plan(((1, 3e-3), (8, 4e-3)), 2, 8)
    ran = []

    def record(feeds):
        ran.append(feeds["x"][0, 0])
        return double(feeds)

    gate = Gate(record)
    with steady(mk.Batcher(model_of(gate), plan=plan)) as batcher, ThreadPoolExecutor(4) as pool:
        large = [
            pool.submit(batcher.predict, np.full((400, 2), value, np.float32), priority=-1)
            for value in (1, 2)
        ]
        gate.began_one()
        gate.began_one()
        small = pool.submit(batcher.predict, row(7))
        wait_until(lambda: batcher.stats().queued >= 1)
        for _ in range(40):
            gate.go.release()
        assert small.result(ROOM) == 14
        gate.open()
        for value, future in zip((1, 2), large, strict=True):
            assert (future.result(ROOM) == 2 * value).all()
    assert ran.index(7) < 42  # of a hundred: some runs go on until its thread is awake


@pytest.mark.parametrize("how", ["measured", "of another", "of a smaller one", "learned"])
def test_no_batch_is_larger_than_the_largest_one(how):
    sizes = []

    def fn(feeds):
        sizes.append(len(feeds["x"]))
        return double(feeds)

    plan = make_plan(((1, 1e-3), (64, 2e-3), (512, 3e-3)), 2, 512)
    small = make_plan(((1, 1e-3), (16, 1.1e-3)), 2, 4096)
    assert small.piece > 16
    options = {
        "measured": "measure",
        "of another": plan,
        "of a smaller one": small,
        "learned": "learn",
    }
    with mk.Batcher(model_of(fn), max_rows=16, plan=options[how]) as batcher:
        assert batcher.plan.cap <= batcher.plan.piece <= 16
        batcher._scheduler.planner.observe = lambda *_: False
        rows = np.arange(400, dtype=np.float32).reshape(200, 2)
        np.testing.assert_array_equal(batcher.predict(rows)[:, 0], 2 * rows[:, 0])
        np.testing.assert_array_equal(batcher.submit(rows).result(ROOM)[:, 0], 2 * rows[:, 0])
        np.testing.assert_array_equal(asyncio.run(batcher.apredict(rows))[:, 0], 2 * rows[:, 0])
    assert max(sizes) <= 16


def test_after_a_run_too_large_for_memory_no_part_is_as_large_again():
    plan = make_plan(((1, 1e-3), (64, 1.1e-3)), 1, 1024)
    with mk.Batcher(model_of(), plan=plan) as batcher:
        assert batcher.plan.piece > 64
        batcher._scheduler.shrink(16)
        assert batcher.plan.cap <= batcher.plan.piece <= 8


def test_a_large_call_ends_at_its_deadline(monkeypatch):
    """Nobody else waits, so each of its pieces finds a free slot; the deadline counts for them all."""
    gate, passed = Gate(), 0.0
    monkeypatch.setattr(scheduler, "clock", lambda: time.monotonic() + passed)
    with one_slot(gate) as batcher, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(batcher.predict, np.zeros((40, 2), np.float32), deadline=ROOM)
        gate.began_one()
        passed = 2.0 * ROOM
        gate.open()
        with pytest.raises(DeadlineExceeded):
            asked.result(ROOM)
        assert len(gate.sizes) == 1
        assert batcher.stats().expired == 1


def test_a_large_call_is_interleaved_with_small_ones():
    gate = Gate()
    large = np.ones((1000, 2), np.float32)
    with one_slot(gate) as batcher, ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        big = pool.submit(batcher.predict, large)
        waiting(batcher, 8)
        small = pool.submit(batcher.predict, row(5))
        waiting(batcher, 9)
        for _ in range(3):
            gate.go.release()
        assert small.result(ROOM) == 10
        assert not big.done()
        gate.open()
        assert (big.result(ROOM) == 2).all()
        first.result(ROOM)


def test_large_calls_end_one_after_another():
    """The first two take turns: the next piece of one comes while the other's runs."""
    gate = Gate()
    with one_slot(gate) as batcher, ThreadPoolExecutor(5) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        large = []
        for at in range(4):
            large.append(pool.submit(batcher.predict, np.full((80, 2), at, np.float32)))
            waiting(batcher, 8 * (at + 1))
        gate.go.release()
        for run in range(20):
            gate.began_one()
            waiting(batcher, 24 if run < 19 else 16)
            gate.go.release()
        for at in (0, 1):
            assert (large[at].result(ROOM) == 2 * at).all()
        assert not large[2].done()
        assert not large[3].done()
        gate.open()
        for future in (first, *large):
            future.result(ROOM)


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ("", ""),
        ("a0 b0", "a0 b0"),
        ("a0 b9 c0 d5 e0", "a0 d5 c0 b9 e0"),
        ("b9 c9 a0 d9", "b9 c9 a0 d9"),
        ("c9 a0 b7 d3", "d3 a0 b7 c9"),
    ],
)
def test_places_of_pieces_go_to_the_call_of_which_least_is_left(given, chosen):
    """Each is named, with the size of what is left of its call."""
    asked = [Request({}, 1, (name[0],), PLAIN, left=int(name[1])) for name in given.split()]
    found = [f"{each.outputs[0]}{each.left}" for each in shortest_first(asked)]
    assert found == chosen.split()
