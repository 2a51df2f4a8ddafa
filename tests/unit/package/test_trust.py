"""A pickled estimator answers as it did, and nothing is unpickled without a word and a digest from the caller."""

import os
import pickle
import sys

import numpy as np
import pytest
from helpers.forge import digest_of, forge, members_of, pack
from helpers.packages import ALLOW, trusted

import modelkit as mk
from modelkit.errors import (
    ConversionError,
    GraphError,
    IntegrityError,
    ManifestError,
    PackageError,
    UntrustedError,
)
from modelkit.package import trust
from modelkit.runtimes.joblib import Estimator

NATIVE = "native/model.joblib"


def planted(package, pickled, **plain):
    """A package with another pickle in it, and other fields of its manifest."""
    return forge(package.read_bytes(), {NATIVE: pickled}, edit=lambda found: found.update(plain))


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def bomb(tmp_path):
    """A pickle that makes a folder, and that folder."""
    mark = tmp_path / "exploded"
    return pickle.dumps(Bomb(mark)), mark


@pytest.mark.parametrize(
    ("digest", "error", "words"),
    [
        ([], IntegrityError, "not one of the 0 that were asked for"),
        (["0" * 64], IntegrityError, f"not the {'0' * 64} that was asked for"),
        (["0" * 64, "1" * 64], IntegrityError, "not one of the 2 that were asked for"),
        ([b"0" * 64], TypeError, "digest is a text of 64"),
        (7, TypeError, "not int: 7"),
    ],
)
def test_digests_of_others_open_nothing(joblib_mk, digest, error, words):
    with pytest.raises(error, match=words):
        mk.load(joblib_mk, digest=digest, allow=ALLOW)


def test_another_digest_is_refused_before_anything_else(joblib_mk, bomb):
    pickled, mark = bomb
    changed = planted(joblib_mk, pickled)
    with pytest.raises(IntegrityError, match="not the"):
        mk.load(changed, digest=mk.inspect(joblib_mk).digest, allow=ALLOW)
    assert not mark.exists()


def test_the_bomb_of_these_tests_is_live(joblib_mk, bomb):
    pickled, mark = bomb
    changed = planted(joblib_mk, pickled)
    with pytest.raises(PackageError, match="cannot be unpickled"):
        mk.load(changed, digest=digest_of(changed), allow=ALLOW)
    assert mark.exists()


def test_members_are_hashed_before_a_byte_is_unpickled(joblib_mk, bomb):
    pickled, mark = bomb
    for changes in ({NATIVE: pickled}, {NATIVE: pickled, "golden.npz": b""}):
        changed = pack({**members_of(joblib_mk.read_bytes()), **changes})
        with pytest.raises(IntegrityError):
            mk.load(changed, digest=digest_of(changed), allow=ALLOW)
    assert not mark.exists()


def test_a_file_that_is_written_to_while_it_opens_does_not_change_what_is_unpickled(
    joblib_mk, bomb, tmp_path, monkeypatch
):
    pickled, mark = bomb
    path = tmp_path / "m.mk"
    path.write_bytes(joblib_mk.read_bytes())
    at = path.read_bytes().index(members_of(path.read_bytes())[NATIVE])

    def check_and_write(requires):
        with path.open("r+b") as file:
            file.seek(at)
            file.write(pickled)

    monkeypatch.setattr("modelkit.package.load.check_requires", check_and_write)
    with trusted(path) as model:
        assert model.verify() == 0.0
    assert not mark.exists()


@pytest.mark.parametrize(
    "requires",
    [
        {"scikit-learn": "0.1"},
        {"no-such-library": "1.0", "numpy": "1.0"},
        {"scikit-learn": "1.6.post1"},
    ],
)
def test_versions_are_checked_before_a_byte_is_unpickled(joblib_mk, bomb, requires):
    pickled, mark = bomb
    changed = planted(joblib_mk, pickled, requires=requires)
    with pytest.raises(PackageError, match="pip install") as caught:
        mk.load(changed, digest=digest_of(changed), allow=ALLOW)
    for library, version in requires.items():
        assert f"{library} {version}, " in str(caught.value)
        assert f"{library}=={version}" in str(caught.value)
    assert set(caught.value.requires) == set(requires)
    assert not mark.exists()


