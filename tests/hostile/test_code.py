"""Attacks 1 to 6 and 33 to 40 of the table in docs/explanation/security.md: code, names, texts and requirements in a package."""

import io
import pickle

import numpy as np
import pytest
from helpers.forge import GRAPH, MANIFEST, digest_of, forge, members_of, npz, pack

import modelkit as mk
from modelkit.cli import main


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """A joblib package, as its author saves it."""
    from sklearn.linear_model import LogisticRegression

    X = np.random.default_rng(0).normal(size=(40, 3))
    path = tmp_path_factory.mktemp("native") / "native.mk"
    mk.save(
        LogisticRegression().fit(X, X[:, 0] > 0),
        path,
        example=X,
        name="native",
        version="1",
        format="joblib",
    )
    return path.read_bytes()


class Evil:
    """What writes the canary when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def evil(canary):
    return pickle.dumps(Evil(canary))


# 1 to 6: code


def test_01_a_pickled_estimator(native, canary, refused):
    data = forge(native, {"native/model.joblib": evil(canary)})
    refused(data, "UntrustedError", "joblib", "digest=", "allow=")
    refused(data, "UntrustedError", "allow=", digest=digest_of(data))
    refused(data, "UntrustedError", "digest=", allow=["joblib"])
    told = refused(data, "IntegrityError", "asked for", digest="0" * 64, allow=["joblib"])
    assert not told["joblib"]


@pytest.mark.parametrize("member", [MANIFEST, GRAPH, "golden.npz"])
def test_02_a_pickle_under_another_name(toy, canary, refused, member):
    if member == MANIFEST:
        refused(
            pack({**members_of(toy), MANIFEST: evil(canary)}), "ManifestError", "not strict JSON"
        )
    elif member == GRAPH:
        refused(forge(toy, graph=evil(canary)), "GraphError", "not a well-formed ONNX model")
    else:
        refused(
            forge(toy, golden=evil(canary)),
            "PackageError",
            "golden",
            "cannot be read",
            then="verify",
        )


def test_03_an_array_of_pickled_objects(toy, canary, refused):
    data = npz(in0=np.array([Evil(canary)], object), out0=np.zeros(1))
    refused(forge(toy, golden=data), "PackageError", "golden", "cannot be read", then="verify")


def test_04_a_pickle_within_the_stream_of_joblib(native, canary, refused):
    import joblib

    file = io.BytesIO()
    joblib.dump({"estimator": np.array([Evil(canary)], object), "like": None, "nones": ()}, file)
    data = forge(native, {"native/model.joblib": file.getvalue()})
    refused(data, "UntrustedError", "joblib")
    refused(data, "UntrustedError", "joblib", digest=digest_of(data))


@pytest.mark.parametrize(
    "field", ["trust", "trusted", "trusted_types", "allow", "public_key", "signature_key"]
)
def test_05_a_package_that_says_it_is_trusted(toy, native, refused, field):
    for data in (toy, native):
        refused(
            forge(data, edit=lambda plain: plain.update({field: True})),
            "ManifestError",
            "unknown fields",
            field,
        )


@pytest.mark.parametrize("field", ["loader", "module", "entry_point", "code", "python_env", "pip"])
def test_06_a_manifest_that_names_code(toy, refused, field):
    refused(
        forge(toy, edit=lambda plain: plain.update({field: "os:system"})),
        "ManifestError",
        "unknown fields",
        field,
    )


# 33 to 40: names, texts and requirements


@pytest.mark.parametrize(
    "name",
    ["../../prod", "Latest", "p\u0430ypal", "a b", "", "-rf", "x" * 65, "a/b", "a\n", "$(id)"],
)
def test_33_names_that_mean_something_else(toy, refused, name):
    refused(forge(toy, edit=lambda plain: plain.update(name=name)), "ManifestError", "name")
    refused(
        forge(toy, edit=lambda plain: plain.update(version=name + "/")), "ManifestError", "version"
    )


def test_35_markup_and_control_characters_in_names(toy, refused, tmp_path, capsys):
    markup = "<script>alert(1)</script>"
    evil = f"{markup}\x1b]0;owned\x07"

    def edit(plain, name=markup):
        plain["signature"]["inputs"][0]["shape"][0] = plain["signature"]["outputs"][0]["shape"][
            0
        ] = name
        plain["metadata"] = {evil: evil}
        plain["versions"][evil] = evil

    path = tmp_path / "evil.mk"
    path.write_bytes(forge(toy, edit=edit))
    with mk.load(path) as model:
        assert "<script>" not in model._repr_html_()
    assert main(["inspect", str(path)]) == 0
    assert main(["inspect", str(tmp_path / f"{evil.replace('/', '')}.mk")]) == 1
    out, err = capsys.readouterr()
    assert "script" in out
    assert not {"\x1b", "\x07"} & {*out, *err}
    refused(
        forge(toy, edit=lambda plain: edit(plain, evil)),
        "ManifestError",
        "dimension",
        "control characters",
    )


@pytest.mark.parametrize("place", ["tensor", "column", "class"])
def test_35_control_characters_in_other_names(toy, refused, place):
    def edit(plain):
        signature = plain["signature"]
        if place == "tensor":
            signature["inputs"][0]["name"] = "x\x1b[2J"
        elif place == "column":
            columns = [{"name": f"{i}\x9b", "dtype": "float32"} for i in range(64)]
            signature["inputs"][0]["columns"] = columns
        else:
            signature["classes"] = ["yes", "no\x07"]

    refused(forge(toy, edit=edit), "ManifestError", place, "control characters")


def test_39_a_graph_that_fails_beside_a_pickle_that_would_not(toy, canary, refused):
    data = forge(toy, {"native/model.joblib": evil(canary)}, graph=b"\x00")
    for asked in ({}, {"digest": digest_of(data), "allow": ["joblib"]}):
        told = refused(data, "GraphError", "not a well-formed ONNX model", **asked)
        assert not told["joblib"]


@pytest.mark.parametrize(
    "requirement", ["evil; rm -rf ~", "git+https://example.com/x", "--index-url", "$(id)"]
)
def test_40_requirements_that_would_be_installed(native, refused, canary, requirement):
    def ask(where):
        return lambda plain: plain["requires"].update(
            {requirement: "1"} if where else {"numpy": requirement}
        )

    for where in (True, False):
        data = forge(native, edit=ask(where))
        refused(data, "ManifestError", "requires")
    data = forge(
        native, edit=lambda plain: plain["requires"].update({"modelkit-no-such-library": "1.0"})
    )
    refused(
        data,
        "PackageError",
        "modelkit-no-such-library 1.0",
        digest=digest_of(data),
        allow=["joblib"],
    )
