"""A pickled estimator answers as it did, and nothing is unpickled without a word and a digest from the caller."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from helpers.forge import digest_of

import modelkit as mk
from modelkit.errors import (
    ClosedError,
    ConversionError,
    DeviceError,
    GraphError,
    IntegrityError,
    ManifestError,
    PackageError,
    UntrustedError,
)
from modelkit.package import container, trust
from modelkit.package import load as loading
from modelkit.runtimes.joblib import Estimator, JoblibModel
from modelkit.testing import check_model

NATIVE = "native/model.joblib"
ALLOW = {"joblib"}


def members_of(path):
    return {
        name: bytes(view)
        for name, view in container.read_zip(memoryview(path.read_bytes())).items()
    }


def repack(path, *, rehash=True, plain=(), **changed):
    """A package with members and fields of the manifest replaced; the hashes are made to fit unless said otherwise."""
    members = members_of(path) | {
        name.replace("__", "/").replace("_DOT_", "."): data for name, data in changed.items()
    }
    manifest = json.loads(members["modelkit.json"]) | dict(plain)
    if rehash:
        manifest["files"] = [
            {"path": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in members.items()
            if name != "modelkit.json"
        ]
    members["modelkit.json"] = json.dumps(manifest).encode()
    return b"".join(bytes(piece) for piece in container.write_zip(members))


def native(data):
    return {"native__model_DOT_joblib": data}


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


def opened(path):
    return mk.load(path, digest=mk.inspect(path).digest, allow=ALLOW)


@pytest.fixture(scope="module")
def categorical(penguins):
    """A forest that splits on categories, which has no ONNX form, and the rows it was fitted on."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    X = penguins[0].astype({"island": "category", "sex": "category"})
    return HistGradientBoostingClassifier(max_iter=10, categorical_features="from_dtype").fit(
        X, penguins[1]
    ), X


@pytest.fixture(scope="module")
def joblib_mk(categorical, tmp_path_factory):
    estimator, X = categorical
    path = tmp_path_factory.mktemp("packages") / "forest.mk"
    profile = mk.Profile.fit(X[::2], reference=X[1::2])
    mk.save(
        estimator,
        path,
        example=X,
        name="forest",
        version="1",
        format="joblib",
        background=X[:20],
        profile=profile,
    )
    return path


KINDS = ("array", "regressor", "float32", "outliers", "transform", "outputs", "texts", "booleans", "in place",
         "integers", "frame")  # fmt: skip


def make(kind):
    """An estimator and the rows it was fitted on, None for those of the penguins."""
    from sklearn.cluster import KMeans
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import ExtraTreesClassifier, IsolationForest
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multioutput import MultiOutputClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import (
        FunctionTransformer,
        OneHotEncoder,
        SplineTransformer,
        StandardScaler,
    )

    rng = np.random.default_rng(0)
    A = rng.normal(size=(200, 4))
    y = (A[:, 0] > 0).astype(int)
    logs = FunctionTransformer(np.log1p)
    encode = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    texts = [
        f"{a} {b}"
        for a, b in zip(
            rng.choice(["red", "blue"], 60), rng.choice(["fish", "bird"], 60), strict=True
        )
    ]
    frame = make_column_transformer(
        (encode, ["sex", "island"]), (logs, ["body_mass_g"]), ("drop", ["year"])
    )
    made = {
        "array": lambda: (make_pipeline(logs, LogisticRegression()).fit(np.abs(A), y), np.abs(A)),
        "regressor": lambda: (make_pipeline(SplineTransformer(), Ridge()).fit(A, A[:, 0] ** 2), A),
        "float32": lambda: (
            KMeans(3, random_state=0).fit(A.astype(np.float32)),
            A.astype(np.float32),
        ),
        "outliers": lambda: (IsolationForest(n_estimators=10, random_state=0).fit(A), A),
        "transform": lambda: (SplineTransformer(sparse_output=True).fit(A), A),
        "outputs": lambda: (
            MultiOutputClassifier(LogisticRegression()).fit(A, np.stack([y, 1 - y], 1)),
            A,
        ),
        "texts": lambda: (
            make_pipeline(HashingVectorizer(n_features=64), LogisticRegression()).fit(
                texts, y[:60]
            ),
            texts,
        ),
        "booleans": lambda: (ExtraTreesClassifier(5, random_state=0).fit(A, y == 1), A),
        "in place": lambda: (
            make_pipeline(StandardScaler(copy=False), Ridge()).fit(A.copy(), y),
            A,
        ),
        "integers": lambda: (
            LogisticRegression().fit((10 * A).astype(int), y.astype(str)),
            (10 * A).astype(int),
        ),
        "frame": lambda: (
            make_pipeline(frame, SimpleImputer(), LogisticRegression(max_iter=2000)),
            None,
        ),
    }
    return made[kind]()


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickled_estimator_answers_as_the_one_in_memory(kind, penguins, tmp_path):
    estimator, X = make(kind)
    if X is None:
        X = penguins[0].astype({"sex": object, "island": object, "year": "Int64"})
        X["sex"] = X["sex"].where(X["sex"].notna(), np.nan)
        estimator.fit(X, penguins[1])
    manifest = mk.save(
        estimator, tmp_path / "m.mk", example=X, name="m", version="1", format="joblib"
    )
    assert manifest.runtime == "joblib"
    assert manifest.opsets == {}
    assert (manifest.parity.max_abs, manifest.parity.label_flips) == (0.0, 0)
    assert {"joblib", "numpy", "scikit-learn"} <= set(manifest.requires)
    with opened(tmp_path / "m.mk") as model:
        rows = np.array(X, object).reshape(-1, 1) if isinstance(X, list) else X
        kept = rows.copy()
        check_model(model, rows)
        assert model.verify() == 0.0
        model.warmup()
        assert rows.equals(kept) if kind == "frame" else (rows == kept).all()
        if model.signature.primary in ("label", "prediction"):
            np.testing.assert_array_equal(model.predict(rows), estimator.predict(X))
        if model.signature.has_probabilities:
            np.testing.assert_array_equal(model.predict_proba(rows), estimator.predict_proba(X))
            assert model.classes_.tolist() == estimator.classes_.tolist()


