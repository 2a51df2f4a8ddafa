"""Callers of a Batcher that leave, are interrupted or are forked, and the end of a Batcher."""

import asyncio
import gc
import os
import signal
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest
from helpers.batchers import ROOM, Gate, double, model_of, one_slot, row, wait_until, waiting

import modelkit as mk
from modelkit.errors import ClosedError, DeadlineExceeded
from modelkit.model.model import PLAIN
from modelkit.serving.batching.planner import Planner
from modelkit.serving.batching.policy import make_plan
from modelkit.serving.batching.requests import Request, Turn
from modelkit.serving.batching.scheduler import Scheduler

# Callers that leave.


@pytest.mark.parametrize("k", range(5))
@pytest.mark.parametrize("moment", ["before the tick", "in the queue", "while it runs"])
def test_a_cancelled_task_leaves_the_others_alone(k, moment):
    async def main():
        tasks = [asyncio.create_task(batcher.apredict(row(value))) for value in range(5)]
        await asyncio.sleep(0)
        if moment != "before the tick":
            await asyncio.to_thread(waiting, batcher, 5)
        if moment == "while it runs":
            gate.go.release()
            await asyncio.to_thread(gate.began_one)
        tasks[k].cancel()
        if moment == "before the tick":
            await asyncio.sleep(0)
        gate.open()
        return await asyncio.gather(*tasks, return_exceptions=True)

    gate = Gate()
    with one_slot(gate) as batcher, ThreadPoolExecutor(1) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        got = asyncio.run(main())
        assert first.result(ROOM) == 0
    assert isinstance(got[k], asyncio.CancelledError)
    assert [float(y[0, 0]) for i, y in enumerate(got) if i != k] == [
        2 * i for i in range(5) if i != k
    ]


def test_a_future_can_be_cancelled_while_it_waits():
    gate = Gate()
    with one_slot(gate) as batcher, ThreadPoolExecutor(1) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        futures = [batcher.submit(row(value)) for value in range(3)]
        assert futures[1].cancel()
        gate.open()
        assert futures[0].result(ROOM) == 0
        assert futures[2].result(ROOM) == 4
        with pytest.raises(CancelledError):
            futures[1].result(ROOM)
        first.result(ROOM)
    assert sorted(gate.sizes) == [1, 2]


@pytest.mark.parametrize("rows", [1, 200])
def test_submit_returns_before_its_run_ends(plan, rows):
    """In the mode "parallel direct" it ran the whole call before it returned."""
    gate = Gate()
    x = np.full((rows, 2), 3, np.float32)
    with mk.Batcher(model_of(gate), plan=plan, max_rows=16) as batcher:
        first = batcher.submit(x)
        gate.began_one()
        others = [batcher.submit(x) for _ in range(8)]
        assert not first.done()
        assert others[-1].cancel()
        gate.open()
        for future in (first, *others[:-1]):
            assert (future.result(ROOM) == 6).all()
        assert batcher.stats().direct == 0


def test_a_large_call_can_be_cancelled_until_its_first_piece_has_run():
    gate = Gate()
    with one_slot(gate) as batcher:
        large = batcher.submit(np.zeros((80, 2), np.float32))
        gate.began_one()
        assert large.cancel()
        gate.open()
    assert gate.sizes == [8]


def test_a_loop_that_dies_takes_nobody_with_it():
    async def ask():
        asyncio.create_task(batcher.apredict(row(1)))  # noqa: RUF006 - it is to be abandoned
        await asyncio.sleep(0)
        await asyncio.to_thread(waiting, batcher, 1)
        asyncio.get_running_loop().stop()
        await asyncio.sleep(ROOM)

    gate = Gate()
    with one_slot(gate) as batcher, ThreadPoolExecutor(2) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        loop = asyncio.new_event_loop()
        task = loop.create_task(ask())
        loop.run_forever()
        loop.close()
        other = pool.submit(batcher.predict, row(2))
        waiting(batcher, 2)
        gate.open()
        assert first.result(ROOM) == 0
        assert other.result(ROOM) == 4
        task._log_destroy_pending = False
        for left in asyncio.all_tasks(loop):
            left._log_destroy_pending = False


