"""The commands of docs/howto/deploy/serverless.md for a machine without a network, run on one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.places import ROOT
from helpers.programs import needs, until
from helpers.servers import started

import modelkit as mk

PATIENCE = 280
NAMESPACES = ("unshare", "--net", "--pid", "--fork", "--kill-child")
CHECKOUT = ("pyproject.toml", "README.md", "LICENSE", "src", "tools")
pytestmark = needs("unshare", "nsenter", "ip", "sh")


def commands_of_the_page():
    """What is run where there is an index, and what where there is none."""
    text = (
        (ROOT / "docs" / "howto" / "deploy" / "serverless.md")
        .read_text("utf-8")
        .partition("\n## Without a network\n")[2]
    )
    blocks = text.split("```sh\n")[1:]
    return [block.partition("```")[0] for block in blocks[:2]]


@pytest.fixture
def place(tmp_path, tumour_mk):
    """A checkout, and what is at hand on the other machine: an environment of nobody's settings."""
    if subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to make a namespace without a network")
    (tmp_path / "checkout").mkdir()
    for name in CHECKOUT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / "checkout" / name)
    (tmp_path / "there").mkdir()
    shutil.copy(tumour_mk, tmp_path / "there" / "tumour.mk")
    return tmp_path


def test_a_bundle_is_installed_and_serves_where_there_is_no_network(
    place, tumour_mk, question, expected
):
    before, after = commands_of_the_page()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([shutil.which("sh"), "-ec", before], cwd=place / "checkout", check=True, timeout=PATIENCE,
                   capture_output=True, env={**os.environ, "PATH": path})  # fmt: skip
    (place / "checkout" / "bundle").rename(place / "there" / "bundle")
    bare = {"PATH": path, "HOME": str(place), "DIGEST": mk.inspect(tumour_mk).digest}
    unset = [f"--unset={name}" for name in os.environ if name.startswith(("PIP_", "PYTHON"))]
    script = f"ip link set lo up; cd {place / 'there'}; {after}"
    command = ["env", *unset, "PIP_CONFIG_FILE=/dev/null", *NAMESPACES, "sh", "-ec", script]
    with started(command, bare) as process:
        until(lambda: "://" in process.stdout.readline(), "an answer", PATIENCE)
        inside = ["nsenter", "--target", str(process.pid), "--net", sys.executable, *question]
        answer = subprocess.run(
            inside, check=True, capture_output=True, text=True, timeout=PATIENCE
        )
        assert json.loads(answer.stdout)["outputs"] == expected
        listed = [place / "there" / "modelkit" / "bin" / "pip", "list", "--format=json"]
        installed = json.loads(subprocess.run(listed, check=True, capture_output=True).stdout)
    names = {each["name"] for each in installed}
    assert names >= {"modelkit-sdk", "numpy", "onnxruntime", "orjson", "uvicorn"}
    assert not names & {"scipy", "onnx", "scikit-learn", "pandas"}
