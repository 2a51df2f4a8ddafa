"""Votes and sums: labels and scores are those of the source to the last bit, ties of equal votes included."""

import copy
import warnings

import numpy as np
import pandas as pd
import pytest
from helpers.answers import check
from helpers.examples import some
from helpers.kinds import docstrings
from helpers.packages import opened, saved
from helpers.rows import tenths
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.covariance import EllipticEnvelope
from sklearn.datasets import load_diabetes, make_classification
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

import modelkit as mk
from modelkit.convert.estimators.compose import composed
from modelkit.convert.outputs import read_roles, truth
from modelkit.convert.parity.compare import compare
from modelkit.convert.source import DECISION
from modelkit.errors import ConversionError
from modelkit.runtimes.onnx import OnnxModel
from modelkit.signature.signature import Signature
from modelkit.signature.spec import Column, TensorSpec

SEED = {"random_state": 0}
DEEP = {"max_depth": 4, **SEED}


def coarse(classes, rows=300, seed=0):
    """Rows of one decimal and noisy labels: many votes are ties."""
    X, y = make_classification(
        rows,
        6,
        n_informative=4,
        n_redundant=0,
        n_classes=classes,
        flip_y=0.3,
        class_sep=0.5,
        random_state=seed,
    )
    return np.round(X, 1), y


def run(estimator, X):
    """What the graph of an estimator answers, without a package, and what the estimator does."""
    roles, classes = read_roles(estimator, X[:2])
    columns = tuple(Column(f"x{i}", "float64", nullable=True) for i in range(X.shape[1]))
    spec = TensorSpec("X", "float64", ("batch", len(columns)), columns)
    made = composed(estimator, [spec], roles, X)
    proto, *_ = made.graph(["X"])
    signature = Signature((spec,), made.specs, classes=classes)
    with OnnxModel(proto.SerializeToString(), signature) as model:
        got = model.run(X)
    expected = truth(estimator, X, roles)
    expected.pop(DECISION, None)
    return got, expected


def first_trees(forest, count):
    """A forest of the first trees of another."""
    few = copy.copy(forest)
    few.estimators_ = forest.estimators_[:count]
    few.n_estimators = count
    return few


@pytest.mark.parametrize("classes", [2, 3])
@some(
    "options",
    [{}, {"max_depth": 4}, {"class_weight": "balanced", "max_depth": 5}, {"class_weight": {0: 1, 1: 3}, "min_samples_leaf": 2}], 2,
    ids=["pure", "shallow", "balanced", "weights"],
)  # fmt: skip
def test_forests_of_any_size_break_ties_as_their_source(options, classes, tmp_path):
    """A float32 sum of twenty times a twentieth is a hair above a half: 4.6 % of the labels were others."""
    X, y = coarse(classes)
    if classes == 3 and isinstance(options.get("class_weight"), dict):
        options = options | {"class_weight": {0: 1, 1: 3, 2: 2}}
    forest = RandomForestClassifier(100, **options, **SEED).fit(X[:150], y[:150])
    tied = 0
    for count in (1, 2, 3, 6, 7, 10, 20, 41, 50, 100):
        few = first_trees(forest, count)
        got, expected = run(few, X)
        np.testing.assert_array_equal(got["label"], expected["label"], err_msg=f"{count} trees")
        np.testing.assert_array_equal(got["probabilities"], expected["probabilities"])
        top = np.sort(expected["probabilities"], axis=1)
        tied += int((top[:, -1] == top[:, -2]).sum())
    assert tied > 0  # or nothing would have been tried
    manifest = mk.save(first_trees(forest, 20), tmp_path / "m.mk", example=X, name="m", version="1")
    assert (manifest.parity.ties, manifest.parity.label_flips, manifest.parity.max_abs) == (
        0,
        0,
        0.0,
    )
    assert manifest.parity.rtol == 1e-6


def trees(kind=DecisionTreeClassifier):
    return [(f"t{depth}", kind(max_depth=depth, **SEED)) for depth in range(1, 7)]


