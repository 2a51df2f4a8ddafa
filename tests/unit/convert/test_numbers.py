"""Transformers of numbers: what a package gives on fresh rows is what scikit-learn gives."""

import numpy as np
import pandas as pd
import pytest
from helpers.kinds import penguins
from helpers.packages import saved
from sklearn.base import clone
from sklearn.cluster import FeatureAgglomeration
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.cross_decomposition import CCA, PLSSVD, PLSCanonical, PLSRegression
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import (
    NMF,
    PCA,
    DictionaryLearning,
    FactorAnalysis,
    FastICA,
    IncrementalPCA,
    KernelPCA,
    LatentDirichletAllocation,
    MiniBatchNMF,
    SparsePCA,
    TruncatedSVD,
)
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomTreesEmbedding,
)
from sklearn.feature_selection import (
    RFE,
    RFECV,
    GenericUnivariateSelect,
    SelectFdr,
    SelectFpr,
    SelectFromModel,
    SelectFwe,
    SelectKBest,
    SelectPercentile,
    SequentialFeatureSelector,
    VarianceThreshold,
)
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.kernel_approximation import (
    AdditiveChi2Sampler,
    Nystroem,
    PolynomialCountSketch,
    RBFSampler,
    SkewedChi2Sampler,
)
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.manifold import Isomap, LocallyLinearEmbedding
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    KernelCenterer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection
from xgboost import XGBClassifier

from modelkit.errors import ConversionError

SEED = {"random_state": 0}
X, Y = load_breast_cancer(return_X_y=True)
X = X[:, :8]
TRAIN = X[::2]
LABELS = Y[::2]
FRESH = X[1::2] * np.random.default_rng(0).uniform(0.5, 1.5, X[1::2].shape)


def served(model, example, tmp_path):
    """A model as an application has it."""
    return saved(model, example, tmp_path)[1]


def assert_same(got, truth):
    """Equal but for the order of additions: by the size of each number, or of its column."""
    truth = np.asarray(truth, float)
    assert got.shape == truth.shape
    size = np.abs(truth[np.isfinite(truth)]).max(initial=0)
    np.testing.assert_allclose(got, truth, rtol=1e-12, atol=1e-14 * size)


def assert_serves(model, tmp_path, train=TRAIN, fresh=FRESH, verb="transform"):
    """A package answers fresh rows as its source does: all, one, and none of them."""
    package = served(model, train, tmp_path)
    for rows in (fresh, fresh[:1]):
        truth = getattr(model, verb)(rows)
        assert_same(package.predict(rows), truth.toarray() if hasattr(truth, "toarray") else truth)
    assert package.predict(fresh[:0]).shape == (0, *package.predict(fresh[:1]).shape[1:])


