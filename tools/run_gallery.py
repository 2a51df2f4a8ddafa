"""Run notebooks of docs/gallery and keep what they show: run_gallery.py [NAME ...].

It needs what requirements/gallery.txt lists. Each notebook runs in a folder of its own.
"""

from __future__ import annotations

import base64
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

GALLERY = Path(__file__).resolve().parents[1] / "docs" / "gallery"
# One thread each, so that figures do not depend on the number of CPUs.
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def executed(path: Path) -> Any:
    """The notebook with its outputs, and without what only the machine that ran it knows."""
    notebook = nbformat.read(path, as_version=4)
    os.environ.update(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=900,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": folder}},
        ).execute()
    for cell in notebook.cells:
        cell.metadata = {}
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def first_picture(notebook: Any) -> bytes:
    """What stands for the notebook on the page of the gallery."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    pictures = (output["data"].get("image/png") for output in outputs if "data" in output)
    return base64.b64decode(next(filter(None, pictures)))


def main(names: list[str]) -> None:
    paths = [GALLERY / f"{name}.ipynb" for name in names] or sorted(GALLERY.glob("*.ipynb"))
    for path in paths:
        began, before = time.perf_counter(), os.times()
        notebook = executed(path)
        nbformat.write(notebook, path)
        (GALLERY / "pictures" / f"{path.stem}.png").write_bytes(first_picture(notebook))
        after = os.times()
        cpu = sum(after[2:4]) - sum(before[2:4])
        size = path.stat().st_size / 1000
        print(f"{path.stem}: {cpu:.0f} CPU s, {time.perf_counter() - began:.0f} s, {size:.0f} KB")


if __name__ == "__main__":
    main(sys.argv[1:])
