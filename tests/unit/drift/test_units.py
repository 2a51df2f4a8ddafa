"""Days and weeks contain their times."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modelkit.drift.units import of_call, unit_name


@given(st.integers(-300_000, 2_000_000))
def test_a_day_and_a_week_contain_their_times(day):
    second = day * 86400.0 + 3600
    (part,) = of_call("day", None, np.array([second]), 1)
    assert part.key == day
    (week,) = of_call("week", None, np.array([second]), 1)
    monday = np.datetime64(unit_name("week", week.key).split()[1])
    assert monday <= np.datetime64(day, "D") < monday + np.timedelta64(7, "D")
    assert (monday - np.datetime64("1969-12-29")).astype(int) % 7 == 0
