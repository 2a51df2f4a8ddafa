"""modelkit.json is strict: what it does not define, it does not accept."""

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import modelkit as mk
from modelkit.errors import ManifestError, UsageError
from modelkit.model.manifest import MAX_MANIFEST_BYTES, Manifest, check_name
from modelkit.package import container


@pytest.fixture(scope="module")
def raw(penguins_mk):
    return bytes(container.read_zip(memoryview(penguins_mk.read_bytes()))["modelkit.json"])


def test_a_manifest_survives_the_round_trip(raw, penguins_mk):
    manifest = Manifest.from_json(raw)
    assert manifest.to_json() == raw
    assert manifest == mk.inspect(penguins_mk)
    assert manifest.signature.classes == ("Adelie", "Chinstrap", "Gentoo")


def edited(raw, **changes):
    plain = json.loads(raw)
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        at = plain
        for key in parents:
            at = at[int(key) if key.isdigit() else key]
        at[last] = value
    return json.dumps(plain).encode()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trusted": True}, r"unknown fields \['trusted'\]"),
        ({"loader": "os.system"}, "unknown fields"),
        ({"format": "1"}, "format must be int"),
        ({"format": True}, "format must be int"),
        ({"format": 99}, "use the one that wrote it, or a newer one"),
        ({"format": 0}, "has format 0, and this modelkit reads format 1"),
        ({"name": "../../etc"}, "name"),
        ({"version": "a b"}, "version"),
        ({"parity__rows": 1.5}, "rows must be int"),
        ({"parity__rows": 1 << 70}, "beyond 64 bits"),
        ({"parity": None}, "parity must be an object"),
        ({"signature__inputs": []}, "input names"),
        ({"signature__inputs__0__dtype": "complex64"}, "unknown dtype"),
        ({"signature__inputs__0__shape": ["batch", 7]}, "1 columns"),
        ({"signature__primary": "nothing"}, "primary output"),
        ({"signature__classes": [None]}, "classes"),
        ({"files": "all"}, "files must be a list"),
        ({"files__0__path": 3}, "path must be str"),
        ({"opsets": {"": "19"}}, "opsets"),
        ({"name": "\ud800"}, "surrogate"),
        ({"runtime": "pickle"}, r"runtime 'pickle' is not one of \['onnx', 'joblib', "),
        ({"runtime": None}, "runtime must be str"),
        ({"options": None}, "options must be an object"),
        ({"options": {"a": 1 << 70}}, "beyond 64 bits"),
        ({"encoder": None}, r"unknown fields \['encoder'\]"),
        ({"requires": {"numpy": "2.0"}}, "requires is for joblib"),
        ({"licence": None}, "licence must be str"),
        ({"licence": "MIT\nname: other"}, r"not 'MIT\\nname: other'"),
        ({"licence": "m" * 201}, "1 to 200 characters"),
        ({"owners": "imaging"}, "owners must be a list"),
        ({"owners": ["imaging", ""]}, "around them, not ''"),
        ({"owners": ["a\u202eb"]}, "can be printed"),
        ({"runtime": "joblib", "requires": {"numpy": 2}}, "requires"),
        ({"runtime": "joblib", "requires": {"a b": "2"}}, "not a library and a version"),
        ({"runtime": "joblib", "requires": {"numpy": "2; id"}}, "not a library and a version"),
        ({"runtime": "joblib", "requires": {"numpy": ""}}, "not a library and a version"),
    ],
)
def test_a_field_that_is_wrong_is_named(raw, changes, message):
    with pytest.raises(ManifestError, match=message):
        Manifest.from_json(edited(raw, **changes))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"", "strict JSON"),
        (b"[]", "must be an object"),
        (b"{}", "missing fields"),
        (b'{"format": 1, "format": 1}', "appears twice"),
        (b'{"format": NaN}', "NaN is not JSON"),
        (b'{"format": Infinity}', "not JSON"),
        (b"\xff\xfe", "strict JSON"),
        (b"[" * 100_000, "strict JSON"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "at most"),
        (b'{"format": 1' + b"0" * 5000 + b"}", "strict JSON|upgrade"),
    ],
)
def test_what_is_not_strict_json_is_refused(bad, message):
    with pytest.raises(ManifestError, match=message):
        Manifest.from_json(bad)


def test_a_missing_field_is_named(raw):
    plain = json.loads(raw)
    del plain["parity"]
    with pytest.raises(ManifestError, match=r"missing fields \['parity'\]"):
        Manifest.from_json(json.dumps(plain).encode())


