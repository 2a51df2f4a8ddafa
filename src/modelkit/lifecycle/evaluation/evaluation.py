"""What a model is worth on labelled rows, as a value: printed, as JSON, as a frame and as a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, final

from modelkit._internal import fields
from modelkit._internal.json import read_report, to_record
from modelkit.errors import PackageError, UsageError, importing
from modelkit.lifecycle.evaluation import page
from modelkit.lifecycle.evaluation.answered import TaskKind
from modelkit.lifecycle.evaluation.details import Confusion, ResidualBand, ScoreCurve
from modelkit.lifecycle.evaluation.figures import (
    ClassFigures,
    MetricFigure,
    SliceFigures,
    figure_text,
)
from modelkit.lifecycle.evaluation.gap import JUDGED_BY, TrainingGap
from modelkit.lifecycle.evaluation.leakage import LeakageCheck
from modelkit.lifecycle.evaluation.robustness import RobustnessReport
from modelkit.report import html
from modelkit.report.listing import Listing
from modelkit.signature.signature import Signature
from modelkit.stats.calibration import ReliabilityBin

EVALUATION_SCHEMA = "modelkit.evaluation/1"
EVALUATION_NAME = "evaluation"
CURVE_TITLES = {"roc": "ROC", "precision_recall": "Precision and recall"}
# The figures that a page cannot be without, by task.
DRAWN: dict[TaskKind, tuple[str, ...]] = {
    **JUDGED_BY,
    "binary": (*JUDGED_BY["binary"], "average_precision"),
    "multiclass": (*JUDGED_BY["multiclass"], "roc_auc", "average_precision"),
    "multilabel": (*JUDGED_BY["multilabel"], "average_precision"),
}


@final
@dataclass(frozen=True, repr=False)
class Evaluation:
    """What a model is worth on labelled rows; it holds none of them.

        evaluation = mk.evaluate("churn.mk", X_test, y_test)
        evaluation["accuracy"].low, evaluation["accuracy"].high

    Attributes:
        kind: of task: "binary", "multiclass", "multilabel", "regression", "ranking", "clustering"
            or "retrieval".
        model: the name and version of the package, or the class of what was evaluated.
        model_digest: `Manifest.model_digest` of the package; empty without a package. It stays when an
            Evaluation is attached.
        rows: how many rows were evaluated.
        independent: how many of them are: clusters or queries, where there are some.
        level: of every interval, such as .95.
        weighted: whether rows had weights.
        data_digest: of the rows as the model takes them and their truth, in any order; two
            Evaluations, or an Evaluation and a Verdict, with the same one are of the same rows.
        figures: every metric of the task; with training rows "membership_advantage" as well.
        positive: of a binary task, the class as text to which precision, recall, F1, areas,
            calibration and pictures belong; empty for other tasks.
        classes: the figures of each class or label.
        slices: the figures of some of the rows; they print as a table of the first figure.
        confusion: of a classifier of at most 50 classes; else None.
        curves: ROC and precision-recall.
        reliability: whether probabilities come true, by ten bins.
        residuals: of a regressor, by bands of predictions.
        gaps: how much better it is on its training rows, by metric; empty without them.
        fit: a sentence on whether it looks over- or underfitted; empty without training rows.
        leaks: the checks for leaks between training and test.
        folds: of a cross-validation; 0 for a model that was evaluated as it is.
        robustness: how often its decisions flip when rows change, where you passed it; else None.
        notes: what you have to know when you read the figures.
        versions: of the libraries that computed it, by name.
    """

    kind: TaskKind
    model: str
    model_digest: str
    rows: int
    independent: int
    level: float
    weighted: bool
    data_digest: str
    figures: tuple[MetricFigure, ...]
    positive: str = ""
    classes: tuple[ClassFigures, ...] = ()
    slices: tuple[SliceFigures, ...] = ()
    confusion: Confusion | None = None
    curves: tuple[ScoreCurve, ...] = ()
    reliability: tuple[ReliabilityBin, ...] = ()
    residuals: tuple[ResidualBand, ...] = ()
    gaps: tuple[TrainingGap, ...] = ()
    fit: str = ""
    leaks: tuple[LeakageCheck, ...] = ()
    folds: int = 0
    notes: tuple[str, ...] = ()
    versions: dict[str, str] | None = None
    robustness: RobustnessReport | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "slices", Listing(self.slices))
        names = [figure.name for figure in self.figures]
        lacking = [name for name in DRAWN[self.kind] if name not in names]
        if lacking or len(set(names)) < len(names):
            raise ValueError(
                f"an Evaluation of a {self.kind} task has each of {DRAWN[self.kind]} once"
            )

    def __getitem__(self, name: str) -> MetricFigure:
        """The figure of a metric. Raises KeyError for one that the task does not have."""
        return fields.item_named(self.figures, name, "metric")

    def __str__(self) -> str:
        lines = [f"{self._title()}: {self._what()}", *map(str, self.figures), *self.remarks]
        return "\n  ".join([*lines, *str(self.slices or "").splitlines()])

    __repr__ = fields.brief

    @property
    def remarks(self) -> list[str]:
        """What has to be known beside the figures: how it is fitted, leaks, robustness and notes."""
        lines = [self.fit] if self.fit else []
        lines += [f"LEAK? {check}" for check in self.leaks if check.found]
        lines += [] if self.robustness is None else self.robustness.lines
        return lines + [f"note: {note}" for note in self.notes]

    @property
    def parts(self) -> list[tuple[str, str, int, tuple[MetricFigure, ...]]]:
        """The figures of all rows, of classes and of slices: what each part is, its value, and how many rows."""
        return [
            ("all", "", self.rows, self.figures),
            *(("class", own.label, own.rows, own.figures) for own in self.classes),
            *((own.column, own.value, own.rows, own.figures) for own in self.slices),
        ]

    def _title(self) -> str:
        return f"Evaluation of {self.model}"

    def _what(self) -> str:
        rows = f"{self.kind}, {self.rows:,} rows"
        if self.independent != self.rows:
            rows += (
                f" in {self.independent:,} {'queries' if self.kind == 'ranking' else 'clusters'}"
            )
        if self.weighted:
            rows += ", weighted"
        if self.folds:
            rows += f", cross-validated in {self.folds} folds"
        return f"{rows}, intervals of {self.level:.0%}"

    def to_json(self) -> str:
        """Everything, as one line of ASCII."""
        return to_record(self, EVALUATION_SCHEMA)

    @staticmethod
    def from_json(text: str) -> Evaluation:
        """The inverse of `to_json`. Raises PackageError for any other text."""
        return read_report(Evaluation, text, EVALUATION_SCHEMA, "an Evaluation")

    def to_attachment(self, signature: Signature | None = None) -> tuple[str, str, bytes]:
        """Name, media type and bytes, as a package keeps them."""
        return EVALUATION_NAME, "application/json", self.to_json().encode("ascii")

    @staticmethod
    def packaged(model: Any) -> Evaluation:
        """The Evaluation in the package of a Model, or of whatever has its `manifest` and `attachments`.

        Raises UsageError where there is none, and PackageError where it is of another model.
        """
        data = model.attachments.get(EVALUATION_NAME)
        if data is None or model.manifest is None:
            raise UsageError(
                "the package lacks an Evaluation; add one: mk.attach(path, evaluation=...)"
            )
        found = Evaluation.from_json(str(data, "utf-8", "replace"))
        if found.model_digest != model.manifest.model_digest:
            raise PackageError("the Evaluation in the package is of another model")
        return found

    def to_dataframe(self) -> Any:
        """A pandas frame with a row for each figure: of all rows, of classes and of slices.

        Its columns are "part", "value", "rows", "metric", "figure", "low", "high" and "why".
        """
        with importing("pandas", "Evaluation.to_dataframe", "frames"):
            import pandas as pd

        rows = [
            (*part, each.name, each.value, each.low, each.high, each.why)
            for *part, figures in self.parts
            for each in figures
        ]
        names = ["part", "value", "rows", "metric", "figure", "low", "high", "why"]
        numbers = dict.fromkeys(("figure", "low", "high"), "float64")
        return pd.DataFrame(rows, columns=names).astype(numbers)

    def to_html(self) -> str:
        """A page of its own with pictures; it contains no scripts and loads nothing."""
        body = [
            html.element("p", self._what(), class_="soft"),
            page.fit_box(self.fit),
            page.leaks_box(self.leaks),
            page.figures_part(self.kind, self.figures),
            page.pictures_part(self._pictures()),
            page.confusion_part(self.confusion),
            page.slices_part(self.slices, self._judged()),
            page.classes_part(self.classes),
            page.gaps_part(self.gaps),
            "" if self.robustness is None else self.robustness.part(),
            html.part("About", html.table((), self._about())),
        ]
        return html.page(self._title(), *body, style=page.STYLE)

    def _pictures(self) -> Iterator[html.Markup]:
        for curves, area in self._curves():
            yield page.curves_part(CURVE_TITLES[curves[0].name], curves, area)
        yield page.reliability_part(self.reliability, self.positive)
        yield page.residuals_part(self.residuals)

    def plot(self, picture: str | None = None, *, ax: Any = None) -> Any:
        """Draw one picture; returns the matplotlib Axes.

            evaluation.plot("confusion").figure.savefig("confusion.png")

        Args:
            picture: "roc", "precision_recall", "reliability", "confusion", "residuals" or "figures";
                by default the first of these that there is.
            ax: the Axes to draw on; None for a new figure.

        Raises:
            UsageError: for a picture that this Evaluation does not have.
            MissingExtraError: if matplotlib is not installed.
        """
        there = dict(self._drawable())
        chosen = next(iter(there)) if picture is None else picture
        if chosen not in there:
            raise UsageError(
                f"this Evaluation lacks the picture {picture!r}; it has {', '.join(there)}"
            )
        return page.draw(there[chosen], ax)

    def _curves(self) -> Iterator[tuple[list[ScoreCurve], MetricFigure]]:
        """The curves of each kind, and the area under them."""
        for name, area in (("roc", "roc_auc"), ("precision_recall", "average_precision")):
            curves = [curve for curve in self.curves if curve.name == name]
            if curves:
                yield curves, self[area]

    def _drawable(self) -> Iterator[tuple[str, page.Draw]]:
        """The pictures that there are, by name."""
        for curves, area in self._curves():
            yield curves[0].name, partial(page.draw_curves, curves, area)
        if self.reliability:
            yield "reliability", partial(page.draw_reliability, self.reliability)
        if self.confusion is not None:
            yield "confusion", partial(page.draw_confusion, self.confusion)
        if self.residuals:
            yield "residuals", partial(page.draw_residuals, self.residuals)
        yield "figures", partial(page.draw_figures, self.figures)

    def _judged(self) -> MetricFigure:
        """The figure that slices are shown by."""
        for name in JUDGED_BY[self.kind]:
            if self[name].value is not None:
                return self[name]
        return self.figures[0]

    def _about(self) -> list[tuple[str, str]]:
        facts = [("check", str(check)) for check in self.leaks]
        facts += [("note", note) for note in self.notes]
        if self.model_digest:
            facts.append(("model", f"sha256:{self.model_digest}"))
        facts.append(("rows and truth", f"sha256:{self.data_digest}"))
        versions = [f"{name} {release}" for name, release in (self.versions or {}).items()]
        return [*facts, ("computed by", ", ".join(versions))]

    def _repr_html_(self) -> str:
        facts = [("rows", self._what())]
        facts += [(figure.title, figure_text(figure)) for figure in self.figures]
        facts += [("remark", remark) for remark in self.remarks]
        return html.card(self._title(), facts)
