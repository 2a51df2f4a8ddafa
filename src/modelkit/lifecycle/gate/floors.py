"""Whether a candidate reaches a figure that the user states; pure."""

from __future__ import annotations

from dataclasses import replace
from math import inf, isfinite

import numpy as np

from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.clusters import clusters_of
from modelkit.lifecycle.evaluation.metrics import TaskMetric, units_told
from modelkit.lifecycle.gate.check import GateCheck
from modelkit.lifecycle.gate.claims import Levels
from modelkit.lifecycle.gate.comparison import SHOWN_WITH, distance_shown
from modelkit.lifecycle.gate.policy import MetricFloor
from modelkit.lifecycle.gate.unseen import worst_unit
from modelkit.stats.influence import (
    Clusters,
    Measured,
    Undefined,
    added_by,
    refuse_few,
    standard_error,
)
from modelkit.stats.intervals import Domain, Interval, clopper_pearson
from modelkit.stats.paired import PairedDifference

SHARES = ("recall", "precision")  # of the rows of a class, which may be few
# The least and the largest figure.
ENDS: dict[Domain, Interval] = {
    "share": (0.0, 1.0),
    "correlation": (-1.0, 1.0),
    "size": (0.0, inf),
    "explained": (-inf, 1.0),
    "number": (-inf, inf),
}
EXACT = "hits / rows, with the exact interval of Clopper and Pearson"
BY_INFLUENCE = (
    "the figure of the candidate, with the wider of two intervals of what each row adds to it: t, and "
    "Gaffke's with one row more that is as bad as can be"
)


def floor_check(
    floor: MetricFloor, metric: TaskMetric, answered: Answered, levels: Levels
) -> GateCheck:
    """Whether the candidate's own figure is shown to be on the right side of a floor."""
    level = 1 - 2 * levels.shown
    side = "at least" if floor.at_least else "at most"
    question = f"Is {floor.metric} shown to be {side} {floor.bound:g}?"
    asked = GateCheck(str(floor), question, "unclear", part="floor", bound=floor.bound)
    try:
        clusters = clusters_of(answered)
        measured = metric.measure(answered)
        refuse_few(measured.units, clusters)
    except Undefined as reason:
        return replace(asked, text=f"{floor.metric} cannot be judged: {reason}")
    exact = (metric.counts or metric.name in SHARES) and answered.clusters is None
    formula = EXACT if exact else BY_INFLUENCE
    told = replace(asked, estimate=measured.value, formula=formula)
    ends_of = _exact if exact else metric.interval
    interval = ends_of(measured, answered, level)
    if interval is None or not all(map(isfinite, interval)):
        return replace(told, text="these rows give no interval")
    if exact:
        error = standard_error(measured.influence)
        found = PairedDifference(measured.value, error, inf)
    else:
        found = _figure(metric, measured, answered, clusters)
        interval = _wider(interval, found.interval(level), ENDS[metric.domain])
    told = replace(told, low=interval[0], high=interval[1], level=level)
    lacking = _lacking(floor, metric.domain, found, len(answered), levels.fresh)
    return _answered(told, floor, interval, lacking)


def _figure(
    metric: TaskMetric, measured: Measured, answered: Answered, clusters: Clusters | None
) -> PairedDifference:
    """The figure of the candidate, as a difference to 0."""
    added = added_by(measured.influence, clusters)
    # A loss is at least 0, so its tail is that of what it has above the least.
    best = added.max() if metric.higher_is_better else added.min()
    unseen = worst_unit(metric, answered, None, np.abs(added - best))
    units = min(measured.units, units_told(answered))
    error = standard_error(measured.influence, clusters)
    return PairedDifference(measured.value, error, units, float(np.sum(added**3)), *unseen)


def _wider(one: Interval, other: Interval, ends: Interval) -> Interval:
    """From the lower of two low ends to the higher of two high ones, within what a figure can be."""
    return max(min(one[0], other[0]), ends[0]), min(max(one[1], other[1]), ends[1])


def _exact(measured: Measured, answered: Answered, level: float) -> Interval:
    """The exact interval of a share of independent rows: of those that the figure rests on."""
    n = round(min(measured.units, len(answered)))
    return clopper_pearson(round(measured.value * n), n, level)


def _answered(check: GateCheck, floor: MetricFloor, interval: Interval, lacking: str) -> GateCheck:
    low, high = interval
    reached = low >= floor.bound if floor.at_least else high <= floor.bound
    broken = high < floor.bound if floor.at_least else low > floor.bound
    if reached:
        return replace(check, outcome="pass", text="shown")
    if broken:
        return replace(check, outcome="fail", text="shown not to be so")
    return replace(check, text=lacking)


def _lacking(
    floor: MetricFloor, domain: Domain, found: PairedDifference, rows: int, alpha: float
) -> str:
    """What was not shown, and which figure would have been.

    How many rows it takes depends on how far the figure is from the floor, which these rows do not
    know: otherwise they would have shown it.
    """
    distance = distance_shown(found, alpha)
    if distance is None:
        return "not shown"
    figure = floor.bound + (distance if floor.at_least else -distance)
    least, most = ENDS[domain]
    if not least <= figure <= most:
        end = most if floor.at_least else least
        return f"not shown by {rows:,} rows, which are too few for a floor so near to {end:g}"
    return (
        f"not shown by {rows:,} rows; as many would show one of {figure:.3g} with a probability of "
        f"{SHOWN_WITH:g}, and four times as many one half as far from {floor.bound:g}"
    )