def test_nothing_of_a_package_that_is_not_trusted_is_copied(joblib_mk, monkeypatch):
    monkeypatch.setattr(
        "modelkit.package.load._hold", lambda views: pytest.fail("its members were copied")
    )
    with pytest.raises(UntrustedError):
        mk.load(joblib_mk, digest=mk.inspect(joblib_mk).digest)
    with pytest.raises(UntrustedError):
        mk.load(joblib_mk, allow={"joblib"})


def test_no_variable_of_the_environment_opens_it(joblib_mk, monkeypatch):
    class Yes(dict):
        def get(self, name, default=None):
            return "1"

        __getitem__ = get

        def __contains__(self, name):
            return True

    monkeypatch.setattr(os, "environ", Yes())
    with pytest.raises(UntrustedError):
        mk.load(joblib_mk)


@pytest.mark.parametrize(
    ("plain", "error"),
    [
        ({"allow": ["joblib"]}, ManifestError),
        ({"trusted": True}, ManifestError),
        ({"runtime": "pickle"}, ManifestError),
        ({"runtime": "onnx"}, ManifestError),  # which has no `requires`
        ({"runtime": "onnx", "requires": {}}, IntegrityError),  # and no graph
        ({"requires": {"x; rm -rf ~": "1"}}, ManifestError),
        ({"requires": {"x": "$(id)"}}, ManifestError),
        ({"metadata": {"allow": ["joblib"], "digest": "0" * 64}}, UntrustedError),
    ],
)
def test_no_field_of_the_package_opens_it(joblib_mk, bomb, plain, error):
    pickled, mark = bomb
    with pytest.raises(error):
        mk.load(planted(joblib_mk, pickled, **plain))
    assert not mark.exists()


def test_a_pickle_in_an_onnx_package_is_never_loaded(penguins_mk, bomb):
    pickled, mark = bomb
    attached = [
        {"name": name, "path": f"{name}.npz", "media_type": "x"}
        for name in ("golden", "profile", "background")
    ]
    data = penguins_mk.read_bytes()
    pickles = {entry["path"]: pickled for entry in attached} | {NATIVE: pickled}
    package = forge(data, pickles, edit=lambda plain: plain.update(attachments=attached))
    options = {"digest": digest_of(package), "allow": ALLOW}
    with mk.load(package, **options) as model:
        with pytest.raises(PackageError, match="golden"):
            model.verify()
        with pytest.raises(PackageError, match="background"):
            mk.Explainer(model)
        with pytest.raises(PackageError, match="profile"):
            mk.Monitor(model)
    graph = members_of(data)["model/model.onnx"]
    for damaged in (graph[:-1], pickled, b"", graph.replace(b"ai.onnx.ml", b"ai.evil.ml")):
        package = forge(data, {NATIVE: pickled}, graph=damaged)
        with pytest.raises(GraphError):
            mk.load(package, digest=digest_of(package), allow=ALLOW)
    assert not mark.exists()


def test_inspecting_unpickles_nothing(joblib_mk, bomb, tmp_path, capsys):
    from modelkit import cli

    pickled, mark = bomb
    path = tmp_path / "m.mk"
    path.write_bytes(planted(joblib_mk, pickled))
    assert mk.inspect(path).runtime == "joblib"
    assert cli.main(["inspect", str(path)]) == 0
    assert "runs whatever code" in capsys.readouterr().out
    for command in (["doctor", str(path)], ["predict", str(path), "none.csv"]):
        assert cli.main(command) == 1
        assert "allow={'joblib'}" in capsys.readouterr().err
    assert not mark.exists()


@pytest.mark.parametrize(
    ("allow", "error", "message"),
    [
        ("joblib", TypeError, "collection of strings"),
        (None, TypeError, "collection of strings"),
        (True, TypeError, "collection of strings"),
        ([b"joblib"], TypeError, "holds strings"),
        ({"jobllib"}, ValueError, "'jobllib'"),
        ({"*"}, ValueError, "neither 'joblib' nor a domain"),
        ({""}, ValueError, "domain"),
        ({"com..example"}, ValueError, "domain"),
        ({"com.example\n"}, ValueError, "domain"),
    ],
)
def test_what_allow_may_hold(penguins_mk, allow, error, message):
    with pytest.raises(error, match=message):
        mk.load(penguins_mk, allow=allow)


