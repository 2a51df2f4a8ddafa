"""Estimators made of others, one after the other or side by side: steps, stackings, searches and samplers."""

import numpy as np
import pandas as pd
import pytest
from helpers.answers import check, check_refused
from helpers.kinds import diabetes
from helpers.packages import opened, saved
from helpers.rows import beside
from sklearn import linear_model
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor

import modelkit as mk

CAP = 90.0  # beyond the rows of the example, and of those that the parity check makes of them


def test_steps_that_do_nothing_and_weights_in_a_list(tmp_path):
    X, y = diabetes()
    voting = VotingRegressor([("a", LinearRegression()), ("b", Ridge())], weights=[1, 3])
    pipeline = make_pipeline("passthrough", StandardScaler(), voting).fit(X, y)
    _, model = saved(pipeline, X, tmp_path)
    np.testing.assert_allclose(model.predict(X), pipeline.predict(X), rtol=1e-4)


@pytest.mark.parametrize("wide", [0, 1])
def test_stackings_that_pass_their_rows_on_compare_them_in_double(wide, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 6, (150, 1)).astype(float)  # whole numbers, which float32 holds as well
    y = np.sin(X[:, 0]) + rng.normal(0, 0.1, 150)
    kinds = [
        HistGradientBoostingRegressor(max_iter=5, min_samples_leaf=3),
        DecisionTreeRegressor(max_depth=4, random_state=0),
    ]
    stacking = StackingRegressor([("a", kinds[wide])], kinds[1 - wide], cv=2, passthrough=True)
    fitted = stacking.fit(X, y)
    middle = np.unique(X)
    rows = beside(((middle[1:] + middle[:-1]) / 2)[:, None])
    with opened(fitted, X, tmp_path) as model:
        assert model.signature.inputs[0].dtype == "float64"
        np.testing.assert_allclose(model.predict(rows), fitted.predict(rows), 1e-6)


class CappedPipeline(Pipeline):
    def predict(self, X):
        return np.clip(super().predict(X), -CAP, CAP)


class CappedSearch(GridSearchCV):
    def predict(self, X):
        return np.clip(super().predict(X), -CAP, CAP)


class PlainSearch(GridSearchCV):
    """A search that answers as its best estimator."""


class Opposite(BaseEstimator, RegressorMixin):
    """An estimator of somebody's own, with an attribute that scikit-learn's searches have."""

    def fit(self, X, y):
        self.best_estimator_ = Ridge().fit(X, y)
        return self

    def predict(self, X):
        return -self.best_estimator_.predict(X)


def test_a_pipeline_that_answers_by_a_method_of_its_own_is_refused(rows, target, tmp_path):
    capped = CappedPipeline([("scaled", StandardScaler()), ("ridge", Ridge())]).fit(rows, target)
    check_refused(capped, rows, tmp_path / "a.mk", "CappedPipeline has its own 'predict'")


@pytest.mark.parametrize("last", [False, True])
def test_a_method_put_into_an_estimator_is_refused(rows, target, tmp_path, last):
    whole = make_pipeline(StandardScaler(), Ridge()).fit(rows, target)
    patched = whole[-1] if last else whole
    usual = patched.predict
    patched.predict = lambda X: np.clip(usual(X), -CAP, CAP)
    check_refused(whole, rows, tmp_path / "a.mk", "has its own 'predict'")


@pytest.mark.parametrize("made", [Opposite(), CappedSearch(Ridge(), {"alpha": [1.0]}, cv=2)])
def test_what_only_looks_like_a_search_is_no_search(rows, target, tmp_path, made):
    check_refused(made.fit(rows, target), rows, tmp_path / "a.mk", type(made).__name__)


def test_a_search_of_ones_own_that_answers_as_its_best_is_saved(rows, target, fresh, tmp_path):
    found = PlainSearch(Ridge(), {"alpha": [1.0, 2.0]}, cv=2).fit(rows, target)
    check(found, rows, fresh, tmp_path / "a.mk")


Logistic = linear_model.LogisticRegression


def test_samplers_of_imbalanced_learn_are_left_out(tmp_path):
    imblearn = pytest.importorskip("imblearn")
    from imblearn import ensemble as balanced
    from imblearn.over_sampling import SMOTE
    from imblearn.pipeline import make_pipeline as with_samplers
    from imblearn.under_sampling import RandomUnderSampler

    assert imblearn.__version__
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {"x": rng.normal(size=200), "kind": rng.choice(list("abc"), 200), "unread": "?"}
    )
    y = (X["x"] + (X["kind"] == "a") > 1.2).astype(int)
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["kind"]), (StandardScaler(), ["x"])
    )
    several = [
        balanced.BalancedBaggingClassifier(n_estimators=2, random_state=0),
        balanced.BalancedRandomForestClassifier(3, random_state=0),
        balanced.EasyEnsembleClassifier(2, Logistic(), random_state=0),
        balanced.RUSBoostClassifier(n_estimators=3, random_state=0),
    ]
    voting = VotingClassifier([(str(at), each) for at, each in enumerate(several)], voting="soft")
    models = [
        GridSearchCV(with_samplers(columns, SMOTE(random_state=0), Logistic()), {}, cv=2),
        with_samplers(RandomUnderSampler(random_state=0), columns, voting),
    ]
    for model in models:
        model.fit(X, y)
        mk.save(model, tmp_path / "m.mk", example=X, name="m", version="1")
        with mk.load(tmp_path / "m.mk") as package:
            assert package.signature.ignored == ("unread",)
            rows = X.assign(x=X["x"] * 3, kind=np.resize(["a", "new"], len(X)))
            np.testing.assert_allclose(
                package.predict_proba(rows), model.predict_proba(rows), atol=1e-9
            )


def test_columns_that_nobody_reads_lie_between_others(tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(200, 6)), columns=list("abcdef"))
    X = X.assign(b=[[each] for each in X["b"]], e=X["e"] > 0).astype({"c": "float32", "d": "int8"})
    y = (X["a"] + X["c"] + X["f"] > 0).astype(int)
    columns = make_column_transformer(
        (StandardScaler(), ["f", "c"]), ("passthrough", ["a", "d"]), ("drop", ["e"])
    )
    model = make_pipeline(columns, RandomForestClassifier(5, random_state=0)).fit(X, y)
    mk.save(model, tmp_path / "m.mk", example=X, name="m", version="1")
    with mk.load(tmp_path / "m.mk") as package:
        assert package.signature.ignored == ("b", "e")
        for rows in (X, X[["a", "c", "d", "f"]]):
            np.testing.assert_array_equal(package.predict_proba(rows), model.predict_proba(X))
