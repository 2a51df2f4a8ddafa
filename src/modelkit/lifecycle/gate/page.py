"""The page of a Verdict."""

from __future__ import annotations

from collections.abc import Sequence

from modelkit.lifecycle.evaluation.figures import MetricFigure
from modelkit.lifecycle.evaluation.page import PAGE_STYLE, interval_bar
from modelkit.lifecycle.gate.check import CheckPart, GateCheck
from modelkit.report import html
from modelkit.report.html import Markup, element

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
    parts: list[Markup] = []
    for part, heading in HEADINGS.items():
        parts += _rows(heading, [check for check in checks if check.part == part])
    table = element("div", element("table", *parts, class_="checks"), class_="wide")
    about = html.part("About", html.table((), facts))
    box = _decision_box(decision, reason, notes)
    return html.page(title, box, table, about, style=VERDICT_STYLE)


def _decision_box(decision: str, reason: str, notes: Sequence[str]) -> Markup:
    lead = element("p", decision.upper(), class_="decision")
    sentence = element("p", f"{reason[0].upper()}{reason[1:]}.")
    look = f"box{KINDS[decision]}"
    return element("div", lead, sentence, html.bullets(notes), class_=look)


def _rows(heading: str, checks: Sequence[GateCheck]) -> list[Markup]:
    if not checks:
        return []
    rows = [element("tr", element("th", heading, class_="heading", colspan="6"))]
    explained = set()
    for check in checks:
        # Slices share their questions and formulas, which are read once.
        how = f"{check.question} How: {check.formula}" if check.formula else check.question
        rows.append(_row(check))
        if how and how not in explained:
            rows.append(element("tr", element("td"), element("td", how, class_="how", colspan="5")))
        explained.add(how)
    return rows


def _row(check: GateCheck) -> Markup:
    kind = check.outcome if check.required or check.outcome != "unclear" else "spare"
    text = check.text if kind != "spare" else f"{check.text} (not required)"
    cells = [
        element("td", element("span", check.outcome, class_="pill")),
        element("td", check.name, class_="name"),
    ]
    drawn = _drawn(check)
    if drawn or check.estimate is not None:
        cells.append(element("td", check.interval_text, class_="num"))
        cells.append(element("td", check.test_text, class_="num soft"))
    if drawn:
        cells.append(element("td", drawn))
    # Words have the width of what is not shown.
    cells.append(element("td", text, class_="why", colspan=str(6 - len(cells))))
    return element("tr", *cells, class_=kind)


def _drawn(check: GateCheck) -> Markup:
    """The interval, with what it is compared with as a rule."""
    ends = (check.estimate, check.low, check.high, check.bound)
    if any(end is None for end in ends):
        return Markup()
    known = [end for end in (*ends, 0.0) if end is not None]
    if check.part in ("floor", "budget"):
        known.pop()
    figure = MetricFigure(check.name, *ends[:3], higher_is_better=True)
    return interval_bar(figure, min(known), max(known), check.bound)
