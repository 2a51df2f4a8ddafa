"""The parts of a report's page, as HTML: everything that comes from data is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite

from modelkit.drift import wording
from modelkit.drift.charts import chart, percent
from modelkit.drift.values import Alarm, DriftCheck, Effect, FeatureDrift, Performance
from modelkit.drift.wording import count_of
from modelkit.report.html import escape, wide_table

MOST_ALARMS = 30
MOST_CHECKS = 60
MOST_REST = 400  # rows of the table of features that have no chart
WORDS = (
    ("reference", "rows of the past that the model was not trained on"),
    ("recent rows", "the last 1,024 rows or the last 8 whole units, or the whole batch"),
    (
        "rows of the alarm",
        "of the last alarm: those since the change began, 1,024 or 8 units at most",
    ),
    ("any change", "how often rows without a change would look like this, once in a whole stream"),
    ("beyond the tolerance", "the same, for rows that differ by no more than the tolerance"),
    ("p", "the same as a number: 0.001 is 1 in 1,000"),
    ("alpha", "how often you accept a false alarm; features, kinds and strata share it"),
    ("share of alpha", "how much of it a feature has: it grows with the importance you give it"),
    ("ks", "the largest difference between the shares of rows up to one value"),
    ("tv", "the share of rows that would have to change for both to agree"),
    ("[low, high]", "where the true size lies, in 95 of 100 cases"),
)

# Blue grey and orange are told apart by all common kinds of colour vision, and by their lightness
# in print.
STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1f2328;--soft:#57606a;--line:#d0d7de;
--old:#8aa0b8;--new:#c2570c;--then:#7a3e9d;
--bad:#b42318;--badbg:#fff1ef;--good:#1a7f37;--goodbg:#eefbf1}
@media (prefers-color-scheme:dark){:root{--paper:#15191f;--ink:#e6edf3;--soft:#9aa7b4;
--line:#343c46;--old:#7389a1;
--new:#ff9a52;--then:#c79bf2;--bad:#ff9489;--badbg:#331a1a;--good:#6fd08a;--goodbg:#14281b}}
@media print{:root{color-scheme:light;--paper:#fff;--ink:#000;--soft:#444;--line:#bbb;--old:#8aa0b8;
--new:#c2570c;--then:#7a3e9d;
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
overflow-wrap:break-word;min-width:3em;max-width:30em}
th{font-weight:normal;color:var(--soft);border:0;white-space:nowrap}
td:last-child{overflow-wrap:normal}
svg{width:100%;height:auto;display:block;margin-top:6px}svg text{font-size:11px;fill:var(--soft)}
.old{fill:var(--old);background:var(--old)}.new{fill:var(--new);background:var(--new)}
path.old{fill-opacity:.55}path.new{fill:none;stroke:var(--new);stroke-width:1.8}
.axis{fill:none;stroke:var(--soft);stroke-width:.7}
path.then{fill:none;stroke:var(--then);stroke-width:1.6;stroke-dasharray:4 2}
rect.then{fill:var(--then)}
.lead{font-size:17px;line-height:1.4;font-weight:600;margin:2px 0 8px;overflow-wrap:anywhere}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:6px 0 10px;align-items:center}
.legend svg{width:26px;height:14px;display:inline-block;margin:0 6px 0 0;vertical-align:-2px}
.legend .key{white-space:nowrap}.when{max-width:580px}
circle.new{fill:var(--new)}
dl{display:grid;grid-template-columns:fit-content(34%) 1fr;gap:1px 12px;margin:4px 0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.words dl{gap:3px 16px}
@media (max-width:520px){body{padding:0 10px;margin:.7em auto!important}
svg text{font-size:13.5px}.lead{font-size:16px}.wide table{width:max-content}td{max-width:14em}}
.hit rect{fill:transparent}.hit rect:hover{fill:var(--ink);fill-opacity:.12}
"""


