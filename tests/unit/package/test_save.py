"""What `mk.save` takes as an example, in any form, and what it learns from it."""

import numpy as np
import onnx.parser
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers.examples import some
from helpers.frames import N, customers, mixed_frame
from helpers.packages import opened, saved
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder
from threadpoolctl import threadpool_info, threadpool_limits

import modelkit as mk
from modelkit.errors import ConversionError, SignatureError, UsageError


@pytest.fixture(scope="module")
def frame():
    return mixed_frame()


@pytest.fixture(scope="module")
def polars_frame():
    rng = np.random.default_rng(0)
    kinds = [["u", "v"][i % 2] for i in range(N)]
    holes = [["u", "v", None][i % 3] for i in range(N)]
    return pl.DataFrame(
        {
            "a": rng.normal(size=N),
            "i": [None if i % 9 == 0 else i % 4 for i in range(N)],
            "s": [["x", "y", None][i % 3] for i in range(N)],
            "c": pl.Series(kinds, dtype=pl.Categorical),
            "e": pl.Series(holes, dtype=pl.Enum(["u", "v"])),
            "t": [i % 2 == 0 for i in range(N)],
            "day": pl.date_range(pl.date(2020, 1, 1), pl.date(2020, 7, 18), eager=True),
        }
    )


@pytest.mark.parametrize("form", ["onnx", "joblib"])
def test_frames_of_polars_at_save_and_at_predict(form, polars_frame, tmp_path):
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    words = OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer([("n", numbers, ["a", "i"]), ("c", words, ["s", "c", "e", "t"])])
    source = make_pipeline(columns, LogisticRegression()).fit(polars_frame, np.arange(N) % 2)
    with opened(source, polars_frame, tmp_path, format=form) as model:
        expected = source.predict_proba(polars_frame)
        for rows in (polars_frame, polars_frame.to_arrow(), polars_frame.to_dicts()):
            np.testing.assert_allclose(model.predict_proba(rows), expected, atol=1e-12)
        assert model.signature.ignored == ("day",)


@pytest.mark.parametrize("form", ["onnx", "joblib"])
@pytest.mark.parametrize("gaps", ["in fit", "nowhere"])
@some("encoder", [TargetEncoder(cv=2), OneHotEncoder(handle_unknown="ignore")], 1)
def test_a_text_that_polars_misses_is_none_where_the_example_misses_none(
    encoder, gaps, form, frame, tmp_path
):
    """scikit-learn sees None there, which no imputer of NaN fills."""
    whole = pl.from_pandas(frame[["a", "text"]])
    rows = whole.with_columns(pl.when(pl.col("a") > 0).then("text").alias("text"))
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), encoder)
    source = make_pipeline(
        ColumnTransformer([("c", words, ["text"])], remainder="passthrough"), Ridge()
    )
    source.fit(rows if gaps == "in fit" else whole, frame.b)
    with opened(source, whole, tmp_path, format=form) as model:
        np.testing.assert_allclose(model.predict(rows), source.predict(rows), atol=1e-9)


def test_records_and_tables_are_examples(frame, tmp_path):
    rows = frame[["a", "text", "b"]]
    columns = ColumnTransformer(
        [("n", StandardScaler(), ["a", "b"]), ("c", OneHotEncoder(), ["text"])]
    )
    source = make_pipeline(columns, LogisticRegression()).fit(rows, rows.a > 0)
    examples = [rows.to_dict("records"), rows.to_dict("list"), pl.from_pandas(rows).to_arrow()]
    for example in examples:
        with opened(source, example, tmp_path) as model:
            np.testing.assert_array_equal(model.predict(rows), source.predict(rows))


def test_names_that_stand_twice_are_refused(frame, tmp_path):
    rows = pd.concat([frame[["a", "b"]], frame[["a"]]], axis=1)
    source = LogisticRegression().fit(rows.to_numpy(), frame.a > 0)
    with pytest.raises(
        ConversionError, match=r"several columns of example have the same name, \['a'\]"
    ):
        opened(source, rows, tmp_path)


@pytest.mark.parametrize("form", ["onnx", "joblib"])
def test_names_that_are_numbers(form, frame, tmp_path):
    rows = frame[["a", "when", "b"]].set_axis([0, 1, 2], axis=1)
    source = make_pipeline(ColumnTransformer([("n", "passthrough", [0, 2])]), LogisticRegression())
    source.fit(rows, frame.a > 0)
    with opened(source, rows, tmp_path, format=form) as model:
        np.testing.assert_array_equal(model.predict(rows), source.predict(rows))
        assert model.signature.ignored == ("1",)


