"""What happened is told once, to whoever listens, and never with a value of a row."""

import asyncio
import contextlib
import io
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.examples import examples
from helpers.records import HANDLED, OVERLOAD, SWAPPED, hearing, own, recording
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit import events
from modelkit.errors import Overloaded, SignatureError, UsageError
from modelkit.serving.metering.meter import MOST_NAMED, columns_at_fault


def test_events_are_values_that_processes_can_exchange():
    import pickle

    alarm = events.Alarmed("m", "1", "changed", "age", 1e-5, 0.001, 1200, None)
    for event in (HANDLED, SWAPPED, OVERLOAD, alarm, events.Refusal("m", "1", 1, ("age",))):
        assert pickle.loads(pickle.dumps(event)) == event
        assert len({event, pickle.loads(pickle.dumps(event))}) == 1


# What is told of.


def test_a_package_that_is_loaded_is_told_of(boosting_mk, tiny_mk, records):
    with hearing(events.Loaded) as heard:
        before = time.time()
        models = [mk.load(path, threads=1) for path in (boosting_mk, tiny_mk)]
        after = time.time()
        with pytest.raises(mk.errors.IntegrityError):
            mk.load(boosting_mk, digest="0" * 64)
    for model, event in zip(models, heard, strict=True):
        manifest = model.manifest
        known = (manifest.name, manifest.version, manifest.digest)
        assert (event.name, event.version, event.digest) == known
        assert (event.device, event.threads) == ("cpu", 1)
        assert before <= event.at <= after
        assert 0 < event.seconds <= after - before
        assert event.at == model.placement.since
        model.close()
    assert [own(record)["name"] for record in records] == ["breast-cancer", "tiny"]
    assert records[0].getMessage().startswith("loaded breast-cancer 1.0.0 on cpu with 1 thread in ")


def rows(n, seed=0, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, (n, 2))


def named(X):
    return {"age": X[:, 0], "it's": X[:, 1]}


COLUMNS = (mk.Column("age", "float64"), mk.Column("it's", "float64"))
SUMS = mk.Signature(
    [mk.TensorSpec("x", "float64", ("n", 2), COLUMNS)], [mk.TensorSpec("y", "float64", ("n",))]
)


def summed(blocked=None, started=None):
    def work(feeds):
        if started is not None:
            started.set()
        if blocked is not None:
            assert blocked.wait(60)
        return {"y": feeds["x"].sum(axis=1)}

    return mk.FunctionModel(work, SUMS, batchable=True)


@pytest.fixture(scope="module")
def profile():
    return mk.Profile.fit(
        named(rows(1500, 1)),
        reference=named(rows(3000, 2)),
        losses=np.random.default_rng(3).random(3000) / 10,
    )


def test_a_detector_tells_of_each_alarm_once(profile, records):
    detector = mk.Detector(profile)
    with hearing(events.Alarmed) as heard:
        found = detector.update(named(rows(1000, 4, 2.0)))
        found += detector.update(named(rows(1000, 5, 2.0)))
        found += detector.update_labels(losses=np.ones(500))
        state = detector.state()
        mk.Detector.resume(profile, state).update(named(rows(1, 6)))
        assert detector.test(named(rows(500, 4, 2.0))).alarms
        with pytest.raises(UsageError):
            detector.update()
    assert {alarm.kind for alarm in found} == {"changed", "material", "performance"}
    told = [(event.kind, event.feature, event.row, event.p, event.level) for event in heard]
    assert told == [(a.kind, a.feature, a.row, a.p, a.level) for a in found]
    assert {(event.name, event.version) for event in heard} == {("", "")}
    assert len(records) == len(found)
    assert {record.levelname for record in records} == {"WARNING"}


def test_a_monitor_tells_of_each_alarm_once_whoever_asks_it(profile):
    asked = []
    monitor = mk.Monitor(summed(), profile, budget=1e9)

    def ask(event):
        asked.append(len(monitor.detector.alarms))

    stop = events.subscribe(ask, events.Alarmed)
    try:
        with hearing(events.Alarmed) as heard:

            def work(seed):
                for step in range(40):
                    monitor.predict(rows(16, 100 * seed + step, 2.0))

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(work, range(8)))
            assert heard  # by calls, before anybody asked the detector
            alarms = monitor.detector.alarms
    finally:
        stop()
    assert monitor.failures == 0
    assert len(asked) == len(alarms)
    told = sorted((event.kind, event.feature, event.row) for event in heard)
    assert told == sorted((alarm.kind, alarm.feature, alarm.row) for alarm in alarms)
    assert {(event.name, event.version) for event in heard} == {("FunctionModel", "")}


def test_an_alarm_bears_the_name_of_the_package(boosting_mk, breast_cancer):
    X = breast_cancer[0]
    plain = mk.Profile.fit(X[::2], reference=X[1::2])
    with mk.load(boosting_mk) as model, hearing(events.Alarmed) as heard:
        monitor = mk.Monitor(model, plain, budget=1e9)
        for _ in range(8):
            monitor.predict(X[:64] + 1e3)
        assert monitor.detector.alarms
    assert {(event.name, event.version) for event in heard} == {("breast-cancer", "1.0.0")}