@pytest.mark.parametrize("library", ["xgboost", "lightgbm", "catboost"])
def test_estimators_of_other_libraries_name_the_library_they_need(library, penguins, tmp_path):
    training = pytest.importorskip(library)
    X, y = penguins
    X = X.drop(columns="sex").fillna(0).astype({"island": "category"})
    codes = y.astype("category").cat.codes.to_numpy()
    if library == "xgboost":
        estimator = training.XGBClassifier(n_estimators=5, enable_categorical=True).fit(X, codes)
    elif library == "lightgbm":
        estimator = training.LGBMClassifier(n_estimators=5, verbose=-1).fit(X, codes)
    else:
        X["island"] = X["island"].astype(object)
        estimator = training.CatBoostClassifier(
            iterations=5,
            verbose=False,
            cat_features=["island"],
            allow_writing_files=False,
            thread_count=1,
        ).fit(X, codes)
    manifest = mk.save(
        estimator, tmp_path / "m.mk", example=X, name="m", version="1", format="joblib"
    )
    assert any(needed.startswith(library) for needed in manifest.requires), manifest.requires
    with opened(tmp_path / "m.mk") as model:
        check_model(model, X[:30])
        np.testing.assert_array_equal(model.predict(X), np.ravel(estimator.predict(X)))


def test_rankers_can_be_pickled(tmp_path):
    lightgbm = pytest.importorskip("lightgbm")
    A = np.random.default_rng(0).normal(size=(60, 3))
    ranker = lightgbm.LGBMRanker(n_estimators=3, verbose=-1).fit(
        A, (A[:, 0] > 0).astype(int), group=[20, 20, 20]
    )
    mk.save(ranker, tmp_path / "m.mk", example=A, name="m", version="1", format="joblib")
    np.testing.assert_array_equal(opened(tmp_path / "m.mk").predict(A), ranker.predict(A))


def test_none_stays_none_where_it_marked_what_is_missing(tmp_path):
    import pandas as pd
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    X = pd.DataFrame({"a": ["x", None, "y", "x"], "b": ["u", "v", "v", "v"]}, dtype=object)
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    estimator = make_pipeline(
        SimpleImputer(missing_values=None, strategy="most_frequent"), encoder
    ).fit(X)
    mk.save(estimator, tmp_path / "m.mk", example=X, name="m", version="1", format="joblib")
    with opened(tmp_path / "m.mk") as model:
        np.testing.assert_array_equal(model.run(X)["transformed"], estimator.transform(X))
        unknown = [{"a": None, "b": "w"}]
        assert model.run(unknown)["transformed"].tolist() == [[0.0, -1.0]]


