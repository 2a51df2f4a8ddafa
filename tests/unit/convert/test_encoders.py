"""Encoders and imputers, converted here in double: every option, gaps, unknown values, and None."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from palmerpenguins import load_penguins
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingClassifier
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - which makes it importable
from sklearn.impute import IterativeImputer, KNNImputer, MissingIndicator, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import CategoricalNB
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

NAN = np.nan
TOWNS = ["Graz", "Linz", "Wien", "nan", "None", ""]
CODED = {"handle_unknown": "use_encoded_value"}
MIXED = ["town", "kind", "size", "count", "some", "old", "single", "few"]


def towns(n, seed):
    """A column of each kind that is encoded; all but three have gaps."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "town": rng.choice(TOWNS, n, p=[0.4, 0.3, 0.2, 0.05, 0.03, 0.02]),
            "kind": rng.choice(list("abc"), n),
            "size": pd.Categorical(rng.choice(list("xyz"), n, p=[0.7, 0.2, 0.1])),
            "count": rng.integers(-1, 4, n),
            "some": np.round(rng.normal(size=n) * 2) / 10,
            "old": rng.random(n) < 0.3,
            "single": (np.round(rng.normal(size=n) * 3) / 10).astype(np.float32),
            "few": pd.array(rng.integers(0, 3, n), "Int64"),
            "free": rng.normal(size=n),
        }
    )
    for name in ("town", "size", "some", "single", "few"):
        gone = rng.random(n) < 0.1
        frame.loc[gone, name] = pd.NA if name == "few" else NAN
    return frame


def target(frame):
    return (frame["free"] + (frame["count"] > 0) + (frame["town"] == "Graz") > 1).astype(int)


def saved(fitted, example, tmp_path):
    mk.save(fitted, tmp_path / "m.mk", example=example, name="m", version="1")
    return mk.load(tmp_path / "m.mk")


def asked(fitted, rows):
    verb = "predict_proba" if hasattr(fitted, "predict_proba") else "transform"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = getattr(fitted, verb)(rows.copy())
    return answer.toarray() if hasattr(answer, "toarray") else np.asarray(answer, np.float64)


def agree(fitted, example, others, tmp_path, rtol=1e-12):
    """Source and package answer the same, or the package refuses what the source refuses."""
    model = saved(fitted, example, tmp_path)
    last = getattr(model, "predict_proba" if hasattr(fitted, "predict_proba") else "predict")
    for rows in (example, *others):
        try:
            wanted = asked(fitted, rows)
        except ValueError:
            with pytest.raises(SignatureError):
                last(rows)
            continue
        np.testing.assert_allclose(last(rows), wanted, rtol=rtol, atol=1e-14)
    return model


def agree_on_towns(fitted, example, tmp_path):
    fresh = towns(700, 2)[list(example.columns)]
    unknown = fresh.assign(**{name: "elsewhere" for name in ("town", "kind") if name in fresh})
    unknown = unknown.assign(**{name: 77 for name in ("count", "some") if name in fresh})
    return agree(fitted, example, (fresh, fresh[:1], unknown), tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"drop": "first"},
        {"drop": "if_binary", "sparse_output": False},
        {"handle_unknown": "ignore"},
        {"handle_unknown": "ignore", "drop": "first", "min_frequency": 40},
        {"handle_unknown": "infrequent_if_exist", "min_frequency": 0.12, "dtype": np.float32},
        {"handle_unknown": "infrequent_if_exist", "max_categories": 2, "drop": "if_binary"},
        {"handle_unknown": "warn", "max_categories": 3},
        {"min_frequency": 1000, "dtype": int},
    ],
    ids=str,
)
def test_one_hot_columns_are_those_of_the_source(options, tmp_path):
    example = towns(400, 1)[MIXED]
    agree_on_towns(OneHotEncoder(**options).fit(example), example, tmp_path)


def test_one_hot_columns_of_given_categories_and_dropped_ones(tmp_path):
    example = towns(400, 1)[["kind", "old", "count"]]
    given = [["c", "a", "b", "d"], [False, True], [-1, 0, 1, 2, 3, 9]]
    options = {"categories": given, "drop": ["a", False, 9], "handle_unknown": "ignore"}
    agree_on_towns(OneHotEncoder(**options).fit(example), example, tmp_path)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"handle_unknown": "ignore"},
        {"drop": "first", "handle_unknown": "ignore"},
        {"handle_unknown": "warn", "max_categories": 30},
    ],
    ids=str,
)
def test_weights_of_many_categories_are_looked_up(options, classes, tmp_path):
    example = towns(400, 1)[["town", "count", "free"]]
    example["code"] = [f"c{number}" for number in np.random.default_rng(0).integers(0, 80, 400)]
    wanted = target(example) + (example["free"] > 1) * (classes == 3)
    imputer = SimpleImputer(strategy="most_frequent")
    one_hot = make_pipeline(imputer, OneHotEncoder(**options))
    columns = make_column_transformer(
        (StandardScaler(), ["free"]),
        (one_hot, ["code", "town"]),
        (OneHotEncoder(**options), ["count"]),
    )
    fitted = make_pipeline(columns, LogisticRegression()).fit(example, wanted)
    fresh = example.assign(code="unknown", town=example["town"].shift(), count=99)
    model = agree(fitted, example, (fresh, example[:1]), tmp_path)
    explained = mk.Explainer(model, background=example[:30]).explain(example[:2])
    assert explained.method == "additive"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"encoded_missing_value": -2, **CODED, "unknown_value": -1},
        {**CODED, "unknown_value": NAN, "dtype": np.float32},
        {"encoded_missing_value": 99, "min_frequency": 40},
        {
            "encoded_missing_value": -7,
            **CODED,
            "unknown_value": 50,
            "max_categories": 3,
            "dtype": int,
        },
    ],
    ids=str,
)
def test_codes_are_those_of_the_source(options, tmp_path):
    example = towns(400, 1)[MIXED]
    agree_on_towns(OrdinalEncoder(**options).fit(example), example, tmp_path)


