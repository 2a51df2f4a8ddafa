"""What a Scorer is given in the wrong form is told, with what takes it; nulls in lists are no numbers."""

import traceback

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from helpers.graphs import model_of, tensor
from onnx import TensorProto
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import modelkit as mk
from modelkit.errors import ContainerError, DriftError, ExplainError, IntegrityError, SignatureError
from modelkit.integrations.mlflow.logged import log_model
from modelkit.integrations.mlflow.opened import open_logged
from modelkit.integrations.scorer.tallier import TALLY, Tallier

R = np.random.default_rng(0)
X = pd.DataFrame({"a": R.normal(size=200), "b": R.normal(size=200)})
LABELS = np.where(X["a"] > 0, "yes", "no")
TABLE = pa.Table.from_pandas(X, preserve_index=False)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    path = tmp_path_factory.mktemp("refusals") / "p.mk"
    mk.save(LogisticRegression().fit(X, LABELS), path, example=X, name="p", version="1")
    return path


@pytest.mark.parametrize(
    ("form", "wrong", "says"),
    [
        ("__call__", X, "a DataFrame and no dict of arrays"),
        ("__call__", TABLE, "a Table and no dict of arrays"),
        ("__call__", [1, 2], "a list and no dict of arrays"),
        ("frame", {"a": [1.0], "b": [2.0]}, "a dict and no pandas frame"),
        ("frame", TABLE, "a Table and no pandas frame"),
        ("frame", X["a"], "a Series and no pandas frame"),
        ("arrow", X, "a DataFrame and no Arrow table"),
        ("arrow", {"a": [1.0]}, "a dict and no Arrow table"),
        ("batches", TABLE, "record batches has a ChunkedArray"),
        ("batches", X, "record batches has a str"),
    ],
)
def test_another_form_is_told_with_what_takes_it(package, form, wrong, says):
    with pytest.raises(TypeError, match=f"{says}.*pandas frame by .frame"):
        list(getattr(mk.Scorer(package), form)(wrong))


def test_a_table_is_no_schema(package):
    with pytest.raises(TypeError, match=r"no Arrow schema: .* table.schema"):
        mk.Scorer(package).schema(TABLE)


def test_a_record_batch_is_scored_as_a_table(package):
    scorer = mk.Scorer(package)
    assert scorer.arrow(TABLE.to_batches()[0]).equals(scorer.arrow(TABLE))


def test_a_tally_is_not_watched_as_rows(package):
    profile = mk.Profile.fit(X[:100], reference=X[100:])
    detector = mk.Detector(profile)
    tally = profile.tally(X)
    with pytest.raises(DriftError, match=r"Detector.test\(tally\)"):
        detector.update(tally)
    assert detector.test(tally).rows == len(X)


def test_mlflow_is_given_a_path(package):
    pytest.importorskip("mlflow")
    with package.open("rb") as file:
        for wrong in (package.read_bytes(), file, mk.load(package)):
            with pytest.raises(TypeError, match="the path of a package"):
                log_model(wrong)


def test_dask_is_given_rows_of_its_own(package):
    frames = pytest.importorskip("dask.dataframe")
    from modelkit.integrations import dask as integration

    column = frames.from_pandas(X, npartitions=2)["a"]
    profile = mk.Profile.fit(X[:100], reference=X[100:])
    for wrong in (X, column):
        with pytest.raises(TypeError, match=r"a dask DataFrame, .* mk.Scorer\(package\)"):
            integration.score(wrong, package)
        with pytest.raises(TypeError, match="a dask DataFrame"):
            integration.drift(wrong, profile)


# Digests.


@pytest.mark.parametrize("form", ["{}", "sha256:{}", "SHA256:{}"])
@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_a_digest_is_the_same_in_either_case(package, tmp_path, monkeypatch, form, case):
    digest = form.format(case(mk.inspect(package).digest))
    assert mk.Scorer(package, digest=digest).frame(X)["label"].tolist()
    assert mk.load(package, digest=digest).predict(X).tolist()
    open_logged(str(package), {"digest": digest})
    monkeypatch.setenv("MODELKIT_DIGEST", digest)
    open_logged(str(package), {"digest": digest})
    copy = tmp_path / "copy.mk"
    copy.write_bytes(package.read_bytes())
    mk.attach(copy, metadata={"a": 1}, digest=digest)
    with pytest.raises(IntegrityError, match="asked for"):
        mk.load(copy, digest=digest)
    with pytest.raises(IntegrityError):
        open_logged(str(copy), {"digest": digest})


def test_a_pickled_estimator_opens_by_a_digest_in_upper_case(tmp_path):
    model = LogisticRegression().fit(X, LABELS)
    made = mk.save(model, tmp_path / "j.mk", example=X, name="j", version="1", format="joblib")
    digest = made.digest.upper()
    found = mk.Scorer(tmp_path / "j.mk", digest=digest, allow={"joblib"}).frame(X)
    assert found["label"].tolist() == model.predict(X).tolist()


@pytest.mark.parametrize("wrong", [b"0" * 64, 7])
def test_a_digest_that_is_no_text_is_told(package, wrong):
    with pytest.raises(TypeError, match="digest is a text"):
        mk.load(package, digest=wrong)


