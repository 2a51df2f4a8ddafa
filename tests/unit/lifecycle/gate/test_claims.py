"""What is shown and what is harm exclude each other, and few units show nothing."""

from __future__ import annotations

from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.lifecycle.gate.claims import Levels, no_worse
from modelkit.lifecycle.gate.comparison import Comparison
from modelkit.stats.paired import PairedDifference, RightCounts

ALPHA = 0.05


LEVELS = Levels(ALPHA, ALPHA, ALPHA)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 2000), st.floats(0, 0.2))
@settings(max_examples=examples(200))
def test_shown_and_harm_exclude_each_other(better, worse, others, margin):
    n = better + worse + others + 1
    told = Comparison(RightCounts(better, worse, n), n, "")
    other = Comparison(RightCounts(worse, better, n), n, "")
    check = no_worse("accuracy", lambda: told, margin, LEVELS)
    exchanged = no_worse("accuracy", lambda: other, margin, LEVELS)
    assert not (check.outcome == "fail" and exchanged.outcome == "fail")
    if check.outcome == "fail":
        assert exchanged.outcome == "pass"
    # A larger margin is easier to keep.
    wider = no_worse("accuracy", lambda: told, margin + 0.05, LEVELS)
    assert not (check.outcome == "pass" and wider.outcome != "pass")


def test_rows_that_no_unit_tells_apart_are_not_taken_for_proof():
    alike = PairedDifference(0.0, 0.0, 20, worst=1 / 20)
    assert alike.p_above(-0.01) > 0.3
    many = PairedDifference(0.0, 0.0, 2000, worst=1 / 2000)
    assert many.p_above(-0.01) < 1e-4
    assert alike.p_above(0.01) > 0.5
