"""A Scorer: the same answers as the Model, in every form, wherever it is called."""

import pickle
import shutil
import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers.graphs import model_of, tensor
from helpers.scored import save_graph, save_tumour
from sklearn.datasets import load_breast_cancer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modelkit as mk
from modelkit.errors import IntegrityError, SignatureError, UntrustedError, UsageError
from modelkit.integrations.scorer import scorer as module

R = np.random.default_rng(0)
X, Y = load_breast_cancer(return_X_y=True, as_frame=True)
LABELS = Y.map({0: "malignant", 1: "benign"})
ROWS = X.assign(id=np.arange(len(X)))


@pytest.fixture(scope="module")
def package(once):
    return once("tumour.mk", save_tumour)


@pytest.fixture(scope="module")
def served(package):
    return mk.load(package, threads=1).run(X)


def test_every_form_gives_what_the_model_gives_bit_for_bit(package, served):
    scorer = mk.Scorer(package, keep=["id"])
    table = scorer.arrow(pa.Table.from_pandas(ROWS))
    frame = scorer.frame(ROWS)
    arrays = scorer({name: ROWS[name].to_numpy() for name in ROWS})
    batches = list(scorer.batches(pa.Table.from_pandas(ROWS).to_batches(100)))
    assert np.array_equal(np.array(table["probabilities"].to_pylist()), served["probabilities"])
    sides = frame[["probabilities_benign", "probabilities_malignant"]].to_numpy()
    assert np.array_equal(sides, served["probabilities"])
    assert np.array_equal(arrays["probabilities"], served["probabilities"])
    assert pa.Table.from_batches(batches).equals(table)
    for labels in (table["label"].to_pylist(), frame["label"].tolist(), arrays["label"].tolist()):
        assert labels == served["label"].tolist()
    for ids in (table["id"].to_pylist(), frame["id"].tolist(), arrays["id"].tolist()):
        assert ids == list(range(len(X)))


def test_no_rows_have_the_types_of_many(package):
    scorer = mk.Scorer(package, keep=["id"], explain=True)
    table = pa.Table.from_pandas(ROWS)
    assert scorer.arrow(table.slice(0, 0)).schema == scorer.arrow(table.slice(0, 9)).schema
    assert scorer.arrow(table.slice(0, 9)).schema == scorer.schema(table.schema)
    assert scorer.frame(ROWS[:0]).dtypes.equals(scorer.frame(ROWS[:9]).dtypes)


def test_it_travels_in_a_kilobyte_and_opens_its_package_once_in_a_process(package, served):
    scorer = mk.Scorer(package, keep=["id"], outputs=["probabilities"])
    data = pickle.dumps(scorer)
    assert len(data) < 1024
    others = [pickle.loads(data) for _ in range(8)]
    seen = []

    def use(other):
        seen.append(other.model)

    threads = [threading.Thread(target=use, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len({id(model) for model in seen}) == 1
    assert np.array_equal(others[0].frame(ROWS).iloc[:, 1], served["probabilities"][:, 0])


def test_a_package_that_changed_on_the_way_is_refused(package, tmp_path):
    path = tmp_path / "changing.mk"
    path.write_bytes(package.read_bytes())
    scorer = mk.Scorer(path)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(X, LABELS)
    mk.save(model, path, example=X, name="tumour", version="1")
    module._held._values.clear()  # as in a process that has not opened it yet
    with pytest.raises(IntegrityError, match=r"asked for.*tumour 1; .*make it again") as caught:
        scorer.frame(ROWS)
    assert str(caught.value).startswith(repr(str(path)))


def test_a_package_that_changed_at_a_url_is_named_and_not_copied(package, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "here"))
    path = tmp_path / "changing.mk"
    path.write_bytes(package.read_bytes())
    url = path.as_uri()
    scorer = mk.Scorer(url)
    shutil.rmtree(tmp_path / ".cache", ignore_errors=True)  # as on another machine
    mk.attach(path, metadata={"changed": True})
    monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))  # as on a machine that has no copy
    module._held._values.clear()
    with pytest.raises(IntegrityError, match="asked for") as caught:
        scorer.frame(ROWS)
    assert str(caught.value).startswith(repr(url))
    assert not (tmp_path / "elsewhere").exists()


