"""The parts of a report's page, as HTML: everything that comes from data is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite

from modelkit.drift.charts import chart, percent
from modelkit.drift.values import Alarm, DriftCheck, Effect, FeatureDrift, Performance
from modelkit.html import escape

MOST_ALARMS = 30
MOST_CHECKS = 60
MOST_REST = 400  # rows of the table of features that have no chart

# Blue grey and orange are told apart by all common kinds of colour vision, and by their lightness
# in print.
STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1f2328;--soft:#57606a;--line:#d0d7de;
--old:#8aa0b8;--new:#c2570c;
--bad:#b42318;--badbg:#fff1ef;--good:#1a7f37;--goodbg:#eefbf1}
@media (prefers-color-scheme:dark){:root{--paper:#15191f;--ink:#e6edf3;--soft:#9aa7b4;
--line:#343c46;--old:#7389a1;
--new:#ff9a52;--bad:#ff9489;--badbg:#331a1a;--good:#6fd08a;--goodbg:#14281b}}
@media print{:root{color-scheme:light;--paper:#fff;--ink:#000;--soft:#444;--line:#bbb;--old:#8aa0b8;
--new:#c2570c;
--bad:#b42318;--badbg:#fff;--good:#1a7f37;--goodbg:#fff}body{margin:0!important}
.grid{display:block!important}
section,.box{break-inside:avoid;margin-bottom:10px}*{print-color-adjust:exact;
-webkit-print-color-adjust:exact}}
body{background:var(--paper);color:var(--ink);max-width:1180px;margin:1.5em auto!important;
padding:0 16px}
h1{font-size:20px!important;margin:0}h2{font-size:15px;margin:26px 0 8px}
h3{font-size:14px;margin:0;overflow-wrap:anywhere}
p{margin:4px 0}ul{margin:4px 0;padding-left:20px}li{overflow-wrap:anywhere;margin:3px 0}
.soft{color:var(--soft)}
.box,section{border:1px solid var(--line);border-radius:6px;padding:10px 14px}
.box{margin:12px 0}.bad{border-left:5px solid var(--bad);background:var(--badbg)}
.good{border-left:5px solid var(--good);background:var(--goodbg)}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,430px),1fr));gap:12px}
.tag{color:var(--bad);border:1px solid;
border-radius:9px;padding:0 7px;font-size:12px;font-weight:600;white-space:nowrap}
.wide{overflow-x:auto}table{border-collapse:collapse}
th,td{text-align:left;vertical-align:top;padding:3px 16px 3px 0;border-top:1px solid var(--line);
overflow-wrap:anywhere}
th{font-weight:normal;color:var(--soft);border:0;white-space:nowrap}
td:last-child{overflow-wrap:normal}
.key{display:inline-block;width:12px;height:12px;border-radius:2px;vertical-align:-1px;
margin:0 4px 0 12px}
svg{width:100%;height:auto;display:block;margin-top:6px}svg text{font-size:11px;fill:var(--soft)}
.old{fill:var(--old);background:var(--old)}.new{fill:var(--new);background:var(--new)}
path.old{fill-opacity:.55}path.new{fill:none;stroke:var(--new);stroke-width:1.8}
.axis{fill:none;stroke:var(--soft);stroke-width:.7}
.hit rect{fill:transparent}.hit rect:hover{fill:var(--ink);fill-opacity:.12}
"""

_SAYS = {
    "changed": "is no longer like the reference",
    "material": "differs from the reference by more than the tolerance",
    "performance": "has become worse than in the reference, by more than the tolerance",
}


def p_value(p: float | None) -> str:
    """A p-value in words; one that was not computed is a dash."""
    return "-" if p is None else f"{p:.2g}"


def where(
    feature: str,
    stratum: str | None,
) -> str:
    """A feature and its stratum, as text."""
    return feature if stratum is None else f"{feature} (stratum {stratum})"


def alarm_box(
    alarms: Sequence[Alarm],
    kind: str,
    guarantee: str,
) -> str:
    """All alarms in words, or that there is no alarm."""
    if not alarms:
        return (
            '<div class="box good"><b>No alarm.</b> That does not prove that nothing changed.</div>'
        )
    shown = alarms[:MOST_ALARMS]
    items = [f"<li>{_alarm_item(alarm, kind, guarantee)}</li>" for alarm in shown]
    if len(alarms) > MOST_ALARMS:
        items.append(f"<li>and {len(alarms) - MOST_ALARMS:,} more</li>")
    title = counted(len(alarms), "alarm")
    return f'<div class="box bad"><b>{title}</b><ul>{"".join(items)}</ul></div>'


