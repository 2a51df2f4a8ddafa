"""What a Batcher takes in: the queue and the batches are bounded, and deadlines are kept."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.batchers import (
    PLANS,
    ROOM,
    SIGNATURE,
    Gate,
    double,
    model_of,
    one_slot,
    row,
    wait_until,
    waiting,
)

import modelkit as mk
from modelkit.errors import DeadlineExceeded, OutputCountError, Overloaded
from modelkit.serving.batching.policy import BATCH, PARALLEL

# The queue is bounded.


def test_a_full_queue_is_an_error_that_says_how_full():
    gate = Gate()
    with one_slot(gate, max_queue=2) as batcher, ThreadPoolExecutor(4) as pool:
        first = [pool.submit(batcher.predict, row(0))]
        gate.began_one()
        first += [pool.submit(batcher.predict, row(value)) for value in (1, 2)]
        waiting(batcher, 2)
        for ask in (batcher.predict, batcher.submit, lambda x: asyncio.run(batcher.apredict(x))):
            with pytest.raises(Overloaded, match="2 wait already, and at most 2 may") as caught:
                ask(row(9))
            assert (caught.value.queued, caught.value.max_queue) == (2, 2)
        gate.open()
        assert [float(future.result(ROOM)[0, 0]) for future in first] == [0, 2, 4]
        assert batcher.stats().shed == 3
    assert batcher.stats().deepest == 2


def test_work_that_may_wait_takes_no_room_from_the_rest():
    gate = Gate()
    with one_slot(gate, max_queue=4) as batcher, ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(batcher.predict, row(0))]
        gate.began_one()
        asked += [pool.submit(batcher.predict, row(value), priority=-1) for value in range(1, 5)]
        waiting(batcher, 4)
        with pytest.raises(Overloaded):
            batcher.predict(row(9), priority=-1)
        asked += [pool.submit(batcher.predict, row(value)) for value in range(5, 9)]
        waiting(batcher, 8)
        with pytest.raises(Overloaded):
            batcher.predict(row(9))
        gate.open()
        assert [float(future.result(ROOM)[0, 0]) for future in asked] == [
            2 * value for value in range(9)
        ]


# Deadlines.


@pytest.mark.parametrize("verb", ["predict", "submit", "apredict"])
def test_a_deadline_that_has_passed_is_never_run(plan, verb):
    """By the call of a wrapper that took its time, and by a deadline that was over at once."""

    def ask():
        if verb == "predict":
            return batcher.predict(row(1), deadline=1e-9)
        if verb == "submit":
            return batcher.submit(row(1), deadline=1e-9).result(ROOM)
        return asyncio.run(batcher.apredict(row(1), deadline=1e-9))

    ran = []
    with mk.Batcher(model_of(lambda feeds: ran.append(1) or double(feeds)), plan=plan) as batcher:
        with pytest.raises(DeadlineExceeded):
            ask()
        assert batcher.stats().expired == 1
    assert not ran


def test_what_expires_in_the_queue_is_never_run():
    gate = Gate()
    with one_slot(gate) as batcher, ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        with pytest.raises(DeadlineExceeded):
            batcher.predict(row(1), deadline=1e-3)
        with pytest.raises(DeadlineExceeded):
            asyncio.run(batcher.apredict(row(2), deadline=1e-3))
        late = batcher.submit(row(3), deadline=1e-3)
        over = time.monotonic() + 1e-3
        on_time = pool.submit(batcher.predict, row(4), deadline=ROOM)
        waiting(batcher, 2)
        wait_until(lambda: time.monotonic() > over)
        gate.open()
        with pytest.raises(DeadlineExceeded):
            late.result(ROOM)
        assert on_time.result(ROOM) == 8
        assert first.result(ROOM) == 0
    assert gate.sizes == [1, 1]
    assert batcher.stats().expired == 3


@pytest.mark.parametrize("on", [PARALLEL, BATCH])
def test_what_expires_before_the_flush_of_its_tick_is_never_run(on):
    async def main():
        late = asyncio.ensure_future(batcher.apredict(row(1), deadline=1e-3))
        on_time = asyncio.ensure_future(batcher.apredict(row(2), deadline=ROOM))
        await asyncio.sleep(0)
        over = time.monotonic() + 1e-3
        while time.monotonic() < over:  # the loop is held up before the flush
            pass
        return await asyncio.gather(late, on_time, return_exceptions=True)

    ran = []

    def record(feeds):
        ran.extend(feeds["x"][:, 0].tolist())
        return double(feeds)

    with mk.Batcher(model_of(record), plan=PLANS[on]) as batcher:
        late, on_time = asyncio.run(main())
    assert isinstance(late, DeadlineExceeded)
    assert on_time == 4
    assert ran == [2]


def test_a_deadline_that_is_kept_changes_nothing(plan):
    async def main():
        return await asyncio.gather(
            *(batcher.apredict(row(value), deadline=ROOM) for value in range(20))
        )

    with mk.Batcher(model_of(), plan=plan) as batcher:
        assert [float(y[0, 0]) for y in asyncio.run(main())] == [2 * value for value in range(20)]
        assert batcher.predict(row(1), deadline=ROOM, priority=-1) == 2


# What one caller asks for is bounded, and what it passed is what it meant.


@pytest.mark.parametrize("change", [-1, 1])
def test_a_call_that_runs_at_once_is_counted_as_well(change):
    """By a Model of the user's own, whose answers nothing else looks at."""

    class Odd(mk.Model):
        @property
        def signature(self):
            return SIGNATURE

        @property
        def batchable(self):
            return True

        def _run(self, feeds, outputs, call):
            rows = np.zeros((len(feeds["x"]) + change, 1), np.float32)
            return {name: rows if name == "y" else rows[:, 0].astype(int) for name in outputs}

    with (
        mk.Batcher(Odd(), plan=PLANS[PARALLEL]) as batcher,
        pytest.raises(OutputCountError, match="for 3 rows"),
    ):
        batcher.predict(np.zeros((3, 2), np.float32))


def test_what_was_submitted_is_what_it_was_then():
    gate = Gate()
    with one_slot(gate) as batcher:
        rows = np.zeros((1, 2), np.float32)
        futures = []
        for value in range(9):
            rows[:] = value
            futures.append(batcher.submit(rows))
        gate.open()
        assert [future.result(ROOM)[0, 0] for future in futures] == [
            2 * value for value in range(9)
        ]


@pytest.mark.parametrize("deadline", [1e10, float("inf")])
def test_a_deadline_may_be_very_far(deadline):
    async def ask():
        return await batcher.apredict(row(2), deadline=deadline)

    gate = Gate()
    with one_slot(gate) as batcher, ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        asked = [
            pool.submit(batcher.predict, row(1), deadline=deadline),
            pool.submit(asyncio.run, ask()),
        ]
        waiting(batcher, 2)
        gate.open()
        assert [float(future.result(ROOM)[0, 0]) for future in [first, *asked]] == [0, 2, 4]
