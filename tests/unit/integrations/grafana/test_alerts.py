"""Alerts: what each says, that each is tested, objectives, and the YAML that they are written in."""

import re

import pytest
import yaml
from helpers.alerts import alert_names, recorded_and_alerts
from helpers.places import ROOT
from hypothesis import example, given
from hypothesis import strategies as st

from modelkit.errors import UsageError
from modelkit.integrations.grafana.alert_tests import alert_tests
from modelkit.integrations.grafana.alerts import Objectives, to_yaml

PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")


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
    with pytest.raises(UsageError, match=r"at most 0\.05"):
        Objectives(errors=1.0)


# YAML.

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn", "Co"]))
TEXTS |= st.text(st.sampled_from("ab \"'\n:#-|{}[]&*!%@`"))
LEAVES = TEXTS | st.integers() | st.booleans() | st.none()
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=8
)


@given(st.lists(DOCUMENTS) | st.dictionaries(NAMES, DOCUMENTS))
@example({"no": [], "yes": 1, "on": {"off": 2}, "y": 3, "n": 4, "null": {"true": 5}, "false": 6})
def test_yaml_reads_what_was_written(document):
    assert yaml.safe_load(to_yaml(document)) == document
