"""What a newcomer met who saved models as notebooks and tutorials train them."""

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_transformer
from sklearn.datasets import make_classification
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction import DictVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, PowerTransformer, StandardScaler

import modelkit as mk

pd = pytest.importorskip("pandas")


def save(model, example, tmp_path, **options):
    path = tmp_path / "model.mk"
    mk.save(model, path, example=example, name="model", version="1.0.0", **options)
    return mk.load(path)


def customers(count=200):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "contract": rng.choice(["month", "year", "two years"], count),
            "partner": rng.choice(["yes", "no"], count),
            "months": rng.integers(0, 72, count),
        }
    )
    paid = 20.0 + 3.0 * frame["months"] + rng.normal(size=count)
    return frame, paid


def strict(last):
    columns = make_column_transformer(
        (StandardScaler(), ["months"]),
        (OneHotEncoder(), ["contract"]),
        (OrdinalEncoder(), ["partner"]),
    )
    return make_pipeline(columns, last)


def of_target(regressor):
    return TransformedTargetRegressor(regressor, func=np.log1p, inverse_func=np.expm1)


HOLDERS = {
    "calibrated": lambda: CalibratedClassifierCV(strict(LogisticRegression()), cv=2),
    "fixed threshold": lambda: FixedThresholdClassifier(
        strict(LogisticRegression()), threshold=0.3
    ),
    "tuned threshold": lambda: TunedThresholdClassifierCV(strict(LogisticRegression()), cv=2),
    "target": lambda: of_target(strict(Ridge())),
    "search of a target": lambda: GridSearchCV(
        of_target(strict(Ridge())), {"regressor__ridge__alpha": [1.0, 2.0]}, cv=2
    ),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_encoders_inside_what_holds_a_pipeline_tell_their_categories(name, tmp_path):
    frame, paid = customers()
    target = paid if "target" in name else (paid > 120).map({True: "much", False: "little"})
    source = HOLDERS[name]().fit(frame, target)
    model = save(source, frame, tmp_path)
    answers = model.predict(frame)
    if "target" in name:
        np.testing.assert_allclose(answers, source.predict(frame), rtol=1e-6)
    else:
        np.testing.assert_array_equal(answers, source.predict(frame))
    with pytest.raises(mk.errors.SignatureError, match="contract"):
        model.predict(frame[:1].assign(contract="decade"))


def test_encoders_inside_a_frozen_pipeline_tell_their_categories(tmp_path):
    frame, paid = customers()
    target = paid > 120
    frozen = FrozenEstimator(strict(LogisticRegression()).fit(frame, target))
    source = CalibratedClassifierCV(frozen).fit(frame, target)
    model = save(source, frame, tmp_path)
    np.testing.assert_array_equal(model.predict(frame), source.predict(frame))


def test_margins_of_xgboost_start_from_the_librarys_intercept_to_the_last_bit(tmp_path):
    xgboost = pytest.importorskip("xgboost")
    rng = np.random.default_rng(0)
    rows = rng.random((400, 3)).astype(np.float32)
    flips = 0
    for count in (104, 105, 106, 107, 108, 110, 111, 113):
        labels = np.zeros(400, int)
        labels[np.argsort(rows[:, 0] + rng.random(400))[:count]] = 1
        source = xgboost.XGBClassifier(n_estimators=5).fit(rows, labels)
        model = save(source, rows, tmp_path)
        flips += np.count_nonzero(model.predict_proba(rows) != source.predict_proba(rows))
    assert flips == 0


SUMMED = {
    "discriminant": LinearDiscriminantAnalysis,
    "power": PowerTransformer,
    "kernel": lambda: Nystroem(n_components=8, random_state=0),
}


@pytest.mark.parametrize(
    "boosting", [HistGradientBoostingClassifier, HistGradientBoostingRegressor]
)
@pytest.mark.parametrize("name", SUMMED)
def test_boosting_over_sums_takes_its_training_rows_to_their_own_leaves(name, boosting, tmp_path):
    rows, labels = make_classification(1500, 8, n_informative=5, random_state=0)
    source = make_pipeline(SUMMED[name](), boosting(max_iter=10)).fit(rows, labels)
    model = save(source, rows, tmp_path)
    np.testing.assert_allclose(model.predict(rows), source.predict(rows), rtol=1e-6)


def test_beside_sums_thresholds_of_plain_columns_stay_as_they_are(tmp_path):
    rows, labels = make_classification(1500, 6, n_informative=5, n_redundant=1, random_state=0)
    columns = ColumnTransformer(
        [("sums", PowerTransformer(), [0, 1, 2]), ("plain", "passthrough", [3, 4, 5])]
    )
    source = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=10)).fit(rows, labels)
    model = save(source, rows, tmp_path)
    above = rows.copy()
    above[:, 3:] = np.nextafter(rows[:, 3:], np.inf)
    np.testing.assert_allclose(
        model.predict_proba(above), source.predict_proba(above), rtol=1e-9, atol=1e-12
    )


