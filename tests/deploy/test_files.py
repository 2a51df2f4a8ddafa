"""The files of an image, as the tools read them that docs/howto/deploy/docker.md names: hadolint, uv and CycloneDX."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.images import write
from helpers.places import GOLDEN
from helpers.sealed import key_files
from helpers.servers import other_server
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier

import modelkit as mk
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
        timeout=280,
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


def of_kind(kind, package, rows, folder):
    """A package of a kind, and the variables that open it."""
    path = folder / f"{kind}.mk"
    about = {"example": rows, "name": kind, "version": "1"}
    variables = {}
    if kind == "watched and explained":
        shutil.copy(package, path)
        mk.attach(path, profile=mk.Profile.fit(rows[::2], reference=rows[1::2]), background=rows)
    elif kind == "encoder":
        shutil.copy(GOLDEN / "encoder1.mk", path)
    elif kind == "sealed":
        private, public = key_files(folder, "serving")
        mk.seal(package, {"serving": public}, out=path)
        variables["MODELKIT_UNSEAL"] = str(private)
    else:
        forest = RandomForestClassifier(5).fit(rows, load_breast_cancer().target)
        mk.save(forest, path, format="joblib", **about)
        variables["MODELKIT_ALLOW"] = "joblib"
    return path, variables | {"MODELKIT_DIGEST": mk.inspect(path).digest}


@pytest.mark.parametrize("kind", ["watched and explained", "encoder", "sealed", "joblib"])
def test_the_requirements_serve_each_kind_of_package(kind, tumour_mk, rows, wheel, tmp_path):
    path, variables = of_kind(kind, tumour_mk, rows, tmp_path)
    write(tmp_path, exported("docker", path))
    ran("uv", "venv", "--quiet", f"--python={sys.executable}", "venv", cwd=tmp_path)
    options = ("--quiet", "--python=venv", f"--find-links={wheel.parent}")
    ran("uv", "pip", "install", *options, "-r", "requirements.txt", cwd=tmp_path)
    command = (tmp_path / "venv" / "bin" / "modelkit", "serve", path, "--port", "PORT")
    variables["PYTHONPATH"] = ""
    with other_server(*command, "--name", "m", "--drain=0", environ=variables) as served:
        texts, numbers = [{"text": "a good film"}], rows[:1].to_dict("records")
        asked = {"rows": texts if kind == "encoder" else numbers}
        assert served.post("/models/m/predict", asked)[0] == 200
        if "explained" in kind:
            assert served.post("/models/m/explain", asked)[0] == 200
            assert "modelkit_monitored_rows_total" in served.ask("GET", "/metrics")[2].decode()
        assert served.end() == 0
