"""Cards say what the package holds and nothing else, in forms that their readers take."""

import json
import re
from html import unescape

import pytest
import yaml
from helpers.carded import packages
from helpers.examples import examples
from helpers.forge import forge
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import modelkit as mk
from modelkit.errors import IntegrityError, PackageError, UntrustedError
from modelkit.integrations import cards
from modelkit.report.html import printable

KINDS = (
    *("bare", "classifier", "classes", "regressor", "labels", "joblib", "encoder", "texts"),
    *("graph", "signed", "sealed"),
)
MARKDOWN = MarkdownIt("gfm-like", {"linkify": False, "html": True})
HOSTILE = (
    '"><script>alert(1)</script> [x](javascript:alert(1)) ![i](https://evil.example/i) | a | `c` '
    "*b* _e_ ~s~ $m$ @all <!-- www.evil.example &amp; \\"
)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return packages(tmp_path_factory.mktemp("cards"))


def sections(card):
    """The text under each heading."""
    parts = re.split(r"^#+ (.+)$", card, flags=re.MULTILINE)
    return {title: text.strip() for title, text in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.mark.parametrize("kind", KINDS)
def test_hugging_face_reads_a_card_and_its_figures_are_those_of_the_evaluation(places, kind):
    path, unseal = places[kind]
    card = cards.model_card(path, unseal)
    data = ModelCard(card).data
    assert data.library_name == "modelkit"
    assert mk.inspect(path).digest in card
    assert re.search("@[a-z_]+@", card) is None
    assert sections(card)["Environmental Impact"].count("not stated") == 5
    if unseal is not None:
        path, _ = places["classifier"]
    attached = {each.name for each in mk.inspect(path).attachments}
    if "evaluation" not in attached:
        assert data.eval_results is None
        assert sections(card)["Results"] == "not measured: the package lacks an Evaluation"
        return
    with mk.load(path, **opening(path)) as model:
        found = mk.Evaluation.packaged(model)
    told = {each.metric_type: each.metric_value for each in data.eval_results}
    known = {each.name: each.value for each in found.figures if each.value is not None}
    assert set(told) == set(known)
    assert [told[name] for name in known] == pytest.approx([*known.values()], rel=1e-5)
    results = sections(card)["Results"]
    flips = () if found.robustness is None else found.robustness.figures
    parts = [each for each in flips if " where " in each.name]
    assert results.count("\n| all |") == len(found.figures) + len(flips) - len(parts)
    large = next(part for part in found.slices if part.value == "large")
    assert results.count("\n| size large |") == len(large.figures) + len(parts) // 2 > 0


def opening(path):
    manifest = mk.inspect(path)
    return {"digest": manifest.digest, "allow": {"joblib"}} if manifest.requires else {}


def test_a_card_says_what_the_package_states(places):
    card = cards.model_card(places["signed"][0])
    told = sections(card)
    assert ModelCard(card).data.license == "apache-2.0"
    assert told["Direct Use"] == "As stated: Triage of images."
    assert told["Training Data"] == "As stated: 569 rows"
    assert told["Downstream Use"] == "not stated"
    owners = "imaging &lt;imaging\\@example.org&gt;, Ö. Ünal"
    assert told["Model Card Contact"] == owners
    assert f"- **Owners:** {owners}\n- **Model type:** scikit-learn LogisticRegression" in card
    assert '"ticket": 17' in told["More Information"]
    assert "| signature, not checked | by key " in told["More Information"]
    assert told["Factors"] == "size"
    others = ModelCard(cards.model_card(places["regressor"][0])).data
    assert (others.license, others.license_name) == ("other", "Internal use only")
    assert ModelCard(cards.model_card(places["bare"][0])).data.license == "unknown"
    assert 'allow={"joblib"})' in cards.model_card(places["joblib"][0])


def test_a_claim_of_privacy_is_shown_as_claimed(places):
    claim = {"epsilon": 2.0, "delta": 1e-5, "mechanism": "DP-SGD, neighbours differ in one row"}
    data = forge(places["graph"][0].read_bytes(), edit=lambda plain: plain.update(privacy=claim))
    told = "epsilon 2, delta 1e-05, as claimed: DP-SGD, neighbours differ in one row"
    assert f"- **Privacy of the training data:** {told}" in cards.model_card(data)
    facts = json.loads(cards.bill_of_materials(data))["metadata"]["component"]["properties"]
    assert {"name": "modelkit:privacy", "value": told} in facts
    silent = cards.model_card(places["graph"][0])
    assert "- **Privacy of the training data:** not stated" in silent


@pytest.mark.parametrize(
    "text",
    [
        *(
            "# title",
            "###### title",
            "- item",
            "+ item",
            "1. one",
            "12) one",
            "---",
            "===",
            "#",
            "-",
        ),
        *("> quote", "    code", "| cell |", ": term", "* * *", "- - -", "+"),
    ],
)
def test_a_text_that_begins_a_line_begins_no_block(text):
    html = MARKDOWN.render(f"before\n\n{cards._plain(text)}\n")
    assert html == f"<p>before</p>\n<p>{text.strip().replace('>', '&gt;')}</p>\n"


@given(st.text(alphabet="#-+=*_`~[]()<>!&|\\\"'$@:/.w1 \n\ta\x1b\u202e") | st.text())
@settings(max_examples=examples(600))
def test_no_text_is_markup_in_a_paragraph_a_table_or_yaml(text):
    plain = cards._plain(text)
    page = f"{plain}\n\n- **Name:** {plain}\n\n{cards._table('a', 'b', rows=[(text, text)])}\n"
    html = MARKDOWN.render(page)
    tags = re.findall(r"<(\w+)", html)
    known = ["p"] * bool(plain) + ["ul", "li", "strong", "table"]
    assert tags == [*known, "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]
    shown = printable(text).replace("\n", " ").strip()
    cell = unescape(re.search("<td>(.*?)</td>", html, re.DOTALL)[1])
    assert cell.split() == shown.split()
    assert yaml.safe_load(f"name: {cards._quoted(text)}\n") == {"name": text}


@pytest.mark.parametrize(
    ("kind", "licences"),
    [
        ("classifier", [{"license": {"id": "Apache-2.0"}}]),
        ("joblib", [{"expression": "MIT OR LicenseRef-ours"}]),
        ("regressor", [{"license": {"name": "Internal use only"}}]),
        ("bare", None),
    ],
)
def test_a_bill_of_materials_has_the_licence_as_an_inventory_reads_it(places, kind, licences):
    bill = json.loads(cards.bill_of_materials(places[kind][0]))
    assert bill["metadata"]["component"].get("licenses") == licences


def test_a_bill_of_materials_has_hashes_figures_and_what_is_required(places):
    path, _ = places["joblib"]
    bill = json.loads(cards.bill_of_materials(path))
    manifest, model = mk.inspect(path), bill["metadata"]["component"]
    hashes = {each["name"]: each["hashes"][0]["content"] for each in model["components"]}
    assert hashes == {each.path: each.sha256 for each in manifest.files}
    required = {x["name"]: x["version"] for x in bill["components"] if x["scope"] == "required"}
    assert required == manifest.requires
    with mk.load(path, **opening(path)) as loaded:
        found = mk.Evaluation.packaged(loaded)
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert "slice" not in metrics[0]
    accuracy = next(each for each in metrics if each.get("slice") == "size small")
    small = next(part for part in found.slices if part.value == "small").figures[0]
    assert (accuracy["type"], small.name) == ("accuracy", "accuracy")
    assert float(accuracy["value"]) == small.value
    assert float(accuracy["confidenceInterval"]["lowerBound"]) == small.low
    facts = {each["name"]: each["value"] for each in model["properties"]}
    assert facts["modelkit:digest"] == f"sha256:{manifest.digest}"


def test_equal_packages_have_equal_cards_and_another_package_another_serial_number(places):
    path, _ = places["classifier"]
    for write in (cards.model_card, cards.bill_of_materials):
        assert write(path) == write(path.read_bytes()) == write(*places["sealed"])
    serials = {
        json.loads(cards.bill_of_materials(*each))["serialNumber"] for each in places.values()
    }
    assert len(serials) == len(places) - 1  # sealed is classifier
    assert cards.bill_of_materials(path).isascii()


def test_nothing_of_a_package_is_read_as_markdown_html_or_yaml(places):
    """Every text that the package may hold is hostile, and shows as the text that it is."""

    def edit(plain):
        plain["owners"] = [f"# title {HOSTILE}", "- item"]
        plain["licence"] = HOSTILE
        plain["metadata"] = {
            "direct_use": f"\n\n# title\n---\n{HOSTILE}\x1b[31m\u202e",
            "name": "other", "front_matter": "license: mit", "digest": "0" * 64, HOSTILE: HOSTILE,
        }  # fmt: skip
        plain["parity"]["against"] = HOSTILE
        plain["versions"]["# title"] = "1"
        plain["versions"]["numpy"] = f"{HOSTILE}\n# title\n---\nlicense: mit"

    def hostile(plain):
        plain["figures"][0]["why"] = f"\n\n# title {HOSTILE}"
        plain["notes"] = [f"\n\n# title\n---\n{HOSTILE}"]
        plain["fit"] = f"# title {HOSTILE}"
        plain["slices"][0]["column"] = f"# title {HOSTILE}\n\n# title"
        plain["data_digest"] = f'"\nlicense: mit\n---\n{HOSTILE}'

    path, _ = places["classifier"]
    data = path.read_bytes()
    with mk.load(data) as model:
        evaluation = json.loads(bytes(model.attachments["evaluation"]))
    hostile(evaluation)
    text = json.dumps(evaluation).encode()
    card = cards.model_card(forge(data, {"evaluation.json": text}, edit=edit))
    plain = cards.model_card(path)
    found = ModelCard(card)
    assert (found.data.license, found.data.license_name) == ("other", HOSTILE)
    assert "\x1b" not in card
    assert "\u202e" not in card
    assert sections(card).keys() == sections(plain).keys()
    rendered = MARKDOWN.render(found.text)
    for mark in ("<script", "<a ", "<img", "<em>", "<strong>b", "<s>", "<!--"):
        assert mark not in rendered
    assert rendered.count("<h1>") == 1
    assert (
        "alert(1)&lt;/script&gt; [x](javascript:alert(1)) ![i](https://evil.example/i) | a | `c`"
        in rendered
    )
    assert "not stated" in sections(card)["Downstream Use"]
    assert "0" * 64 not in card.partition("## More Information")[0]
    rows = [line for line in card.splitlines() if line.startswith("| all |")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 6 for row in rows)


def test_a_small_figure_is_a_number_of_yaml(places):
    path, _ = places["regressor"]
    data = path.read_bytes()
    with mk.load(data) as model:
        plain = json.loads(bytes(model.attachments["evaluation"]))
    plain["figures"][0].update(value=1e-06, low=0.0, high=2e-06)
    plain["figures"][1].update(value=1.5e300)
    forged = forge(data, {"evaluation.json": json.dumps(plain).encode()})
    first, second, *_ = ModelCard(cards.model_card(forged)).data.eval_results
    assert (first.metric_value, second.metric_value) == (1e-06, 1.5e300)
    card = json.loads(cards.bill_of_materials(forged))["metadata"]["component"]["modelCard"]
    ends = card["quantitativeAnalysis"]["performanceMetrics"][0]["confidenceInterval"]
    assert ends == {"lowerBound": "0.0", "upperBound": "2e-06"}


def test_a_card_is_of_a_sound_package_alone(places, tmp_path):
    path, unseal = places["sealed"]
    with pytest.raises(UntrustedError, match="the package is sealed for reader"):
        cards.model_card(path)
    with pytest.raises(IntegrityError, match="the package is not sealed"):
        cards.model_card(places["bare"][0], unseal)
    data = places["classifier"][0].read_bytes()
    other = places["signed"][0].read_bytes()
    damaged = bytearray(data)
    damaged[data.index(b"evaluation.json") + 400] ^= 1
    with pytest.raises(PackageError):
        cards.bill_of_materials(bytes(damaged))
    with mk.load(places["regressor"][0]) as model:
        foreign = bytes(model.attachments["evaluation"])
    with pytest.raises(PackageError, match="of another model"):
        cards.model_card(forge(other, {"evaluation.json": foreign}))
