"""A Verdict is a value: JSON, JUnit and a page, and what its checks come to."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from helpers.judged import drawn_rows
from hypothesis import given
from hypothesis import strategies as st

import modelkit as mk
from modelkit.errors import PackageError, UsageError
from modelkit.lifecycle.gate.verdict import decision_of


def test_it_is_the_same_from_json(verdict):
    assert mk.Verdict.from_json(verdict.to_json()) == verdict
    plain = json.loads(verdict.to_json())
    for changed in (
        {**plain, "decision": "block"},
        {**plain, "schema": "other"},
        {**plain, "more": 1},
        {name: value for name, value in plain.items() if name != "alpha"},
    ):
        with pytest.raises(PackageError, match="not a Verdict"):
            mk.Verdict.from_json(json.dumps(changed))


def test_it_is_neither_true_nor_false(verdict):
    """`if mk.gate(...)` promoted whatever was blocked."""
    with pytest.raises(TypeError, match=r"\.decision == 'promote'"):
        bool(verdict)


def test_it_holds_no_row(verdict, rows):
    text = verdict.to_json() + verdict.to_html() + verdict.to_junit() + verdict._repr_html_()
    told = [repr(value) for value in rows[0]["a"] if len(repr(value)) > 8]
    assert len(told) > 1000
    assert not any(value in text for value in told)


@given(st.lists(st.tuples(st.sampled_from(["pass", "fail", "unclear"]), st.booleans())))
def test_what_the_answers_come_to(answers):
    checks = [mk.types.GateCheck(str(at), "?", *answer) for at, answer in enumerate(answers)]
    decision = decision_of(checks)
    assert (decision == "block") == any(outcome == "fail" for outcome, _ in answers)
    if decision == "promote":
        assert all(outcome == "pass" for outcome, required in answers if required)
    # More that passes never takes a promotion away.
    assert decision_of([*checks, mk.types.GateCheck("more", "?", "pass")]) == decision


def parsed(text):
    return ET.fromstring(text.encode())  # noqa: S314 - our own


def test_junit_has_a_test_case_for_each_check(judged_pair, rows, verdict):
    blocked = mk.gate(
        *judged_pair, *rows, margin=0, require=["accuracy >= 0.99"], slices=["region"]
    )
    for found in (verdict, blocked):
        suite = parsed(found.to_junit()).find("testsuite")
        cases = suite.findall("testcase")
        assert [case.get("name") for case in cases] == [check.name for check in found.checks]
        for case, check in zip(cases, found.checks, strict=True):
            assert (case.find("failure") is not None) == (check.outcome == "fail")
            assert (case.find("skipped") is not None) == (check.outcome == "unclear")
        for count, tag in (("failures", "failure"), ("skipped", "skipped")):
            assert int(suite.get(count)) == sum(case.find(tag) is not None for case in cases)
        properties = {each.get("name"): each.get("value") for each in suite.iter("property")}
        assert properties["decision"] == found.decision
    assert blocked.decision == "block"


HOSTILE = "<script>alert(1)</script>&\x1b[31m\x00\n'\""


def test_what_data_says_is_escaped_everywhere(judged_pair, rows):
    X, y = rows
    values = np.where(np.arange(len(y)) % 2, HOSTILE, "plain")
    check = mk.types.GateCheck(HOSTILE, HOSTILE, "unclear", text=HOSTILE, formula=HOSTILE)
    found = mk.gate(
        *judged_pair, X[["a", "b"]], y, margin=0.05, slices={HOSTILE: values}, checks=[check]
    )
    for text in (found.to_html(), found._repr_html_()):
        assert "<script" not in text
        assert "\x1b" not in text
    parsed(found.to_junit())
    assert mk.Verdict.from_json(found.to_json()) == found


def test_the_page_shows_every_check_and_loads_nothing(verdict):
    page = verdict.to_html()
    for check in verdict.checks:
        assert check.name.replace(">", "&gt;") in page
    assert "PROMOTE" in page
    assert '<td class="why" colspan="3">every member has its hash' in page  # not in a narrow column
    assert not re.search(r"(?:src|href)=|url\(|@import", page)


def test_numbers_of_numpy_are_numbers(judged_pair):
    rows, y = drawn_rows(np.random.default_rng(0), 50)
    found = mk.gate(*judged_pair, rows, y, margin=np.float32(0.5), alpha=np.float32(0.0625))
    assert mk.Verdict.from_json(found.to_json()) == found


def test_a_verdict_without_a_check_is_none(judged_pair):
    rows, y = drawn_rows(np.random.default_rng(0), 50)
    plain = json.loads(mk.gate(*judged_pair, rows, y, margin=0.02).to_json())
    with pytest.raises(PackageError, match="it lacks checks"):
        mk.Verdict.from_json(json.dumps(plain | {"checks": [], "decision": "promote"}))


@pytest.mark.parametrize("outcome", ["failed", "FAIL", "", None, True])
def test_a_check_of_another_outcome_cannot_stop_nothing(outcome):
    with pytest.raises(UsageError, match="outcome of the check 'mine' is one of 'pass', 'fail'"):
        mk.types.GateCheck("mine", "is it good?", outcome)
