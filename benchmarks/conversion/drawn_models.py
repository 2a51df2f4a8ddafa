"""Models drawn at random: steps, estimators and their options, fitted with what they were drawn for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from catboost import CatBoostClassifier, CatBoostRegressor
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn import (
    calibration,
    cluster,
    covariance,
    decomposition,
    discriminant_analysis,
    dummy,
    ensemble,
    feature_selection,
    gaussian_process,
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
    svm,
    tree,
)
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.cross_decomposition import PLSRegression
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from xgboost import XGBClassifier, XGBRegressor

if TYPE_CHECKING:
    from benchmarks.conversion.drawn_rows import Drawn

Rng = np.random.Generator
Draw = Callable[[Rng], Any]
SEED = {"random_state": 0}
EITHER = (True, False)
QUICK = {**SEED, "verbose": 0, "allow_writing_files": False}


def one(rng: Rng, *values: Any) -> Any:
    """One of some values, with equal chances."""
    return values[rng.integers(len(values))]


# Functions of columns of numbers, as notebooks have them.


def log(X):
    return np.log1p(np.abs(X))


def root(X):
    return np.sqrt(np.abs(X))


def rounded(X):
    return np.round(X, 1)


def clipped(X):
    return np.clip(X, -1.5, 2.5)


def cyclic(X):
    return np.hstack(
        [np.sin(2 * np.pi * np.asarray(X) / 24), np.cos(2 * np.pi * np.asarray(X) / 24)]
    )


def ratio(X):
    X = np.asarray(X)
    return np.column_stack([X, X[:, 0] / (1 + np.abs(X[:, -1]))])


def totals(X):
    X = np.asarray(X)
    return np.c_[X, X.sum(axis=1), X.max(axis=1) - X.min(axis=1)]


def where_positive(X):
    X = np.asarray(X)
    return np.where(X > 0, X, -0.5 * X)


def floored(X):
    return np.floor(np.asarray(X) / 2)


def digitized(X):
    return np.digitize(np.asarray(X), [-1, 0, 0.5, 3, 10, 100])


def each_row(X):
    X = np.asarray(X)
    return np.column_stack(
        [X.mean(axis=1), X.std(axis=1), np.median(X, axis=1), X.argmax(axis=1), (X > 0).sum(axis=1)]
    )


def written(X):
    X = np.array(X, dtype=float)
    X[X < 0] = 0
    X[:, 0] = X[:, 0] * 2 + 1
    X[:, -1] += X[:, 0]
    return X


def selected(X):
    X = np.asarray(X)
    return np.select([X < -1, X < 0, X > 7], [X - 1, X * X, 7], default=X // 3)


FUNCTIONS = (
    *(log, root, rounded, clipped, cyclic, ratio, totals, where_positive, floored),
    *(digitized, each_row, written, selected),
)


# Functions of frames of numbers.


def assigned(X):
    first, last = X.columns[0], X.columns[-1]
    return X.assign(both=X[first] * X[last], high=X[first] > 1, share=X[first] / (1 + X[last] ** 2))


def cut(X):
    X = X.copy()
    X["part"] = pd.cut(X.iloc[:, 0], [-np.inf, 0, 2, 10, np.inf], labels=False)
    X.loc[X.iloc[:, 0] < 0, "part"] = -1
    return X


def sums(X):
    return pd.concat([X, X.sum(axis=1).rename("sum"), X.max(axis=1).rename("max")], axis=1)


FRAME_FUNCTIONS = (assigned, cut, sums)


# Functions of frames of dates.


def calendar(X):
    fields = ("year", "month", "day", "hour", "dayofweek", "dayofyear", "quarter")
    return pd.DataFrame({f"{at} {name}": getattr(X[at].dt, name) for at in X for name in fields})


def clock(X):
    hour = X.iloc[:, 0].dt.hour + X.iloc[:, 0].dt.minute / 60
    return np.column_stack([np.sin(2 * np.pi * hour / 24), np.cos(2 * np.pi * hour / 24)])


def age(X):
    return X.apply(lambda day: (pd.Timestamp("2026-01-01") - day).dt.total_seconds() / 86_400)


def days(X):
    first, last = X.iloc[:, 0], X.iloc[:, -1]
    return pd.DataFrame({"days": (last - first).dt.days, "old": last < pd.Timestamp("2022-07-01")})


def weekend(X):
    return (X.iloc[:, 0].dt.day_of_week >= 5).to_frame().astype(int)


def edges(X):
    day = X.iloc[:, 0]
    return pd.DataFrame(
        {
            "first": day.dt.is_month_start,
            "last": day.dt.is_month_end,
            "leap": day.dt.is_leap_year,
            "length": day.dt.days_in_month,
            "week": day.dt.isocalendar().week.astype(float),
            "part": (day - day.dt.normalize()).dt.total_seconds(),
        }
    )


DATE_FUNCTIONS = (calendar, clock, age, days, weekend, edges)

SCALERS: list[Draw] = [
    lambda rng: preprocessing.StandardScaler(with_mean=one(rng, *EITHER)),
    lambda rng: preprocessing.MinMaxScaler(clip=one(rng, *EITHER)),
    lambda _: preprocessing.MaxAbsScaler(),
    lambda rng: preprocessing.RobustScaler(quantile_range=one(rng, (25, 75), (10, 90))),
    lambda rng: preprocessing.Normalizer(norm=one(rng, "l1", "l2", "max")),
    lambda _: preprocessing.PowerTransformer(),
    lambda rng: preprocessing.QuantileTransformer(
        n_quantiles=50, output_distribution=one(rng, "uniform", "normal"), **SEED
    ),
    lambda rng: preprocessing.FunctionTransformer(one(rng, *FUNCTIONS)),
]
NUMERIC: list[Draw] = [
    *SCALERS,
    *SCALERS,
    lambda rng: preprocessing.KBinsDiscretizer(
        int(rng.integers(2, 7)),
        encode=one(rng, "onehot", "onehot-dense", "ordinal"),
        strategy=one(rng, "uniform", "quantile"),
        quantile_method="averaged_inverted_cdf",
    ),
    lambda rng: preprocessing.SplineTransformer(
        4,
        int(rng.integers(1, 4)),
        extrapolation=one(rng, "constant", "linear", "continue", "periodic"),
    ),
    lambda rng: preprocessing.PolynomialFeatures(2, interaction_only=one(rng, *EITHER)),
    lambda rng: preprocessing.Binarizer(threshold=float(rng.normal())),
    lambda rng: decomposition.PCA(2, whiten=one(rng, *EITHER), **SEED),
    lambda _: decomposition.TruncatedSVD(2, **SEED),
    lambda _: decomposition.FastICA(2, max_iter=50, **SEED),
    lambda _: decomposition.FactorAnalysis(2, max_iter=20, **SEED),
    lambda rng: decomposition.KernelPCA(2, kernel=one(rng, "rbf", "linear", "poly"), **SEED),
    lambda _: kernel_approximation.Nystroem(n_components=20, **SEED),
    lambda _: kernel_approximation.RBFSampler(n_components=20, **SEED),
    lambda _: random_projection.GaussianRandomProjection(3, **SEED),
    lambda _: cluster.KMeans(3, n_init=2, **SEED),
    lambda _: cluster.FeatureAgglomeration(2),
    lambda _: feature_selection.VarianceThreshold(0.05),
    lambda rng: FeatureUnion([("a", one(rng, *SCALERS)(rng)), ("b", decomposition.PCA(1, **SEED))]),
    lambda rng: make_pipeline(one(rng, *SCALERS)(rng), one(rng, *SCALERS)(rng)),
]
IMPUTERS: list[Draw] = [
    lambda rng: SimpleImputer(
        strategy=one(rng, "mean", "median", "most_frequent"), add_indicator=one(rng, *EITHER)
    ),
    lambda rng: SimpleImputer(strategy="constant", fill_value=one(rng, 0, -1)),
    lambda rng: KNNImputer(n_neighbors=3, weights=one(rng, "uniform", "distance")),
    lambda _: IterativeImputer(max_iter=2, **SEED),
]
SELECTORS: list[Draw] = [
    lambda _: feature_selection.SelectKBest(k=2),
    lambda _: feature_selection.SelectPercentile(percentile=60),
    lambda _: feature_selection.SelectFromModel(tree.DecisionTreeRegressor(max_depth=3, **SEED)),
]
ENCODERS: list[Draw] = [
    lambda rng: preprocessing.OneHotEncoder(
        handle_unknown=one(rng, "ignore", "infrequent_if_exist"),
        min_frequency=one(rng, None, 0.1),
        sparse_output=one(rng, *EITHER),
    ),
    lambda rng: preprocessing.OneHotEncoder(drop=one(rng, None, "first", "if_binary")),
    lambda _: preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    lambda _: preprocessing.OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=-2
    ),
    lambda _: preprocessing.OrdinalEncoder(),
    lambda _: preprocessing.TargetEncoder(cv=3, **SEED),
]

VECTORIZERS: list[Draw] = [
    lambda rng: TfidfVectorizer(
        ngram_range=one(rng, (1, 1), (1, 2)),
        sublinear_tf=one(rng, *EITHER),
        norm=one(rng, "l2", "l1", None),
    ),
    lambda rng: CountVectorizer(binary=one(rng, *EITHER), min_df=2),
    lambda _: TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3), max_features=60),
]

TREES = {"n_estimators": 8, **SEED}
BOOST = {"n_estimators": 8, "n_jobs": 1}
CLASSIFIERS: list[Draw] = [
    lambda rng: linear_model.LogisticRegression(C=one(rng, 0.1, 1, 10), max_iter=200),
    lambda rng: linear_model.SGDClassifier(
        loss=one(rng, "hinge", "log_loss", "modified_huber"), max_iter=20, tol=None, **SEED
    ),
    lambda _: linear_model.RidgeClassifier(),
    lambda _: svm.LinearSVC(max_iter=200, **SEED),
    lambda rng: svm.SVC(
        kernel=one(rng, "rbf", "linear", "poly", "sigmoid"), break_ties=one(rng, *EITHER)
    ),
    lambda rng: neighbors.KNeighborsClassifier(
        int(rng.integers(1, 8)), weights=one(rng, "uniform", "distance"), p=one(rng, 1, 2)
    ),
    lambda _: neighbors.NearestCentroid(),
    lambda _: naive_bayes.GaussianNB(),
    lambda _: naive_bayes.BernoulliNB(),
    lambda _: discriminant_analysis.LinearDiscriminantAnalysis(),
    lambda _: discriminant_analysis.QuadraticDiscriminantAnalysis(reg_param=0.1),
    lambda rng: tree.DecisionTreeClassifier(max_depth=one(rng, 3, None), **SEED),
    lambda rng: ensemble.RandomForestClassifier(max_depth=one(rng, 4, None), **TREES),
    lambda _: ensemble.ExtraTreesClassifier(**TREES),
    lambda rng: ensemble.GradientBoostingClassifier(subsample=one(rng, 1.0, 0.7), **TREES),
    lambda _: ensemble.HistGradientBoostingClassifier(max_iter=8, **SEED),
    lambda _: ensemble.HistGradientBoostingClassifier(max_iter=8, **SEED),
    lambda _: ensemble.AdaBoostClassifier(**TREES),
    lambda _: ensemble.BaggingClassifier(tree.DecisionTreeClassifier(max_depth=4), 5, **SEED),
    lambda rng: neural_network.MLPClassifier(
        hidden_layer_sizes=(6,),
        activation=one(rng, "relu", "tanh", "logistic"),
        max_iter=20,
        **SEED,
    ),
    lambda _: gaussian_process.GaussianProcessClassifier(optimizer=None, **SEED),
    lambda rng: calibration.CalibratedClassifierCV(
        one(
            rng,
            svm.LinearSVC(max_iter=200, **SEED),
            naive_bayes.GaussianNB(),
            ensemble.RandomForestClassifier(**TREES),
        ),
        method=one(rng, "sigmoid", "isotonic"),
        cv=2,
    ),
    lambda rng: ensemble.VotingClassifier(
        [
            ("a", linear_model.LogisticRegression(max_iter=200)),
            ("b", tree.DecisionTreeClassifier(max_depth=4, **SEED)),
        ],
        voting=one(rng, "hard", "soft"),
    ),
    lambda rng: ensemble.StackingClassifier(
        [("a", naive_bayes.GaussianNB()), ("b", tree.DecisionTreeClassifier(max_depth=4, **SEED))],
        linear_model.LogisticRegression(),
        cv=2,
        passthrough=one(rng, *EITHER),
    ),
    lambda rng: one(rng, multiclass.OneVsRestClassifier, multiclass.OneVsOneClassifier)(
        linear_model.LogisticRegression(max_iter=200)
    ),
    lambda _: model_selection.GridSearchCV(
        tree.DecisionTreeClassifier(**SEED), {"max_depth": [2, 5]}, cv=2
    ),
    lambda _: model_selection.FixedThresholdClassifier(
        linear_model.LogisticRegression(max_iter=200), threshold=0.3
    ),
    lambda rng: XGBClassifier(booster=one(rng, "gbtree", "dart", "gbtree"), max_depth=3, **BOOST),
    lambda _: XGBClassifier(max_depth=4, subsample=0.8, **BOOST),
    lambda rng: LGBMClassifier(
        boosting_type=one(rng, "gbdt", "dart"), min_child_samples=5, verbose=-1, **BOOST
    ),
    lambda _: LGBMClassifier(num_leaves=7, min_child_samples=5, verbose=-1, **BOOST),
    lambda rng: CatBoostClassifier(
        iterations=8,
        depth=3,
        grow_policy=one(rng, "SymmetricTree", "Depthwise"),
        thread_count=1,
        **QUICK,
    ),
    lambda _: dummy.DummyClassifier(),
]
REGRESSORS: list[Draw] = [
    lambda rng: one(rng, linear_model.Ridge, linear_model.LinearRegression, linear_model.Lasso)(),
    lambda _: linear_model.HuberRegressor(max_iter=50),
    lambda _: linear_model.BayesianRidge(),
    lambda rng: svm.SVR(kernel=one(rng, "rbf", "linear", "poly")),
    lambda rng: neighbors.KNeighborsRegressor(3, weights=one(rng, "uniform", "distance")),
    lambda rng: kernel_ridge.KernelRidge(kernel=one(rng, "rbf", "linear", "laplacian")),
    lambda _: gaussian_process.GaussianProcessRegressor(
        alpha=0.1, optimizer=None, normalize_y=True
    ),
    lambda rng: tree.DecisionTreeRegressor(max_depth=one(rng, 3, None), **SEED),
    lambda _: ensemble.RandomForestRegressor(**TREES),
    lambda _: ensemble.ExtraTreesRegressor(**TREES),
    lambda rng: ensemble.GradientBoostingRegressor(
        loss=one(rng, "squared_error", "huber"), **TREES
    ),
    lambda _: ensemble.HistGradientBoostingRegressor(max_iter=8, **SEED),
    lambda _: ensemble.HistGradientBoostingRegressor(max_iter=8, max_leaf_nodes=7, **SEED),
    lambda _: ensemble.AdaBoostRegressor(**TREES),
    lambda _: neural_network.MLPRegressor(hidden_layer_sizes=(6,), max_iter=20, **SEED),
    lambda _: PLSRegression(1),
    lambda _: ensemble.VotingRegressor(
        [("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=4, **SEED))]
    ),
    lambda _: ensemble.StackingRegressor(
        [("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=4, **SEED))], cv=2
    ),
    lambda _: TransformedTargetRegressor(
        linear_model.Ridge(), transformer=preprocessing.StandardScaler()
    ),
    lambda _: XGBRegressor(max_depth=3, **BOOST),
    lambda _: LGBMRegressor(min_child_samples=5, verbose=-1, **BOOST),
    lambda _: CatBoostRegressor(iterations=8, depth=3, thread_count=1, **QUICK),
]
SEVERAL: list[Draw] = [
    lambda _: multioutput.MultiOutputRegressor(linear_model.Ridge()),
    lambda _: multioutput.RegressorChain(linear_model.Ridge()),
    lambda _: ensemble.RandomForestRegressor(**TREES),
    lambda _: linear_model.Ridge(),
    lambda _: multioutput.MultiOutputRegressor(ensemble.HistGradientBoostingRegressor(max_iter=4)),
    lambda _: XGBRegressor(max_depth=3, **BOOST),
]
LABELS: list[Draw] = [
    lambda _: multioutput.MultiOutputClassifier(linear_model.LogisticRegression(max_iter=200)),
    lambda _: multioutput.ClassifierChain(tree.DecisionTreeClassifier(max_depth=4, **SEED)),
    lambda _: ensemble.RandomForestClassifier(**TREES),
    lambda _: multiclass.OneVsRestClassifier(linear_model.LogisticRegression(max_iter=200)),
    lambda _: neighbors.KNeighborsClassifier(3),
]
GROUPS: list[Draw] = [
    lambda rng: one(rng, cluster.KMeans, cluster.MiniBatchKMeans)(4, n_init=2, **SEED),
    lambda _: cluster.BisectingKMeans(4, **SEED),
    lambda _: cluster.Birch(n_clusters=3),
    lambda rng: mixture.GaussianMixture(
        3, covariance_type=one(rng, "full", "tied", "diag", "spherical"), reg_covar=1e-3, **SEED
    ),
    lambda _: mixture.BayesianGaussianMixture(n_components=2, reg_covar=1e-3, max_iter=30, **SEED),
    lambda _: ensemble.IsolationForest(n_estimators=10, contamination=0.1, **SEED),
    lambda _: neighbors.LocalOutlierFactor(novelty=True),
    lambda rng: svm.OneClassSVM(kernel=one(rng, "rbf", "linear"), nu=0.1),
    lambda _: covariance.EllipticEnvelope(support_fraction=0.9, **SEED),
    lambda rng: one(rng, *NUMERIC)(rng),
]
# Models that read columns of categories as they are.
OF_CLASSES: list[Draw] = [
    lambda _: ensemble.HistGradientBoostingClassifier(
        max_iter=8, categorical_features="from_dtype", **SEED
    ),
    lambda _: LGBMClassifier(min_child_samples=5, verbose=-1, **BOOST),
    lambda rng: XGBClassifier(enable_categorical=True, max_cat_to_onehot=one(rng, 1, 4), **BOOST),
]
OF_NUMBERS: list[Draw] = [
    lambda _: ensemble.HistGradientBoostingRegressor(
        max_iter=8, categorical_features="from_dtype", **SEED
    ),
    lambda _: LGBMRegressor(min_child_samples=5, verbose=-1, **BOOST),
    lambda rng: XGBRegressor(enable_categorical=True, max_cat_to_onehot=one(rng, 1, 4), **BOOST),
]
NATIVE = {"binary": OF_CLASSES, "several classes": OF_CLASSES, "number": OF_NUMBERS}
ENDS = {
    "binary": CLASSIFIERS,
    "several classes": CLASSIFIERS,
    "number": REGRESSORS,
    "several numbers": SEVERAL,
    "several labels": LABELS,
    "no target": GROUPS,
}
CHANCES = (0.3, 0.22, 0.26, 0.04, 0.05, 0.13)
TAKE_GAPS = ("HistGradientBoosting", "XGB", "LGBM", "CatBoost")


def draw_target(rng: Rng, score: np.ndarray) -> tuple[str, Any]:
    """A task, and what is to be predicted."""
    task = str(rng.choice(list(ENDS), p=CHANCES))
    high = score > np.quantile(score, one(rng, 0.5, 0.3))
    third = np.digitize(score, np.quantile(score, [0.3, 0.7]))
    texts = np.array(["no", "yes"])
    if task == "binary":
        return task, one(rng, high.astype(int), high, texts[high.astype(int)])
    if task == "several classes":
        return task, one(rng, third, third * 10 - 5, np.array(["low", "mid", "top"])[third])
    if task == "number":
        return task, np.round(score * one(rng, 1, 100), 2)
    if task == "several numbers":
        return task, np.column_stack([score, np.sin(score)])
    if task == "several labels":
        return task, np.column_stack([high, third > 0]).astype(int)
    return task, None


def draw_model(
    rng: Rng, table: Drawn, task: str, *, named: bool, framed: bool, pandas: bool
) -> Any:
    """An unfitted pipeline that ends in an estimator for a task.

    Columns are chosen by name or by place; only frames of pandas have categories.
    """
    categories = framed and table.words and all("category" in name for name in table.words)
    plain = not (table.sentences or table.dates)
    if categories and task in NATIVE and plain and rng.random() < 0.7:
        return one(rng, *NATIVE[task])(rng)
    end = one(rng, *ENDS[task])(rng)
    gaps = table.rows[table.numbers].isna().to_numpy().any()
    native = type(end).__name__.startswith(TAKE_GAPS) and rng.random() < 0.6
    steps: list[Any] = []
    if gaps and not native:
        steps.append(one(rng, *IMPUTERS)(rng))
    elif pandas and rng.random() < 0.15:
        steps.append(preprocessing.FunctionTransformer(one(rng, *FRAME_FUNCTIONS)))
    usual = SCALERS[:4] if native and gaps else NUMERIC
    steps += [one(rng, *usual)(rng) for _ in range(rng.integers(0, 3))]
    single = task not in ("no target", "several numbers", "several labels")
    if single and not (native and gaps) and rng.random() < 0.15:
        steps.append(one(rng, *SELECTORS)(rng))
    if not table.others and rng.random() < 0.7:
        return make_pipeline(*steps, end) if steps else end
    columns = _columns(rng, table, steps, task, named=named, gaps=bool(gaps))
    return Pipeline([("columns", columns), ("end", end)])


def _columns(
    rng: Rng, table: Drawn, steps: list[Any], task: str, *, named: bool, gaps: bool
) -> ColumnTransformer:
    """A ColumnTransformer with a part for the columns of each kind, and perhaps some that are left over."""
    names = list(table.rows)
    kept = table.numbers[: max(1, len(table.numbers) - int(rng.integers(0, 2)))]
    numbers: Any = kept if named else [names.index(name) for name in kept]
    if named and not table.others and rng.random() < 0.3:
        numbers = make_column_selector(dtype_include="number")
    parts = [("numbers", make_pipeline(*steps) if steps else "passthrough", numbers)]
    if table.words:
        usual = ENCODERS if task in ("binary", "number") else ENCODERS[:-1]
        encoder = one(rng, *usual)(rng)
        if rng.random() < 0.5:
            fill = one(
                rng, {"strategy": "most_frequent"}, {"strategy": "constant", "fill_value": "?"}
            )
            encoder = make_pipeline(SimpleImputer(**fill), encoder)
        words = table.words if named else [names.index(name) for name in table.words]
        parts.append(("words", encoder, words))
    for name in table.sentences:
        place = name if named else names.index(name)
        parts += [(name, one(rng, *VECTORIZERS)(rng), place)]
    if table.dates:
        dates = make_pipeline(preprocessing.FunctionTransformer(one(rng, *DATE_FUNCTIONS)))
        if any("gaps" in name for name in table.dates):
            dates.steps.append(("filled", one(rng, *IMPUTERS)(rng)))
        if rng.random() < 0.5:
            dates.steps.append(("scaled", one(rng, *SCALERS[:4])(rng)))
        parts.append(("dates", dates, table.dates if rng.random() < 0.8 else table.dates[:1]))
    return ColumnTransformer(
        parts,
        remainder="drop" if table.others or gaps else one(rng, "drop", "passthrough"),
        sparse_threshold=one(rng, 0.3, 0.3, 0, 0, 1),
    )