def test_domains_of_operators_are_allowed_by_name(tmp_path):
    from onnx import TensorProto, helper

    domain = "com.microsoft"
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in "xy")
    graph = helper.make_graph(
        [helper.make_node("SampleOp", ["x"], ["y"], domain=domain)], "g", [x], [y]
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(domain, 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    path = tmp_path / "m.mk"
    with pytest.raises(GraphError, match=r"com\.microsoft"):
        mk.save(proto, path, name="m", version="1")
    mk.save(proto, path, name="m", version="1", allow={domain})
    for allow in ((), {"joblib"}, {"com.other"}):
        with pytest.raises(GraphError, match=r"com\.microsoft"):
            mk.load(path, allow=allow)
    with mk.load(path, allow={domain}) as model:
        np.testing.assert_array_equal(model.predict(np.ones((2, 2), np.float32)), np.ones((2, 2)))
        again = pickle.loads(pickle.dumps(model))
        assert again.manifest == model.manifest


def test_functions_of_a_graph_are_written_out(tmp_path):
    """Operator by operator, so that a package has the operators of ONNX alone."""
    from onnx import TensorProto, helper

    opset = helper.make_opsetid("", 18)
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    twice = helper.make_function("com.example", "Twice", ["a"], ["b"], body, [opset])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in "xy")
    call = helper.make_node("Twice", ["x"], ["y"], domain="com.example")
    graph = helper.make_graph([call], "g", [x], [y])
    opsets = [opset, helper.make_opsetid("com.example", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, functions=[twice], ir_version=9)
    path = tmp_path / "m.mk"
    mk.save(proto, path, name="m", version="1")
    rows = np.ones((2, 2), np.float32)
    np.testing.assert_array_equal(mk.load(path).predict(rows), 2 * rows)


# --- Saving.


def test_what_cannot_be_pickled_or_read_elsewhere_is_refused(tmp_path, penguins):
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    A = np.random.default_rng(0).normal(size=(20, 2))

    def refused(model, message, *, example=A, error=ConversionError, **options):
        with pytest.raises(error, match=message):
            mk.save(
                model,
                tmp_path / "m.mk",
                example=example,
                name="m",
                version="1",
                **{"format": "joblib"} | options,
            )

    fitted = LinearRegression().fit(A, A[:, 0])
    refused(make_pipeline(FunctionTransformer(lambda x: x), fitted), "cannot be pickled")
    scope = {"__name__": "__main__"}
    exec("def halve(x): return x / 2", scope)  # noqa: S102 - a function of a script
    sys.modules["__main__"].halve = scope["halve"]
    try:
        refused(make_pipeline(FunctionTransformer(scope["halve"]), fitted), "of the script itself")
    finally:
        del sys.modules["__main__"].halve
    refused(fitted, "pass example=", example=None)
    refused(b"graph", "interface, not bytes")
    refused(
        fitted,
        "must have the same form as the rows",
        example=penguins[0][["year", "body_mass_g"]].fillna(0),
    )
    refused(fitted, "collection of strings", error=TypeError, allow="joblib")
    assert list(tmp_path.iterdir()) == []


def test_what_a_pickle_refers_to_is_required_wherever_it_is_held():
    import scipy.special
    from sklearn.linear_model import LinearRegression
    from sklearn.preprocessing import FunctionTransformer

    hidden = LinearRegression()
    hidden.kept_ = [FunctionTransformer(scipy.special.expit)]
    assert "scipy" in trust.required(Estimator(hidden).modules())
    assert "scipy" not in trust.required(Estimator(LinearRegression()).modules())


def test_pip_takes_the_line_it_is_shown():
    assert trust.pins({"numpy": "2.0", "x": "1!2.0+cpu"}) == "numpy==2.0 'x==1!2.0+cpu'"
    assert trust.required({"json", "numpy.random", "sklearn"}).keys() == {
        "joblib",
        "numpy",
        "scikit-learn",
    }
