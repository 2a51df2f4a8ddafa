"""The questions of a gate about figures, and their answers; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf, isfinite
from typing import NamedTuple

import numpy as np

from modelkit._internal.progress import step
from modelkit.lifecycle.evaluation.answered import Answered, clusters_of
from modelkit.lifecycle.evaluation.check import CheckPart, GateCheck
from modelkit.lifecycle.evaluation.metrics import NO_INTERVAL, TaskMetric, units_of
from modelkit.lifecycle.gate.comparison import SHOWN_WITH, Comparison
from modelkit.lifecycle.gate.policy import MetricFloor
from modelkit.lifecycle.gate.unseen import worst_unit
from modelkit.stats.influence import Measured, Undefined, added_by, refuse_few, standard_error
from modelkit.stats.intervals import ENDS, Domain, clopper_pearson
from modelkit.stats.paired import PairedDifference, RightCounts, distance_shown
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


def tested(
    check: GateCheck, found: PairedDifference | RightCounts, bound: float, levels: Levels
) -> GateCheck:
    """A check that passes where the difference is shown to be above a bound, and fails where below."""
    p = found.p_above(bound)
    if p <= levels.shown:
        return replace(check, outcome="pass", p=p, alpha=levels.shown)
    harm = found.exchanged().p_above(-bound)
    if harm <= levels.harm:
        return replace(check, outcome="fail", p=harm, alpha=levels.harm)
    return replace(check, p=p, alpha=levels.shown)


def no_worse(name: str, compared: Compared, margin: float, levels: Levels) -> GateCheck:
    """Whether the candidate is shown to be no worse than its margin; it fails where harm is shown."""
    question = f"Is {name} shown to be worse by less than {margin:g}?"
    if not margin:
        question = f"Is {name} shown to be better?"
    asked = GateCheck(
        name, question, "unclear", part="metric", bound=0.0 - margin, alpha=levels.shown
    )
    try:
        found = compared()
    except Undefined as reason:
        return replace(asked, text=f"{name} cannot be compared: {reason}")
    check = tested(_with_figures(asked, found, levels.shown), found.difference, -margin, levels)
    if check.outcome == "pass":
        return replace(check, text="shown")
    if check.outcome == "fail":
        worse = f"shown to be worse by more than {margin:g}" if margin else "shown to be worse"
        return replace(check, text=worse)
    needed = found.rows_to_show(margin, levels.fresh)
    return replace(check, rows_needed=needed, text=_lacking(check, needed, margin, found, levels))


def _lacking(
    check: GateCheck, needed: int | None, margin: float, found: Comparison, levels: Levels
) -> str:
    """What was not shown, and what would show it.

    How much better a candidate is that was not shown to be better, these rows do not know: where
    the truth is what they find in .8 of cases, the others ask for 4 times as many rows and more.
    """
    lacking = f"not shown by {found.amount(found.rows)}"
    difference = found.difference
    if isinstance(difference, PairedDifference) and difference.worst == inf:
        return f"{lacking}: {HELD_BY_FEW}"
    if needed is not None and needed <= found.rows and difference.value < 0:
        return (
            f"{lacking}: the candidate looks worse; one as good as the champion is shown by "
            f"{found.amount(needed)} with a probability of {SHOWN_WITH:g}"
        )
    if needed is not None:
        others = " that no gate has used" if needed <= found.rows else ""
        return (
            f"{lacking}; {found.amount(needed)}{others} would show it with a probability of {SHOWN_WITH:g}, if "
            "the candidate is as good as the champion"
        )
    if margin and check.low is not None:
        return f"{lacking}: they show only that it is worse by less than {-check.low:.3g}"
    gain = None if margin else found.least_shown(0.0, levels.fresh)
    if gain is None:
        error = difference.error
        return f"{lacking}: the standard error is {error:.2g}" if error else lacking
    return (
        f"{lacking}; as many would show a gain of {gain:.3g} with a probability of {SHOWN_WITH:g}, "
        "and four times as many one half as large"
    )


def _with_figures(check: GateCheck, found: Comparison, alpha: float) -> GateCheck:
    """A check with the difference and the interval that a one-sided test at alpha goes with."""
    level = 1 - 2 * alpha
    low, high = found.difference.interval(level)
    check = replace(check, formula=found.formula, estimate=found.difference.value)
    if not (isfinite(low) and isfinite(high)):
        return check
    return replace(check, low=low, high=high, level=level)


def no_harm(cases: Sequence[HarmCase], alpha: float, part: CheckPart) -> list[GateCheck]:
    """Whether harm is shown in any of several cases, by one test of them all (Holm).

    Args:
        cases: what may be harmed.
        alpha: the probability, at most, of one false harm among all.
        part: of the checks.
    """
    found: list[Comparison | str] = []
    p = np.ones(len(cases))
    for at, (title, name, margin, compared) in enumerate(cases):
        step(title)
        try:
            comparison = compared()
        except Undefined as reason:
            found.append(f"{name} cannot be compared: {reason}")
        else:
            found.append(comparison)
            p[at] = comparison.difference.exchanged().p_above(margin)
    checks = []
    for case, each, adjusted in zip(cases, found, holm(p).tolist(), strict=True):
        title, name, margin, _ = case
        question = f"Is {name} shown to be worse by more than {margin:g}?"
        asked = GateCheck(title, question, "unclear", required=False, part=part, bound=0.0 - margin)
        if isinstance(each, str):
            checks.append(replace(asked, text=each))
        else:
            checks.append(_harm(replace(asked, p=adjusted), each, margin, alpha, len(cases)))
    return checks


def _harm(
    asked: GateCheck, found: Comparison, margin: float, alpha: float, cases: int
) -> GateCheck:
    check = _with_figures(replace(asked, alpha=alpha), found, alpha / cases)
    if cases > 1:
        check = replace(check, formula=f"{check.formula}; p by Holm over {cases} cases")
    seen_on = found.amount(found.rows)
    if check.p is not None and check.p <= alpha:
        return replace(check, outcome="fail", text=f"harm is shown on {seen_on}")
    seen = found.least_shown(margin, alpha / cases)
    if seen is None or seen > TELLING * margin:
        least = "" if seen is None else f": they would show a harm of {seen:.3g} or more"
        return replace(check, text=f"{seen_on} are too few to tell{least}")
    text = f"no harm is shown on {seen_on}, which would show one of {seen:.3g}"
    return replace(check, outcome="pass", text=text)


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
    exact = (metric.counts or metric.name in SHARES) and clusters is None
    asked = replace(asked, estimate=measured.value, formula=EXACT if exact else BY_INFLUENCE)
    figure_of = _exact_figure if exact else _figure_by_influence
    try:
        found, low, high = figure_of(metric, measured, answered, level)
    except Undefined as reason:
        return replace(asked, text=str(reason))
    asked = replace(asked, low=low, high=high, level=level)
    if low >= floor.bound if floor.at_least else high <= floor.bound:
        return replace(asked, outcome="pass", text="shown")
    if high < floor.bound if floor.at_least else low > floor.bound:
        return replace(asked, outcome="fail", text="shown not to be so")
    rows = len(answered)
    return replace(asked, text=_lacking_figure(floor, metric.domain, found, rows, levels.fresh))


class _Figure(NamedTuple):
    """A figure of the candidate, as a difference to 0, and its interval."""

    figure: PairedDifference
    low: float
    high: float


def _exact_figure(_: TaskMetric, measured: Measured, answered: Answered, level: float) -> _Figure:
    """A share of independent rows: of those that the figure rests on."""
    n = round(min(measured.units, len(answered)))
    figure = PairedDifference(measured.value, standard_error(measured.influence), inf)
    return _Figure(figure, *clopper_pearson(round(measured.value * n), n, level))


def _figure_by_influence(
    metric: TaskMetric, measured: Measured, answered: Answered, level: float
) -> _Figure:
    """A figure with the wider of two intervals, within what it can be. Raises Undefined."""
    interval = metric.interval(measured, answered, level)
    if not all(map(isfinite, interval)):
        raise Undefined(NO_INTERVAL)
    clusters = clusters_of(answered)
    added = added_by(measured.influence, clusters)
    # A loss is at least 0, so its tail is the tail of what it has above the least.
    best = added.max() if metric.higher_is_better else added.min()
    unseen = worst_unit(metric, answered, None, np.abs(added - best))
    units = min(measured.units, units_of(answered))
    error = standard_error(measured.influence, clusters)
    figure = PairedDifference(measured.value, error, units, float(np.sum(added**3)), *unseen)
    lows, highs = zip(interval, figure.interval(level), strict=True)
    least, most = ENDS[metric.domain]
    return _Figure(figure, max(min(lows), least), min(max(highs), most))


def _lacking_figure(
    floor: MetricFloor, domain: Domain, found: PairedDifference, rows: int, alpha: float
) -> str:
    """What was not shown, and which figure would have been.

    How many rows it takes depends on how far the figure is from the floor, which these rows do not
    know: otherwise they would have shown it.
    """
    distance = distance_shown(found, alpha=alpha, power=SHOWN_WITH)
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
