"""What happened is told once, to whoever listens, and never with a value of a row."""

import asyncio
import contextlib
import errno
import io
import itertools
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.examples import examples
from helpers.processes import forks, passes_in_a_child, run
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit import events
from modelkit._internal import logs
from modelkit._internal.logs import write_record
from modelkit.errors import (
    BatchError,
    DriftError,
    Overloaded,
    RegistryError,
    SignatureError,
    public_text,
    without_credentials,
)
from modelkit.serving.metering.meter import MOST_NAMED, columns_at_fault

HANDLED = events.Handled("/v2/models/{name}/infer", "POST", 200, 0.01, None, "r1", "m")
SWAPPED = events.Swapped("m", "2", "bb", "1", "aa")
OVERLOAD = events.Overload("m", "1", 30, 32)


@contextlib.contextmanager
def hearing(*kinds):
    """The events of these kinds, as they happen."""
    heard = []
    stop = events.subscribe(heard.append, *kinds)
    try:
        yield heard
    finally:
        stop()


class Keeping(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@contextlib.contextmanager
def recording():
    """The records of the logger, as they are written, from a fresh start of all limits."""
    logger = logging.getLogger("modelkit")
    handler = Keeping()
    before = logger.level
    matters = logs._matters
    logs._matters = None
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler.records
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        logs._matters = matters


@pytest.fixture
def records():
    with recording() as found:
        yield found


def own(record):
    """The fields of a record that are ours."""
    return {
        name.removeprefix("modelkit_"): value
        for name, value in vars(record).items()
        if name.startswith("modelkit_")
    }


# Listeners.


def test_a_listener_hears_the_kinds_it_asked_for_until_it_stops():
    heard = []
    stop = events.subscribe(heard.append, events.Swapped, events.Loaded)
    with hearing() as everything:
        events.emit(HANDLED)
        events.emit(SWAPPED)
        stop()
        stop()
        events.emit(SWAPPED)
    assert heard == [SWAPPED]
    assert everything == [HANDLED, SWAPPED, SWAPPED]
    events.emit(HANDLED)
    assert len(everything) == 3


def test_a_kind_is_wanted_where_it_is_heard_or_recorded():
    with recording():
        assert events.wanted(events.Loaded)
        logging.getLogger("modelkit").setLevel(logging.WARNING)
        assert not events.wanted(events.Loaded)
        assert events.wanted(events.Refusal)
    assert not events.wanted(events.Handled)
    with hearing(events.Swapped):
        assert not events.wanted(events.Handled)
        with hearing(events.Handled):
            assert events.wanted(events.Handled)
        with hearing():
            assert events.wanted(events.Handled)
    assert not events.wanted(events.Handled)


def test_listeners_may_subscribe_and_stop_while_they_are_called():
    calls = []

    def second(event):
        calls.append("second")
        stop_second()

    def first(event):
        nonlocal stop_second
        calls.append("first")
        stop_first()
        stop_second = events.subscribe(second)

    stop_second = None
    stop_first = events.subscribe(first)
    for _ in range(3):
        events.emit(HANDLED)
    assert calls == ["first", "second"]


def test_a_listener_that_raises_reaches_nobody_and_is_told_of_once(records):
    def fails(event):
        raise ValueError("a text of the application's own")

    def cancels(event):
        raise asyncio.CancelledError

    stops = [events.subscribe(fails), events.subscribe(cancels)]
    try:
        with hearing() as heard:
            for _ in range(3):
                events.emit(HANDLED)
    finally:
        for stop in stops:
            stop()
    assert heard == [HANDLED] * 3
    assert [record.levelname for record in records] == ["WARNING", "WARNING"]
    first, second = map(own, records)
    assert first["event"] == second["event"] == "listener"
    assert first["listener"].endswith("fails")
    assert (first["error"], second["error"]) == ("ValueError", "CancelledError")
    text = logging.Formatter().format(records[0])
    assert text.endswith(
        'in fails\n    raise ValueError("a text of the application\'s own")\nValueError'
    )
    assert "During handling" not in text


def test_a_long_chain_of_errors_is_copied_once_each(records):
    """Each was the cause and the context of the next: 17 of them took 20 seconds."""

    def failing(depth):
        try:
            failing(depth - 1) if depth else int("")
        except ValueError as error:
            raise ValueError(str(depth)) from error

    start = time.process_time()
    with pytest.raises(ValueError, match="18") as found:
        failing(18)
    write_record(logging.ERROR, "it failed", {}, error=found.value)
    assert time.process_time() - start < 2
    assert (
        "\n".join(logging.Formatter().format(records[0]).splitlines()).count("direct cause") == 19
    )


def test_the_time_of_looking_for_addresses_grows_as_a_text_does():
    """40,000 letters took 2.6 seconds."""
    start = time.process_time()
    for text in ("a" * 400_000, "s3:/x" * 80_000):
        assert without_credentials(text) == text
    assert time.process_time() - start < 1


def test_a_traceback_shows_the_texts_of_our_own_errors_alone(records):
    """Those of others may quote rows and addresses; ours say what of them all may read."""
    first = ValueError("row 4711")
    second = BatchError("onnxruntime says: idx=4711", public="its Gather node failed")
    second.__cause__ = first
    third = RegistryError("the bucket at http://user:4711@host/b?sig=4711 cannot be asked")
    third.__context__ = second
    last = SignatureError("column 'a': '4711' in row 0 is no number")
    last.__cause__ = third
    first.__context__ = last  # a circle
    write_record(logging.ERROR, "it failed", {}, error=last)
    text = logging.Formatter().format(records[0])
    lines = [line for line in text.splitlines() if line and not line.startswith("The above")]
    assert lines[0] == "it failed"
    assert lines[-1] == "modelkit.errors.SignatureError: rows were refused"
    assert "modelkit.errors.BatchError: its Gather node failed" in lines
    assert (
        "modelkit.errors.RegistryError: the bucket at http://...@host/b?... cannot be asked"
        in lines
    )
    assert "ValueError" in lines
    assert "4711" not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET http://user:pa@ss@h:9/b/x?list-type=2 in 3s", "GET http://...@h:9/b/x?... in 3s"),
        ("http://u:p?w@h/x", "http://...@h/x"),
        ("s3://key:pass/word@bucket", "s3://...@bucket"),
        ("https:/u:p@h and az://c/x?sig=a%20b", "https:/...@h and az://c/x?..."),
        ("s3://bucket/path is free, is it?", "s3://bucket/path is free, is it?"),
        ("write to a@b.c", "write to a@b.c"),
    ],
)
def test_addresses_are_shown_without_passwords_and_queries(text, shown):
    assert without_credentials(text) == shown
    assert public_text(RegistryError(text)) == f"RegistryError: {shown}"
    assert public_text(OSError(text)) == "OSError"
    assert public_text(OSError(errno.ENOSPC, text)) == f"OSError: {os.strerror(errno.ENOSPC)}"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_signal_that_arrives_in_a_listener_is_not_lost(kind):
    def interrupted(event):
        raise kind

    stop = events.subscribe(interrupted)
    try:
        with pytest.raises(kind):
            events.emit(HANDLED)
    finally:
        stop()


