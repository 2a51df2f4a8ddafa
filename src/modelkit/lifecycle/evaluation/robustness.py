"""How often the decisions of a model flip when its rows change, as a value that stores no rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from numbers import Real
from typing import final

from modelkit._internal import fields
from modelkit._internal.json import read_report, to_record
from modelkit.errors import UsageError
from modelkit.lifecycle.evaluation.check import CheckOutcome, GateCheck
from modelkit.lifecycle.evaluation.figures import MetricFigure
from modelkit.report import html
from modelkit.report.plot import interval_picture
from modelkit.signature.spec import check_ranges
from modelkit.stats.intervals import clopper_pearson

ROBUSTNESS_SCHEMA = "modelkit.robustness/1"
FAR = "times the usual distance from the median"  # a spread, in words


@final
@dataclass(frozen=True)
class Constraints:
    """What an attack may change in a row.

        mk.Constraints(step=0.25, most_columns=2, immutable=["age"], ranges={"income": (0, 200_000)})

    Attributes:
        step: how far each number may move, in spreads of its column: the mean distance of its values
            from their median.
        most_columns: how many columns of a row may change at once.
        immutable: the names of columns that stay as they are.
        ranges: by column, the least and the greatest number that an attack may put there; in other
            columns, the least and the greatest of the rows.

    Raises:
        UsageError: for a step or a number of columns that is not above 0, and for a range that is not a
            least and a greatest number.
    """

    step: float = 0.5
    most_columns: int = 3
    immutable: tuple[str, ...] = ()
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fields.freeze(self, "immutable")
        step = self.step if isinstance(self.step, Real) else 0
        if not 0 < step < inf or type(self.most_columns) is not int or self.most_columns < 1:
            raise UsageError(
                "step is a number of spreads above 0, such as .5, and most_columns counts columns from 1 "
                f"on, not {self.step!r} and {self.most_columns!r}"
            )
        check_ranges(self.ranges)


@final
@dataclass(frozen=True)
class RobustnessFigure:
    """How many decisions flipped by one kind of error, or by one attack.

    Attributes:
        name: such as "noise 0.1" or "greedy". "greedy where region is north" is about one slice, and
            "greedy of at most 1 column" counts flips that took no more columns. Names differ within a report.
        rows: how many rows were changed: all; or by an attack, those that were decided rightly before.
        flipped: how many of them flipped.
        low: the lower end of the exact interval of the share (Clopper and Pearson).
        high: the upper end.
        about: what was done to the rows, in a sentence. It is empty where the figure is a part of another,
            by slice or by fewer columns; so are the attributes below.
        refused: how many the model refused with an error, although its signature takes them; they did
            not flip.
        queries: how many rows the model was asked for.
        distance: how far the number that moved farthest in a row moved, in spreads: the median over the
            rows that flipped; None where none flipped, and 0 where no number moved.
        after: the primary metric of the changed rows. Attacked rows of a classifier were all right before, so
            compare it with 1, not with `RobustnessReport.before`.
    """

    name: str
    rows: int
    flipped: int
    low: float
    high: float
    about: str = ""
    refused: int = 0
    queries: int = 0
    distance: float | None = None
    after: MetricFigure | None = None

    __repr__ = fields.brief

    @property
    def share(self) -> float:
        """The share of the rows that flipped; 0 without rows."""
        return self.flipped / max(self.rows, 1)

    @property
    def text(self) -> str:
        """The share and its interval."""
        return f"{self.share:.1%} [{self.low:.1%}, {self.high:.1%}]"

    @property
    def rest(self) -> str:
        """The rest of a line: the metric after the change, the distance and the queries."""
        refused = f"; {self.refused:,} refused" if self.refused else ""
        far = f"; moved by {self.distance:.2g} {FAR}" if self.distance else ""
        return (
            f"then {self.after or 'no rows'}{far}; {self.queries:,} queries{refused}"
            if self.about
            else ""
        )

    def __str__(self) -> str:
        return (
            f"{self.name} flips {self.text} of {self.rows:,} rows{self.about and ': ' + self.rest}"
        )


@final
@dataclass(frozen=True, repr=False)
class RobustnessReport:
    """How often the decisions of a model flip when its rows change; it stores no rows.

        report = mk.robustness(model, X_test, y_test)
        mk.evaluate(model, X_test, y_test, robustness=report)

    A decision is the label, or all labels of a row. The prediction of a regressor flips where it moves
    by more than the tolerance. What an attack did not flip may flip all the same: it searched only
    as far as its queries went.

    Attributes:
        model: the name and version of the package, or the class of the model.
        model_digest: `Manifest.model_digest` of the package; empty without a package.
        data_digest: the digest of the rows and their truth, as in `Evaluation.data_digest`.
        rows: how many rows you passed.
        level: the level of every interval, such as .95.
        seed: the seed of all that was drawn at random.
        constraints: what attacks kept to.
        before: the primary metric of all rows, unchanged.
        figures: first noise and errors, which the constraints do not limit, then attacks.
        notes: what you have to know when you read the figures.
    """

    model: str
    model_digest: str
    data_digest: str
    rows: int
    level: float
    seed: int
    constraints: Constraints
    before: MetricFigure
    figures: tuple[RobustnessFigure, ...]
    notes: tuple[str, ...] = ()

    __repr__ = fields.brief

    def __getitem__(self, name: str) -> RobustnessFigure:
        """The figure of this name. Raises KeyError where there is none."""
        return fields.item_named(self.figures, name, "figure")

    def gate_check(
        self, name: str, at_most: float, *, alpha: float = 0.05, required: bool = True
    ) -> GateCheck:
        """Whether a share of flipped rows is shown to be at most a bound, as a check of `mk.gate`.

            report = mk.robustness("new.mk", X_test, y_test)
            robust = report.gate_check("greedy", at_most=0.2)
            mk.gate("new.mk", "churn.mk", X_test, y_test, margin=0.01, checks=[robust])

        It passes where the exact upper bound of the share is at most `at_most`, and fails where the
        lower bound is above. If this change flips a greater share of all rows to come, the check
        passes with a probability of at most `alpha`. Choose name and bound before you see the report.

        Raises:
            KeyError: where the report lacks the figure.
            UsageError: for a bound that is not a share of rows, or an alpha outside of 0 to .5.
        """
        shares = isinstance(at_most, Real) and isinstance(alpha, Real)
        if not shares or not 0 <= at_most < 1 or not 0 < alpha < 0.5:
            raise UsageError(
                "at_most is a share of rows from 0 to 1, and alpha above 0 and below .5, not "
                f"{at_most!r} and {alpha!r}"
            )
        found = self[name]
        level = 1 - 2 * alpha
        low, high = clopper_pearson(found.flipped, found.rows, level)
        outcome: CheckOutcome = "fail" if low > at_most else "unclear"
        return GateCheck(
            f"{name} flips at most {at_most:g}",
            f"Is the share of rows that {name} flips shown to be at most {at_most:g}?",
            "pass" if high <= at_most else outcome,
            required,
            "own",
            "a share of rows, with the exact interval of Clopper and Pearson",
            *(found.share, low, high, level, at_most),
            text=f"{found.flipped:,} of {found.rows:,} rows flipped; {self.model} {self.model_digest[:12]}",
            model_digest=self.model_digest,
        )

    @property
    def lines(self) -> Iterator[str]:
        """The figures of whole changes, and the notes."""
        yield from (str(figure) for figure in self.figures if figure.about)
        yield from (f"note: {note}" for note in self.notes)

    def __str__(self) -> str:
        return "\n  ".join([self._title, *self.lines])

    @property
    def _title(self) -> str:
        rows = f"{self.rows:,} rows, intervals of {self.level:.0%}"
        return f"Robustness of {self.model}: {rows}, before {self.before}"

    def to_json(self) -> str:
        """Everything, as one line of ASCII."""
        return to_record(self, ROBUSTNESS_SCHEMA)

    @staticmethod
    def from_json(text: str) -> RobustnessReport:
        """The inverse of `to_json`. Raises PackageError for any other text."""
        return read_report(RobustnessReport, text, ROBUSTNESS_SCHEMA, "a RobustnessReport")

    def to_html(self) -> str:
        """A page of its own; it contains no scripts and loads nothing."""
        digests = [f"model sha256:{self.model_digest}", f"rows and truth sha256:{self.data_digest}"]
        return html.page(self._title, self.part(), html.bullets(digests))

    def _repr_html_(self) -> str:
        return html.card(self._title, [("", line) for line in self.lines])

    def part(self) -> str:
        """The part of a page that shows it."""
        rows = [
            (
                each.name,
                html.figures(each.text),
                interval_picture(each.text, each.share, each.low, each.high, (0.0, 1.0)),
                each.about,
                each.rest,
            )
            for each in self.figures
        ]
        return html.part("Robustness", html.table((), rows), html.bullets(self.notes))
