"""The rules, their tests and the configurations of the documentation, as promtool and amtool read them."""

import re
import shutil
import subprocess

import pytest
import yaml
from helpers.alert_tests import alert_tests
from helpers.alerts import alert_names, rules_of
from helpers.places import ROOT
from helpers.programs import needs

from modelkit import cli
from modelkit.integrations.grafana import Objectives, alert_rules

PAGE = (ROOT / "docs" / "howto" / "serve" / "dashboards.md").read_text(encoding="utf-8")


def export(folder, *options):
    return cli.main(["export", "grafana", "--output", str(folder), *options])


def said_by(program, folder, *arguments):
    """What a program prints, and whether all is well for it."""
    done = subprocess.run(
        [shutil.which(program), *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr, done.returncode == 0


@needs("promtool", "amtool")
def test_the_configurations_in_the_documentation_are_valid(tmp_path):
    blocks = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (scraping,) = [block for block in blocks if "rule_files:" in block]
    (routing,) = [block for block in blocks if "group_by:" in block]
    assert export(tmp_path) == 0
    (tmp_path / "prometheus.yml").write_text(scraping)
    (tmp_path / "alertmanager.yml").write_text(routing)
    said, well = said_by("promtool", tmp_path, "check", "config", "prometheus.yml")
    assert well, said
    assert "27 rules found" in said
    said, well = said_by("amtool", tmp_path, "check-config", "alertmanager.yml")
    assert well, said


@needs("promtool")
@pytest.mark.parametrize(
    "objectives", [(), (0.05, 1e-5, 'https://runbooks.example/a b/"c".html'), (1e-5, 30.0)]
)
def test_promtool_takes_the_rules_and_their_tests_pass(tmp_path, objectives):
    export_with = Objectives(*objectives)
    (tmp_path / "alerts.yml").write_text(alert_rules(export_with))
    (tmp_path / "alerts_test.yml").write_text(
        yaml.safe_dump(alert_tests(export_with, "alerts.yml"))
    )
    strictly = ("--lint=all", "--lint-fatal")
    said, well = said_by("promtool", tmp_path, "check", "rules", *strictly, "alerts.yml")
    assert well, said
    said, well = said_by("promtool", tmp_path, "test", "rules", "alerts_test.yml")
    assert well, said


@needs("promtool")
@pytest.mark.parametrize(
    "broken", ["vector(1) == 2", 'label_replace(vector(1), "model", "x", "", "")']
)
def test_the_tests_find_alerts_that_never_or_always_fire(tmp_path, broken):
    document = rules_of()
    for rule in document["groups"][1]["rules"]:
        rule["expr"] = broken
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(document))
    (tmp_path / "alerts_test.yml").write_text(
        yaml.safe_dump(alert_tests(Objectives(), "alerts.yml"))
    )
    said, well = said_by("promtool", tmp_path, "test", "rules", "alerts_test.yml")
    assert not well
    found = set(re.findall(r"alertname: (\w+)", said))
    assert found == {*alert_names()}
