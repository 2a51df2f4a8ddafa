"""Example rows: what is wrong with them is said, and a package takes its own."""

import numpy as np
import pandas as pd
import pytest
from helpers.packages import saved
from helpers.rows import trips
from sklearn import datasets
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import modelkit as mk
from modelkit.errors import ConversionError, SignatureError

IRIS = datasets.load_iris(return_X_y=True)


def test_bad_calls_say_what_to_pass(tmp_path):
    save = lambda source, **kw: mk.save(source, tmp_path / "m.mk", name="m", version="1", **kw)  # noqa: E731
    fitted = LogisticRegression(max_iter=500).fit(*IRIS)
    with pytest.raises(ConversionError, match=r"example=X_train\[:500\]"):
        save(fitted)
    with pytest.raises(ConversionError, match="example is empty"):
        save(fitted, example=IRIS[0][:0])
    with pytest.raises(ConversionError, match="not set"):
        save(fitted, example={1.0, 2.0})
    with pytest.raises(TypeError, match=r"version must be a string: write version='1.0', not 1.0"):
        mk.save(fitted, tmp_path / "m.mk", name="m", version=1.0, example=IRIS[0])
    with pytest.raises(ConversionError, match="is not fitted: call fit"):
        save(LogisticRegression(), example=IRIS[0])
    with pytest.raises(ConversionError, match="cannot save dict"):
        save({})
    frame = pd.DataFrame(IRIS[0], columns=list("abcd"))
    named = LogisticRegression(max_iter=500).fit(frame, IRIS[1])
    with pytest.raises(ConversionError, match="in another order than fit was given them"):
        save(named, example=frame[list("bacd")])
    with pytest.raises(ConversionError, match="not a readable ONNX model"):
        save(b"not a protobuf at all")
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "absent.onnx")


@pytest.mark.parametrize("place", [0, 2999])
def test_a_package_that_refuses_a_row_of_its_example_is_not_saved(place, tmp_path):
    X = pd.DataFrame({"fare": np.random.default_rng(0).gamma(2, 10, 3000)})
    X.loc[place, "fare"] = np.inf
    clip = FunctionTransformer(np.clip, kw_args={"a_min": 0, "a_max": 99})
    pipeline = make_pipeline(clip, LogisticRegression()).fit(X, X["fare"] > 20)
    said = rf"refuse rows of its own example:\n  .*infinite value.* row {place}"
    with pytest.raises(ConversionError, match=said) as caught:
        mk.save(pipeline, tmp_path / "m.mk", example=X, name="m", version="1", format="joblib")
    assert caught.value.problems
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_the_graph_cannot_hold_is_no_fault_of_the_caller(tmp_path):
    X, y = trips()
    X = X[["fare"]].assign(id=np.arange(len(X)) + 2**60)
    pipeline = make_pipeline(
        make_column_transformer((StandardScaler(), ["fare", "id"])), LogisticRegression()
    ).fit(X, y)
    with pytest.raises(ConversionError, match=r"column 'id': integer beyond 2\*\*53"):
        mk.save(pipeline, tmp_path / "m.mk", example=X, name="m", version="1")
    _, model = saved(pipeline, X, tmp_path, format="joblib")
    np.testing.assert_array_equal(model.predict_proba(X), pipeline.predict_proba(X))


@pytest.mark.parametrize(("given", "where"), [
    (lambda texts: texts, "example has 1 missing texts among others"),
    (pd.Series, "example has 1 missing texts among others"),
    (lambda texts: pd.DataFrame({"said": texts, "n": 1.0}), "Column 'said' has missing texts"),
])  # fmt: skip
@pytest.mark.parametrize("gap", [None, np.nan])
@pytest.mark.parametrize("vectorizer", [TfidfVectorizer, CountVectorizer])
def test_missing_texts_are_named_with_what_to_put_there(vectorizer, gap, given, where, tmp_path):
    """scikit-learn refuses them with words about its own code."""
    texts = ["good film", "bad film", "", "good"]
    whole = given(texts)
    step = vectorizer()
    if isinstance(whole, pd.DataFrame):
        step = make_column_transformer((step, "said"), ("passthrough", ["n"]))
    pipeline = make_pipeline(step, LogisticRegression()).fit(whole, [1, 0, 0, 1])
    mk.save(pipeline, tmp_path / "m.mk", example=whole, name="m", version="1")
    with pytest.raises(ConversionError, match=f"{where}: put '' in their place, as fillna"):
        mk.save(pipeline, tmp_path / "m.mk", example=given([*texts, gap]), name="m", version="1")
    with mk.load(tmp_path / "m.mk") as model:
        assert len(model.predict(whole)) == 4
        with pytest.raises(
            SignatureError, match=r"missing value in row 4; .* pass '' \(CSV has none"
        ):
            model.predict(given([*texts, gap]))
