"""Odds promise no more than p does."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.drift import words


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (0.27, "1 in 3"),
        (0.007, "1 in 140"),
        (0.00051, "1 in 1,900"),
        (0.0011, "1 in 900"),
        (1.0, "nothing unusual"),
        (1e-30, "fewer than 1 in 1,000,000"),
        (math.nan, "nothing unusual"),
    ],
)
def test_odds(p, said):
    assert words.odds(p) == said


@given(st.floats(1e-6, 0.5))
def test_odds_promise_no_more_than_p_and_little_less(p):
    times = int(words.odds(p).removeprefix("1 in ").replace(",", ""))
    assert p <= 1 / times
    assert times >= 0.5 / p
