"""The way back from what a transformer gives, and the converter of TransformedTargetRegressor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.functions import applied
from modelkit.convert.estimators.quantiles import back_from_quantiles
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    affine,
    column_stack,
    converts,
    flat,
    width,
)
from modelkit.errors import ConversionError


@converts("TransformedTargetRegressor")
def target(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """TransformedTargetRegressor: what its regressor predicts, on the way back."""
    predicted = at.answer(estimator.regressor_, columns).required("prediction")
    found = inverted(estimator.transformer_, column_stack([predicted]).astype(np.float64), at)
    vector = estimator._training_dim == 1 and width(found) == 1  # no public way
    return Answer(prediction=flat(found) if vector else found)


def inverted(transformer: Any, rows: Any, at: Converting) -> Any:
    """What `inverse_transform` gives for a matrix. Raises ConversionError."""
    name = type(transformer).__name__
    if not type(transformer).__module__.startswith("sklearn.") or name not in INVERSES:
        raise ConversionError(
            f"TransformedTargetRegressor(transformer={name}) cannot be converted; use one of "
            f"{', '.join(INVERSES)}, func and inverse_func, or format='joblib'",
            step="TransformedTargetRegressor",
        )
    return INVERSES[name](transformer, rows, at)


def _through_pipeline(transformer: Any, rows: Any, at: Converting) -> Any:
    for _, step in reversed(transformer.steps):
        if step not in ("passthrough", None):
            rows = inverted(step, rows, at)
    return rows


def _through_function(transformer: Any, rows: Any, at: Converting) -> Any:
    if transformer.inverse_func is None:
        return rows
    return applied(transformer.inverse_func, transformer.inv_kw_args, rows, at)


def _unscaled(rows: Any, scale: Array | None, centre: Array | None) -> Any:
    if scale is not None:
        rows = rows * scale
    if centre is not None:
        rows = rows + centre
    return rows


def _from_standard(transformer: Any, rows: Any, _: Any) -> Any:
    return _unscaled(rows, transformer.scale_, transformer.mean_ if transformer.with_mean else None)


def _from_components(transformer: Any, rows: Any, _: Any) -> Any:
    parts = np.asarray(transformer.components_, np.float64)
    if transformer.whiten:
        parts = np.sqrt(transformer.explained_variance_)[:, None] * parts
    return affine(rows, parts, transformer.mean_)


def _from_power(transformer: Any, rows: Any, at: Any) -> Any:
    if transformer.standardize:
        rows = _from_standard(transformer._scaler, rows, at)  # no public way
    powers = np.asarray(transformer.lambdas_, np.float64)
    if transformer.method == "box-cox":
        return _from_box_cox(rows, powers)
    return _from_yeo_johnson(rows, powers)


def _from_box_cox(rows: Any, powers: Array) -> Any:
    none = powers == 0
    divisors = np.where(none, 1.0, powers)
    logs = np.log1p(rows * divisors) / divisors
    if none.any():
        logs = np.where(none, rows, logs)
    return np.exp(logs)


def _from_yeo_johnson(rows: Any, powers: Array) -> Any:
    """Of a number below 0 the negative of the way back from its size, with the power 2 - lambda."""
    eps = np.spacing(1.0)
    upper = _root(rows, powers, np.abs(powers) < eps) - 1.0
    mirrored = 2 - powers
    lower = 1.0 - _root(-rows, mirrored, np.abs(mirrored) <= eps)
    return np.where(rows >= 0.0, upper, lower)


def _root(sizes: Any, powers: Array, vanishing: Array) -> Any:
    """(1 + power x) to 1 / power; exp(x) where the power is as good as 0."""
    divisors = np.where(vanishing, 1.0, powers)
    inner = sizes * divisors + 1.0
    found = inner ** (1.0 / divisors)
    if vanishing.any():
        found = np.where(vanishing, np.exp(sizes), found)
    return found


INVERSES: dict[str, Callable[[Any, Any, Converting], Any]] = {
    "FunctionTransformer": _through_function,
    "MaxAbsScaler": lambda scaler, rows, _: rows * scaler.scale_,
    "MinMaxScaler": lambda scaler, rows, _: (rows - scaler.min_) / scaler.scale_,
    "PCA": _from_components,
    "Pipeline": _through_pipeline,
    "PowerTransformer": _from_power,
    "QuantileTransformer": lambda transformer, rows, _: back_from_quantiles(transformer, rows),
    "RobustScaler": lambda scaler, rows, _: _unscaled(rows, scaler.scale_, scaler.center_),
    "StandardScaler": _from_standard,
}
