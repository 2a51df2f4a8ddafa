"""Columns and tensors: what a signature is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from modelkit._internal import fields
from modelkit._internal.arrays import Array
from modelkit._internal.fields import freeze
from modelkit.errors import SignatureError, UsageError
from modelkit.report.html import is_controlling, printable

NUMERIC = tuple(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))
GRAPH_DTYPES = ("float16", "float32", "float64", *NUMERIC, "bool", "string")
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # of times, and how many a second has
ZONE = ", UTC"  # of points in time with a time zone, which a tensor holds in UTC
# A graph takes times as whole numbers of their unit since 1970; those with a zone only an estimator
# does that is packaged as it is.
TIMES = (
    *(f"datetime64[{unit}]" for unit in UNITS),
    *(f"datetime64[{unit}{ZONE}]" for unit in UNITS),
    *(f"timedelta64[{unit}]" for unit in UNITS),
)
DTYPES = (*GRAPH_DTYPES, *TIMES)
MIXED = "mixed"  # of a column whose strings are any values, as JSON: numbers beside texts
_SHOWN = 20  # names of columns in a message
AS_OBJECTS = ("string", MIXED)  # dtypes that numpy holds as objects of Python


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The numpy dtype of a signature dtype; strings are held as Python objects."""
    if dtype not in DTYPES and dtype != MIXED:
        raise SignatureError(f"unknown dtype {dtype!r}; use one of {', '.join(DTYPES)}")
    return np.dtype(object if dtype in AS_OBJECTS else dtype.replace(ZONE, ""))


def check_text(what: str, text: object) -> None:
    """Raise SignatureError for a name with control characters, which would drive a terminal."""
    if isinstance(text, str) and is_controlling(text):
        raise SignatureError(
            f"the {what} {text!r:.80} holds control characters; give it another name"
        )


