"""Leaks: equal rows across the split, columns that are the truth, rows that are later, clusters on both sides."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.evaluated import saved
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

import modelkit as mk
from modelkit.lifecycle.evaluation.leakage import equal_rows


@pytest.mark.parametrize("copied", [lambda y: y, lambda y: 3e6 - 2000 * y, lambda y: y.round(2)])
def test_a_column_that_is_the_truth_is_a_leak(tmp_path, copied):
    rng = np.random.default_rng(0)
    y = rng.normal(size=400)
    rows = np.column_stack([rng.normal(size=400), copied(y)])
    mk.save(LinearRegression().fit(rows, y), tmp_path / "a.mk", example=rows, name="a", version="1")
    with mk.load(tmp_path / "a.mk") as model:
        checks = {check.name: check for check in mk.evaluate(model, rows, y).leaks}
        assert checks["one column"].found
        honest = mk.evaluate(model, rows, y + rows[:, 0]).leaks
    assert not [check for check in honest if check.found]


def _tree_of_mixed():

    encoded = make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough")
    return make_pipeline(encoded, DecisionTreeClassifier(max_depth=3))


def test_equal_rows_across_the_split_are_found(model, held, tumours):
    X, y = tumours
    both = pd.concat([held[0], X[::2][:40]])
    labels = np.concatenate([held[1], y[::2][:40]])
    found = {
        check.name: check
        for check in mk.evaluate(model, both, labels, train=(X[::2], y[::2])).leaks
    }
    assert found["equal rows"].found
    assert "40 of 324 held-out rows" in found["equal rows"].text
    assert "without them accuracy" in found["equal rows"].text
    clean = {check.name: check for check in mk.evaluate(model, *held, train=(X[::2], y[::2])).leaks}
    assert not clean["equal rows"].found


@pytest.mark.parametrize(
    ("trained", "held_out", "kinds", "copied", "found"),
    [
        (500, 5000, 4000, 0.0, 0.0),  # .36 of the clean splits before
        (1000, 20_000, 4000, 0.0, 0.0),  # .33
        (20, 80, 50, 0.0, 0.0),
        (2000, 2000, 4000, 0.0, 0.0),
        (4000, 1000, None, 0.005, 1.0),
        (4000, 1000, 60_000, 0.06, 0.9),
        (4000, 1000, 12_000, 0.1, 0.9),  # where 30 % of the training rows repeat others: .00
    ],
)
def test_equal_rows_are_counted_beside_those_of_a_random_split(
    trained, held_out, kinds, copied, found
):
    said = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        n = trained + held_out
        keys = rng.permutation(n) if kinds is None else rng.integers(kinds, size=n)
        before, after = keys[:trained], keys[trained:]
        copies = int(copied * held_out)
        after[:copies] = rng.choice(before, copies)
        said.append(equal_rows(before, after)[0].found)
    assert np.mean(said) >= found if copied else np.mean(said) <= 0.03


def test_rows_that_are_often_equal_are_no_leak(tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"colour": rng.choice(["red", "blue"], 400), "n": rng.integers(3, size=400)})
    y = rng.integers(2, size=400)
    with saved(_tree_of_mixed().fit(X[:200], y[:200]), X, tmp_path) as model:
        (check, _) = mk.evaluate(model, X[200:], y[200:], train=(X[:200], y[:200])).leaks
    assert (check.name, check.found) == ("equal rows", False)
    assert "200 of 200" in check.text


def test_a_column_that_predicts_alone_is_found(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=500)
    X = np.column_stack([rng.normal(size=500), y + rng.normal(0, 0.1, 500)])
    with saved(LogisticRegression().fit(X[:250], y[:250]), X, tmp_path) as model:
        (check,) = mk.evaluate(model, X[250:], y[250:]).leaks
    assert check.found
    assert "'x1'" in check.text
    assert "'x0'" not in check.text


def test_clusters_on_both_sides_are_found(model, held, tumours):
    X, y = tumours
    train = X[::2].assign(customer=np.arange(285))
    test = held[0].assign(customer=np.arange(284) + 284)
    checks = mk.evaluate(model, test, held[1], train=(train, y[::2]), clusters="customer").leaks
    (check,) = [check for check in checks if check.name == "shared clusters"]
    assert check.found
    assert check.text.startswith("0.4%")
