"""What is released, apart from the environments of `make release-check`."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
from helpers.places import ROOT
from helpers.processes import PATIENCE

import modelkit as mk


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        folder,
        ROOT,
    ]
    subprocess.run(command, check=True, timeout=PATIENCE)
    (path,) = folder.iterdir()
    with zipfile.ZipFile(path) as file:
        yield file


def test_a_wheel_holds_the_library_with_its_types_and_nothing_else(wheel):
    names = wheel.namelist()
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"modelkit", f"modelkit_sdk-{mk.__version__}.dist-info"}
    assert {"modelkit/py.typed", "modelkit/__init__.pyi", "modelkit/types.pyi"} <= {*names}
    assert not [name for name in names if name.endswith((".mk", ".onnx", ".npz", ".ipynb"))]


def test_its_readme_has_no_relative_link_and_its_urls_lead_to_one_place(wheel):
    (about,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    metadata = wheel.read(about).decode()
    home = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["modelkit"][
        "repository"
    ]
    assert re.findall(r"\]\((?!https?://|#)[^)]*\)", metadata) == []
    assert f"]({home}/blob/v{mk.__version__}/docs/start/install.md)" in metadata
    urls = dict(re.findall(r"^Project-URL: (\w+), (.*)$", metadata, re.MULTILINE))
    assert {*urls} == {"Documentation", "Source", "Changelog", "Issues"}
    assert all(url.startswith(home) for url in urls.values())
    assert "Provides-Extra: dev" not in metadata


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert project["version"] == mk.__version__
    assert f"\nversion: {mk.__version__}\n" in citation
    assert re.search(rf"^## {re.escape(mk.__version__)}, ", changelog, re.MULTILINE)


def test_the_changes_of_a_version_are_joined_as_often_as_some_come_in(tmp_path):
    for name in ("tools/join_changes.py", "src/modelkit/__init__.py", "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    folder = tmp_path / "changelog.d"
    folder.mkdir()
    command = [sys.executable, tmp_path / "tools" / "join_changes.py"]
    for text in ("`save` is quicker.\n\nB is gone.\n", "- [A page](../docs/a.md) is new.\n"):
        (folder / "change.md").write_text(text, "utf-8")
        subprocess.run(command, check=True, timeout=PATIENCE)
    (joined,) = folder.iterdir()
    assert joined.name == f"{mk.__version__}.md"
    assert joined.read_text("utf-8").splitlines() == [
        f"# {mk.__version__}",
        "",
        "- [A page](../docs/a.md) is new.",
        "- `save` is quicker.",
        "- B is gone.",
    ]
    changelog = (tmp_path / "CHANGELOG.md").read_text("utf-8")
    assert re.search(
        rf"^## {re.escape(mk.__version__)}, \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE
    )


def test_every_extra_stands_in_the_table_of_the_install_page():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    page = (ROOT / "docs" / "start" / "install.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \|.*\| *\d+ \| *\d+ \|$", page, re.MULTILINE)
    assert sorted(rows) == sorted(project["optional-dependencies"])
