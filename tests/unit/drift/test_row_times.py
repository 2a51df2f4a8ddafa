"""The times of rows: whatever a caller has, as seconds since 1970 in UTC; nothing is guessed."""

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import modelkit as mk
from modelkit.drift.columns import read_columns
from modelkit.drift.row_times import given_seconds, row_seconds, second_text
from modelkit.errors import UsageError

NOON = datetime(2013, 3, 9, 12, 30, tzinfo=UTC)
EAST = timezone(timedelta(hours=5))
DAY = 86_400.0


def seconds(column):
    values = read_columns({"t": column})["t"]
    return row_seconds(values, "t").tolist()


@pytest.mark.parametrize(
    "column",
    [
        np.array(["2013-03-09T12:30"], "M8[m]"),
        np.array(["2013-03-09T12:30"], "M8[ns]"),
        ["2013-03-09T12:30"],
        ["2013-03-09 12:30:00"],
        ["2013-03-09T12:30Z"],
        ["2013-03-09T17:30+05:00"],
        [NOON],
        [NOON.astimezone(EAST)],
        [NOON.replace(tzinfo=None)],
        [pd.Timestamp("2013-03-09 12:30")],
        pd.Series([pd.Timestamp("2013-03-09 12:30", tz="UTC")]),
        pd.Series([pd.Timestamp("2013-03-09 17:30", tz=EAST)]),
        pd.Series(["2013-03-09T12:30"]),
        pl.Series([NOON]),
        [NOON.timestamp()],
        [int(NOON.timestamp())],
        pd.Series([int(NOON.timestamp())], dtype="Int64"),
    ],
)
def test_a_time_is_the_same_second_in_every_form(column):
    assert seconds(column) == [NOON.timestamp()]


def test_a_date_begins_at_midnight():
    assert seconds([date(1970, 1, 2)]) == seconds(["1970-01-02"]) == [86400.0]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (["2013-03-09", "yesterday"], "'yesterday' in row 1"),
        (["2013-03-09", None], "lacks a time in row 1"),
        (["2013-03-09", ""], "lacks a time in row 1"),
        (np.array(["2013-03-09", "NaT"], "M8[D]"), "lacks a time in row 1"),
        ([0.0, np.nan], "lacks a time in row 1"),
        (pd.Series([1, None], dtype="Int64"), "lacks a time in row 1"),
        ([1362832200000], "divide milliseconds by 1,000"),
        ([np.inf], "not a number of seconds"),
        (np.array([1.3e9], np.float32), "float32"),
        ([True], "booleans"),
        ([timedelta(1)], "mixes|is no|not numbers"),
    ],
)
def test_what_is_no_time_is_refused(column, words):
    with pytest.raises(UsageError, match=words):
        seconds(column)


@pytest.mark.parametrize(
    "at", [NOON, NOON.timestamp(), "2013-03-09T12:30", np.datetime64("2013-03-09T12:30"), [NOON]]
)
def test_one_time_may_be_that_of_all_rows(at):
    assert given_seconds(at, 3).tolist() == [NOON.timestamp()] * 3


def test_one_time_for_each_row():
    assert given_seconds([0, 5], 2).tolist() == [0.0, 5.0]
    assert given_seconds(pd.Series([NOON, NOON]), 2).tolist() == [NOON.timestamp()] * 2
    with pytest.raises(UsageError, match="2 times for 3 rows"):
        given_seconds([0, 5], 3)
    with pytest.raises(UsageError, match=r"shape \(1, 2\)"):
        given_seconds([[0, 5]], 2)


@given(st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_time_near_ours_is_read_to_the_microsecond(moment):
    micros = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    array = np.array([moment.replace(tzinfo=None)], "M8[us]")
    assert seconds([moment.isoformat()]) == seconds(array) == seconds([moment]) == [micros / 1e6]


def test_a_second_in_words():
    assert second_text(NOON.timestamp()) == "2013-03-09 12:30"


@pytest.mark.parametrize(
    "when",
    [
        np.array(["20000-01-01"], "M8[D]"),
        np.array(["300000-01-01"], "M8[D]"),
        np.array(["0001-01-01T00:00+14:00"], object),
    ],
)
def test_times_that_no_calendar_has_are_refused_before_a_row_is_taken(when):
    """The name of such a day raised an OverflowError when the unit was judged."""
    rng = np.random.default_rng(2)
    past = {"x": rng.normal(size=400), "t": np.repeat(np.arange(40) * DAY, 10)}
    detector = mk.Detector(mk.Profile.fit(past, unit="day", time="t"))
    with pytest.raises(UsageError, match="not a number of seconds"):
        detector.update({"x": np.zeros(1), "t": when})
    assert detector.rows == 0
