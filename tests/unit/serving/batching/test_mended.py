"""What a Batcher once did wrong."""

import asyncio
import gc
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.batchers import (
    PLANS,
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
from modelkit.errors import BatchError, DeadlineExceeded, Overloaded
from modelkit.serving.batching.policy import PARALLEL, make_plan


def test_a_plan_that_changes_in_the_middle_of_a_tick_mixes_nothing_up():
    async def main():
        tasks = [asyncio.ensure_future(batcher.apredict(x[i : i + 1])) for i in range(1000)]
        return await asyncio.gather(*tasks)

    def replan(feeds):
        planners[0].plan = large if planners[0].plan is small else small
        return double(feeds)

    small, large = (make_plan(((1, 5e-6), (size, 6e-6)), 2, size) for size in (4, 16))
    x = np.arange(2000, dtype=np.float32).reshape(1000, 2)
    with mk.Batcher(model_of(replan), plan=small) as batcher:
        planners = [batcher._lane.planner]
        np.testing.assert_array_equal(np.concatenate(asyncio.run(main())), 2 * x[:, :1])


def test_a_loop_that_is_behind_refuses_what_comes_on_top():
    async def main():
        first = [asyncio.ensure_future(batcher.apredict(x[i : i + 1])) for i in range(300)]
        await asyncio.sleep(0)  # the first tick is on its way, and is taken whole
        await asyncio.sleep(0)
        second = [asyncio.ensure_future(batcher.apredict(x[i : i + 1])) for i in range(50)]
        return await asyncio.gather(*first), await asyncio.gather(*second, return_exceptions=True)

    def slow(feeds):
        end = time.monotonic() + 3e-3
        while time.monotonic() < end:
            pass
        return double(feeds)

    x = np.arange(600, dtype=np.float32).reshape(300, 2)
    with steady(mk.Batcher(model_of(slow), plan=PLANS[PARALLEL], max_queue=100)) as batcher:
        first, second = asyncio.run(main())
        assert [float(y[0, 0]) for y in first] == [4.0 * i for i in range(300)]
        assert all(isinstance(error, Overloaded) for error in second)
        assert batcher.stats().shed == 50


@pytest.mark.parametrize("does", ["predict", "submit", "wait", "sleep", "exit"])
def test_a_callback_of_a_future_may_do_what_it_likes(does):
    def callback(_):
        if does == "predict":
            assert batcher.predict(row(50)) == 100
        elif does == "submit":
            futures.append(batcher.submit(row(51)))
        elif does == "wait":
            assert batcher.submit(row(50)).result(ROOM) == 100
        elif does == "sleep":
            held.wait(ROOM)
        else:
            raise SystemExit
        called.set()

    gate, called, held = Gate(), threading.Event(), threading.Event()
    with one_slot(gate) as batcher, ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        futures = [batcher.submit(row(value)) for value in range(3)]
        futures[0].add_done_callback(callback)
        other = pool.submit(batcher.predict, row(7))
        waiting(batcher, 4)
        gate.open()
        assert first.result(ROOM) == 0
        assert (
            other.result(ROOM) == 14
        )  # a thread that only wants its answer runs nobody's callback
        held.set()
        assert [float(future.result(ROOM)[0, 0]) for future in futures[:3]] == [0, 2, 4]
        assert does == "exit" or called.wait(ROOM)


class Unspeakable(Exception):
    def __str__(self):
        raise AttributeError("no text")

    __repr__ = __str__


def test_an_exception_that_cannot_even_be_shown_is_still_answered():
    def fn(feeds):
        if (feeds["x"] == 666).any():
            raise error
        return double(feeds)

    error = Unspeakable()
    with one_slot(fn) as batcher:
        for _ in range(3):
            with pytest.raises((Unspeakable, BatchError)):
                batcher.submit(row(666)).result(ROOM)
            with pytest.raises((Unspeakable, BatchError)):
                batcher.predict(row(666))
            assert batcher.predict(row(1)) == 2


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


def test_room_that_an_expired_call_leaves_is_given_on():
    gate = Gate()
    with one_slot(gate, max_queue=1, on_full="block") as batcher, ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        late = pool.submit(batcher.predict, row(1), deadline=0.2)
        waiting(batcher, 1)
        blocked = pool.submit(batcher.submit, row(2))
        with pytest.raises(DeadlineExceeded):
            late.result(ROOM)
        assert not first.done()
        future = blocked.result(ROOM)
        gate.open()
        assert future.result(ROOM) == 4
        first.result(ROOM)


def test_one_call_that_is_out_of_memory_by_itself_shrinks_nobody_s_batches():
    def fn(feeds):
        if (feeds["x"] == 666).any():
            raise MemoryError
        return double(feeds)

    with one_slot(fn) as batcher:
        for _ in range(5):
            with pytest.raises(MemoryError):
                batcher.predict(row(666))
        assert batcher.plan.cap == 8


def test_learning_from_single_calls_does_not_rule_batches_out():
    gate = Gate()
    gate.open()
    with mk.Batcher(model_of(gate)) as batcher:
        for value in range(40):
            batcher.predict(row(value))
        assert batcher.plan.cap >= 2


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


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signals")
@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, Exception])
def test_an_interrupt_at_any_moment_leaks_no_slot_and_loses_nobody(threads, kind):
    class Interrupt(kind):
        pass

    def interrupt(*_):
        raise Interrupt

    def others():
        while not over.is_set():
            assert batcher.predict(row(3)) == 6

    lost = 0
    over = threading.Event()
    draw = random.Random(0)
    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # hypothesis has it call a function, in which the interpreter ignores what a signal handler raises
    try:
        with mk.Batcher(model_of(), plan=make_plan(((1, 3e-3), (8, 4e-3)), 1, 8)) as batcher:
            with ThreadPoolExecutor(4) as pool:
                running = [pool.submit(others) for _ in range(threads)]
                for _ in range(400):
                    try:
                        signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-6, 3e-4))
                        end = time.monotonic() + ROOM
                        while time.monotonic() < end:
                            assert batcher.predict(row(1)) == 2
                        lost += 1
                    except Interrupt:
                        pass
                over.set()
                for future in running:
                    future.result(ROOM)
            lane = batcher._lane
            wait_until(lambda: lane.slots.active == 0)
            assert (lane.slots.running, lane.queue.waiting) == (0, 0)
            assert lost == 0
    finally:
        gc.enable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
