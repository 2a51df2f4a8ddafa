"""Whether a candidate reaches a figure that the user states; pure."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

from modelkit.evaluation.answered import Answered
from modelkit.evaluation.intervals import (
    Interval,
    Measured,
    clopper_pearson,
    standard_error,
)
from modelkit.evaluation.metrics import TaskMetric
from modelkit.evaluation.paired import rows_needed
from modelkit.evaluation.sums import Undefined
from modelkit.gating.check import Check
from modelkit.gating.comparison import LEAST_DISTANCE, SHOWN_WITH
from modelkit.gating.policy import MetricFloor

SHARES = ("recall", "precision")  # of the rows of a class, which may be few
EXACT = "hits / rows, with the exact interval of Clopper and Pearson"
BY_INFLUENCE = "the figure of the candidate, with the t interval of what each row adds to it"


def floor_check(
    floor: MetricFloor,
    metric: TaskMetric,
    answered: Answered,
    alpha: float,
) -> Check:
    """Whether the candidate's own figure is shown to be on the right side of a floor."""
    level = 1 - 2 * alpha
    side = "at least" if floor.at_least else "at most"
    question = f"Is {floor.metric} shown to be {side} {floor.bound:g}?"
    asked = Check(str(floor), question, "unclear", part="floor", bound=floor.bound)
    try:
        measured = metric.measure(answered)
    except Undefined as reason:
        return replace(asked, text=f"{floor.metric} is not defined: {reason}")
    exact = (metric.counts or metric.name in SHARES) and answered.clusters is None
    formula = EXACT if exact else BY_INFLUENCE
    told = replace(asked, estimate=measured.value, formula=formula)
    ends_of = _exact if exact else metric.interval
    interval = ends_of(measured, answered, level)
    if interval is None or not all(map(isfinite, interval)):
        return replace(told, text="these rows tell no interval")
    told = replace(told, low=interval[0], high=interval[1], level=level)
    error = standard_error(measured.influence, answered.clusters)
    return _answered(told, floor, interval, _needed(told, floor, error, len(answered), alpha))


def _exact(
    measured: Measured,
    answered: Answered,
    level: float,
) -> Interval:
    """The exact interval of a share of independent rows: of those that the figure rests on."""
    n = round(min(measured.units, len(answered)))
    return clopper_pearson(round(measured.value * n), n, level)


def _answered(
    check: Check,
    floor: MetricFloor,
    interval: Interval,
    needed: int | None,
) -> Check:
    low, high = interval
    reached = low >= floor.bound if floor.at_least else high <= floor.bound
    broken = high < floor.bound if floor.at_least else low > floor.bound
    if reached:
        return replace(check, outcome="pass", text="shown")
    if broken:
        return replace(check, outcome="fail", text="shown not to be so")
    text = "not shown"
    if needed is not None:
        text = (
            f"not shown; {needed:,} rows would show it with a probability of {SHOWN_WITH:g}, if the "
            "figure is what it was here"
        )
    return replace(check, rows_needed=needed, text=text)


def _needed(
    check: Check,
    floor: MetricFloor,
    error: float | None,
    rows: int,
    alpha: float,
) -> int | None:
    """How many rows would show it, if the figure is what it was here; None if nothing tells."""
    distance = (check.estimate or 0.0) - floor.bound
    if not floor.at_least:
        distance = -distance
    if not error or distance <= error * LEAST_DISTANCE:
        return None
    return rows_needed(error, rows, distance, alpha=alpha, power=SHOWN_WITH)
