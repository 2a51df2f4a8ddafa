"""How far a rollout is, as a value with a card and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import final

from modelkit._internal import fields
from modelkit.lifecycle.rollout.trial import Point
from modelkit.model.identity import Identity
from modelkit.report import html
from modelkit.report.plot import Axis, Plot, text_at

LEAST = -2.0  # logarithms below this are drawn at it
HEADER = ("guard", "worse: evidence", "rolls back at", "as good: evidence", "promotes at", "")


@final
@dataclass(frozen=True)
class GuardProgress:
    """The evidence of one guard. 1 is none, and 100 or more decides at an alpha of .01.

    Attributes:
        name: the name of the guard.
        worse: the evidence that the candidate is worse than is allowed, the largest there was.
        rolls_back_at: the evidence at which it is rolled back; of disagreement, at which the
            rollout holds.
        better: the evidence that it is within what is allowed for a promotion; None where the guard
            does not decide that.
        promotes_at: the evidence that a promotion needs.
        void: why nothing can be said, or "".
    """

    name: str
    worse: float
    rolls_back_at: float
    better: float | None
    promotes_at: float
    void: str = ""

    def __str__(self) -> str:
        worse, rolls_back_at, better, promotes_at = _numbers(self)
        against = f"evidence against the candidate {worse} of {rolls_back_at}"
        if self.void:
            return f"{self.name}: {self.void}"
        if self.better is None:
            return f"{self.name}: {against}"
        return f"{self.name}: {against}, for it {better} of {promotes_at}"


@final
@dataclass(frozen=True)
class RolloutProgress:
    """Where a rollout stands.

    Attributes:
        champion: the name, version and digest of the Model that answers without a rollout; of one
            that has ended, of the champion that it began with.
        candidate: name, version and digest of the Model on trial; None where there is none.
        decision: "continue", "advance", "rollback", "promote" or "hold", as it was last; "none"
            where there is no rollout.
        reason: why.
        stage: the number of the stage, from 1; 0 where there is none.
        stages: how many there are.
        share: the share of the calls that the candidate answers now.
        seconds: since the rollout began.
        calls: how many calls the candidate and the champion had, in all.
        guards: the evidence of each guard.
        missing: what is missing for the next decision.
        notes: what else should be known, such as calls that were not shadowed.
        points: the evidence after each tick.
        under_way: whether it goes on.
    """

    champion: Identity
    candidate: Identity | None = None
    decision: str = "none"
    reason: str = ""
    stage: int = 0
    stages: int = 0
    share: float = 0.0
    seconds: float = 0.0
    calls: tuple[int, int] = (0, 0)
    guards: tuple[GuardProgress, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    points: tuple[Point, ...] = ()
    under_way: bool = False

    __repr__ = fields.brief

    def __str__(self) -> str:
        lines = [f"{name}: {fact}" for name, fact in self._facts()]
        return "\n".join([*lines, *map(str, self.guards)])

    def to_html(self) -> str:
        """A page of its own with the evidence over time; it contains no scripts and loads nothing."""
        title = f"Rollout of {self.candidate.title}" if self.candidate else "Rollout"
        return html.page(title, self._repr_html_(), self.charts())

    def charts(self) -> html.Markup:
        """The evidence of each guard over time, as HTML; "" before there is any."""
        if len(self.points) <= 1:
            return html.Markup()
        charts = [_chart(guard, at, self.points) for at, guard in enumerate(self.guards)]
        return html.element("div", *charts, class_="grid")

    def _facts(self) -> list[tuple[str, str]]:
        notes = [("note", note) for note in self.notes]
        facts = [("champion", self.champion.title)]
        if self.candidate is None:
            return [*facts, *notes]
        stage = f"{self.stage} of {self.stages}"
        if self.under_way:
            facts.append(("candidate", self.candidate.title))
            stage = f"{stage}, share {self.share:.3g}"
        else:  # a champion may be none any more
            facts = [("ended", f"{self.candidate.title} against {self.champion.title}"), *notes]
            notes = []
        candidate, champion = self.calls
        decision = self.decision
        if decision != "continue":  # whose reason is what is missing
            decision = f"{decision}: {self.reason}"
        facts += [
            ("decision", decision),
            ("stage", stage),
            ("time", f"{self.seconds:,.0f} s"),
            ("calls", f"candidate {candidate:,}, champion {champion:,}"),
        ]
        facts += [("missing", what) for what in self.missing]
        return [*facts, *notes]

    def _repr_html_(self) -> html.Markup:
        rows = [[guard.name, *_numbers(guard), guard.void] for guard in self.guards]
        return html.card("Rollout", self._facts(), HEADER if rows else (), rows)


def _numbers(guard: GuardProgress) -> list[str]:
    """Both kinds of evidence, each before what it needs; "" for what does not decide."""
    needed = None if guard.better is None else guard.promotes_at
    numbers = (guard.worse, guard.rolls_back_at, guard.better, needed)
    return ["" if number is None else f"{number:.3g}" for number in numbers]


def _chart(guard: GuardProgress, number: int, points: Sequence[Point]) -> html.Markup:
    """Both kinds of evidence of a guard, on a scale of powers of ten, over at least two ticks."""
    worse = [point.worse[number] for point in points]
    better = [point.better[number] for point in points]
    times = [point.seconds for point in points]
    ends = (0.0, times[-1] or 1.0)
    against, wanted = log(guard.rolls_back_at), log(guard.promotes_at)
    scale = [(0.0, "1"), (against, f"{guard.rolls_back_at:.0f}")]
    apart = any(better) and abs(against - wanted) >= 1
    if apart:
        scale.append((wanted, f"{guard.promotes_at:.0f}"))
    y = Axis(LEAST, 1.15 * max(against, wanted, *worse, *better), marks=scale)
    plot = Plot(Axis(*ends, marks=((ends[1], f"{ends[1]:,.0f} s"),)), y, 440, 150, 44, 8, 22, 22)
    marks = [
        *_legend(plot, guard.name),
        plot.line(ends, (against, against), "limit bad"),
        plot.line(times, worse, "curve bad"),
    ]
    if apart:
        marks.append(plot.line(ends, (wanted, wanted), "limit good"))
    if any(better):
        marks.append(plot.line(times, better, "curve good"))
    return plot.picture(f"evidence of {guard.name} over time", *marks)


def _legend(plot: Plot, name: str) -> tuple[html.Markup, ...]:
    return (
        text_at(plot.left, 14, name, "start", "name"),
        text_at(plot.width - 70, 14, "worse", "end", "bad"),
        text_at(plot.width - 8, 14, "as good", "end", "good"),
    )
