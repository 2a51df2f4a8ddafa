"""One picture of an Evaluation, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from modelkit.errors import importing
from modelkit.lifecycle.evaluation.details import Confusion, ResidualBand, ScoreCurve
from modelkit.lifecycle.evaluation.figures import MetricFigure
from modelkit.report.html import short
from modelkit.report.sheet import BLUE
from modelkit.stats.calibration import ReliabilityBin

Draw = Callable[[Any], None]  # on Axes


def draw(picture: Draw, ax: Any) -> Any:
    """A picture on the Axes, or on new ones; returns the Axes."""
    with importing("matplotlib", "Evaluation.plot", "plot"):
        import matplotlib.pyplot as plt
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    picture(ax)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def draw_curves(curves: Sequence[ScoreCurve], area: MetricFigure, ax: Any) -> None:
    """The ROC curves, or the precision-recall curves, of each class."""
    roc = curves[0].name == "roc"
    for curve in curves:
        ax.plot(curve.x, curve.y, drawstyle="default" if roc else "steps-post", label=curve.label)
    if roc:
        _diagonal(ax)
    names = ("false positive rate", "true positive rate") if roc else ("recall", "precision")
    ax.set(xlabel=names[0], ylabel=names[1], title=str(area))
    if len(curves) > 1:
        ax.legend()


def draw_reliability(bins: Sequence[ReliabilityBin], ax: Any) -> None:
    """The observed share of each bin of probabilities, with its interval, beside the diagonal."""
    below = [each.observed - each.low for each in bins]
    above = [each.high - each.observed for each in bins]
    x, y = [each.predicted for each in bins], [each.observed for each in bins]
    _diagonal(ax)
    ax.errorbar(x, y, yerr=(below, above), fmt="o", color=BLUE)
    ax.set(xlabel="predicted probability", ylabel="observed share")


def draw_residuals(bands: Sequence[ResidualBand], ax: Any) -> None:
    """The 5, 25, 50, 75 and 95 % quantiles of residuals, by bands of predictions."""
    x = [band.predicted for band in bands]
    low, lower, median, upper, high = zip(*(band.quantiles for band in bands), strict=True)
    ax.vlines(x, low, high, color=BLUE)
    ax.vlines(x, lower, upper, color=BLUE, linewidth=6, alpha=0.45)
    ax.plot(x, median, "o", color=BLUE)
    ax.axhline(0, color=ax.spines["left"].get_edgecolor(), linewidth=0.8, linestyle="--")
    ax.set(xlabel="prediction", ylabel="truth less prediction")


def draw_confusion(confusion: Confusion, ax: Any) -> None:
    """The share of each true class that was given each class, with the counts."""
    shares = [[count / max(sum(row), 1) for count in row] for row in confusion.counts]
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for k, row in enumerate(confusion.counts):
        for j, count in enumerate(row):
            dark = shares[k][j] > 0.5
            ax.text(j, k, f"{count:,.0f}", ha="center", va="center", color="w" if dark else "k")
    labels = [short(label) for label in confusion.labels]
    ax.set_xticks(range(len(labels)), labels, rotation=45, ha="right", parse_math=False)
    ax.set_yticks(range(len(labels)), labels, parse_math=False)
    ax.set(xlabel="predicted", ylabel="true")


def draw_figures(known: Sequence[MetricFigure], ax: Any) -> None:
    """Every figure that has a value, with its interval."""
    there = [each for each in known if each.value is not None]
    for y, each in enumerate(there):
        low = each.value if each.low is None else each.low
        high = each.value if each.high is None else each.high
        ax.plot((low, high), (y, y), color=BLUE)
        ax.plot(each.value, y, "o", color=BLUE)
    ax.set_yticks(range(len(there)), [each.title for each in there], parse_math=False)
    ax.yaxis.set_inverted(True)


def _diagonal(ax: Any) -> None:
    ink = ax.spines["left"].get_edgecolor()  # of the style in force, which may be a dark one
    ax.plot((0, 1), (0, 1), "--", color=ink, linewidth=0.8)