def test_missing_values_and_categories_arrive_as_they_were(joblib_mk, categorical):
    estimator, X = categorical
    with opened(joblib_mk) as model:
        records = X.astype(object).where(X.notna(), None).to_dict("records")
        np.testing.assert_array_equal(model.predict_proba(records), estimator.predict_proba(X))
        np.testing.assert_array_equal(
            model.predict_proba(records[3:4]), estimator.predict_proba(X[3:4])
        )
        for year in (
            2007.5,
            None,
        ):  # a column of whole numbers becomes one of floats, as it does in pandas
            changed = [{**records[0], "year": year}, *records[1:9]]
            frame = X[:9].assign(year=X["year"][:9].astype(float))
            frame.loc[0, "year"] = np.nan if year is None else year
            np.testing.assert_array_equal(
                model.predict_proba(changed), estimator.predict_proba(frame)
            )


# --- What opens, and what does not.


def test_a_joblib_package_needs_a_digest_and_a_word(joblib_mk):
    digest = mk.inspect(joblib_mk).digest
    for options, missing in (
        ({}, ["digest=", "allow={'joblib'}"]),
        ({"digest": digest}, ["allow={'joblib'}"]),
        ({"allow": ALLOW}, ["digest="]),
        ({"digest": digest, "allow": ["com.example"]}, ["allow={'joblib'}"]),
    ):
        with pytest.raises(UntrustedError, match="runs whatever code its author") as caught:
            mk.load(joblib_mk, **options)
        assert len(caught.value.missing) == len(missing)
        assert all(word in str(caught.value) for word in missing)
    for allow in (ALLOW, ["joblib"], ("joblib", "com.example"), frozenset(ALLOW)):
        mk.load(joblib_mk, digest=f"sha256:{digest}", allow=allow).close()
        mk.load(joblib_mk, digest=["0" * 64, digest.upper()], allow=allow).close()


@pytest.mark.parametrize(
    ("digest", "error", "words"),
    [
        ([], IntegrityError, "not one of none that were asked for"),
        (["0" * 64], IntegrityError, f"not the {'0' * 64} that was asked for"),
        (["0" * 64, "1" * 64], IntegrityError, "not one of the 2 that were asked for"),
        ([b"0" * 64], TypeError, "digest is a text of 64"),
        (7, TypeError, "not a int: 7"),
    ],
)
def test_digests_of_others_open_nothing(joblib_mk, digest, error, words):
    with pytest.raises(error, match=words):
        mk.load(joblib_mk, digest=digest, allow=ALLOW)


def test_another_digest_is_refused_before_anything_else(joblib_mk, bomb):
    pickled, mark = bomb
    changed = repack(joblib_mk, **native(pickled))
    with pytest.raises(IntegrityError, match="not the"):
        mk.load(changed, digest=mk.inspect(joblib_mk).digest, allow=ALLOW)
    assert not mark.exists()


def test_the_bomb_of_these_tests_is_live(joblib_mk, bomb):
    pickled, mark = bomb
    changed = repack(joblib_mk, **native(pickled))
    with pytest.raises(PackageError, match="cannot be unpickled"):
        mk.load(changed, digest=digest_of(changed), allow=ALLOW)
    assert mark.exists()


def test_members_are_hashed_before_a_byte_is_unpickled(joblib_mk, bomb):
    pickled, mark = bomb
    for changes in (native(pickled), {**native(pickled), "golden_DOT_npz": b""}):
        changed = repack(joblib_mk, rehash=False, **changes)
        with pytest.raises(IntegrityError):
            mk.load(changed, digest=digest_of(changed), allow=ALLOW)
    assert not mark.exists()


def test_a_file_that_is_written_to_while_it_opens_does_not_change_what_is_unpickled(
    joblib_mk, bomb, tmp_path, monkeypatch
):
    pickled, mark = bomb
    path = tmp_path / "m.mk"
    path.write_bytes(joblib_mk.read_bytes())
    at = path.read_bytes().index(members_of(path)[NATIVE])

    def check_and_write(requires):
        with path.open("r+b") as file:
            file.seek(at)
            file.write(pickled)

    monkeypatch.setattr(loading.trust, "check_requires", check_and_write)
    with opened(path) as model:
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
    changed = repack(joblib_mk, plain={"requires": requires}, **native(pickled))
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
        mk.load(repack(joblib_mk, plain=plain, **native(pickled)))
    assert not mark.exists()


