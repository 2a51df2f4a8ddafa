"""Columns by name: those that a model does not read, those that it does not know, and no rows."""

import numpy as np
import polars as pl
import pytest
from helpers import examples
from helpers.frames import mixed_frame
from helpers.packages import opened
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import modelkit as mk
from modelkit.errors import SignatureError, UsageError


@pytest.fixture(scope="module")
def frame():
    return mixed_frame()


def prepared():
    gaps = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    return ColumnTransformer(
        [("n", StandardScaler(), ["a", "b"]), ("c", gaps, ["cat"]), ("d", "drop", ["id"])]
    )


def some(columns):
    return ColumnTransformer([("n", "passthrough", columns)])


READERS = {
    "a pipeline": (make_pipeline(prepared(), LogisticRegression()), ["a", "cat", "b"]),
    "a search": (
        GridSearchCV(make_pipeline(prepared(), LogisticRegression()), {"verbose": [False]}, cv=2),
        ["a", "cat", "b"],
    ),
    "a vote": (
        VotingClassifier(
            [
                ("l", make_pipeline(some(["b"]), LogisticRegression())),
                ("f", make_pipeline(some([2]), RandomForestClassifier(5, random_state=0))),
            ],
            voting="soft",
        ),
        ["a", "b"],
    ),
    "a union": (
        make_pipeline(FeatureUnion([("one", some(["b"])), ("two", some(["a"]))]), LogisticRegression()),
        ["a", "b"],
    ),
    "one against the rest": (
        OneVsRestClassifier(make_pipeline(some(["b", "a"]), LogisticRegression())),
        ["a", "b"],
    ),
    "one inside another": (
        make_pipeline(
            ColumnTransformer([("x", some([1]), ["wait", "b"]), ("z", StandardScaler(), [2])]),
            LogisticRegression(),
        ),
        ["a", "b"],
    ),
    "texts": (
        make_pipeline(
            ColumnTransformer([("t", TfidfVectorizer(), "text"), ("n", "passthrough", ["b"])]),
            LogisticRegression(),
        ),
        ["b", "text"],
    ),
}  # fmt: skip


@examples.some(
    ("kind", "form"),
    [*((kind, "onnx") for kind in READERS), ("a search", "joblib")],
    [("a pipeline", "onnx"), ("a vote", "onnx"), ("texts", "onnx"), ("a search", "joblib")],
)
def test_columns_that_a_pipeline_drops_may_be_sent_or_not(kind, form, frame, tmp_path):
    source, read = READERS[kind]
    source.fit(frame, frame.a + frame.b > 0)
    with opened(source, frame, tmp_path, format=form) as model:
        signature = model.signature
        assert [column.name for spec in signature.inputs for column in spec.columns] == read
        assert signature.ignored == tuple(name for name in frame if name not in read)
        expected = source.predict_proba(frame)
        for rows in (frame, frame[read], frame[[*read, "when"]], frame[read].to_dict("records")):
            np.testing.assert_allclose(model.predict_proba(rows), expected, atol=1e-12)
        with pytest.raises(SignatureError, match="unexpected column 'stranger'"):
            model.predict(frame.assign(stranger=1))
        assert mk.inspect(tmp_path / "m.mk").signature == signature


def test_extra_columns_pass_for_a_caller_who_says_so(frame, tmp_path):
    source = make_pipeline(prepared(), LogisticRegression()).fit(frame, frame.a > 0)
    opened(source, frame, tmp_path).close()
    rows = frame.assign(stranger=1)
    with mk.load(tmp_path / "m.mk", extra="ignore") as model:
        expected = source.predict(frame)
        tables = (pl.from_pandas(rows[["b", "cat", "a", "stranger"]]), rows)
        for given in (*tables, rows.to_dict("records"), rows.to_dict("list")):
            np.testing.assert_array_equal(model.predict(given), expected)
        some = [{"a": 1.0, "b": 2.0, "cat": "x", "mine": 1}, {"cat": "x", "a": 1.0, "b": 2.0}]
        assert model.predict(some).shape == (2,)
        with pytest.raises(SignatureError, match=r"missing column 'a' \(is it 'A'\?\)"):
            model.predict(rows.rename(columns={"a": "A"}))
        assert model.signature == mk.inspect(tmp_path / "m.mk").signature
        assert mk.load(tmp_path / "m.mk").signature.extra == "refuse"
    with pytest.raises(UsageError, match="extra is 'refuse' or 'ignore', not 'drop'"):
        mk.load(tmp_path / "m.mk", extra="drop")


def test_extra_names_beside_tensors_pass_too():
    wide = mk.Signature(
        (mk.TensorSpec("image", "float32", ("batch", 2)),),
        (mk.TensorSpec("y", "float32", ("batch",)),),
        extra="ignore",
    )
    image = np.ones((3, 2), np.float32)
    assert wide.coerce({"image": image, "id": [1, 2, 3]})["image"].shape == (3, 2)


def test_a_profile_of_the_training_rows_goes_with_a_model_that_drops_some(frame, tmp_path):
    rows = frame.drop(columns=["span", "thing", "month", "wait"])
    source = make_pipeline(prepared(), LogisticRegression()).fit(rows, rows.a > 0)
    profile = mk.Profile.fit(rows)
    with opened(source, rows, tmp_path, profile=profile) as model:
        watched = mk.Monitor(model)
        watched.predict(rows)
        assert watched.detector.profile.layout.sources() == ["a", "cat", "b"]
        assert sum(feature.weight for feature in watched.detector.profile.features) == 1
        with pytest.raises(UsageError, match="the profile lacks"):
            mk.Monitor(model, mk.Profile.fit(rows.rename(columns={"a": "text2"})))
    assert profile.without(["nobody"]) is profile


def test_an_empty_list_is_no_rows(frame, tmp_path):
    source = make_pipeline(prepared(), LogisticRegression()).fit(frame, frame.a > 0)
    for form in ("onnx", "joblib"):
        with opened(source, frame, tmp_path, format=form) as model:
            assert model.predict([]).shape == (0,)
            assert model.predict_proba([]).shape == (0, 2)
    fixed = mk.Signature(
        (mk.TensorSpec("x", "float32", (4, 2)),), (mk.TensorSpec("y", "float32", (4,)),)
    )
    with pytest.raises(SignatureError, match="an empty list"):
        fixed.coerce([])
