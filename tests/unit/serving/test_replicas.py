"""Replicas: equal Models share the work, and one that dies costs no caller an error."""

from __future__ import annotations

import asyncio
import pickle
import threading

import numpy as np
import pytest
from helpers.processes import passes_in_a_child
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.errors import ClosedError, DeadlineExceeded, DeviceError, SignatureError
from modelkit.serving.replicas import FIRST_WAIT, LONGEST_WAIT, least_busy
from modelkit.testing import check_model

SIGNATURE = mk.Signature(
    (mk.TensorSpec("x", "float64", ("batch", 2)),),
    (mk.TensorSpec("prediction", "float64", ("batch",)),),
)
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
    assert least_busy(outstanding, retry, now=5) == expected


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


def test_a_child_of_a_fork_has_no_work_of_its_parent():
    replicas = replicas_of(Switch())

    def check():
        assert replicas.replicas[0].outstanding == 0
        assert (replicas.predict(ROWS) == ROWS.sum(axis=1)).all()

    place = replicas._take(3)
    with replicas._lock:
        assert passes_in_a_child(check)
    replicas._give_back(place, 3, None)
