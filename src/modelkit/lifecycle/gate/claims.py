"""The questions of a gate about figures, and their answers; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf, isfinite
from typing import NamedTuple

import numpy as np

from modelkit.lifecycle.evaluation.answered import Answered, clusters_of
from modelkit.lifecycle.evaluation.metrics import TaskMetric, units_of
from modelkit.lifecycle.gate.check import CheckPart, GateCheck
from modelkit.lifecycle.gate.comparison import SHOWN_WITH, Comparison, distance_shown
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
from modelkit.stats.intervals import ENDS, Domain, Interval, clopper_pearson
from modelkit.stats.paired import PairedDifference
from modelkit.stats.tests import holm

HELD_BY_FEW = (
    "too few of them hold the difference to tell how bad one more can be; a metric that large errors "
    "sway less, such as mae in place of rmse, or one with bounds, asks for fewer"
)
TELLING = 5  # margins: a slice that cannot show a harm of so many is too small to tell
Compared = Callable[[], Comparison]  # raises Undefined
HarmCase = tuple[str, str, float, Compared]  # name of the check, metric, margin, what compares
SHARES = ("recall", "precision")  # of the rows of a class, which may be few
EXACT = "hits / rows, with the exact interval of Clopper and Pearson"
BY_INFLUENCE = (
    "the figure of the candidate, with the wider of two intervals of what each row adds to it: t, and "
    "Gaffke's with one row more that is as bad as can be"
)


class Levels(NamedTuple):
    """The levels of tests.

    Attributes:
        shown: of what speaks for a promotion.
        harm: of what blocks it.
        fresh: what `shown` is of a gate on other rows, which nobody has used.
    """

    shown: float
    harm: float
    fresh: float


def no_worse(name: str, compared: Compared, margin: float, levels: Levels) -> GateCheck:
    """Whether the candidate is shown to be no worse than its margin; it fails where harm is shown."""
    asked = GateCheck(
        name, _claim(name, margin), "unclear", part="metric", bound=0.0 - margin, alpha=levels.shown
    )
    try:
        found = compared()
    except Undefined as reason:
        return replace(asked, text=f"{name} cannot be compared: {reason}")
    p = found.p_above(-margin)
    told = _with_figures(replace(asked, p=p), found, levels.shown)
    if p <= levels.shown:
        return replace(told, outcome="pass", text="shown")
    harm = found.exchanged().p_above(margin)
    if harm <= levels.harm:
        worse = f"shown to be worse by more than {margin:g}" if margin else "shown to be worse"
        return replace(told, outcome="fail", p=harm, alpha=levels.harm, text=worse)
    needed = found.rows_to_show(margin, levels.fresh)
    return replace(told, rows_needed=needed, text=_lacking(needed, margin, found, levels.fresh))


def _claim(name: str, margin: float) -> str:
    if margin == 0:
        return f"Is {name} shown to be better?"
    return f"Is {name} shown to be worse by less than {margin:g}?"


def _lacking(needed: int | None, margin: float, found: Comparison, alpha: float) -> str:
    """What was not shown, and what would show it.

    How much better a candidate is that was not shown to be better, these rows do not know: where
    the truth is what they find in .8 of cases, the others ask for 4 times as many rows and more.
    """
    lacking = f"not shown by {found.amount(found.rows)}"
    if found.counts is None and found.difference.worst == inf:
        return f"{lacking}: {HELD_BY_FEW}"
    if needed is not None and needed <= found.rows and found.difference.value < 0:
        return (
            f"{lacking}, and {found.amount(needed)} would show a candidate as good as the champion with a "
            f"probability of {SHOWN_WITH:g}: this one looks worse"
        )
    if needed is not None:
        others = " that no gate has used" if needed <= found.rows else ""
        return (
            f"{lacking}; {found.amount(needed)}{others} would show it with a probability of {SHOWN_WITH:g}, if "
            "the candidate is as good as the champion"
        )
    gain = None if margin else found.least_shown(0.0, alpha)
    if gain is None:
        return f"{lacking}: the standard error is {found.error:.2g}" if found.error else lacking
    return (
        f"{lacking}; as many would show a gain of {gain:.3g} with a probability of {SHOWN_WITH:g}, "
        "and four times as many one half as large"
    )


def _with_figures(check: GateCheck, found: Comparison, alpha: float) -> GateCheck:
    """A check with the difference and the interval that a one-sided test at alpha goes with."""
    level = 1 - 2 * alpha
    low, high = found.interval(level)
    told = replace(check, formula=found.formula, estimate=found.difference.value)
    if not (isfinite(low) and isfinite(high)):
        return told
    return replace(told, low=low, high=high, level=level)


def no_harm(cases: Sequence[HarmCase], alpha: float, part: CheckPart) -> list[GateCheck]:
    """Whether harm is shown in any of several cases, by one test of them all (Holm).

    Args:
        cases: what may be harmed.
        alpha: the probability, at most, of one false harm among all.
        part: of the checks.
    """
    found: list[Comparison | str] = []
    p = np.ones(len(cases))
    for at, (_, name, margin, compared) in enumerate(cases):
        try:
            comparison = compared()
        except Undefined as reason:
            found.append(f"{name} cannot be compared: {reason}")
            continue
        found.append(comparison)
        p[at] = comparison.exchanged().p_above(margin)
    adjusted = holm(p)
    checks = []
    for at, (title, name, margin, _) in enumerate(cases):
        question = f"Is {name} shown to be worse by more than {margin:g}?"
        asked = GateCheck(title, question, "unclear", required=False, part=part, bound=0.0 - margin)
        checks.append(_harm(asked, found[at], float(adjusted[at]), alpha, len(cases)))
    return checks


def _harm(
    asked: GateCheck, found: Comparison | str, p: float, alpha: float, cases: int
) -> GateCheck:
    if isinstance(found, str):
        return replace(asked, text=found)
    margin = -(asked.bound or 0.0)
    told = _with_figures(replace(asked, p=p, alpha=alpha), found, alpha / cases)
    if cases > 1:
        told = replace(told, formula=f"{told.formula}; p by Holm over {cases} cases")
    seen_on = found.amount(found.rows)
    if p <= alpha:
        return replace(told, outcome="fail", text=f"harm is shown on {seen_on}")
    seen = found.least_shown(margin, alpha / cases)
    if seen is None or seen > TELLING * margin:
        least = "" if seen is None else f": they would show a harm of {seen:.3g} or more"
        return replace(told, text=f"{seen_on} are too few to tell{least}")
    text = f"no harm is shown on {seen_on}, which would show one of {seen:.3g}"
    return replace(told, outcome="pass", text=text)


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
        found = _floor_figure(metric, measured, answered, clusters)
        interval = _wider(interval, found.interval(level), ENDS[metric.domain])
    told = replace(told, low=interval[0], high=interval[1], level=level)
    lacking = _lacking_figure(floor, metric.domain, found, len(answered), levels.fresh)
    return _answered(told, floor, interval, lacking)


def _floor_figure(
    metric: TaskMetric, measured: Measured, answered: Answered, clusters: Clusters | None
) -> PairedDifference:
    """The figure of the candidate, as a difference to 0."""
    added = added_by(measured.influence, clusters)
    # A loss is at least 0, so its tail is that of what it has above the least.
    best = added.max() if metric.higher_is_better else added.min()
    unseen = worst_unit(metric, answered, None, np.abs(added - best))
    units = min(measured.units, units_of(answered))
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


def _lacking_figure(
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
