"""The dashboard: Grafana reads all of it, people see what matters first, and it asks for figures that there are."""

import json
import re

import promql_parser
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard
from helpers.alerts import recorded_and_alerts

from modelkit.integrations import grafana
from modelkit.integrations.families import FAMILIES

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


def dashboard():
    return json.loads(grafana.dashboard())


def panels():
    for panel in dashboard()["panels"]:
        yield panel
        yield from panel.get("panels", [])


def figures():
    return [panel for panel in panels() if panel["type"] != "row"]


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
