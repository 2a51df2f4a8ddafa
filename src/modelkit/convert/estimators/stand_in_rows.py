"""The functions of numpy and pandas that a stand-in follows, along each row: see `stand_ins`."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.interpolation import interpolated
from modelkit.convert.estimators.stand_in_cells import (
    axis_of_rows,
    elementwise,
    made_of,
    plain,
    rearranged,
    tensor,
)
from modelkit.convert.estimators.stand_in_functions import by_steps, follows
from modelkit.convert.estimators.stand_ins import (
    FOLLOWED,
    Symbol,
    compared,
    dtypes_of,
    floating,
    is_pandas,
    numbers_of,
    pandas,
    stop,
)
from modelkit.convert.estimators.tensors import Var, row_sums

OF_ALL = "numbers of all rows together"
LAST: dict[str, Any] = {"axis": -1, "keepdims": True}


def _along(make: Callable[[Var], Var], x: Any, axis: Any) -> Var:
    """(n, others) of a function of the last axis, which keeps it."""
    if axis is None or isinstance(axis, tuple):
        stop(OF_ALL if axis is None else "several axes at once")
    at = {"columns": 1, "index": 0}.get(axis, axis) % x.ndim
    if at == axis_of_rows(x.like):
        stop(f"{OF_ALL}: take them from the rows of training, and write them down")
    numbers = tensor(rearranged(np.moveaxis, plain(x), at, -1)).astype(np.float64)
    size = x.shape[at]
    others = len(x.cells) // size
    if others == 1:
        return make(numbers)
    return make(numbers.reshape(-1, others, size)).reshape(-1, others)


def _sum(x: Var) -> Var:
    return row_sums(x) if x.ndim == 2 else np.sum(x, **LAST)


def _any(x: Var) -> Var:
    return np.any(x.astype(np.bool_), **LAST)


# What a missing number is taken for where it is left out, and the function.
OF_ROWS: dict[str, tuple[float, Callable[[Var], Var]]] = {
    "all": (1.0, lambda x: np.all(x.astype(np.bool_), **LAST)),
    "any": (0.0, _any),
    "max": (-np.inf, lambda x: np.max(x, **LAST)),
    "min": (np.inf, lambda x: np.min(x, **LAST)),
    "prod": (1.0, lambda x: np.prod(x, **LAST)),
    "sum": (0.0, _sum),
}
EXACT = ("all", "any", "argmax", "argmin", "max", "min")
MOMENTS = ("mean", "std", "var")


def _moment(x: Var, name: str, ddof: float, *, skipped: bool) -> Var:
    """The mean, the variance or its root; missing where no number is known."""
    gaps = np.isnan(x)
    count = _sum((~gaps).astype(np.float64))
    mean = _sum(np.where(gaps, 0.0, x) if skipped else x) / count
    if name == "mean":
        return mean
    apart = np.where(gaps, 0.0, x - mean) if skipped else x - mean
    count = count - float(ddof)
    found = np.where(count > 0.0, _sum(apart * apart) / count, np.nan)
    return found if name == "var" else np.sqrt(found)


def _first(x: Var, place: Any, mark: float) -> Var:
    """The place of the first largest or smallest: of a missing one where there is any."""
    gaps = np.isnan(x)
    found = place(np.where(gaps, mark, x), **LAST)
    gap = np.argmax(gaps.astype(np.int32), **LAST)
    return np.where(_any(gaps), gap, found).astype(np.float64)


def _reduced(x: Var, name: str, *, skipped: bool) -> Var:
    """A function of each row, as numpy has it; of the numbers that are not missing, if they are skipped."""
    neutral, function = OF_ROWS[name]
    gaps = np.isnan(x)
    found = function(np.where(gaps, neutral, x) if skipped else x)
    if name not in ("max", "min"):
        return found
    none = np.all(gaps, **LAST) if skipped else _any(gaps)
    return np.where(none, np.nan, found)


def _of_rows(name: str, *, method: bool, known: bool = False) -> Callable[..., Any]:
    def followed(
        x: Any,
        axis: Any = None,
        *,
        ddof: Any = None,
        skipna: bool = True,
        keepdims: Any = False,
        numeric_only: Any = False,
        like: Any = None,
    ) -> Any:
        narrow = [kind for kind in dtypes_of(x.like) if kind.kind == "f" and kind.itemsize < 8]
        if name in ("all", "any", "argmax", "argmin"):
            compared(x)
        elif name not in EXACT and narrow:
            stop(f"{name} of numbers of few digits: write it of X.astype(float)")
        skipped = (known or is_pandas(x)) and skipna
        if name in ("argmax", "argmin"):
            make = partial(
                _first, place=getattr(np, name), mark=-np.inf if name == "argmax" else np.inf
            )
        elif name in MOMENTS:
            ddof = int(method and is_pandas(x)) if ddof is None else ddof
            make = partial(_moment, name=name, ddof=ddof, skipped=skipped)
        else:
            make = partial(_reduced, name=name, skipped=skipped)
        return made_of(_along(make, x, 0 if axis is None and is_pandas(x) else axis), like)

    return followed


for name in (*OF_ROWS, *MOMENTS, "argmax", "argmin"):
    follows(getattr(np, name))(_of_rows(name, method=False))
    follows(name)(_of_rows(name, method=True))
for name in ("max", "mean", "min", "prod", "std", "sum", "var"):
    follows(getattr(np, f"nan{name}"))(_of_rows(name, method=False, known=True))


@follows(np.linalg.norm, way=by_steps)
def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: Any = False) -> Any:  # noqa: A002 - numpy's own form
    sizes = np.abs(plain(x) * 1.0)  # of integers as numbers
    if ord in (None, 2):
        return np.sqrt(np.sum(sizes * sizes, axis=axis, keepdims=keepdims))
    if ord not in (1, np.inf):
        stop(f"numpy.linalg.norm(ord={ord})")
    return (np.sum if ord == 1 else np.max)(sizes, axis=axis, keepdims=keepdims)


def _ordered(x: Var) -> Var:
    """Numbers from the smallest to the largest, and missing ones behind these."""
    ordered = np.sort(np.where(np.isnan(x), np.inf, x), axis=-1)
    known = np.sum((~np.isnan(x)).astype(np.float64), **LAST)
    return np.where(np.arange(x.shape[-1]) < known, ordered, np.nan)


def _middle(x: Var) -> Var:
    size = x.shape[-1]
    ordered = _ordered(x)
    low, high = (ordered[..., [place]] for place in ((size - 1) // 2, size // 2))
    return np.where(_any(np.isnan(x)), np.nan, low if size % 2 else (low + high) * 0.5)


@follows(np.median)
def _median(x: Any, axis: Any = None, keepdims: Any = False, *, like: Any = None) -> Any:
    return made_of(_along(_middle, x, axis), like)


def _matrix(x: Any, axis: Any) -> Any:
    if axis not in (1, -1, "columns") or x.ndim != 2:
        stop(OF_ALL)
    return plain(x)


@follows(np.sort)
def _sort(x: Any, axis: Any = -1, *, like: Any = None) -> Any:
    return made_of(_ordered(tensor(_matrix(x, axis)).astype(np.float64)), like)


@follows(np.diff, way=by_steps)
def _diff(x: Any, n: int = 1, axis: int = -1) -> Any:
    found = _matrix(x, axis)
    for _ in range(n):
        found = found[:, 1:] - found[:, :-1]
    return found


def _running(step: Any, neutral: float) -> Callable[..., Any]:
    """Sums or products along a row, one column after the other."""

    def followed(x: Any, axis: Any = None, *, like: Any = None) -> Any:
        rows = _matrix(x, axis)
        gaps = np.isnan(rows) if is_pandas(x) else None
        rows = rows if gaps is None else np.where(gaps, neutral, rows)
        dtype = np.asarray(like).dtype
        columns = [rows[:, at].astype(dtype) for at in range(rows.shape[1])]
        whole: Any = np.column_stack(list(accumulate(columns, step)))
        return by_steps(like, lambda: whole if gaps is None else np.where(gaps, np.nan, whole))

    return followed


follows(np.cumsum, "cumsum")(_running(np.add, 0.0))
follows(np.cumprod, "cumprod")(_running(np.multiply, 1.0))


@follows(np.dot, "dot")
def _dot(x: Any, weights: Any, *, like: Any = None) -> Any:
    if not isinstance(x, Symbol) or x.ndim != 2:
        stop("a product of matrices whose first is not the rows")
    if isinstance(weights, Symbol):
        stop("a product of rows with themselves: write numpy.sum(a * b, axis=1)")
    if is_pandas(weights) and is_pandas(x):
        stop("a product with a frame of numbers that are always the same: take its to_numpy()")
    if not floating(like):
        stop("a product of matrices of integers: write X.astype(float) @ weights")
    factors = numbers_of(weights).astype(np.float64)
    factors = factors if factors.ndim == 2 else factors[:, None]
    return made_of(tensor(plain(x)).astype(np.float64) @ factors, x.like @ weights)


@follows(np.einsum)
def _einsum(subscripts: str, *operands: Any, like: Any = None) -> Any:
    if not re.fullmatch(r"(\w)(\w),\2(\w?)->\1\3", subscripts.replace(" ", "")):
        stop(f"numpy.einsum({subscripts!r}): write it with X @ weights and numpy.sum")
    return by_steps(like, np.dot, *operands)


@follows(np.vander)
def _vander(x: Any, N: int, increasing: bool = False, *, like: Any = None) -> Any:
    x = plain(x).astype(like.dtype)
    powers = [np.ones_like(x), *accumulate([x] * (N - 1), np.multiply)]
    return by_steps(like, np.column_stack, powers if increasing else powers[::-1])


# Tables of numbers.


def _bounds(values: Any) -> Array:
    bounds: Array = numbers_of(values).astype(np.float64)
    if bounds.ndim != 1 or not len(bounds) or (np.diff(bounds) < 0).any() or np.isnan(bounds).any():
        stop("bounds that do not increase")
    return bounds


def _place(x: Var, bounds: Array, side: str) -> Var:
    """How many bounds a number is beyond; all, for a missing one."""
    x = x.astype(np.float64)[:, :, None]
    below = x <= bounds if side == "left" else x < bounds
    return np.sum((~below).astype(np.float64), axis=2)


@follows(np.searchsorted)
def _searchsorted(a: Any, v: Any, side: str = "left", *, like: Any = None) -> Any:
    if isinstance(a, Symbol):
        stop("numpy.searchsorted in the rows themselves")
    return elementwise(like, partial(_place, bounds=_bounds(a), side=side), compared(v))


@follows(np.digitize, way=by_steps)
def _digitize(x: Any, bins: Any, right: Any = False) -> Any:
    return np.searchsorted(_bounds(bins), plain(x), "left" if right else "right")


@follows(np.interp)
def _interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, *, like: Any = None
) -> Any:
    if isinstance(xp, Symbol) or isinstance(fp, Symbol):
        stop("numpy.interp in the rows themselves")
    xs, ys = _bounds(xp), numbers_of(fp).astype(np.float64)
    if len(xs) < 2 or (np.diff(xs) == 0).any():
        stop("numpy.interp over places that do not increase")
    ends = (ys[0] if left is None else float(left), ys[-1] if right is None else float(right))

    def make(x: Var) -> Var:
        x = x.astype(np.float64)
        found = interpolated(x, [xs] * x.shape[1], [ys] * x.shape[1])
        found = np.where(x < xs[0], ends[0], found)
        return np.where(x > xs[-1], ends[1], np.where(x == xs[-1], ys[-1], found))

    return elementwise(like, make, x)


def cut(x: Any, bins: Any, **named: Any) -> Any:
    """As pandas.cut: the number of the bin that a number is in."""
    really = pandas().cut
    if not isinstance(x, Symbol):
        return really(x, bins, **named)
    right, lowest = named.get("right", True), named.get("include_lowest", False)
    if named.get("labels", True) is not False or isinstance(bins, int):
        stop("pandas.cut with other than bounds of bins and labels=False")
    bounds = _bounds(bins)
    numbers: Any = plain(x)
    place = np.searchsorted(bounds, numbers, "left" if right else "right")
    if lowest and right:
        place = np.where(numbers == bounds[0], 1, place)
    inside = (place > 0) & (place < len(bounds)) & ~np.isnan(numbers)
    return by_steps(really(x.like, bins, **named), lambda: np.where(inside, place - 1.0, np.nan))


OTHERS: dict[Any, Callable[..., Any]] = {
    np.amax: FOLLOWED[np.max],
    np.amin: FOLLOWED[np.min],
    np.average: lambda x, axis=None, weights=None: (
        np.mean(x, axis=axis)
        if weights is None
        else np.sum(x * weights, axis=axis) / np.sum(weights)
    ),
    np.count_nonzero: lambda x, axis=None, **named: np.sum(x != 0, axis=axis, **named),
    np.ptp: lambda x, axis=None, **named: np.max(x, axis, **named) - np.min(x, axis, **named),
    "product": FOLLOWED["prod"],
}
FOLLOWED |= OTHERS