@dataclass(frozen=True)
class Column:
    """One named column of a tensor.

        mk.Column("plan", "string", categories=("basic", "plus"))

    `dtype` is the type the source was trained on; what a column accepts is decided by the dtype of
    its tensor, which is what the graph computes in. A column is "mixed" where it was one of Python
    objects of several types; its tensor holds each as JSON. `nullable` says whether missing values (None,
    NaN, NA) are accepted; where it is false, infinities are refused too, as scikit-learn does. `finite` says
    that a `nullable` column refuses infinities all the same, as the source does.
    `categories`, where given, is the closed set of values the column may hold: strings, or numbers
    of a column of numbers.
    """

    name: str
    dtype: str = "float64"
    nullable: bool = False
    categories: tuple[str | float, ...] | None = None
    finite: bool = False

    def __post_init__(self) -> None:
        freeze(self, "categories")
        numpy_dtype(self.dtype)
        if self.finite and (not self.nullable or self.dtype in (*AS_OBJECTS, *TIMES)):
            raise SignatureError(
                f"column {self.name!r} is finite; only a nullable column of numbers can be"
            )
        check_text("column", self.name)
        kinds = (str,) if self.dtype in AS_OBJECTS else (int, float)
        known = self.categories or ()
        odd = [value for value in known if not isinstance(value, kinds) or isinstance(value, bool)]
        odd += [value for value in known if isinstance(value, float) and not isfinite(value)]
        if odd:
            raise SignatureError(
                f"column {self.name!r} is {self.dtype}, and its categories are {self.categories}"
            )

    @property
    def form(self) -> str:
        """What more a `Rule` has to know of its values: "mixed", "finite", or ""."""
        if self.dtype == MIXED:
            return MIXED
        return "finite" if self.finite else ""


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor: `shape` mixes sizes and dimension names, such as `("batch", 30)`.

        spec = mk.TensorSpec("X", "float32", ("batch", 30))
        spec.fits((5, 30))  # True

    `columns`, where given, name the positions along the last of two dimensions. `finite`, for a
    tensor of floats without columns, says that NaN and infinities are refused, as they are in a
    column that is not nullable.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    columns: tuple[Column, ...] = ()
    finite: bool = False

    __repr__ = fields.brief

    def __post_init__(self) -> None:
        freeze(self, "shape", columns=Column)
        numpy_dtype(self.dtype)
        if not self.name or any(isinstance(size, int) and size < 0 for size in self.shape):
            raise SignatureError(
                f"tensor {self.name!r} of shape {self.shape} needs a name and sizes of 0 or more"
            )
        check_text("tensor", self.name)
        for size in self.shape:
            check_text("dimension", size)
        odd = [
            column.name
            for column in self.columns
            if (column.dtype in AS_OBJECTS) != (self.dtype == "string")
        ]
        if odd:
            raise SignatureError(
                f"tensor {self.name!r} is {self.dtype}; strings and numbers do not mix: {odd}"
            )
        if self.columns and self.shape[1:] != (len(self.columns),):
            raise SignatureError(
                f"tensor {self.name!r} has shape {self.shape}, but {len(self.columns)} columns"
            )
        if self.finite and (self.columns or "float" not in self.dtype):
            raise SignatureError(
                f"tensor {self.name!r} is finite; only a tensor of floats without columns can be"
            )

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape has the rank and the fixed sizes of the tensor."""
        return len(shape) == len(self.shape) and all(
            isinstance(dim, str) or size == dim for size, dim in zip(shape, self.shape, strict=True)
        )

    def __str__(self) -> str:
        # An only column is what callers name: a graph may call it x0, where it has a space.
        name = self.columns[0].name if len(self.columns) == 1 else self.name
        return printable(f"{name}: {self.dtype}[{', '.join(map(str, self.shape))}]").replace(
            "\n", "\\n"
        )


def no_rows(spec: TensorSpec) -> Array:
    """A tensor of zero rows; every named dimension has size 0."""
    shape = [0 if isinstance(size, str) else size for size in spec.shape]
    return np.empty(shape, numpy_dtype(spec.dtype))


def check_shape(array: Array, spec: TensorSpec) -> None:
    """Raise SignatureError unless an array has the rank and the fixed sizes of its tensor."""
    if not spec.fits(array.shape):
        known = ", ".join(column.name for column in spec.columns[:_SHOWN])
        more = ", ..." if len(spec.columns) > _SHOWN else ""
        names = f" (columns {known}{more})" if known else ""
        raise SignatureError(
            f"input {spec.name!r} must have shape ({', '.join(map(str, spec.shape))}), got "
            f"{array.shape}{names}",
            spec=spec,
        )


def check_dims(
    specs: Iterable[TensorSpec], tensors: Mapping[str, Array], sizes: dict[str, int] | None = None
) -> dict[str, int]:
    """The size of every named dimension.

    `sizes` holds sizes that are known before. Raises SignatureError where two tensors disagree.
    """
    sizes = {} if sizes is None else dict(sizes)
    where: dict[str, str] = {}
    for spec in specs:
        for size, dim in zip(tensors[spec.name].shape, spec.shape, strict=False):
            if isinstance(dim, str) and sizes.setdefault(dim, size) != size:
                raise SignatureError(
                    f"dimension {dim!r} is {sizes[dim]} in {where.get(dim, 'the inputs')!r}, "
                    f"but {size} in {spec.name!r}",
                    dimension=dim,
                )
            if isinstance(dim, str):
                where.setdefault(dim, spec.name)
    return sizes


def check_ranges(ranges: Any) -> None:
    """Raise UsageError unless each column has a least and a greatest number; they may be infinite."""
    try:
        fits = all(low <= high + 0.0 for low, high in ranges.values())  # of texts there is no sum
    except (AttributeError, TypeError, ValueError):
        fits = False
    if not fits:
        raise UsageError(
            f"ranges maps names of columns to their least and greatest number, not {ranges!r:.200}"
        )


def names_of(inputs: Iterable[TensorSpec]) -> list[str]:
    """Every column, and every tensor without columns, in order."""
    return [
        name for spec in inputs for name in [column.name for column in spec.columns] or [spec.name]
    ]