@pytest.mark.parametrize("form", ["onnx", "joblib"])
@pytest.mark.parametrize("numbers", [True, False], ids=["numbers", "texts"])
@some("unread", [0, 1, 2], [1])
def test_an_array_of_objects_is_taken_with_the_column_that_is_not_read(
    unread, numbers, form, frame, tmp_path
):
    read = frame[["a", "b"]] if numbers else frame[["text", "b"]]
    rows = np.insert(read.to_numpy(object), unread, frame.when.to_numpy(object), axis=1)
    first, second = sorted({0, 1, 2} - {unread})
    encoder = "passthrough" if numbers else OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer([("f", encoder, [first]), ("s", SimpleImputer(), [second])])
    source = make_pipeline(columns, LogisticRegression()).fit(rows, frame.a > 0)
    with opened(source, rows, tmp_path, format=form) as model:
        assert model.signature.ignored == (str(unread),)
        np.testing.assert_array_equal(model.predict(rows), source.predict(rows))
        np.testing.assert_array_equal(model.predict(rows[:, [first, second]]), source.predict(rows))
        with pytest.raises(SignatureError, match=r"shape|columns"):
            model.predict(rows[:, [0, 1, 2, 2]])


OWN = {
    "lists": lambda frame: frame.to_numpy().tolist(),
    "tuples": lambda frame: list(frame.itertuples(index=False, name=None)),
    "records": lambda frame: frame.to_dict("records"),
    "one record": lambda frame: frame.to_dict("records")[:1],
    "columns": lambda frame: frame.to_dict("list"),
    "polars": pl.from_pandas,
    "Arrow": pa.Table.from_pandas,
    "a batch of Arrow": pa.RecordBatch.from_pandas,
}


@pytest.mark.parametrize("form", ["onnx", "joblib"])
@some("kind", OWN, 4)
def test_a_package_takes_the_very_example_that_it_was_saved_with(kind, form, frame, tmp_path):
    rows = frame[["a", "b", "when"]].assign(when=1.0)
    example = OWN[kind](rows)
    names = [0, 1] if kind in ("lists", "tuples") else ["a", "b"]
    source = make_pipeline(ColumnTransformer([("n", "passthrough", names)]), LogisticRegression())
    source.fit(rows.to_numpy() if names == [0, 1] else rows, frame.a > 0)
    expected = source.predict_proba(rows.to_numpy() if names == [0, 1] else rows)
    with opened(source, example, tmp_path, format=form) as model:
        found = model.predict_proba(example)
        np.testing.assert_allclose(found, expected[: len(found)], atol=1e-12)


def test_which_columns_may_be_missing_can_be_narrowed(tmp_path):
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(N, 3)), columns=list("abc"))
    holed = X.assign(a=X["a"].where(X["a"] < 1))
    forest = RandomForestClassifier(3, random_state=0).fit(holed, X["b"] > 0)

    def nullable(rows, **options):
        with opened(forest, rows, tmp_path, **options) as model:
            spec = model.signature.inputs[0]
            model.verify()
            for at, column in enumerate(spec.columns):
                row = X[:1].copy()
                row.iloc[0, at] = np.nan
                if column.nullable:
                    model.predict(row)
                else:
                    with pytest.raises(SignatureError, match=rf"'{column.name}': missing value"):
                        model.predict(row)
            return [column.name for column in spec.columns if column.nullable]

    assert nullable(holed) == ["a", "b", "c"]
    assert nullable(holed, nullable=["a"]) == ["a"]
    assert nullable(X, nullable=["c", "a"]) == ["a", "c"]
    assert nullable(X, nullable=False) == nullable(X, nullable=[]) == []
    with pytest.raises(ConversionError, match=r"rows of its own example.*\n.*'a': missing value"):
        nullable(holed, nullable=False)
    for odd in (True, "a", ["a", 1], 3):
        with pytest.raises(UsageError, match="nullable= is a list of the columns that may be"):
            nullable(X, nullable=odd)
    with pytest.raises(UsageError, match=r"nullable= names \['d'\], in which the model was"):
        nullable(X, nullable=["a", "d"])


def test_there_are_two_formats(tmp_path):
    with pytest.raises(UsageError, match="format 'pickle' is unknown; use 'onnx'"):
        mk.save(object(), tmp_path / "m.mk", format="pickle")
    assert not (tmp_path / "m.mk").exists()


