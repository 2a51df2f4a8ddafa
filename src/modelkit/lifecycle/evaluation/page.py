"""The parts of the page of an Evaluation, as HTML: everything that comes from data is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelkit.lifecycle.evaluation import charts
from modelkit.lifecycle.evaluation.answered import TaskKind
from modelkit.lifecycle.evaluation.calibrated import BrierParts, ReliabilityBin
from modelkit.lifecycle.evaluation.details import Confusion, ResidualBand, ScoreCurve
from modelkit.lifecycle.evaluation.figures import ClassFigures, MetricFigure, figure_text
from modelkit.lifecycle.evaluation.gap import TrainingGap
from modelkit.lifecycle.evaluation.leakage import LeakageCheck
from modelkit.lifecycle.evaluation.learning import LearningCurve
from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.lifecycle.evaluation.slices import SliceFigures
from modelkit.report import html

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


def summary_box(fit: str, learning: LearningCurve | None) -> str:
    """Whether it looks over- or underfitted, and whether more rows would help, in words."""
    lines = [fit] if fit else []
    if learning is not None:
        curve = str(learning)
        lines.append(f"{curve[0].upper()}{curve[1:]}.")
    if not lines:
        return ""
    kind = " bad" if fit.startswith(("It looks overfitted", "It looks under")) else ""
    told = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    return f'<div class="box{kind}">{told}</div>'


def leaks_box(leaks: Sequence[LeakageCheck]) -> str:
    """The signs of a leak, if there are any."""
    found = [check for check in leaks if check.found]
    if not found:
        return ""
    items = "".join(
        f"<li><b>{html.escape(each.name)}</b>: {html.escape(each.text)}</li>" for each in found
    )
    return f'<div class="box bad"><b>Signs of a leak between training and test</b><ul>{items}</ul></div>'


def figures_part(kind: TaskKind, figures: Sequence[MetricFigure]) -> str:
    """Every metric, with its interval drawn where it is from 0 to 1."""
    known = METRICS[kind]
    rows = []
    for figure in figures:
        metric = known.get(figure.name)
        drawn = ""
        if metric is not None and metric.domain == "share":
            drawn = charts.interval_bar(figure, 0.0, 1.0)
        rows.append(_figure_row(figure.title, figure, drawn))
    return f"<h2>Figures</h2>{_rows_table(('', '', '', ''), rows)}"


def _figure_row(name: str, figure: MetricFigure, drawn: str) -> str:
    side = {True: "higher is better", False: "lower is better", None: ""}[figure.higher_is_better]
    last = f'<td class="side">{side}</td>'
    if figure.why:
        last = f'<td class="why">{html.escape(figure.why)}</td>'
    return (
        f"<tr><td>{html.escape(name)}</td>"
        f'<td class="num">{html.escape(figure_text(figure))}</td>'
        f"<td>{drawn}</td>{last}</tr>"
    )


def _rows_table(header: Sequence[str], rows: Iterable[str]) -> str:
    """A table of rows that are HTML already."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    top = f"<tr>{head}</tr>" if any(header) else ""
    return f'<div class="wide"><table>{top}{"".join(rows)}</table></div>'


def pictures_part(pictures: Iterable[str]) -> str:
    """The pictures that there are, side by side."""
    inside = "".join(pictures)
    return f'<h2>Pictures</h2><div class="grid">{inside}</div>' if inside else ""


def reliability_part(
    bins: Sequence[ReliabilityBin], parts: BrierParts | None, positive: str
) -> str:
    """Whether probabilities come true: of two classes those of the positive one."""
    if not bins:
        return ""
    words = f"the probability of {positive}, in " if positive else ""
    words += "bins of about equal numbers of rows, with Wilson's intervals"
    if parts is not None:
        words += f"; Brier: reliability {parts.reliability:.3g}"
        words += f", resolution {parts.resolution:.3g}, uncertainty {parts.uncertainty:.3g}"
    return html.section("Do probabilities come true?", words, charts.reliability_chart(bins))


def residuals_part(bands: Sequence[ResidualBand]) -> str:
    """The residuals of a regressor."""
    if not bands:
        return ""
    words = "quantiles of the residuals: 5 to 95 % thin, 25 to 75 % thick, the median a dot"
    return html.section("Residuals by prediction", words, charts.residual_chart(bands))


def learning_part(learning: LearningCurve | None) -> str:
    """The learning curve of a cross-validation."""
    if learning is None or len(learning.points) < 2:
        return ""
    words = "mean over folds on held-out rows, with its interval"
    return html.section("Learning curve", words, charts.learning_chart(learning))


