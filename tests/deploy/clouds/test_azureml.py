"""The scoring script of docs/recipes, run by the inference server of Azure ML."""

import json
import os
import shutil
import sysconfig
from contextlib import contextmanager

import pytest
from helpers.places import ROOT
from helpers.programs import needs_library
from helpers.servers import Served, free_port, started, wait_until

import modelkit as mk

SCRIPT = ROOT / "docs" / "recipes" / "azureml_score.py"
BODY = {"Content-Type": "application/json"}
pytestmark = needs_library("azureml-inference-server-http")


@contextmanager
def azmlinfsrv(tumour_mk, folder, digest):
    """The server of Azure ML with the script, over a model as Azure ML mounts one."""
    model = folder / "tumour" / "1"
    model.mkdir(parents=True)
    shutil.copy(tumour_mk, model)
    program = os.path.join(sysconfig.get_path("scripts"), "azmlinfsrv")
    port, health = free_port(), free_port()
    command = [program, "--entry_script", SCRIPT, "--port", port, "--health_port", health]
    environ = {"AZUREML_MODEL_DIR": str(folder), "MODELKIT_DIGEST": digest}
    with started(command, environ) as process:
        yield Served(process, port)


@pytest.fixture(scope="module")
def served(tumour_mk, tmp_path_factory):
    folder = tmp_path_factory.mktemp("azureml")
    with azmlinfsrv(tumour_mk, folder, mk.inspect(tumour_mk).digest) as served:
        wait_until(lambda: is_up(served), served.process)
        yield served
        served.end()  # by SIGTERM, which its worker hears of


def is_up(served):
    try:
        return served.ask("GET", "/")[0] == 200
    except OSError:
        return False


def test_scores_are_those_of_the_model(served, rows, expected):
    status, answer = served.post("/score", {"inputs": {"X": rows.tolist()}})
    assert (status, answer["outputs"]) == (200, expected)
    status, answer = served.post("/score", {"instances": rows.tolist()})
    assert [each["label"] for each in answer["predictions"]] == expected["label"]
    lines = "\n".join(",".join(map(str, row)) for row in rows.tolist())
    status, headers, text = served.ask("POST", "/score", lines, {"Content-Type": "text/csv"})
    assert (status, headers["content-type"]) == (200, "text/csv")
    assert [line.partition(",")[0] for line in text.decode().splitlines()] == expected["label"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ('{"instances": [[1, 2]]}', BODY, 400),
        ('{"instances": [["a", 2, 3]]}', BODY, 422),
        ("no json", BODY, 400),
        ("1,2,3", {"Content-Type": "text/plain"}, 415),
        ("[" * 3_000_000, BODY, 413),
    ],
)
def test_what_is_wrong_has_a_status_and_words(served, body, headers, status):
    """An exception of `run` would be a 500, and its reason in the log alone."""
    found, _, text = served.ask("POST", "/score", body.encode(), headers)
    assert (found, "error" in json.loads(text)) == (status, True)


def test_another_package_fails_the_deployment(tumour_mk, tmp_path):
    with azmlinfsrv(tumour_mk, tmp_path, "sha256:" + 64 * "0") as served:
        log = served.process.communicate(timeout=280)
        assert served.process.returncode != 0
        assert any("that was asked for" in each for each in log)
