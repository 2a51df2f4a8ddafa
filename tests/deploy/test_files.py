"""The files of an image, as the tools read them that docs/docker.md names: hadolint, uv and CycloneDX."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.images import write

from modelkit.integrations.deploy import exported

PROGRAMS = Path(sys.executable).parent
LINUX = ("--python-version=3.13", "--python-platform=x86_64-manylinux_2_28")


def ran(program, *arguments, cwd):
    return subprocess.run(
        [PROGRAMS / program, *arguments],
        check=True,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
    ).stdout


@pytest.fixture
def folder(tumour_mk, wheel, tmp_path):
    write(tmp_path, exported("docker", tumour_mk))
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / wheel.name).write_bytes(wheel.read_bytes())
    return tmp_path


def test_hadolint_finds_nothing(folder):
    assert ran("hadolint", "Dockerfile", cwd=folder) == ""


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-gpu.txt"])
def test_uv_adds_hashes_and_the_libraries_of_cuda(name, folder):
    options = ("--generate-hashes", "--find-links=wheels", *LINUX)
    ran("uv", "pip", "compile", "--quiet", *options, name, "--output-file", name, cwd=folder)
    locked = (folder / name).read_text()
    pins = dict(re.findall(r"^([\w-]+)==(\S+) \\\n    --hash=sha256:", locked, re.MULTILINE))
    assert {"modelkit-sdk", "numpy", "uvicorn"} <= {*pins}
    cuda = {"onnxruntime-gpu", "nvidia-cudnn-cu13", "nvidia-cuda-runtime"}
    assert cuda & {*pins} == (cuda if "gpu" in name else set())


def test_cyclonedx_makes_a_bill_of_materials(folder):
    ran("cyclonedx-py", "requirements", "requirements.txt", "-o", "sbom.json", cwd=folder)
    found = json.loads((folder / "sbom.json").read_text())["components"]
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert {f"{each['name']}=={each['version']}" for each in found} == {*lines}