def test_what_cannot_listen_is_refused():
    async def later(event):
        pass

    for listener in (None, "print", later):
        with pytest.raises(TypeError, match="plain function of one event"):
            events.subscribe(listener)
    for kind in (HANDLED, dict, "Loaded"):
        with pytest.raises(TypeError, match="no kind of event"):
            events.subscribe(print, kind)


def test_each_listener_of_many_threads_hears_each_event_once():
    def work(number):
        for step in range(50):
            heard = []
            stop = events.subscribe(heard.append, events.Handled)
            mine = events.Handled("/", "GET", number, step, None, "", "")
            events.emit(mine)
            stop()
            assert heard.count(mine) == 1
            size = len(heard)
            events.emit(mine)
            assert len(heard) - size <= 8  # of others that were at it when it stopped
        return True

    with hearing(events.Handled) as everything, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert len(everything) == 8 * 50 * 2
    assert len(set(everything)) == 8 * 50


def test_a_kind_of_ones_own():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Promoted(events.Event):
        log_level = logging.INFO
        name: str

        def __str__(self):
            return f"promoted {self.name}"

    with recording() as records, hearing(Promoted) as heard:
        events.emit(Promoted("m"))
    assert heard == [Promoted("m")]
    assert own(records[0]) == {"event": "promoted", "name": "m", "count": 1}
    assert records[0].getMessage() == "promoted m"


def test_events_are_values_that_processes_can_exchange():
    import pickle

    alarm = events.Alarmed("m", "1", "changed", "age", 1e-5, 0.001, 1200, None)
    for event in (HANDLED, SWAPPED, OVERLOAD, alarm, events.Refusal("m", "1", 1, ("age",))):
        assert pickle.loads(pickle.dumps(event)) == event
        assert len({event, pickle.loads(pickle.dumps(event))}) == 1


# Records.


def test_records_have_levels_and_fields_and_a_message(records):
    events.emit(events.Loaded("m", "1", "aa", "cpu", 2, 0.125, 1.5e9))
    events.emit(SWAPPED)
    events.emit(events.Alarmed("m", "1", "changed", "age", 1e-5, 0.001, 1200, 800))
    events.emit(events.Refusal("m", "1", 2, ("age", "sex")))
    events.emit(OVERLOAD)
    events.emit(HANDLED)
    told = [(record.levelname, record.getMessage()) for record in records]
    assert told == [
        ("INFO", "loaded m 1 on cpu with 2 threads in 0.125 s"),
        ("INFO", "m: 2 answers now, 1 did before"),
        ("WARNING", "m 1: age: changed at row 1,200, since about row 800: p 1e-05"),
        ("WARNING", "m 1: rows refused, with 2 problems in 'age', 'sex'"),
        ("WARNING", "m 1: call refused, the queue is full: 30 wait, and at most 32 may"),
    ]
    assert {record.name for record in records} == {"modelkit"}
    assert own(records[1]) == {
        "event": "swapped",
        "name": "m",
        "version": "2",
        "digest": "bb",
        "before_version": "1",
        "before_digest": "aa",
        "count": 1,
    }
    assert own(records[3])["columns"] == ("age", "sex")