SCALERS = {
    "standard": StandardScaler(),
    "standard, no mean": StandardScaler(with_mean=False),
    "standard, no deviation": StandardScaler(with_std=False),
    "standard, neither": StandardScaler(with_mean=False, with_std=False),
    "range": MinMaxScaler(),
    "range, cut off": MinMaxScaler((-1, 2), clip=True),
    "largest": MaxAbsScaler(),
    "robust": RobustScaler(),
    "robust, no centre": RobustScaler(with_centering=False, quantile_range=(10, 80), unit_variance=True),
    "robust, no scale": RobustScaler(with_scaling=False),
    "binary": Binarizer(threshold=15.0),
    "rows, l1": Normalizer("l1"),
    "rows, l2": Normalizer("l2"),
    "rows, max": Normalizer("max"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCALERS)
def test_scalers(name, tmp_path):
    assert_serves(SCALERS[name].fit(TRAIN), tmp_path)


@pytest.mark.parametrize("name", [name for name in SCALERS if not name.startswith(("rows", "bin"))])
def test_scalers_pass_gaps_on(name, tmp_path):
    gaps = TRAIN.copy()
    gaps[::7, 2] = np.nan
    fresh = FRESH.copy()
    fresh[::5, 1:3] = np.nan
    assert_serves(SCALERS[name].fit(gaps), tmp_path, gaps, fresh)


PROJECTIONS = {
    "components": PCA(3),
    "components, whitened": PCA(4, whiten=True),
    "components in batches": IncrementalPCA(3, batch_size=50),
    "components in batches, whitened": IncrementalPCA(3, whiten=True),
    "singular values": TruncatedSVD(3, **SEED),
    "factors": FactorAnalysis(2),
    "independent": FastICA(3, **SEED),
    "independent, as they are": FastICA(whiten=False, max_iter=500, **SEED),
    "random": GaussianRandomProjection(4, **SEED),
    "random, few": SparseRandomProjection(4, **SEED),
    "neighbours": NeighborhoodComponentsAnalysis(2, max_iter=3, **SEED),
    "classes": LinearDiscriminantAnalysis(),
    "groups": FeatureAgglomeration(3),
    "groups, middle": FeatureAgglomeration(3, pooling_func=np.median),
    "groups, largest": FeatureAgglomeration(3, pooling_func=np.max),
    "squares": PLSRegression(2),
    "squares of both": PLSSVD(1),
    "kernel, linear": KernelPCA(3),
    "kernel, radial": KernelPCA(3, kernel="rbf", gamma=1e-3),
    "kernel, powers": KernelPCA(3, kernel="poly", degree=2, coef0=2),
    "kernel, sigmoid": KernelPCA(3, kernel="sigmoid", gamma=0.5),
    "kernel, cosine": KernelPCA(3, kernel="cosine"),
    "radial waves": RBFSampler(n_components=20, gamma=0.01, **SEED),
    "skewed waves": SkewedChi2Sampler(n_components=20, **SEED),
    "additive waves": AdditiveChi2Sampler(sample_steps=3),
    "additive waves, apart": AdditiveChi2Sampler(sample_steps=2, sample_interval=0.3),
    "sketch": PolynomialCountSketch(degree=3, n_components=16, **SEED),
    "sketch, odd, shifted": PolynomialCountSketch(degree=2, gamma=0.5, coef0=2, n_components=15, **SEED),
}  # fmt: skip
NYSTROEM = {
    "linear": {},
    "rbf": {"gamma": 1e-3},
    "laplacian": {"gamma": 1e-3},
    "chi2": {"gamma": 1e-3},
    "additive_chi2": {},
    "cosine": {},
    "sigmoid": {"gamma": 1e-5, "coef0": 0.5},
    "poly": {"gamma": 1e-3, "degree": 3, "coef0": 1},
}


@pytest.mark.parametrize("name", PROJECTIONS)
def test_projections(name, tmp_path):
    """Behind another step, so that classes are a transformer too."""
    scaler = MinMaxScaler(clip=True) if "squares" not in name else StandardScaler()
    model = make_pipeline(scaler, PROJECTIONS[name], StandardScaler(with_std=False))
    if "squares" in name:  # what they give behind them is a pair of tables while fitting
        model = make_pipeline(scaler, PROJECTIONS[name])
    assert_serves(
        model.fit(TRAIN, LABELS), tmp_path, verb="predict" if name == "squares" else "transform"
    )


@pytest.mark.parametrize("kernel", NYSTROEM)
def test_kernels_with_rows_of_training(kernel, tmp_path):
    """A small kernel: what makes it orthogonal multiplies differences by what it divides by."""
    model = Nystroem(kernel, n_components=4, **NYSTROEM[kernel], **SEED).fit(TRAIN)
    package = served(model, TRAIN, tmp_path)
    np.testing.assert_allclose(package.predict(FRESH), model.transform(FRESH), rtol=1e-9, atol=1e-9)


def test_kernels_of_a_kernel(tmp_path):
    gram = TRAIN @ TRAIN[:20].T
    square = TRAIN[:20] @ TRAIN[:20].T
    assert_serves(KernelCenterer().fit(square), tmp_path, square, FRESH @ TRAIN[:20].T)
    assert gram.shape == (len(TRAIN), 20)


@pytest.mark.parametrize("kind", [PLSRegression, PLSCanonical, CCA])
def test_partial_squares_predict(kind, tmp_path):
    targets = np.stack([TRAIN[:, 0] ** 2, LABELS], axis=1)
    model = kind(2).fit(TRAIN[:, 1:], targets)
    assert_serves(model, tmp_path, TRAIN[:, 1:], FRESH[:, 1:], "predict")


def logistic():
    return LogisticRegression(max_iter=5000)


SELECTORS = {
    "best": SelectKBest(k=3),
    "share": SelectPercentile(percentile=40),
    "false positives": SelectFpr(alpha=1e-3),
    "false discoveries": SelectFdr(alpha=1e-3),
    "family-wise": SelectFwe(alpha=1e-3),
    "any test": GenericUnivariateSelect(mode="k_best", param=2),
    "variance": VarianceThreshold(1.0),
    "of a model": SelectFromModel(Lasso(0.01)),
    "of a forest": SelectFromModel(RandomForestClassifier(5, **SEED), threshold="median"),
    "eliminated": RFE(RandomForestClassifier(3, **SEED), n_features_to_select=3),
    "eliminated in folds": RFECV(Ridge(), cv=2),
    "one by one": SequentialFeatureSelector(Ridge(), n_features_to_select=2, cv=2),
}


@pytest.mark.parametrize("name", SELECTORS)
def test_selected_columns(name, tmp_path):
    model = make_pipeline(SELECTORS[name], StandardScaler())
    assert_serves(model.fit(TRAIN, LABELS), tmp_path)


@pytest.mark.parametrize("kind", [RFE, RFECV])
def test_what_eliminates_columns_predicts_too(kind, tmp_path):
    model = kind(LogisticRegression(max_iter=5000)).fit(TRAIN / 100, LABELS)
    package = served(model, TRAIN / 100, tmp_path)
    answer = package.run(FRESH / 100)
    np.testing.assert_array_equal(answer["label"], model.predict(FRESH / 100))
    assert_same(answer["probabilities"], model.predict_proba(FRESH / 100))


def test_a_selector_that_keeps_nothing_says_so(tmp_path):
    model = SelectFpr(alpha=1e-300).fit(TRAIN[:, :1], LABELS)
    with pytest.raises(ConversionError, match="passes on no column"):
        served(model, TRAIN[:, :1], tmp_path)


REFUSED = {
    "SparsePCA": SparsePCA(2, max_iter=2, **SEED),
    "DictionaryLearning": DictionaryLearning(2, max_iter=2, **SEED),
    "LatentDirichletAllocation": LatentDirichletAllocation(2, max_iter=2, **SEED),
    "Isomap": Isomap(),
    "LocallyLinearEmbedding": LocallyLinearEmbedding(n_neighbors=9, **SEED),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_graph_answers_is_refused_with_its_reason(name, tmp_path):
    """Of SparsePCA, scikit-learn 1.9 gives a vector of 2 for one row, and a matrix for two."""
    model = REFUSED[name].fit(TRAIN[:60])
    with pytest.raises(ConversionError, match=f"{name} cannot be converted.*; use") as caught:
        served(model, TRAIN[:60], tmp_path)
    assert caught.value.step == name


FACTORS = {
    "by coordinates": NMF(3, **SEED),
    "with penalties": NMF(4, alpha_W=1e-3, l1_ratio=0.4, init="nndsvd", **SEED),
    "by multiplication": NMF(3, solver="mu", init="nndsvda", max_iter=150, **SEED),
    "of counts": NMF(2, solver="mu", beta_loss="kullback-leibler", alpha_W=1e-4, **SEED),
    "in batches": MiniBatchNMF(3, max_iter=20, **SEED),
    "in batches, of counts": MiniBatchNMF(2, beta_loss="kullback-leibler", max_iter=20, **SEED),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", FACTORS)
def test_factors_without_negative_numbers(name, tmp_path):
    """The iteration of the source, stopped where it stops: by all rows of a batch together."""
    train = TRAIN[:, :5] / TRAIN[:, :5].max(axis=0)
    fresh = FRESH[:, :5] / TRAIN[:, :5].max(axis=0)
    model = FACTORS[name].fit(train)
    package = served(model, train, tmp_path)
    nothing = [0 * fresh[:2]] if model.tol and name in ("by coordinates", "with penalties") else []
    for rows in (fresh, fresh[:3], fresh[:1], *nothing):
        np.testing.assert_allclose(
            package.predict(rows), model.transform(rows), rtol=1e-9, atol=1e-12
        )


def test_factors_left_to_chance_are_refused(tmp_path):
    model = NMF(2, shuffle=True, init="random", max_iter=500, **SEED).fit(TRAIN)
    with pytest.raises(ConversionError, match="shuffle=False"):
        served(model, TRAIN, tmp_path)


QUANTILES = [
    {},
    {"output_distribution": "normal"},
    {"n_quantiles": 20},
    {"n_quantiles": 20, "output_distribution": "normal"},
]


@pytest.mark.parametrize("options", QUANTILES, ids=str)
def test_quantiles(options, tmp_path):
    """Rounded to whole numbers, many quantiles are equal, and rows stand on them."""
    train = np.concatenate([TRAIN, np.rint(TRAIN), np.full((len(TRAIN), 1), 3.0)], axis=1)
    train[::9, 0] = np.nan
    fresh = np.concatenate([FRESH, np.rint(FRESH), np.full((len(FRESH), 1), 3.0)], axis=1)
    fresh[::5, -1] = 2.5
    fresh[1::5, -1] = 3.5
    fresh[::4, 1] = np.nan
    with np.errstate(all="ignore"):
        model = QuantileTransformer(**{"n_quantiles": 100, **options, **SEED}).fit(train)
    package = served(model, train, tmp_path)
    for rows in (fresh, train, fresh[:1]):
        np.testing.assert_allclose(
            package.predict(rows), model.transform(rows), rtol=2e-13, atol=2e-14
        )


SPLINES = [
    {"extrapolation": extrapolation, "degree": degree, "knots": knots, "include_bias": bias}
    for extrapolation in ("constant", "linear", "continue", "periodic")
    for degree, knots, bias in ((3, "uniform", True), (1, "quantile", False), (2, "quantile", True))
]


@pytest.mark.parametrize(
    "options", SPLINES, ids=lambda options: "-".join(map(str, options.values()))
)
def test_splines(options, tmp_path):
    model = SplineTransformer(n_knots=6, **options).fit(TRAIN[:, :4])
    fresh = np.concatenate([FRESH[:, :4], TRAIN[:, :4], 3 * FRESH[:9, :4], -FRESH[:9, :4]])
    assert_serves(model, tmp_path, TRAIN[:, :4], fresh)


@pytest.mark.parametrize("extrapolation", ["constant", "linear", "periodic"])
def test_splines_of_gaps_are_zeros(extrapolation, tmp_path):
    gaps = TRAIN[:, :3].copy()
    gaps[::6, 1] = np.nan
    model = SplineTransformer(extrapolation=extrapolation, handle_missing="zeros").fit(gaps)
    fresh = FRESH[:, :3].copy()
    fresh[::3, 0] = np.nan
    assert_serves(model, tmp_path, gaps, fresh)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("extrapolation", ["constant", "linear", "periodic", "continue"])
def test_splines_of_a_single_value(extrapolation, tmp_path):
    train = np.column_stack([TRAIN[:, 0], np.full(len(TRAIN), 3.0)])
    model = SplineTransformer(extrapolation=extrapolation).fit(train)
    fresh = np.column_stack([FRESH[:40, 0], np.full(40, 3.0)])
    fresh[::3, 1] = 2.0
    fresh[1::3, 1] = 4.0
    if not np.isfinite(model.transform(fresh)).all():
        fresh[:, 1] = 3.0
    assert_serves(model, tmp_path, train, fresh)


def test_splines_that_refuse_numbers_are_refused(tmp_path):
    model = SplineTransformer(extrapolation="error").fit(TRAIN)
    with pytest.raises(ConversionError, match="extrapolation='constant'"):
        served(model, TRAIN, tmp_path)


POSITIVE = TRAIN[:, 3] / 100
TARGETS = {
    "log1p": {"func": np.log1p, "inverse_func": np.expm1},
    "log": {"func": np.log, "inverse_func": np.exp},
    "root": {"func": np.sqrt, "inverse_func": np.square},
    "lambda": {"func": lambda y: y**0.25, "inverse_func": lambda z: z**4},
    "standard": {"transformer": StandardScaler()},
    "range": {"transformer": MinMaxScaler()},
    "largest": {"transformer": MaxAbsScaler()},
    "robust": {"transformer": RobustScaler()},
    "yeo-johnson": {"transformer": PowerTransformer()},
    "box-cox": {"transformer": PowerTransformer("box-cox", standardize=False)},
    "quantiles": {"transformer": QuantileTransformer(n_quantiles=50)},
    "quantiles, normal": {"transformer": QuantileTransformer(n_quantiles=50, output_distribution="normal")},
    "steps": {"transformer": make_pipeline(FunctionTransformer(np.log, np.exp), StandardScaler())},
    "nothing": {},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a root of a negative number, far away
@pytest.mark.parametrize("name", TARGETS)
def test_targets_on_the_way_back(name, tmp_path):
    model = TransformedTargetRegressor(Ridge(), **TARGETS[name]).fit(TRAIN[:, :3], POSITIVE)
    package = served(model, TRAIN[:, :3], tmp_path)
    for rows in (FRESH[:, :3], FRESH[:1, :3]):
        np.testing.assert_allclose(package.predict(rows), model.predict(rows), rtol=5e-12)


def test_several_targets_on_the_way_back(tmp_path):
    both = np.stack([POSITIVE, POSITIVE**2], axis=1)
    model = TransformedTargetRegressor(Ridge(), transformer=PCA(2, whiten=True))
    assert_serves(model.fit(TRAIN[:, :3], both), tmp_path, TRAIN[:, :3], FRESH[:, :3], "predict")


def test_a_target_without_a_way_back_is_refused(tmp_path):
    binned = KBinsDiscretizer(3, encode="ordinal", quantile_method="averaged_inverted_cdf")
    model = TransformedTargetRegressor(Ridge(), transformer=binned, check_inverse=False)
    with pytest.raises(ConversionError, match="use one of FunctionTransformer, MaxAbsScaler"):
        served(model.fit(TRAIN[:, :3], POSITIVE), TRAIN[:, :3], tmp_path)


def test_leaves_of_random_trees(tmp_path):
    assert_serves(RandomTreesEmbedding(7, **SEED).fit(TRAIN), tmp_path)
    model = make_pipeline(RandomTreesEmbedding(5, max_depth=3, **SEED), LogisticRegression())
    package = served(model.fit(TRAIN, LABELS), TRAIN, tmp_path)
    answer = package.run(FRESH)
    np.testing.assert_array_equal(answer["label"], model.predict(FRESH))
    assert_same(answer["probabilities"], model.predict_proba(FRESH))


def smooth(rows):
    return np.clip(np.nan_to_num(np.where(np.isnan(rows), 0, np.arctan(rows))), -1.5, 1.5)


SINGLE = {
    "components": PCA(4),
    "components, whitened": PCA(4, whiten=True),
    "factors": FactorAnalysis(2),
    "kernel": KernelPCA(3, kernel="rbf", gamma=1e-4),
    "waves": RBFSampler(gamma=1e-4, n_components=8, **SEED),
    "quantiles": QuantileTransformer(n_quantiles=40),
    "splines": SplineTransformer(),
    "random": GaussianRandomProjection(4, **SEED),
    "a linear model": make_pipeline(StandardScaler(), LogisticRegression()),
    "a function without jumps": make_pipeline(PCA(4), FunctionTransformer(smooth)),
}


@pytest.mark.parametrize("name", SINGLE)
def test_smooth_models_of_float32_answer_within_its_tolerance(name, tmp_path):
    train, fresh = TRAIN.astype(np.float32), FRESH.astype(np.float32)
    model = SINGLE[name].fit(train, LABELS)
    package = served(model, train, tmp_path)
    verb = "predict_proba" if hasattr(model, "predict_proba") else "transform"
    np.testing.assert_allclose(
        getattr(package, "predict_proba" if verb == "predict_proba" else "predict")(fresh),
        getattr(model, verb)(fresh),
        rtol=1e-4,
        atol=1e-4,
    )


def as_array(rows):
    return rows.astype(np.float32)


def as_frame(rows):
    """Numbers as a memory saver leaves them."""
    frame = pd.DataFrame(rows, columns=[f"c{i}" for i in range(rows.shape[1])])
    return frame.assign(c3=rows[:, 3] // 40).astype("float32").astype({"c3": "int8"})


def as_mixed(rows):
    return as_frame(rows).astype({"c1": "float64", "c3": "int64"})


def with_gaps(rows):
    frame = as_frame(rows)
    frame.loc[::3, "c0"] = np.nan
    return frame


def beside_kinds(step):
    """A step over numbers, beside a column of codes, and one that passes."""
    kinds = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_column_transformer(
        (step, ["c0", "c1", "c2"]), (kinds, ["c3"]), ("passthrough", ["c4"])
    )


def ratios(rows):
    return np.column_stack([rows[:, 0] / rows[:, 1], rows[:, 2] - rows[:, 3], np.sqrt(rows[:, 4])])


STANDARD = StandardScaler()
BOOSTED = HistGradientBoostingClassifier(max_iter=10)
BINNED = KBinsDiscretizer(5, quantile_method="averaged_inverted_cdf", encode="onehot-dense")
JUMPING = {
    "standard": (StandardScaler(), BOOSTED, as_array),
    "range, cut off": (MinMaxScaler((-1, 1), clip=True), XGBClassifier(n_estimators=10), as_frame),
    "largest": (MaxAbsScaler(), BOOSTED, as_frame),
    "robust": (RobustScaler(), RandomForestClassifier(10, **SEED), as_array),
    "rows, max": (Normalizer("max"), BOOSTED, as_array),
    "products": (make_pipeline(StandardScaler(), PolynomialFeatures(3)), BOOSTED, as_frame),
    "bins": (make_pipeline(StandardScaler(), BINNED, StandardScaler()), BOOSTED, as_array),
    "bins and scores": (make_union(StandardScaler(), BINNED), BOOSTED, as_array),
    "binary": (make_pipeline(StandardScaler(), Binarizer(threshold=0.1)), BOOSTED, as_frame),
    "imputed": (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), BOOSTED, with_gaps),
    "missing": (make_pipeline(make_union(SimpleImputer(), MissingIndicator()), StandardScaler()), BOOSTED, with_gaps),
    "beside kinds": (beside_kinds(StandardScaler()), BOOSTED, as_frame),
    "beside kinds, all scaled": (make_pipeline(beside_kinds(MinMaxScaler()), StandardScaler()), BOOSTED, as_frame),
    "small ones alone": (make_column_transformer((STANDARD, ["c3"]), (MinMaxScaler(), ["c0"])), BOOSTED, as_frame),
    "weight": (FeatureUnion([("a", STANDARD), ("b", MaxAbsScaler())], transformer_weights={"a": 3}), BOOSTED, as_frame),
    "selected": (make_pipeline(VarianceThreshold(), SelectKBest(k=3), StandardScaler()), BOOSTED, as_frame),
    "roots": (make_pipeline(FunctionTransformer(np.sqrt), StandardScaler()), BOOSTED, as_array),
    "roots of some": (FunctionTransformer(np.sqrt), BOOSTED, as_mixed),
    "ratios": (FunctionTransformer(ratios), BOOSTED, as_array),
    "quantiles": (QuantileTransformer(n_quantiles=40), BOOSTED, as_array),
    "splines": (SplineTransformer(), BOOSTED, as_array),
    "mixed": (StandardScaler(), BOOSTED, as_mixed),
    "mixed, beside kinds": (beside_kinds(RobustScaler()), BOOSTED, as_mixed),
}  # fmt: skip


@pytest.mark.parametrize("name", JUMPING)
def test_steps_of_float32_before_thresholds_are_equal_to_the_bit(name, tmp_path):
    """Thresholds are values of training: one bit more, and a row goes to the other side."""
    step, last, shape = JUMPING[name]
    train, fresh = shape(TRAIN), shape(FRESH)
    model = make_pipeline(clone(step), clone(last)).fit(train, LABELS)
    manifest, package = saved(model, train, tmp_path)
    assert manifest.parity.label_flips == 0
    for rows in (train, fresh):
        answer = package.run(rows)
        np.testing.assert_array_equal(answer["label"], model.predict(rows))
        np.testing.assert_allclose(answer["probabilities"], model.predict_proba(rows), rtol=1e-6)


def test_numbers_of_float64_for_a_column_of_float32_are_rounded(tmp_path):
    train = as_mixed(TRAIN)
    model = make_pipeline(StandardScaler(), BOOSTED).fit(train, LABELS)
    package = served(model, train, tmp_path)
    wide = train.assign(c0=train["c0"].astype("float64") * 1.0000000001)
    np.testing.assert_array_equal(package.predict_proba(wide), package.predict_proba(train))


NESTED = {
    "robust": RobustScaler(),
    "range": MinMaxScaler(clip=True),
    "components": make_pipeline(StandardScaler(), PCA(2, whiten=True)),
    "quantiles": QuantileTransformer(n_quantiles=30, output_distribution="normal"),
    "splines": SplineTransformer(n_knots=4, extrapolation="linear"),
    "power": PowerTransformer(),
    "waves": make_pipeline(StandardScaler(), RBFSampler(n_components=6, **SEED)),
    "kernels": make_pipeline(StandardScaler(), Nystroem(n_components=5, **SEED)),
    "chosen": SelectKBest(k=2),
    "classes": LinearDiscriminantAnalysis(),
    "side by side": make_union(StandardScaler(), FunctionTransformer(np.log1p), SelectPercentile(percentile=50)),
}  # fmt: skip


@pytest.mark.parametrize("name", NESTED)
def test_inside_a_frame_with_gaps_and_texts(name, tmp_path):
    frame, species = penguins()
    numbers = [name for name in frame if frame[name].dtype.kind == "f"]
    texts = [name for name in frame if name not in numbers]
    filled = make_pipeline(SimpleImputer(strategy="median"), NESTED[name])
    coded = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    columns = make_column_transformer((filled, numbers), (coded, texts))
    model = make_pipeline(columns, LogisticRegression(max_iter=3000))
    chosen = np.random.default_rng(0).permutation(len(frame))
    train = frame.iloc[chosen[:200]]
    fresh = frame.iloc[chosen[200:]]
    model.fit(train, np.asarray(species)[chosen[:200]])
    answer = served(model, train, tmp_path).run(fresh)
    np.testing.assert_array_equal(answer["label"], model.predict(fresh))
    np.testing.assert_allclose(
        answer["probabilities"], model.predict_proba(fresh), rtol=1e-11, atol=1e-14
    )


@pytest.mark.parametrize("seed", range(6))
def test_any_chain_of_steps(seed, tmp_path):
    """Seeded: three steps of any kind, one after the other or side by side."""
    rng = np.random.default_rng(seed)
    pool = [
        *SCALERS.values(),
        PCA(3),
        SelectKBest(k=3),
        SplineTransformer(3, degree=2),
        PowerTransformer(),
    ]
    pool += [
        QuantileTransformer(n_quantiles=30),
        FunctionTransformer(np.arcsinh),
        PolynomialFeatures(2),
    ]
    steps = [clone(pool[at]) for at in rng.choice(len(pool), 4, replace=False)]
    model = make_pipeline(steps[0], make_union(steps[1], steps[2]), steps[3])
    assert_serves(model.fit(TRAIN, LABELS), tmp_path)


CHAINS = {
    "products over norms": (PolynomialFeatures(2), Normalizer()),
    "factors over norms": (MinMaxScaler(clip=True), NMF(2, tol=1e-2, **SEED), Normalizer()),
    "splines of one value": (Binarizer(threshold=1000.0), SplineTransformer(3), Normalizer("max")),
}


@pytest.mark.parametrize("name", CHAINS)
def test_what_is_divided_is_known_to_be_no_integer(name, tmp_path):
    """A division whose sides might be integers is refused when a package is loaded."""
    assert_serves(
        make_pipeline(*CHAINS[name]).fit(TRAIN[:, :4]), tmp_path, TRAIN[:, :4], FRESH[:, :4]
    )