def p_value(p: float | None) -> str:
    """A p-value in words; one that was not computed is a dash."""
    return "-" if p is None else f"{p:.2g}"


def summary_box(headline: str, advice: str, *, alarmed: bool | None) -> str:
    """What was found, and what to do, before anything else; None is neither good nor bad."""
    look = {True: "bad", False: "good", None: ""}[alarmed]
    lead = f'<p class="lead">{escape(headline)}</p>'
    return f'<div class="box {look}">{lead}<p>{escape(advice)}</p></div>'


def alarms_part(alarms: Sequence[Alarm], kind: str, guarantee: str) -> str:
    """All alarms in words."""
    if not alarms:
        return ""
    shown = alarms[-MOST_ALARMS:]
    items = [f"<li>{_alarm_item(alarm, kind, guarantee)}</li>" for alarm in shown]
    if len(alarms) > MOST_ALARMS:
        items.insert(0, f"<li>{len(alarms) - MOST_ALARMS:,} before, and</li>")
    return f"<h2>{count_of(len(alarms), 'alarm')}</h2><ul>{''.join(items)}</ul>"


def _alarm_item(alarm: Alarm, kind: str, guarantee: str) -> str:
    who = escape(wording.name_of(alarm.feature, alarm.stratum))
    says = escape(wording.says(alarm))
    size = ""
    if alarm.effect is not None:
        size = f": {escape(effect_text(alarm.effect))}"
    evidence = wording.evidence_text(alarm, kind)
    if alarm.guarantee != guarantee:
        evidence = f"{evidence} {alarm.guarantee}"
    raised = escape(wording.raised_text(alarm, kind))
    return f'<b>{who}</b> {says}{size}. {raised} <span class="soft">{escape(evidence)}</span>'


def effect_text(size: Effect) -> str:
    """An effect size and its interval, in a few words."""
    return f"{size.name} {interval_text((size.value, size.low, size.high))}"


def interval_text(values: tuple[float, float, float]) -> str:
    """A number and its interval, where it has one."""
    value, low, high = values
    if isfinite(low) and isfinite(high):
        return f"{value:.3g} [{low:.3g}, {high:.3g}]"
    return f"{value:.3g}"


def promise_part(guarantee: str, assumptions: Iterable[str]) -> str:
    """The guarantee of the alarms, and its assumptions."""
    items = "".join(f"<li>{escape(text)}</li>" for text in assumptions)
    found = f"<ul>{items}</ul>" if items else ""
    return f"<h2>How far this can be relied on</h2><p>{escape(guarantee)}</p>{found}"


def performance_part(found: Performance | None) -> str:
    """The loss beside that of the reference, and the estimates without labels."""
    if found is None:
        return ""
    rows = []
    if found.loss is not None:
        title = f"mean loss of {count_of(found.labelled, 'labelled row')}"
        rows.append((title, *_value_columns(found.loss)))
    if found.baseline is not None:
        rows.append(("mean loss of the reference", *_value_columns(found.baseline)))
    for name, values in found.estimated.items():
        rows.append((f"{found.title(name)}, estimated without labels", *_value_columns(values)))
    table = wide_table(("", "value", "interval"), rows) if rows else ""
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
    table = wide_table(("feature", "check", "found", "expected", "p"), rows)
    return f"<h2>Data checks</h2>{table}{_more(len(checks), MOST_CHECKS)}"


def _more(total: int, shown: int) -> str:
    return f"<p>and {total - shown:,} more</p>" if total > shown else ""


def tests_text(drift: FeatureDrift, kind: str) -> str:
    """The p-values of a feature in words.

    They say where no recent row has it, as an output that nobody asked for.
    """
    rows = _rests_on(drift)
    named = ((drift.p_changed, "any change"), (drift.p_material, "beyond the tolerance"))
    tests = [f"{p:.2g} ({what})" for p, what in named if p is not None]
    if not tests:
        found = "not tested"
    elif kind != "stream":
        found = f"exact p{rows}, adjusted for all features: {p_value(drift.p_changed)}"
    else:
        found = f"anytime p{rows}: {', '.join(tests)}"
    return found if drift.rows else f"{found}; no recent row has it"


