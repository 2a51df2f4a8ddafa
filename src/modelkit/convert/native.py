"""Describe a fitted estimator that is packaged as it is: its signature, and the rows it was fitted on."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import onnx

from modelkit.cast import Array, is_a
from modelkit.convert.estimators import closed_categories, last_step
from modelkit.convert.outputs import read_roles, truth
from modelkit.convert.sklearn import is_estimator, library_of, read_example
from modelkit.convert.source import DECISION, Source, take
from modelkit.errors import ConversionError
from modelkit.runtimes.joblib import OBJECT, Estimator
from modelkit.signature import Signature
from modelkit.spec import DTYPES, Column, TensorSpec

EXACT = 1 << 53  # up to here a float holds every whole number
SHARED = 5  # rows of the example that hold one value: it is a category, and tells of none of them


def from_estimator(estimator: Any, example: Any) -> tuple[Source, Estimator]:
    """A source whose truth is the estimator itself, and what is pickled. Raises ConversionError."""
    if not is_estimator(estimator):
        raise ConversionError(
            "format='joblib' takes a fitted estimator with scikit-learn's interface, not a "
            f"{type(estimator).__name__}",
            step=type(estimator).__name__,
        )
    rows, columns, answer = read_example(estimator, example)
    held = Estimator(estimator, *_form(rows))
    few = take(rows, 2)
    _check_form(estimator, rows)
    roles, classes = answer(read_roles, few)
    found = answer(partial(truth, roles=roles), few)
    found.pop(DECISION, None)
    outputs = tuple(_output(name, array) for name, array in found.items())
    source = Source(
        onnx.ModelProto(),
        Signature(_inputs(columns, rows), outputs, classes=classes),
        rows=rows,
        against=f"{library_of(estimator)} {type(last_step(estimator)).__name__}",
        truth=lambda rows: answer(partial(truth, roles=roles), rows),
        categories=closed_categories(estimator, [column.name for column in columns])
        | _categories(held.like),
    )
    return source, held


def _form(rows: Any) -> tuple[Any, tuple[str, ...]]:
    """A frame without its rows, and which of its columns of objects mark a missing value with None."""
    if not is_a(rows, "pandas", "DataFrame"):
        return None, ()
    like = rows.iloc[:0].reset_index(drop=True)
    like.attrs.clear()
    objects = [name for name, dtype in rows.dtypes.items() if dtype == OBJECT]
    return like, tuple(str(name) for name in objects if any(value is None for value in rows[name]))


def _check_form(estimator: Any, rows: Any) -> None:
    """Raise ConversionError where the estimator says that it was fitted on rows of another form."""
    verb = "predict" if hasattr(estimator, "predict") else "transform"
    if not hasattr(estimator, verb) or getattr(rows, "dtype", None) == OBJECT:
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        getattr(estimator, verb)(take(rows, 2).copy())
    said = next(
        (str(warning.message) for warning in caught if "feature names" in str(warning.message)),
        None,
    )
    if said is not None:
        raise ConversionError(
            f"example must be of the form that fit was given, a frame or an array: {said}"
        )


def _inputs(columns: list[Column], rows: Any) -> tuple[TensorSpec, ...]:
    """One tensor for numbers of one dtype, else one a column."""
    dtypes = [_tensor_dtype(column, rows, at) for at, column in enumerate(columns)]
    if (
        len(set(dtypes)) == 1
        and "string" not in dtypes
        and len({column.dtype for column in columns}) == 1
    ):
        return (TensorSpec("X", dtypes[0], ("batch", len(columns)), tuple(columns)),)
    return tuple(
        TensorSpec(column.name, dtype, ("batch", 1), (column,))
        for column, dtype in zip(columns, dtypes, strict=True)
    )


def _tensor_dtype(column: Column, rows: Any, at: int) -> str:
    """The dtype that a column travels in: its own, and for whole numbers, which have no gaps and fractions, a float.

    `Estimator.rows` turns them back where they are whole. Numbers that a float does not hold stay
    what they are.
    """
    nullable = not isinstance(rows, np.ndarray) and not isinstance(rows.dtypes.iloc[at], np.dtype)
    if "int" not in column.dtype and not (column.dtype == "bool" and nullable):
        return column.dtype
    if isinstance(rows, np.ndarray):
        values = [rows[:, at].min(), rows[:, at].max()]
    else:
        values = rows.iloc[:, at].dropna().unique().tolist()
    largest = max((abs(int(value)) for value in values), default=0)
    return column.dtype if largest > EXACT else "float64"


def _output(name: str, array: Array) -> TensorSpec:
    text = array.dtype.kind == "U" or (
        array.dtype == object and all(isinstance(item, str) for item in array.flat)
    )
    dtype = "string" if text else str(array.dtype)
    if dtype not in DTYPES:
        raise ConversionError(
            f"the output {name!r} is an array of {array.dtype}; it must hold numbers or strings"
        )
    return TensorSpec(name, dtype, ("batch", *array.shape[1:]))


def _categories(like: Any) -> dict[str, tuple[Any, ...]]:
    """The categories of the columns of a frame that have some."""
    known = (
        {}
        if like is None
        else {n: d.categories for n, d in like.dtypes.items() if hasattr(d, "categories")}
    )
    return {
        str(name): tuple(
            int(value) if isinstance(value, bool) else value for value in values.tolist()
        )
        for name, values in known.items()
    }


def shared_values(source: Source, signature: Signature) -> Signature:
    """The signature with columns of texts and codes bound to what several rows of the example share, to draw from."""
    columns = [column for spec in signature.inputs for column in spec.columns]
    shared: dict[str, tuple[Any, ...]] = {}
    for at, column in enumerate(columns):
        if column.categories is not None or not (column.dtype == "string" or "int" in column.dtype):
            continue
        held = (
            source.rows[:, at]
            if isinstance(source.rows, np.ndarray)
            else source.rows.iloc[:, at].dropna()
        )
        values = [value for value, rows in Counter(held.tolist()).items() if rows >= SHARED]
        if values:
            shared[column.name] = tuple(sorted(values))
    inputs = tuple(
        replace(
            spec,
            columns=tuple(
                replace(c, categories=shared.get(c.name, c.categories)) for c in spec.columns
            ),
        )
        for spec in signature.inputs
    )
    return replace(signature, inputs=inputs)
