"""The page of an Evaluation, with its pictures as inline SVG, without scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelkit.lifecycle.evaluation.answered import TaskKind
from modelkit.lifecycle.evaluation.calibrated import BrierParts, ReliabilityBin
from modelkit.lifecycle.evaluation.details import Confusion, ResidualBand, ScoreCurve
from modelkit.lifecycle.evaluation.figures import (
    ClassFigures,
    MetricFigure,
    SliceFigures,
    figure_text,
)
from modelkit.lifecycle.evaluation.gap import TrainingGap
from modelkit.lifecycle.evaluation.leakage import LeakageCheck
from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.report import html
from modelkit.report.html import Markup, element, joined
from modelkit.report.plot import Axis, Plot, range_of

UNIT = (0.0, 1.0)
INTERVAL_WIDTH = 160
INTERVAL_HEIGHT = 16
PAGE_STYLE = """
.plot .mark{stroke:var(--second);stroke-width:1.4}
svg.line{width:160px;height:16px;margin:2px 0 0;display:inline-block}
.side{color:var(--soft);white-space:nowrap}.why{color:var(--soft);min-width:15em}
@media (max-width:620px){svg.line,.side{display:none}}
.num{white-space:nowrap;font-variant-numeric:tabular-nums}
.confusion td,.confusion th{padding:5px 9px;border:1px solid var(--line);white-space:nowrap}
.confusion td{text-align:right;position:relative}
.confusion td i{position:absolute;inset:0;background:var(--first)}
.confusion td.wrong i{background:var(--second)}
.confusion td b{position:relative;font-weight:normal;font-variant-numeric:tabular-nums}
.confusion td small{position:relative;display:block;color:inherit;opacity:.75}
"""
MOST_SHOWN_CLASSES = 12
MOST_SHOWN_SLICES = 60


def fit_box(fit: str) -> Markup:
    """Whether it looks over- or underfitted, in words."""
    look = "box bad" if fit.startswith(("It looks overfitted", "It looks under")) else "box"
    return element("div", element("p", fit), class_=look) if fit else Markup()


def leaks_box(leaks: Sequence[LeakageCheck]) -> Markup:
    """The signs of a leak, if there are any."""
    found = [check for check in leaks if check.found]
    if not found:
        return Markup()
    title = element("b", "Signs of a leak between training and test")
    items = [joined(element("b", check.name), f": {check.text}") for check in found]
    return element("div", title, html.bullets(items), class_="box bad")


def figures_part(kind: TaskKind, figures: Sequence[MetricFigure]) -> Markup:
    """Every metric, with its interval drawn where it is from 0 to 1."""
    known = METRICS[kind]
    rows = []
    for figure in figures:
        metric = known.get(figure.name)
        drawn = Markup()
        if metric is not None and metric.domain == "share":
            drawn = interval_bar(figure, 0.0, 1.0)
        rows.append((figure.title, _number(figure_text(figure)), drawn, _beside(figure)))
    return html.part("Figures", html.table((), rows))


def _number(text: str) -> Markup:
    return element("span", text, class_="num")


def _beside(figure: MetricFigure) -> Markup:
    """Why a figure is not known, or which way is better."""
    if figure.why:
        return _why(figure)
    side = {True: "higher is better", False: "lower is better", None: ""}[figure.higher_is_better]
    return element("span", side, class_="side")


def _why(figure: MetricFigure) -> Markup:
    return element("div", figure.why, class_="why") if figure.why else Markup()


def pictures_part(pictures: Iterable[Markup]) -> Markup:
    """The pictures that there are, side by side."""
    shown = [picture for picture in pictures if picture]
    return html.part("Pictures", element("div", *shown, class_="grid")) if shown else Markup()


def reliability_part(
    bins: Sequence[ReliabilityBin], parts: BrierParts | None, positive: str
) -> Markup:
    """Whether probabilities come true: of two classes those of the positive one."""
    if not bins:
        return Markup()
    words = f"the probability of {positive}, in " if positive else ""
    words += "bins of about equal numbers of rows, with Wilson's intervals"
    if parts is not None:
        words += f"; Brier: reliability {parts.reliability:.3g}"
        words += f", resolution {parts.resolution:.3g}, uncertainty {parts.uncertainty:.3g}"
    return html.section("Do probabilities come true?", words, reliability_chart(bins))


def residuals_part(bands: Sequence[ResidualBand]) -> Markup:
    """The residuals of a regressor."""
    if not bands:
        return Markup()
    words = "quantiles of the residuals: 5 to 95 % thin, 25 to 75 % thick, the median a dot"
    return html.section("Residuals by prediction", words, residual_chart(bands))


def curves_part(title: str, curves: Sequence[ScoreCurve], area: MetricFigure) -> Markup:
    """The curves of one kind, with the area under them."""
    if not curves:
        return Markup()
    shown = curves[:5]
    words = f"{area.title} {figure_text(area)}"
    if len(curves) > 1:
        styles = ("blue", "orange", "blue dashes", "orange dashes", "grey")
        labels = [f"{curve.label} {style}" for curve, style in zip(shown, styles, strict=False)]
        words = f"{words}, mean of the classes; {', '.join(labels)}"
    return html.section(title, words, curve_chart(shown))


def confusion_part(confusion: Confusion | None) -> Markup:
    """Who is mistaken for whom."""
    if confusion is None:
        return Markup()
    shown = confusion.labels[:MOST_SHOWN_CLASSES]
    corner = "true \N{DOWNWARDS ARROW} predicted \N{RIGHTWARDS ARROW}"
    heads = [element("th", text) for text in (corner, *map(html.short, shown))]
    rows = [element("tr", *heads)]
    for k, label in enumerate(shown):
        cells = [_confusion_cell(confusion, k, j) for j in range(len(shown))]
        rows.append(element("tr", element("th", html.short(label)), *cells))
    words = "Rows, their share of the true class, and Wilson's interval of it."
    table = element("div", element("table", *rows, class_="confusion"), class_="wide")
    rest = html.more(len(confusion.labels), len(shown), "classes")
    return html.part("Confusion", element("p", words, class_="soft"), table, rest)


def _confusion_cell(confusion: Confusion, k: int, j: int) -> Markup:
    count = confusion.counts[k][j]
    total = sum(confusion.counts[k])
    if not total:
        return element("td", "-")
    share = count / total
    interval = f"{share:.1%} [{confusion.low[k][j]:.1%}, {confusion.high[k][j]:.1%}]"
    inside = (
        element("i", style=f"opacity:{0.4 * share:.2f}"),
        element("b", html.number(count)),
        element("small", interval),
    )
    return element("td", *inside, class_="" if k == j else "wrong")


def slices_part(slices: Sequence[SliceFigures], whole: MetricFigure) -> Markup:
    """One metric of every slice beside that of all rows."""
    if not slices:
        return Markup()
    figures = []
    for part in slices[:MOST_SHOWN_SLICES]:
        figures += [figure for figure in part.figures if figure.name == whole.name]
    ends = []
    for figure in (*figures, whole):
        values = (figure.low, figure.value, figure.high)
        ends += [value for value in values if value is not None]
    scale = (min(ends), max(ends)) if ends else (0.0, 1.0)
    rows = []
    for part, figure in zip(slices, figures, strict=False):
        numbers = map(_number, (f"{part.rows:,}", figure_text(figure)))
        drawn = interval_bar(figure, *scale, whole.value)
        rows.append((part.column, html.short(part.value), *numbers, drawn, _why(figure)))
    words = (
        f"{whole.title}, with its interval; the line across marks all rows. Of many slices some differ "
        "by chance."
    )
    table = html.table(("column", "value", "rows", whole.title, "", ""), rows)
    rest = html.more(len(slices), len(figures), "slices")
    return html.part("Slices", element("p", words, class_="soft"), table, rest)


def classes_part(classes: Sequence[ClassFigures]) -> Markup:
    """The figures of each class."""
    if not classes:
        return Markup()
    names = [figure.name for figure in classes[0].figures]
    rows = [(each.label, f"{each.rows:,}", *map(figure_text, each.figures)) for each in classes]
    return html.part("Classes", html.table(("class", "rows", *names), rows))


def gaps_part(gaps: Sequence[TrainingGap]) -> Markup:
    """Each metric on training rows and on the others."""
    if not gaps:
        return Markup()
    rows = []
    for gap in gaps:
        interval = "-"
        if gap.low is not None and gap.high is not None:
            interval = f"{gap.low:.3g} to {gap.high:.3g}"
        values = (f"{gap.train:.3g}", f"{gap.held_out:.3g}", f"{gap.gap:.3g}", interval)
        rows.append((gap.name, *values))
    header = ("metric", "training rows", "held-out rows", "better on training rows by", "interval")
    return html.part("Training rows and held-out rows", html.table(header, rows))


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
