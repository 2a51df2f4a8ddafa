"""Read the columns out of whatever the caller holds: dicts, records, pandas, polars, Arrow.

No frame library is imported to find out what an object is: if it is one of theirs, they are in
`sys.modules`.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from math import isnan
from operator import itemgetter
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array, is_a
from modelkit.errors import SignatureError, importing
from modelkit.signature.records import array_of_tensor, fields_of, plain_rows
from modelkit.signature.spec import TensorSpec

NUMBERS = (bool, int, float, np.number, np.bool_)
# The names as their container holds them (a pandas Index, a list), and the values of each.
NamedColumns = tuple[Any, list[Any]]


def refuse_single(X: object) -> None:
    """Raise SignatureError where `X` is one row or one column, and say what makes it a batch."""
    fix = None
    if is_a(X, "pandas", "Series"):
        fix = (
            "a pandas Series; pass a frame: df[['column']] for one column, df.iloc[[i]] for one row"
        )
    elif is_a(X, "polars", "Series"):
        fix = (
            "a polars Series; pass a frame: series.to_frame() for one column, df[i : i + 1] for "
            "one row"
        )
    elif isinstance(X, np.ndarray) and X.ndim < 2:
        fix = (
            f"an array of shape {X.shape}; pass X.reshape(1, -1) for one row, X.reshape(-1, 1) for "
            "one column"
        )
    elif fields_of(X) is not None or (
        isinstance(X, Mapping) and X and all(_is_scalar(value) for value in X.values())
    ):
        fix = "a single record; pass a list of records: [record]"
    if fix is not None:
        raise SignatureError(
            f"the input is always a batch of rows, but this is {fix}", problems=(fix,)
        )


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | bytes | None) or not (
        hasattr(value, "__len__") or hasattr(value, "__array__")
    )


def is_one_column(X: Any) -> bool:
    """Whether these are values without a name: a Series, an array of Arrow, a list or array of texts."""
    if isinstance(X, list | tuple):
        return bool(X) and isinstance(X[0], str | None) and fields_of(X) is None
    if isinstance(X, np.ndarray):
        return X.ndim == 1 and X.dtype.kind in "UTO"
    arrow = is_a(X, "pyarrow", "Array") or is_a(X, "pyarrow", "ChunkedArray")
    return arrow or is_a(X, "polars", "Series") or (hasattr(X, "isna") and hasattr(X, "dtype"))


def array_of_rows(rows: Sequence[Sequence[Any]], exact: int) -> Array:
    """Rows that are lists as an array, of objects where their values are to be judged one by one.

    Raises SignatureError for rows of several lengths.
    """
    width, *others = {*map(len, rows)}
    if others:
        fix = f"rows of several lengths, {sorted([width, *others])}"
        raise SignatureError(f"every row needs a value for each column; got {fix}", problems=(fix,))
    values = [*chain.from_iterable(rows)]
    array = numbers(values, exact)
    return (_from_list(values) if array is None else array).reshape(len(rows), width)


def numbers(values: list[Any], exact: int) -> Array | None:
    """Numbers as numpy reads them, if all are below `exact`, up to which floats hold integers."""
    try:
        array = np.asarray(values)
    except ValueError:  # some of the values are lists
        return None
    plain = array.shape == (len(values),) and array.dtype.kind in "if"
    return array if plain and not (np.abs(array) >= exact).any() else None


def read_frame(X: object) -> NamedColumns:
    """The column names of `X`, and its columns in a form that `as_column` takes.

    Raises SignatureError for an object that lacks named columns.
    """
    if is_a(X, "pandas", "DataFrame"):
        return X.columns, pandas_arrays(X)  # type: ignore[attr-defined]
    if isinstance(X, list | tuple) and X and all(isinstance(row, Mapping) for row in X):
        return _read_records(X)
    refuse_single(X)
    if isinstance(X, Mapping):
        return list(X), list(X.values())
    if is_a(X, "polars", "DataFrame"):
        return X.columns, X.get_columns()  # type: ignore[attr-defined]
    if hasattr(X, "__arrow_c_stream__"):
        return _read_arrow(X)
    raise _unreadable(_what_to_pass(X))


def _unreadable(fix: str) -> SignatureError:
    return SignatureError(f"cannot read rows from {fix}", problems=(fix,))


def _what_to_pass(X: Any) -> str:
    what = type(X).__name__
    if hasattr(X, "toarray"):
        return (
            f"a sparse {what}; pass X.toarray(), with NaN for its zeros if the model is of XGBoost and was "
            "fitted on sparse rows"
        )
    if is_a(X, "polars", "LazyFrame"):
        return "a polars LazyFrame; pass X.collect()"
    if isinstance(X, str):
        return "str; pass a list of texts: [X], or the rows of a file: pandas.read_csv(X)"
    if isinstance(X, np.ndarray):
        return (
            f"an array of {X.ndim} dimensions; pass one of two, (n, columns), or a dict of columns"
        )
    if not isinstance(X, list | tuple):
        return (
            f"{what}; pass a numpy array, a dict of arrays, a pandas or polars frame, an Arrow "
            "table, or records"
        )
    if not X:
        return (
            f"an empty {what}, but this model takes a fixed number of rows; pass an array of them"
        )
    if isinstance(X[0], str):
        return (
            f"{what} of str; pass {{column: X}}, a frame or records, or np.asarray(X) for a "
            "tensor without columns"
        )
    if isinstance(X[0], NUMBERS):
        return (
            f"{what} of numbers; pass [X] for one row, [[x] for x in X] for one column, or np.asarray(X) "
            "for a tensor without columns"
        )
    return f"{what} of {type(X[0]).__name__}; pass np.asarray(X), a frame, or a list of records"


def whole_array(answer: Any) -> Any:
    """What an estimator answered as one array: of a sparse matrix all elements, of a frame its columns.

    A table of objects that are numbers becomes one of floats. Anything else is given back.
    """
    if hasattr(answer, "toarray"):
        return answer.toarray()
    if isinstance(answer, np.ndarray) and answer.ndim == 2 and answer.dtype == object:
        numbers = all(isinstance(value, NUMBERS) for value in answer.flat)
        return answer.astype(np.float64) if numbers else answer
    if not (is_a(answer, "pandas", "DataFrame") or is_a(answer, "polars", "DataFrame")):
        return answer
    _, columns = read_frame(answer)
    arrays = [_with_nan(as_column(column)) for column in columns]
    if any(array.dtype.kind in "mM" for array in arrays):  # which numpy puts beside no numbers
        arrays = [array.astype(object) for array in arrays]
    return np.column_stack(arrays) if arrays else np.empty((len(answer), 0))


def _with_nan(values: Array) -> Array:
    """Values as they are, with NaN in place of those that are masked."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    filled: Array = np.ma.filled(values.astype(np.float64), np.nan)
    return filled