VOTES = {
    "trees": DecisionTreeClassifier(max_depth=3),
    "extra tree": ExtraTreeClassifier(max_depth=6, **SEED),
    "extra trees": ExtraTreesClassifier(20, **DEEP),
    "soft": VotingClassifier(trees(), voting="soft"),
    "soft weights": VotingClassifier(trees(), voting="soft", weights=[1, 2, 3, 1, 2, 3]),
    "hard": VotingClassifier(trees()),
    "hard weights": VotingClassifier(trees(), weights=[0.1, 0.2, 0.3, 0.1, 0.2, 0.3]),
    "hard mixed": VotingClassifier([("a", GaussianNB()), ("b", LogisticRegression()), ("c", DecisionTreeClassifier(**DEEP))]),
    "bagging": BaggingClassifier(DecisionTreeClassifier(max_depth=3), 20, **SEED),
    "bagging some columns": BaggingClassifier(n_estimators=20, max_features=0.5, max_samples=10, **SEED),
    "bagging without probabilities": BaggingClassifier(LinearSVC(), 6, max_features=0.5, **SEED),
    "bagging pipelines": BaggingClassifier(make_pipeline(StandardScaler(), DecisionTreeClassifier(**DEEP)), 4, **SEED),
    "adaptive": AdaBoostClassifier(n_estimators=15, **SEED),
    "adaptive deep": AdaBoostClassifier(DecisionTreeClassifier(max_depth=2), n_estimators=15, **SEED),
    "adaptive linear": AdaBoostClassifier(LogisticRegression(), n_estimators=3, **SEED),
    "stacking": StackingClassifier([("a", RandomForestClassifier(10, **SEED)), ("b", HistGradientBoostingClassifier(max_iter=5))], cv=2),
    "stacking labels": StackingClassifier(trees(), DecisionTreeClassifier(**DEEP), cv=2, stack_method="predict", passthrough=True),
    "against one": OneVsOneClassifier(DecisionTreeClassifier(max_depth=3)),
    "against one, forests": OneVsOneClassifier(RandomForestClassifier(10, **SEED)),
    "against one, scores": OneVsOneClassifier(GradientBoostingClassifier(n_estimators=5)),
    "against rest": OneVsRestClassifier(RandomForestClassifier(10, **SEED)),
    "against rest, scores": OneVsRestClassifier(GradientBoostingClassifier(n_estimators=5)),
    "boosting": GradientBoostingClassifier(n_estimators=10, **SEED),
    "boosting from zero": GradientBoostingClassifier(n_estimators=10, init="zero", **SEED),
    "histogram": HistGradientBoostingClassifier(max_iter=10),
    "calibrated": CalibratedClassifierCV(RandomForestClassifier(10, **SEED), cv=2),
    "calibrated, lines": CalibratedClassifierCV(RandomForestClassifier(10, **SEED), cv=2, method="isotonic"),
    "calibrated, scores": CalibratedClassifierCV(GradientBoostingClassifier(n_estimators=5), cv=2),
    "search": GridSearchCV(RandomForestClassifier(**SEED), {"n_estimators": [10]}, cv=2),
}  # fmt: skip


