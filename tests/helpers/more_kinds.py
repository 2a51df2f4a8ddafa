"""The kinds that are not in kinds.py, so that each class that converts is in one of the two.

`PYTHONPATH=tests python -m helpers.more_kinds` prints the table of docs/reference/what_converts.md.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from sklearn import (
    calibration,
    cluster,
    compose,
    covariance,
    cross_decomposition,
    decomposition,
    dummy,
    ensemble,
    feature_selection,
    gaussian_process,
    impute,
    isotonic,
    kernel_approximation,
    kernel_ridge,
    linear_model,
    mixture,
    model_selection,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    preprocessing,
    random_projection,
    semi_supervised,
    svm,
    tree,
)
from sklearn.experimental import (
    enable_halving_search_cv,  # noqa: F401 - it lets HalvingGridSearchCV be imported
    enable_iterative_imputer,  # noqa: F401 - and IterativeImputer
)
from sklearn.pipeline import make_pipeline

from helpers.kinds import (
    KINDS,
    SEED,
    TREES,
    Kind,
    blobs,
    diabetes,
    docstrings,
    iris,
    penguins,
    positive,
    scaled,
    text,
    two_labels,
    two_targets,
    wine,
    wine_holes,
)
from helpers.refusals import REFUSALS

FAMILIES = (
    "linear", "support vectors", "neighbours", "naive Bayes", "discriminants", "processes", "trees", "boosting",
    "combinations", "calibrated", "several outputs", "networks", "clusters", "outliers", "columns", "gaps",
    "encoders", "transformers", "projections", "kernels", "selection", "texts", "dummies", "XGBoost", "LightGBM",
    "CatBoost",
)  # fmt: skip
logistic = linear_model.LogisticRegression
NARROW = {"numbers": "float32", "missing": True}
SEARCHED = {"C": [0.1, 1]}


class Ranked:
    """A ranker, whose rows are queries of ten."""

    def __init__(self, ranker: Any, **keywords: Any) -> None:
        self.ranker = ranker
        self.keywords = keywords

    def fit(self, X: Any, y: Any) -> Any:
        return self.ranker.fit(X, y, **self.keywords)


def tens():
    X, y = wine()
    return X[:170], y[:170]


def three_words():
    X, y = penguins()
    return X[["island", "sex"]].assign(mass=X["body_mass_g"]), y


def rounded():
    X, y = wine()
    return np.rint(X / X.max(axis=0) * 4).astype(int), y


def islands():
    X, y = penguins()
    return X[["island", "body_mass_g"]].astype({"island": object}), y


def petal():
    X, y = iris()
    return X[:, 2:3], y


def words(encoder):
    columns = compose.make_column_transformer(
        (encoder, ["island", "sex"]), (impute.SimpleImputer(), ["mass"])
    )
    return make_pipeline(columns, logistic(max_iter=1000))


def before(step):
    """A step in front of a linear model."""
    return make_pipeline(step, logistic(max_iter=1000))


def _linear() -> list[Kind]:
    return [
        Kind("linear", "ARDRegression", linear_model.ARDRegression, diabetes),
        Kind("linear", "ElasticNetCV", lambda: linear_model.ElasticNetCV(cv=3), diabetes),
        Kind("linear", "LassoCV", lambda: linear_model.LassoCV(cv=3), diabetes),
        Kind("linear", "Lars", linear_model.Lars, diabetes),
        Kind("linear", "LarsCV", lambda: linear_model.LarsCV(cv=3), diabetes),
        Kind("linear", "LassoLars", linear_model.LassoLars, diabetes),
        Kind("linear", "LassoLarsCV", lambda: linear_model.LassoLarsCV(cv=3), diabetes),
        Kind("linear", "LassoLarsIC", linear_model.LassoLarsIC, diabetes),
        Kind("linear", "OrthogonalMatchingPursuit", linear_model.OrthogonalMatchingPursuit, diabetes),
        Kind("linear", "OrthogonalMatchingPursuitCV", lambda: linear_model.OrthogonalMatchingPursuitCV(cv=3), diabetes),
        Kind("linear", "MultiTaskLasso", linear_model.MultiTaskLasso, two_targets),
        Kind("linear", "MultiTaskLassoCV", lambda: linear_model.MultiTaskLassoCV(cv=3), two_targets),
        Kind("linear", "MultiTaskElasticNet", linear_model.MultiTaskElasticNet, two_targets),
        Kind("linear", "MultiTaskElasticNetCV", lambda: linear_model.MultiTaskElasticNetCV(cv=3), two_targets),
        Kind("linear", "PassiveAggressiveClassifier", lambda: linear_model.PassiveAggressiveClassifier(**SEED), blobs),
        Kind("linear", "PassiveAggressiveRegressor", lambda: linear_model.PassiveAggressiveRegressor(**SEED), diabetes),
        Kind("linear", "RANSACRegressor", lambda: linear_model.RANSACRegressor(**SEED), diabetes),
        Kind("linear", "RidgeCV", linear_model.RidgeCV, diabetes),
        Kind("linear", "RidgeClassifierCV", linear_model.RidgeClassifierCV, wine),
        Kind("linear", "SGDRegressor", lambda: linear_model.SGDRegressor(**SEED), diabetes),
        Kind("linear", "TheilSenRegressor", lambda: linear_model.TheilSenRegressor(max_subpopulation=100, **SEED), diabetes),
        Kind("linear", "TweedieRegressor", lambda: linear_model.TweedieRegressor(power=1.5), diabetes),
        Kind("linear", "IsotonicRegression", lambda: isotonic.IsotonicRegression(out_of_bounds="clip"), petal),
        Kind("support vectors", "NuSVR", svm.NuSVR, diabetes),
        Kind("support vectors", "KernelRidge", lambda: kernel_ridge.KernelRidge(kernel="rbf"), diabetes),
        Kind("support vectors", "SVC, probabilities", lambda: scaled(svm.SVC(probability=True, **SEED)), wine),
        Kind("neighbours", "NearestCentroid", neighbors.NearestCentroid, wine),
        Kind("neighbours", "KNeighborsClassifier, weights by distance", lambda: scaled(neighbors.KNeighborsClassifier(weights="distance")), wine),
        Kind("neighbours", "RadiusNeighborsClassifier", lambda: scaled(neighbors.RadiusNeighborsClassifier(5.0, outlier_label=0)), wine),
        Kind("neighbours", "RadiusNeighborsRegressor", lambda: scaled(neighbors.RadiusNeighborsRegressor(5.0)), diabetes),
        Kind("neighbours", "KNeighborsTransformer", neighbors.KNeighborsTransformer, wine),
        Kind("neighbours", "RadiusNeighborsTransformer", lambda: neighbors.RadiusNeighborsTransformer(radius=50.0), wine),
        Kind("naive Bayes", "CategoricalNB", naive_bayes.CategoricalNB, rounded),
        Kind("processes", "GaussianProcessClassifier", lambda: gaussian_process.GaussianProcessClassifier(**SEED), iris),
        Kind("dummies", "DummyClassifier", dummy.DummyClassifier, wine, missing=True),
        Kind("dummies", "DummyRegressor", dummy.DummyRegressor, diabetes, missing=True),
    ]  # fmt: skip


def _combined() -> list[Kind]:
    return [
        Kind("trees", "ExtraTreeRegressor", lambda: tree.ExtraTreeRegressor(**SEED), diabetes, **NARROW),
        Kind("combinations", "BaggingRegressor", lambda: ensemble.BaggingRegressor(**SEED), diabetes, **NARROW),
        Kind("combinations", "VotingClassifier, hard", lambda: ensemble.VotingClassifier([("a", logistic()), ("b", naive_bayes.GaussianNB())]), blobs),
        Kind("combinations", "OutputCodeClassifier", lambda: multiclass.OutputCodeClassifier(logistic(), **SEED), blobs),
        Kind("combinations", "RandomizedSearchCV", lambda: model_selection.RandomizedSearchCV(logistic(), SEARCHED, n_iter=2, **SEED), blobs),
        Kind("combinations", "HalvingGridSearchCV", lambda: model_selection.HalvingGridSearchCV(logistic(), SEARCHED, **SEED), blobs),
        Kind("combinations", "HalvingRandomSearchCV", lambda: model_selection.HalvingRandomSearchCV(logistic(), SEARCHED, n_candidates=2, **SEED), blobs),
        Kind("combinations", "SelfTrainingClassifier", lambda: semi_supervised.SelfTrainingClassifier(logistic()), blobs),
        Kind("combinations", "TransformedTargetRegressor, log1p", lambda: compose.TransformedTargetRegressor(linear_model.Ridge(), func=np.log1p, inverse_func=np.expm1), diabetes),
        Kind("combinations", "TransformedTargetRegressor, PowerTransformer", lambda: compose.TransformedTargetRegressor(linear_model.Ridge(), transformer=preprocessing.PowerTransformer()), diabetes),
        Kind("combinations", "LabelPropagation", semi_supervised.LabelPropagation, blobs),
        Kind("combinations", "LabelSpreading", semi_supervised.LabelSpreading, blobs),
        Kind("calibrated", "CalibratedClassifierCV, isotonic", lambda: calibration.CalibratedClassifierCV(logistic(), method="isotonic", cv=3), blobs),
        Kind("calibrated", "CalibratedClassifierCV, temperature", lambda: calibration.CalibratedClassifierCV(logistic(), method="temperature", cv=3), blobs),
        Kind("several outputs", "ClassifierChain", lambda: scaled(multioutput.ClassifierChain(logistic())), two_labels),
        Kind("several outputs", "RegressorChain", lambda: multioutput.RegressorChain(linear_model.Ridge()), two_targets),
        Kind("several outputs", "KNeighborsClassifier", lambda: scaled(neighbors.KNeighborsClassifier()), two_labels),
        Kind("clusters", "Birch", lambda: cluster.Birch(n_clusters=3), blobs),
        Kind("clusters", "BisectingKMeans", lambda: cluster.BisectingKMeans(3, **SEED), blobs),
        Kind("clusters", "MeanShift", lambda: cluster.MeanShift(bin_seeding=True), blobs),
        Kind("clusters", "AffinityPropagation", lambda: cluster.AffinityPropagation(**SEED), iris),
        Kind("clusters", "BayesianGaussianMixture", lambda: mixture.BayesianGaussianMixture(n_components=3, **SEED), blobs),
        Kind("outliers", "EllipticEnvelope", lambda: covariance.EllipticEnvelope(**SEED), blobs),
        Kind("outliers", "LocalOutlierFactor", lambda: scaled(neighbors.LocalOutlierFactor(novelty=True)), wine),
        Kind("outliers", "SGDOneClassSVM", lambda: scaled(linear_model.SGDOneClassSVM(**SEED)), wine),
    ]  # fmt: skip


def _steps() -> list[Kind]:
    chosen = feature_selection
    return [
        Kind("gaps", "SimpleImputer", impute.SimpleImputer, wine_holes, missing=True),
        Kind("gaps", "SimpleImputer, add_indicator", lambda: impute.SimpleImputer(add_indicator=True), wine_holes, missing=True),
        Kind("gaps", "KNNImputer", impute.KNNImputer, wine_holes, missing=True),
        Kind("gaps", "IterativeImputer", lambda: impute.IterativeImputer(max_iter=3, **SEED), wine_holes, missing=True),
        Kind("gaps", "MissingIndicator", lambda: before(impute.MissingIndicator(features="all")), wine_holes, missing=True),
        Kind("encoders", "OneHotEncoder, min_frequency", lambda: words(preprocessing.OneHotEncoder(min_frequency=60, handle_unknown="infrequent_if_exist")), three_words, missing=True),
        Kind("encoders", "OrdinalEncoder, gaps and unknown words", lambda: words(preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)), three_words, missing=True),
        Kind("encoders", "TargetEncoder", lambda: words(preprocessing.TargetEncoder(**SEED)), three_words, missing=True),
        Kind("transformers", "Binarizer", lambda: preprocessing.Binarizer(threshold=1.0), wine),
        Kind("transformers", "FunctionTransformer, log1p", lambda: preprocessing.FunctionTransformer(np.log1p), positive, missing=True),
        Kind("transformers", "KBinsDiscretizer", lambda: before(preprocessing.KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf")), wine),
        Kind("transformers", "MaxAbsScaler", preprocessing.MaxAbsScaler, wine, missing=True),
        Kind("transformers", "MinMaxScaler", preprocessing.MinMaxScaler, wine, missing=True),
        Kind("transformers", "Normalizer", preprocessing.Normalizer, wine),
        Kind("transformers", "PolynomialFeatures", preprocessing.PolynomialFeatures, iris),
        Kind("transformers", "QuantileTransformer", lambda: preprocessing.QuantileTransformer(n_quantiles=50), wine, missing=True),
        Kind("transformers", "QuantileTransformer, normal", lambda: preprocessing.QuantileTransformer(n_quantiles=50, output_distribution="normal"), wine, missing=True),
        Kind("transformers", "RobustScaler", preprocessing.RobustScaler, wine, missing=True),
        Kind("transformers", "SplineTransformer", preprocessing.SplineTransformer, iris),
        Kind("projections", "BernoulliRBM", lambda: make_pipeline(preprocessing.MinMaxScaler(), neural_network.BernoulliRBM(4, n_iter=3, **SEED)), wine),
        Kind("projections", "FactorAnalysis", lambda: decomposition.FactorAnalysis(3, **SEED), wine),
        Kind("projections", "FastICA", lambda: decomposition.FastICA(3, **SEED), wine),
        Kind("projections", "IncrementalPCA", lambda: decomposition.IncrementalPCA(3), wine),
        Kind("projections", "FeatureAgglomeration", lambda: cluster.FeatureAgglomeration(3), wine),
        Kind("projections", "RandomTreesEmbedding", lambda: before(ensemble.RandomTreesEmbedding(5, **SEED)), wine, missing=True),
        Kind("projections", "GaussianRandomProjection", lambda: random_projection.GaussianRandomProjection(3, **SEED), wine),
        Kind("projections", "SparseRandomProjection", lambda: random_projection.SparseRandomProjection(3, **SEED), wine),
        Kind("projections", "NeighborhoodComponentsAnalysis", lambda: scaled(neighbors.NeighborhoodComponentsAnalysis(2, **SEED)), wine),
        Kind("projections", "PLSRegression", lambda: cross_decomposition.PLSRegression(2), two_targets),
        Kind("projections", "PLSCanonical", lambda: cross_decomposition.PLSCanonical(1), two_targets),
        Kind("projections", "CCA", lambda: cross_decomposition.CCA(1), two_targets),
        Kind("projections", "PLSSVD", lambda: cross_decomposition.PLSSVD(1), two_targets),
        Kind("projections", "DictionaryLearning, threshold", lambda: decomposition.DictionaryLearning(3, max_iter=5, transform_algorithm="threshold", **SEED), iris),
        Kind("projections", "MiniBatchDictionaryLearning, threshold", lambda: decomposition.MiniBatchDictionaryLearning(3, max_iter=5, transform_algorithm="threshold", transform_alpha=0.1, split_sign=True, **SEED), iris),
        Kind("projections", "SparseCoder, threshold", lambda: decomposition.SparseCoder(np.eye(4)[:3], transform_algorithm="threshold", transform_alpha=0.1, positive_code=True), iris),
        Kind("kernels", "Nystroem", lambda: scaled(kernel_approximation.Nystroem(n_components=20, **SEED)), wine),
        Kind("kernels", "RBFSampler", lambda: scaled(kernel_approximation.RBFSampler(**SEED)), wine),
        Kind("selection", "GenericUnivariateSelect", chosen.GenericUnivariateSelect, wine),
        Kind("selection", "SelectPercentile", chosen.SelectPercentile, wine),
        Kind("selection", "SelectFpr", chosen.SelectFpr, wine),
        Kind("selection", "SelectFdr", chosen.SelectFdr, wine),
        Kind("selection", "SelectFwe", chosen.SelectFwe, wine),
        Kind("selection", "SelectFromModel", lambda: chosen.SelectFromModel(linear_model.Lasso()), diabetes),
        Kind("selection", "RFE", lambda: chosen.RFE(linear_model.Ridge()), diabetes),
        Kind("selection", "RFECV", lambda: chosen.RFECV(linear_model.Ridge(), cv=3), diabetes),
        Kind("selection", "SequentialFeatureSelector", lambda: chosen.SequentialFeatureSelector(linear_model.Ridge(), n_features_to_select=2, cv=3), diabetes),
        Kind("selection", "VarianceThreshold", lambda: chosen.VarianceThreshold(0.2), iris, missing=True),
        Kind("texts", "TfidfVectorizer, characters", lambda: before(text.TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3), max_features=500)), docstrings, "string"),
        Kind("texts", "TfidfTransformer", lambda: make_pipeline(text.CountVectorizer(), text.TfidfTransformer(), logistic()), docstrings, "string"),
        Kind("texts", "HashingVectorizer", lambda: before(text.HashingVectorizer(n_features=2**10)), docstrings, "string"),
    ]  # fmt: skip


def _boosting() -> list[Kind]:
    import catboost
    import lightgbm
    import xgboost

    quiet = {"iterations": 20, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
    queries = np.arange(170) // 10
    return [
        Kind("XGBoost", "XGBRFRegressor", lambda: xgboost.XGBRFRegressor(**TREES), diabetes, **NARROW),
        Kind("XGBoost", "XGBRanker", lambda: Ranked(xgboost.XGBRanker(**TREES), qid=queries), tens, **NARROW),
        Kind("XGBoost", "XGBRegressor, two targets", lambda: xgboost.XGBRegressor(**TREES), two_targets, **NARROW),
        Kind("LightGBM", "LGBMRanker", lambda: Ranked(lightgbm.LGBMRanker(verbose=-1, **TREES), group=[10] * 17), tens, missing=True),
        Kind("LightGBM", "LGBMRegressor, linear_tree", lambda: lightgbm.LGBMRegressor(verbose=-1, linear_tree=True, **TREES), diabetes, missing=True),
        Kind("CatBoost", "CatBoostClassifier, cat_features", lambda: catboost.CatBoostClassifier(cat_features=["island"], **quiet), islands, numbers="float32"),
        Kind("CatBoost", "CatBoostRegressor, MultiRMSE", lambda: catboost.CatBoostRegressor(loss_function="MultiRMSE", **quiet), two_targets, **NARROW),
        Kind("CatBoost", "CatBoostRanker", lambda: Ranked(catboost.CatBoostRanker(**quiet), group_id=queries), tens, **NARROW),
    ]  # fmt: skip


MORE_KINDS = [
    *_linear(),
    *_combined(),
    *_steps(),
    *(_boosting() if all(map(find_spec, ("xgboost", "lightgbm", "catboost"))) else []),
]
ALL_KINDS = sorted([*KINDS, *MORE_KINDS], key=lambda kind: FAMILIES.index(kind.family))


def refused_options(kind: Kind) -> str:
    """What docs/howto/save/refused.md says is refused of a class, for the first kind of that class."""
    name = class_of(kind)
    if next(other for other in ALL_KINDS if class_of(other) == name) is not kind:
        return ""
    return "; ".join(each.what for each in REFUSALS if each.kind == name)


def class_of(kind: Kind) -> str:
    return kind.name.partition(",")[0]


def table() -> str:
    """The table of docs/reference/what_converts.md."""
    lines = [
        "| family | kind | numbers computed in | missing values | options that are refused |",
        "| --- | --- | --- | --- | --- |",
    ]
    for kind in ALL_KINDS:
        cells = [
            kind.family,
            kind.name,
            kind.numbers,
            "yes" if kind.missing else "no",
            refused_options(kind),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
