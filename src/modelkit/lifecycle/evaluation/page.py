"""The page of an Evaluation, with its pictures as inline SVG, without scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from modelkit.errors import importing
from modelkit.lifecycle.evaluation.answered import TaskKind
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
from modelkit.report.html import Markup, element, figures, joined, short
from modelkit.report.plot import Axis, Plot, Range, interval_picture, range_of
from modelkit.report.sheet import BLUE
from modelkit.stats.calibration import ReliabilityBin

UNIT = (0.0, 1.0)
STYLE = """
.side{color:var(--soft);white-space:nowrap}.why{color:var(--soft);min-width:15em}
@media (max-width:620px){.side{display:none}}
.confusion td,.confusion th{padding:5px 9px;border:1px solid var(--line);white-space:nowrap}
.confusion td{text-align:right;position:relative}
.confusion td i{position:absolute;inset:0;background:var(--first)}
.confusion td.wrong i{background:var(--second)}
.confusion td b{position:relative;font-weight:normal;font-variant-numeric:tabular-nums}
.confusion td small{position:relative;display:block;color:inherit;opacity:.75}
"""
MOST_SHOWN_CLASSES = 12
MOST_WITH_INTERVALS = 6  # classes whose confusions are shown with their intervals
MOST_SHOWN_SLICES = 60
MOST_SHOWN_CURVES = 5
BETTER = {True: "higher is better", False: "lower is better", None: ""}
CURVE_LOOKS = ("blue", "orange", "blue dashes", "orange dashes", "grey")


def fit_box(fit: str) -> Markup:
    """Whether it looks over- or underfitted, in words."""
    look = "bad" if fit.startswith(("It looks overfitted", "It looks under")) else ""
    return html.box(element("p", fit), look=look) if fit else Markup()


def leaks_box(leaks: Sequence[LeakageCheck]) -> Markup:
    """The signs of a leak, if there are any."""
    items = [joined(element("b", check.name), f": {check.text}") for check in leaks if check.found]
    title = element("b", "Signs of a leak between training and test")
    return html.box(title, html.bullets(items), look="bad") if items else Markup()


def figures_part(kind: TaskKind, known: Sequence[MetricFigure]) -> Markup:
    """Every metric, with its interval drawn where it is from 0 to 1."""
    rows = []
    for figure in known:
        metric = METRICS[kind].get(figure.name)
        # The advantage of an attacker, a share too, is the metric of two sets of rows.
        share = metric is None or metric.domain == "share"
        drawn = _drawn(figure, UNIT) if share else Markup()
        side = element("span", BETTER[figure.higher_is_better], class_="side")
        rows.append((figure.title, figures(figure_text(figure)), drawn, _why(figure) or side))
    return html.part("Figures", html.table((), rows))


def _drawn(figure: MetricFigure, scale: Range, mark: float | None = None) -> Markup:
    ends = (figure.value, figure.low, figure.high)
    return interval_picture(figure_text(figure), *ends, scale, mark)


def _why(figure: MetricFigure) -> Markup:
    return element("div", figure.why, class_="why") if figure.why else Markup()


def pictures_part(pictures: Iterable[Markup]) -> Markup:
    """The pictures that there are, side by side."""
    shown = [picture for picture in pictures if picture]
    return html.part("Pictures", element("div", *shown, class_="grid")) if shown else Markup()


def reliability_part(bins: Sequence[ReliabilityBin], positive: str) -> Markup:
    """Whether probabilities come true, beside the diagonal; of two classes, the positive one's."""
    if not bins:
        return Markup()
    words = f"the probability of {positive}, in " if positive else ""
    words += "bins of about equal numbers of rows, with Wilson's intervals"
    plot = Plot(Axis(*UNIT, "predicted probability"), Axis(*UNIT, "observed share"))
    marks = [plot.line(UNIT, UNIT, "limit")]
    for each in bins:
        share = f"observed {each.observed:.3g} [{each.low:.3g}, {each.high:.3g}]"
        about = f"predicted {each.predicted:.3g}, {share}, {each.rows:,} rows"
        marks.append(plot.line([each.predicted] * 2, (each.low, each.high), "bar"))
        marks.append(plot.dot(each.predicted, each.observed, about=about))
    return html.section("Do probabilities come true?", words, plot.picture("reliability", *marks))


def residuals_part(bands: Sequence[ResidualBand]) -> Markup:
    """The residuals of a regressor."""
    if not bands:
        return Markup()
    words = "quantiles of the residuals: 5 to 95 % thin, 25 to 75 % thick, the median a dot"
    x = range_of([band.predicted for band in bands])
    y = range_of([0.0, *(value for band in bands for value in band.quantiles)])
    plot = Plot(Axis(*x, "prediction"), Axis(*y, "truth less prediction"))
    marks = [plot.line(x, (0.0, 0.0), "limit")]
    for band in bands:
        low, lower, median, upper, high = band.quantiles
        about = f"predicted {band.predicted:.3g}: median residual {median:.3g}, {band.rows:,} rows"
        across = [band.predicted] * 2
        marks.append(plot.line(across, (low, high), "bar"))
        marks.append(plot.line(across, (lower, upper), "bar thick"))
        marks.append(plot.dot(band.predicted, median, about=about))
    return html.section("Residuals by prediction", words, plot.picture("residuals", *marks))


