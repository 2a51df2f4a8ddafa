"""The greedy attack finds what an exhaustive search finds, and each row stays within the constraints."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from helpers.evaluated import saved
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.errors import SignatureError, UsageError
from modelkit.lifecycle.robustness.trial import Cells, greedy, read_cells


def seen(model, X, y, constraints, attack=greedy):
    """The figure of an attack, the rows before, and the rows as it left them."""
    kept = {}

    def watched(trial, places, seed):
        rows, queries = attack(trial, places, seed)
        kept.update(before={n: v[places] for n, v in trial.rows.items()}, after=rows, places=places)
        return rows, queries

    report = mk.robustness(model, X, y, constraints=constraints, attacks=[watched])
    return report["watched"], pd.DataFrame(kept["before"]), pd.DataFrame(kept["after"])


def spread_of(values):
    return np.abs(values - values.median()).mean()


def flippable(model, X, y, constraints, most):
    """Which rows any change of so many columns flips, of all values of the rows within the step."""
    right = np.flatnonzero(model.predict(X) == y)
    free = [name for name in X if name not in constraints.immutable]
    reach = {name: constraints.step * spread_of(X[name]) for name in free}
    found = set()
    for at in right:
        row = X.iloc[at]
        near = {
            name: [v for v in sorted({*X[name]}) if 0 < abs(v - row[name]) <= reach[name]]
            for name in free
        }
        tried = [
            {**row, **dict(zip(names, values, strict=True))}
            for names in combinations(free, most)
            for values in product(*(near[name] for name in names))
        ]
        if tried and (model.predict(pd.DataFrame(tried)[X.columns]) != y[at]).any():
            found.add(at)
    return found


@pytest.mark.parametrize("step", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("immutable", [(), ("b",)])
def test_with_one_column_the_search_is_exhaustive(tree, counts, step, immutable):
    X, y = (part[120:] for part in counts)
    X = X.reset_index(drop=True)
    limits = mk.Constraints(step, most_columns=1, immutable=immutable)
    report = mk.robustness(tree, X, y, constraints=limits)
    assert report["greedy"].flipped == len(flippable(tree, X, y, limits, 1))


def test_with_two_columns_it_finds_most_of_what_there_is(tree, counts):
    X, y = (part[120:170] for part in counts)
    X = X.reset_index(drop=True)
    limits = mk.Constraints(1.0, most_columns=2)
    every = flippable(tree, X, y, limits, 1) | flippable(tree, X, y, limits, 2)
    found = mk.robustness(tree, X, y, constraints=limits)["greedy"].flipped
    assert 0.75 * len(every) <= found <= len(every)


def test_a_linear_model_flips_just_where_the_step_reaches(counts, tmp_path):
    """With all columns free and the ends of the step among what is tried, nothing is missed."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(400, 3)), columns=["a", "b", "c"])
    y = (X["a"] - 2 * X["b"] + 0.3 * rng.normal(size=400) > 0).to_numpy().astype(int)
    fitted = LogisticRegression().fit(X, y)
    limits = mk.Constraints(0.3, most_columns=3, ranges=dict.fromkeys("abc", (-9, 9)))
    report = mk.robustness(saved(fitted, X, tmp_path), X, y, constraints=limits)
    spread = np.array([spread_of(X[name]) for name in X])
    reach = (np.abs(fitted.coef_[0]) * 0.3 * spread).sum()
    margin = np.abs(fitted.decision_function(X))[fitted.predict(X) == y]
    assert report["greedy"].flipped == (margin < reach).sum()
    weights = np.sort(np.abs(fitted.coef_[0]) * 0.3 * spread)[::-1]
    for columns in (1, 2):
        figure = report[f"greedy of at most {columns} column{'s' * (columns > 1)}"]
        assert figure.flipped == (margin < weights[:columns].sum()).sum()


@pytest.mark.parametrize("most", [1, 2, 4])
def test_every_attacked_row_keeps_to_the_constraints(forest, held, most):
    X, y = held
    limits = mk.Constraints(
        step=0.7, most_columns=most, immutable=["age", "job"], ranges={"rate": (0.5, 9.5)}
    )
    figure, before, after = seen(forest, X, y, limits)
    assert figure.flipped > 0
    changed = (before != after) & ~(before.isna() & after.isna())
    assert changed.sum(axis=1).max() == most
    assert not changed[["age", "job"]].any().any()
    for name in ("income", "rate", "children"):
        far = (after[name] - before[name]).abs().max()
        assert far <= 0.7 * spread_of(X[name].astype(float)) * (1 + 1e-6)
    assert after["rate"].between(0.5, 9.5).all()
    assert after["income"].max() <= X["income"].max()
    assert ((after["income"].isna()) == before["income"].isna()).all()
    assert {*after["children"] % 1} == {0}
    assert {*after["late"]} <= {0, 1}
    assert {*after["region"]} <= {"north", "south", "west"}
    forest.signature.coerce(after[X.columns.tolist()].astype(X.dtypes.drop("income").to_dict()))


def test_the_way_there_does_not_depend_on_blocks(forest, held, monkeypatch):
    """Rows are attacked some at a time; that bounds memory and nothing else."""
    X, y = held
    whole = mk.robustness(forest, X, y)
    monkeypatch.setattr("modelkit.lifecycle.robustness.trial.CHUNK", 300)
    assert mk.robustness(forest, X, y) == whole


