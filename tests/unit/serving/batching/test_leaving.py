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
from modelkit.errors import ClosedError
from modelkit.serving.batching.policy import PARALLEL

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


@pytest.mark.parametrize("k", range(4))
def test_a_task_cancelled_in_an_inline_tick_leaves_the_others_alone(k):
    async def main():
        tasks = [asyncio.create_task(batcher.apredict(row(value))) for value in range(4)]
        await asyncio.sleep(0)
        tasks[k].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    with mk.Batcher(model_of(), plan=PLANS[PARALLEL]) as batcher:
        got = asyncio.run(main())
    assert isinstance(got[k], asyncio.CancelledError)
    assert [float(y[0, 0]) for i, y in enumerate(got) if i != k] == [
        2 * i for i in range(4) if i != k
    ]
    assert batcher.stats().abandoned == 1


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


@pytest.mark.parametrize("when", ["while it waits", "when it is to lead"])
def test_an_interrupted_thread_leaves_the_others_alone(when):
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


def test_nobody_is_told_of_a_refusal_that_a_cancelled_task_no_longer_waits_for():
    """In the very tick in which its call is refused: asyncio would log an error that was never retrieved."""

    async def main():
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context)
        )
        tasks = [
            asyncio.create_task(batcher.apredict(row(value), deadline=ROOM)) for value in range(3)
        ]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        got = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(error) for error in got] == [asyncio.CancelledError] * 3
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def collected():
        await main()
        gc.collect()

    gate, reported = Gate(), []
    with one_slot(gate, max_queue=1) as batcher, ThreadPoolExecutor(2) as pool:
        first = [pool.submit(batcher.predict, row(0))]
        gate.began_one()
        first.append(pool.submit(batcher.predict, row(1)))
        waiting(batcher, 1)
        asyncio.run(collected())
        gate.open()
        assert [float(future.result(ROOM)[0, 0]) for future in first] == [0, 2]
    assert reported == []


@pytest.mark.parametrize("rows", [0, 1])
def test_a_model_can_be_kept_off_the_event_loop(plan, rows):
    async def main():
        x = np.ones((rows, 2), np.float32)
        for _ in range(3):
            assert len(await batcher.apredict(x)) == rows
        await asyncio.gather(*(batcher.apredict(x) for _ in range(20)))
        await asyncio.gather(*(batcher.apredict(x, deadline=ROOM) for _ in range(20)))

    class Model(mk.Model):
        signature = SIGNATURE
        batchable = True

        def _run(self, feeds, outputs, call):
            threads.add(threading.get_ident())
            answer = double(feeds)
            return {name: answer[name] for name in outputs}

    threads = set()
    with mk.Batcher(Model(), plan=plan, loop=False) as batcher:
        asyncio.run(main())
        assert batcher.plan.loop_rows == 0
    assert threads
    assert threading.get_ident() not in threads


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


def test_a_model_closed_underneath_is_told_to_each_caller(plan):
    model = model_of()
    with mk.Batcher(model, plan=plan) as batcher:
        model.close()
        for ask in (batcher.predict, lambda x: asyncio.run(batcher.apredict(x))):
            with pytest.raises(ClosedError, match="the model was closed"):
                ask(row(1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_child_of_a_fork_begins_with_an_empty_queue():
    gate = Gate()
    with one_slot(gate) as batcher, ThreadPoolExecutor(2) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        second = pool.submit(batcher.predict, row(1))
        waiting(batcher, 1)
        child = os.fork()
        if child == 0:
            gate.open()
            good = batcher.predict(row(7)) == 14 and batcher.stats().queued == 0
            os._exit(0 if good else 1)
        assert os.waitpid(child, 0)[1] == 0
        gate.open()
        assert (first.result(ROOM), second.result(ROOM)) == (0, 2)


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


def test_what_was_submitted_is_answered_at_the_end_of_the_interpreter(tmp_path):
    import subprocess

    script = tmp_path / "script.py"
    script.write_text(
        "import time, numpy as np, modelkit as mk\n"
        "spec = lambda name: mk.TensorSpec(name, 'float32', ('n', 1))\n"
        "def slow(feeds):\n"
        "    done = time.monotonic() + 0.01\n"
        "    while time.monotonic() < done: pass\n"
        "    return {'y': feeds['x']}\n"
        "model = mk.FunctionModel(slow, mk.Signature((spec('x'),), (spec('y'),)), batchable=True)\n"
        "batcher = mk.Batcher(model, max_rows=1)\n"
        "for i in range(5):\n"
        "    batcher.submit(np.full((1, 1), i, np.float32)).add_done_callback("
        "lambda f: print(f'{int(f.result()[0, 0])}\\n', end=''))\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=True
    )
    # In any order: a slot goes to the next batch before the answers of this one are told.
    assert sorted(done.stdout.split()) == list("01234")
    assert done.stderr == ""


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