def curves_part(title: str, curves: Sequence[ScoreCurve], area: MetricFigure) -> Markup:
    """The curves of one kind, the first in colour, with the area under them."""
    if not curves:
        return Markup()
    shown = curves[:MOST_SHOWN_CURVES]
    words = f"{area.title} {figure_text(area)}"
    if len(curves) > 1:
        labels = [f"{curve.label} {look}" for curve, look in zip(shown, CURVE_LOOKS, strict=False)]
        words = f"{words}, mean of the classes; {', '.join(labels)}"
    return html.section(title, words, curve_chart(shown))


def curve_chart(curves: Sequence[ScoreCurve]) -> Markup:
    """The curves of one kind; all share the unit square."""
    roc = curves[0].name == "roc"
    names = ("false positive rate", "true positive rate") if roc else ("recall", "precision")
    plot = Plot(Axis(*UNIT, names[0]), Axis(*UNIT, names[1]))
    marks = [plot.line(UNIT, UNIT, "limit")] if roc else []
    for place, curve in enumerate(curves):
        x = curve.x
        y = curve.y
        if not roc:  # a step line: the precision of the next recall holds
            x = tuple(value for value in x for _ in range(2))[1:]
            y = tuple(value for value in y for _ in range(2))[:-1]
        marks.append(plot.line(x, y, f"curve c{place}", curve.label))
    return plot.picture(f"{names[1]} by {names[0]}", *marks)


def confusion_part(confusion: Confusion | None) -> Markup:
    """Who is mistaken for whom."""
    if confusion is None:
        return Markup()
    shown = range(min(len(confusion.labels), MOST_SHOWN_CLASSES))
    labels = [html.short(confusion.labels[k]) for k in shown]
    corner = "true \N{DOWNWARDS ARROW} predicted \N{RIGHTWARDS ARROW}"
    rows = [element("tr", *(element("th", text) for text in (corner, *labels)))]
    for k in shown:
        cells = [_confusion_cell(confusion, k, j) for j in shown]
        rows.append(element("tr", element("th", labels[k]), *cells))
    words = "Rows, and their share of the true class"
    words += ", with Wilson's interval of it." if len(labels) <= MOST_WITH_INTERVALS else "."
    table = element("div", element("table", *rows, class_="confusion"), class_="wide")
    rest = html.more(len(confusion.labels), len(shown), "classes")
    return html.part("Confusion", element("p", words, class_="soft"), table, rest)


def _confusion_cell(confusion: Confusion, k: int, j: int) -> Markup:
    count = confusion.counts[k][j]
    total = sum(confusion.counts[k])
    if not total:
        return element("td", "-")
    share = count / total
    words = f"{share:.1%}"
    if len(confusion.labels) <= MOST_WITH_INTERVALS:
        words += f" [{confusion.low[k][j]:.1%}, {confusion.high[k][j]:.1%}]"
    inside = (
        element("i", style=f"opacity:{0.4 * share:.2f}"),
        element("b", html.number(count)),
        element("small", words),
    )
    return element("td", *inside, class_="" if k == j else "wrong")


def slices_part(slices: Sequence[SliceFigures], whole: MetricFigure) -> Markup:
    """One metric of every slice beside the same metric of all rows."""
    if not slices:
        return Markup()
    shown = slices[:MOST_SHOWN_SLICES]
    own = [next(each for each in part.figures if each.name == whole.name) for part in shown]
    ends = [
        value
        for each in (*own, whole)
        for value in (each.low, each.value, each.high)
        if value is not None
    ]
    scale = (min(ends), max(ends)) if ends else UNIT
    rows = []
    for part, figure in zip(shown, own, strict=True):
        numbers = map(figures, (f"{part.rows:,}", figure_text(figure)))
        drawn = _drawn(figure, scale, whole.value)
        rows.append((part.column, html.short(part.value), *numbers, drawn, _why(figure)))
    words = (
        f"{whole.title}, with its interval; the line across marks all rows. Of many slices some differ "
        "by chance."
    )
    table = html.table(("column", "value", "rows", whole.title, "", ""), rows)
    rest = html.more(len(slices), len(shown), "slices")
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
    rows = [
        (gap.name, f"{gap.train:.3g}", f"{gap.held_out:.3g}", figures(gap.figure)) for gap in gaps
    ]
    header = ("metric", "training rows", "held-out rows", "better on training rows by")
    return html.part("Training rows and held-out rows", html.table(header, rows))


# The same pictures, drawn by matplotlib.

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
