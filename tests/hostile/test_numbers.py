"""What an attack on the numbers of converted models found: each answered rows otherwise than its source."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import BaggingClassifier, BaggingRegressor, IsolationForest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PowerTransformer, SplineTransformer, StandardScaler
from sklearn.svm import SVC

import modelkit as mk
from modelkit.errors import ConversionError

VERBS = {
    "label": "predict",
    "prediction": "predict",
    "probabilities": "predict_proba",
    "scores": "decision_function",
    "score_samples": "score_samples",
    "transformed": "transform",
}
CAP = 90.0  # beyond the rows of the example, and of those that the gate makes of them


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(120, 3))


@pytest.fixture(scope="module")
def fresh():
    return np.random.default_rng(1).normal(size=(300, 3)) * 2


@pytest.fixture(scope="module")
def target(rows):
    return rows @ [1.0, 2.0, 3.0]


def check(estimator, example, fresh, path):
    """The package answers fresh rows as its source does, to the rounding of their dtype."""
    tolerance = 1e-4 if fresh.dtype == np.float32 else 1e-12
    mk.save(estimator, path, example=example, name="attacked", version="1.0.0")
    with mk.load(path, threads=1) as model:
        answers = model.run(fresh)
    for name, got in answers.items():
        expected = getattr(estimator, VERBS[name])(fresh)
        if got.dtype.kind == "f":
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(got, expected)


def check_refused(estimator, example, path, said):
    with pytest.raises(ConversionError, match=said):
        mk.save(estimator, path, example=example, name="attacked", version="1.0.0")


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
    check_refused(
        capped, rows, tmp_path / "a.mk", "CappedPipeline answers by a 'predict' of its own"
    )


@pytest.mark.parametrize("last", [False, True])
def test_a_method_put_into_an_estimator_is_refused(rows, target, tmp_path, last):
    whole = make_pipeline(StandardScaler(), Ridge()).fit(rows, target)
    patched = whole[-1] if last else whole
    usual = patched.predict
    patched.predict = lambda X: np.clip(usual(X), -CAP, CAP)
    check_refused(whole, rows, tmp_path / "a.mk", "answers by a 'predict' of its own")


@pytest.mark.parametrize("made", [Opposite(), CappedSearch(Ridge(), {"alpha": [1.0]}, cv=2)])
def test_what_only_looks_like_a_search_is_no_search(rows, target, tmp_path, made):
    check_refused(made.fit(rows, target), rows, tmp_path / "a.mk", type(made).__name__)


def test_a_search_of_ones_own_that_answers_as_its_best_is_saved(rows, target, fresh, tmp_path):
    found = PlainSearch(Ridge(), {"alpha": [1.0, 2.0]}, cv=2).fit(rows, target)
    check(found, rows, fresh, tmp_path / "a.mk")


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("mixture", [GaussianMixture, BayesianGaussianMixture])
def test_mixtures_of_float32(rows, fresh, tmp_path, mixture, kind):
    single = rows.astype(np.float32)
    fitted = mixture(n_components=2, covariance_type=kind, tol=0.1, random_state=0).fit(single)
    check(fitted, single, fresh.astype(np.float32), tmp_path / "a.mk")


@pytest.mark.parametrize(
    "estimator",
    [
        GaussianNB(),
        BernoulliRBM(4, random_state=0),
        PowerTransformer(),
        PowerTransformer(standardize=False),
    ],
)
def test_what_was_fitted_on_float32_is_rounded_where_the_source_rounds(
    rows, target, fresh, tmp_path, estimator
):
    single = np.expm1(rows).astype(np.float32)
    check(estimator.fit(single, target > 0), single, fresh.astype(np.float32), tmp_path / "a.mk")


@pytest.mark.parametrize("most", [1, 1.0, 2, 3, 0.7])
def test_isolation_forests_over_some_columns(rows, fresh, tmp_path, most):
    forest = IsolationForest(n_estimators=7, max_features=most, random_state=0).fit(rows)
    check(forest, rows, fresh, tmp_path / "a.mk")


def test_ensembles_without_some_of_their_trees(rows, target, fresh, tmp_path):
    isolation = IsolationForest(n_estimators=7, max_features=2, random_state=0).fit(rows)
    regressor = BaggingRegressor(n_estimators=7, random_state=0).fit(rows, target)
    linear = BaggingClassifier(LogisticRegression(), n_estimators=7, random_state=0)
    for ensemble in (isolation, regressor, linear.fit(rows, target > 0)):
        ensemble.estimators_ = ensemble.estimators_[:3]
        check(ensemble, rows, fresh, tmp_path / "a.mk")


def test_splines_that_stay_level_do_so_to_infinity(rows, fresh, tmp_path):
    splines = SplineTransformer(handle_missing="zeros").fit(rows)
    strange = fresh.copy()
    strange[::3, 0] = np.inf
    strange[1::3, 1] = -np.inf
    strange[2::3, 2] = np.nan
    check(splines, rows, strange, tmp_path / "a.mk")


def test_linear_leaves_of_lightgbm_answer_infinite_rows(rows, target, tmp_path):
    lightgbm = pytest.importorskip("lightgbm")
    gaps = rows.copy()
    gaps[::7, 0] = np.nan
    infinite = rows.copy()
    infinite[::3, 1] = np.inf
    infinite[1::3, 1] = -np.inf
    model = lightgbm.LGBMClassifier(
        n_estimators=3, min_child_samples=1, linear_tree=True, verbose=-1
    )
    check(model.fit(gaps, target > 0), gaps, infinite, tmp_path / "a.mk")


def test_infinities_that_a_graph_answers_otherwise_are_refused(rows, target, tmp_path):
    import sklearn

    machine = SVC().fit(rows, target > 0)
    with sklearn.config_context(assume_finite=True):
        mk.save(machine, tmp_path / "a.mk", example=rows, name="attacked", version="1.0.0")
    with mk.load(tmp_path / "a.mk", threads=1) as model:
        columns = model.signature.inputs[0].columns
        assert all(column.finite or not column.nullable for column in columns)
