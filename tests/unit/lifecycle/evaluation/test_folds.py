"""Folds and learning curves."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.evaluated import checked
from sklearn.cluster import KMeans
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import ShuffleSplit, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import modelkit as mk
from modelkit.errors import UsageError


def test_folds_are_those_of_sklearn():
    X, y = load_diabetes(return_X_y=True)
    split = ShuffleSplit(4, test_size=0.25, random_state=0)
    found = checked(mk.evaluate(Ridge(), X, y, cv=split))
    scores = cross_val_score(Ridge(), X, y, cv=split)
    assert found.folds == 4
    assert found["r2"].value == pytest.approx(scores.mean())
    spread = np.sqrt((1 / 4 + 111 / 331) * scores.var(ddof=1))
    assert found["r2"].high - found["r2"].low > 2 * 3 * spread
    assert found.fit
    assert found.learning.name == "r2"
    assert [point.rows for point in found.learning.points] == [41, 83, 166, 331]
    assert found.model_digest == ""


def test_more_rows_help_a_model_that_still_learns():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 20))
    y = X @ rng.normal(size=20) + rng.normal(size=600)
    learned = mk.evaluate(LinearRegression(), X, y, cv=5).learning
    assert learned.doubling > 0
    flat = mk.evaluate(LinearRegression(), X[:, :1], rng.normal(size=600), cv=5).learning
    assert flat.low < 0.05


def test_classes_clusters_and_frames_in_folds(tumours):
    X, y = tumours
    customers = np.arange(len(X)) // 4
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    found = checked(
        mk.evaluate(pipeline, X, y, cv=4, clusters=customers, sample_weight=np.ones(len(X)))
    )
    assert found.kind == "binary"
    assert found.independent == customers.max() + 1
    assert found["roc_auc"].value > 0.97
    assert np.array(found.confusion.counts).sum() == len(X)
    again = mk.evaluate(pipeline, X, y, cv=4, clusters=customers, sample_weight=np.ones(len(X)))
    assert again == found
    assert mk.Evaluation.from_json(found.to_json()) == found


def test_time_goes_forward_in_folds_of_time():
    X, y = load_diabetes(return_X_y=True)
    found = mk.evaluate(Ridge(), X, y, cv=TimeSeriesSplit(3))
    assert (found.folds, found.rows) == (3, 330)


def test_labels_in_folds():
    X, y = load_iris(return_X_y=True)
    labels = np.column_stack([y == 0, y == 1]).astype(int)
    found = checked(mk.evaluate(DecisionTreeClassifier(random_state=0), X, labels, cv=3))
    assert found.kind == "multilabel"
    assert found["f1_micro"].value > 0.9


def test_what_folds_refuse(model, tumours):
    X, y = tumours
    with pytest.raises(TypeError, match="trained already"):
        mk.evaluate(model, X, y, cv=3)
    with pytest.raises(UsageError, match="at least 2 folds"):
        mk.evaluate(Ridge(), X, np.arange(len(X)), cv=1)
    with pytest.raises(TypeError, match="not str"):
        mk.evaluate("ridge", X, y, cv=3)
    with pytest.raises(UsageError, match="values of clusters"):
        mk.evaluate(Ridge(), X, y, cv=3, clusters="mean radius")
    with pytest.raises(UsageError, match="are for a Model"):
        mk.evaluate(LogisticRegression(), X, y, cv=3, slices=["mean radius"])
    with pytest.raises(UsageError, match="cannot be split"):
        mk.evaluate(Ridge(), np.ones((3, 1)), np.arange(3.0), cv=5)
    with pytest.raises(UsageError, match="classifiers and regressors"):
        mk.evaluate(KMeans(2), X, np.arange(len(X)) % 2, cv=3)