def test_a_pickle_in_an_onnx_package_is_never_loaded(penguins_mk, bomb):
    pickled, mark = bomb
    whole = members_of(penguins_mk)
    attached = [
        {"name": name, "path": f"{name}.npz", "media_type": "x"}
        for name in ("golden", "profile", "background")
    ]
    planted = {f"{name}_DOT_npz": pickled for name in ("golden", "profile", "background")} | native(
        pickled
    )
    package = repack(penguins_mk, plain={"attachments": attached}, **planted)
    options = {"digest": digest_of(package), "allow": ALLOW}
    with mk.load(package, **options) as model:
        with pytest.raises(PackageError, match="golden"):
            model.verify()
        with pytest.raises(mk.errors.ExplainError, match="background"):
            mk.Explainer(model)
        with pytest.raises(mk.errors.DriftError):
            mk.Monitor(model)
    graph = whole["model/model.onnx"]
    for damaged in (graph[:-1], pickled, b"", graph.replace(b"ai.onnx.ml", b"ai.evil.ml")):
        package = repack(penguins_mk, model__model_DOT_onnx=damaged, **native(pickled))
        with pytest.raises(GraphError):
            mk.load(package, digest=digest_of(package), allow=ALLOW)
    assert not mark.exists()


def test_inspecting_unpickles_nothing(joblib_mk, bomb, tmp_path, capsys):
    from modelkit import cli

    pickled, mark = bomb
    path = tmp_path / "m.mk"
    path.write_bytes(repack(joblib_mk, **native(pickled)))
    assert mk.inspect(path).runtime == "joblib"
    assert cli.main(["inspect", str(path)]) == 0
    assert "runs whatever code" in capsys.readouterr().out
    for command in (["doctor", str(path)], ["predict", str(path), "--input", "none.csv"]):
        assert cli.main(command) == 1
        assert "allow={'joblib'}" in capsys.readouterr().err
    assert not mark.exists()


