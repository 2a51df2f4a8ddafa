"""The parts of the page of an Evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelkit.lifecycle.evaluation import charts
from modelkit.lifecycle.evaluation.answered import TaskKind
from modelkit.lifecycle.evaluation.calibrated import BrierParts, ReliabilityBin
from modelkit.lifecycle.evaluation.details import Confusion, ResidualBand, ScoreCurve
from modelkit.lifecycle.evaluation.figures import ClassFigures, MetricFigure, figure_text
from modelkit.lifecycle.evaluation.gap import TrainingGap
from modelkit.lifecycle.evaluation.leakage import LeakageCheck
from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.lifecycle.evaluation.slices import SliceFigures
from modelkit.report import html
from modelkit.report.html import Markup, element, joined

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
            drawn = charts.interval_bar(figure, 0.0, 1.0)
        rows.append((figure.title, _number(figure_text(figure)), drawn, _beside(figure)))
    return html.part("Figures", html.table((), rows))


def _number(text: str) -> Markup:
    return element("span", text, class_="num")


def _beside(figure: MetricFigure) -> Markup:
    """Why a figure is not known, or which way is better."""
    if figure.why:
        return element("div", figure.why, class_="why")
    side = {True: "higher is better", False: "lower is better", None: ""}[figure.higher_is_better]
    return element("span", side, class_="side")


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
    return html.section("Do probabilities come true?", words, charts.reliability_chart(bins))


def residuals_part(bands: Sequence[ResidualBand]) -> Markup:
    """The residuals of a regressor."""
    if not bands:
        return Markup()
    words = "quantiles of the residuals: 5 to 95 % thin, 25 to 75 % thick, the median a dot"
    return html.section("Residuals by prediction", words, charts.residual_chart(bands))


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
    return html.section(title, words, charts.curve_chart(shown))


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
        drawn = charts.interval_bar(figure, *scale, whole.value)
        rows.append((part.column, html.short(part.value), *numbers, drawn))
    words = (
        f"{whole.title}, with its interval; the rule marks all rows. Of many slices some differ "
        "by chance."
    )
    table = html.table(("column", "value", "rows", whole.title, ""), rows)
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


def about_part(facts: Iterable[tuple[str, str]]) -> Markup:
    """What else there is to know, by name."""
    return html.part("About", html.table((), facts))