def test_an_array_of_mixed_values_is_an_example(tmp_path):
    frame, paid = customers()
    rows = frame.to_numpy()
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), [0, 1]), remainder="passthrough"
    )
    source = make_pipeline(columns, Ridge()).fit(rows, paid)
    model = save(source, rows, tmp_path)
    np.testing.assert_allclose(model.predict(rows), source.predict(rows), rtol=1e-6)
    records = [{"0": "year", "1": "no", "2": 3}]
    np.testing.assert_allclose(
        model.predict(records), source.predict(np.array([["year", "no", 3]], object)), rtol=1e-6
    )


def passengers():
    """Booleans with gaps, as read_csv gives them: objects."""
    rng = np.random.default_rng(0)
    asleep = rng.choice(np.array([True, False, np.nan], object), 300, p=[0.4, 0.5, 0.1])
    frame = pd.DataFrame({"asleep": asleep, "age": rng.integers(0, 80, 300).astype(float)})
    return frame, (frame["asleep"] == True) | (frame["age"] < 20)  # noqa: E712 - of objects


ENCODERS = {
    "filled": lambda: make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
    "a category": lambda: OneHotEncoder(handle_unknown="ignore"),
    "ordinal": lambda: OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_booleans_with_gaps_are_columns(name, tmp_path):
    frame, target = passengers()
    columns = ColumnTransformer([("asleep", ENCODERS[name](), ["asleep"])], remainder="passthrough")
    source = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=5)).fit(frame, target)
    model = save(source, frame, tmp_path)
    assert model.signature.inputs[0].columns[0].dtype == "bool"
    gaps = frame.assign(asleep=np.array([np.nan] * len(frame), object))
    for rows in (frame, gaps, frame[frame["asleep"].notna()]):
        np.testing.assert_allclose(model.predict_proba(rows), source.predict_proba(rows), rtol=1e-6)
    with pytest.raises(mk.errors.SignatureError, match="asleep"):
        model.predict(frame[:1].assign(asleep=["yes"]))


def test_categories_of_polars_do_not_end_the_process_that_saves_catboost(tmp_path):
    pl = pytest.importorskip("polars")
    catboost = pytest.importorskip("catboost")
    frame, paid = customers()
    source = catboost.CatBoostRegressor(
        iterations=5, verbose=0, cat_features=["contract", "partner"], allow_writing_files=False
    ).fit(frame, paid)
    coded = pl.from_pandas(frame).with_columns(
        pl.col("contract").cast(pl.Categorical), pl.col("partner").cast(pl.Enum(["no", "yes"]))
    )
    model = save(source, coded, tmp_path)
    np.testing.assert_allclose(model.predict(coded), source.predict(frame), rtol=1e-6)


@pytest.mark.parametrize("form", ["onnx", "joblib"])
def test_a_vectorizer_of_dicts_is_refused_with_a_way_out(form, tmp_path):
    frame, paid = customers()
    records = frame.to_dict("records")
    source = make_pipeline(DictVectorizer(), Ridge()).fit(records, paid)
    with pytest.raises(mk.errors.ConversionError, match="DictVectorizer reads rows without fixed"):
        save(source, records, tmp_path, format=form)