def as_column(values: object) -> Array:
    """One column in any form as a 1-D array, masked where a type without NaN has missing values.

    Lists keep their Python values, so that types are judged one by one. Raises SignatureError for
    other shapes.
    """
    array: Array
    if isinstance(values, np.ndarray):
        array = values
    elif isinstance(values, list | tuple):
        array = _from_list(values)
    elif is_a(values, "pandas", "Series") or is_a(values, "pandas", "Index"):
        return as_column(values.array)  # type: ignore[attr-defined]
    elif hasattr(values, "isna") and hasattr(values, "dtype"):
        array = _from_extension(values)
    elif is_a(values, "polars", "Series"):
        array = _read_polars(values)
    elif hasattr(values, "__arrow_c_array__") or hasattr(values, "__arrow_c_stream__"):
        array = _from_arrow(values)
    elif is_a(values, "torch", "Tensor"):
        array = array_of_tensor(values)
    else:
        array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        fix = (
            "; a batch has one value a row: pass a list of records, [record]"
            if array.ndim == 0
            else ""
        )
        raise SignatureError(f"a column has shape {array.shape} where (n,) is expected{fix}")
    return array


def as_whole(values: Any, spec: TensorSpec) -> Array:
    """A tensor as it was passed, as an array; a mask is kept. Raises SignatureError."""
    if isinstance(values, np.ma.MaskedArray):
        return values
    if is_a(values, "pyarrow", "Array") or is_a(values, "pyarrow", "ChunkedArray"):
        return as_column(values)  # numpy takes a missing category for the last one
    if _may_lack_whole_numbers(values):
        return as_column(values)  # numpy rounds them to floats where one is missing
    values = plain_rows(values)
    # Left to itself, numpy turns the numbers of a mixed list into strings.
    mixed = spec.dtype == "string" and not hasattr(values, "dtype")
    try:
        array = np.asarray(values, object if mixed else None)
        if array.dtype.kind != "f" or hasattr(values, "dtype"):
            return array
        large = np.abs(array) >= 2**53  # which NaN is not
        rounded = large.any() and np.isfinite(array[large]).any()  # perhaps, of integers
        return np.asarray(values, object) if rounded else array
    except ValueError as error:
        raise SignatureError(f"input {spec.name!r} is not an array: {error}", spec=spec) from None


