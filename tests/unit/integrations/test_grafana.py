"""`modelkit export grafana`: files that Grafana, Prometheus and people read, and that fit the figures we give."""

import json
import re
import shutil
import subprocess

import promql_parser
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard
from helpers.places import ROOT
from helpers.programs import needs
from hypothesis import example, given
from hypothesis import strategies as st

from modelkit import cli
from modelkit.errors import ExportError
from modelkit.integrations.families import FAMILIES
from modelkit.integrations.grafana.alert_tests import alert_tests
from modelkit.integrations.grafana.alerts import Objectives, alert_rules, to_yaml
from modelkit.integrations.grafana.grafana import dashboard

PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
FILES = ("dashboard.json", "alerts.yml", "alerts_test.yml")
FIRST_SCREEN = 24  # units of 38 pixels: what a screen of 1,080 lines shows below Grafana's own bars
# Labels and figures that come from Prometheus itself, or from prometheus_client's process collector.
TARGET_LABELS = {"namespace", "job", "instance"}
OTHERS = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "scrape_duration_seconds",
}
ENDINGS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def panels():
    for panel in dashboard()["panels"]:
        yield panel
        yield from panel.get("panels", [])


def figures():
    return [panel for panel in panels() if panel["type"] != "row"]


def recorded_and_alerts():
    recorded, alerts = alert_rules(Objectives())["groups"]
    return recorded["rules"], alerts["rules"]


def alert_names():
    return [rule["alert"] for rule in recorded_and_alerts()[1]]


def export(folder, *options):
    return cli.main(["export", "grafana", "--out", str(folder), *options])


# The command.


def test_the_command_writes_three_files_and_says_which(tmp_path, capsys):
    folder = tmp_path / "a" / "b"
    assert export(folder) == 0
    assert capsys.readouterr().out.splitlines() == [str(folder / name) for name in FILES]
    assert json.loads((folder / "dashboard.json").read_text()) == dashboard()
    assert yaml.safe_load((folder / "alerts.yml").read_text()) == alert_rules(Objectives())
    assert yaml.safe_load((folder / "alerts_test.yml").read_text()) == alert_tests(
        Objectives(), "alerts.yml"
    )


def test_files_that_were_changed_are_not_overwritten(tmp_path, capsys):
    assert export(tmp_path) == export(tmp_path) == 0
    theirs = (tmp_path / "alerts.yml").read_text() + "# ours\n"
    (tmp_path / "alerts.yml").write_text(theirs)
    (tmp_path / "dashboard.json").unlink()
    capsys.readouterr()
    assert export(tmp_path) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "alerts.yml in" in err
    assert "--force" in err
    assert (tmp_path / "alerts.yml").read_text() == theirs
    assert not (tmp_path / "dashboard.json").exists()
    assert export(tmp_path, "--force") == 0
    assert "# ours" not in (tmp_path / "alerts.yml").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--p99", "0"), "p99 is in seconds"),
        (("--p99", "60"), "p99 is in seconds"),
        (("--p99", "nan"), "p99 is in seconds"),
        (("--errors", "0"), "errors is the part"),
        (("--errors", "0.5"), "errors is the part"),
        (("--errors", "nan"), "errors is the part"),
        (("--runbook", ""), "runbook is the URL"),
        (("--runbook", "https://a/b#c"), "runbook is the URL"),
        (("--runbook", "{{ $labels.model }}"), "runbook is the URL"),
    ],
)
def test_objectives_out_of_range_are_refused(tmp_path, capsys, options, said):
    assert export(tmp_path / "new", *options) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert export(tmp_path / "file") == 1
    assert "file" in capsys.readouterr().err


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


# The dashboard.


def lost(written, read, path=""):
    """The places where a document was read otherwise than it was written."""
    if isinstance(written, dict) and isinstance(read, dict):
        for key, member in written.items():
            yield from lost(member, read.get(key, "nothing"), f"{path}/{key}")
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for i, members in enumerate(zip(written, read, strict=True)):
            yield from lost(*members, f"{path}/{i}")
    elif written != read:
        yield path, written, read


def through_the_sdk(document):
    read = Dashboard.from_json(json.loads(json.dumps(document)))
    return json.loads(JSONEncoder(sort_keys=True, indent=0).encode(read))


def test_grafanas_own_types_read_the_dashboard_and_lose_nothing():
    assert list(lost(dashboard(), through_the_sdk(dashboard()))) == []


