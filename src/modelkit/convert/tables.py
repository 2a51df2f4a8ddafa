"""Example rows in whatever people keep them in, as a frame of pandas or an array."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from modelkit._internal.arrays import is_a
from modelkit.convert.boosting import is_catboost
from modelkit.convert.steps import with_parts
from modelkit.errors import ConversionError, SignatureError, importing
from modelkit.signature.frames import refuse_single
from modelkit.signature.records import plain_rows

NONES = "modelkit.nones"  # in the attributes of a frame whose form has None for a missing text
ASKED = ("predict", "transform")
FEW_ROWS = 64  # that an estimator is asked about in two forms
CODED = ("Categorical", "Enum")  # columns of polars


def as_table(estimator: Any, example: Any) -> Any:
    """Example rows as a frame of pandas where they have named columns; else as they are.

    Numbers of an array have the order of bytes of this machine. Raises ConversionError.
    """
    example = plain_rows(example)
    if isinstance(example, np.ndarray):
        if example.ndim == 2 and example.dtype.kind in "OU":
            return _from_objects(estimator, example)
        return example.astype(example.dtype.newbyteorder("="), copy=False)
    if is_a(example, "pandas", "DataFrame"):  # rows are repeated, and labels with them
        return example.set_flags(allows_duplicate_labels=True)
    if is_a(example, "polars", "DataFrame"):
        return _from_polars(estimator, example)
    if is_a(example, "pyarrow", "Table") or is_a(example, "pyarrow", "RecordBatch"):
        return example.to_pandas()
    first = example[0] if isinstance(example, list | tuple) and len(example) > 0 else None
    if isinstance(example, Mapping) or isinstance(first, Mapping):
        _check_several(example)
        return _pandas().DataFrame(example)
    if isinstance(first, list | tuple):
        with suppress(ValueError):  # of rows of several lengths
            array = np.asarray(example)
            return array if array.dtype.kind in "biuf" else example
    return example


def _check_several(example: Any) -> None:
    """Raise ConversionError for one record in place of several."""
    try:
        refuse_single(example)
    except SignatureError:
        raise ConversionError(
            "example is a single record: pass a list of records, [record]"
        ) from None


def _pandas() -> Any:
    with importing("pandas", "an example of records or of polars", "frames"):
        import pandas as pd
    return pd


def _from_objects(estimator: Any, example: Any) -> Any:
    """An array of mixed values, as `frame.values` is, as a frame whose columns have dtypes.

    Raises ConversionError where the estimator answers the frame otherwise.
    """
    rows = _pandas().DataFrame(example).infer_objects()
    if answers_alike(estimator, example[:FEW_ROWS], rows.iloc[:FEW_ROWS]):
        return rows
    raise ConversionError(
        f"the estimator answers this array of {example.dtype} otherwise than a frame of the same "
        "rows; fit it on a frame of pandas, whose columns have dtypes of their own, and pass that "
        "as example"
    )


def _from_polars(estimator: Any, example: Any) -> Any:
    """A frame of polars as one of pandas that the estimator answers as it does the first.

    Libraries read frames of polars by their values, where None is missing, or through pandas.
    Raises ConversionError where neither gives the same answers.
    """
    if _ends_at_codes(estimator, example):
        return example.to_pandas()
    for convert in (_values_of_polars, type(example).to_pandas):  # whose categories stay such
        rows = convert(example)
        if answers_alike(estimator, example.head(FEW_ROWS), rows.iloc[:FEW_ROWS]):
            return rows
    raise ConversionError(
        "the estimator answers this polars frame otherwise than the same rows in pandas; fit it on "
        "pandas, X.to_pandas(), and pass that as example"
    )


def _ends_at_codes(estimator: Any, frame: Any) -> bool:
    """Whether asking about a frame of polars would end the process.

    CatBoost does that to columns of categories, which it hence was not trained on.
    """
    coded = any(type(dtype).__name__ in CODED for dtype in frame.dtypes)
    return coded and any(map(is_catboost, with_parts(estimator)))


def _values_of_polars(frame: Any) -> Any:
    """A frame of pandas with the arrays that polars gives for its columns; a text is missing as None."""
    pandas = _pandas()
    columns = {}
    for column in frame.get_columns():
        values = column.to_numpy()
        dtype = object if values.dtype == object else None
        columns[column.name] = pandas.Series(np.array(values), dtype=dtype)
    frame = pandas.DataFrame(columns)
    frame.attrs[NONES] = True
    return frame


def dense_table(estimator: Any, rows: Any) -> Any:
    """A frame with dense columns in place of sparse ones; anything else as it is.

    Raises ConversionError where an estimator answers dense rows otherwise.
    """
    if not is_a(rows, "pandas", "DataFrame"):
        return rows
    sparse = {
        name: dtype.subtype
        for name, dtype in rows.dtypes.items()
        if hasattr(dtype, "subtype") and hasattr(dtype, "fill_value")
    }
    if not sparse:
        return rows
    dense = rows.astype(sparse)
    if answers_alike(estimator, rows.iloc[:FEW_ROWS], dense.iloc[:FEW_ROWS]):
        return dense
    raise ConversionError(
        f"the estimator answers sparse columns, such as {next(iter(sparse))!r}, otherwise than "
        "dense ones, which are what a package takes: give fit and example X.sparse.to_dense()"
    )


def answers_alike(estimator: Any, rows: Any, others: Any) -> bool:
    """Whether an estimator answers two tables of rows, and equally."""
    verb = next((verb for verb in ASKED if hasattr(estimator, verb)), "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            answers = [getattr(estimator, verb)(table) for table in (rows, others)]
        except Exception:  # whatever a library says to rows in another form
            return False
    one, other = (np.asarray(dense(answer)) for answer in answers)
    if one.shape != other.shape:
        return False
    return bool(np.all((one == other) | ((one != one) & (other != other))))  # NaN


def dense(answer: Any) -> Any:
    """A sparse matrix with its zeros; anything else as it is."""
    return answer.toarray() if hasattr(answer, "toarray") else answer
