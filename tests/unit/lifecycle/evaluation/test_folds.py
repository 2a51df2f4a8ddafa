"""Folds of scikit-learn's splitters."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.evaluated import checked
from sklearn.cluster import KMeans
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    ShuffleSplit,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import modelkit as mk
from modelkit.errors import UsageError

THREE = KFold(3, shuffle=True, random_state=0)


def test_folds_are_those_of_sklearn():
    X, y = load_diabetes(return_X_y=True)
    split = ShuffleSplit(4, test_size=0.25, random_state=0)
    found = checked(mk.evaluate(Ridge(), X, y, cv=split))
    scores = cross_val_score(Ridge(), X, y, cv=split)
    assert found.folds == 4
    assert found["r2"].value == pytest.approx(scores.mean())
    spread = np.sqrt((1 / 4 + 111 / 331) * scores.var(ddof=1))
    assert found["r2"].high - found["r2"].low > 2 * 3 * spread
    assert found.model_digest == ""


def test_classes_clusters_and_frames_in_folds(tumours):
    X, y = tumours
    customers = np.arange(len(X)) // 4
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    split = GroupKFold(4)
    found = checked(
        mk.evaluate(pipeline, X, y, cv=split, clusters=customers, sample_weight=np.ones(len(X)))
    )
    assert found.kind == "binary"
    assert found.independent == customers.max() + 1
    assert found["roc_auc"].value > 0.97
    assert np.array(found.confusion.counts).sum() == len(X)
    again = mk.evaluate(pipeline, X, y, cv=split, clusters=customers, sample_weight=np.ones(len(X)))
    assert again == found
    assert mk.Evaluation.from_json(found.to_json()) == found


def test_time_goes_forward_in_folds_of_time():
    X, y = load_diabetes(return_X_y=True)
    found = mk.evaluate(Ridge(), X, y, cv=TimeSeriesSplit(3))
    assert (found.folds, found.rows) == (3, 330)
    pairs = list(TimeSeriesSplit(3).split(X))
    assert mk.evaluate(Ridge(), X, y, cv=pairs) == found
    days = np.arange(len(X)) // 11
    of_days = TimeSeriesSplit(3, test_size=110)  # whole days; it says that it does not look at them
    clustered = mk.evaluate(Ridge(), X[:440], y[:440], cv=of_days, clusters=days[:440])
    assert (clustered.rows, clustered.independent) == (330, 30)


def test_labels_in_folds():
    X, y = load_iris(return_X_y=True)
    labels = np.column_stack([y == 0, y == 1]).astype(int)
    found = checked(mk.evaluate(DecisionTreeClassifier(random_state=0), X, labels, cv=THREE))
    assert found.kind == "multilabel"
    assert found["f1_micro"].value > 0.9


def test_what_folds_refuse(model, tumours):
    X, y = tumours
    n = np.arange(len(X))
    with pytest.raises(TypeError, match="trained already"):
        mk.evaluate(model, X, y, cv=THREE)
    for number in (1, 5):
        with pytest.raises(UsageError, match=f"cv is a splitter .* not {number}"):
            mk.evaluate(Ridge(), X, n, cv=number)
    with pytest.raises(UsageError, match=r"groups' .* the groups of a splitter are clusters="):
        mk.evaluate(Ridge(), X, n, cv=GroupKFold(3))
    for none in ("KFold", []):
        with pytest.raises(UsageError, match=r"cannot be split|does not split the rows"):
            mk.evaluate(Ridge(), X, n, cv=none)
    with pytest.raises(TypeError, match="not str"):
        mk.evaluate("ridge", X, y, cv=THREE)
    with pytest.raises(UsageError, match="values of clusters"):
        mk.evaluate(Ridge(), X, y, cv=THREE, clusters="mean radius")
    with pytest.raises(UsageError, match="are for a Model"):
        mk.evaluate(LogisticRegression(), X, y, cv=THREE, slices=["mean radius"])
    with pytest.raises(UsageError, match=r"cannot be split|does not split the rows"):
        mk.evaluate(Ridge(), np.ones((3, 1)), np.arange(3.0), cv=KFold(5))
    with pytest.raises(UsageError, match="classifiers and regressors"):
        mk.evaluate(KMeans(2), X, n % 2, cv=THREE)


HALF = np.arange(75)
REST = np.arange(75, 150)


@pytest.mark.parametrize(
    ("train", "test", "why"),
    [
        (HALF, np.arange(50, 150), "fold 0: 25 rows are trained on and tested on, such as row 50"),
        (HALF, [100, 100], "a test row stands twice"),
        (HALF, [-1], "test rows are places from 0 to 149, and go from -1 to -1"),
        (HALF, [150], "test rows are places from 0 to 149"),
        (HALF, [], "test rows are places, integers"),
        ([], REST, "training rows are places, integers"),
        (HALF, REST.astype(float), "test rows are places, integers"),
        (np.arange(150) < 75, np.arange(150) >= 75, "training rows are places, integers"),
    ],
)
def test_a_fold_that_says_nothing_of_new_rows_is_refused(train, test, why):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(UsageError, match=why):
        mk.evaluate(DecisionTreeClassifier(), X, y, cv=[(train, test)])


def test_a_cluster_is_in_one_part_of_a_fold():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(UsageError, match="a cluster has training rows and test rows"):
        mk.evaluate(DecisionTreeClassifier(), X, y, cv=[(HALF, REST)], clusters=np.arange(150) // 2)


def test_a_missing_class_is_named_before_rows_are_split():
    X, y = load_iris(return_X_y=True)
    gone = np.where(np.arange(150) == 7, np.nan, y)
    with pytest.raises(UsageError, match="y is missing in 1 of 150 rows, first in row 7"):
        mk.evaluate(DecisionTreeClassifier(), X, gone, cv=THREE)
