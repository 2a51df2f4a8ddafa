"""Numbers that are not finite: those of a row, and those that a step makes of it, as the source has it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.client import Client
from helpers.examples import some
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, PoissonRegressor, RidgeClassifier
from sklearn.naive_bayes import CategoricalNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    StandardScaler,
)
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import modelkit as mk
from modelkit.convert.parity.check import prove_parity
from modelkit.convert.sklearn import from_sklearn
from modelkit.errors import ParityError, SignatureError
from modelkit.model.model import PLAIN
from modelkit.package.graphs import _checked
from modelkit.serving.batching.isolation import attempt

INFINITE = (np.inf, -np.inf)
FLOATS = np.random.default_rng(1).normal(size=(300, 4))
SIGN = (FLOATS[:, 0] > 0).astype(int)
VALUES = st.sampled_from([0.0, -1.5, 3e38, np.nan, np.inf, -np.inf])
ZERO_PAY, ZERO_DEBT, NEGATIVE = (0.0, 1.0, 1), (1.0, 0.0, 1), (-1.0, 1.0, 1)
UNKNOWN_ZONE = (1.0, 1.0, 9)


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


# --- Rows of finite numbers of which a step makes something that the next one refuses.


def loans(n):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "pay": rng.lognormal(1, 1, n),
            "debt": rng.lognormal(0, 1, n),
            "zone": rng.choice([1, 2, 3, 5], n),
        }
    )
    return rows, ((rows["pay"] > rows["debt"]) ^ (rows["zone"] == 3)).astype(int)


LOANS, PAID = loans(200)
logs = FunctionTransformer(np.log)
ratio = FunctionTransformer(lambda rows: (rows["pay"] / rows["debt"]).to_frame())


def numbers(step, **options):
    return make_column_transformer((step, ["pay", "debt"]), **options)


def zones(*steps):
    return make_column_transformer((make_pipeline(*steps), ["zone"]), remainder="passthrough")


hard = VotingClassifier([("a", LogisticRegression()), ("b", RidgeClassifier())])
tree = DecisionTreeClassifier(max_depth=2)
stack = StackingClassifier([("a", LogisticRegression()), ("b", tree)], passthrough=True, cv=2)
rates = StackingRegressor([("a", PoissonRegressor())], DecisionTreeRegressor(max_depth=2), cv=2)
gaps = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
counted = make_column_transformer((VarianceThreshold(), ["zone"]))
REFUSING = {
    "log, linear": (numbers(logs), LogisticRegression(), [ZERO_PAY, ZERO_DEBT, NEGATIVE]),
    "log, forest": (numbers(logs), RandomForestClassifier(3, random_state=0), [ZERO_PAY, ZERO_DEBT]),
    "log, boosted": (numbers(logs), HistGradientBoostingClassifier(max_iter=3), []),
    "log, imputer": (numbers(make_pipeline(logs, SimpleImputer())), GaussianNB(), [ZERO_PAY]),
    "log, selection": (make_pipeline(numbers(logs), VarianceThreshold()), GaussianNB(), [ZERO_PAY]),
    "ratio": (numbers(ratio), KNeighborsClassifier(3), [ZERO_DEBT]),
    "ratio, stack": (numbers(ratio), stack, [ZERO_DEBT]),
    "rate, stack": (numbers("passthrough"), rates, [(1e9, 1.0, 1)]),
    "cube, tree": (numbers(PolynomialFeatures(3)), DecisionTreeClassifier(max_depth=3), [(1e30, 1.0, 1)]),
    "box-cox": (numbers(PowerTransformer("box-cox")), LogisticRegression(), [ZERO_PAY, NEGATIVE]),
    "code": (zones(VarianceThreshold(), OrdinalEncoder()), LogisticRegression(), [UNKNOWN_ZONE]),
    "code, column": (zones(FunctionTransformer(np.round), OneHotEncoder()), hard, [UNKNOWN_ZONE]),
    "code, gap": (zones(VarianceThreshold(), gaps), LogisticRegression(), [UNKNOWN_ZONE]),
    "code, counts": (counted, CategoricalNB(), [UNKNOWN_ZONE, (1.0, 1.0, -1)]),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@some("case", REFUSING, 6)
def test_rows_that_a_step_refuses_are_refused(saved, case):
    before, last, refused = REFUSING[case]
    model = make_pipeline(before, last).fit(LOANS, PAID)
    opened = saved(case.replace(", ", "-").replace(" ", "-"), model, LOANS)
    assert bool(opened.signature.refusals) == bool(refused)
    assert opened.verify() <= 1e-6
    assert np.array_equal(opened.predict(LOANS), model.predict(LOANS))
    for values in refused:
        row = pd.DataFrame([values], columns=LOANS.columns)
        with pytest.raises((ValueError, IndexError)):
            model.predict(row)
        for rows in (row, pd.concat([LOANS[:3], row]), pd.concat([LOANS] * 100 + [row])):
            for ask in (opened.predict, opened.run):
                with pytest.raises(SignatureError, match=rf"row {len(rows) - 1}: ") as raised:
                    ask(rows)
                assert list(raised.value.rows) == [len(rows) - 1]


def test_a_step_is_named_and_a_column_that_the_signature_closes_costs_nothing(saved):
    named = saved(
        "log-linear", make_pipeline(numbers(logs), LogisticRegression()).fit(LOANS, PAID), LOANS
    )
    (reason,) = named.signature.refusals
    assert reason.startswith(
        "step 'logisticregression' (pipeline step 2 of 2): LogisticRegression refuses"
    )
    for steps in ([OneHotEncoder()], [OrdinalEncoder()]):
        plain = make_pipeline(zones(*steps), StandardScaler(with_mean=False), LogisticRegression())
        opened = saved(type(steps[0]).__name__.lower(), plain.fit(LOANS, PAID), LOANS)
        assert opened.signature.refusals == ()
        with pytest.raises(SignatureError, match="column 'zone': unknown category"):
            opened.predict(pd.DataFrame([UNKNOWN_ZONE], columns=LOANS.columns))


def test_texts_beside_a_number_that_is_refused(saved):
    rows = LOANS.assign(text=np.where(PAID, "paid in time", "late again"))
    before = make_column_transformer((TfidfVectorizer(), "text"), (logs, ["pay"]))
    opened = saved("text-log", make_pipeline(before, LogisticRegression()).fit(rows, PAID), rows)
    for size in (1, 200, 700):
        many = pd.concat([rows] * 4)[:size].reset_index(drop=True)
        opened.predict(many)
        many.loc[size - 1, "pay"] = 0.0
        with pytest.raises(SignatureError, match=f"row {size - 1}: "):
            opened.predict(many)


def test_who_shares_a_batch_with_a_refused_row_is_answered_and_the_web_says_422(saved):
    model = make_pipeline(numbers(logs), LogisticRegression()).fit(LOANS, PAID)
    opened = saved("log-linear", model, LOANS)
    bad = LOANS[:1].assign(pay=0.0)
    calls = [opened.signature.coerce(bad if at == 3 else LOANS[at : at + 1]) for at in range(8)]
    outcomes, _ = attempt(opened._run, calls, ("label",), PLAIN)
    assert isinstance(outcomes[3], SignatureError)
    assert outcomes[3].problems[0].startswith("row 0: step 'logisticregression'")
    answered = [outcome["label"] for at, outcome in enumerate(outcomes) if at != 3]
    assert np.array_equal(np.concatenate(answered), model.predict(LOANS[:8].drop(3)))
    with mk.Batcher(opened) as batcher, pytest.raises(SignatureError, match="row 0: "):
        batcher.predict(bad)
    meter = mk.Meter(opened)
    with Client(mk.App({"loans": meter})) as client:
        answer = client.post("/models/loans/predict", json={"rows": bad.to_dict("records")})
    assert answer.status == 422
    assert "LogisticRegression refuses this row: an earlier step made NaN" in answer.body.decode()
    assert meter.totals().calls["signature"] == 1


def test_an_explanation_of_a_refused_row_or_mixture_says_so(saved):
    model = make_pipeline(numbers(ratio), KNeighborsClassifier(3)).fit(LOANS, PAID)
    opened = saved("ratio", model, LOANS)
    explainer = mk.Explainer(opened, method="lime", background=LOANS[:20])
    with pytest.raises(SignatureError, match="row 0: "):
        explainer.explain(LOANS[:1].assign(debt=0.0))


@pytest.mark.parametrize("refuses", [True, False])
def test_the_gate_asks_for_rows_that_only_one_of_the_two_refuses(refuses):
    model = make_pipeline(numbers(logs), LogisticRegression()).fit(LOANS, PAID)
    source = from_sklearn(model, LOANS, "float64")
    graph = _checked(source, None, ())

    def truth(rows):
        if refuses and (rows["pay"] > LOANS["pay"].max()).any():
            raise ValueError("too much")
        return source.truth(
            rows
            if refuses
            else rows.assign(pay=rows["pay"].clip(0.01), debt=rows["debt"].clip(0.01))
        )

    prove_parity(source, graph.build, None)
    what = "answers rows 2 times .* which scikit-learn LogisticRegression refuses with an error"
    with pytest.raises(ParityError, match=what if refuses else "disagrees with|refuses rows"):
        prove_parity(replace(source, truth=truth), graph.build, None)


def test_infinities_that_a_graph_answers_otherwise_are_refused(rows, target, tmp_path):
    import sklearn

    machine = SVC().fit(rows, target > 0)
    with sklearn.config_context(assume_finite=True):
        mk.save(machine, tmp_path / "a.mk", example=rows, name="attacked", version="1.0.0")
    with mk.load(tmp_path / "a.mk", threads=1) as model:
        columns = model.signature.inputs[0].columns
        assert all(column.finite or not column.nullable for column in columns)
