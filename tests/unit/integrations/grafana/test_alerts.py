"""Alerts: what each says, that each is tested, and objectives."""

import re

import pytest
from helpers.places import ROOT

from modelkit.errors import ExportError
from modelkit.integrations.grafana.alert_tests import alert_tests
from modelkit.integrations.grafana.alerts import Objectives, alert_rules

PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")


def recorded_and_alerts():
    recorded, alerts = alert_rules(Objectives())["groups"]
    return recorded["rules"], alerts["rules"]


def alert_names():
    return [rule["alert"] for rule in recorded_and_alerts()[1]]


def test_every_alert_says_for_how_long_how_bad_and_where_to_read_on():
    _, alerts = recorded_and_alerts()
    assert len({*alert_names()}) == len(alerts) == 11
    for rule in alerts:
        assert re.fullmatch(r"\d+m", rule["for"])
        assert rule["labels"]["severity"] in ("critical", "warning")
        said = rule["annotations"]
        assert said["runbook_url"] == f"docs/metrics.md#{rule['alert'].lower()}"
        assert said["summary"]
        assert said["description"].endswith(".")


def test_every_alert_has_a_test_where_it_fires_and_one_where_it_is_silent():
    found = {name: set() for name in alert_names()}
    for case in alert_tests(Objectives(), "alerts.yml")["tests"]:
        for expected in case["alert_rule_test"]:
            found[expected["alertname"]].add(bool(expected["exp_alerts"]))
    assert found == {name: {True, False} for name in alert_names()}


def test_every_alert_has_its_section_in_the_documentation():
    headings = re.findall(r"^### (Modelkit\w+)$", PAGE, re.MULTILINE)
    assert headings == alert_names()


def test_objectives_are_values():
    assert Objectives(errors=0.01) == Objectives(0.01)
    with pytest.raises(ExportError, match=r"at most 0\.05"):
        Objectives(errors=1.0)
