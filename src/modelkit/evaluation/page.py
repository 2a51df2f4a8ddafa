"""The page of an Evaluation: everything that comes from data is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from modelkit import html
from modelkit.evaluation import charts
from modelkit.evaluation.details import Confusion, ScoreCurve
from modelkit.evaluation.figures import MetricFigure, figure_text
from modelkit.evaluation.gap import JUDGED_BY
from modelkit.evaluation.metrics import METRICS

if TYPE_CHECKING:
    from modelkit.evaluation.evaluation import Evaluation

PAGE_STYLE = (
    html.SHEET
    + """
.axis{fill:none;stroke:var(--soft);stroke-width:.8}.rule{stroke:var(--line);stroke-width:.7}
.chance{fill:none;stroke:var(--soft);stroke-width:1;stroke-dasharray:4 3}
.curve{fill:none;stroke:var(--first);stroke-width:1.9}
.c1{stroke:var(--second)}.c2{stroke-dasharray:6 3}.c3{stroke:var(--second);stroke-dasharray:6 3}
.c4{stroke:var(--soft)}
.bar{fill:none;stroke:var(--first);stroke-width:1.6}.thick .bar{stroke-width:6;stroke-opacity:.45}
.dot{fill:var(--first)}.mark{stroke:var(--second);stroke-width:1.4}
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
)
MOST_SHOWN_CLASSES = 12
MOST_SHOWN_SLICES = 60


def body_of(
    evaluation: Evaluation,
    what: str,
) -> str:
    """The body of the page; `what` says in words what was evaluated."""
    parts = [
        f'<p class="soft">{html.escape(what)}</p>',
        _fit_box(evaluation),
        _leaks_box(evaluation),
        _figures_part(evaluation),
        _pictures(evaluation),
        _confusion_part(evaluation.confusion),
        _slices_part(evaluation),
        _classes_part(evaluation),
        _gaps_part(evaluation),
        _about(evaluation),
    ]
    return "".join(parts)


def _fit_box(evaluation: Evaluation) -> str:
    lines = [evaluation.fit] if evaluation.fit else []
    if evaluation.learning is not None:
        curve = str(evaluation.learning)
        lines.append(f"{curve[0].upper()}{curve[1:]}.")
    if not lines:
        return ""
    kind = " bad" if evaluation.fit.startswith(("It looks overfitted", "It looks under")) else ""
    told = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    return f'<div class="box{kind}">{told}</div>'


def _leaks_box(evaluation: Evaluation) -> str:
    found = [check for check in evaluation.leaks if check.found]
    if not found:
        return ""
    items = "".join(
        f"<li><b>{html.escape(each.name)}</b>: {html.escape(each.text)}</li>" for each in found
    )
    return f'<div class="box bad"><b>Signs of a leak between training and test</b><ul>{items}</ul></div>'


def _figures_part(evaluation: Evaluation) -> str:
    known = METRICS[evaluation.kind]
    rows = []
    for figure in evaluation.figures:
        metric = known.get(figure.name)
        drawn = ""
        if metric is not None and metric.domain == "share":
            drawn = charts.interval_bar(figure, 0.0, 1.0)
        rows.append(_figure_row(figure.name, figure, drawn))
    return f"<h2>Figures</h2>{_rows_table(('', '', '', ''), rows)}"


def _figure_row(
    name: str,
    figure: MetricFigure,
    drawn: str,
) -> str:
    side = {True: "higher is better", False: "lower is better", None: ""}[figure.higher_is_better]
    last = f'<td class="side">{side}</td>'
    if figure.why:
        last = f'<td class="why">{html.escape(figure.why)}</td>'
    return (
        f"<tr><td>{html.escape(name)}</td>"
        f'<td class="num">{html.escape(figure_text(figure))}</td>'
        f"<td>{drawn}</td>{last}</tr>"
    )


