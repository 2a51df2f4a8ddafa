"""The ticks of an event loop: what its tasks ask for at once is gathered, and whoever leaves takes nobody along."""

import asyncio
import gc
import sys
import threading
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
    steady,
    waiting,
)

import modelkit as mk
from modelkit.errors import Overloaded
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
        planners = [batcher._scheduler.planner]
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


class Stopped(Exception):
    pass


class StoppedOnce(asyncio.SelectorEventLoop):
    """A loop whose first tick a signal handler stops as it is opened."""

    stopped = False

    def call_soon(self, callback, *arguments, **options):
        if getattr(callback, "__name__", "") == "_flush" and not self.stopped:
            self.stopped = True
            raise Stopped
        return super().call_soon(callback, *arguments, **options)


def test_a_tick_that_a_signal_handler_kept_from_opening_is_opened_by_the_next_call():
    """All later calls of the loop waited for ever."""

    async def main():
        with pytest.raises(Stopped):
            await batcher.apredict(row(1))
        async with asyncio.timeout(ROOM):
            return await batcher.apredict(row(2))

    with (
        mk.Batcher(model_of(), plan=PLANS[PARALLEL]) as batcher,
        asyncio.Runner(loop_factory=StoppedOnce) as runner,
    ):
        assert runner.run(main()) == 4


@pytest.mark.parametrize("method", ["_flush", "_go_on"])
def test_a_flush_that_a_signal_handler_kept_from_running_is_repeated(method):
    """The exception comes as the function is entered, where nothing in it could catch it."""
    stopped = []

    def stop(frame, event, _):
        if event == "call" and frame.f_code.co_name == method and not stopped:
            stopped.append(method)
            raise Stopped

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        sys.setprofile(stop)
        try:
            async with asyncio.timeout(ROOM):
                return await asyncio.gather(*(batcher.apredict(row(v)) for v in range(12)))
        finally:
            sys.setprofile(None)

    with mk.Batcher(model_of(), plan=PLANS[PARALLEL]) as batcher:
        answers = asyncio.run(main())
    assert stopped == [method]
    assert [answer.item() for answer in answers] == [2 * v for v in range(12)]
