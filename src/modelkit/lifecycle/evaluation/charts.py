"""The pictures of an Evaluation as inline SVG, without scripts."""

from __future__ import annotations

from collections.abc import Sequence

from modelkit.lifecycle.evaluation.calibrated import ReliabilityBin
from modelkit.lifecycle.evaluation.details import ResidualBand, ScoreCurve
from modelkit.lifecycle.evaluation.figures import MetricFigure, figure_text
from modelkit.report.html import Markup, element
from modelkit.report.plot import Axis, Plot, range_of

UNIT = (0.0, 1.0)
INTERVAL_WIDTH = 160
INTERVAL_HEIGHT = 16


def curve_chart(curves: Sequence[ScoreCurve]) -> Markup:
    """The curves of one kind, the first in colour; all share the unit square."""
    roc = curves[0].name == "roc"
    names = ("false positive rate", "true positive rate") if roc else ("recall", "precision")
    plot = Plot(Axis(*UNIT, names[0]), Axis(*UNIT, names[1]))
    marks = [plot.line(UNIT, UNIT, "limit")] if roc else []
    for place, curve in enumerate(curves):
        look = "curve" if len(curves) == 1 else f"curve c{place % 5}"
        x = curve.x if roc else _stepped(curve.x, ends=True)
        y = curve.y if roc else _stepped(curve.y, ends=False)
        marks.append(plot.line(x, y, look, curve.label))
    return plot.picture(f"{names[1]} by {names[0]}", *marks)


def _stepped(values: Sequence[float], *, ends: bool) -> list[float]:
    """The corners of a step line, on which the precision of the next recall holds."""
    doubled = [value for value in values for _ in range(2)]
    return doubled[1:] if ends else doubled[:-1]


def reliability_chart(bins: Sequence[ReliabilityBin]) -> Markup:
    """How often each bin of probabilities came true, with its interval, beside the diagonal."""
    plot = Plot(Axis(*UNIT, "predicted probability"), Axis(*UNIT, "observed share"))
    marks = [plot.line(UNIT, UNIT, "limit")]
    for each in bins:
        share = f"observed {each.observed:.3g} [{each.low:.3g}, {each.high:.3g}]"
        about = f"predicted {each.predicted:.3g}, {share}, {each.rows:,} rows"
        marks.append(_upright(plot, each.predicted, (each.low, each.high)))
        marks.append(plot.dot(each.predicted, each.observed, about=about))
    return plot.picture("reliability", *marks)


def _upright(plot: Plot, x: float, ends: tuple[float, float], look: str = "bar") -> Markup:
    """An interval on the y axis."""
    return plot.line((x, x), ends, look)


def residual_chart(bands: Sequence[ResidualBand]) -> Markup:
    """The quantiles of residuals by prediction: 5 to 95 % thin, 25 to 75 % thick, the median a dot."""
    x = range_of([band.predicted for band in bands])
    ends = [value for band in bands for value in (band.quantiles[0], band.quantiles[-1])]
    plot = Plot(Axis(*x, "prediction"), Axis(*range_of([*ends, 0.0]), "truth less prediction"))
    marks = [plot.line(x, (0.0, 0.0), "limit")]
    for band in bands:
        low, lower, median, upper, high = band.quantiles
        about = f"predicted {band.predicted:.3g}: median residual {median:.3g}, {band.rows:,} rows"
        marks.append(_upright(plot, band.predicted, (low, high)))
        marks.append(_upright(plot, band.predicted, (lower, upper), "bar thick"))
        marks.append(plot.dot(band.predicted, median, about=about))
    return plot.picture("residuals", *marks)


def interval_bar(
    figure: MetricFigure, low: float, high: float, mark: float | None = None
) -> Markup:
    """A figure and its interval on a scale from low to high, on one line of a table.

    `mark` is a value that others are compared with, drawn as a rule.
    """
    if figure.value is None:
        return Markup()
    plot = Plot(Axis(low, high), Axis(0, 1), INTERVAL_WIDTH, INTERVAL_HEIGHT, 4, 4, 0, 0)
    marks = [plot.line((low, high), (0.5, 0.5), "rule")]
    if mark is not None:
        marks.append(plot.line((mark, mark), UNIT, "mark"))
    if figure.low is not None and figure.high is not None:
        marks.append(plot.line((figure.low, figure.high), (0.5, 0.5), "bar"))
    marks.append(plot.dot(figure.value, 0.5))
    size = f"0 0 {INTERVAL_WIDTH} {INTERVAL_HEIGHT}"
    named = {"role": "img", "aria_label": figure_text(figure)}
    return element("svg", *marks, class_="plot line", viewBox=size, **named)