@pytest.mark.parametrize("classes", [2, 3])
@some("name", VOTES, 12)
def test_every_vote_is_that_of_the_source(name, classes):
    X, y = coarse(classes)
    names = np.array(["no", "yes", "maybe"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = copy.deepcopy(VOTES[name]).fit(X[:200], names[y[:200]])
    got, expected = run(estimator, X)
    np.testing.assert_array_equal(got["label"], expected["label"])
    if "probabilities" in expected:
        np.testing.assert_allclose(
            got["probabilities"], expected["probabilities"], rtol=0, atol=1e-14
        )


@pytest.mark.parametrize(
    "estimator",
    [
        FixedThresholdClassifier(RandomForestClassifier(10, **SEED), threshold=0.5),
        FixedThresholdClassifier(RandomForestClassifier(10, **SEED), threshold=0.3, pos_label=0),
        FixedThresholdClassifier(
            GradientBoostingClassifier(n_estimators=5), response_method="decision_function"
        ),
        GradientBoostingClassifier(n_estimators=5, loss="exponential"),
    ],
)
def test_two_classes_alone(estimator):
    X, y = coarse(2)
    got, expected = run(estimator.fit(X[:200], y[:200]), X)
    np.testing.assert_array_equal(got["label"], expected["label"])
    np.testing.assert_allclose(got["probabilities"], expected["probabilities"], rtol=0, atol=1e-14)


def test_estimators_that_were_fitted_before_vote_as_they_do():
    X, y = coarse(2)
    fitted = FrozenEstimator(RandomForestClassifier(10, **SEED).fit(X[:100], y[:100]))
    voting = VotingClassifier([("a", fitted), ("b", LogisticRegression())], voting="soft").fit(
        X[:200], y[:200]
    )
    got, expected = run(voting, X)
    np.testing.assert_array_equal(got["label"], expected["label"])


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestRegressor(20, **SEED),
        GradientBoostingRegressor(n_estimators=10, **SEED),
        HistGradientBoostingRegressor(max_iter=10),
        HistGradientBoostingRegressor(max_iter=10, loss="poisson"),
        HistGradientBoostingRegressor(max_iter=10, loss="gamma"),
        AdaBoostRegressor(n_estimators=8, **SEED),
        AdaBoostRegressor(Ridge(), n_estimators=3, **SEED),
        BaggingRegressor(n_estimators=5, max_features=0.5, **SEED),
        BaggingRegressor(HistGradientBoostingRegressor(max_iter=3), 3, **SEED),
        VotingRegressor([("a", RandomForestRegressor(5, **SEED)), ("b", Ridge())], weights=[1, 2]),
        StackingRegressor(
            [("a", RandomForestRegressor(5, **SEED)), ("b", Ridge())], cv=2, passthrough=True
        ),
    ],
    ids=lambda estimator: str(estimator).partition("(")[0],
)
def test_every_mean_is_that_of_the_source(estimator):
    X, y = load_diabetes(return_X_y=True)
    got, expected = run(estimator.fit(X[:200], y[:200]), X)
    np.testing.assert_allclose(got["prediction"], expected["prediction"], rtol=1e-13)


def test_outliers_and_several_outputs():
    X, y = coarse(3)
    both = np.c_[y > 0, y]
    for estimator in (
        RandomForestClassifier(20, **DEEP).fit(X, both),
        MultiOutputClassifier(DecisionTreeClassifier(**DEEP)).fit(X, both),
        IsolationForest(n_estimators=20, max_features=0.5, contamination=0.1, **SEED).fit(X),
        RandomForestRegressor(20, **DEEP).fit(X, both),
    ):
        got, expected = run(estimator, X)
        for name, array in expected.items():
            np.testing.assert_allclose(
                got[name], array.astype(got[name].dtype), rtol=1e-13, atol=1e-15
            )


def test_a_first_model_of_ones_own_is_refused():
    X, y = coarse(2)
    estimator = GradientBoostingRegressor(n_estimators=2, init=Ridge()).fit(X, y)
    with pytest.raises(
        ConversionError, match=r"init=Ridge\) cannot be converted, since the first model"
    ):
        run(estimator, X)


def test_only_scores_that_are_equal_to_the_last_bits_forgive_a_label():
    near, far = 0.5 + 2e-16, 0.5 + 1e-9
    scores = {
        "label": np.array([0, 0]),
        "probabilities": np.array([[near, 1 - near], [far, 1 - far]]),
    }
    other = scores | {"label": np.array([1, 1])}
    found = compare(scores, other, 1e-6, 1e-9)
    assert (found.ties, found.flips) == (1, 1)
    # In float32 the scores themselves differ by more.
    assert compare(scores, other, 1e-4, 1e-6).ties == 2


def test_a_wrong_label_of_several_is_forgiven_by_its_own_scores_alone():
    label = np.array([[1, 1, 0]] * 3)
    other = np.array([[1, 1, 1], [1, 1, 1], [0, 1, 0]])
    likely = np.array([[1.0, 1.0, 0.01], [1.0, 1.0, 0.5], [1.0, 1.0, 0.5]])
    apart = {f"probabilities_{place}": np.c_[1 - each, each] for place, each in enumerate(likely.T)}
    for scores in ({"probabilities": likely}, {DECISION: likely - 0.5}, apart):
        found = compare({"label": label} | scores, {"label": other} | scores, 1e-6, 1e-9)
        assert (found.ties, found.flips) == (1, 2)