def curves_part(title: str, curves: Sequence[ScoreCurve], area: MetricFigure) -> str:
    """The curves of one kind, with the area under them."""
    if not curves:
        return ""
    shown = curves[:5]
    words = f"{area.title} {figure_text(area)}"
    if len(curves) > 1:
        styles = ("blue", "orange", "blue dashes", "orange dashes", "grey")
        labels = [f"{curve.label} {style}" for curve, style in zip(shown, styles, strict=False)]
        words = f"{words}, mean of the classes; {', '.join(labels)}"
    return html.section(title, words, charts.curve_chart(shown))


def confusion_part(confusion: Confusion | None) -> str:
    """Who is mistaken for whom."""
    if confusion is None:
        return ""
    shown = confusion.labels[:MOST_SHOWN_CLASSES]
    head = "".join(f"<th>{html.escape(html.short(label))}</th>" for label in shown)
    rows = [f"<tr><th>true \N{DOWNWARDS ARROW} predicted \N{RIGHTWARDS ARROW}</th>{head}</tr>"]
    for k, label in enumerate(shown):
        cells = "".join(_confusion_cell(confusion, k, j) for j in range(len(shown)))
        rows.append(f"<tr><th>{html.escape(html.short(label))}</th>{cells}</tr>")
    more = len(confusion.labels) - len(shown)
    rest = f"<p>and {more:,} more classes</p>" if more else ""
    words = "Rows, their share of the true class, and Wilson's interval of it."
    table = f'<div class="wide"><table class="confusion">{"".join(rows)}</table></div>'
    return f'<h2>Confusion</h2><p class="soft">{words}</p>{table}{rest}'


def _confusion_cell(confusion: Confusion, k: int, j: int) -> str:
    count = confusion.counts[k][j]
    total = sum(confusion.counts[k])
    if not total:
        return "<td>-</td>"
    share = count / total
    low = confusion.low[k][j]
    high = confusion.high[k][j]
    kind = "" if k == j else ' class="wrong"'
    told = f"<small>{share:.1%} [{low:.1%}, {high:.1%}]</small>"
    return (
        f'<td{kind}><i style="opacity:{0.4 * share:.2f}"></i><b>{html.number(count)}</b>{told}</td>'
    )


def slices_part(slices: Sequence[SliceFigures], whole: MetricFigure) -> str:
    """One metric of every slice beside that of all rows."""
    if not slices:
        return ""
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
        rows.append(_slice_row(part, figure, charts.interval_bar(figure, *scale, whole.value)))
    more = len(slices) - len(figures)
    rest = f"<p>and {more:,} more slices</p>" if more > 0 else ""
    words = (
        f"{whole.title}, with its interval; the rule marks all rows. Of many slices some differ "
        "by chance."
    )
    table = _rows_table(("column", "value", "rows", whole.title, ""), rows)
    return f'<h2>Slices</h2><p class="soft">{html.escape(words)}</p>{table}{rest}'


def _slice_row(part: SliceFigures, figure: MetricFigure, drawn: str) -> str:
    return (
        f"<tr><td>{html.escape(part.column)}</td><td>{html.escape(html.short(part.value))}</td>"
        f'<td class="num">{part.rows:,}</td>'
        f'<td class="num">{html.escape(figure_text(figure))}</td><td>{drawn}</td></tr>'
    )


def classes_part(classes: Sequence[ClassFigures]) -> str:
    """The figures of each class."""
    if not classes:
        return ""
    names = [figure.name for figure in classes[0].figures]
    rows = []
    for own in classes:
        told = [figure_text(figure) for figure in own.figures]
        rows.append((own.label, f"{own.rows:,}", *told))
    return f"<h2>Classes</h2>{html.table(('class', 'rows', *names), rows)}"


def gaps_part(gaps: Sequence[TrainingGap]) -> str:
    """Each metric on training rows and on the others."""
    if not gaps:
        return ""
    rows = []
    for gap in gaps:
        interval = "-"
        if gap.low is not None and gap.high is not None:
            interval = f"{gap.low:.3g} to {gap.high:.3g}"
        values = (f"{gap.train:.3g}", f"{gap.held_out:.3g}", f"{gap.gap:.3g}", interval)
        rows.append((gap.name, *values))
    header = ("metric", "training rows", "held-out rows", "better on training rows by", "interval")
    return f"<h2>Training rows and held-out rows</h2>{html.table(header, rows)}"


def about_part(facts: Iterable[tuple[str, str]]) -> str:
    """What else there is to know, by name."""
    return f"<h2>About</h2>{html.table(('', ''), facts)}"