def test_no_field_has_a_name_that_records_have_already(records):
    plain = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
    events.emit(SWAPPED)
    assert not {name for name in plain if name.startswith("modelkit")}
    made = logging.getLogRecordFactory()

    def factory(*arguments, **keywords):
        record = made(*arguments, **keywords)
        record.name_of_model = record.version = record.event = "of the application"
        return record

    logging.setLogRecordFactory(factory)
    try:
        events.emit(SWAPPED)
    finally:
        logging.setLogRecordFactory(made)
    assert len(records) == 2
    assert own(records[1])["version"] == "2"


def test_a_handler_or_filter_that_fails_reaches_nobody(records):
    logger = logging.getLogger("modelkit")

    def refuse(record):
        raise OSError("the disk is full")

    logger.addFilter(refuse)
    try:
        events.emit(SWAPPED)
    finally:
        logger.removeFilter(refuse)
    assert records == []


def test_nothing_is_configured_and_logging_is_not_imported():
    run("""
        import sys
        import modelkit as mk
        mk.events.emit(mk.events.Overload("m", "1", 1, 2))
        mk.events.emit(mk.events.Swapped("m", "2", "", "1", ""))
        assert "logging" not in sys.modules
        import logging
        mk.events.emit(mk.events.Overload("m", "1", 1, 2))
        logger = logging.getLogger("modelkit")
        assert logger.handlers == []
        assert logger.level == logging.NOTSET and logger.propagate and not logger.filters
        assert not logging.getLogger().handlers
    """)


def test_logging_that_was_configured_gets_the_records():
    code = """
        import logging, sys
        logging.basicConfig(stream=sys.stdout, level="INFO", format="%(levelname)s %(message)s %(modelkit_version)s")
        import modelkit as mk
        mk.events.emit(mk.events.Swapped("m", "2", "", "1", ""))
    """
    assert run(code).strip() == "INFO m: 2 answers now, 1 did before 2"


# Limits.


@given(st.lists(st.floats(0, 60), max_size=80))
def test_records_of_a_matter_are_ten_seconds_apart_and_none_is_lost_from_their_counts(moments):
    moments = sorted(moments)
    matter = logs.Matter()
    counts = [matter.note(now) for now in moments]
    written = [now for now, count in zip(moments, counts, strict=True) if count]
    assert all(later - earlier >= logs.EVERY for earlier, later in itertools.pairwise(written))
    last = max((at for at, count in enumerate(counts) if count), default=-1)
    assert sum(counts) == last + 1
    if moments:
        assert counts[0] == 1
        rest = [now for now in moments if now >= written[-1] + logs.EVERY]
        assert rest == []


def test_threads_write_one_record_in_ten_seconds_and_lose_no_count():
    matter = logs.Matter()
    barrier = threading.Barrier(8)

    def work(_):
        found = []
        for second in (0.0, 10.0, 20.0):
            barrier.wait()
            found.append(sum(matter.note(second) for _ in range(500)))
            barrier.wait()
        return found

    with ThreadPoolExecutor(8) as pool:
        by_thread = list(pool.map(work, range(8)))
    by_second = [[found[at] for found in by_thread] for at in range(3)]
    assert [sum(map(bool, found)) for found in by_second] == [1, 1, 1]
    assert matter.note(40.0) == 3 * 8 * 500 + 1 - sum(map(sum, by_second))


def test_refusals_and_overloads_are_limited_by_model_and_kind(records, monkeypatch):
    for version in ("1", "2"):
        for _ in range(5):
            events.emit(events.Overload("m", version, 30, 32))
            events.emit(events.Refusal("m", version, 1, ()))
    seen = [(own(record)["event"], own(record)["version"]) for record in records]
    assert seen == [("overload", "1"), ("refusal", "1"), ("overload", "2"), ("refusal", "2")]
    monkeypatch.setattr(logs, "EVERY", 0.0)
    events.emit(OVERLOAD)
    assert own(records[-1])["count"] == 5
    assert records[-1].getMessage().endswith("(5 times since the last record of it)")
    with hearing() as heard:
        for _ in range(5):
            events.emit(OVERLOAD)
    assert len(heard) == 5


def test_what_is_not_recorded_is_not_counted():
    logger = logging.getLogger("modelkit")
    with recording() as records:
        logger.setLevel(logging.ERROR)
        for _ in range(3):
            events.emit(OVERLOAD)
        logger.setLevel(logging.INFO)
        events.emit(OVERLOAD)
    assert [own(record)["count"] for record in records] == [1]


@forks
def test_a_child_records_although_a_thread_held_the_lock_at_the_fork(records):
    events.emit(OVERLOAD)
    (matter,) = logs._matters._all.values()

    def work():
        events.emit(OVERLOAD)
        assert len(records) == 2

    with matter._lock:
        assert passes_in_a_child(work)


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
        with pytest.raises(DriftError):
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
