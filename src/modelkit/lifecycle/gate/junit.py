"""A Verdict in the form of JUnit, which Jenkins, GitLab and others show beside tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from modelkit.lifecycle.gate.check import GateCheck
from modelkit.report.html import is_controlling, printable


def junit_of(name: str, facts: Mapping[str, str], checks: Sequence[GateCheck]) -> str:
    """A test suite with a test case for each check, and what else is known as its properties.

    A check that fails is a failure, and one that is unclear is skipped, with a message. The exit
    status of `modelkit gate` tells block from inconclusive; nothing but a skipped test does here.
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