def test_a_wider_budget_flips_no_fewer_rows(forest, held):
    report = mk.robustness(forest, *held, constraints=mk.Constraints(1.0, most_columns=4))
    shares = [
        report[f"greedy of at most {most}"].flipped
        for most in ("1 column", "2 columns", "3 columns")
    ]
    assert shares == sorted(shares)
    assert shares[-1] <= report["greedy"].flipped


@pytest.mark.parametrize(
    ("dtype", "old", "numbers", "held"),
    [
        ("int8", np.int64, [126.4, 300.0, -128.0, np.nan], [126, 5, -128, 5]),
        ("uint16", np.int64, [-1.0, 65000.6, np.inf, 0.2], [5, 65001, 5, 0]),
        ("int64", np.int64, [2.0**63, -(2.0**63), 1e300, 7.5], [5, -(2**63), 5, 8]),
        ("float32", np.float32, [1e39, -1e39, 1.5, np.nan], [5, 5, 1.5, 5]),
        ("float64", np.float64, [np.inf, 1e39, -2.0, np.nan], [5, 1e39, -2, 5]),
    ],
)
def test_numbers_that_a_column_cannot_hold_leave_the_old_ones(dtype, old, numbers, held):
    cells = Cells(mk.Column("x", dtype), np.arange(3), 1.0)
    found = cells.fitted(np.array(numbers), np.full(4, 5, old))
    assert found.dtype == old
    assert found.tolist() == held


@pytest.mark.parametrize(
    ("dtype", "ends", "kept"),
    [
        ("int64", (0.5, 9.5), [1, 9]),
        ("int64", (-0.5, 1e30), [0, 2**63 - 1]),
        ("int8", (-np.inf, np.inf), [-128, 127]),
        ("uint64", (-3, 2.5), [0, 2]),
        ("float32", (-9.5, 2.5), [-9.5, 2.5]),
    ],
)
def test_an_attack_keeps_to_a_range_as_its_column_can_hold_it(dtype, ends, kept):
    signature = mk.Signature(
        (mk.TensorSpec("x", dtype, ("batch", 1), (mk.Column("x", dtype),)),),
        (mk.TensorSpec("label", "int64", ("batch",)),),
    )
    rows = {"x": np.array([1, 2, 2], dtype)}
    (cells,) = read_cells(signature, rows, mk.Constraints(ranges={"x": ends}))
    assert cells.known[[0, -1]].tolist() == kept


def odd_rows(threshold):
    """A Model of one column that refuses rows above a threshold, as a graph does."""
    signature = mk.Signature(
        (mk.TensorSpec("X", "float64", ("batch", 1), (mk.Column("x"),)),),
        (mk.TensorSpec("label", "int64", ("batch",)),),
        classes=(0, 1),
    )

    def answer(feeds):
        values = feeds["X"][:, 0]
        rows = np.flatnonzero(values > threshold).tolist()
        if rows:
            raise SignatureError("refused", rows=tuple(rows), reasons=("too large",) * len(rows))
        return {"label": (values > 0).astype(int)}

    return mk.FunctionModel(answer, signature)


@pytest.mark.parametrize("n", [60, 9000])
def test_rows_that_the_model_refuses_are_counted_and_do_not_flip(n):
    """Rows are asked some at a time; the places of refused ones are those among all."""
    x = np.linspace(-1, 1, n)
    report = mk.robustness(odd_rows(1.0), x[:, None], (x > 0).astype(int))
    assert report["unit 10"].refused == (10 * x > 1.0).sum()
    assert report["unit 10"].flipped == 0
    assert report["noise 0.25"].refused > 0
    assert report["greedy"].refused == 0
    assert report["greedy"].flipped > 0


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({"immutable": ["agee"]}, "name agee; the columns are income, rate, age"),
        ({"ranges": {"region": (0, 1)}}, "name region"),
        ({"ranges": {"late": (0, 1)}}, "name late"),
        ({"ranges": {"age": (30, 50)}}, "'age' from 18 to 88, outside its range, 30 to 50"),
        ({"ranges": {"age": (99, 0)}}, "their least and greatest number, not {'age'"),
        ({"ranges": {"age": (np.nan, 0)}}, "ranges maps names of columns"),
        ({"ranges": {"age": (0, 50, 99)}}, "ranges maps names of columns"),
        ({"ranges": {"age": ("0", "99")}}, "ranges maps names of columns"),
        ({"ranges": {"age": 99}}, "ranges maps names of columns"),
        ({"ranges": ["age"]}, "ranges maps names of columns"),
    ],
)
def test_constraints_that_do_not_fit_the_rows_are_refused(forest, held, limits, problem):
    with pytest.raises(UsageError, match=problem):
        mk.robustness(forest, *held, constraints=mk.Constraints(**limits))


@pytest.mark.parametrize(
    "limits",
    [{"step": 0}, {"step": np.inf}, {"step": "a"}, {"most_columns": 0}, {"most_columns": 1.5}],
)
def test_a_budget_of_nothing_is_refused(limits):
    with pytest.raises(UsageError, match="step is a number of spreads above 0"):
        mk.Constraints(**limits)
    with pytest.raises(TypeError, match="immutable"):
        mk.Constraints(immutable="age")
