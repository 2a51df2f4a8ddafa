"""Estimators whose answers no graph gives, each with the reason and with what can stand for it."""

from __future__ import annotations

from typing import Any, NoReturn

from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.tensors import Columns, converts
from modelkit.errors import ConversionError

VECTOR = (
    "its answer to one row alone has another shape than that to several; use PCA or TruncatedSVD"
)
RARE = "it is too rare to have a graph; use RBFSampler or Nystroem, or format='joblib'"
NEAR = "it solves a problem of its own for each row; use PCA or KernelPCA, or format='joblib'"
TOPICS = "it repeats an estimate of its own for each text; use TruncatedSVD, or format='joblib'"
BATCH = (
    "it searches until all rows of a batch have settled, so that the answer to a row changes with the others; "
    "use TruncatedSVD or PCA, or format='joblib'"
)
SMALL = "the sums of its tree are rounding where a density is small; use GaussianMixture, or format='joblib'"
REASONS = {
    "AdditiveChi2Sampler": RARE,
    "Isomap": NEAR,
    "KernelDensity": SMALL,
    "LatentDirichletAllocation": TOPICS,
    "LocallyLinearEmbedding": NEAR,
    "MiniBatchNMF": BATCH,
    "MiniBatchSparsePCA": VECTOR,
    "NMF": BATCH,
    "PolynomialCountSketch": RARE,
    "SkewedChi2Sampler": RARE,
    "SparsePCA": VECTOR,
}
GRADIENT = "HistGradientBoosting"
TARGET = "TargetEncoder"
# Other libraries, and by their classes what of scikit-learn stands in for them.
OTHER_LIBRARIES = {
    "category_encoders": {
        "BinaryEncoder": "OneHotEncoder",
        "CatBoostEncoder": TARGET,
        "GLMMEncoder": TARGET,
        "JamesSteinEncoder": TARGET,
        "LeaveOneOutEncoder": TARGET,
        "MEstimateEncoder": TARGET,
        "OneHotEncoder": "OneHotEncoder",
        "OrdinalEncoder": "OrdinalEncoder",
        "TargetEncoder": TARGET,
        "WOEEncoder": TARGET,
    },
    "feature_engine": {
        "AddMissingIndicator": "SimpleImputer(add_indicator=True)",
        "ArbitraryNumberImputer": "SimpleImputer(strategy='constant')",
        "CategoricalImputer": "SimpleImputer(strategy='most_frequent')",
        "DropConstantFeatures": "VarianceThreshold",
        "DropFeatures": "ColumnTransformer",
        "EqualFrequencyDiscretiser": "KBinsDiscretizer(strategy='quantile')",
        "EqualWidthDiscretiser": "KBinsDiscretizer(strategy='uniform')",
        "LogTransformer": "FunctionTransformer(np.log)",
        "MeanEncoder": TARGET,
        "MeanMedianImputer": "SimpleImputer",
        "OneHotEncoder": "OneHotEncoder",
        "OrdinalEncoder": "OrdinalEncoder",
        "RareLabelEncoder": "OneHotEncoder(min_frequency=...)",
        "SklearnTransformerWrapper": "ColumnTransformer",
        "YeoJohnsonTransformer": "PowerTransformer",
    },
    "interpret": {
        "ExplainableBoostingClassifier": f"{GRADIENT}Classifier(interaction_cst='pairwise')",
        "ExplainableBoostingRegressor": f"{GRADIENT}Regressor(interaction_cst='pairwise')",
    },
    "ngboost": {
        "NGBClassifier": f"{GRADIENT}Classifier",
        "NGBRegressor": f"{GRADIENT}Regressor(loss='quantile')",
    },
    "skrub": {
        "GapEncoder": "TfidfVectorizer(analyzer='char')",
        "MinHashEncoder": "HashingVectorizer(analyzer='char')",
        "StringEncoder": "TfidfVectorizer and TruncatedSVD",
        "TableVectorizer": "ColumnTransformer with OneHotEncoder",
    },
}
LIBRARIES = ("sklearn", "xgboost", "lightgbm", "catboost")


@converts(*REASONS)
def refused(estimator: Any, columns: Columns, at: Converting) -> NoReturn:
    """Raise ConversionError with the reason."""
    name = type(estimator).__name__
    raise ConversionError(f"{name} cannot be converted, for {REASONS[name]}", step=name)


def unknown(estimator: Any, columns: Columns, at: Converting) -> NoReturn:
    """Raise ConversionError for an estimator without a converter, with what to do."""
    kind = type(estimator)
    name = kind.__name__
    library = kind.__module__.partition(".")[0]
    known = next((base for base in kind.__mro__[1:] if _is_of_library(base)), None)
    other = OTHER_LIBRARIES.get(library)
    fixes = []
    if library in LIBRARIES:
        why = f"{name} cannot be converted as it was fitted"
    elif known is not None:
        why = f"{name} is a class derived from {known.__name__}, and may answer otherwise"
        fixes.append(f"fit {known.__name__} itself")
    elif other is not None:
        why = f"{name} of {library} cannot be converted"
        if name in other:
            fixes.append(f"use scikit-learn's {other[name]}")
    else:
        why = f"{name} is a class of your own, which modelkit cannot convert"
    if library not in LIBRARIES:
        fixes.append(f"say what it computes with save(..., converters={{{name}: ...}})")
    if hasattr(estimator, "transform") and not hasattr(estimator, "predict"):
        if other is None:
            fixes.append("make it a FunctionTransformer of numpy functions")
        fixes += ["apply the steps up to it in front of the model and save those behind it"]
    advice = ", or ".join([*fixes, "save the model with format='joblib'"])
    raise ConversionError(f"{why}: {advice}", step=name)


def _is_of_library(base: type) -> bool:
    library = base.__module__.partition(".")[0]
    mixin = base.__name__.endswith("Mixin") or base.__name__.startswith(("Base", "_"))
    return library in LIBRARIES and not mixin
