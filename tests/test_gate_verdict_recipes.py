"""The recipes of docs/gate.md for CI are run: the workflow is read, and its commands go through a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import yaml
from helpers.judged import drawn_rows, save_pair

import modelkit as mk

PAGE = (Path(__file__).parent.parent / "docs" / "gate.md").read_text(encoding="utf-8")
WORKFLOW = re.search(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]
PIPELINE = re.search(r"^```groovy\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]


@pytest.fixture
def workspace(tmp_path):
    """What a job checks out: a candidate, its rows, and a registry; and `modelkit` on the path."""
    candidate, champion = save_pair(tmp_path)
    candidate.rename(tmp_path / "churn-1.1.0.mk")
    registry = mk.Registry(tmp_path / "models")
    registry.register(champion)
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    X, y = drawn_rows(np.random.default_rng(0), 3000)
    X.assign(churned=y).to_csv(tmp_path / "test.csv", index=False)
    command = tmp_path / "bin" / "modelkit"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m modelkit.cli "$@"\n')
    command.chmod(0o755)
    return tmp_path


def shell(script, workspace):
    output = workspace / "output"
    path = f"{workspace / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/bash", "-e", "-c", script],
        cwd=workspace,
        env={**os.environ, "PATH": path, "GITHUB_OUTPUT": str(output)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    told = output.read_text().strip() if output.exists() else ""
    return done.returncode, told, done.stderr


def steps():
    workflow = yaml.safe_load(WORKFLOW)
    assert workflow["concurrency"] == "modelkit-churn"
    return [
        step for step in workflow["jobs"]["gate"]["steps"] if "modelkit " in step.get("run", "")
    ]


def test_the_workflow_promotes_by_the_verdict(workspace):
    judge, promote = steps()
    assert promote["if"] == "steps.gate.outputs.status == '0'"
    assert judge["id"] == "gate"
    status, told, error = shell(judge["run"], workspace)
    assert (status, told) == (0, "status=0"), error
    assert shell(promote["run"], workspace)[0] == 0
    assert mk.Registry(workspace / "models").aliases("churn")["champion"].version == "1.1.0"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("--margin 0", (0, "status=3")),
        ("--margin 0.03 --require 'accuracy >= 0.99'", (1, "status=4")),
    ],
)
def test_the_workflow_ends_red_where_the_gate_blocks_and_not_where_it_cannot_tell(
    workspace, asked, expected
):
    script = steps()[0]["run"].replace("--margin 0.03", asked)
    assert shell(script, workspace)[:2] == expected
    assert mk.Verdict.from_json((workspace / "verdict.json").read_text()).rows == 3000


def test_the_commands_of_the_pipeline_run_and_write_junit(workspace):
    judge, promote = re.findall(r"'''(.*?)'''", PIPELINE, re.DOTALL)
    assert shell(judge, workspace)[0] == 0
    suite = ET.parse(workspace / "gate.xml").getroot().find("testsuite")  # noqa: S314 - our own
    assert suite.get("failures") == "0"
    assert shell(promote, workspace)[0] == 0
    assert "junit 'gate.xml'" in PIPELINE
    # Every bracket that is opened is closed.
    for pair in ("{}", "()"):
        assert PIPELINE.count(pair[0]) == PIPELINE.count(pair[1])