@pytest.mark.parametrize("classes", [2, 3, "numbers"])
def test_means_of_a_target_are_those_of_the_source(classes, tmp_path):
    example = towns(400, 1)
    wanted = target(example) + (example["free"] > 1) * (classes == 3)
    wanted = example["free"] if classes == "numbers" else wanted
    encoder = TargetEncoder(smooth=2.0).fit(example[MIXED], wanted)
    agree_on_towns(encoder, example[MIXED], tmp_path)


@pytest.mark.parametrize("encoder", [OrdinalEncoder, OneHotEncoder])
def test_a_column_of_numbers_may_have_gaps_and_no_name(encoder, tmp_path):
    rows = np.array([[0.1, 3.0], [-0.0, NAN], [0.25, 3.0], [NAN, 5.0]] * 5)
    agree(encoder().fit(rows), rows, (rows[:1], rows + 1), tmp_path)


@pytest.mark.parametrize("categorical", [None, [0, 1]])
def test_codes_with_gaps_stand_before_gradient_boosting(categorical, tmp_path):
    example = towns(400, 1)[["town", "size", "count", "free"]]
    encoder = OrdinalEncoder(**CODED, unknown_value=NAN)
    columns = make_column_transformer((encoder, ["town", "size"]), remainder="passthrough")
    boosting = HistGradientBoostingClassifier(categorical_features=categorical, max_iter=20)
    fitted = make_pipeline(columns, boosting).fit(example, target(example))
    agree_on_towns(fitted, example, tmp_path)


@pytest.mark.parametrize("seed", range(8))
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


def test_none_and_nan_in_one_column_are_refused(tmp_path):
    example = pd.DataFrame({"town": ["Graz", None, NAN, "Linz"] * 10}, dtype=object)
    fitted = OneHotEncoder().fit(example)
    with pytest.raises(ConversionError, match=r"column 'town'.*X.fillna\(np.nan\)") as caught:
        saved(fitted, example, tmp_path)
    assert caught.value.step == "OneHotEncoder"


@pytest.mark.parametrize("marker", [NAN, None, pd.NA])
@pytest.mark.parametrize("encoder", [OneHotEncoder, OrdinalEncoder, TargetEncoder])
def test_none_is_a_value_like_others_but_where_it_is_imputed(encoder, marker, tmp_path):
    example = pd.DataFrame({"town": ["Graz", None, "Linz", "Wien"] * 10}, dtype=object)
    imputer = SimpleImputer(missing_values=marker, strategy="most_frequent", add_indicator=True)
    for fitted in (encoder(), make_pipeline(imputer, encoder())):
        fitted.fit(example, [0, 1, 1, 0] * 10)
        agree(fitted, example, (example[:3],), tmp_path)


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


@pytest.mark.parametrize("marker", ["?", NAN, None, pd.NA])
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
    example = pd.DataFrame({"town": ["Graz", "Linz"] * 20, "none": [None] * 40}, dtype=object)
    example = example.fillna(NAN)
    imputer = SimpleImputer(strategy="most_frequent", keep_empty_features=True)
    fitted = make_pipeline(imputer, OneHotEncoder(handle_unknown="ignore")).fit(example)
    with pytest.raises(ConversionError, match=r"column 'none'.*fill_value that is a string"):
        saved(fitted, example, tmp_path)


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
    with pytest.raises(ConversionError, match="gives no columns"):
        saved(MissingIndicator().fit(rows), rows, tmp_path)


def flowers(seed, n=150):
    """Lengths of flowers with a digit more than usual, so that none are equally far apart."""
    rng = np.random.default_rng(seed)
    rows = load_iris().data[rng.integers(0, 150, n)] + rng.normal(0, 0.01, (n, 4))
    rows[rng.random(rows.shape) < 0.15] = NAN
    return rows


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("kept", [False, True])
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
        saved(fitted, flowers(0), tmp_path)


@pytest.mark.parametrize(
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
        saved(fitted, flowers(0), tmp_path)


def test_codes_of_naive_bayes_are_looked_up(tmp_path):
    example = towns(400, 1)[["kind", "count", "old"]]
    fitted = make_pipeline(OrdinalEncoder(), CategoricalNB()).fit(example, target(towns(400, 1)))
    agree_on_towns(fitted, example, tmp_path)
    codes = example[["count"]] + 1
    agree(CategoricalNB().fit(codes, target(towns(400, 1))), codes, (codes[:1],), tmp_path)


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
