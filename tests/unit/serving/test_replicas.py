"""Replicas: equal Models share the work, and one that dies costs no caller an error."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.batchers import wait_until
from helpers.sums import SIGNATURE
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.errors import ClosedError, DeadlineExceeded, DeviceError, SignatureError
from modelkit.serving.batching.policy import make_plan
from modelkit.serving.replicas import FIRST_WAIT, LONGEST_WAIT, _Place, least_busy
from modelkit.testing import check_model

ROWS = np.arange(10.0).reshape(5, 2)


class Switch:
    """A function of a model that can be told to fail, and counts its runs."""

    def __init__(self, error=None):
        self.error = error
        self.runs = 0

    def __call__(self, feeds):
        self.runs += 1
        if self.error is not None:
            raise self.error
        return {"prediction": feeds["x"].sum(axis=1)}


def replicas_of(*switches):
    models = [mk.FunctionModel(switch, SIGNATURE, batchable=True) for switch in switches]
    return mk.Replicas(models)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    path = tmp_path_factory.mktemp("package") / "iris.mk"
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    mk.save(LogisticRegression().fit(X, X[:, 0] > 0), path, example=X, name="a", version="1")
    return path


def test_it_is_a_model_alone_and_in_a_batcher(package):
    check_model(replicas_of(Switch(), Switch()), ROWS)
    with mk.load(package, threads=1) as one, mk.load(package, threads=1) as two:
        replicas = mk.Replicas([one, two])
        check_model(replicas, ROWS)
        assert replicas.runs_at_once == 2
        with mk.Batcher(replicas) as batcher:
            check_model(batcher, ROWS)
        assert sum(replica.calls for replica in replicas.replicas) > 0
        assert replicas.manifest.name == "a"
        again = pickle.loads(pickle.dumps(replicas))
        assert (again.predict(ROWS) == replicas.predict(ROWS)).all()
        assert "replica 1" in replicas._repr_html_()


def test_unequal_models_are_refused(package, tmp_path):
    other = mk.Signature(SIGNATURE.inputs, (mk.TensorSpec("y", "float64", ("batch",)),))
    models = [mk.FunctionModel(Switch(), SIGNATURE), mk.FunctionModel(Switch(), other)]
    with pytest.raises(SignatureError, match="number 1 has another signature"):
        mk.Replicas(models)
    with pytest.raises(ValueError, match="at least one"):
        mk.Replicas([])
    mk.attach(package, metadata={"a": 1}, out=tmp_path / "other.mk")
    with (
        mk.load(package) as one,
        mk.load(tmp_path / "other.mk") as two,
        pytest.raises(SignatureError, match="another digest"),
    ):
        mk.Replicas([one, two])


@pytest.mark.parametrize(
    ("outstanding", "retry", "expected"),
    [
        ([0, 0, 0], [-1, -1, -1], 0),
        ([2, 1, 1], [-1, -1, -1], 1),
        ([0, 5, 9], [10, -1, -1], 1),
        ([0, 0, 0], [9, 7, 8], 1),
        ([3, 0], [5, 5], 1),
    ],
)
def test_the_least_busy_is_asked_first(outstanding, retry, expected):
    places = [
        _Place(model_of(), rows, retry=time) for rows, time in zip(outstanding, retry, strict=True)
    ]
    assert least_busy(places, now=5) is places[expected]


@pytest.mark.parametrize("error", [DeviceError("lost"), ClosedError("closed")])
@pytest.mark.parametrize("verb", ["predict", "apredict"])
def test_a_dead_one_costs_no_caller_an_error(error, verb):
    dead, alive = Switch(error), Switch()
    replicas = replicas_of(dead, alive)
    time = [0.0]
    replicas._clock = lambda: time[0]

    def ask():
        if verb == "predict":
            return replicas.predict(ROWS)
        return asyncio.run(replicas.apredict(ROWS))

    for _ in range(5):
        assert (ask() == ROWS.sum(axis=1)).all()
    assert (dead.runs, alive.runs) == (1, 5)
    first, second = replicas.replicas
    assert (first.failures, first.aside, first.outstanding) == (1, True, 0)
    assert (second.failures, second.aside, second.calls) == (0, False, 5)
    waits = []
    wait = FIRST_WAIT
    for _ in range(10):  # it is asked again, ever later
        time[0] += wait
        ask()
        waits.append(dead.runs)
        wait = min(2 * wait, LONGEST_WAIT)
    assert waits == list(range(2, 12))
    dead.error = None
    time[0] += LONGEST_WAIT
    ask()
    assert not replicas.replicas[0].aside
    ask()
    assert dead.runs == 13


def test_where_all_are_dead_the_caller_gets_the_error():
    replicas = replicas_of(Switch(DeviceError("one")), Switch(DeviceError("two")))
    for _ in range(3):
        with pytest.raises(DeviceError, match=r"one|two"):
            replicas.predict(ROWS)
    with pytest.raises(DeviceError, match="alone"):
        replicas_of(Switch(DeviceError("alone"))).predict(ROWS)
    assert [replica.outstanding for replica in replicas.replicas] == [0, 0]


@pytest.mark.parametrize(
    ("error", "aside"), [(ValueError("these rows"), False), (DeadlineExceeded("too late"), True)]
)
def test_one_that_finds_an_error_of_rows_works_again(error, aside):
    """It stayed aside for its wait, though it had worked; a deadline tells of neither."""
    lost = Switch(DeviceError("lost"))
    replicas = replicas_of(lost, Switch())
    time = [0.0]
    replicas._clock = lambda: time[0]
    replicas.predict(ROWS)
    assert replicas.replicas[0].aside
    lost.error = error
    time[0] = FIRST_WAIT
    with pytest.raises(type(error)):
        replicas.predict(ROWS)
    assert replicas.replicas[0].aside == aside


def test_errors_of_rows_set_nobody_aside():
    replicas = replicas_of(Switch(ValueError("these rows")), Switch())
    with pytest.raises(ValueError, match="these rows"):
        replicas.predict(ROWS)
    assert not any(replica.aside for replica in replicas.replicas)
    with pytest.raises(SignatureError):
        replicas.predict("text")


def test_work_is_shared():
    began = threading.Barrier(2, timeout=30)

    def together(feeds):
        began.wait()  # passes where both run at once
        return {"prediction": feeds["x"].sum(axis=1)}

    replicas = mk.Replicas([mk.FunctionModel(together, SIGNATURE) for _ in range(2)])
    threads = [threading.Thread(target=replicas.predict, args=(ROWS,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [replica.calls for replica in replicas.replicas] == [1, 1]


def test_a_task_that_is_cancelled_is_no_work_any_more():
    class Slow(mk.Model):
        signature = SIGNATURE

        def _run(self, feeds, outputs, call):
            raise AssertionError

        async def _arun(self, feeds, outputs, call):
            await asyncio.sleep(60)

    replicas = mk.Replicas([Slow()])

    async def ask():
        task = asyncio.create_task(replicas.apredict(ROWS))
        while not replicas.replicas[0].outstanding:  # it gives no event
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(ask())
    assert replicas.replicas[0].outstanding == 0


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
    monkeypatch.setattr("modelkit.serving.batching.choice.OVERDUE_SECONDS", 0.01)
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
        scheduler = batcher._scheduler
        wait_until(lambda: scheduler.active == 0)
        assert (scheduler.running, scheduler.runs) == (0, {})


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
