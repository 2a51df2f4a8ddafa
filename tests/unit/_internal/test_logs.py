"""Log records: their fields, and how often one is written."""

import itertools
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from helpers.records import HANDLED, OVERLOAD, SWAPPED, hearing, own, recording
from hypothesis import given
from hypothesis import strategies as st

from modelkit import events
from modelkit._internal import logs

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
