"""Rows of every kind of column that may change, a model of them, and one of whole numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.evaluated import saved
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier


@pytest.fixture(scope="session")
def applications():
    """300 rows of loans: numbers, whole numbers, flags, closed and open categories, with gaps."""
    rng = np.random.default_rng(5)
    n = 300
    income = rng.lognormal(10, 0.5, n).round(2)
    rows = pd.DataFrame(
        {
            "income": np.where(rng.random(n) < 0.1, np.nan, income),
            "rate": rng.uniform(1, 9, n).astype(np.float32),
            "age": rng.integers(18, 90, n),
            "children": rng.integers(0, 6, n).astype(np.int8),
            "owner": rng.random(n) < 0.4,
            "late": rng.integers(0, 2, n),
            "region": rng.choice(["north", "south", "west"], n),
            "job": rng.choice(["clerk", "baker", "driver", "nurse"], n),
        }
    )
    score = np.log(income) - 0.3 * rows["rate"] + 0.02 * rows["age"] - rows["late"]
    score += np.where(rows["region"] == "north", 0.7, 0) + rng.normal(0, 0.4, n)
    return rows, np.where(score > score.median(), "paid", "lost")


@pytest.fixture(scope="session")
def forest(applications, tmp_path_factory):
    X, y = applications
    columns = make_column_transformer(
        (OneHotEncoder(), ["region"]),
        (OneHotEncoder(handle_unknown="ignore"), ["job"]),
        remainder="passthrough",
    )
    fitted = make_pipeline(columns, RandomForestClassifier(30, random_state=0)).fit(
        X[:150], y[:150]
    )
    with saved(fitted, X[:150], tmp_path_factory.mktemp("loans")) as model:
        yield model


@pytest.fixture(scope="session")
def held(applications):
    X, y = applications
    return X[150:].reset_index(drop=True), y[150:]


@pytest.fixture(scope="session")
def counts():
    """Whole numbers of few values, so that all of them are tried."""
    rng = np.random.default_rng(2)
    X = pd.DataFrame(rng.integers(0, 12, (240, 4)), columns=["a", "b", "c", "d"])
    y = (X["a"] + X["b"] * 2 - X["c"] > 12).to_numpy().astype(int)
    return X, y


@pytest.fixture(scope="session")
def tree(counts, tmp_path_factory):
    X, y = counts
    fitted = DecisionTreeClassifier(max_depth=5, random_state=0).fit(X[:120], y[:120])
    with saved(fitted, X[:120], tmp_path_factory.mktemp("counts")) as model:
        yield model
