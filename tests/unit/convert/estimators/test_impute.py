"""Imputers, converted here in double: every option, gaps, markers of them, and indicators."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from helpers.examples import some
from helpers.packages import opened
from helpers.towns import CODED, MIXED, NAN, agree, agree_on_towns, target, towns
from palmerpenguins import load_penguins
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingClassifier
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - which makes it importable
from sklearn.impute import IterativeImputer, KNNImputer, MissingIndicator, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)

import modelkit as mk
from modelkit.errors import ConversionError, SignatureError
from modelkit.testing import check_model


@some("seed", range(8), 2)
def test_encoders_behind_imputers_and_beside_others(seed, tmp_path):
    rng = np.random.default_rng(seed)
    draw = lambda *values: values[rng.integers(len(values))]  # noqa: E731
    example = towns(400, 1)
    names = rng.permutation(MIXED)[: rng.integers(1, 6)].tolist()
    rare = {"min_frequency": draw(None, 5, 0.1), "max_categories": draw(None, 2, 4)}
    imputer = SimpleImputer(
        strategy="most_frequent", add_indicator=draw(True, False), keep_empty_features=True
    )
    first = OrdinalEncoder(**CODED, unknown_value=-1, encoded_missing_value=-2)
    one_hot = OneHotEncoder(handle_unknown=draw("error", "ignore", "warn"), **rare)
    step = [
        make_union(one_hot, TargetEncoder()),
        make_pipeline(imputer, one_hot),
        make_pipeline(first, OrdinalEncoder(**rare)),
    ][seed % 3]
    if seed % 3 == 1:  # imputers take no booleans, and no Int64 beside strings
        names = sorted({*names, "town"} - {"old", "few"})
    columns = make_column_transformer((step, names), (StandardScaler(), ["free"]))
    fitted = make_pipeline(columns, SimpleImputer(), LogisticRegression(C=0.1))
    agree_on_towns(fitted.fit(example, target(example)), example, tmp_path)


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent", "constant", np.ptp])
@pytest.mark.parametrize("kept", [False, True])
def test_gaps_are_filled_as_by_the_source(strategy, kept, tmp_path):
    rng = np.random.default_rng(0)
    rows = np.round(rng.normal(size=(300, 4)), 1)
    rows[rng.random(rows.shape) < 0.2] = NAN
    example = np.column_stack([rows[:150], np.full(150, NAN)])
    if callable(strategy):
        example[0, 4] = 3.0
    others = np.column_stack([rows[150:], rows[150:, 0]])
    imputer = SimpleImputer(strategy=strategy, add_indicator=kept, keep_empty_features=kept)
    agree(imputer.fit(example), example, (others, others[:1]), tmp_path)


@pytest.mark.parametrize("marker", [0, -1, 2.5])
def test_a_number_may_stand_for_what_is_missing(marker, tmp_path):
    rows = np.random.default_rng(0).choice([-1, 0, 1, 2.5, 7], (200, 3))
    whole = rows.astype(int)
    for strategy in ("most_frequent", "mean"):
        for example in (rows, whole) if marker != 2.5 else (rows,):
            options = {"missing_values": marker, "strategy": strategy, "add_indicator": True}
            fitted = SimpleImputer(**options).fit(example[:100])
            agree(fitted, example[:100], (example[100:],), tmp_path)
    indicator = MissingIndicator(missing_values=marker, features="all").fit(rows)
    agree(indicator, rows, (rows[:1],), tmp_path)


@some("marker", ["?", NAN, None, pd.NA], 2)
@pytest.mark.parametrize(
    "options", [{"strategy": "most_frequent"}, {"strategy": "constant"}], ids=str
)
def test_texts_are_filled_as_by_the_source(marker, options, tmp_path):
    example = towns(400, 1)[["town", "kind"]].astype(object)
    example = example.where(example.notna(), marker)
    fresh = towns(500, 2)[["town", "kind"]].astype(object)
    fresh = fresh.where(fresh.notna(), marker)
    imputer = SimpleImputer(missing_values=marker, add_indicator=True, **options)
    columns = make_column_transformer((make_pipeline(imputer, OneHotEncoder()), ["town", "kind"]))
    fitted = columns.fit(example)
    agree(fitted, example, (fresh, fresh[:1]), tmp_path)


def test_texts_are_not_filled_with_numbers(tmp_path):
    example = pd.DataFrame({"town": ["Graz", "Linz"] * 20, "none": [NAN] * 40}, dtype=object)
    imputer = SimpleImputer(strategy="most_frequent", keep_empty_features=True)
    fitted = make_pipeline(imputer, OneHotEncoder(handle_unknown="ignore")).fit(example)
    with pytest.raises(ConversionError, match=r"column 'none'.*fill_value that is a string"):
        opened(fitted, example, tmp_path)


@pytest.mark.parametrize("options", [{}, {"features": "all"}, {"error_on_new": False}], ids=str)
def test_indicators_are_those_of_the_source(options, tmp_path):
    example = towns(400, 1)[["town", "some", "count"]]
    columns = make_column_transformer(
        (MissingIndicator(**options), ["some", "count"]), (MissingIndicator(**options), ["town"])
    )
    model = agree(columns.fit(example), example, (towns(90, 2)[list(example)],), tmp_path)
    nullable = [column.nullable for spec in model.signature.inputs for column in spec.columns]
    assert nullable == [True, True, bool(options)]


def test_indicators_of_nothing_are_no_columns(tmp_path):
    rows = np.random.default_rng(0).normal(size=(50, 3))
    beside = make_union(MissingIndicator(error_on_new=False), StandardScaler()).fit(rows)
    agree(beside, rows, (np.where(rows > 2, NAN, rows),), tmp_path)
    with pytest.raises(ConversionError, match="gives zero columns"):
        opened(MissingIndicator().fit(rows), rows, tmp_path)


def flowers(seed, n=150):
    """Lengths of flowers with a digit more than usual, so that none are equally far apart."""
    rng = np.random.default_rng(seed)
    rows = load_iris().data[rng.integers(0, 150, n)] + rng.normal(0, 0.01, (n, 4))
    rows[rng.random(rows.shape) < 0.15] = NAN
    return rows


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@some("kept", [False, True], 1)
def test_neighbours_fill_gaps_as_by_the_source(weights, kept, tmp_path):
    example = np.column_stack([flowers(0), np.full(150, NAN)])
    others = np.column_stack([flowers(1, 400), np.full(400, NAN)])
    blank = np.full((1, 5), NAN)
    options = {"weights": weights, "n_neighbors": 4, "keep_empty_features": kept}
    imputer = KNNImputer(**options, add_indicator=kept).fit(example)
    rows = (others, others[:1], blank, example[:0].reshape(0, 5), np.nan_to_num(others))
    agree(imputer, example, [each for each in rows if len(each)], tmp_path, rtol=1e-9)


def test_neighbours_know_a_gap_by_its_marker(tmp_path):
    example = np.nan_to_num(flowers(0), nan=-1)
    imputer = KNNImputer(missing_values=-1).fit(example)
    agree(imputer, example, (np.nan_to_num(flowers(1), nan=-1),), tmp_path)


@pytest.mark.parametrize("option", ["metric", "weights"])
def test_neighbours_by_a_function_are_refused(option, tmp_path):
    function = {"metric": lambda x, y, **_: 0.0, "weights": np.ones_like}[option]
    fitted = KNNImputer(**{option: function}).fit(flowers(0))
    with pytest.raises(ConversionError, match=re.escape(f"KNNImputer({option}=...)")):
        opened(fitted, flowers(0), tmp_path)


@some(
    ("estimator", "options"),
    [
        (None, {}),
        (Ridge(), {"imputation_order": "roman", "add_indicator": True}),
        (make_pipeline(StandardScaler(), LinearRegression()), {"imputation_order": "random"}),
        (ExtraTreesRegressor(4, random_state=0), {"max_iter": 2}),
        (None, {"min_value": 1.0, "max_value": [5, 4, 3, 2, 1.5], "n_nearest_features": 2}),
        (None, {"skip_complete": True, "imputation_order": "arabic", "initial_strategy": "median"}),
        (None, {"keep_empty_features": True}),
        (None, {"max_iter": 0}),
    ],
    3,
    ids=str,
)
def test_rounds_of_predictions_fill_gaps_as_by_the_source(estimator, options, tmp_path):
    example = np.column_stack([flowers(0), np.full(150, NAN)])
    others = np.column_stack([flowers(1), np.full(150, NAN)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        imputer = IterativeImputer(estimator, random_state=0, **options).fit(example)
        agree(imputer, example, (others, others[2:3]), tmp_path)


def test_random_rounds_are_refused(tmp_path):
    fitted = IterativeImputer(sample_posterior=True, max_iter=2).fit(flowers(0))
    with pytest.raises(ConversionError, match=r"use sample_posterior=False"):
        opened(fitted, flowers(0), tmp_path)


def test_penguins_through_every_imputer_at_once(tmp_path):
    frame = load_penguins()
    example = frame.drop(columns=["species", "year"])
    lengths = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
    numbers = make_union(
        make_pipeline(IterativeImputer(max_iter=2), StandardScaler()),
        make_pipeline(SimpleImputer(strategy="median", add_indicator=True), Normalizer()),
    )
    texts = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="?"), OneHotEncoder(min_frequency=20)
    )
    columns = make_column_transformer((numbers, lengths), (texts, ["island", "sex"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = make_pipeline(columns, LogisticRegression(max_iter=300)).fit(
            example, frame["species"]
        )
    gone = example.mask(np.random.default_rng(0).random(example.shape) < 0.2)
    agree(fitted, example, (gone, gone[:1]), tmp_path)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("imputer", [IterativeImputer(max_iter=2), KNNImputer()])
def test_thresholds_behind_imputers_are_those_of_what_is_given(imputer, tmp_path):
    rows = load_diabetes(scaled=False).data
    target = rows[:, 2] + rows[:, 3] > 120
    rows = np.where(np.random.default_rng(0).random(rows.shape) < 0.05, NAN, rows)
    trees = HistGradientBoostingClassifier(max_iter=4)
    fitted = make_pipeline(imputer, trees).fit(rows[:300], target[:300])
    beside = np.repeat(rows[300:], 3, axis=0)
    thresholds = trees._bin_mapper.bin_thresholds_[2]
    held = np.resize(thresholds, len(beside))
    beside[:, 2] = np.nextafter(held, np.resize([-np.inf, np.inf], len(beside)))
    agree(fitted, rows[:300], (rows[300:], beside), tmp_path, rtol=1e-9)


def test_diabetes_through_neighbours(tmp_path):
    rows = load_diabetes(scaled=False).data
    rows = np.where(np.random.default_rng(0).random(rows.shape) < 0.1, NAN, rows)
    imputer = make_pipeline(KNNImputer(weights="distance"), StandardScaler()).fit(rows[:221])
    agree(imputer, rows[:221], (rows[221:], rows[221:222]), tmp_path, rtol=1e-9)


def test_missing_strings_and_numbers_are_imputed_as_in_training(pipeline, penguins, penguins_mk):
    X, _ = penguins
    holes = X.copy()
    for i, name in enumerate(X.columns):
        holes[name] = holes[name].astype(float) if X[name].dtype.kind == "i" else holes[name]
        holes.loc[holes.index[i :: len(X.columns)], name] = np.nan
    with mk.load(penguins_mk) as model:
        check_model(model, holes[:20])
        assert all(column.nullable for spec in model.signature.inputs for column in spec.columns)
        np.testing.assert_array_equal(model.predict(holes), pipeline.predict(holes))
        np.testing.assert_allclose(
            model.predict_proba(holes), pipeline.predict_proba(holes), atol=1e-12
        )
        unseen = X.assign(island="Atlantis")
        np.testing.assert_allclose(
            model.predict_proba(unseen), pipeline.predict_proba(unseen), atol=1e-12
        )


@pytest.mark.parametrize("marker", [None, np.nan])
def test_object_columns_keep_their_own_marker_of_missing(penguins, tmp_path, marker):
    X, y = penguins
    X = X[["sex", "island"]].astype(object)
    X["sex"] = X["sex"].where(X["sex"].notna(), marker)
    estimator = make_pipeline(
        SimpleImputer(strategy="most_frequent", missing_values=marker),
        OneHotEncoder(),
        LogisticRegression(),
    ).fit(X, y)
    estimator = make_pipeline(
        make_column_transformer(
            (
                make_pipeline(
                    SimpleImputer(strategy="most_frequent", missing_values=marker), OneHotEncoder()
                ),
                ["sex", "island"],
            )
        ),
        LogisticRegression(),
    ).fit(X, y)
    mk.save(estimator, tmp_path / "m.mk", example=X, name="m", version="1")
    with mk.load(tmp_path / "m.mk") as model:
        np.testing.assert_array_equal(model.predict(X), estimator.predict(X))
        columns = {c.name: c for spec in model.signature.inputs for c in spec.columns}
        assert columns["sex"].nullable
        assert columns["sex"].categories == ("female", "male")
        with pytest.raises(SignatureError, match="unknown category 'x' in row 1; known are"):
            model.predict([{"sex": "male", "island": "Dream"}, {"sex": "x", "island": "Dream"}])
