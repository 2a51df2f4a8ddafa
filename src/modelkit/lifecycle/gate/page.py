"""The page of a Verdict: everything that comes from data is escaped."""

from __future__ import annotations

from collections.abc import Sequence

from modelkit.lifecycle.evaluation.charts import interval_bar
from modelkit.lifecycle.evaluation.figures import MetricFigure
from modelkit.lifecycle.evaluation.page import PAGE_STYLE
from modelkit.lifecycle.gate.check import CheckPart, GateCheck
from modelkit.report import html

VERDICT_STYLE = (
    PAGE_STYLE
    + """
.decision{font-size:17px;font-weight:600}
.pill{border-radius:9px;padding:1px 8px;border:1px solid var(--line);white-space:nowrap}
.pass .pill{color:var(--good);border-color:var(--good)}
.fail .pill{color:var(--bad);border-color:var(--bad);font-weight:600}
.spare .pill{border-style:dashed;color:var(--soft)}
.checks td{border-top:1px solid var(--line)}
.checks{width:100%}
.checks .name{min-width:9em;overflow-wrap:anywhere}
.checks .soft{white-space:normal;min-width:7em}
.checks .why{min-width:9em;overflow-wrap:anywhere}
.checks .heading{color:var(--ink);font-size:15px;font-weight:600;padding:22px 0 6px}
.checks .how{border:0;padding-top:0;color:var(--soft);font-size:12px}
.checks tr.spare+tr td:first-child,.checks tr+tr td:first-child:empty{border:0}
"""
)
HEADINGS: dict[CheckPart, str] = {
    "contract": "Contract",
    "floor": "Floors",
    "metric": "Shown to be no worse",
    "veto": "No harm shown",
    "slice": "No harm shown on slices",
    "budget": "Budgets, measured here",
    "own": "Further checks",
}
KINDS = {"promote": " good", "block": " bad", "inconclusive": ""}


def verdict_page(
    title: str,
    decision: str,
    reason: str,
    notes: Sequence[str],
    checks: Sequence[GateCheck],
    facts: Sequence[tuple[str, str]],
) -> str:
    """A page of its own; it has no scripts and loads nothing."""
    parts = []
    for part, heading in HEADINGS.items():
        own = [check for check in checks if check.part == part]
        parts.append(_part(heading, own))
    table = f'<div class="wide"><table class="checks">{"".join(parts)}</table></div>'
    about = f"<h2>About</h2>{html.table(('', ''), facts)}"
    parts_of_page = map(html.Markup, (_decision_box(decision, reason, notes), table, about))
    return html.page(title, *parts_of_page, style=VERDICT_STYLE)


def _decision_box(decision: str, reason: str, notes: Sequence[str]) -> str:
    kind = KINDS[decision]
    sentence = html.escape(f"{reason[0].upper()}{reason[1:]}.")
    noted = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    listed = f"<ul>{noted}</ul>" if noted else ""
    return (
        f'<div class="box{kind}"><p class="decision">{decision.upper()}</p>'
        f"<p>{sentence}</p>{listed}</div>"
    )


def _part(heading: str, checks: Sequence[GateCheck]) -> str:
    if not checks:
        return ""
    rows = []
    explained = set()
    for check in checks:
        # Slices share their questions and formulas, which are read once.
        how = f"{check.question} How: {check.formula}" if check.formula else check.question
        rows.append(_row(check, "" if how in explained else how))
        explained.add(how)
    return f'<tr><th class="heading" colspan="6">{html.escape(heading)}</th></tr>{"".join(rows)}'


def _row(check: GateCheck, how: str) -> str:
    kind = check.outcome if check.required or check.outcome != "unclear" else "spare"
    told = check.text if kind != "spare" else f"{check.text} (not required)"
    explained = ""
    if how:
        explained = f'<tr><td></td><td class="how" colspan="5">{html.escape(how)}</td></tr>'
    cells = (
        f'<td class="num">{html.escape(check.interval_text)}</td>'
        f'<td class="num soft">{html.escape(check.test_text)}</td>'
    )
    drawn = _drawn(check)
    # Words have the width of what is not shown.
    width = 4 if check.estimate is None else 2
    if drawn:
        cells, width = f"{cells}<td>{drawn}</td>", 1
    elif check.estimate is None:
        cells = ""
    cells += f'<td class="why" colspan="{width}">{html.escape(told)}</td>'
    return (
        f'<tr class="{kind}"><td><span class="pill">{check.outcome}</span></td>'
        f'<td class="name">{html.escape(check.name)}</td>{cells}</tr>{explained}'
    )


def _drawn(check: GateCheck) -> str:
    """The interval, with what it is compared with as a rule."""
    ends = (check.estimate, check.low, check.high, check.bound)
    if any(end is None for end in ends):
        return ""
    known = [end for end in (*ends, 0.0) if end is not None]
    if check.part in ("floor", "budget"):
        known.pop()
    figure = MetricFigure(check.name, *ends[:3], higher_is_better=True)
    return interval_bar(figure, min(known), max(known), check.bound)
