"""Alerts: what each says, that each is tested, and where the objectives stand in them."""

import re

import pytest
from helpers.alert_tests import alert_tests
from helpers.alerts import alert_names, recorded_and_alerts, rules_of
from helpers.places import ROOT
from hypothesis import given
from hypothesis import strategies as st

from modelkit.errors import UsageError
from modelkit.integrations.grafana import Objectives

PAGE = (ROOT / "docs" / "reference" / "alerts.md").read_text(encoding="utf-8")


def test_every_alert_says_for_how_long_how_bad_and_where_to_read_on():
    _, alerts = recorded_and_alerts()
    assert len({*alert_names()}) == len(alerts) == 11
    for rule in alerts:
        assert re.fullmatch(r"\d+m", rule["for"])
        assert rule["labels"]["severity"] in ("critical", "warning")
        said = rule["annotations"]
        assert said["runbook_url"] == f"docs/reference/alerts.md#{rule['alert'].lower()}"
        assert said["summary"]
        assert said["description"].endswith(".")


def test_every_alert_has_a_test_where_it_fires_and_one_where_it_is_silent():
    found = {name: set() for name in alert_names()}
    for case in alert_tests(Objectives(), "alerts.yml")["tests"]:
        for expected in case["alert_rule_test"]:
            found[expected["alertname"]].add(bool(expected["exp_alerts"]))
    assert found == {name: {True, False} for name in alert_names()}


def test_every_alert_has_its_section_in_the_documentation():
    headings = re.findall(r"^## (Modelkit\w+)$", PAGE, re.MULTILINE)
    assert headings == alert_names()


def test_objectives_are_values():
    assert Objectives(errors=0.01) == Objectives(0.01)
    with pytest.raises(UsageError, match=r"at most 0\.05"):
        Objectives(errors=1.0)


PLACES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn", "Co"]))
PLACES |= st.text(st.sampled_from("ab \"'\\:-|[]&*!%@`<>"))
LIMITS = {"ModelkitErrorsFast": [14.4, 14.4, 6, 6], "ModelkitErrorsSlow": [3, 3, 1, 1]}


@given(
    st.floats(1e-9, 0.05),
    st.floats(1e-5, 30),
    PLACES.filter(lambda place: place and not {*place} & {*"#{}\u2028\u2029"}),
)
def test_the_objectives_fill_every_hole(errors, p99, runbook):
    recorded, alerts = rules_of(Objectives(errors, p99, runbook))["groups"]
    found = {}
    for rule in alerts["rules"]:
        assert rule["annotations"].pop("runbook_url") == f"{runbook}#{rule['alert'].lower()}"
        found[rule["alert"]] = re.findall(r"rate\w+ > (\S+)|p99_5m > (\S+)", rule["expr"])
    for alert, factors in LIMITS.items():
        assert found[alert] == [(f"{factor * errors:g}", "") for factor in factors]
    assert found["ModelkitSlowCalls"] == [("", f"{p99:g}")]
    assert not re.search("ERRORS|P99_SECONDS|RUNBOOK", str([recorded, alerts]))