def _rows_table(
    header: Sequence[str],
    rows: Iterable[str],
) -> str:
    """A table of rows that are HTML already."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    top = f"<tr>{head}</tr>" if any(header) else ""
    return f'<div class="wide"><table>{top}{"".join(rows)}</table></div>'


def _pictures(evaluation: Evaluation) -> str:
    drawn = [
        _curves_part("ROC", "roc", evaluation),
        _curves_part("Precision and recall", "precision_recall", evaluation),
    ]
    if evaluation.reliability:
        picture = charts.reliability_chart(evaluation.reliability)
        drawn.append(_section("Do probabilities come true?", _bins_words(evaluation), picture))
    if evaluation.residuals:
        words = "quantiles of the residuals: 5 to 95 % thin, 25 to 75 % thick, the median a dot"
        picture = charts.residual_chart(evaluation.residuals)
        drawn.append(_section("Residuals by prediction", words, picture))
    if evaluation.learning is not None and len(evaluation.learning.points) > 1:
        words = "mean over folds on held-out rows, with its interval"
        drawn.append(_section("Learning curve", words, charts.learning_chart(evaluation.learning)))
    inside = "".join(drawn)
    return f'<h2>Pictures</h2><div class="grid">{inside}</div>' if inside else ""


def _section(
    title: str,
    words: str,
    picture: str,
) -> str:
    return f'<section><h3>{html.escape(title)}</h3><p class="soft">{html.escape(words)}</p>{picture}</section>'


def _bins_words(evaluation: Evaluation) -> str:
    parts = evaluation.brier_parts
    words = "bins of about equal numbers of rows, with Wilson's intervals"
    if parts is None:
        return words
    return (
        f"{words}; Brier: reliability {parts.reliability:.3g}, resolution {parts.resolution:.3g}, "
        f"uncertainty {parts.uncertainty:.3g}"
    )


def _curves_part(
    title: str,
    name: str,
    evaluation: Evaluation,
) -> str:
    curves: list[ScoreCurve] = [curve for curve in evaluation.curves if curve.name == name]
    if not curves:
        return ""
    shown = curves[:5]
    figure = "roc_auc" if name == "roc" else "average_precision"
    words = f"{figure} {figure_text(evaluation[figure])}"
    if len(curves) == 1:
        words = f"{words}, of {curves[0].label}"
    else:
        styles = ("blue", "orange", "blue dashes", "orange dashes", "grey")
        labels = [f"{curve.label} {style}" for curve, style in zip(shown, styles, strict=False)]
        words = f"{words}, mean of the classes; {', '.join(labels)}"
    return _section(title, words, charts.curve_chart(shown))


def _confusion_part(confusion: Confusion | None) -> str:
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


def _confusion_cell(
    confusion: Confusion,
    k: int,
    j: int,
) -> str:
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


def _slices_part(evaluation: Evaluation) -> str:
    if not evaluation.slices:
        return ""
    name = _judged(evaluation)
    whole = evaluation[name]
    figures = []
    for part in evaluation.slices[:MOST_SHOWN_SLICES]:
        figures += [figure for figure in part.figures if figure.name == name]
    ends = [
        end
        for each in [*figures, whole]
        for end in (each.low, each.high, each.value)
        if end is not None
    ]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    rows = []
    for part, figure in zip(evaluation.slices, figures, strict=False):
        drawn = charts.interval_bar(figure, low, high, whole.value)
        rows.append(
            f"<tr><td>{html.escape(part.column)}</td><td>{html.escape(html.short(part.value))}</td>"
            f'<td class="num">{part.rows:,}</td><td class="num">{html.escape(figure_text(figure))}</td>'
            f"<td>{drawn}</td></tr>"
        )
    more = len(evaluation.slices) - len(figures)
    rest = f"<p>and {more:,} more slices</p>" if more > 0 else ""
    words = f"{name}, with its interval; the rule is that of all rows. Many slices: some differ by chance."
    table = _rows_table(("column", "value", "rows", name, ""), rows)
    return f'<h2>Slices</h2><p class="soft">{html.escape(words)}</p>{table}{rest}'


def _judged(evaluation: Evaluation) -> str:
    """The metric that slices are shown by."""
    for name in JUDGED_BY[evaluation.kind]:
        if evaluation[name].value is not None:
            return name
    return evaluation.figures[0].name


def _classes_part(evaluation: Evaluation) -> str:
    if not evaluation.classes:
        return ""
    names = [figure.name for figure in evaluation.classes[0].figures]
    rows = []
    for own in evaluation.classes:
        told = [figure_text(figure) for figure in own.figures]
        rows.append((own.label, f"{own.rows:,}", *told))
    return f"<h2>Classes</h2>{html.wide_table(('class', 'rows', *names), rows)}"


def _gaps_part(evaluation: Evaluation) -> str:
    if not evaluation.gaps:
        return ""
    rows = []
    for gap in evaluation.gaps:
        interval = "-"
        if gap.low is not None and gap.high is not None:
            interval = f"{gap.low:.3g} to {gap.high:.3g}"
        values = (f"{gap.train:.3g}", f"{gap.held_out:.3g}", f"{gap.gap:.3g}", interval)
        rows.append((gap.name, *values))
    header = ("metric", "training rows", "held-out rows", "better on training rows by", "interval")
    return f"<h2>Training rows and held-out rows</h2>{html.wide_table(header, rows)}"


def _about(evaluation: Evaluation) -> str:
    facts = [("check", str(check)) for check in evaluation.leaks]
    facts += [("note", note) for note in evaluation.notes]
    if evaluation.model_digest:
        facts.append(("model", f"sha256:{evaluation.model_digest}"))
    facts.append(("rows and truth", f"sha256:{evaluation.data_digest}"))
    versions = evaluation.versions or {}
    facts.append(("computed by", ", ".join(f"{name} {one}" for name, one in versions.items())))
    return f"<h2>About</h2>{html.wide_table(('', ''), facts)}"