def test_a_tensor_without_columns_can_be_narrowed(tmp_path):
    graph = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 18]>
        g (float[n, 2, 3] image) => (float[n, 2, 3] prediction) { prediction = Neg(image) }"""
    )
    with opened(graph, None, tmp_path, nullable=False) as model:
        with pytest.raises(SignatureError, match="image"):
            model.predict(np.full((1, 2, 3), np.nan, np.float32))
        model.verify()


FEW = 60


@pytest.mark.parametrize("package", ["onnx", "joblib"])
def test_an_example_of_another_order_of_bytes(package, tmp_path):
    X = np.random.default_rng(0).normal(size=(FEW, 2)).astype(">f8")
    fitted = LinearRegression().fit(X, X[:, 0])
    _, model = saved(fitted, X, tmp_path, format=package)
    np.testing.assert_allclose(model.predict(X), fitted.predict(X), atol=1e-9)


def test_an_example_that_forbids_equal_labels(tmp_path):
    numbers = np.random.default_rng(0).normal(size=(FEW, 2))
    X = pd.DataFrame(numbers, columns=["a", "b"]).set_flags(allows_duplicate_labels=False)
    fitted = LinearRegression().fit(X, numbers[:, 0])
    _, model = saved(fitted, X, tmp_path)
    np.testing.assert_allclose(model.predict(X), fitted.predict(X), atol=1e-9)
    assert not X.flags.allows_duplicate_labels


@pytest.mark.parametrize("form", [pl.Series, pa.array, pd.Series, np.array])
def test_an_example_of_texts_in_any_form(form, tmp_path):
    texts = ["good film", "bad film", "a good day", "none"] * 5
    fitted = make_pipeline(CountVectorizer(), LinearRegression()).fit(texts, [1, 2, 3, 4] * 5)
    _, model = saved(fitted, form(texts), tmp_path)
    np.testing.assert_allclose(model.predict(texts), fitted.predict(texts))


def test_an_array_of_mixed_values_is_an_example(tmp_path):
    frame, paid = customers()
    rows = frame.to_numpy()
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), [0, 1]), remainder="passthrough"
    )
    source = make_pipeline(columns, Ridge()).fit(rows, paid)
    model = opened(source, rows, tmp_path)
    np.testing.assert_allclose(model.predict(rows), source.predict(rows), rtol=1e-6)
    records = [{"0": "year", "1": "no", "2": 3}]
    np.testing.assert_allclose(
        model.predict(records), source.predict(np.array([["year", "no", 3]], object)), rtol=1e-6
    )


@pytest.mark.parametrize("form", ["onnx", "joblib"])
def test_a_vectorizer_of_dicts_is_refused_with_a_way_out(form, tmp_path):
    frame, paid = customers()
    records = frame.to_dict("records")
    source = make_pipeline(DictVectorizer(), Ridge()).fit(records, paid)
    with pytest.raises(mk.errors.ConversionError, match="DictVectorizer reads rows without fixed"):
        opened(source, records, tmp_path, format=form)


def test_the_first_save_takes_a_model_a_path_and_an_example(tmp_path):
    X = np.arange(12.0).reshape(6, 2)
    fitted = Ridge().fit(X, X[:, 0])
    manifest = mk.save(fitted, tmp_path / "churn-2.mk", example=X)
    assert (manifest.name, manifest.version) == ("churn-2", "0")
    given = mk.save(fitted, str(tmp_path / "churn-2.mk"), example=X, name="other", version="1.1.0")
    assert (given.name, given.version) == ("other", "1.1.0")


@pytest.mark.parametrize(
    ("file", "error", "message"),
    [
        ("Iris Model.mk", UsageError, "such as name='iris-model'"),
        ("iris.onnx", UsageError, r"another format, .* write 'iris\.mk'"),
        ("iris.PKL", UsageError, r"write 'iris\.mk'"),
        ("iris.pickle", UsageError, r"write 'iris\.mk'"),
        ("iris.1.joblib", UsageError, r"write 'iris\.1\.mk'"),
    ],
)
def test_a_path_that_means_something_else_is_refused_before_anything_is_converted(
    file, error, message, tmp_path
):
    with pytest.raises(error, match=message):
        mk.save(object(), tmp_path / file)


@pytest.mark.parametrize("saved_as", ["onnx", "joblib"])
def test_an_estimator_is_compared_on_one_thread_of_openmp(saved_as, monkeypatch, tmp_path):
    """Beside three other processes, to save it took 17 s, in which its threads waited for each other."""
    threads = set()
    raw_predict = BaseHistGradientBoosting._raw_predict

    def watched(self, *rows, **options):
        threads.update(p["num_threads"] for p in threadpool_info() if p["user_api"] == "openmp")
        return raw_predict(self, *rows, **options)

    X = np.random.default_rng(0).normal(size=(60, 2))
    source = HistGradientBoostingRegressor(max_iter=3).fit(X, X[:, 0])
    monkeypatch.setattr(BaseHistGradientBoosting, "_raw_predict", watched)
    with threadpool_limits(2, user_api="openmp"):
        source.predict(X)
        assert threads == {2}
        threads.clear()
        mk.save(source, tmp_path / "m.mk", example=X, name="m", version="1", format=saved_as)
        assert threads == {1}
        source.predict(X)
        assert threads == {1, 2}
