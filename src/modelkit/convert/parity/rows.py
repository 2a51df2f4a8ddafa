"""Example rows in one form: an array, a frame of pandas, or a dict of tensors by name."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array, is_a

NONES = "modelkit.nones"  # in the attributes of a frame whose form has None for a missing text


@dataclass(frozen=True, eq=False)
class Rows(ABC):
    """Rows as a source takes them, which are `raw`."""

    raw: Any

    def __len__(self) -> int:
        return len(self.raw)

    @abstractmethod
    def at(self, places: Any) -> Rows:
        """The rows at some places."""

    def spread(self, most: int) -> Rows:
        """At most this number of rows, evenly spaced."""
        if len(self) <= most:
            return self
        return self.at(np.linspace(0, len(self) - 1, most).astype(int))

    @abstractmethod
    def zeroed(self) -> Rows:
        """The same rows with zeros for all numbers."""


class Tensors(Rows):
    """Rows of several inputs: arrays by name, which share their first axis."""

    def __len__(self) -> int:
        return len(next(iter(self.raw.values())))

    def at(self, places: Any) -> Tensors:
        """The rows at some places of every input."""
        return Tensors({name: array[places] for name, array in self.raw.items()})

    def zeroed(self) -> Tensors:
        """Zeros in every input; what is not finite becomes NaN."""
        return Tensors({name: array * 0 for name, array in self.raw.items()})

    def times(self, factor: float) -> Tensors | None:
        """The rows times a factor; None where one input does not hold floats."""
        if not all(array.dtype.kind == "f" for array in self.raw.values()):
            return None
        return Tensors({name: array * array.dtype.type(factor) for name, array in self.raw.items()})

    def with_tensor(self, name: str, array: Array) -> Tensors:
        """The rows with another array for one input."""
        return Tensors({**self.raw, name: array})


class Table(Rows):
    """Rows of columns, which are known by their positions."""

    @property
    @abstractmethod
    def dtypes(self) -> list[Any]:
        """The dtype of each column."""

    @abstractmethod
    def first(self, most: int) -> Table:
        """At most this number of rows, from the first one on."""

    @abstractmethod
    def repeated(self, places: Array) -> Table:
        """Rows at some places, any of them more than once, as rows of their own."""

    @abstractmethod
    def with_columns(self, columns: Mapping[int, Any]) -> Table:
        """A copy with other values in some columns. Whole numbers in an array become float64.

        Columns of float32 stay so: the source computes in that.
        """

    @abstractmethod
    def doubled(self, places: Array) -> Table:
        """The rows at some places, columns of numbers in float64, or float32 as before."""

    def widened(self) -> Any:
        """The rows with float64 in place of float32."""
        single = [i for i, dtype in enumerate(self.dtypes) if dtype == np.float32]
        if isinstance(self.raw, np.ndarray):
            return self.raw.astype(np.float64) if single else self.raw
        return self.raw.astype({self.raw.columns[i]: np.float64 for i in single})

    @abstractmethod
    def values(self, column: int) -> Array:
        """A column as an array of its own dtype."""

    @abstractmethod
    def numbers(self, column: int) -> Array:
        """A column of numbers in float64, NaN for those that are missing."""

    @abstractmethod
    def held(self, column: int) -> list[Any]:
        """The values of a column, as Python objects; a frame leaves out those that are missing."""

    @abstractmethod
    def gaps(self) -> set[int]:
        """The columns in which a value is missing."""

    @abstractmethod
    def without_gaps(self) -> Array:
        """The places of the rows in which no value is missing."""

    def has_none(self, column: int) -> bool:
        """Whether a missing value of a column is None."""
        return False

    def has_only_none(self, column: int) -> bool:
        """Whether a column has missing values, and all of them are None."""
        return False

    @abstractmethod
    def takes_gaps(self, column: int) -> bool:
        """Whether the dtype of a column has a missing value."""

    @abstractmethod
    def blank(self, column: int, mask: Array, example: Table) -> Any:
        """A column that is missing where the mask is true, in the way of the example."""

    def floats(self) -> list[int]:
        """The columns of floats."""
        return [i for i, dtype in enumerate(self.dtypes) if getattr(dtype, "kind", "O") == "f"]


class ArrayRows(Table):
    """A matrix of numbers, or one column of texts as an array of objects."""

    @property
    def dtypes(self) -> list[Any]:
        """The dtype of the array, once a column."""
        return [self.raw.dtype] * self.raw.shape[1]

    def at(self, places: Any) -> ArrayRows:
        """The rows at some places."""
        return ArrayRows(self.raw[places])

    def first(self, most: int) -> ArrayRows:
        """The first rows."""
        return ArrayRows(self.raw[:most])

    def repeated(self, places: Array) -> ArrayRows:
        """The rows at some places."""
        return ArrayRows(self.raw[places])

    def with_columns(self, columns: Mapping[int, Any]) -> ArrayRows:
        """A copy with other values in some columns; whole numbers become float64."""
        keeps = self.raw.dtype.kind in "fO"
        out = self.raw.astype(self.raw.dtype if keeps else np.float64)
        for i, values in columns.items():
            out[:, i] = values
        return ArrayRows(out)

    def doubled(self, places: Array) -> ArrayRows:
        """The rows at some places in float64, or float32 as before."""
        return ArrayRows(self.raw[places].astype(_doubled(self.raw.dtype)))

    def zeroed(self) -> ArrayRows:
        """Zeros, unless the array is one of booleans or texts."""
        return ArrayRows(np.zeros_like(self.raw)) if self.raw.dtype.kind in "fiu" else self

    def values(self, column: int) -> Array:
        """A column of the array."""
        return np.asarray(self.raw[:, column])

    def numbers(self, column: int) -> Array:
        """A column in float64."""
        return np.asarray(self.raw[:, column], np.float64)

    def held(self, column: int) -> list[Any]:
        """The values of a column, NaN for those that are missing."""
        return list(self.raw[:, column].tolist())

    def gaps(self) -> set[int]:
        """The columns that hold a NaN."""
        if self.raw.dtype.kind != "f":
            return set()
        return set(np.flatnonzero(np.isnan(self.raw).any(axis=0)).tolist())

    def without_gaps(self) -> Array:
        """The places of the rows without NaN."""
        if self.raw.dtype.kind != "f":
            return np.arange(len(self.raw))
        return np.flatnonzero(~np.isnan(self.raw).any(axis=1))

    def takes_gaps(self, column: int) -> bool:
        """Whether the array holds numbers."""
        return bool(self.raw.dtype.kind != "O")

    def blank(self, column: int, mask: Array, example: Table) -> Array:
        """A column with NaN where the mask is true."""
        return np.where(mask, np.nan, self.raw[:, column])


class FrameRows(Table):
    """A frame of pandas."""

    @property
    def dtypes(self) -> list[Any]:
        """The dtype of each column, numpy's or an extension's."""
        return list(self.raw.dtypes)

    def at(self, places: Any) -> FrameRows:
        """The rows at some places, with their index."""
        return FrameRows(self.raw.iloc[places])

    def first(self, most: int) -> FrameRows:
        """The first rows, with their index."""
        return FrameRows(self.raw.iloc[:most])

    def repeated(self, places: Array) -> FrameRows:
        """The rows at some places, numbered anew."""
        return FrameRows(self.raw.iloc[places].reset_index(drop=True))

    def with_columns(self, columns: Mapping[int, Any]) -> FrameRows:
        """A copy with other values in some columns, in the dtype of these or float32 as before."""
        series = {i: column for i, (_, column) in enumerate(self.raw.items())}
        frame = sys.modules["pandas"].DataFrame(series | dict(columns), index=self.raw.index)
        single = [i for i in columns if self.dtypes[i] == np.float32]
        frame = frame.astype(dict.fromkeys(single, np.float32))
        frame.columns = self.raw.columns
        return FrameRows(frame)

    def doubled(self, places: Array) -> FrameRows:
        """The rows at some places, columns of numbers in float64, or float32 as before."""
        numbers = [
            name for name, dtype in self.raw.dtypes.items() if getattr(dtype, "kind", "O") in "iuf"
        ]
        dtypes = {name: _doubled(self.raw.dtypes[name]) for name in numbers}
        return FrameRows(self.raw.iloc[places].astype(dtypes).reset_index(drop=True))

    def zeroed(self) -> FrameRows:
        """Zeros in the columns of numbers, but where a value is missing."""
        chosen = [i for i, dtype in enumerate(self.dtypes) if getattr(dtype, "kind", "O") in "fiu"]
        return self.with_columns({i: self.raw.iloc[:, i] * 0 for i in chosen})

    def values(self, column: int) -> Array:
        """A column as an array."""
        return np.asarray(self.raw.iloc[:, column].to_numpy())

    def numbers(self, column: int) -> Array:
        """A column in float64."""
        return np.asarray(self.raw.iloc[:, column].to_numpy(np.float64, na_value=np.nan, copy=True))

    def held(self, column: int) -> list[Any]:
        """The values of a column that are not missing."""
        return list(self.raw.iloc[:, column].dropna().tolist())

    def gaps(self) -> set[int]:
        """The columns in which pandas finds a missing value."""
        return set(np.flatnonzero(self.raw.isna().to_numpy().any(axis=0)).tolist())

    def without_gaps(self) -> Array:
        """The places of the rows in which pandas finds no missing value."""
        return np.flatnonzero(~self.raw.isna().to_numpy().any(axis=1))

    def has_none(self, column: int) -> bool:
        """Whether a column of objects holds None."""
        return any(value is None for value in self.raw.iloc[:, column].array)

    def has_only_none(self, column: int) -> bool:
        """Whether a column of objects is missing as None alone, by its values or in its form."""
        series = self.raw.iloc[:, column]
        missing = series[series.isna()].array
        if not len(missing):
            return NONES in self.raw.attrs and series.dtype == object
        return all(value is None for value in missing)

    def takes_gaps(self, column: int) -> bool:
        """Whether a column is of anything but numpy's booleans."""
        dtype = self.dtypes[column]
        return not (isinstance(dtype, np.dtype) and dtype.kind == "b")

    def blank(self, column: int, mask: Array, example: Table) -> Any:
        """A column that is missing where the mask is true; objects as in the example."""
        series = self.raw.iloc[:, column]
        dtype = series.dtype
        if not isinstance(dtype, np.dtype):
            return series.mask(mask)
        if dtype.kind in "mM":
            times = series.to_numpy(copy=True)
            times[mask] = np.array("NaT", dtype)
            return times
        if dtype.kind != "O":
            wide = dtype if dtype.kind == "f" else np.float64
            numbers = series.to_numpy(wide, copy=True)
            numbers[mask] = np.nan
            return numbers
        held = example.raw.iloc[:, column]
        gone = held[held.isna()]
        values = series.to_numpy(copy=True)
        usual = None if NONES in example.raw.attrs else np.nan
        values[mask] = gone.iloc[0] if len(gone) else usual
        return sys.modules["pandas"].Series(values, series.index, dtype=object)

    def with_text(self, column: int, mask: Array, text: str) -> Any:
        """A column with a text where the mask is true: one more category, if it has some."""
        series = self.raw.iloc[:, column]
        values = series.to_numpy(object, copy=True)
        values[mask] = text
        if hasattr(series.dtype, "categories"):
            return self.with_categories(column, values)
        return sys.modules["pandas"].Series(values, series.index, dtype=series.dtype)

    def with_categories(self, column: int, values: Array) -> Any:
        """A column of categories with other values: those it has not come after its own."""
        pandas = sys.modules["pandas"]
        series = self.raw.iloc[:, column]
        given = pandas.Series(values, series.index)
        known = series.dtype.categories
        if known.dtype == np.bool_:  # which has no other values
            return given
        others = pandas.Index(given.dropna().unique()).difference(known)
        dtype = pandas.CategoricalDtype(known.append(others), series.dtype.ordered)
        return given.astype(dtype)


def _doubled(dtype: Any) -> Any:
    return dtype if dtype == np.float32 else np.float64


def rows_of(raw: Any) -> Rows:
    """Rows in the form that fits them."""
    if isinstance(raw, dict):
        return Tensors(raw)
    return FrameRows(raw) if is_a(raw, "pandas", "DataFrame") else ArrayRows(raw)
