"""Encoders of categories, converted here in double: every option, gaps, unknown values, and None."""

import numpy as np
import pandas as pd
import pytest
from helpers.examples import some
from helpers.packages import opened, saved
from helpers.rows import shops
from helpers.towns import CODED, MIXED, NAN, agree, agree_on_towns, target, towns
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    MaxAbsScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)

import modelkit as mk
from modelkit.errors import ConversionError, SignatureError


@some(
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
    5,
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
@some(
    "options",
    [
        {"handle_unknown": "ignore"},
        {"drop": "first", "handle_unknown": "ignore"},
        {"handle_unknown": "warn", "max_categories": 30},
    ],
    1,
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
    fresh = example.assign(code="unknown", town=example["town"].shift(fill_value=np.nan), count=99)
    model = agree(fitted, example, (fresh, example[:1]), tmp_path)
    explained = mk.Explainer(model, background=example[:30]).explain(example[:2])
    assert explained.method == "additive"


@some(
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
    2,
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


def test_none_and_nan_in_one_column_are_refused(tmp_path):
    example = pd.DataFrame({"town": ["Graz", None, NAN, "Linz"] * 10}, dtype=object)
    fitted = OneHotEncoder().fit(example)
    with pytest.raises(ConversionError, match=r"column 'town'.*X.fillna\(np.nan\)") as caught:
        opened(fitted, example, tmp_path)
    assert caught.value.step == "OneHotEncoder"


@pytest.mark.parametrize("marker", [NAN, None, pd.NA])
@some("encoder", [OneHotEncoder, OrdinalEncoder, TargetEncoder], 1)
def test_none_is_a_value_like_others_but_where_it_is_imputed(encoder, marker, tmp_path):
    example = pd.DataFrame({"town": ["Graz", None, "Linz", "Wien"] * 10}, dtype=object)
    imputer = SimpleImputer(missing_values=marker, strategy="most_frequent", add_indicator=True)
    for fitted in (encoder(), make_pipeline(imputer, encoder())):
        fitted.fit(example, [0, 1, 1, 0] * 10)
        agree(fitted, example, (example[:3],), tmp_path)


@pytest.mark.parametrize("alone", [True, False])
@some(
    ("encoder", "closed"),
    [
        (OneHotEncoder(), True),
        (OneHotEncoder(drop="first"), True),
        (OneHotEncoder(handle_unknown="ignore"), False),
        (OneHotEncoder(handle_unknown="ignore", dtype=int), False),
        (OrdinalEncoder(), True),
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), False),
    ],
    3,
)
def test_codes_that_an_encoder_does_not_know(encoder, closed, alone, tmp_path):
    """The converter cuts numbers off, so that 20.9 was 20; and a code that the source refuses got an answer."""
    X, y = shops()
    parts = [(encoder, ["shop"])] if alone else [(encoder, ["shop"]), (OneHotEncoder(), ["sex"])]
    X = X[["shop"]] if alone else X
    pipeline = make_pipeline(make_column_transformer(*parts), LogisticRegression()).fit(X, y)
    manifest, model = saved(pipeline, X, tmp_path)
    assert mk.inspect(tmp_path / "m.mk") == manifest
    assert model.signature.inputs[0].columns[0].categories == ((10, 20, 30) if closed else None)
    np.testing.assert_allclose(model.predict_proba(X), pipeline.predict_proba(X), atol=1e-6)
    assert model.verify() == 0.0
    for code in (20.9, 19.999, 40, -1, 0):
        strange = X[:2].assign(shop=code)
        if closed:
            with pytest.raises(ValueError, match="unknown categories"):
                pipeline.predict(strange)
            with pytest.raises(
                SignatureError, match=rf"unknown category {float(code)} in rows 0, 1; known are"
            ):
                model.predict(strange)
        else:
            np.testing.assert_allclose(
                model.predict_proba(strange), pipeline.predict_proba(strange), atol=1e-6
            )


def grid(pipeline):
    return GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1.0]}, cv=2)


@some("form", ["integers", "floats", "array", "float32"], 1)
@pytest.mark.parametrize(
    "build",
    [
        lambda: make_pipeline(OneHotEncoder(), LogisticRegression()),
        lambda: make_pipeline(make_pipeline(OneHotEncoder(), MaxAbsScaler()), LogisticRegression()),
        lambda: make_pipeline(make_pipeline(make_column_transformer((OneHotEncoder(), [0])), MaxAbsScaler()), LogisticRegression()),
        lambda: make_pipeline(OrdinalEncoder(), OneHotEncoder(), LogisticRegression()),
        lambda: make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(), LogisticRegression()),
        lambda: make_pipeline(make_union(OneHotEncoder(), StandardScaler()), LogisticRegression()),
        lambda: grid(make_pipeline(OneHotEncoder(), LogisticRegression())),
        lambda: VotingClassifier([("a", make_pipeline(OneHotEncoder(), LogisticRegression()))], voting="soft"),
    ],
)  # fmt: skip
def test_an_encoder_is_found_wherever_it_stands(build, form, tmp_path):
    X, y = shops()
    X = {"integers": X[["shop"]], "floats": X[["shop"]].astype(float)}.get(
        form, X[["shop"]].to_numpy()
    )
    X = X.astype(np.float32) if form == "float32" else X
    pipeline = build().fit(X, y)
    _, model = saved(pipeline, X, tmp_path)
    np.testing.assert_allclose(model.predict_proba(X), pipeline.predict_proba(X), atol=1e-6)
    assert model.verify() == 0.0
    with pytest.raises(SignatureError, match="unknown category"):
        model.predict(X + 1)


