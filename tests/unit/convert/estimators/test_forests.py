"""Trees, forests and AdaBoost of scikit-learn: rows of float32, gaps, and leaves in the order of the trees."""

import numpy as np
import pytest
from helpers.packages import saved
from helpers.rows import ties
from sklearn import datasets
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import modelkit as mk
from modelkit.errors import SignatureError

IRIS = datasets.load_iris(return_X_y=True)
HOLES = (np.where(np.arange(IRIS[0].size).reshape(IRIS[0].shape) % 7, IRIS[0], np.nan), IRIS[1])
SEED = {"random_state": 0}


@pytest.mark.parametrize(
    "kind", [RandomForestClassifier, ExtraTreesClassifier, DecisionTreeClassifier]
)
def test_a_forest_routes_missing_values_as_it_was_trained_to(kind, tmp_path):
    X, y = HOLES
    forest = kind(random_state=0).fit(X, y)
    # An example without missing values.
    mk.save(forest, tmp_path / "m.mk", example=IRIS[0], name="m", version="1")
    with mk.load(tmp_path / "m.mk") as model:
        np.testing.assert_allclose(model.predict_proba(X), forest.predict_proba(X), atol=1e-6)


def test_a_model_that_refuses_missing_values_refuses_them_in_its_package(tmp_path):
    boosting = GradientBoostingClassifier(n_estimators=3, random_state=0).fit(*IRIS)
    mk.save(boosting, tmp_path / "m.mk", example=IRIS[0], name="m", version="1")
    with (
        mk.load(tmp_path / "m.mk") as model,
        pytest.raises(SignatureError, match=r"column 'x2': missing value .* row 1"),
    ):
        model.predict(np.array([[1, 2, 3, 4], [1, 2, np.nan, 4.0]]))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "wrap",
    [
        lambda pipeline: pipeline,
        lambda pipeline: GridSearchCV(pipeline, {}, cv=2),
        OneVsRestClassifier,
        lambda pipeline: VotingClassifier(
            [("a", pipeline), ("b", LogisticRegression())], voting="soft", weights=[1, 3]
        ),
    ],
)
def test_a_forest_behind_a_scaler_rounds_as_it_does_alone(wrap, seed, tmp_path):
    """Compared as doubles, 80 of 300 labels were others, and the parity check saw nothing."""
    X, y = ties(seed)
    forest = RandomForestClassifier(5, max_depth=4, random_state=0)
    model = wrap(make_pipeline(StandardScaler(), forest)).fit(X, y)
    _, packed = saved(model, X, tmp_path)
    X[:, 0] += 0.5
    np.testing.assert_allclose(packed.predict_proba(X), model.predict_proba(X), atol=1e-5)


def test_leaves_of_many_numbers_are_added_in_the_order_of_the_trees(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    Y = X @ rng.normal(size=(3, 70))
    model = RandomForestRegressor(40, max_depth=3, **SEED).fit(X, Y)
    _, packed = saved(model, X, tmp_path)
    np.testing.assert_array_equal(packed.predict(X), model.predict(X))
    explained = mk.Explainer(packed, background=X[:40]).explain(X[:3])
    assert explained.method == "trees"