def counted(n: int, noun: str) -> str:
    """A number with its noun, such as "3 rows"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _alarm_item(
    alarm: Alarm,
    kind: str,
    guarantee: str,
) -> str:
    who = escape(where(alarm.feature, alarm.stratum))
    says = escape(_SAYS.get(alarm.kind, alarm.kind))
    size = ""
    if alarm.effect is not None:
        size = f": {escape(effect_text(alarm.effect))}"
    rests = f"{alarm.statistic}: p {p_value(alarm.p)}, alarm at {alarm.level:.2g}"
    own = ""
    if alarm.guarantee != guarantee:
        own = f" {escape(alarm.guarantee)}"
    evidence = f'<span class="soft">{escape(rests)}.{own}</span>'
    return f"<b>{who}</b> {says}{size}.{_when(alarm, kind)} {evidence}"


def _when(alarm: Alarm, kind: str) -> str:
    """A sentence on when the alarm was raised, and when the change began."""
    since = ""
    if alarm.began is not None:
        since = f"; it began after about {alarm.began:,} rows"
    if kind != "stream":
        return since
    return f" Raised at row {alarm.row:,}{since}."


def effect_text(size: Effect) -> str:
    """An effect size and its interval, in a few words."""
    return f"{size.name} {interval_text((size.value, size.low, size.high))}"


def interval_text(values: tuple[float, float, float]) -> str:
    """A number and its interval, where it has one."""
    value, low, high = values
    if isfinite(low) and isfinite(high):
        return f"{value:.3g} [{low:.3g}, {high:.3g}]"
    return f"{value:.3g}"


def promise_part(
    guarantee: str,
    assumptions: Iterable[str],
) -> str:
    """The guarantee of the alarms, and its assumptions."""
    items = "".join(f"<li>{escape(text)}</li>" for text in assumptions)
    found = f"<ul>{items}</ul>" if items else ""
    return f"<h2>Guarantee</h2><p>{escape(guarantee)}</p>{found}"


def html_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
) -> str:
    """A table of text."""
    lines = [_tagged_row(header, "th")]
    lines += [_tagged_row(row, "td") for row in rows]
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _tagged_row(
    cells: Sequence[str],
    tag: str,
) -> str:
    inside = "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
    return f"<tr>{inside}</tr>"


def performance_part(found: Performance | None) -> str:
    """The loss beside that of the reference, and the estimates without labels."""
    if found is None:
        return ""
    rows = []
    if found.loss is not None:
        title = f"mean loss of {counted(found.labelled, 'labelled row')}"
        rows.append((title, *_value_columns(found.loss)))
    if found.baseline is not None:
        rows.append(("mean loss of the reference", *_value_columns(found.baseline)))
    for name, values in found.estimated.items():
        rows.append((f"{name}, estimated without labels", *_value_columns(values)))
    table = html_table(("", "value", "interval"), rows) if rows else ""
    warning = ""
    if found.unsupported is not None:
        why = escape(found.unsupported)
        warning = f"<p><b>The estimates are not to be relied on:</b> {why}</p>"
    return f"<h2>Performance</h2>{table}{warning}"


def _value_columns(values: tuple[float, float, float]) -> tuple[str, str]:
    value, low, high = values
    interval = "-"
    if isfinite(low) and isfinite(high):
        interval = f"{low:.3g} to {high:.3g}"
    return f"{value:.3g}", interval


def checks_part(checks: Sequence[DriftCheck]) -> str:
    """The plain checks, as a table."""
    if not checks:
        return ""
    rows = []
    for check in checks[:MOST_CHECKS]:
        p = p_value(check.p)
        rows.append((check.feature, check.name, check.found, check.expected, p))
    table = html_table(("feature", "check", "found", "expected", "p"), rows)
    return f"<h2>Data checks</h2>{table}{_more(len(checks), MOST_CHECKS)}"


def _more(total: int, shown: int) -> str:
    return f"<p>and {total - shown:,} more</p>" if total > shown else ""


def tests_text(drift: FeatureDrift, kind: str) -> str:
    """The p-values of a feature in words.

    They say where no recent row has it, as an output that nobody asked for.
    """
    if kind == "batch":
        found = f"exact p, adjusted by Holm: {p_value(drift.p_changed)}"
    else:
        changed = f"{p_value(drift.p_changed)} (any change)"
        material = f"{p_value(drift.p_material)} (beyond the tolerance)"
        found = f"anytime p: {changed}, {material}"
    return found if drift.rows else f"{found}; no recent row has it"


def feature_part(
    drift: FeatureDrift,
    kind: str,
    *,
    alarmed: bool,
) -> str:
    """A feature with its chart."""
    tag = ' <span class="tag">alarm</span>' if alarmed else ""
    name = escape(where(drift.feature, drift.stratum))
    about = f"{drift.kind}, {counted(drift.rows, 'recent row')}, weight {drift.weight:.3g}"
    lines = "<br>".join(map(escape, _feature_facts(drift, kind)))
    return (
        f"<section><h3>{name}{tag}</h3>"
        f'<p class="soft">{escape(about)}</p><p>{lines}</p>{chart(drift)}</section>'
    )


def _feature_facts(
    drift: FeatureDrift,
    kind: str,
) -> list[str]:
    facts = [tests_text(drift, kind)]
    if drift.effects:
        facts.append("; ".join(map(effect_text, drift.effects)))
    if any(drift.missing):
        before, now = drift.missing
        recent = percent(now) if drift.rows else "unknown"
        facts.append(f"missing {percent(before)}, recent {recent}")
    if drift.began is not None:
        facts.append(f"a change began after about {drift.began:,} rows")
    return facts


def rest_part(features: Sequence[FeatureDrift]) -> str:
    """The features that have no chart, as a table."""
    if not features:
        return ""
    rows = []
    for drift in features[:MOST_REST]:
        name = where(drift.feature, drift.stratum)
        sizes = "; ".join(map(effect_text, drift.effects))
        rows.append((name, p_value(drift.p_changed), p_value(drift.p_material), sizes))
    table = html_table(("feature", "p, any change", "p, beyond the tolerance", "size"), rows)
    return f"<h2>Other features</h2>{table}{_more(len(features), MOST_REST)}"
