"""The pictures of an Evaluation as inline SVG, without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10

from modelkit.lifecycle.evaluation.calibrated import ReliabilityBin
from modelkit.lifecycle.evaluation.details import ResidualBand, ScoreCurve
from modelkit.lifecycle.evaluation.figures import MetricFigure, figure_text
from modelkit.lifecycle.evaluation.learning import LearningCurve
from modelkit.lifecycle.evaluation.plot import Plot, range_of
from modelkit.report.html import escape

UNIT = (0.0, 1.0)
INTERVAL_WIDTH = 160
INTERVAL_HEIGHT = 16


def curve_chart(curves: Sequence[ScoreCurve]) -> str:
    """The curves of one kind, the first in colour; all share the unit square."""
    roc = curves[0].name == "roc"
    names = ("false positive rate", "true positive rate") if roc else ("recall", "precision")
    axes = Plot(UNIT, UNIT, *names)
    inside = axes.line(UNIT, UNIT, "chance") if roc else ""
    for place, curve in enumerate(curves):
        kind = "curve" if len(curves) == 1 else f"curve c{place % 5}"
        x = curve.x if roc else _stepped(curve.x, ends=True)
        y = curve.y if roc else _stepped(curve.y, ends=False)
        inside += f"<g><title>{escape(curve.label)}</title>{axes.line(x, y, kind)}</g>"
    return axes.picture(f"{names[1]} by {names[0]}", inside)


def _stepped(values: Sequence[float], *, ends: bool) -> list[float]:
    """The corners of a step line, on which the precision of the next recall holds."""
    doubled = [value for value in values for _ in range(2)]
    return doubled[1:] if ends else doubled[:-1]


def reliability_chart(bins: Sequence[ReliabilityBin]) -> str:
    """How often each bin of probabilities came true, with its interval, beside the diagonal."""
    axes = Plot(UNIT, UNIT, "predicted probability", "observed share")
    inside = axes.line(UNIT, UNIT, "chance")
    for each in bins:
        share = f"observed {each.observed:.3g} [{each.low:.3g}, {each.high:.3g}]"
        inside += axes.bar(each.predicted, each.low, each.high)
        label = f"predicted {each.predicted:.3g}, {share}, {each.rows:,} rows"
        inside += axes.dot(each.predicted, each.observed, label)
    return axes.picture("reliability", inside)


def residual_chart(bands: Sequence[ResidualBand]) -> str:
    """The quantiles of residuals by prediction: 5 to 95 % thin, 25 to 75 % thick, the median a dot."""
    x = range_of([band.predicted for band in bands])
    ends = [value for band in bands for value in (band.quantiles[0], band.quantiles[-1])]
    axes = Plot(x, range_of([*ends, 0.0]), "prediction", "truth less prediction")
    inside = axes.line(x, (0.0, 0.0), "chance")
    for band in bands:
        low, lower, median, upper, high = band.quantiles
        inside += axes.bar(band.predicted, low, high)
        thick = axes.bar(band.predicted, lower, upper)
        inside += f'<g class="thick">{thick}</g>'
        told = f"predicted {band.predicted:.3g}: median residual {median:.3g}, {band.rows:,} rows"
        inside += axes.dot(band.predicted, median, told)
    return axes.picture("residuals", inside)


def learning_chart(curve: LearningCurve) -> str:
    """The metric by training rows, on a logarithmic scale."""
    points = curve.points
    ends = [point.value for point in points]
    ends += [end for point in points for end in (point.low, point.high) if end is not None]
    places = [log10(point.rows) for point in points]
    marks = [f"{point.rows:,.0f}" for point in points]
    named = tuple(zip(places, marks, strict=True))
    axes = Plot(range_of(places), range_of(ends), "training rows", curve.name, named)
    inside = axes.line(places, [point.value for point in points], "curve")
    for place, point in zip(places, points, strict=True):
        if point.low is not None and point.high is not None:
            inside += axes.bar(place, point.low, point.high)
        told = f"{point.rows:,.0f} rows: {curve.name} {point.value:.3g}"
        inside += axes.dot(place, point.value, told)
    return axes.picture(f"{curve.name} by training rows", inside)


def interval_bar(figure: MetricFigure, low: float, high: float, mark: float | None = None) -> str:
    """A figure and its interval on a scale from low to high, on one line of a table.

    `mark` is a value that others are compared with, drawn as a rule.
    """
    if figure.value is None:
        return ""
    span = (high - low) or 1.0

    def across(value: float) -> float:
        return 4 + (INTERVAL_WIDTH - 8) * min(max((value - low) / span, 0), 1)

    middle = INTERVAL_HEIGHT / 2
    ends = (figure.low, figure.high)
    inside = f'<path class="rule" d="M4 {middle}H{INTERVAL_WIDTH - 4}"/>'
    if mark is not None:
        inside += f'<path class="mark" d="M{across(mark):.1f} 0V{INTERVAL_HEIGHT}"/>'
    if ends[0] is not None and ends[1] is not None:
        inside += f'<path class="bar" d="M{across(ends[0]):.1f} {middle}H{across(ends[1]):.1f}"/>'
    dot = f'<circle class="dot" cx="{across(figure.value):.1f}" cy="{middle}" r="3.5"/>'
    label = f'role="img" aria-label="{escape(figure_text(figure))}"'
    size = f'viewBox="0 0 {INTERVAL_WIDTH} {INTERVAL_HEIGHT}" class="line"'
    return f"<svg {size} {label}>{inside}{dot}</svg>"
