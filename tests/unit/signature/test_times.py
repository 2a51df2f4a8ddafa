"""Times and spans: exact, or refused. Each case was found by an attack that changed a value unseen."""

from datetime import datetime, timedelta, timezone, tzinfo

import numpy as np
import pandas as pd
import pytest

import modelkit as mk
from modelkit.errors import SignatureError

FAR = datetime(9999, 12, 31)  # noqa: DTZ001 - a column of times without a time zone
NANOSECOND = pd.Timestamp("2024-01-01 00:00:00.000000001")


class Silent(tzinfo):
    """A time zone that does not say how far it is from UTC."""

    def utcoffset(self, _):
        return None

    dst = tzname = utcoffset


def taking(dtype):
    column = mk.Column("at", dtype, nullable=True)
    inputs = (mk.TensorSpec("at", dtype, ("batch", 1), (column,)),)
    return mk.Signature(inputs, (mk.TensorSpec("y", "float64", ("batch",)),))


def coerced(dtype, *values):
    found = taking(dtype).coerce([{"at": value} for value in values])["at"][:, 0]
    return found.tolist()


def test_a_time_far_away_beside_one_of_nanoseconds_is_no_other_time():
    """The year 9999 was taken for 1816, as numpy wraps around."""
    with pytest.raises(SignatureError, match="a time in row 0 that"):
        coerced("datetime64[ns]", FAR, NANOSECOND)
    with pytest.raises(SignatureError, match="a time in row 1 that"):
        coerced("datetime64[us]", FAR, NANOSECOND)
    assert coerced("datetime64[us]", FAR, NANOSECOND.floor("us"), None)[0] == FAR


def test_times_at_the_ends_of_the_calendar_have_a_time_zone_too():
    west, east = (timezone(timedelta(hours=hours)) for hours in (-5, 5))
    last = datetime(9999, 12, 31, 23, tzinfo=west)
    first = datetime(1, 1, 1, 1, tzinfo=east)
    found = coerced("datetime64[us, UTC]", last, first)
    ends = ["9999-12-31T23:00", "0001-01-01T01:00"]
    expected = np.array(ends, "M8[us]") + np.array([5, -5], "m8[h]")
    assert found == expected.tolist()


def test_a_time_zone_that_does_not_say_is_none():
    with pytest.raises(SignatureError, match="with a time zone are expected"):
        coerced("datetime64[us, UTC]", datetime(2024, 1, 1, tzinfo=Silent()))


@pytest.mark.filterwarnings("ignore:The 'generic' unit:DeprecationWarning")  # of numpy 2.5
@pytest.mark.parametrize("unit", ["Y", "M", "generic"])
@pytest.mark.parametrize("form", ["array", "objects"])
def test_a_span_whose_length_nobody_knows_is_refused(unit, form):
    spans = np.array([1], "m8" if unit == "generic" else f"m8[{unit}]")
    held = spans if form == "array" else np.array([spans[0], None], object)
    with pytest.raises(SignatureError, match="does not hold exactly"):
        taking("timedelta64[ms]").coerce({"at": held})


def test_a_message_names_the_time_zone_that_is_expected():
    with pytest.raises(SignatureError, match="times with a time zone are expected"):
        taking("datetime64[us, UTC]").coerce({"at": np.array([1, 2])})


def test_a_longdouble_beyond_the_floats_is_no_infinity():
    with pytest.raises(SignatureError, match="beyond the range of float64 in row 0"):
        coerced("float64", np.longdouble("1e4000"), None)
    assert coerced("float64", np.longdouble("0.5"), True) == [0.5, 1.0]
