"""The tutorial, as a stranger goes through it: from an empty environment, by a clock."""

import os
import re
import resource
import subprocess
import sys

import pytest
from helpers.places import ROOT

PAGE = ROOT / "docs" / "start" / "tutorial.md"
SECONDS = 180  # of the processor, for fifteen minutes by hand; installing is not counted


def spent():
    """The seconds that children of this process took of the processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The folder that is left, what was printed, and the seconds that it took."""
    folder = tmp_path_factory.mktemp("tutorial")
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    (asked,) = re.findall(r"^pip install (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    packages = [each.strip('"').replace("CHECKOUT", str(ROOT)) for each in asked.split()]
    pip = [environment / "bin" / "pip", "install", "-q", "--disable-pip-version-check", *packages]
    subprocess.run(pip, check=True, timeout=600)
    path = f"{environment / 'bin'}:{os.environ['PATH']}"
    before = spent()
    done = subprocess.run(
        [environment / "bin" / "python", ROOT / "tools" / "run_page.py", PAGE],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "PATH": path, "TMPDIR": str(folder), "PYTHONPATH": ""},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    (left,) = folder.glob("*/models")
    return left.parent, done.stdout, spent() - before


@pytest.mark.timeout(1200)
def test_it_takes_minutes(played):
    assert played[2] < SECONDS


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "found",
    [
        '"outputs":{"label":[true]',  # a URL answers
        "True [('dep_delay'",  # an explanation
        "spring []\nsummer [",
        "'dep_delay']",  # an alarm in summer
        "1.2.0 rollback",
        "1.1.0 promote",
        "champion is 1.1.0, before 1.0.0",
    ],
)
def test_everything_it_promises_happens(played, found):
    assert found in played[1]


@pytest.mark.timeout(1200)
def test_what_is_left_can_be_played_with(played):
    names = {each.name for each in played[0].iterdir()}
    assert names >= {
        "flights.csv",
        "models",
        "why.html",
        "drift.html",
        "gate.html",
        "registry.html",
    }
    assert {f"late-{version}.mk" for version in ("1.0.0", "1.1.0", "1.2.0")} <= names
