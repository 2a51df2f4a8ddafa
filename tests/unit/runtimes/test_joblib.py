"""joblib packages take what joblib takes: each dtype reaches the estimator as it was in training."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from helpers.examples import some
from helpers.forge import forge
from helpers.packages import saved, trusted
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import modelkit as mk
from modelkit.errors import (
    ClosedError,
    ConversionError,
    DeviceError,
    IntegrityError,
    ManifestError,
    SignatureError,
    UsageError,
)
from modelkit.runtimes.joblib import Estimator, JoblibModel
from modelkit.testing import check_model

N = 100
TIMES = pd.date_range("2024-01-01", periods=N, freq="7h").as_unit("us")
SPANS = pd.to_timedelta(np.arange(N) % 17, unit="s")
SEEN = []  # the dtypes of the rows that the estimator was given


def numbers_of(rows):
    """A number for each value; it also notes the dtypes that it sees."""
    SEEN.append(rows.dtypes.tolist())
    columns = [[_number(value) for value in column] for _, column in rows.items()]
    return np.array(columns, np.float64).T


def _number(value):
    if isinstance(value, pd.Timestamp):
        return value.day_of_year + value.hour / 24
    if isinstance(value, pd.Timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        return float(len(value))
    if value is None:
        return -2.0
    return -1.0 if value is pd.NA or value != value else float(value)


DTYPES = {
    "times": TIMES,
    "nanoseconds": TIMES.astype("datetime64[ns]"),
    "times with gaps": TIMES.where(np.arange(N) % 5 > 0),
    "times in Berlin": TIMES.tz_localize("UTC").tz_convert("Europe/Berlin"),
    "times of Arrow": pd.Series(TIMES).astype("timestamp[us][pyarrow]"),
    "times of Arrow in UTC": pd.Series(TIMES.tz_localize("UTC")).astype(
        "timestamp[us, tz=UTC][pyarrow]"
    ),
    "spans": SPANS,
    "Int64 with gaps": pd.array([1, None, 3, 4] * (N // 4), "Int64"),
    "boolean with gaps": pd.array([True, None] * (N // 2), "boolean"),
    "Float64 with gaps": pd.array([1.5, None] * (N // 2), "Float64"),
    "integers of Arrow": pd.Series([1, None, 3, 4] * (N // 4), dtype="int64[pyarrow]"),
    "strings of Arrow": pd.Series(["a", None, "bcd", "ef"] * (N // 4), dtype="string[pyarrow]"),
    "sparse floats": pd.arrays.SparseArray(np.tile([0.0, 1.5], N // 2)),
    "sparse integers": pd.arrays.SparseArray(np.tile([0, 2], N // 2)),
    "objects of several types": pd.Series([1, "abc", None, True, 2.5] * (N // 5), dtype=object),
    "texts, None and NaN": pd.Series(["a", None, np.nan, "bcd"] * (N // 4), dtype=object),
    "booleans with None": pd.Series([True, False, None, True] * (N // 4), dtype=object),
    "categories of integers": pd.Categorical([1, 2] * (N // 2)),
    "categories of booleans": pd.Categorical([True, False] * (N // 2)),
    "categories of booleans with gaps": pd.Categorical([True, False, None, True] * (N // 4)),
    "unsigned bytes": np.arange(N, dtype="uint8"),
    "large integers": np.arange(N) + 2**60,
}


def estimator_and_rows(values):
    rows = pd.DataFrame({"v": values, "x": np.linspace(-1, 1, N)})
    estimator = make_pipeline(FunctionTransformer(numbers_of), LogisticRegression())
    return estimator.fit(rows, np.arange(N) % 2), rows


def pickled(estimator, rows, path):
    manifest = mk.save(estimator, path, example=rows, name="m", version="1", format="joblib")
    return mk.load(path, digest=manifest.digest, allow={"joblib"})


@some("kind", DTYPES, 8)
def test_rows_reach_the_estimator_in_the_dtype_of_training(kind, tmp_path):
    estimator, rows = estimator_and_rows(DTYPES[kind])
    with pickled(estimator, rows, tmp_path / "m.mk") as model:
        assert model.verify() == 0
        expected, few = estimator.predict_proba(rows), estimator.predict_proba(rows[:7])
        SEEN.clear()
        np.testing.assert_array_equal(model.predict_proba(rows), expected)
        np.testing.assert_array_equal(model.predict_proba(rows[::-1]), expected[::-1])
        records = rows[:7].to_dict("records")
        np.testing.assert_array_equal(model.predict_proba(records), few)
        assert [rows.dtypes.tolist()] * 3 == SEEN
        again = model.signature.columns(model.signature.coerce(rows))
        np.testing.assert_array_equal(model.predict_proba(again), expected)


def test_times_are_not_mixed_up(tmp_path):
    estimator, rows = estimator_and_rows(TIMES)
    with pickled(estimator, rows, tmp_path / "m.mk") as model:
        for other, refused in (
            (rows.assign(v=rows.v.dt.tz_localize("UTC")), "times without a time zone are expected"),
            (rows.assign(v=rows.v.astype(str)), r"of texts with pandas\.to_datetime"),
            (rows.assign(v=rows.v + pd.Timedelta(1, "ns")), "does not hold exactly"),
            (rows.assign(v=1.0), "where times without a time zone are expected"),
        ):
            with pytest.raises(SignatureError, match=refused):
                model.predict(other)
        expected = model.predict(rows)
        seconds = rows.assign(v=rows.v.astype("datetime64[s]"))
        for same in (seconds, pl.from_pandas(rows), pl.from_pandas(rows).to_arrow()):
            np.testing.assert_array_equal(model.predict(same), expected)


def test_times_with_a_zone_are_the_same_in_any(tmp_path):
    estimator, rows = estimator_and_rows(DTYPES["times in Berlin"])
    with pickled(estimator, rows, tmp_path / "m.mk") as model:
        expected = model.predict_proba(rows)
        elsewhere = rows.assign(v=rows.v.dt.tz_convert("Asia/Tokyo"))
        for same in (elsewhere, pl.from_pandas(rows), pl.from_pandas(elsewhere).to_arrow()):
            np.testing.assert_array_equal(model.predict_proba(same), expected)
        with pytest.raises(SignatureError, match="times without a time zone"):
            model.predict(rows.assign(v=TIMES))


def test_what_no_graph_takes_is_refused_with_a_way_out(tmp_path):
    for values, says in (
        (
            DTYPES["times in Berlin"],
            r"column 'v' has dtype datetime64\[.*tz_localize.*format='joblib'",
        ),
        (DTYPES["objects of several types"], r"column 'v' has Python objects"),
    ):
        estimator, rows = estimator_and_rows(values)
        with pytest.raises(ConversionError, match=says):
            mk.save(estimator, tmp_path / "m.mk", example=rows, name="m", version="1")
    estimator, rows = estimator_and_rows(TIMES)
    rows["v"] = [(1,)] * N
    with pytest.raises(ConversionError, match=r"such as \(1,\), of type tuple"):
        pickled(estimator, rows, tmp_path / "m.mk")


def test_sparse_columns_convert_as_dense_ones(tmp_path):
    rows = pd.DataFrame({"a": pd.arrays.SparseArray(np.tile([0.0, 1.5], N // 2)), "b": 1.0})
    columns = ColumnTransformer([("n", "passthrough", ["a", "b"])])
    source = make_pipeline(columns, LogisticRegression()).fit(rows, np.arange(N) % 2)
    mk.save(source, tmp_path / "m.mk", example=rows, name="m", version="1")
    with mk.load(tmp_path / "m.mk") as model:
        expected = source.predict_proba(rows)
        np.testing.assert_allclose(model.predict_proba(rows), expected, atol=1e-12)


@pytest.mark.parametrize(
    "values", [["a", None, np.nan, "bcd"] * (N // 4), [1, 2, None, True, 2.5] * (N // 5)]
)
def test_encoders_of_what_no_signature_lists(values, tmp_path):
    column = pd.Series(values, dtype=object)
    rows = pd.DataFrame({"v": column, "x": np.linspace(-1, 1, N)})
    columns = ColumnTransformer([("c", OneHotEncoder(), ["v"]), ("n", "passthrough", ["x"])])
    source = make_pipeline(columns, LogisticRegression()).fit(rows, np.arange(N) % 2)
    with pickled(source, rows, tmp_path / "m.mk") as model:
        np.testing.assert_array_equal(model.predict_proba(rows), source.predict_proba(rows))
        spec = model.signature.inputs[0]
        assert (spec.columns[0].dtype, spec.columns[0].categories) == ("mixed", None)
        with pytest.raises(ValueError, match="unknown categories"):
            model.predict(rows.assign(v=pd.Series([values[-1] * 3] * N, dtype=object)))


FEW = 60


def to_texts(X):
    return X.astype(str)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_columns_of_one_dtype_of_which_some_are_dropped(dtype, tmp_path):
    """No joblib package could be made of them: all columns were filled from those that are read."""
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(FEW, 4)), columns=list("abcd")).astype(
        dtype
    )
    chosen = ColumnTransformer([("scaled", StandardScaler(), ["d", "b"])])
    fitted = make_pipeline(chosen, LogisticRegression()).fit(X, X.b > 0)
    _, model = saved(fitted, X, tmp_path, format="joblib")
    assert model.signature.ignored == ("a", "c")
    expected = fitted.predict_proba(X)
    for rows in (X, X[["b", "d"]], X.assign(a="not read")):
        np.testing.assert_array_equal(model.predict_proba(rows), expected)


@pytest.mark.skipif(pd.__version__ < "3", reason="texts are objects in pandas 2, which may be any")
def test_a_text_that_is_no_unicode_is_refused_by_a_joblib_package(tmp_path):
    """It was an error of pandas, which no caller expects."""
    X = pd.DataFrame({"town": ["Ulm", "Bonn"] * (FEW // 2)})
    encoder = OneHotEncoder(handle_unknown="ignore")
    fitted = make_pipeline(encoder, LinearRegression()).fit(X, X.town == "Ulm")
    _, model = saved(fitted, X, tmp_path, format="joblib")
    with pytest.raises(SignatureError, match="a text of column 'town' is not valid Unicode"):
        model.predict([{"town": "\ud800"}])


def _shops(form):
    shops = np.arange(FEW) % 5
    if form == "array":
        return np.column_stack([shops, shops % 3])
    return pd.DataFrame({"shop": pd.array(shops, form), "size": np.arange(FEW) / 7})


@pytest.mark.parametrize("form", ["int64", "int8", "Int64", "array"])
def test_whole_numbers_that_become_texts_are_alike_beside_any_other_rows(form, tmp_path):
    """A gap in a row of another caller made 1.0 of 1, and an unknown shop of a known one."""
    X = _shops(form)
    texts = make_pipeline(FunctionTransformer(to_texts), OneHotEncoder(handle_unknown="ignore"))
    if form != "array":
        texts = ColumnTransformer([("shop", texts, ["shop"])], remainder="passthrough")
    fitted = make_pipeline(texts, LinearRegression()).fit(X, np.arange(FEW) % 5)
    _, model = saved(fitted, X, tmp_path, format="joblib")
    np.testing.assert_array_equal(model.predict(X), fitted.predict(X))
    strange = X.copy().astype(float) if form == "array" else X.assign(shop=0.5)
    if form == "array":
        strange[0, 0] = 0.5
    with pytest.raises(SignatureError, match="where integers"):
        model.predict(strange)


def test_whole_numbers_that_stay_numbers_may_be_missing(tmp_path):
    X = _shops("int64")
    fitted = LinearRegression().fit(X, np.arange(FEW) % 5)
    _, model = saved(fitted, X, tmp_path, format="joblib")
    halves = X.assign(shop=X["shop"] + 0.5)
    np.testing.assert_allclose(model.predict(halves), fitted.predict(halves))


def test_a_frame_of_python_objects_that_are_numbers_has_a_joblib_package(tmp_path):
    """Texts were made up for its columns, which the estimator does not take."""
    numbers = np.random.default_rng(0).normal(size=(FEW, 2))
    X = pd.DataFrame(numbers, columns=["a", "b"]).astype(object)
    fitted = LinearRegression().fit(X, numbers[:, 0])
    _, model = saved(fitted, X, tmp_path, format="joblib")
    np.testing.assert_array_equal(model.predict(X), fitted.predict(X))


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


# scikit-learn warns where another thread has just reset the filters of warnings, which all threads share.
@pytest.mark.filterwarnings("ignore:.sklearn.utils.parallel.delayed.:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_pickled_estimator_answers_as_the_one_in_memory(kind, penguins, tmp_path):
    estimator, X = make(kind)
    if X is None:
        X = penguins[0][::4].astype({"sex": object, "island": object, "year": "Int64"})
        X["sex"] = X["sex"].where(X["sex"].notna(), np.nan)
        estimator.fit(X, penguins[1][::4])
    manifest = mk.save(
        estimator, tmp_path / "m.mk", example=X, name="m", version="1", format="joblib"
    )
    assert manifest.runtime == "joblib"
    assert manifest.opsets == {}
    assert (manifest.parity.max_abs, manifest.parity.label_flips) == (0.0, 0)
    assert {"joblib", "numpy", "scikit-learn"} <= set(manifest.requires)
    with trusted(tmp_path / "m.mk") as model:
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
    with trusted(tmp_path / "m.mk") as model:
        np.testing.assert_array_equal(model.run(X)["transformed"], estimator.transform(X))
        unknown = [{"a": None, "b": "w"}]
        assert model.run(unknown)["transformed"].tolist() == [[0.0, -1.0]]


def test_missing_values_and_categories_arrive_as_they_were(joblib_mk, categorical):
    estimator, X = categorical
    with trusted(joblib_mk) as model:
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


# --- The Model.


def test_it_is_pickled_by_path_and_digest(joblib_mk, categorical, tmp_path):
    path = tmp_path / "m.mk"
    path.write_bytes(joblib_mk.read_bytes())
    model = trusted(path)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(categorical[1]), model.predict(categorical[1]))
    kept = pickle.dumps(model)
    path.write_bytes(forge(joblib_mk.read_bytes(), edit=lambda plain: plain.update(version="2")))
    with pytest.raises(IntegrityError):
        pickle.loads(kept)
    with pytest.raises(TypeError, match="from memory"):
        pickle.dumps(trusted(joblib_mk.read_bytes()))
    model.close()
    model.close()
    with pytest.raises(ClosedError):
        pickle.dumps(model)
    with pytest.raises(ClosedError):
        model.predict(categorical[1])


def test_it_runs_on_the_cpu_and_says_so(joblib_mk):
    for device in ("auto", "cpu", ["cuda", "cpu"]):
        with trusted(joblib_mk, device=device) as model:
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
        with pytest.raises((DeviceError, UsageError)):
            trusted(joblib_mk, **options)


def test_the_rest_of_the_library_takes_it(joblib_mk, categorical):
    _, X = categorical
    with trusted(joblib_mk) as model:
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
        assert "the model is not a graph that can be read" in explainer.plan().reasons
        explanation = explainer.explain(X[:2])
        np.testing.assert_allclose(
            explanation.base_values + explanation.values.sum(axis=1),
            expected[:2],
            rtol=0,
            atol=1e-6,
        )
        with pytest.raises(mk.errors.ExplainError, match="not a graph"):
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


def test_no_row_is_pickled_with_the_frame(penguins):
    X = penguins[0].set_index(penguins[0]["island"])
    X.attrs["note"] = "Adelie 39.1"
    from modelkit.convert.example import empty_of

    like, nones = empty_of(X)
    assert len(like) == 0
    assert list(like.columns) == list(X.columns)
    assert b"Adelie" not in Estimator(None, like, nones).dump()
    assert b"Biscoe" not in Estimator(None, like, nones).dump()
