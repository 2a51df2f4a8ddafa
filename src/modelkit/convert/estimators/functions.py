"""Converter of FunctionTransformer: a function of arrays, by what it computes.

The function is run on a stand-in for an array, and what it writes down is run on numbers of every
kind: it is the function only where both give the same.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.cast import Array
from modelkit.convert.estimators.arrays import traced_by_ndonnx
from modelkit.convert.estimators.scaling import one_table
from modelkit.convert.estimators.symbol_frames import SymbolFrame
from modelkit.convert.estimators.symbol_tables import followed
from modelkit.convert.estimators.symbols import Symbol, floats, tensor_of
from modelkit.convert.estimators.tensors import (
    STRING,
    Answer,
    Columns,
    Var,
    argument,
    dtype_of,
    model_of,
    rank,
    width,
)
from modelkit.errors import ConversionError
from modelkit.spec import TensorSpec

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting

COPIES = (np.array, np.asanyarray, np.asarray, np.ascontiguousarray)  # which compute nothing
ROWS = 64  # of the numbers that a function is tried on
NEAR_ENOUGH = 1e-9  # to what the function gives, relative to it
OF_MODULE = "keep it in a module, and save the model with format='joblib'"
ADVICE = f"write it with numpy functions of its columns, or {OF_MODULE}"


def function(
    estimator: Any,
    columns: Columns,
    at: Converting,
) -> Answer:
    """FunctionTransformer: its function, of all columns at once."""
    copied = estimator.func in COPIES and not estimator.kw_args
    if estimator.func is None or copied:
        return Answer(table=columns)
    if any(dtype_of(part) == STRING for part in columns.parts):
        raise ConversionError(
            f"FunctionTransformer({_name_of(estimator.func)}) cannot be converted, for it is given "
            f"columns of strings; {OF_MODULE}",
            step="FunctionTransformer",
        )
    names = getattr(estimator, "feature_names_in_", None)
    if estimator.validate:  # which makes an array of a frame
        names = None
    if any(map(at.time_of, columns.parts)):
        return Answer(table=_of_table(estimator, columns, names, at))
    rows = columns.matrix(np.float64)
    return one_table(applied(estimator.func, estimator.kw_args, rows, names))


def _of_table(
    estimator: Any,
    columns: Columns,
    names: Any,
    at: Converting,
) -> Columns:
    """What a function gives for a frame of which some columns are no numbers."""
    options = estimator.kw_args or {}
    try:
        return followed(partial(estimator.func, **options), columns, names, at)
    except ConversionError as error:
        raise ConversionError(
            f"FunctionTransformer({_name_of(estimator.func)}) cannot be converted: {error}; {ADVICE}",
            step="FunctionTransformer",
        ) from error


def applied(
    asked: Callable[..., Any],
    options: dict[str, Any] | None,
    rows: Var,
    names: Any = None,
) -> Var:
    """What a function of an array gives for a matrix, as a matrix of float64.

    With names, it is a function of a frame with such columns.

    Raises ConversionError, with the reason, for a function that cannot be followed.
    """
    given = options or {}

    def of_array(array: Any) -> Any:
        return asked(array, **given)

    try:
        found = _followed(of_array, rows, names)
        _prove(of_array, width(rows), names)
    except ConversionError as error:
        raise ConversionError(
            f"FunctionTransformer({_name_of(asked)}) cannot be converted: {error}; {ADVICE}",
            step="FunctionTransformer",
        ) from error
    return found


def _name_of(asked: Any) -> str:
    inner = getattr(asked, "func", asked)  # of functools.partial
    return str(getattr(inner, "__name__", type(inner).__name__))


def _followed(
    asked: Callable[[Any], Any],
    rows: Var,
    names: Any,
) -> Var:
    """What a function writes down when it is given a stand-in. Raises ConversionError."""
    given = Symbol(rows) if names is None else SymbolFrame(rows, names)
    try:
        found = asked(given)
    except Exception as error:
        traced = traced_by_ndonnx(asked, rows)
        if traced is not None:
            return _matrix(traced)
        if isinstance(error, ConversionError):
            raise
        raise ConversionError("it does not run on an array of numpy's protocols") from error
    if not isinstance(found, Symbol):
        raise ConversionError(f"it gives a {type(found).__name__} that its array has no part in")
    return _matrix(tensor_of(found))


def _matrix(tensor: Var) -> Var:
    if rank(tensor) == 1:
        raise ConversionError("it gives a vector, and not a column: add reshape(-1, 1)")
    return floats(tensor)


def _prove(
    asked: Callable[[Any], Any],
    count: int,
    names: Any,
) -> None:
    """Raise ConversionError unless what was written down gives the same numbers."""
    from modelkit.proto import signature_of
    from modelkit.runtimes.onnx import OnnxModel

    spec = TensorSpec("x", "float64", ("batch", count))
    given = argument(spec)
    proto = model_of({"x": given}, {"y": _followed(asked, given, names)})
    model = OnnxModel(proto.SerializeToString(), signature_of(proto))
    with model:
        for numbers in _numbers(count):
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                truth = _asked(asked, numbers, names)
            got = model.run({"x": numbers})["y"]
            if not _same(got, truth, numbers):
                raise ConversionError("its graph gives other numbers than the function itself")


def _asked(
    asked: Callable[[Any], Any],
    numbers: Array,
    names: Any,
) -> Array:
    """What a function gives for numbers, in a frame if they have names."""
    given: Any = numbers.copy()
    if names is not None:
        given = sys.modules["pandas"].DataFrame(given, columns=list(names))
    try:
        return np.asarray(asked(given))
    except Exception as error:
        kind = "an array" if names is None else "a frame"
        raise ConversionError(f"it fails on {kind} of numbers") from error


def _same(
    got: Array,
    truth: Array,
    numbers: Array,
) -> bool:
    if got.shape != truth.shape:
        return False
    if truth.dtype.kind in "iu":  # which have nothing to say of what is missing or infinite
        usual = np.isfinite(numbers).all(axis=1)
        got = got[usual]
        truth = truth[usual]
    wide = truth.astype(np.float64)
    known = wide[np.isfinite(wide)]
    size = np.abs(known).max(initial=0) * np.finfo(np.float64).eps
    return np.allclose(got, wide, rtol=NEAR_ENOUGH, atol=size, equal_nan=True)


def _numbers(count: int) -> list[Array]:
    """Numbers of every kind: shares, measurements, whole ones, tiny and large, and none at all."""
    rng = np.random.default_rng(0)
    usual = rng.normal(size=(ROWS, count))
    strange = usual.copy()
    strange.flat[:: 2 * count + 1] = np.nan
    strange.flat[1 :: 3 * count + 1] = np.inf
    strange.flat[2 :: 3 * count + 2] = -np.inf
    whole = np.rint(usual * 3)
    wide = usual * 10.0 ** rng.integers(-12, 12, usual.shape)
    return [usual, np.abs(usual), rng.uniform(size=usual.shape), whole, wide, strange]


ESTIMATORS = {
    "sklearn.FunctionTransformer": function,
}