def test_strings_behind_two_encoders_have_the_categories_of_the_first(tmp_path):
    X, y = shops()
    pipeline = make_pipeline(OrdinalEncoder(), OneHotEncoder(), LogisticRegression()).fit(
        X[["sex"]], y
    )
    _, model = saved(pipeline, X[["sex"]], tmp_path)
    assert model.signature.inputs[0].columns[0].categories == ("u", "v")


def test_codes_of_an_encoder_without_a_column_transformer(tmp_path):
    X, y = shops()
    encoder = make_pipeline(OrdinalEncoder(), LogisticRegression()).fit(X[["shop"]], y)
    assert saved(encoder, X[["shop"]], tmp_path)[1].signature.inputs[0].columns[0].categories == (
        10,
        20,
        30,
    )


@pytest.mark.parametrize("gap", [np.nan, None])
@some(
    "encoder",
    [OneHotEncoder(handle_unknown="ignore"), OneHotEncoder(), OneHotEncoder(drop="first")],
    2,
)
def test_a_missing_string_is_a_category_and_not_the_word_nan(encoder, gap, tmp_path):
    rng = np.random.default_rng(0)
    column = pd.Series(rng.choice(list("abc"), 300), dtype=object)
    column[::4] = gap
    X, y = column.to_frame("c"), column.isna() | (rng.random(300) < 0.1)
    pipeline = make_pipeline(make_column_transformer((encoder, ["c"])), LogisticRegression()).fit(
        X, y
    )
    _, model = saved(pipeline, X, tmp_path)
    assert model.signature.inputs[0].columns[0].nullable
    np.testing.assert_allclose(model.predict_proba(X), pipeline.predict_proba(X), atol=1e-6)
    words = pd.DataFrame({"c": ["nan", "None"]})
    if encoder.handle_unknown == "ignore":
        np.testing.assert_allclose(
            model.predict_proba(words), pipeline.predict_proba(words), atol=1e-6
        )
    else:
        with pytest.raises(SignatureError, match="unknown category 'nan'"):
            model.predict(words)


@pytest.mark.parametrize(
    "encoder",
    [OneHotEncoder(handle_unknown="ignore"), OneHotEncoder(), OneHotEncoder(drop="if_binary")],
)
def test_booleans_beside_strings_in_one_encoder(encoder, tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {"b": rng.random(99) < 0.5, "x": rng.normal(size=99), "c": rng.choice(["u", "v"], 99)}
    )
    parts = make_column_transformer((encoder, ["b", "c"]), remainder="passthrough")
    pipeline = make_pipeline(parts, LogisticRegression()).fit(X, X["b"] ^ (X["x"] > 1))
    _, model = saved(pipeline, X, tmp_path)
    np.testing.assert_allclose(model.predict_proba(X), pipeline.predict_proba(X), atol=1e-6)
    half = X[:1].assign(b=[0.5])
    if encoder.handle_unknown == "ignore":
        np.testing.assert_allclose(
            model.predict_proba(half), pipeline.predict_proba(half), atol=1e-6
        )
    else:
        with pytest.raises(SignatureError, match=r"unknown category 0\.5"):
            model.predict(half)


def _towns(gap):
    towns = np.array(["Rome", "Oslo", gap, "Oslo"] * 25, object)
    return pd.DataFrame({"town": pd.Series(towns, dtype=object), "age": np.arange(100.0)})


@pytest.mark.parametrize(
    "imputer",
    [SimpleImputer(strategy="most_frequent"), SimpleImputer(strategy="constant", fill_value="?")],
    ids=["most frequent", "constant"],
)
def test_none_in_a_column_that_is_imputed_is_a_value(imputer, tmp_path):
    encoder = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer((make_pipeline(imputer, encoder), ["town"]))
    model = make_pipeline(columns, LogisticRegression())
    towns, labels = _towns(None), np.arange(100) % 3 == 0
    _, loaded = saved(model.fit(towns, labels), towns, tmp_path)
    np.testing.assert_allclose(loaded.predict_proba(towns), model.predict_proba(towns), 1e-12)
    for others in (
        _towns("Oslo"),
        pd.concat([towns, _towns(np.nan)]),
    ):  # which show no None, or both
        with pytest.raises(ConversionError, match=r"None as a category of column 'town'.*fillna"):
            saved(model, others, tmp_path)
    filled = towns.fillna(np.nan)
    _, loaded = saved(model.fit(filled, labels), filled, tmp_path)
    np.testing.assert_array_equal(loaded.predict(towns), model.predict(filled))
