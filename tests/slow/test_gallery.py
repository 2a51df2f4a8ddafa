"""The notebooks of the gallery: each runs as it stands, is short, and shows nothing of the machine that ran it.

They run in the environment of requirements/gallery.txt, in the last line of `make test-slow`, and skip elsewhere.
"""

import base64
import json
import os
import re
import struct

import pytest
from helpers.places import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "gallery").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
MOST_CELLS = 40
MOST_TEXT = 2000  # characters that a cell shows
MOST_BYTES = 300_000
MOST_SECONDS = 120  # of CPU
LINK = re.compile(r"\]\(([^)\s]+)\)")
# A path, a host, a user or a time of the machine, as an output of it would have them.
OF_MACHINE = re.compile(
    r"/home/|/root|/tmp|/work|site-packages|localhost|\b\d\d:\d\d:\d\d\b|\b20[2-9]\d-\d\d"
)


def cells_of(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def joined(text):
    return text if isinstance(text, str) else "".join(text)


def shown(output):
    """What an output shows as text: HTML without its tags where there is some."""
    if output["output_type"] == "stream":
        return joined(output["text"])
    if "text/html" in output["data"]:
        html = joined(output["data"]["text/html"])
        return re.sub(r"<style.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL)
    return joined(output["data"].get("text/plain", ""))


def check_outputs(notebook):
    """Raise where the outputs of a notebook are not fit to be shown."""
    pictures = 0
    for number, cell in enumerate(cells_of(notebook)):
        for output in cell["outputs"]:
            assert output["output_type"] != "error", f"code cell {number}"
            assert output.get("name") != "stderr", f"code cell {number}: {shown(output)}"
        text = "".join(map(shown, cell["outputs"]))
        assert len(text) <= MOST_TEXT, f"code cell {number}"
        assert not OF_MACHINE.search(text), f"code cell {number}: {OF_MACHINE.search(text)}"
        for output in cell["outputs"]:
            pictures += "image/png" in output.get("data", {})
    assert pictures >= 2


def test_there_are_eleven_and_the_page_has_a_card_for_each():
    page = (ROOT / "docs" / "gallery" / "index.md").read_text(encoding="utf-8")
    names = [path.stem for path in NOTEBOOKS]
    assert len(names) == 11
    assert sorted(re.findall(r"^:link: (\w+)$", page, re.MULTILINE)) == names
    pictures = [f"pictures/{name}.png" for name in names]
    assert sorted(re.findall(r"^:img-top: (.+)$", page, re.MULTILINE)) == pictures
    for picture in pictures:
        assert (ROOT / "docs" / "gallery" / picture).read_bytes().startswith(b"\x89PNG")


@each_notebook
def test_a_notebook_is_short_and_shows_what_it_did(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert len(notebook["cells"]) < MOST_CELLS
    assert path.stat().st_size <= MOST_BYTES
    assert all(not cell["metadata"] for cell in notebook["cells"])
    assert [cell["execution_count"] for cell in cells_of(notebook)] == [
        1 + number for number in range(len(cells_of(notebook)))
    ]
    check_outputs(notebook)
    for cell in cells_of(notebook):
        for output in cell["outputs"]:
            picture = joined(output.get("data", {}).get("image/png", ""))
            if picture:
                width, height = struct.unpack(">II", base64.b64decode(picture)[16:24])
                assert width <= 900
                assert height <= 700


@each_notebook
def test_the_links_of_a_notebook_lead_somewhere(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    text = "".join(
        joined(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"
    )
    links = LINK.findall(text)
    assert links
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.timeout(1200)
@each_notebook
def test_a_notebook_runs_and_shows_the_same_kinds_of_things(path):
    pytest.importorskip("nbclient")
    from tools.run_gallery import executed

    before = os.times()
    found = executed(path)
    after = os.times()
    check_outputs(found)
    assert sum(after[2:4]) - sum(before[2:4]) < MOST_SECONDS
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert list(map(kinds, cells_of(found))) == list(map(kinds, cells_of(kept)))


def kinds(cell):
    """What a cell shows: text, a table, a card or a picture."""
    return {
        kind
        for output in cell["outputs"]
        for kind in output.get("data", {output["output_type"]: 0})
    }
