"""What was done to Replicas on purpose: deaths under load, forks within a run, observers, twins, and hangs."""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.batchers import wait_until
from helpers.processes import bounded, forks

import modelkit as mk
from modelkit.errors import ClosedError, DeviceError
from modelkit.serving.batching.policy import make_plan

SIGNATURE = mk.Signature(
    (mk.TensorSpec("x", "float64", ("batch", 2)),),
    (mk.TensorSpec("prediction", "float64", ("batch",)),),
)
ROWS = np.arange(10.0).reshape(5, 2)
SUMS = ROWS.sum(axis=1)


def add(feeds):
    return {"prediction": feeds["x"].sum(axis=1)}


def model_of(function=add):
    return mk.FunctionModel(function, SIGNATURE, batchable=True)


def outstanding(replicas):
    return [replica.outstanding for replica in replicas.replicas]


@pytest.mark.parametrize("layer", [mk.Meter, lambda model: mk.Meter(mk.Batcher(model))])
def test_an_observer_inside_would_see_nothing_and_is_refused(layer):
    with pytest.raises(ValueError, match="put it outside"):
        mk.Replicas([model_of(), layer(model_of())])


def test_one_model_given_twice_is_no_second_replica():
    model = model_of()
    with pytest.raises(ValueError, match="replica 2 was given before"):
        mk.Replicas([model, model_of(), model])


class Mortal:
    """A function that fails at chosen runs, for each replica at others."""

    def __init__(self, error, period):
        self.error = error
        self.period = period
        self.runs = 0
        self.lock = threading.Lock()

    def __call__(self, feeds):
        with self.lock:
            self.runs += 1
            dead = self.runs > 20 and self.runs % self.period
        if dead:
            raise self.error
        return add(feeds)


@pytest.mark.parametrize("error", [DeviceError("lost"), ClosedError("closed")])
def test_a_batcher_over_replicas_of_which_one_dies_under_load(error):
    """No caller gets an error or the answer of others; what is outstanding comes back to 0."""
    replicas = mk.Replicas([model_of(Mortal(error, 7)), model_of(), model_of()])
    ticks = itertools.count()
    replicas._clock = lambda: next(ticks) / 10  # it is probed often
    wrong = []
    with mk.Batcher(replicas) as batcher:

        def ask(seed):
            rng = np.random.default_rng(seed)
            for _ in range(150):
                rows = rng.normal(size=(int(rng.integers(1, 5)), 2))
                try:
                    if not np.array_equal(batcher.predict(rows), rows.sum(axis=1)):
                        wrong.append(rows)
                except Exception as failure:  # it is what is looked for
                    wrong.append(failure)

        async def flood():
            rows = np.arange(400.0).reshape(200, 2)
            answers = await asyncio.gather(*(batcher.apredict(row[None]) for row in rows))
            assert np.array_equal(np.concatenate(answers), rows.sum(axis=1))

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        asyncio.run(flood())
        for thread in threads:
            thread.join()
    assert not wrong
    assert outstanding(replicas) == [0, 0, 0]
    assert replicas.replicas[0].failures > 0


def test_a_batcher_closed_during_calls_leaves_nothing_outstanding():
    replicas = mk.Replicas([model_of(), model_of()])
    batcher = mk.Batcher(replicas)
    told = []

    def ask():
        while True:
            try:
                assert np.array_equal(batcher.predict(ROWS), SUMS)
            except ClosedError as error:
                told.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: sum(replica.calls for replica in replicas.replicas) >= 50)
    batcher.close()
    for thread in threads:
        thread.join()
    assert len(told) == 4
    assert outstanding(replicas) == [0, 0]
    assert np.array_equal(replicas.predict(ROWS), SUMS)  # a Batcher closes nothing below it


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(), GeneratorExit(), MemoryError(), ValueError("rows")]
)
@pytest.mark.parametrize("verb", ["predict", "apredict"])
def test_no_failure_leaves_work_outstanding(error, verb):
    class Failing(mk.Model):
        signature = SIGNATURE

        def _run(self, feeds, outputs, call):
            raise error

        async def _arun(self, feeds, outputs, call):
            raise error

    replicas = mk.Replicas([Failing(), Failing()])

    def ask():
        return replicas.predict(ROWS) if verb == "predict" else asyncio.run(replicas.apredict(ROWS))

    with pytest.raises(type(error)):
        ask()
    assert outstanding(replicas) == [0, 0]
    assert not any(replica.aside for replica in replicas.replicas)


