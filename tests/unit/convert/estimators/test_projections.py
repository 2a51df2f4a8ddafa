"""Transformers that are a product with a matrix, and approximations of kernels."""

import numpy as np
import pytest
from helpers.examples import some
from helpers.kinds import penguins
from helpers.packages import opened
from helpers.transformers import FRESH, LABELS, TRAIN, assert_serves
from sklearn.cluster import FeatureAgglomeration
from sklearn.compose import make_column_transformer
from sklearn.cross_decomposition import CCA, PLSSVD, PLSCanonical, PLSRegression
from sklearn.decomposition import (
    PCA,
    FactorAnalysis,
    FastICA,
    IncrementalPCA,
    KernelPCA,
    TruncatedSVD,
)
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import SelectKBest, SelectPercentile
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    KernelCenterer,
    MinMaxScaler,
    OneHotEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

SEED = {"random_state": 0}
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
}  # fmt: skip
NYSTROEM = {
    "linear": {},
    "rbf": {"gamma": 1e-3},
    "laplacian": {"gamma": 1e-3},
    "cosine": {},
    "sigmoid": {"gamma": 1e-5, "coef0": 0.5},
    "poly": {"gamma": 1e-3, "degree": 3, "coef0": 1},
}


@some("name", PROJECTIONS, 10)
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
    package = opened(model, TRAIN, tmp_path)
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


@some("name", SINGLE, 4)
def test_smooth_models_of_float32_answer_within_its_tolerance(name, tmp_path):
    train, fresh = TRAIN.astype(np.float32), FRESH.astype(np.float32)
    model = SINGLE[name].fit(train, LABELS)
    package = opened(model, train, tmp_path)
    verb = "predict_proba" if hasattr(model, "predict_proba") else "transform"
    np.testing.assert_allclose(
        getattr(package, "predict_proba" if verb == "predict_proba" else "predict")(fresh),
        getattr(model, verb)(fresh),
        rtol=1e-4,
        atol=1e-4,
    )


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


@some("name", NESTED, 3)
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
    answer = opened(model, train, tmp_path).run(fresh)
    np.testing.assert_array_equal(answer["label"], model.predict(fresh))
    np.testing.assert_allclose(
        answer["probabilities"], model.predict_proba(fresh), rtol=1e-11, atol=1e-14
    )
