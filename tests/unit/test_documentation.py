"""What the documentation says of the code is true: the floors and the public names."""

from __future__ import annotations

import ast
import collections.abc
import inspect
import re
import tomllib

import pytest
from helpers.places import ROOT

import modelkit as mk
import modelkit.types

SOURCE = ROOT / "src" / "modelkit"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FLOOR = re.compile(r"^\| (\d) \| (.+?) \| .+ \|$", re.MULTILINE)
WORD = re.compile(r"[A-Za-z_]\w*")


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/project/design.md"])
def test_the_table_of_floors_is_that_of_the_contract(page):
    shown = []
    for _, cell in FLOOR.findall((ROOT / page).read_text(encoding="utf-8")):
        groups = [set(re.findall(r"`(\w+)`", group)) for group in cell.split("<-")]
        shown += reversed(groups)
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    floors = config["tool"]["importlinter"]["contracts"][0]["layers"]
    assert shown == [set(WORD.findall(floor)) for floor in floors]


def public_classes():
    for name in mk.__all__:
        value = getattr(mk, name)
        if inspect.isclass(value):
            yield name, value


def annotations_of(kind):
    """The annotations of what a class shows: of its fields, its methods and its properties."""
    yield from getattr(kind, "__annotations__", {}).values()
    for name, member in vars(kind).items():
        if name.startswith("_") and name != "__init__":
            continue
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        yield from getattr(function, "__annotations__", {}).values()


def test_every_type_of_the_public_names_can_be_imported_and_is_documented():
    classes = set()
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        classes |= {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    known = {*mk.__all__, *modelkit.types.__all__, *collections.abc.__all__}
    absent = set()
    for owner, kind in public_classes():
        for annotation in annotations_of(kind):
            for word in WORD.findall(str(annotation)):
                if word in classes - known:
                    absent.add((owner, word))
    assert absent == set()
    for name in modelkit.types.__all__:
        assert inspect.isclass(getattr(modelkit.types, name))


@pytest.mark.parametrize("name", sorted({*mk.__all__, *modelkit.types.__all__} - {"__version__"}))
def test_every_public_name_is_documented(name):
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert re.search(rf"\b{name}\b", text), f"no page says what {name} is"


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [ROOT / "CHANGELOG.md", *PAGES], ids=name_of)
def test_no_page_holds_the_marks_of_a_merge(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if line.startswith(("<<<<<<<", ">>>>>>>", "======="))]


CHANGES = sorted((ROOT / "changelog.d").glob("*.md"))
LINKING = [
    *PAGES,
    *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *(page for page in CHANGES if "](" in page.read_text(encoding="utf-8")),
]
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(
        r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    found = []
    for heading in HEADING.findall(text):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return found


@pytest.mark.parametrize("page", LINKING, ids=name_of)
def test_every_link_leads_somewhere(page):
    astray = []
    for link in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            astray.append(link)
    assert astray == []


def test_the_table_of_public_names_has_each_once():
    text = (ROOT / "docs" / "reference" / "names.md").read_text(encoding="utf-8")
    table = text.partition("## Every public name")[2].partition("\n\nBeside")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted({*mk.__all__} - {"__version__"})


DOCS = ROOT / "docs"
# The kinds of pages that a folder holds; `explanation` of `project` is of the project itself.
KINDS = {
    "start": {"tutorial", "howto"},
    "howto": {"howto"},
    "gallery": {"tutorial"},
    "notebooks": {"tutorial"},
    "reference": {"reference"},
    "explanation": {"explanation"},
    "project": {"explanation", "reference"},
}
MOST_LINES = {"howto": 150, "tutorial": 250, "explanation": 300}
FRONT = re.compile(r"\A---\n(.*?)^---\n", re.MULTILINE | re.DOTALL)


def front_of(page):
    """What stands between the lines `---` at the top of a page."""
    found = FRONT.match(page.read_text(encoding="utf-8"))
    return dict(line.split(": ", 1) for line in found[1].splitlines()) if found else {}


SITE = sorted({*DOCS.rglob("*.md")} - {DOCS / "index.md"})


@pytest.mark.parametrize("page", SITE, ids=name_of)
def test_a_page_is_of_one_kind_and_lies_in_the_folder_of_its_kind(page):
    assert front_of(page).get("kind") in KINDS[page.relative_to(DOCS).parts[0]]


@pytest.mark.parametrize("page", [page for page in SITE if page.stem != "index"], ids=name_of)
def test_a_page_is_no_longer_than_its_kind_may_be(page):
    lines = len(page.read_text(encoding="utf-8").splitlines())
    most = MOST_LINES.get(front_of(page)["kind"], lines)
    assert lines <= most


# With what the title of a how-to begins: a verb, for what you do there.
VERBS = re.findall(
    r"\w+",
    """Answer Audit Balance Batch Bound Check Choose Compare Count Decide Deploy Drain Embed Evaluate Explain Find Flag
    Gate Handle Install Judge Keep Log Measure Move Notice Operate Post Read Replace Retrain Roll Run Save Scale Score
    Seal Search Send Serve Set Show Sign Start Switch Test Train Try Use Watch Write""",
)


@pytest.mark.parametrize(
    "page",
    [page for page in SITE if front_of(page).get("kind") == "howto" and page.stem != "index"],
    ids=name_of,
)
def test_the_title_of_a_howto_begins_with_a_verb(page):
    title = re.search(r"^# (\w+)", page.read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert title in VERBS


@pytest.mark.parametrize("page", SITE, ids=name_of)
def test_a_page_that_needs_another_one_first_says_so(page):
    after = front_of(page).get("after")
    if after:
        assert (page.parent / after).exists()
        text = page.read_text(encoding="utf-8")
        assert re.search(
            rf"Before you run the code here, run \[[^\]]*\]\({re.escape(after)}\)\.", text
        )