def test_coroutines_that_are_cancelled_closed_or_never_awaited_leave_nothing():
    class Slow(mk.Model):
        signature = SIGNATURE

        def _run(self, feeds, outputs, call):
            raise AssertionError

        async def _arun(self, feeds, outputs, call):
            await asyncio.sleep(60)

    replicas = mk.Replicas([Slow(), Slow()])

    async def ask():
        tasks = [asyncio.create_task(replicas.apredict(ROWS)) for _ in range(50)]
        for task in tasks[::2]:  # before its first step
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sum(outstanding(replicas)) == 25 * len(ROWS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(replicas.apredict(ROWS), 0.01)

    asyncio.run(ask())
    replicas.apredict(ROWS).close()
    begun = replicas._arun({"x": ROWS}, ("prediction",), None)

    async def begin():
        step = asyncio.ensure_future(begun)
        await asyncio.sleep(0)
        return step

    asyncio.run(begin())  # the loop ends, and cancels what is left
    assert outstanding(replicas) == [0, 0]


def test_a_dead_one_is_left_in_async_and_the_caller_learns_nothing():
    class Lost(mk.Model):
        signature = SIGNATURE

        def _run(self, feeds, outputs, call):
            raise AssertionError

        async def _arun(self, feeds, outputs, call):
            await asyncio.sleep(0)
            raise DeviceError("lost")

    class Alive(Lost):
        async def _arun(self, feeds, outputs, call):
            await asyncio.sleep(0)
            return add(feeds)

    replicas = mk.Replicas([Lost(), Alive()])

    async def ask():
        return await asyncio.gather(*(replicas.apredict(ROWS) for _ in range(100)))

    assert all(np.array_equal(answer, SUMS) for answer in asyncio.run(ask()))
    assert outstanding(replicas) == [0, 0]


def test_one_that_hangs_takes_no_more_than_its_share():
    hang = threading.Event()
    began = threading.Event()

    def stuck(feeds):
        began.set()
        hang.wait(60)
        return add(feeds)

    replicas = mk.Replicas([model_of(stuck), model_of()])
    thread = threading.Thread(target=replicas.predict, args=(ROWS,))
    thread.start()
    began.wait(60)
    for _ in range(100):
        assert np.array_equal(replicas.predict(ROWS), SUMS)
    assert outstanding(replicas) == [5, 0]
    hang.set()
    thread.join()
    assert outstanding(replicas) == [0, 0]
    assert [replica.calls for replica in replicas.replicas] == [1, 100]


def hanging():
    """A function that hangs, whether it does yet, and what lets it go on."""
    began, go_on = threading.Event(), threading.Event()

    def stuck(feeds):
        began.set()
        go_on.wait(60)
        return add(feeds)

    return stuck, began, go_on


def test_callers_that_give_up_leave_the_one_that_hangs_alone():
    """Each of them occupied one more thread of the loop, until it had none left for anybody."""
    stuck, began, go_on = hanging()
    replicas = mk.Replicas([model_of(stuck), model_of()])

    async def ask():
        task = asyncio.create_task(replicas.apredict(ROWS))
        while not began.is_set():  # it is of threads
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for _ in range(50):
            assert np.array_equal(await replicas.apredict(ROWS), SUMS)
        assert outstanding(replicas) == [5, 0]
        go_on.set()

    asyncio.run(ask())
    assert outstanding(replicas) == [0, 0]
    assert [replica.calls for replica in replicas.replicas] == [1, 50]


def by_thread(batcher):
    return batcher.predict(ROWS[:1])


def by_future(batcher):
    return batcher.submit(ROWS[:1]).result(60)


def by_task(batcher):
    return asyncio.run(batcher.apredict(ROWS[:1]))


@pytest.mark.parametrize("ask", [by_thread, by_future, by_task])
def test_a_batcher_does_not_wait_for_the_one_that_hangs(ask, monkeypatch):
    """A lone call waited for company beside a free slot, as the run under way would soon end."""
    monkeypatch.setattr("modelkit.serving.batching.dispatcher.OVERDUE_SECONDS", 0.01)
    monkeypatch.setattr("modelkit.serving.batching.workers.OVERDUE_SECONDS", 0.02)
    stuck, began, go_on = hanging()
    replicas = mk.Replicas([model_of(stuck), model_of()])
    plan = make_plan(((1, 3e-3), (8, 4e-3)), 2, 8)
    with mk.Batcher(replicas, plan=plan, loop=False) as batcher:
        first = batcher.submit(ROWS)
        assert began.wait(60)
        with ThreadPoolExecutor(3) as callers:
            answers = [callers.submit(ask, batcher) for _ in range(3)]
            for answer in answers:
                assert np.array_equal(answer.result(60), SUMS[:1])
        assert not first.done()
        assert outstanding(replicas) == [5, 0]
        go_on.set()
        assert np.array_equal(first.result(60), SUMS)
        slots = batcher._lane.slots
        wait_until(lambda: slots.active == 0)
        assert (slots.running, slots.overdue, slots.overdue_size) == (0, 0, 0)


@forks
def test_a_run_that_forks_gives_back_what_its_parent_took():
    """In the child the count was below 0, so that this replica was preferred for ever."""
    parent = os.getpid()

    def forking(feeds):
        child = os.fork()
        if child:
            with bounded(child):
                assert os.waitpid(child, 0)[1] == 0
        return add(feeds)

    replicas = mk.Replicas([model_of(forking), model_of()])
    answer = replicas.predict(ROWS)
    if os.getpid() != parent:
        os._exit(0 if outstanding(replicas) == [0, 0] and np.array_equal(answer, SUMS) else 1)
    assert outstanding(replicas) == [0, 0]


def test_replicas_of_replicas_share_the_work_and_survive_two_deaths():
    def dead(feeds):
        raise DeviceError("lost")

    inner = mk.Replicas([model_of(dead), model_of(dead)])
    replicas = mk.Replicas([inner, model_of()])
    for _ in range(5):
        assert np.array_equal(replicas.predict(ROWS), SUMS)
    assert replicas.replicas[0].failures == 1
    assert replicas.runs_at_once == 3
    again = pickle.loads(pickle.dumps(mk.Replicas([mk.Replicas([model_of()]), model_of()])))
    assert np.array_equal(again.predict(ROWS), SUMS)


def test_no_rows_at_all_are_answered():
    replicas = mk.Replicas([model_of(), model_of()])
    assert replicas.predict(ROWS[:0]).shape == (0,)
    assert outstanding(replicas) == [0, 0]