def test_a_refused_package_imports_neither_joblib_nor_the_library(joblib_mk):
    code = """
        import sys, modelkit as mk
        digest = mk.inspect(sys.argv[1]).digest
        refused = [dict(), dict(digest=digest), dict(allow={"joblib"}), dict(digest="0" * 64, allow={"joblib"})]
        for options in refused:
            try:
                mk.load(sys.argv[1], **options)
            except (mk.errors.UntrustedError, mk.errors.IntegrityError):
                continue
            raise SystemExit(f"opened with {options}")
        unwanted = {"joblib", "pickle", "sklearn", "pandas", "onnxruntime", "modelkit.runtimes.joblib"}
        # numpy imports pickle for itself; nothing else does
        assert not (unwanted - {"pickle"}) & set(sys.modules), unwanted & set(sys.modules)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(joblib_mk)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


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

    twice = helper.make_function(
        "com.example",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 18)],
    )
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in "xy")
    graph = helper.make_graph(
        [helper.make_node("Twice", ["x"], ["y"], domain="com.example")], "g", [x], [y]
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.example", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, functions=[twice], ir_version=9)
    path = tmp_path / "m.mk"
    with pytest.raises(GraphError, match=r"com\.example"):
        mk.save(proto, path, name="m", version="1")
    mk.save(proto, path, name="m", version="1", allow={"com.example"})
    for allow in ((), {"joblib"}, {"com.other"}):
        with pytest.raises(GraphError, match=r"com\.example"):
            mk.load(path, allow=allow)
    with mk.load(path, allow={"com.example"}) as model:
        np.testing.assert_array_equal(
            model.predict(np.ones((2, 2), np.float32)), 2 * np.ones((2, 2))
        )
        again = pickle.loads(pickle.dumps(model))
        assert again.manifest == model.manifest


# --- The Model.


def test_it_is_pickled_by_path_and_digest(joblib_mk, categorical, tmp_path):
    path = tmp_path / "m.mk"
    path.write_bytes(joblib_mk.read_bytes())
    model = opened(path)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(categorical[1]), model.predict(categorical[1]))
    kept = pickle.dumps(model)
    path.write_bytes(repack(joblib_mk, plain={"version": "2"}))
    with pytest.raises(IntegrityError):
        pickle.loads(kept)
    with pytest.raises(TypeError, match="from memory"):
        pickle.dumps(opened(joblib_mk.read_bytes()))
    model.close()
    model.close()
    with pytest.raises(ClosedError):
        pickle.dumps(model)
    with pytest.raises(ClosedError):
        model.predict(categorical[1])


def opened_on(path, **options):
    return mk.load(path, digest=mk.inspect(path).digest, allow=ALLOW, **options)


def test_it_runs_on_the_cpu_and_says_so(joblib_mk):
    for device in ("auto", "cpu", ["cuda", "cpu"]):
        with opened_on(joblib_mk, device=device) as model:
            assert model.placement.device == "cpu"
            assert "joblib" in str(model.placement)
            assert "the estimator" in model.placement.threads_reason
            assert "the library that trained it" in model._repr_html_()
    for options in (
        {"device": "cuda"},
        {"device": ["cuda"]},
        {"device": "gpu"},
        {"threads": 1},
        {"threads": 0},
    ):
        with pytest.raises(DeviceError):
            opened_on(joblib_mk, **options)


def test_the_rest_of_the_library_takes_it(joblib_mk, categorical):
    _, X = categorical
    with opened(joblib_mk) as model:
        expected = model.predict_proba(X)
        assert model.batchable
        with mk.Batcher(model) as batcher:
            np.testing.assert_array_equal(batcher.predict_proba(X[:50]), expected[:50])
            check_model(batcher, X[:20])
            np.testing.assert_array_equal(
                mk.Monitor(batcher, alpha=0.01).predict_proba(X), expected
            )
        watched = mk.Monitor(model, alpha=0.01)
        np.testing.assert_array_equal(watched.predict_proba(X), expected)
        assert watched.failures == 0
        assert watched.detector.report().rows > 0
        explainer = mk.Explainer(model)
        assert explainer.plan().method in ("enumeration", "sampling")
        assert "the model has no graph to read" in explainer.plan().reasons
        explanation = explainer.explain(X[:2])
        np.testing.assert_allclose(
            explanation.base_values + explanation.values.sum(axis=1),
            expected[:2],
            rtol=0,
            atol=1e-6,
        )
        with pytest.raises(mk.errors.ExplainError, match="no graph"):
            mk.Explainer(model, method="trees")
        lime = mk.Explainer(model, method="lime", budget=200).explain(X[:1])
        assert lime.values.shape[1] == X.shape[1]


class Odd:
    """An estimator whose answer depends on how many rows there are."""

    def predict(self, X):
        return np.ones(len(X), np.float64 if len(X) < 3 else np.float32)

    def transform(self, X):
        return np.ones((1, 2))


def test_an_answer_of_another_form_is_an_error():
    spec = mk.TensorSpec("X", "float64", ("batch", 2))
    outputs = (
        mk.TensorSpec("prediction", "float64", ("batch",)),
        mk.TensorSpec("transformed", "float64", ("batch", 2)),
    )
    A = np.ones((4, 2))
    data = Estimator(Odd()).dump()
    with JoblibModel(data, mk.Signature((spec,), outputs[:1])) as model:
        assert model.predict(A[:2]).tolist() == [1.0, 1.0]
        with pytest.raises(mk.errors.ModelkitError, match="the estimator gave float32"):
            model.predict(A)
    with JoblibModel(data, mk.Signature((spec,), outputs[1:])) as model:
        assert model.predict(A[:0]).shape == (0, 2)
        with pytest.raises(mk.errors.OutputCountError, match="the estimator gave 1 rows"):
            model.predict(A)
    with pytest.raises(ManifestError, match="no estimator has an output 'y'"):
        JoblibModel(data, mk.Signature((spec,), (mk.TensorSpec("y", "float64", ("batch",)),)))


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
    refused(b"graph", "interface, not a bytes")
    refused(fitted, "'pickle' is unknown", format="pickle")
    refused(
        fitted,
        "of the form that fit was given",
        example=penguins[0][["year", "body_mass_g"]].fillna(0),
    )
    refused(fitted, "collection of strings", error=TypeError, allow="joblib")
    assert list(tmp_path.iterdir()) == []


def test_no_row_is_pickled_with_the_frame(penguins):
    X = penguins[0].set_index(penguins[0]["island"])
    X.attrs["note"] = "Adelie 39.1"
    from modelkit.convert.gate.rows import rows_of
    from modelkit.convert.native import _form

    like, nones = _form(rows_of(X))
    assert len(like) == 0
    assert list(like.columns) == list(X.columns)
    assert b"Adelie" not in Estimator(None, like, nones).dump()
    assert b"Biscoe" not in Estimator(None, like, nones).dump()


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
