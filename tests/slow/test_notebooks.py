"""The notebooks of the documentation run, and print what they show."""

import io
import json
from contextlib import redirect_stdout

import pytest
from helpers.places import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_prints_what_it_shows(path, tmp_path, monkeypatch):
    """Cell after cell in one namespace, as a kernel runs them; what it displays is not compared."""
    monkeypatch.chdir(tmp_path)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    namespace: dict[str, object] = {}
    for number, cell in enumerate(cells):
        if cell["cell_type"] != "code":
            continue
        code = compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec")
        with redirect_stdout(io.StringIO()) as printed:
            exec(code, namespace)  # noqa: S102 - running the notebook is the point
        shown = "".join(line for output in cell["outputs"] for line in output["text"])
        assert printed.getvalue() == shown, f"cell {number}"
    assert {"june.html", "june.csv", "delivery.csv"} < {file.name for file in tmp_path.iterdir()}