def _may_lack_whole_numbers(values: Any) -> bool:
    """Whether it is a column of pandas or polars of integers, of which some may be missing."""
    if is_a(values, "polars", "Series"):
        return bool(values.dtype.is_integer())
    kind = getattr(getattr(values, "dtype", None), "kind", "")
    return hasattr(values, "isna") and kind in ("i", "u")


def _from_list(values: list[Any] | tuple[Any, ...]) -> Array:
    types = {*map(type, values)}
    # NaN may stand for a missing string, so it is judged beside its neighbours.
    if types == {bool} or (types == {float} and not any(map(isnan, values))):
        return np.array(values)
    if types == {int} and max(values) < 1 << 63 and min(values) >= -(1 << 63):
        return np.array(values, np.int64)
    return np.fromiter(values, object, len(values))  # which takes a list for one value


def _read_records(records: list[Any] | tuple[Any, ...]) -> NamedColumns:
    names = list(records[0])
    for row, record in enumerate(records):
        if len(record) != len(names) or any(name not in record for name in names):
            odd = sorted({str(name) for name in set(record) ^ set(names)})
            raise SignatureError(
                f"record {row} and record 0 differ in the fields {odd}; every record needs the "
                "same fields (write a missing value as None, in JSON as null)",
                problems=tuple(f"the field {name!r} is not in every record" for name in odd),
            )
    return names, [list(map(itemgetter(name), records)) for name in names]


def pandas_arrays(df: Any) -> list[Any]:
    """The arrays behind a frame's columns.

    `_iter_column_arrays` skips building a Series per column, which is what makes small frames slow
    (7 microseconds for ten columns against 60); the public way is the fallback where pandas drops
    it.
    """
    arrays = getattr(df, "_iter_column_arrays", None)
    if arrays is not None:
        return list(arrays())
    return [df.iloc[:, i].array for i in range(df.shape[1])]


def one_block(df: Any) -> Array | None:
    """The values of a pandas frame that holds them all in one array, (width, n); None for others.

    `_mgr` is as private to pandas as `_iter_column_arrays`: where it is gone, this gives None.
    """
    blocks: Any = getattr(getattr(df, "_mgr", None), "blocks", ())
    if len(blocks) != 1:
        return None
    values = blocks[0].values
    return values if type(values) is np.ndarray and values.ndim == 2 else None


