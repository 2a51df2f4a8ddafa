"""Everyday pipelines over tables of numbers, some with gaps: what tutorials and competitions fit."""

from __future__ import annotations

import numpy as np
from benchmarks.conversion import rows
from benchmarks.conversion.everyday import Everyday
from sklearn import (
    cluster,
    covariance,
    cross_decomposition,
    decomposition,
    discriminant_analysis,
    dummy,
    ensemble,
    feature_selection,
    gaussian_process,
    isotonic,
    kernel_approximation,
    kernel_ridge,
    linear_model,
    mixture,
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
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - it lets HalvingGridSearchCV be imported
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.model_selection import (
    FixedThresholdClassifier,
    HalvingGridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    PolynomialFeatures,
    PowerTransformer,
    StandardScaler,
)

SEED = {"random_state": 0}
FEW = {"max_iter": 15, "random_state": 0}


def logistic(**options):
    return linear_model.LogisticRegression(max_iter=2_000, **options)


def forest(trees=20, **options):
    return ensemble.RandomForestClassifier(trees, **SEED, **options)


def boosting(**options):
    return ensemble.HistGradientBoostingClassifier(**FEW, **options)


def scaled(*steps):
    return make_pipeline(StandardScaler(), *steps)


def calibrated(model, method, **options):
    return CalibratedClassifierCV(model, method=method, cv=3, **options)


def squares(X):
    """A function of the user's own that knows the array API."""
    namespace = X.__array_namespace__() if hasattr(X, "__array_namespace__") else np
    return namespace.sqrt(X * X + 1.0)


def shared(X, y):
    return feature_selection.mutual_info_classif(X, y, **SEED)


class Held:
    """A model that was fitted before, calibrated on other rows."""

    def fit(self, X, y):
        half = len(X) // 2
        known = FrozenEstimator(forest(10).fit(X[:half], y[:half]))
        return CalibratedClassifierCV(known, method="sigmoid").fit(X[half:], y[half:])


FIGURES = [
    Everyday("iris: logistic", logistic, rows.iris_frame),
    Everyday("iris: tree", lambda: tree.DecisionTreeClassifier(**SEED), rows.iris),
    Everyday("iris: nearest neighbours", lambda: scaled(neighbors.KNeighborsClassifier()), rows.iris),
    Everyday("iris: Gaussian naive Bayes", naive_bayes.GaussianNB, rows.iris_frame),
    Everyday("iris: SVC with probabilities", lambda: scaled(svm.SVC(probability=True, **SEED)), rows.iris),
    Everyday("iris: linear discriminants", discriminant_analysis.LinearDiscriminantAnalysis, rows.iris),
    Everyday("iris: k-means", lambda: cluster.KMeans(3, n_init=3, **SEED), rows.iris),
    Everyday("iris: Gaussian mixture", lambda: mixture.GaussianMixture(3, **SEED), rows.iris),
    Everyday("iris: PCA", lambda: decomposition.PCA(2), rows.iris_frame),
    Everyday("iris: Gaussian process", lambda: gaussian_process.GaussianProcessClassifier(**SEED), rows.iris),
    Everyday("iris: one against one", lambda: multiclass.OneVsOneClassifier(svm.LinearSVC(**SEED)), rows.iris),
    Everyday("iris: label by nearest centroid", lambda: scaled(neighbors.NearestCentroid()), rows.iris),
    Everyday("wine: forest, even number of trees", lambda: forest(50), rows.wine),
    Everyday("wine: forest with gaps", forest, rows.wine_gaps),
    Everyday("wine: filled, scaled -> logistic", lambda: make_pipeline(SimpleImputer(), StandardScaler(), logistic()), rows.wine_gaps),
    Everyday("wine: HistGradientBoosting with gaps", boosting, rows.wine_gaps),
    Everyday("wine: PCA -> SVC", lambda: scaled(decomposition.PCA(5), svm.SVC()), rows.wine),
    Everyday("wine: quadratic discriminants", lambda: scaled(discriminant_analysis.QuadraticDiscriminantAnalysis(reg_param=0.1)), rows.wine_frame),
    Everyday("wine: extra trees", lambda: ensemble.ExtraTreesClassifier(30, **SEED), rows.wine),
    Everyday("wine: AdaBoost", lambda: ensemble.AdaBoostClassifier(n_estimators=15, **SEED), rows.wine),
    Everyday("wine: bagged neighbours", lambda: ensemble.BaggingClassifier(neighbors.KNeighborsClassifier(), **SEED), rows.wine),
    Everyday("wine: classifier chain", lambda: scaled(multioutput.ClassifierChain(logistic())), rows.wine_labels),
    Everyday("wine: forest of several labels", lambda: forest(20), rows.wine_labels),
    Everyday("wine: neighbours of several labels", lambda: scaled(neighbors.KNeighborsClassifier()), rows.wine_labels),
    Everyday("wine: a model a label", lambda: scaled(multioutput.MultiOutputClassifier(logistic())), rows.wine_labels),
    Everyday("wine: one against the rest, several labels", lambda: scaled(multiclass.OneVsRestClassifier(logistic())), rows.wine_labels),
    Everyday("wine: RFE -> logistic", lambda: scaled(feature_selection.RFE(logistic(), n_features_to_select=5), logistic()), rows.wine_frame),
    Everyday("wine: sequential selection", lambda: scaled(feature_selection.SequentialFeatureSelector(neighbors.KNeighborsClassifier(), n_features_to_select=3, cv=3), neighbors.KNeighborsClassifier()), rows.wine),
    Everyday("wine: Fisher's projection -> logistic", lambda: scaled(neighbors.NeighborhoodComponentsAnalysis(n_components=2, **SEED), logistic()), rows.wine),
    Everyday("wine: ICA -> logistic", lambda: scaled(decomposition.FastICA(4, **SEED), logistic()), rows.wine),
    Everyday("tumours: logistic", lambda: scaled(logistic()), rows.cancer),
    Everyday("tumours: true or false -> SGD, modified Huber", lambda: scaled(linear_model.SGDClassifier(loss="modified_huber", **SEED)), rows.cancer_true_false),
    Everyday("tumours: labels 0.0 and 1.0", lambda: scaled(logistic()), rows.cancer_floats),
    Everyday("tumours: gradient boosting", lambda: ensemble.GradientBoostingClassifier(n_estimators=30, **SEED), rows.cancer_frame),
    Everyday("tumours: HistGradientBoosting of one decimal", boosting, rows.cancer_gaps),
    Everyday("tumours: linear SVC with sigmoids", lambda: scaled(calibrated(svm.LinearSVC(**SEED), "sigmoid")), rows.cancer),
    Everyday("tumours: forest with isotonic calibration", lambda: calibrated(forest(10), "isotonic"), rows.cancer),
    Everyday("tumours: boosting with sigmoids", lambda: calibrated(boosting(), "sigmoid", ensemble=False), rows.cancer),
    Everyday("tumours: temperature", lambda: scaled(calibrated(logistic(), "temperature")), rows.cancer),
    Everyday("tumours: a frozen forest, calibrated", Held, rows.cancer),
    Everyday("tumours: isotonic naive Bayes", lambda: calibrated(naive_bayes.GaussianNB(), "isotonic"), rows.cancer),
    Everyday("tumours: threshold 0.3", lambda: FixedThresholdClassifier(scaled(logistic()), threshold=0.3), rows.cancer),
    Everyday("tumours: tuned threshold over a forest", lambda: TunedThresholdClassifierCV(forest(10), cv=3), rows.cancer),
    Everyday("tumours: stacking", lambda: ensemble.StackingClassifier([("a", forest(10)), ("b", boosting()), ("c", scaled(svm.SVC(**SEED)))], logistic(), cv=3), rows.cancer),
    Everyday("tumours: stacking with the rows passed on", lambda: ensemble.StackingClassifier([("a", forest(10)), ("b", scaled(logistic()))], forest(10), cv=3, passthrough=True), rows.cancer),
    Everyday("tumours: soft votes of three", lambda: ensemble.VotingClassifier([("a", forest(10)), ("b", boosting()), ("c", naive_bayes.GaussianNB())], voting="soft", weights=[2, 1, 1]), rows.cancer),
    Everyday("tumours: network", lambda: scaled(neural_network.MLPClassifier((20,), max_iter=300, **SEED)), rows.cancer),
    Everyday("tumours: Nystroem -> linear SVC", lambda: scaled(kernel_approximation.Nystroem(n_components=40, **SEED), svm.LinearSVC(**SEED)), rows.cancer),
    Everyday("tumours: random Fourier features -> SGD", lambda: scaled(kernel_approximation.RBFSampler(**SEED), linear_model.SGDClassifier(**SEED)), rows.cancer),
    Everyday("tumours: isolation forest", lambda: ensemble.IsolationForest(n_estimators=20, **SEED), rows.cancer),
    Everyday("tumours: one-class SVM", lambda: scaled(svm.OneClassSVM(nu=0.1)), rows.cancer),
    Everyday("tumours: local outlier factor", lambda: scaled(neighbors.LocalOutlierFactor(novelty=True)), rows.cancer),
    Everyday("tumours: elliptic envelope", lambda: scaled(decomposition.PCA(4), covariance.EllipticEnvelope(**SEED)), rows.cancer),
    Everyday("tumours: SGD outliers", lambda: scaled(linear_model.SGDOneClassSVM(nu=0.1, **SEED)), rows.cancer),
    Everyday("tumours: passive-aggressive hinge", lambda: scaled(linear_model.Perceptron(**SEED)), rows.cancer),
    Everyday("tumours: log of the columns -> logistic", lambda: make_pipeline(FunctionTransformer(np.log1p), StandardScaler(), logistic()), rows.cancer),
    Everyday("tumours: a function of my own -> logistic", lambda: make_pipeline(FunctionTransformer(squares), StandardScaler(), logistic()), rows.cancer),
    Everyday("tumours: absolute values, clipped -> forest", lambda: make_pipeline(FunctionTransformer(np.abs), FunctionTransformer(np.clip, kw_args={"a_min": 0.0, "a_max": 500.0}), forest(10)), rows.cancer),
    Everyday("tumours: prior", lambda: dummy.DummyClassifier(strategy="prior"), rows.cancer),
    Everyday("digits: SVC", lambda: svm.SVC(gamma=0.001), rows.digits),
    Everyday("digits: forest", lambda: forest(20), rows.digits),
    Everyday("digits: PCA -> neighbours", lambda: make_pipeline(decomposition.PCA(15), neighbors.KNeighborsClassifier(3)), rows.digits),
    Everyday("digits: network", lambda: make_pipeline(preprocessing.MinMaxScaler(), neural_network.MLPClassifier((32,), max_iter=100, **SEED)), rows.digits),
    Everyday("digits: NMF -> logistic", lambda: make_pipeline(decomposition.NMF(8, max_iter=100, **SEED), logistic()), rows.digits, refused="changes with the others"),
    Everyday("digits: multinomial naive Bayes", naive_bayes.MultinomialNB, rows.digits),
    Everyday("digits: normalized rows -> ridge", lambda: make_pipeline(preprocessing.Normalizer(), linear_model.RidgeClassifier()), rows.digits),
    Everyday("digits: random projection -> logistic", lambda: make_pipeline(random_projection.GaussianRandomProjection(20, **SEED), logistic()), rows.digits),
    Everyday("digits: mini-batch k-means", lambda: cluster.MiniBatchKMeans(10, n_init=1, **SEED), rows.digits),
    Everyday("digits: Birch", lambda: cluster.Birch(n_clusters=10), rows.digits),
    Everyday("digits: kernel PCA -> logistic", lambda: make_pipeline(decomposition.KernelPCA(10, kernel="rbf", gamma=0.001), logistic()), rows.digits),
    Everyday("diabetes: linear", linear_model.LinearRegression, rows.diabetes_raw),
    Everyday("diabetes: polynomials -> ridge", lambda: make_pipeline(StandardScaler(), PolynomialFeatures(2), linear_model.Ridge()), rows.diabetes_raw),
    Everyday("diabetes: lasso", lambda: scaled(linear_model.Lasso()), rows.diabetes),
    Everyday("diabetes: Bayesian ridge", linear_model.BayesianRidge, rows.diabetes),
    Everyday("diabetes: Theil-Sen", lambda: linear_model.TheilSenRegressor(max_subpopulation=200, **SEED), rows.diabetes),
    Everyday("diabetes: RANSAC", lambda: linear_model.RANSACRegressor(**SEED), rows.diabetes),
    Everyday("diabetes: quantile", lambda: linear_model.QuantileRegressor(quantile=0.9, alpha=0.01), rows.diabetes),
    Everyday("diabetes: SVR", lambda: scaled(svm.SVR(C=50)), rows.diabetes),
    Everyday("diabetes: kernel ridge", lambda: scaled(kernel_ridge.KernelRidge(kernel="rbf")), rows.diabetes),
    Everyday("diabetes: Gaussian process", lambda: gaussian_process.GaussianProcessRegressor(alpha=1.0), rows.diabetes),
    Everyday("diabetes: partial least squares", lambda: cross_decomposition.PLSRegression(3), rows.diabetes),
    Everyday("diabetes: neighbours by distance, years and decimals", lambda: scaled(neighbors.KNeighborsRegressor(weights="distance")), rows.diabetes_raw),
    Everyday("diabetes: forest of decimals with gaps", lambda: ensemble.RandomForestRegressor(20, **SEED), rows.diabetes_gaps),
    Everyday("diabetes: gradient boosting, quantile loss", lambda: ensemble.GradientBoostingRegressor(loss="quantile", n_estimators=20, **SEED), rows.diabetes_raw),
    Everyday("diabetes: HistGradientBoosting, Poisson", lambda: ensemble.HistGradientBoostingRegressor(loss="poisson", **FEW), rows.diabetes_raw),
    Everyday("diabetes: HistGradientBoosting, gamma", lambda: ensemble.HistGradientBoostingRegressor(loss="gamma", **FEW), rows.diabetes_gaps),
    Everyday("diabetes: HistGradientBoosting, quantile", lambda: ensemble.HistGradientBoostingRegressor(loss="quantile", quantile=0.8, **FEW), rows.diabetes_gaps),
    Everyday("diabetes: Box-Cox target", lambda: TransformedTargetRegressor(linear_model.Ridge(), transformer=PowerTransformer(method="box-cox")), rows.diabetes),
    Everyday("diabetes: square root of the target", lambda: TransformedTargetRegressor(scaled(linear_model.Ridge()), func=np.sqrt, inverse_func=np.square), rows.diabetes),
    Everyday("diabetes: two targets, ridge", linear_model.Ridge, rows.diabetes_two),
    Everyday("diabetes: two targets, a boosting each", lambda: multioutput.MultiOutputRegressor(ensemble.HistGradientBoostingRegressor(**FEW)), rows.diabetes_two),
    Everyday("diabetes: two targets, chain", lambda: multioutput.RegressorChain(linear_model.Ridge()), rows.diabetes_two),
    Everyday("diabetes: two targets, forest", lambda: ensemble.RandomForestRegressor(20, **SEED), rows.diabetes_two),
    Everyday("diabetes: union of PCA and scaled columns", lambda: make_pipeline(FeatureUnion([("pca", decomposition.PCA(3)), ("all", StandardScaler())]), linear_model.Ridge()), rows.diabetes),
    Everyday("diabetes: power transform alone", PowerTransformer, rows.diabetes_raw),
    Everyday("diabetes: clusters as distances -> ridge", lambda: scaled(cluster.KMeans(5, n_init=1, **SEED), linear_model.Ridge()), rows.diabetes),
    Everyday("diabetes: bins one-hot -> ridge", lambda: make_pipeline(preprocessing.KBinsDiscretizer(6, quantile_method="averaged_inverted_cdf"), linear_model.Ridge()), rows.diabetes_raw),
    Everyday("bodies: two targets, canonical correlation", lambda: cross_decomposition.CCA(1), rows.body),
    Everyday("cars to share: neighbours on a map", lambda: neighbors.KNeighborsRegressor(3), rows.carshare),
    Everyday("cars to share: isotonic by hour", lambda: make_pipeline(FunctionTransformer(np.asarray), isotonic.IsotonicRegression(out_of_bounds="clip")), lambda: last_column(rows.carshare())),
    Everyday("biopsies: whole numbers with gaps -> HistGradientBoosting", boosting, rows.biopsy),
    Everyday("diabetes of the Pima: filled -> logistic", lambda: make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler(), logistic()), rows.pima),
    Everyday("diabetes of the Pima: bagged trees", lambda: make_pipeline(SimpleImputer(), ensemble.BaggingClassifier(**SEED)), rows.pima),
    Everyday("diabetes: network", lambda: scaled(neural_network.MLPRegressor(hidden_layer_sizes=(20,), max_iter=300, **SEED)), rows.diabetes),
    Everyday("diabetes: linear SVR", lambda: scaled(svm.LinearSVR(**SEED)), rows.diabetes),
    Everyday("diabetes: nu SVR, polynomial kernel", lambda: scaled(svm.NuSVR(kernel="poly")), rows.diabetes),
    Everyday("diabetes: ARD", linear_model.ARDRegression, rows.diabetes),
    Everyday("diabetes: least angles", linear_model.Lars, rows.diabetes),
    Everyday("diabetes: orthogonal matching pursuit", linear_model.OrthogonalMatchingPursuit, rows.diabetes),
    Everyday("diabetes: two targets, multi-task lasso", linear_model.MultiTaskLasso, rows.diabetes_two),
    Everyday("diabetes: bagged SVR", lambda: ensemble.BaggingRegressor(scaled(svm.SVR(C=50)), n_estimators=5, **SEED), rows.diabetes),
    Everyday("diabetes: AdaBoost of deep trees", lambda: ensemble.AdaBoostRegressor(tree.DecisionTreeRegressor(max_depth=6), n_estimators=10, **SEED), rows.diabetes_raw),
    Everyday("diabetes: extra trees", lambda: ensemble.ExtraTreesRegressor(20, **SEED), rows.diabetes_raw),
    Everyday("diabetes: monotone HistGradientBoosting", lambda: ensemble.HistGradientBoostingRegressor(monotonic_cst={"bmi": 1}, **FEW), rows.diabetes_raw),
    Everyday("diabetes: stack of four", lambda: ensemble.StackingRegressor([("a", linear_model.LassoCV(cv=3)), ("b", scaled(svm.SVR())), ("c", neighbors.KNeighborsRegressor()), ("d", ensemble.ExtraTreesRegressor(10, **SEED))], linear_model.RidgeCV(), cv=3), rows.diabetes),
    Everyday("diabetes: RFECV", lambda: feature_selection.RFECV(linear_model.Ridge(), cv=3), rows.diabetes_raw),
    Everyday("diabetes: median", lambda: dummy.DummyRegressor(strategy="median"), rows.diabetes),
    Everyday("diabetes: neighbours within a radius", lambda: scaled(neighbors.RadiusNeighborsRegressor(radius=4.0)), rows.diabetes),
    Everyday("wine: a search that halves", lambda: HalvingGridSearchCV(forest(10), {"max_depth": [2, 4]}, cv=3, **SEED), rows.wine),
    Everyday("wine: shrunken discriminants", lambda: discriminant_analysis.LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"), rows.wine),
    Everyday("wine: error-correcting codes", lambda: scaled(multiclass.OutputCodeClassifier(logistic(), **SEED)), rows.wine),
    Everyday("wine: one against the rest, SVC", lambda: scaled(multiclass.OneVsRestClassifier(svm.SVC(**SEED))), rows.wine),
    Everyday("wine: factor analysis -> discriminants", lambda: scaled(decomposition.FactorAnalysis(3, **SEED), discriminant_analysis.LinearDiscriminantAnalysis()), rows.wine),
    Everyday("wine: percentile by mutual information", lambda: feature_selection.SelectPercentile(shared, percentile=30), rows.wine),
    Everyday("tumours: leaves of trees -> logistic", lambda: make_pipeline(ensemble.RandomTreesEmbedding(10, max_depth=3, **SEED), logistic()), rows.cancer),
    Everyday("tumours: whitened PCA -> RBF SVC with probabilities", lambda: scaled(decomposition.PCA(0.95, whiten=True), svm.SVC(probability=True, **SEED)), rows.cancer),
    Everyday("tumours: quantile bins -> categorical naive Bayes", lambda: make_pipeline(preprocessing.KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf"), naive_bayes.CategoricalNB()), rows.cancer),
    Everyday("tumours: votes of calibrated models", lambda: ensemble.VotingClassifier([("a", calibrated(naive_bayes.GaussianNB(), "sigmoid")), ("b", calibrated(forest(10), "isotonic"))], voting="soft"), rows.cancer),
    Everyday("tumours: boosting on top of logistic", lambda: ensemble.GradientBoostingClassifier(init=logistic(), n_estimators=15, **SEED), rows.cancer, refused="computes in float32"),
    Everyday("iris: labels spread", semi_supervised.LabelSpreading, rows.iris),
    Everyday("iris: taught by itself", lambda: semi_supervised.SelfTrainingClassifier(logistic()), rows.iris),
]  # fmt: skip


def last_column(data):
    X, y = data
    return X.iloc[:, -1:], y