@some("seed", [0, 1, 3, 4], 1)
@pytest.mark.parametrize(
    "detector",
    [
        EllipticEnvelope(contamination=0.1, random_state=0),
        IsolationForest(n_estimators=20, contamination=0.25, random_state=0),
        LocalOutlierFactor(novelty=True, contamination=0.1),
    ],
    ids=lambda detector: type(detector).__name__,
)
def test_rows_on_the_offset_of_a_detector_stay_on_their_side(detector, seed, tmp_path):
    X = np.random.default_rng(seed).integers(0, 4, (1000, 3)).astype(float)
    if isinstance(detector, LocalOutlierFactor):
        X += np.random.default_rng(seed).normal(size=X.shape)
    model = copy.deepcopy(detector).fit(X)
    manifest, packed = saved(model, X[:300], tmp_path)
    assert (manifest.parity.ties, manifest.parity.label_flips) == (0, 0)
    np.testing.assert_array_equal(packed.predict(X), model.predict(X))


def others():
    catboost, xgboost = pytest.importorskip("catboost"), pytest.importorskip("xgboost")
    lightgbm = pytest.importorskip("lightgbm")
    return [
        ("a", xgboost.XGBClassifier(n_estimators=5, n_jobs=1)),
        ("b", catboost.CatBoostClassifier(5, verbose=0, allow_writing_files=False, thread_count=1)),
        ("c", lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1)),
        ("d", RandomForestClassifier(5, **SEED)),
    ]


@pytest.mark.parametrize("classes", [2, 3])
@some("kind", ["soft", "stacking", "calibrated"], 1)
def test_models_of_all_libraries_vote_together(kind, classes):
    """The trees of XGBoost and CatBoost are of an older operator, which a graph with the newer one has not any more."""
    X, y = coarse(classes)
    if kind == "calibrated":
        estimator = CalibratedClassifierCV(VotingClassifier(others()[:1], voting="soft"), cv=2)
    elif kind == "soft":
        estimator = VotingClassifier(others(), voting="soft", weights=[1, 2, 3, 4])
    else:
        estimator = StackingClassifier(others(), LogisticRegression(), cv=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(X[:200], y[:200])
    got, expected = run(estimator, X)
    np.testing.assert_array_equal(got["label"], expected["label"])
    np.testing.assert_allclose(got["probabilities"], expected["probabilities"], atol=1e-6)


def test_forests_of_several_outputs_may_have_gaps():
    X, y = coarse(3)
    X[::7, 0] = np.nan
    forest = RandomForestClassifier(10, **DEEP).fit(X, np.c_[y > 0, y])
    got, expected = run(forest, X)
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array.astype(got[name].dtype))


def test_texts_are_read_by_votes_and_forests(tmp_path):
    """Python counts the terms: a graph among others is given counts in place of texts."""
    texts, y = docstrings()
    frame = pd.DataFrame(
        {"text": texts, "other": texts[::-1], "length": [float(len(text)) for text in texts]}
    )
    columns = make_column_transformer(
        (TfidfVectorizer(), "text"),
        (CountVectorizer(max_features=20), "other"),
        remainder="passthrough",
    )
    pair = [("a", RandomForestClassifier(10, **SEED)), ("b", DecisionTreeClassifier(**DEEP))]
    estimator = make_pipeline(columns, VotingClassifier(pair, voting="soft")).fit(frame, y)
    mk.save(estimator, tmp_path / "m.mk", example=frame, name="m", version="1")
    with mk.load(tmp_path / "m.mk") as model:
        np.testing.assert_array_equal(model.predict(frame), estimator.predict(frame))
        np.testing.assert_allclose(
            model.predict_proba(frame), estimator.predict_proba(frame), atol=1e-13
        )


def test_columns_of_a_bagging_may_be_one(tmp_path):
    X, y = tenths(100, 1)
    bag = BaggingClassifier(DecisionTreeClassifier(max_depth=2), max_features=0.6, random_state=0)
    fitted = bag.fit(X, y)
    with opened(fitted, X, tmp_path) as model:
        assert (model.predict(X) == fitted.predict(X)).all()


def test_ensembles_without_some_of_their_trees(rows, target, fresh, tmp_path):
    isolation = IsolationForest(n_estimators=7, max_features=2, random_state=0).fit(rows)
    regressor = BaggingRegressor(n_estimators=7, random_state=0).fit(rows, target)
    linear = BaggingClassifier(LogisticRegression(), n_estimators=7, random_state=0)
    for ensemble in (isolation, regressor, linear.fit(rows, target > 0)):
        ensemble.estimators_ = ensemble.estimators_[:3]
        check(ensemble, rows, fresh, tmp_path / "a.mk")