def test_grafanas_own_types_would_lose_a_key_that_is_wrong():
    document = dashboard()
    document["panels"][0]["gridPosition"] = document["panels"][0].pop("gridPos")
    assert [path for path, *_ in lost(document, through_the_sdk(document))] == [
        "/panels/0/gridPosition"
    ]


def test_every_panel_says_what_it_shows_in_which_unit():
    known = {
        value for name, value in vars(units).items() if isinstance(value, str) and name[0] != "_"
    }
    titles = [panel["title"] for panel in figures()]
    for panel in figures():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in known, panel["title"]
        assert panel["targets"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
    numbers = [panel["id"] for panel in panels()]
    assert len({*numbers}) == len(numbers)
    assert len({*titles}) >= len(titles) - 1  # the alarms are a figure and a graph


def test_what_matters_first_is_on_one_screen_and_nothing_overlaps():
    for shown in (dashboard()["panels"], *(panel.get("panels", []) for panel in panels())):
        cells = []
        for panel in shown:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24
            columns = range(at["x"], at["x"] + at["w"])
            cells += [(x, y) for x in columns for y in range(at["y"], at["y"] + at["h"])]
        assert len({*cells}) == len(cells)
    opened = [panel["gridPos"] for panel in dashboard()["panels"] if not panel.get("collapsed")]
    assert max(at["y"] + at["h"] for at in opened) <= FIRST_SCREEN


# Expressions: they parse, and they ask for figures and labels that there are.


def expressions():
    recorded, alerts = recorded_and_alerts()
    for rule in recorded + alerts:
        yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in figures():
        for target in panel["targets"]:
            expr = target["expr"].replace("$__rate_interval", "1m")
            yield f"{panel['title']} {target['refId']}", expr


def known_series():
    """Labels by the name of each series that there may be."""
    found = {
        f"{name}{ending}": {*family.labels, *(["le"] if ending == "_bucket" else [])}
        for name, family in FAMILIES.items()
        for ending in ENDINGS[family.kind]
    }
    found |= {name: set() for name in OTHERS}
    recorded, _ = recorded_and_alerts()
    found |= {rule["record"]: {"model", "version"} for rule in recorded}
    return found


@pytest.mark.parametrize(("name", "expr"), [*expressions()])
def test_every_expression_asks_for_figures_that_there_are(name, expr):
    series = known_series()
    labels = {"class"} | TARGET_LABELS
    selectors = []
    promql_parser.walk(promql_parser.parse(expr), selectors.append)
    selectors = [node for node in selectors if isinstance(node, promql_parser.VectorSelector)]
    assert selectors
    for selector in selectors:
        assert selector.name in series
        asked = {matcher.name for matcher in selector.matchers.matchers}
        assert asked <= series[selector.name] | TARGET_LABELS
        labels |= series[selector.name]
    for grouped in re.findall(r"\b(?:by|on) \(([^)]*)\)", expr):
        assert {*grouped.split(", ")} <= labels


def test_every_model_figure_of_the_dashboard_is_of_the_chosen_models():
    for panel in figures():
        for target in panel["targets"]:
            for name, matchers in re.findall(r"(modelkit_\w+)(\{[^}]*\})?", target["expr"]):
                chosen = '{model=~"$model", version=~"$version"' in matchers
                assert chosen != name.startswith("modelkit_http_"), target["expr"]


def test_every_family_is_on_the_dashboard():
    text = json.dumps(dashboard())
    assert [name for name in FAMILIES if name not in text] == []


# The rules.


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
    (tmp_path / "alerts.yml").write_text(to_yaml(alert_rules(export_with)))
    (tmp_path / "alerts_test.yml").write_text(to_yaml(alert_tests(export_with, "alerts.yml")))
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
    document = alert_rules(Objectives())
    for rule in document["groups"][1]["rules"]:
        rule["expr"] = broken
    (tmp_path / "alerts.yml").write_text(to_yaml(document))
    (tmp_path / "alerts_test.yml").write_text(to_yaml(alert_tests(Objectives(), "alerts.yml")))
    said, well = said_by("promtool", tmp_path, "test", "rules", "alerts_test.yml")
    assert not well
    found = set(re.findall(r"alertname: (\w+)", said))
    assert found == {*alert_names()}


def test_objectives_are_values():
    assert Objectives(errors=0.01) == Objectives(0.01)
    with pytest.raises(ExportError, match=r"at most 0\.05"):
        Objectives(errors=1.0)