def test_an_interrupted_thread_leaves_the_others_alone():
    """The interrupt comes where the thread waits, or just after it was woken to lead."""
    import ctypes

    class Stopped(BaseException):
        pass

    def leave():
        try:
            batcher.predict(row(1))
        except Stopped:
            left.set()

    gate, left = Gate(), threading.Event()
    with one_slot(gate) as batcher, ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        thread = threading.Thread(target=leave)
        thread.start()
        waiting(batcher, 1)
        others = [pool.submit(batcher.predict, row(value)) for value in (2, 3)]
        waiting(batcher, 3)
        # Delivered when the thread next runs bytecode: after it was woken.
        assert (
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(Stopped)
            )
            == 1
        )
        gate.open()
        assert first.result(ROOM) == 0
        assert [float(other.result(ROOM)[0, 0]) for other in others] == [4, 6]
        thread.join(ROOM)
        assert left.is_set()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signals")
def test_ctrl_c_in_a_waiting_main_thread_leaves_the_others_alone():
    gate = Gate()
    with one_slot(gate) as batcher, ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        left, main = threading.Event(), threading.get_ident()

        def interrupt():
            waiting(batcher, 1)
            os.kill(os.getpid(), signal.SIGINT)
            # A signal that comes just before the interpreter begins to wait for a lock does not end
            # that wait.
            while not left.is_set():
                signal.pthread_kill(main, signal.SIGUSR1)
                time.sleep(0)

        before = signal.signal(signal.SIGUSR1, lambda *_: None)
        try:
            interrupter = pool.submit(interrupt)
            with pytest.raises(KeyboardInterrupt):
                batcher.predict(row(1))
            left.set()
            interrupter.result(ROOM)
        finally:
            left.set()
            signal.signal(signal.SIGUSR1, before)
        other = pool.submit(batcher.predict, row(2))
        waiting(batcher, 1)
        gate.open()
        assert first.result(ROOM) == 0
        assert other.result(ROOM) == 4
    assert batcher.stats().abandoned == 1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signals")
def test_ctrl_c_in_a_main_thread_that_runs_its_rows_leaves_the_others_alone():
    def slow(feeds):
        if threading.current_thread() is threading.main_thread():
            asked.extend(pool.submit(batcher.predict, row(value)) for value in (2, 3))
            waiting(batcher, 2)
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(ROOM)  # until the signal comes
        return double(feeds)

    asked = []
    with one_slot(slow) as batcher, ThreadPoolExecutor(4) as pool:
        with pytest.raises(KeyboardInterrupt):
            batcher.predict(row(1))
        assert [float(other.result(ROOM)[0, 0]) for other in asked] == [4, 6]


# The end.


def test_close_answers_what_was_asked_and_refuses_the_rest(plan):
    gate = Gate()
    gate.open()
    batcher = mk.Batcher(model_of(gate), plan=plan)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(batcher.predict, row(value)) for value in range(4)]
        [future.result(ROOM) for future in asked]
        later = [batcher.submit(row(value)) for value in range(4)]
        batcher.close()
        assert all(future.done() for future in later)
        batcher.close()
    for ask in (batcher.predict, batcher.submit, lambda x: asyncio.run(batcher.apredict(x))):
        with pytest.raises(ClosedError, match="the batcher was closed"):
            ask(row(1))


