"""The site is whole: every page, name and command has its place, and nothing is fetched from elsewhere."""

import argparse
import re

import pytest
from docutils.nodes import make_id
from sphinx.util.inventory import InventoryFile

import modelkit as mk
import modelkit.testing
import modelkit.types
from modelkit.cli import build_parser

pytestmark = pytest.mark.timeout(600)  # the first test builds the site

FETCHED = re.compile(r"<(?!a\b)[a-z]+\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
IN_CSS = re.compile(r"(?:@import|url\()\s*[\"']?(?:https?:)?//")


@pytest.fixture(scope="module")
def entries(site):
    """The names of Python that the reference has."""
    with (site / "objects.inv").open("rb") as file:
        found = InventoryFile.load(file, "", lambda base, place: place)
    return {name for kind, names in found.items() if kind.startswith("py:") for name in names}


@pytest.mark.parametrize("module", [mk, mk.types, mk.testing], ids=lambda module: module.__name__)
def test_every_exported_name_has_an_entry(module, entries):
    assert {f"{module.__name__}.{name}" for name in module.__all__} - entries == set()


def test_every_error_event_and_integration_has_an_entry(entries):
    for module in (mk.errors, mk.events):
        kinds = {n for n, kind in vars(module).items() if isinstance(kind, type) and n[0] != "_"}
        own = {n for n in kinds if getattr(module, n).__module__ == module.__name__}
        assert {f"{module.__name__}.{name}" for name in own} - entries == set()
    assert {
        f"modelkit.integrations.{name}"
        for name in (
            *("dask.drift", "dask.score", "mlflow.import_model", "mlflow.log_model"),
            *("opentelemetry.Points", "prometheus.Collector", "ray.deployment", "ray.drift"),
            *("ray.score", "spark.drift", "spark.score"),
        )
    } - entries == set()


def commands(parser):
    below = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    return [
        parser,
        *(found for each in below for p in each.choices.values() for found in commands(p)),
    ]


def test_every_command_and_option_stands_on_the_page_of_commands(site):
    page = (site / "reference" / "cli.html").read_text(encoding="utf-8")
    sections = dict(
        re.findall(r'<section id="(modelkit-[\w-]+)">(.*?)(?=<section id=|\Z)', page, re.DOTALL)
    )
    for command in commands(build_parser())[1:]:
        section = sections[make_id(command.prog)]
        for action in command._actions:
            for option in set(action.option_strings) - {"-h", "--help"}:
                assert option in section, f"{command.prog} {option}"


def test_nothing_is_fetched_from_elsewhere(site):
    fetched = {
        (page.relative_to(site), found)
        for pattern, kinds in ((FETCHED, "*.html"), (IN_CSS, "*.css"))
        for page in site.rglob(kinds)
        for found in pattern.findall(page.read_text(encoding="utf-8"))
    }
    assert fetched == set()
