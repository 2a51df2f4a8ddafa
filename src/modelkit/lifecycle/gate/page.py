"""A Verdict for others to read: a page, and the form of JUnit, which Jenkins, GitLab and others show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from modelkit.lifecycle.evaluation.check import CheckPart, GateCheck
from modelkit.report.html import Markup, element, is_controlling, printable
from modelkit.report.plot import interval_picture

STYLE = """
.pill{border-radius:9px;padding:1px 8px;border:1px solid var(--line);white-space:nowrap}
.pass .pill{color:var(--good);border-color:var(--good)}
.fail .pill{color:var(--bad);border-color:var(--bad);font-weight:600}
.spare .pill{border-style:dashed;color:var(--soft)}
.checks{width:100%}.checks td:first-child:empty{border:0}
.checks .name,.checks .why{min-width:9em;overflow-wrap:anywhere}
.checks .why,.checks .how{color:var(--soft)}
.checks .heading{color:var(--ink);font-size:15px;font-weight:600;padding:22px 0 6px}
.checks .how{border:0;padding-top:0;font-size:12px}
@media (max-width:620px){.wide .checks{width:auto}.checks tbody,.checks td,.checks th{display:block}
.checks tr{display:block;border-top:1px solid var(--line);padding:4px 0}
.checks tr:has(.how),.checks tr:has(th){border:0}
.wide .checks td,.checks th{border:0;padding:1px 0;max-width:none}
.checks tr td:first-child:not(:empty),.checks .name{display:inline-block;margin-right:10px}}
"""
HEADINGS: dict[CheckPart, str] = {
    "contract": "Contract",
    "floor": "Floors",
    "metric": "Shown to be no worse",
    "veto": "No harm shown",
    "slice": "No harm shown on slices",
    "budget": "Budgets, measured here",
    "own": "Further checks",
}
LOOKS = {"promote": "good", "block": "bad", "inconclusive": ""}


def checks_table(checks: Sequence[GateCheck]) -> Markup:
    """All checks under headings, each question and formula once."""
    parts: list[Markup] = []
    for part, heading in HEADINGS.items():
        parts += _rows(heading, [check for check in checks if check.part == part])
    return element("div", element("table", *parts, class_="checks"), class_="wide")


def _rows(heading: str, checks: Sequence[GateCheck]) -> list[Markup]:
    if not checks:
        return []
    rows = [element("tr", element("th", heading, class_="heading", colspan="5"))]
    explained = set()
    for check in checks:
        # Slices share their questions and formulas, which are read once.
        how = f"{check.question} How: {check.formula}" if check.formula else check.question
        rows.append(_row(check))
        if how and how not in explained:
            rows.append(element("tr", element("td"), element("td", how, class_="how", colspan="4")))
        explained.add(how)
    return rows


def _row(check: GateCheck) -> Markup:
    look = check.outcome if check.required or check.outcome != "unclear" else "spare"
    text = check.text if look != "spare" else f"{check.text} (not required)"
    cells = [
        element("td", element("span", check.outcome, class_="pill")),
        element("td", check.name, class_="name"),
    ]
    if check.estimate is not None:
        test = element("div", check.test_text, class_="soft")
        cells.append(element("td", check.interval_text, test, class_="num"))
        drawn = _drawn(check)
        if drawn:
            cells.append(element("td", drawn))
    # Words have the width of what is not shown.
    cells.append(element("td", text, class_="why", colspan=str(5 - len(cells))))
    return element("tr", *cells, class_=look)


def _drawn(check: GateCheck) -> Markup:
    """The interval, with what it is compared with as a rule."""
    ends = [end for end in (check.low, check.high, check.bound) if end is not None]
    if len(ends) < 3 or check.estimate is None:
        return Markup()
    known = [*ends, check.estimate]
    if check.part not in ("floor", "budget"):
        known.append(0.0)
    scale = (min(known), max(known))
    figure = (check.estimate, check.low, check.high)
    return interval_picture(check.interval_text, *figure, scale, check.bound)


def junit_of(name: str, facts: Mapping[str, str], checks: Sequence[GateCheck]) -> str:
    """A test suite with a test case for each check, and what else is known as its properties.

    A check that fails is a failure, and one that is unclear is skipped, with a message. The exit
    status of `modelkit gate` sets block apart from inconclusive; here only a skipped test does.
    """
    outcomes = [check.outcome for check in checks]
    counts = {
        "tests": str(len(checks)),
        "failures": str(outcomes.count("fail")),
        "skipped": str(outcomes.count("unclear")),
        "errors": "0",
    }
    suites = Element("testsuites", {"name": "modelkit gate", **counts})
    suite = SubElement(suites, "testsuite", {"name": _plain(name), **counts})
    properties = SubElement(suite, "properties")
    for fact, value in facts.items():
        SubElement(properties, "property", name=fact, value=_plain(value))
    for check in checks:
        _add_case(suite, check)
    indent(suites)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{tostring(suites, encoding='unicode')}\n"


def _add_case(suite: Element, check: GateCheck) -> None:
    classname = f"modelkit.gate.{check.part}"
    case = SubElement(suite, "testcase", name=_plain(check.name), classname=classname)
    message = _plain(": ".join(part for part in (check.figure, check.text) if part))
    if check.outcome == "fail":
        SubElement(case, "failure", message=message, type="block").text = _plain(check.question)
    elif check.outcome == "unclear":
        kind = "inconclusive" if check.required else "not required"
        SubElement(case, "skipped", message=f"{kind}: {message}")
    lines = (check.question, check.formula, message)
    SubElement(case, "system-out").text = "\n".join(_plain(line) for line in lines if line)


def _plain(text: str) -> str:
    """Text without characters that XML cannot hold."""
    return printable(text) if is_controlling(text) or not text.isprintable() else text