def test_a_close_that_waits_no_longer_says_what_hangs():
    """It waited without limit for a run that did not end, and with it all that waited behind."""

    async def ask():
        return await batcher.apredict(row(2))

    gate = Gate()
    batcher = one_slot(gate)
    with ThreadPoolExecutor(4) as pool:
        hangs = batcher.submit(np.ones((5, 2), np.float32))
        gate.began_one()
        behind = [pool.submit(batcher.predict, row(1)), pool.submit(asyncio.run, ask())]
        waiting(batcher, 2)
        gone = batcher.submit(row(3))
        assert gone.cancel()
        behind.append(batcher.submit(row(4)))
        with pytest.raises(
            DeadlineExceeded, match=r"after 0.01 s <FunctionModel.* runs a batch of 5 for"
        ):
            batcher.close(timeout=0.01)
        for future in behind:
            with pytest.raises(ClosedError, match="behind a run that hangs"):
                future.result(ROOM)
        assert not hangs.done()
        with pytest.raises(ClosedError):
            batcher.predict(row(1))
        gate.open()
        assert (hangs.result(ROOM) == 2).all()
        batcher.close(timeout=ROOM)
    assert gate.sizes == [5]
    assert not batcher._scheduler.runs


def test_a_thread_that_hangs_in_a_call_of_its_own_is_named_too():
    gate = Gate()
    batcher = one_slot(gate)
    with ThreadPoolExecutor(1) as pool:
        hangs = pool.submit(batcher.predict, row(1))
        gate.began_one()
        with pytest.raises(TimeoutError, match="runs a batch of 1 for"):
            batcher.close(timeout=0)
        gate.open()
        assert hangs.result(ROOM) == 2
        batcher.close()


def test_a_model_closed_underneath_is_told_to_each_caller(plan):
    model = model_of()
    with mk.Batcher(model, plan=plan) as batcher:
        model.close()
        for ask in (batcher.predict, lambda x: asyncio.run(batcher.apredict(x))):
            with pytest.raises(ClosedError, match="the model was closed"):
                ask(row(1))


def test_nothing_is_left_running(plan):
    async def main():
        await asyncio.gather(*(batcher.apredict(row(value)) for value in range(20)))

    with mk.Batcher(model_of(), plan=plan) as batcher:
        asyncio.run(main())
        batcher.submit(row(1)).result(ROOM)
    names = {thread.name for thread in threading.enumerate()}
    wait_until(
        lambda: not any(thread.name == "modelkit-batcher" for thread in threading.enumerate())
    )
    assert "modelkit-batcher" not in {thread.name for thread in threading.enumerate()}, names


@pytest.mark.usefixtures("little_garbage")
def test_a_batch_leaves_no_references_behind(plan):
    async def main(batcher):
        for _ in range(50):
            await asyncio.gather(*(batcher.apredict(row(value)) for value in range(16)))

    with mk.Batcher(model_of(), plan=plan) as batcher, ThreadPoolExecutor(8) as pool:
        asyncio.run(main(batcher))
        x = row(1)
        before = sys.getrefcount(x)
        list(pool.map(batcher.predict, [x] * 200))
        asyncio.run(main(batcher))
        gc.collect()
        wait_until(lambda: sys.getrefcount(x) <= before)
    gone = weakref.ref(batcher)
    del batcher
    wait_until(lambda: gc.collect() is not None and gone() is None)


# What it remembers.


@pytest.mark.parametrize(
    ("sizes", "beside", "usual"),
    [
        ([], 0, 1),
        ([9], 0, 2),
        ([9, 10], 0, 3),
        ([1] * 9, 0, 1),
        ([8] * 60, 0, 8),  # after some time it is what comes
        ([8] * 60, 4, 12),
        ([8] * 60 + [2] * 60, 0, 2),
        ([8] * 60 + [16], 0, 9),
    ],
)
def test_the_usual_size_is_the_running_mean_of_what_waits_and_runs(sizes, beside, usual):
    """Each batch counts an eighth; `beside` runs in another slot meanwhile."""
    scheduler = Scheduler(Planner(make_plan((), 2, 64), 64), 1000, lambda runners: None)
    if beside:
        assert scheduler.acquire(Turn(), beside)
    for size in sizes:
        x = np.zeros((size, 2), np.float32)
        scheduler.enqueue([Request({"x": x}, size, ("y",), PLAIN)])
        turn = Turn()
        scheduler.begin(turn)
        scheduler.finish(turn, [double({"x": x})], 0.0)
    assert scheduler.usual == pytest.approx(usual, rel=1e-2)
