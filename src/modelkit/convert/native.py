"""Describe a fitted estimator that is packaged as it is: its signature, and its form of rows."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import onnx

from modelkit._internal.arrays import Array
from modelkit.convert.asking import asking
from modelkit.convert.boosting import as_estimator
from modelkit.convert.dtypes import categories_of
from modelkit.convert.example import Example, empty_of, read_example
from modelkit.convert.outputs import truth
from modelkit.convert.parity.columns import signature_columns, with_columns
from modelkit.convert.parity.rows import column_in, dtypes_in, numbers_in, replaced, spread
from modelkit.convert.sklearn import is_estimator, library_of
from modelkit.convert.source import DECISION, Source
from modelkit.convert.steps import last_step
from modelkit.convert.ties import differ
from modelkit.errors import ConversionError
from modelkit.runtimes.joblib import Estimator
from modelkit.runtimes.series import OBJECT
from modelkit.signature.signature import Signature
from modelkit.signature.spec import AS_OBJECTS, GRAPH_DTYPES, MIXED, TIMES, Column, TensorSpec

LARGEST_EXACT = 1 << 53  # up to here a float holds every whole number
FEW_ROWS = 64  # that an estimator is asked about in two forms
SHARED_ROWS = 5  # of the example that hold one value: it is a category, and tells of none of them


def from_estimator(estimator: Any, given: Any) -> tuple[Source, Estimator]:
    """A source whose truth is the estimator itself, and what is pickled. Raises ConversionError."""
    estimator = as_estimator(estimator)
    if not is_estimator(estimator):
        raise ConversionError(
            "format='joblib' takes a fitted estimator with scikit-learn's interface, not "
            f"{type(estimator).__name__}; save a torch module or an ONNX model with format='onnx'",
            step=type(estimator).__name__,
        )
    example = read_example(estimator, given, native=True)
    columns = example.columns
    held = Estimator(estimator, *empty_of(example.given))
    few = spread(example.rows, 2)
    roles, classes = example.roles(few)
    _check_form(estimator, spread(example.given, 2))
    ask = partial(truth, roles=roles)
    found = example.answer(ask, few)
    found.pop(DECISION, None)
    kept = _unlike_floats(example, partial(example.answer, ask))
    signature = Signature(
        _inputs(columns, example.rows, kept),
        tuple(_output(name, array) for name, array in found.items()),
        classes=classes,
        ignored=example.ignored,
    )
    source = Source(
        onnx.ModelProto(),
        signature,
        rows=example.rows,
        given=given,
        against=f"{library_of(estimator)} {type(last_step(estimator)).__name__}",
        truth=partial(example.answer, ask),
        form=example.form,
        categories=_closed_categories(example),
    )
    return source, held


def _closed_categories(example: Example) -> dict[str, tuple[Any, ...]]:
    """The values that columns are bound to, by encoders or by their own categories."""
    closed = example.closed_categories()
    for name, values in categories_of(example.rows).items():
        closed[name] = tuple(int(each) if isinstance(each, bool) else each for each in values)
    for column in example.columns:  # no signature lists what these are bound to
        if column.dtype in (MIXED, *TIMES):
            closed.pop(column.name, None)
    return closed


def _check_form(estimator: Any, few: Any) -> None:
    """Raise ConversionError if the estimator says that it was fitted on rows of another form."""
    verb = "predict" if hasattr(estimator, "predict") else "transform"
    if not hasattr(estimator, verb) or getattr(few, "dtype", None) == OBJECT:
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with asking(estimator, verb, few):
            getattr(estimator, verb)(few.copy())
    if any("feature names" in str(warning.message) for warning in caught):
        framed = isinstance(few, np.ndarray)
        raise ConversionError(
            "example must have the same form as the rows that you passed to fit: pass "
            f"{'a frame' if framed else 'an array'}, as to fit",
            step=type(last_step(estimator)).__name__,
        )


def _unlike_floats(example: Example, ask: Callable[[Any], dict[str, Array]]) -> set[int]:
    """The columns of whole numbers of which an estimator answers floats otherwise, as texts are made.

    A gap or a fraction makes floats of a whole column, in the rows of other callers of a batch too.
    """
    few = spread(example.rows, FEW_ROWS)
    whole = [
        at
        for at, dtype in enumerate(dtypes_in(few))
        if _is_whole(dtype) and len(_held(example.rows, at)) == len(example.rows)
    ]

    def are_unlike(columns: list[int]) -> bool:
        floats = replaced(few, {at: numbers_in(few, at) for at in columns})
        try:
            others = ask(floats)
            return any(differ(array, others[name]).any() for name, array in ask(few).items())
        except Exception:  # whatever an estimator says to floats
            return True

    if not whole or not are_unlike(whole):
        return set()
    return {at for at in whole if are_unlike([at])} or set(whole)


def _is_whole(dtype: Any) -> bool:
    """Whether a dtype is one of whole numbers, or of booleans that may be missing."""
    if hasattr(dtype, "categories"):
        return False
    kind = getattr(dtype, "kind", "O")
    return kind in "iu" or (kind == "b" and not isinstance(dtype, np.dtype))


def _inputs(columns: list[Column], rows: Any, kept: set[int]) -> tuple[TensorSpec, ...]:
    """One tensor for numbers of one dtype, else one a column; those at places `kept` in a dtype of their own."""
    dtypes = [
        column.dtype if at in kept else _tensor_dtype(column, rows, at)
        for at, column in enumerate(columns)
    ]
    alike = len(set(dtypes)) == 1 and len({column.dtype for column in columns}) == 1
    if alike and "string" not in dtypes:
        return (TensorSpec("X", dtypes[0], ("batch", len(columns)), tuple(columns)),)
    return tuple(
        TensorSpec(column.name, dtype, ("batch", 1), (column,))
        for column, dtype in zip(columns, dtypes, strict=True)
    )


def _tensor_dtype(column: Column, rows: Any, at: int) -> str:
    """The dtype that a column travels in: its own, but float64 for whole numbers.

    These lack gaps and fractions, and `Estimator.rows` turns them back where they are whole.
    Numbers that a float does not hold stay what they are.
    """
    nullable = not isinstance(dtypes_in(rows)[at], np.dtype)
    if column.dtype == MIXED:
        return "string"
    if "int" not in column.dtype and not (column.dtype == "bool" and nullable):
        return column.dtype
    largest = max((abs(int(value)) for value in set(_held(rows, at))), default=0)
    return column.dtype if largest > LARGEST_EXACT else "float64"


def _output(name: str, array: Array) -> TensorSpec:
    """What an output is, from an answer."""
    objects = array.dtype == object and all(isinstance(item, str) for item in array.flat)
    dtype = "string" if array.dtype.kind == "U" or objects else str(array.dtype)
    if dtype not in GRAPH_DTYPES:
        raise ConversionError(
            f"the output {name!r} is an array of {array.dtype}; it must hold numbers or strings: "
            "turn what fit is given into these"
        )
    return TensorSpec(name, dtype, ("batch", *array.shape[1:]))


def shared_values(source: Source, signature: Signature) -> Signature:
    """The signature with columns of texts and codes bound to values that several rows share.

    Rows that are drawn from it reveal nothing about one row of the example.
    """
    rows = source.rows
    bound: dict[str, Column] = {}
    for at, column in enumerate(signature_columns(signature)):
        codes = column.dtype in AS_OBJECTS or "int" in column.dtype
        if column.categories is not None or not codes:
            continue
        counts = Counter(_held(rows, at))
        values = [value for value, number in counts.items() if number >= SHARED_ROWS]
        if column.dtype == MIXED:
            values = [
                json.dumps(value, ensure_ascii=False) for value in values or _like(_held(rows, at))
            ]
        if values:
            bound[column.name] = replace(column, categories=tuple(sorted(values)))
    return with_columns(signature, lambda column: bound.get(column.name, column))


def _held(rows: Any, at: int) -> list[Any]:
    """The values of a column, as Python objects; a frame leaves out those that are missing."""
    column = column_in(rows, at)
    return list((column.dropna() if hasattr(column, "dropna") else column).tolist())


def _like(held: Iterable[Any]) -> list[Any]:
    """Two values of the type of all those that a column holds; none where it holds several types."""
    texts = {isinstance(value, str) for value in held}
    if len(texts) != 1:
        return []
    return ["a", "b"] if texts == {True} else [0, 1]