def test_metadata_is_kept_as_it_is(boosting, breast_cancer, tmp_path):
    metadata = {
        "data": {"rows": 569, "source": "wdbc"},
        "auc": 0.99,
        "tags": ["a", None, True],
        "été": "ok",
    }
    manifest = mk.save(
        boosting,
        tmp_path / "m.mk",
        example=breast_cancer[0],
        name="m",
        version="1",
        metadata=metadata,
    )
    assert manifest.metadata == metadata
    assert mk.inspect(tmp_path / "m.mk").metadata == metadata
    assert {"scikit-learn", "spox", "onnxruntime", "numpy", "python"} <= set(manifest.versions)


def test_licence_and_owners_are_kept_and_shown_and_are_no_part_of_the_model(
    boosting, breast_cancer, tmp_path
):
    options = {"example": breast_cancer[0], "name": "m", "version": "1"}
    bare = mk.save(boosting, tmp_path / "bare.mk", **options)
    owners = ["imaging <imaging@example.org>", "Ötzi & Söhne"]
    manifest = mk.save(
        boosting, tmp_path / "m.mk", licence="Apache-2.0 OR MIT", owners=owners, **options
    )
    assert (bare.licence, bare.owners) == ("", ())
    assert (manifest.licence, manifest.owners) == ("Apache-2.0 OR MIT", tuple(owners))
    assert mk.inspect(tmp_path / "m.mk") == manifest
    assert manifest.digest != bare.digest
    assert manifest.model_digest == bare.model_digest
    facts = dict(manifest.facts())
    assert (facts["licence"], facts["owners"]) == ("Apache-2.0 OR MIT", ", ".join(owners))
    assert {"licence", "owners"}.isdisjoint(dict(bare.facts()))
    card = manifest._repr_html_()
    assert "Apache-2.0 OR MIT" in card
    assert "&lt;imaging@example.org&gt;" in card


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"owners": "imaging"}, r"owners is a list of texts, such as \['imaging'\], not 'imaging'"),
        ({"owners": {"imaging"}}, "owners is a list of texts"),
        ({"owners": [7]}, "not 7"),
        ({"licence": None}, "not None"),
        ({"licence": " MIT"}, "without spaces around them, not ' MIT'"),
        ({"owners": ["a\tb"]}, "lines of 1 to 200 characters"),
    ],
)  # fmt: skip
def test_a_licence_or_an_owner_that_is_no_line_of_text_is_refused(
    boosting, breast_cancer, tmp_path, stated, message
):
    with pytest.raises(UsageError, match=message):
        mk.save(boosting, tmp_path / "m.mk", example=breast_cancer[0], **stated)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ([1], r"metadata is a dict of JSON values, not \[1\]"),
        ({1: "a"}, "str"),
        ({"a": float("nan")}, "NaN"),
        ({"a": {"b": object()}}, r"metadata\.a\.b must be"),
        ({"a": 1 << 64}, "beyond 64 bits"),
        ({"a": (1, 2)}, "metadata.a must be"),
    ],
)
def test_metadata_that_json_would_change_is_refused(
    boosting, breast_cancer, tmp_path, metadata, message
):
    with pytest.raises((TypeError, UsageError), match=message):
        mk.save(
            boosting,
            tmp_path / "m.mk",
            example=breast_cancer[0],
            name="m",
            version="1",
            metadata=metadata,
        )
    assert list(tmp_path.iterdir()) == []


def test_metadata_that_nests_without_end_is_refused(raw):
    deep = {}
    at = deep
    for _ in range(40):
        at["a"] = {}
        at = at["a"]
    with pytest.raises(ManifestError, match="deeper than 16"):
        Manifest.from_json(edited(raw, metadata=deep))


@given(st.text(max_size=80), st.text(max_size=80))
@example("Iris Model", "1 0")
@example("", "é")
def test_what_a_refusal_suggests_is_not_refused(name, version):
    for _ in range(2):
        try:
            check_name(name, version)
        except UsageError as error:
            name = suggested(error, "name") or name
            version = suggested(error, "version") or version
    check_name(name, version)


def suggested(error, what):
    found = re.search(rf"such as {what}='(.*)'$", str(error))
    return found and found[1]


def test_what_a_model_refuses_is_shown_whole(raw):
    """A caller has to know it; other facts are cut."""
    reason = (
        "step 'log' (pipeline step 1 of 2): "
        + "LogisticRegression refuses infinity, " * 9
        + "the end"
    )
    manifest = Manifest.from_json(edited(raw, signature__refusals=[reason]))
    assert f"refuses rows: {reason}" in " ".join(str(manifest).split())
    assert max(map(len, str(manifest).splitlines())) <= 102
