"""The columns of example rows: any name, any dtype, gaps, and objects."""

import numpy as np
import pandas as pd
import pytest
from helpers.examples import some
from helpers.kinds import docstrings
from helpers.packages import columns_of, saved
from helpers.rows import trips
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import modelkit as mk
from modelkit.errors import ConversionError, SignatureError


@pytest.mark.parametrize("kind", ["onnx", "joblib"])
@some(
    ("dtype", "name"),
    [
        ("int64[pyarrow]", "int64"),
        ("int8[pyarrow]", "int8"),
        ("uint16[pyarrow]", "uint16"),
        ("double[pyarrow]", "float64"),
        ("float[pyarrow]", "float32"),
        ("bool[pyarrow]", "bool"),
        ("string[pyarrow]", "string"),
        ("large_string[pyarrow]", "string"),
        ("Int64", "int64"),
        ("boolean", "bool"),
        ("category", "string"),
    ],
    3,
)
def test_columns_of_any_dtype_and_with_gaps(dtype, name, kind, tmp_path):
    X, y = trips()
    texts = name == "string"
    X = X[["sex"]] if texts else X[["age"]]
    X = X // 50 == 0 if name == "bool" else X
    X = X.astype(dtype)
    if not dtype.endswith("string[pyarrow]"):  # which scikit-learn takes no gaps in
        X.iloc[::5, 0] = None
    step = (
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
        if texts
        else SimpleImputer()
    )
    pipeline = make_pipeline(make_column_transformer((step, [0])), LogisticRegression()).fit(X, y)
    manifest, model = saved(pipeline, X, tmp_path, format=kind)
    assert columns_of(manifest)[0].dtype == name
    assert columns_of(manifest)[0].nullable or dtype.endswith("string[pyarrow]")
    np.testing.assert_allclose(model.predict_proba(X), pipeline.predict_proba(X), rtol=1e-4)
    whole = X.dropna()
    np.testing.assert_allclose(model.predict_proba(whole), pipeline.predict_proba(whole), rtol=1e-4)


@pytest.mark.parametrize("form", ["frame", "array", "Int64", "int64[pyarrow]"])
def test_whole_numbers_of_a_pickled_estimator_take_gaps_and_fractions(form, tmp_path):
    X, y = trips()
    X = (
        X[["age"]].to_numpy()
        if form == "array"
        else X[["age"]].astype("int64" if form == "frame" else form)
    )
    pipeline = make_pipeline(SimpleImputer(), LogisticRegression()).fit(X, y)
    _, model = saved(pipeline, X, tmp_path, format="joblib")
    for odd in (np.nan, 7.5, -3.0, 2.0**40):
        rows = np.array([[odd], [5.0]])
        given = rows if form == "array" else pd.DataFrame(rows, columns=["age"])
        np.testing.assert_array_equal(model.predict_proba(given), pipeline.predict_proba(given))


def ones(rows):
    return np.ones((len(rows), 1))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            [1, "a", None],
            r"column 'odd' has Python objects in it, such as 1, of type int; give all of its values one type",
        ),
        ([[1], [2], [3]], r"column 'odd' has Python objects in it, such as \[1\], of type list"),
        ([1, None, 2], r"such as 1, of type int; make it one of numbers before fit"),
    ],
)
def test_objects_that_are_no_texts_are_named(values, said, tmp_path):
    X, y = trips()
    X = X.assign(odd=pd.Series(values * 40, dtype=object))
    columns = make_column_transformer(
        (StandardScaler(), ["fare"]), (FunctionTransformer(ones), ["odd"])
    )
    pipeline = make_pipeline(columns, LogisticRegression()).fit(X, y)
    lists = isinstance(values[0], list)
    for kind in ("onnx", "joblib") if lists else ("onnx",):  # an estimator takes what it takes
        with pytest.raises(ConversionError, match=said):
            mk.save(pipeline, tmp_path / "m.mk", example=X, name="m", version="1", format=kind)


@pytest.mark.parametrize("kind", ["onnx", "joblib"])
def test_categories_that_are_numbers(kind, tmp_path):
    X, y = trips()
    X = (X[["age"]] // 30).astype("category")
    pipeline = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(X, y)
    manifest, model = saved(pipeline, X, tmp_path, format=kind)
    assert columns_of(manifest)[0].dtype == "int64"
    assert columns_of(manifest)[0].categories == (0, 1, 2)
    np.testing.assert_allclose(model.predict_proba(X), pipeline.predict_proba(X), atol=1e-9)
    np.testing.assert_allclose(
        model.predict_proba(X.astype(int)), pipeline.predict_proba(X), atol=1e-9
    )
    with pytest.raises(SignatureError, match="unknown category"):
        model.predict([{"age": 7}])


@some(
    "name",
    [
        "Body Mass",
        "hours-per-week",
        "price ($)",
        "Größe",
        "capital.gain",
        "1st",
        "a/b",
        "label",
        "probabilities",
        "x0",
    ],
    3,
)
def test_a_column_may_have_any_name(name, tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            name: rng.normal(size=99),
            "sex": rng.choice(["u", "v"], 99),
            "Body_Mass": rng.normal(size=99),
        }
    )
    parts = make_column_transformer(
        (StandardScaler(), [name, "Body_Mass"]), (OneHotEncoder(), ["sex"])
    )
    pipeline = make_pipeline(parts, LogisticRegression()).fit(X, X[name] > 0)
    manifest, model = saved(pipeline, X, tmp_path)
    assert [column.name for spec in manifest.signature.inputs for column in spec.columns] == [*X]
    np.testing.assert_allclose(model.predict_proba(X), pipeline.predict_proba(X), atol=1e-6)
    np.testing.assert_array_equal(model.predict(X.to_dict("records")), pipeline.predict(X))
    with pytest.raises(SignatureError, match="missing column"):
        model.predict(X.drop(columns=name))
    values = mk.Explainer(model, background=X[:50]).explain(X[:3])
    assert values.feature_names == (*X,)


def test_a_text_column_may_have_any_name(tmp_path):
    texts, y = docstrings()
    column = pd.Series(texts, name="review text")
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(column, y)
    _, model = saved(pipeline, column, tmp_path)
    np.testing.assert_array_equal(
        model.predict({"review text": texts[:9]}), pipeline.predict(column[:9])
    )
