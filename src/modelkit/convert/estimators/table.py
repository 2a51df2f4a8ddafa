"""Which converter turns which estimator into tensors, and what happens to those that have none.

Estimators are found by where their class is defined, so no library is imported to find out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from modelkit._internal.arrays import is_a
from modelkit.convert.asking import check_fitted
from modelkit.convert.estimators import (  # noqa: F401 - each registers its converters
    bayes,
    binary,
    bins,
    calibration,
    catboost,
    clusters,
    dummies,
    encoders,
    forests,
    functions,
    gradient,
    histogram,
    impute,
    impute_neighbors,
    inverses,
    kernels,
    lightgbm,
    linear,
    neighbors,
    networks,
    outliers,
    pipelines,
    polynomial,
    power,
    processes,
    projections,
    quantiles,
    refused,
    scaling,
    selection,
    splines,
    support,
    texts,
    votes,
    xgboost,
)
from modelkit.convert.estimators.converting import Converting, TensorConverter
from modelkit.convert.estimators.tensors import TENSOR_CONVERTERS, Answer, Columns
from modelkit.convert.notes import Equivalents
from modelkit.convert.steps import overridden_verb, replaced_verb
from modelkit.errors import ConversionError


def converter_of_estimator(estimator: Any, converters: Equivalents) -> TensorConverter:
    """The converter of an estimator's very class: a class derived from it may answer otherwise.

    `converters` gives equivalent estimators for some classes.

    Raises ConversionError where an estimator does not answer by its class, or a pipeline not by its
    steps.
    """
    kind = type(estimator)
    if kind in converters:
        return partial(_by_equivalent, converters[kind])
    verb = replaced_verb(estimator)
    if verb is None and is_a(estimator, "sklearn.pipeline", "Pipeline"):
        verb = overridden_verb(estimator)
    if verb is not None:
        raise ConversionError(
            f"{kind.__name__} has its own {verb!r}, which a graph cannot repeat; leave that out "
            "and apply it to the package's answers, or use format='joblib'",
            step=kind.__name__,
        )
    library = kind.__module__.partition(".")[0]
    return TENSOR_CONVERTERS.get(f"{library}.{kind.__name__}", refused.unknown)


def _by_equivalent(
    equivalent: Callable[[Any], Any], estimator: Any, columns: Columns, at: Converting
) -> Answer:
    """What the estimator answers that a caller's function gives in place of another."""
    name = type(estimator).__name__
    try:
        found = equivalent(estimator)
    except Exception as error:
        raise ConversionError(
            f"the function in converters= for {name} fails on the fitted step; call it with that to see why",
            step=name,
        ) from error
    if not hasattr(found, "get_params") or type(found) is type(estimator):
        raise ConversionError(
            f"the function in converters= for {name} gives {type(found).__name__}; let it give a fitted "
            "estimator of another class that answers as this one does, such as a FunctionTransformer",
            step=name,
        )
    try:
        check_fitted(found)
    except ConversionError as error:
        raise ConversionError(
            f"the function in converters= for {name} gives an unfitted {type(found).__name__}; fit it there, "
            "or give a FunctionTransformer",
            step=name,
        ) from error
    return at.answer(found, columns)