def _rests_on(drift: FeatureDrift) -> str:
    """How many rows the p-values are of."""
    return f" of {drift.compared:,} rows against {drift.reference_rows:,}"


def feature_part(drift: FeatureDrift, kind: str, alarm: Alarm | None) -> str:
    """A feature with its chart; `alarm` is its last one."""
    tag = "" if alarm is None else ' <span class="tag">alarm</span>'
    name = escape(wording.name_of(drift.feature, drift.stratum))
    about = f"{drift.kind}, {count_of(drift.rows, 'recent row')}"
    if not drift.rows:
        about = f"{drift.kind}, no recent row has it"
    tests = wording.tests_of(drift)
    about += f"; p-values{_rests_on(drift)}" if tests else ""
    facts = html_facts([*tests, *_feature_facts(drift, alarm, kind)])
    return (
        f"<section><h3>{name}{tag}</h3>"
        f'<p class="soft">{escape(about)}</p>{facts}{chart(drift)}</section>'
    )


def legend(*, at_alarm: bool) -> str:
    """What the charts draw how, above them."""
    keys = [("old", "reference"), ("new", "recent rows")]
    if at_alarm:
        keys.append(("then", "rows of the alarm"))
    drawn = []
    for look, name in keys:
        drawn.append(f'<span class="key">{_swatch(look)}{name}</span>')
    return (
        "<h2>Each feature, the strongest evidence first</h2>"
        f'<div class="legend">{"".join(drawn)}'
        '<span class="soft">up: share of rows; across: the values, in steps of about equally many training '
        "rows</span></div>"
    )


def _swatch(look: str) -> str:
    path = "M1 13V3H25V13Z" if look == "old" else "M1 11V5H25V11"
    return f'<svg viewBox="0 0 26 14" aria-hidden="true"><path class="{look}" d="{path}"/></svg>'


def html_facts(facts: Iterable[tuple[str, str]]) -> str:
    """Names and what they are, side by side."""
    lines = [f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts]
    return f"<dl>{''.join(lines)}</dl>" if lines else ""


def _feature_facts(drift: FeatureDrift, alarm: Alarm | None, kind: str) -> list[tuple[str, str]]:
    facts = []
    since = wording.began_text(drift, alarm)
    if since is not None:
        facts.append(("since", since))
    move = wording.move_text(drift, kind) if drift.rows else None
    if move is not None:
        facts.append(("moved most", move))
    if drift.effects:
        facts.append(("size", "; ".join(map(effect_text, drift.effects))))
    if any(drift.missing):
        facts.append(("missing", _missing_text(drift)))
    facts.append(("share of alpha", percent(drift.weight)))
    return facts


def _missing_text(drift: FeatureDrift) -> str:
    before, now = drift.missing
    recent = percent(now) if drift.rows else "unknown"
    return f"{percent(before)}, recent {recent}"


def rest_part(features: Sequence[FeatureDrift]) -> str:
    """The features that have no chart, as a table."""
    if not features:
        return ""
    rows = []
    for drift in features[:MOST_REST]:
        name = wording.name_of(drift.feature, drift.stratum)
        sizes = "; ".join(map(effect_text, drift.effects))
        rows.append((name, p_value(drift.p_changed), p_value(drift.p_material), sizes))
    table = wide_table(("feature", "p, any change", "p, beyond the tolerance", "size"), rows)
    return f"<h2>Other features</h2>{table}{_more(len(features), MOST_REST)}"


def words_part() -> str:
    """The words of the page, explained."""
    return f'<h2>The words on this page</h2><div class="words">{html_facts(WORDS)}</div>'
