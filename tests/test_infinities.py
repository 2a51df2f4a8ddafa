"""A column that may be missing takes infinities only if the source does, and answers them alike."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import modelkit as mk
from modelkit.errors import SignatureError

INFINITE = (np.inf, -np.inf)


def people(n, seed):
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {
            "income": rng.lognormal(10, 1, n),
            "children": rng.integers(0, 5, n),
            "city": pd.Series(rng.choice(["Köln", "York"], n), dtype=object),
        }
    )
    return rows, np.where(rows["children"] > 2, "good", "bad")


X, Y = people(300, 0)
FLOATS = np.random.default_rng(1).normal(size=(300, 4))
SIGN = (FLOATS[:, 0] > 0).astype(int)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Saves a model, and gives the Model of its package."""
    folder = tmp_path_factory.mktemp("packages")

    def save(name, model, example):
        path = folder / f"{name}.mk"
        if not path.exists():
            mk.save(model, path, example=example, name=name, version="1")
        return mk.load(path, threads=1)

    return save


@pytest.fixture(scope="module")
def imputer():
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    before = make_column_transformer(
        (numbers, ["income", "children"]), (OneHotEncoder(handle_unknown="ignore"), ["city"])
    )
    return make_pipeline(before, LogisticRegression()).fit(X, Y)


@pytest.fixture(scope="module")
def imputed(saved, imputer):
    return saved("imputed", imputer, X)


@pytest.mark.parametrize("value", INFINITE)
@pytest.mark.parametrize("name", ["income", "children"])
@pytest.mark.parametrize("rows", [1, 5, 300])
def test_what_an_imputer_refuses_is_refused(imputed, imputer, name, value, rows):
    odd = X[:rows].astype({"children": float})
    odd.loc[rows - 1, name] = value
    with pytest.raises(ValueError, match="infinity"):
        imputer.predict(odd)
    columns = {each: odd[each].to_numpy() for each in odd}
    for form in (odd, columns, odd.to_dict("records"), odd.to_dict("list")):
        with pytest.raises(SignatureError, match=rf"'{name}': infinite value in row {rows - 1};"):
            imputed.predict(form)


def test_missing_values_beside_are_answered_as_before(imputed, imputer):
    gaps = X.astype({"children": float})
    gaps.loc[::3, "income"] = np.nan
    gaps.loc[::4, "children"] = np.nan
    expected = imputer.predict_proba(gaps)
    for size in (1, 7, 300):
        found = imputed.predict_proba(gaps[:size])
        assert np.allclose(found, expected[:size], rtol=1e-9, atol=0)


def test_every_column_says_whether_it_is_finite(imputed):
    told = {spec.name: spec.columns[0] for spec in imputed.signature.inputs}
    assert [told[name].finite for name in ("income", "children", "city")] == [True, True, False]
    assert told["income"].nullable
    assert told["children"].nullable


@pytest.mark.parametrize("value", INFINITE)
def test_trees_that_refuse_infinities_do_so_for_arrays_of_every_size(saved, value):
    gaps = np.where(np.arange(300)[:, None] % 7 == np.arange(4), np.nan, FLOATS)
    model = RandomForestClassifier(5, random_state=0).fit(gaps, SIGN)
    trees = saved("trees", model, gaps)
    for rows in (1, 2, 300, 9000):
        odd = np.resize(FLOATS, (rows, 4)).astype(np.float32).astype(float)
        odd[0, 1] = np.nan
        expected = model.predict(odd)
        assert np.array_equal(trees.predict(odd), expected)
        odd[-1, 3] = value
        for form in (
            odd,
            odd.astype(np.float32),
            pd.DataFrame(odd, columns=["x0", "x1", "x2", "x3"]),
        ):
            with pytest.raises(SignatureError, match=f"infinite value in row {rows - 1};"):
                trees.predict(form)


@pytest.mark.parametrize("value", INFINITE)
@pytest.mark.parametrize("library", ["lightgbm", "sklearn"])
def test_trees_that_take_infinities_go_on_to_do_so(saved, value, library):
    frame = pd.DataFrame(FLOATS, columns=["a", "b", "c", "d"])
    if library == "sklearn":
        kind = HistGradientBoostingClassifier(max_iter=5)
    else:
        kind = pytest.importorskip("lightgbm").LGBMClassifier(n_estimators=5, verbose=-1)
    model = kind.fit(frame, SIGN)
    trees = saved(library, model, frame)
    assert not any(column.finite for column in trees.signature.inputs[0].columns)
    odd = frame.copy()
    odd.iloc[::3, 0] = value
    assert np.array_equal(trees.predict(odd), model.predict(odd))


def signature_of(dtype, *, finite):
    """Three columns that may be missing, in one tensor."""
    columns = tuple(mk.Column(name, "float64", nullable=True, finite=finite) for name in "abc")
    outputs = (mk.TensorSpec("prediction", "float64", ("n",)),)
    return mk.Signature((mk.TensorSpec("X", dtype, ("n", 3), columns),), outputs)


VALUES = st.sampled_from([0.0, -1.5, 3e38, np.nan, np.inf, -np.inf])


@given(
    held=st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=4),
    target=st.sampled_from(["float32", "float64"]),
    given_as=st.sampled_from(["float32", "float64"]),
    times=st.sampled_from([1, 4000]),
)
def test_rows_without_an_infinity_are_cast_alike(held, target, given_as, times):
    rows = np.array(held * times, given_as)
    finite = signature_of(target, finite=True)
    if np.isinf(rows).any():
        with pytest.raises(SignatureError, match="infinite value"):
            finite.coerce(rows)
        return
    expected = signature_of(target, finite=False).coerce(rows)["X"]
    found = finite.coerce(rows)["X"]
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize("options", [{}, {"nullable": True, "dtype": "string"}])
def test_only_a_column_of_numbers_that_may_be_missing_is_finite(options):
    with pytest.raises(SignatureError, match="'n' is finite; only a nullable column of numbers"):
        mk.Column("n", **options, finite=True)
