"""The questions of a gate about figures, and their answers; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf, isfinite
from typing import NamedTuple

import numpy as np

from modelkit.lifecycle.gate.check import CheckPart, GateCheck
from modelkit.lifecycle.gate.comparison import SHOWN_WITH, Comparison
from modelkit.stats.influence import Undefined
from modelkit.stats.tests import holm

HELD_BY_FEW = (
    "too few of them hold the difference to tell how bad one more can be; a metric that large errors "
    "sway less, such as mae in place of rmse, or one with bounds, asks for fewer"
)
TELLING = 5  # margins: a slice that cannot show a harm of so many is too small to tell


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


Compared = Callable[[], Comparison]  # raises Undefined
HarmCase = tuple[str, str, float, Compared]  # name of the check, metric, margin, what compares


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
    found = [_compared(name, compared) for _, name, _, compared in cases]
    adjusted = holm(np.array([_p_of_harm(*pair) for pair in zip(cases, found, strict=True)]))
    checks = []
    for at, (title, name, margin, _) in enumerate(cases):
        question = f"Is {name} shown to be worse by more than {margin:g}?"
        asked = GateCheck(title, question, "unclear", required=False, part=part, bound=0.0 - margin)
        checks.append(_harm(asked, found[at], float(adjusted[at]), alpha, len(cases)))
    return checks


def _p_of_harm(case: HarmCase, found: Comparison | str) -> float:
    """The p-value of harm beyond the margin; 1 where nothing compares."""
    if isinstance(found, str):
        return 1.0
    return found.exchanged().p_above(case[2])


def _compared(name: str, compared: Compared) -> Comparison | str:
    """What compares, or why it cannot."""
    try:
        return compared()
    except Undefined as reason:
        return f"{name} cannot be compared: {reason}"


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