# Nulls inside lists.


class Sums(torch.nn.Module):
    """Answers NaN as its graph does."""

    def forward(self, x):
        return torch.nan_to_num(x).sum(dim=1)


class Largest(torch.nn.Module):
    """Does not, so that its package takes finite numbers alone."""

    def forward(self, x):
        return x.amax(dim=1)


def saved(net, path):
    mk.save(net.eval(), path, example=torch.rand(40, 3), name="m", version="1")
    return mk.Scorer(path)


def test_a_null_in_a_list_is_missing_where_the_model_takes_missing_values(tmp_path):
    """As pandas and the engines make nulls of NaN."""
    scorer = saved(Sums(), tmp_path / "m.mk")
    rows = R.normal(size=(60, 3)).astype(np.float32)
    rows[R.random(rows.shape) < 0.2] = np.nan
    table = pa.Table.from_pandas(pd.DataFrame({"x": list(rows)}))
    assert table["x"].combine_chunks().flatten().null_count
    found = scorer.arrow(table).column(0).to_numpy()
    assert np.array_equal(found, mk.load(tmp_path / "m.mk", threads=1).predict(rows))


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.int64()])
def test_a_null_in_a_list_is_refused_where_it_does_not(tmp_path, kind):
    scorer = saved(Largest(), tmp_path / "m.mk")
    lists = pa.array([[1, 2, 3], [1, None, 3]], pa.list_(kind))
    with pytest.raises(SignatureError, match=r"missing value.* row 1"):
        scorer.arrow(pa.table({"x": lists}))


@pytest.mark.parametrize("depth", [1, 2])
def test_a_null_among_whole_numbers_is_refused(tmp_path, depth):
    shape = ("n", *[2] * depth)
    graph = model_of(
        [("Flatten", ["x"], ["y"], {})],
        [tensor("x", *shape, kind=TensorProto.INT64)],
        [tensor("y", "n", 2**depth, kind=TensorProto.INT64)],
    )
    example = {"x": np.ones([4] + [2] * depth, np.int64)}
    mk.save(graph, tmp_path / "m.mk", example=example, name="m", version="1")
    model = mk.load(tmp_path / "m.mk")
    whole, gap = [2**60 + 1, 2], [None, 2]
    if depth == 2:
        whole, gap = [whole, whole], [whole, gap]
    assert np.array_equal(model.run({"x": np.array([whole])})["y"], [np.ravel(whole)])
    scorer = mk.Scorer(tmp_path / "m.mk")
    with pytest.raises(SignatureError, match=r"missing value in row 1; int64 has none"):
        scorer.arrow(pa.table({"x": [whole, gap]}))


@pytest.mark.parametrize("kind", [pa.float32(), pa.int64()])
def test_a_null_in_an_embedding_is_a_missing_vector(kind):
    vectors = R.integers(-50, 50, size=(600, 4)).astype(np.float32)
    profile = mk.Profile.fit({"e": vectors[:300]}, reference={"e": vectors[300:]})
    rows = vectors[:3].astype(int).tolist()
    rows[1][2] = None
    (data,) = Tallier(profile).arrow(pa.table({"e": pa.array(rows, pa.list_(kind))}))[TALLY]
    vectors[1, 2] = np.nan
    assert mk.Tally.from_bytes(data.as_py()) == profile.tally({"e": vectors[:3]})


# Sources and explanations.


def test_a_folder_is_told_from_a_package(package):
    with pytest.raises(ContainerError, match=r"a folder.*mk.Registry\(folder\).reference"):
        mk.Scorer(package.parent)


@pytest.mark.parametrize(
    "url", ["file://user:s3cret@host/no/p.mk", "file:///no/p.mk?X-Amz-Signature=s3cret"]
)
def test_what_a_url_has_of_secrets_stands_in_no_message(url):
    with pytest.raises(ContainerError, match=r"/no/p.mk cannot be read") as caught:
        mk.Scorer(url)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value, chain=True))


def test_a_text_is_not_explained_by_a_scorer(tmp_path):
    words = np.array(["good day", "bad day", "good night", "bad night"] * 20, object)
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(words, words > "c")
    rows = pd.DataFrame({"text": words})
    path = tmp_path / "t.mk"
    mk.save(model, path, example=rows["text"], name="t", version="1")
    with pytest.raises(ExplainError, match=r"by the background of the package alone.*mk.Explainer"):
        mk.Scorer(path, explain=True)


def test_contributions_of_one_name_are_told_with_a_form_that_has_them(tmp_path):
    rows = pd.DataFrame({"x": [0.0, 1.0] * 30, "b_x": [0.0, 0.0, 1.0, 1.0] * 15})
    model = LogisticRegression().fit(rows, ["a_b", "a", "c", "c"] * 15)
    mk.save(model, tmp_path / "m.mk", example=rows, name="m", version="1", background=rows[:30])
    scorer = mk.Scorer(tmp_path / "m.mk", explain=True)
    with pytest.raises(SignatureError, match=r"\['contributions_a_b_x'\]; score an Arrow table"):
        scorer.frame(rows)
    table = scorer.arrow(pa.Table.from_pandas(rows))
    assert table.column_names == ["label", "probabilities", "contributions", "base"]