def test_what_a_meter_sees_refused_is_told_of(records):
    meter = mk.Meter(mk.Batcher(summed()))
    with hearing() as heard:
        assert meter.predict(rows(2)).shape == (2,)
        for bad in (
            [{"age": "old", "it's": 1.0}],
            [{"age": 1.0}],
            [{"age": 1.0, "it's": "x", "z": 1}],
        ):
            with pytest.raises(SignatureError):
                meter.predict(bad)
            with pytest.raises(SignatureError):
                asyncio.run(meter.apredict(bad))
    meter.inner.close()
    columns = [event.columns for event in heard]
    assert columns == [("age",), ("age",), ("it's",), ("it's",), (), ()]
    assert [event.problems for event in heard] == [1] * 6
    assert {(event.name, event.version) for event in heard} == {("FunctionModel", "")}
    assert len(records) == 1
    assert meter.totals().calls["signature"] == 6


def test_a_full_queue_is_told_of():
    blocked, started = threading.Event(), threading.Event()
    batcher = mk.Batcher(summed(blocked, started), max_queue=2)
    meter = mk.Meter(batcher)
    first = threading.Thread(target=meter.predict, args=(rows(1),))
    first.start()
    assert started.wait(60)
    waiting = [batcher.submit(rows(1)) for _ in range(2)]
    with hearing(events.Overload) as heard, pytest.raises(Overloaded):
        meter.predict(rows(1))
    blocked.set()
    first.join()
    assert [future.result().shape for future in waiting] == [(1,), (1,)]
    batcher.close()
    assert heard == [events.Overload("FunctionModel", "", 2, 2)]


def test_a_refusal_names_a_few_columns_of_many():
    columns = tuple(mk.Column(f"c{number}", "float64") for number in range(100))
    signature = mk.Signature(
        [mk.TensorSpec("x", "float64", ("n", 100), columns)],
        [mk.TensorSpec("y", "float64", ("n",))],
    )
    with pytest.raises(SignatureError) as caught:
        signature.coerce([{"c0": 1.0}])
    problems = caught.value.problems
    assert len(problems) == 99
    assert columns_at_fault(problems, signature) == tuple(f"c{n}" for n in range(1, MOST_NAMED + 1))


# No value of a row.

MARKER = "Zq7SECRETq7Z"
VALUES = st.one_of(
    st.just(MARKER),
    st.just(f"column 'age': {MARKER}"),
    st.just([MARKER]),
    st.just({"age": MARKER}),
    st.just(MARKER.encode()),
    st.floats(allow_nan=True),
    st.none(),
    st.integers(),
)
NAMES = st.sampled_from(["age", "it's", "sex", "Age ", MARKER, f"it's{MARKER}"])
RECORDS = st.lists(st.dictionaries(NAMES, VALUES, max_size=4), max_size=3)
INPUTS = st.one_of(
    RECORDS,
    st.dictionaries(NAMES, st.lists(VALUES, max_size=3), max_size=4),
    st.lists(st.lists(VALUES, max_size=3), max_size=3),
    VALUES,
    RECORDS.map(lambda records: np.array([[*record.values()] for record in records], object)),
)
PEOPLE = mk.Signature(
    [
        mk.TensorSpec("x", "float64", ("n", 2), COLUMNS),
        mk.TensorSpec(
            "sex", "string", ("n", 1), (mk.Column("sex", "string", categories=("f", "m")),)
        ),
    ],
    [mk.TensorSpec("y", "float64", ("n",))],
)


class Printing(logging.Handler):
    """Formats every record with its tracebacks, and fails for some, which logging prints."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(f"{logging.Formatter().format(record)} {vars(record)}")
        try:
            raise OSError("the disk is full")
        except OSError:
            self.handleError(record)


def fails(event):
    raise LookupError(event)


def logs_that_it_fails(event):
    log = logging.getLogger("modelkit.of-a-test")
    log.warning("before", exc_info=True)  # noqa: LOG014 - emit is called while an error is handled
    try:
        raise LookupError(event)
    except LookupError:
        log.exception("it failed")


@given(INPUTS)
@settings(max_examples=examples(300), deadline=None)
def test_no_value_of_a_row_is_in_any_event_or_record(X):
    meter = mk.Meter(mk.FunctionModel(lambda feeds: {"y": feeds["x"].sum(axis=1)}, PEOPLE))
    printing = Printing()
    logger = logging.getLogger("modelkit")
    stderr = io.StringIO()
    with recording(), hearing() as heard, contextlib.redirect_stderr(stderr):
        logger.addHandler(printing)
        stops = [events.subscribe(fails), events.subscribe(logs_that_it_fails)]
        try:
            meter.run(X)
        except SignatureError:
            assert len(heard) == 1
            assert len(printing.texts) == 4
            assert "the disk is full" in stderr.getvalue()
            assert "LookupError" in printing.texts[3]
        finally:
            for stop in stops:
                stop()
            logger.removeHandler(printing)
    told = [*map(repr, heard), *map(str, heard), *printing.texts, stderr.getvalue()]
    assert MARKER not in "".join(told)


def test_an_error_on_its_way_keeps_its_context_and_cause():
    def refuse(feeds):
        try:
            raise KeyError("the context")
        except KeyError:
            raise SignatureError("refused") from OSError("the cause")

    meter = mk.Meter(mk.FunctionModel(refuse, SUMS))
    with hearing(events.Refusal) as heard, pytest.raises(SignatureError) as caught:
        meter.predict(rows(1))
    assert len(heard) == 1
    assert isinstance(caught.value.__context__, KeyError)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__context__.__context__ is None