def test_bytes_and_files_and_urls_and_releases_travel(package, served, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    registry = mk.Registry(tmp_path / "models")
    registry.register(package)
    registry.set_alias("tumour", "champion", "1", expected=None, reason="first")
    reference = registry.reference("tumour", "champion")
    with package.open("rb") as file:
        sources = [package.read_bytes(), file, f"file://{package}", reference]
        for source in sources:
            scorer = pickle.loads(pickle.dumps(mk.Scorer(source)))
            module._held._values.clear()
            found = scorer.frame(X)["probabilities_benign"]
            assert np.array_equal(found, served["probabilities"][:, 0])
    assert len(pickle.dumps(mk.Scorer(reference, keep=["id"]))) < 2048
    cached = tmp_path / ".cache" / "modelkit" / f"{mk.inspect(package).digest}.mk"
    assert cached.read_bytes() == package.read_bytes()
    cached.write_bytes(b"cut off")  # is copied again
    module._held._values.clear()
    assert len(mk.Scorer(f"file://{package}").frame(X)) == len(X)


def test_an_alias_is_resolved_where_the_job_starts(package, tmp_path):
    registry = mk.Registry(tmp_path / "models")
    registry.register(package)
    registry.set_alias("tumour", "champion", "1", expected=None, reason="first")
    scorer = mk.Scorer(registry.reference("tumour", "champion"))
    other = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(X, LABELS)
    mk.save(other, tmp_path / "2.mk", example=X, name="tumour", version="2")
    registry.register(tmp_path / "2.mk")
    registry.set_alias("tumour", "champion", "2", expected="1", reason="next")
    module._held._values.clear()
    assert scorer.model.manifest.version == "1"


def test_contributions_add_up_to_the_output(package):
    scorer = mk.Scorer(package, outputs=["probabilities"], explain=True)
    frame = scorer.frame(X[:20])
    parts = frame.filter(like="contributions_")
    assert next(iter(parts)) == "contributions_mean radius"
    margin = parts.sum(axis=1) + frame["base"]
    served = frame["probabilities_malignant"]
    assert np.allclose(1 / (1 + np.exp(-margin)), served, atol=1e-9)
    table = scorer.arrow(pa.Table.from_pandas(X[:20], preserve_index=False))
    assert np.array_equal(np.array(table["contributions"].to_pylist()), parts.to_numpy())


def test_tensors_come_as_lists_and_arrays(tmp_path):
    images = R.normal(size=(12, 6)).astype(np.float32)
    weights = R.normal(size=(6, 3)).astype(np.float32)
    graph = model_of(
        [("MatMul", ["x", "weights"], ["h"], {}), ("Softmax", ["h"], ["y"], {"axis": 1})],
        [tensor("x", "n", 6)],
        [tensor("y", "n", 3)],
        {"weights": weights},
    )
    save_graph(graph, tmp_path / "n.mk", x=images)
    scorer = mk.Scorer(tmp_path / "n.mk")
    (name,) = scorer.inputs
    (output,) = [own.name for own in scorer.outputs]
    ours = mk.load(tmp_path / "n.mk", threads=1).run({name: images})[output]
    lists = pa.table({name: list(images)})
    fixed = pa.table({name: pa.FixedSizeListArray.from_arrays(images.reshape(-1), 6)})
    for table in (lists, fixed):
        assert np.array_equal(np.array(scorer.arrow(table)[output].to_pylist(), np.float32), ours)
    frame = scorer.frame(pd.DataFrame({name: list(images)}))
    assert list(frame) == [f"{output}_0", f"{output}_1", f"{output}_2"]
    assert np.array_equal(frame.to_numpy(), ours)
    assert np.array_equal(scorer({name: images})[output], ours)
    ours_of_none = ours[:0]
    assert np.array_equal(scorer.frame(pd.DataFrame({name: list(images[:0])})), ours_of_none)
    assert scorer.arrow(lists[:0]).schema == scorer.arrow(lists).schema
    ragged = pa.table({name: [[1.0] * 6, [1.0] * 5]})
    with pytest.raises(SignatureError, match="lists of 5 to 6 values"):
        scorer.arrow(ragged)


def test_tensors_of_more_dimensions_come_as_lists_of_lists_and_as_tensors_of_arrow(tmp_path):
    images = R.normal(size=(5, 2, 3)).astype(np.float32)
    weights = R.normal(size=(6, 2)).astype(np.float32)
    graph = model_of(
        [("Flatten", ["x"], ["h"], {}), ("MatMul", ["h", "weights"], ["y"], {})],
        [tensor("x", "n", 2, 3)],
        [tensor("y", "n", 2)],
        {"weights": weights},
    )
    save_graph(graph, tmp_path / "n.mk", x=images)
    scorer = mk.Scorer(tmp_path / "n.mk")
    (name,) = scorer.inputs
    (output,) = [own.name for own in scorer.outputs]
    ours = scorer({name: images})[output]
    nested = pa.table({name: images.tolist()})
    tensors = pa.table({name: pa.FixedShapeTensorArray.from_numpy_ndarray(images)})
    for table in (nested, nested[:0], tensors, tensors[2:]):
        found = scorer.arrow(table)[output].to_pylist()
        assert np.array_equal(
            np.array(found, np.float32).reshape(-1, 2), ours[len(ours) - len(table) :]
        )


def test_rows_of_one_index_stay_apart(package, served):
    """As in a frame that was joined from parts, each numbered from 0."""
    rows = ROWS.set_axis(np.arange(len(ROWS)) % 7, axis=0)
    frame = mk.Scorer(package, keep=["id"]).frame(rows)
    assert frame["id"].tolist() == ROWS["id"].tolist()
    assert frame.index.equals(rows.index)
    assert np.array_equal(frame["probabilities_benign"], served["probabilities"][:, 0])


def test_a_missing_whole_number_is_scored(tmp_path):
    rows = pd.DataFrame({"age": pd.array([1, 2, None, 4] * 50, "Int64"), "id": range(200)})
    model = make_pipeline(SimpleImputer(), LogisticRegression())
    model.fit(rows[["age"]].astype(float), np.arange(200) % 2)
    mk.save(model, tmp_path / "a.mk", example=rows[["age"]], name="a", version="1")
    scorer = mk.Scorer(tmp_path / "a.mk", keep=["id"])
    ours = mk.load(tmp_path / "a.mk", threads=1).predict_proba(rows[["age"]])
    found = np.array(scorer.arrow(pa.Table.from_pandas(rows))["probabilities"].to_pylist())
    assert np.array_equal(found, ours)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"outputs": ["scores"]}, SignatureError, "unknown outputs"),
        ({"outputs": "label"}, SignatureError, "a list of names"),
        ({"outputs": []}, SignatureError, "outputs is empty"),
        ({"keep": ["label"]}, SignatureError, "share names"),
        ({"keep": ["probabilities_benign"]}, SignatureError, "share names"),
        ({"keep": ["id", "id"]}, SignatureError, "twice in keep"),
        ({"digest": "0" * 64}, IntegrityError, "asked for"),
        ({"digest": 5}, TypeError, "digest is a text"),
        ({"keep": "a"}, SignatureError, "keep is a list of names"),
        ({"keep": "id"}, SignatureError, "keep is a list of names"),
        ({"keep": [1]}, SignatureError, r"keep has the names \[1\], which are not texts"),
        ({"keep": {"a"}}, SignatureError, "a set has none"),
        ({"outputs": {"prediction"}}, SignatureError, "a set has none"),
        ({"explain": "no"}, TypeError, "explain is True or False"),
        ({"device": "gpu7"}, UsageError, "is not a device"),
        ({"threads": 0}, UsageError, "threads must be"),
        ({"threads": "many"}, UsageError, "threads must be"),
    ],
)
def test_mistakes_are_told_before_anything_runs(package, wrong, error, says):
    with pytest.raises(error, match=says):
        mk.Scorer(package, **wrong)


def test_rows_that_do_not_fit_are_told(package):
    scorer = mk.Scorer(package, keep=["id"])
    with pytest.raises(SignatureError, match=r"keep names \['id'\]"):
        scorer.frame(X)
    with pytest.raises(SignatureError, match=r"keep names \['id'\]"):
        scorer.schema(pa.Table.from_pandas(X).schema)
    with pytest.raises(SignatureError, match="mean radius"):
        scorer.frame(ROWS.drop(columns="mean radius"))


def test_a_pickled_estimator_needs_the_digest_of_the_caller(tmp_path):
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, LABELS)
    made = mk.save(model, tmp_path / "j.mk", example=X, name="j", version="1", format="joblib")
    with pytest.raises(UntrustedError):
        mk.Scorer(tmp_path / "j.mk")
    scorer = mk.Scorer(tmp_path / "j.mk", digest=made.digest, allow={"joblib"})
    assert scorer.frame(X)["label"].tolist() == model.predict(X).tolist()
