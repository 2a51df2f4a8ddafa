"""One question of a gate and its answer, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, final, get_args

from modelkit._internal import fields
from modelkit.errors import UsageError
from modelkit.lifecycle.evaluation.figures import interval_text

CheckOutcome = Literal["pass", "fail", "unclear"]
CheckPart = Literal["contract", "floor", "metric", "veto", "slice", "budget", "own"]


@final
@dataclass(frozen=True)
class GateCheck:
    """One question of a gate and its answer.

    A check that fails blocks. A required one that is unclear leaves the gate without an answer; one
    that is not required stops nothing.

    Attributes:
        name: such as "accuracy" or "accuracy where region is north"; once in a Verdict.
        question: what is asked, in a sentence.
        outcome: "pass", "fail" or "unclear".
        required: whether a promotion needs it to pass.
        part: what kind of question it is: "contract", "floor", "metric", "veto", "slice", "budget",
            or "own" for checks of the caller.
        formula: how the estimate and its test are computed.
        estimate: what was measured; None without a number.
        low: the lower end of its interval; None where there is none.
        high: the upper end.
        level: of the interval, such as .9; None where there is none.
        bound: what the estimate is compared with; None where there is nothing.
        p: the p-value that decided; None without a test.
        alpha: the level that this p-value was compared with; None without a test.
        text: what was found, in a sentence.
        rows_needed: how many rows would show it, with a probability of .8, if the candidate is as
            good as the champion; None where that cannot be said, as of a floor and at a margin of
            0, or where it is shown.
        model_digest: `Manifest.model_digest` of the model that it is about, and a gate refuses it for
            another candidate; empty where it does not say. A Verdict names its candidate, and does not
            store it.

    Raises:
        UsageError: for any other outcome.
    """

    name: str
    question: str
    outcome: CheckOutcome
    required: bool = True
    part: CheckPart = "own"
    formula: str = ""
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    bound: float | None = None
    p: float | None = None
    alpha: float | None = None
    text: str = ""
    rows_needed: int | None = None
    model_digest: str = field(default="", compare=False)

    __repr__ = fields.brief

    def __post_init__(self) -> None:
        # Any other word would be no "fail", and so stop nothing.
        if self.outcome not in get_args(CheckOutcome):
            known = ", ".join(map(repr, get_args(CheckOutcome)))
            raise UsageError(
                f"the outcome of the check {self.name!r} is one of {known}, not {self.outcome!r}"
            )

    def __str__(self) -> str:
        figure = self.figure if self.estimate is not None else ""
        parts = (f"{self.outcome:<7} {self.name}", figure, self.text)
        return ": ".join(part for part in parts if part)

    @property
    def figure(self) -> str:
        """The estimate, its interval and what they are compared with, in a few characters."""
        return "; ".join(part for part in (self.interval_text, self.test_text) if part)

    @property
    def interval_text(self) -> str:
        """The estimate and its interval."""
        if self.estimate is None:
            return ""
        return interval_text(self.estimate, self.low, self.high)

    @property
    def test_text(self) -> str:
        """What the estimate is compared with, and the p-value."""
        parts = []
        if self.bound is not None and self.estimate is not None:
            parts.append(f"bound {self.bound:.3g}")
        if self.p is not None and self.alpha is not None:
            parts.append(f"p {self.p:.2g} at {self.alpha:.2g}")
        return ", ".join(parts)
