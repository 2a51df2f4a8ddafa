"""Estimators whose answers no graph gives, each with the reason and with what can stand for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from modelkit.convert.estimators.tensors import Columns
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting

VECTOR = (
    "its answer to one row alone has another shape than that to several; use PCA or TruncatedSVD"
)
SEARCH = "it searches for the answer to each row; use PCA, NMF or KernelPCA, or format='joblib'"
NEAR = "it solves a problem of its own for each row; use PCA or KernelPCA, or format='joblib'"
TOPICS = (
    "it repeats an estimate of its own for each text; use NMF or TruncatedSVD, or format='joblib'"
)
SMALL = "the sums of its tree are rounding where a density is small; use GaussianMixture, or format='joblib'"
REASONS = {
    "DictionaryLearning": SEARCH,
    "Isomap": NEAR,
    "KernelDensity": SMALL,
    "LatentDirichletAllocation": TOPICS,
    "LocallyLinearEmbedding": NEAR,
    "MiniBatchDictionaryLearning": SEARCH,
    "MiniBatchSparsePCA": VECTOR,
    "SparseCoder": SEARCH,
    "SparsePCA": VECTOR,
}


def refused(estimator: Any, columns: Columns, at: Converting) -> NoReturn:
    """Raise ConversionError with the reason."""
    name = type(estimator).__name__
    raise ConversionError(f"{name} cannot be converted, for {REASONS[name]}", step=name)


ESTIMATORS = {f"sklearn.{name}": refused for name in REASONS}