def _from_extension(values: Any) -> Array:
    dtype = values.dtype
    plain = getattr(dtype, "numpy_dtype", None)  # of Int64, boolean, Float32 and their Arrow twins
    if plain is not None and dtype.kind in "biuf":
        missing = np.asarray(values.isna())
        data = values.to_numpy(dtype=plain, na_value=False if dtype.kind == "b" else 0)
        return np.ma.MaskedArray(data, mask=missing) if missing.any() else data
    if dtype.kind == "O":  # strings and categories; np.asarray takes twice as long
        return np.asarray(values.to_numpy(dtype=object))
    return np.asarray(values)


def _read_polars(series: Any) -> Array:
    dtype = series.dtype
    if dtype.is_temporal():
        zoned = getattr(dtype, "time_zone", None) is not None
        return as_column(series.to_list()) if zoned else np.asarray(series.to_numpy())
    plain = dtype.is_integer() or dtype.is_float() or str(dtype) == "Boolean"
    if not plain or "128" in str(dtype):
        return as_column(series.to_list())
    if not series.null_count():
        return np.asarray(series.to_numpy())
    missing = series.is_null().to_numpy()
    return np.ma.MaskedArray(series.fill_null(strategy="zero").to_numpy(), mask=missing)


def _read_arrow(X: Any) -> NamedColumns:
    with importing("pyarrow", "reading an Arrow stream", "frames"):
        import pyarrow as pa
    try:
        table = pa.table(X)
    except (TypeError, ValueError):
        raise _unreadable(f"{type(X).__name__} that is not a table; pass an Arrow table") from None
    return list(table.column_names), list(table.columns)


def read_parquet(file: Any, named: Collection[str | None], size: int | None) -> Iterator[Any]:
    """The tables of Arrow in an open Parquet file, of `size` rows each, or one of all.

    An index of pandas is left out, but for what is `named`. Raises ValueError for another file.
    """
    with importing("pyarrow", "reading Parquet", "frames"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    try:
        parquet = pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
        schema = parquet.schema_arrow
        index = (schema.pandas_metadata or {}).get("index_columns", ())
        stored = {level for level in index if isinstance(level, str)}  # a range is a dict
        names = [name for name in schema.names if name in named or name not in stored]
        if size is None:
            yield parquet.read(columns=names)
        else:
            yield from parquet.iter_batches(size, columns=names)
    except (pa.ArrowException, OSError) as error:  # as Arrow calls a damaged page
        raise ValueError(str(error)) from error


def _from_arrow(column: Any) -> Array:
    import pyarrow as pa

    if not isinstance(column, pa.Array | pa.ChunkedArray):
        streams = hasattr(column, "__arrow_c_stream__")
        column = pa.chunked_array(column) if streams else pa.array(column)
    kind = column.type
    if pa.types.is_dictionary(kind):
        if pa.types.is_string_view(kind.value_type):  # to which pyarrow cannot cast
            return as_column(column.to_pylist())
        column = column.cast(kind.value_type)
        kind = column.type
    boolean = pa.types.is_boolean(kind)
    numeric = boolean or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    zoned = pa.types.is_timestamp(kind) and kind.tz is not None
    if zoned or (not numeric and not pa.types.is_temporal(kind)):
        return as_column(column.to_pylist())
    if numeric and column.null_count:
        missing = column.is_null().to_numpy(zero_copy_only=False)
        column = column.fill_null(False if boolean else 0)
        return np.ma.MaskedArray(column.to_numpy(zero_copy_only=False), mask=missing)
    return np.asarray(column.to_numpy(zero_copy_only=False))


def blank_column(dtype: Any, index: Any) -> Any:
    """A column of pandas that stands for one that is not read: missing values, or else zeros."""
    pandas = sys.modules["pandas"]
    if not isinstance(dtype, np.dtype):
        return pandas.Series([], dtype=dtype).reindex(index)
    if dtype.kind == "O":
        return pandas.Series(np.full(len(index), None, object), index=index, dtype=object)
    return pandas.Series(np.zeros(len(index), dtype), index=index)
