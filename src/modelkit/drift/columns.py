"""Columns as the caller has them: by name, as numbers, as texts and as strata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import UsageError
from modelkit.signature import frames
from modelkit.signature.cast import MISSING, is_blank, is_missing

FeatureKind = Literal["number", "flag", "time", "text", "category"]
ColumnsByName = Mapping[str, Array]

KINDS_OF_DTYPES: dict[str, FeatureKind] = {
    "b": "flag",
    "M": "time",
    "i": "number",
    "u": "number",
    "f": "number",
    "U": "category",
    "T": "category",
}
# The unit of times here holds some 292,000 years on each side; these are years since 1970.
FAR = np.array([-290_000, 290_000], "M8[Y]")
FINE = ("ns", "ps", "fs", "as")  # units that hold less
TRUTHS = {"true": 1.0, "false": 0.0}  # words for numbers, in labels
KIND_WORDS = {
    "number": "numbers",
    "flag": "booleans",
    "time": "times",
    "text": "texts",
    "category": "strings",
}


def fifth(n: int, *, ordered: bool, seed: int) -> tuple[Array, Array]:
    """The numbers of a fifth of n rows, and of the others, in order.

    A random fifth, since rows may come from five sources in turn; of `ordered` rows the first.
    """
    order = np.arange(n) if ordered else np.random.default_rng([seed, n]).permutation(n)
    split = -(-n // 5)
    return np.sort(order[:split]), np.sort(order[split:])


def length(columns: ColumnsByName) -> int:
    """The number of rows of columns."""
    return len(next(iter(columns.values()))) if columns else 0


def take_rows(columns: ColumnsByName, rows: Array) -> dict[str, Array]:
    """The columns with the rows of these numbers."""
    return {name: column[rows] for name, column in columns.items()}


def read_columns(X: Any) -> dict[str, Array]:
    """The columns of the caller's rows by name, (n,) each; an array (n, width) has x0, x1, ...

    A dict may also hold (n, d) arrays: embeddings. Raises UsageError for columns of different
    lengths or of one name, SignatureError for rows that lack columns.
    """
    if isinstance(X, np.ndarray) and X.ndim == 2:
        columns = {f"x{i}": column for i, column in enumerate(X.T)}
    elif isinstance(X, Mapping) and any(map(_is_matrix, X.values())):
        columns = {}
        for name, value in X.items():
            columns[str(name)] = value if _is_matrix(value) else frames.as_column(value)
    else:
        found, values = frames.read_frame(X)
        names = [str(name) for name in found]
        columns = dict(zip(names, map(frames.as_column, values), strict=True))
        if len(columns) < len(names):
            raise UsageError(f"two columns have one name in {names}; rename one")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise UsageError(f"the columns have different lengths: {lengths}")
    return columns


def _is_matrix(value: Any) -> bool:
    return getattr(value, "ndim", 1) == 2


def feature_kind(name: str, values: Array, unknown: FeatureKind = "category") -> FeatureKind:
    """The kind of feature that a column is, by its type and not by its values.

    It is `unknown` where every value is missing. Raises UsageError for a column of no kind.
    """
    kind = values.dtype.kind
    if kind in KINDS_OF_DTYPES:
        return KINDS_OF_DTYPES[kind]
    if kind != "O":
        raise UsageError(
            f"column {name!r} is {values.dtype}, and not numbers, booleans, times or strings",
            feature=name,
        )
    items = np.ma.getdata(values).tolist()
    types = {type(item) for item in items if not is_missing(item)}
    if not types:
        return unknown
    found = _kind_of_types(types)
    if found is None:
        names = sorted(t.__name__ for t in types)
        raise UsageError(
            f"column {name!r} mixes {names}; a column holds numbers, booleans, times or strings",
            feature=name,
        )
    return found


def _kind_of_types(types: set[type]) -> FeatureKind | None:
    if types <= {str, np.str_}:
        return "category"
    if types <= {bool, np.bool_}:
        return "flag"
    if all(issubclass(t, bool | int | float | np.number | np.bool_) for t in types):
        return "number"
    dated = (t is np.datetime64 or {"isoformat", "year"} <= {*dir(t)} for t in types)
    return "time" if all(dated) else None


def all_missing(values: Array) -> Array:
    """Values as they are; where all are missing, objects without a kind.

    The dtype that a reader gives an empty column reveals nothing about its kind.
    """
    if values.dtype.kind != "O" and (not len(values) or is_blank(values)):
        return np.full(len(values), None, object)
    return values


def as_numbers(values: Array, kind: FeatureKind, name: str) -> Array:
    """A column as it is compared with edges, (n,): float32, NaN where a value is missing.

    Times are microseconds as float64. Raises UsageError for a column of another kind.
    """
    if kind == "text":
        texts = as_strings(values, kind, name)
        return np.array([np.nan if item is None else len(item) for item in texts], np.float32)
    if kind == "time":
        values = all_missing(values)
    found = feature_kind(name, values, kind)
    if found != kind and {found, kind} != {"number", "flag"}:
        raise other_kind(name, kind, found)
    if kind == "time":
        return microseconds(values)
    # A number beyond the range of float32 is +inf, as the model would have it.
    with np.errstate(over="ignore"):
        return unmasked(values).astype(np.float32, copy=False)


def unmasked(values: Array) -> Array:
    """Numbers, (n,), with NaN where one is missing."""
    if values.dtype.kind == "O":
        items = np.ma.getdata(values).tolist()
        numbers = [np.nan if is_missing(item) else _number(item) for item in items]
        return np.array(numbers, np.float64)
    if np.ma.isMaskedArray(values):
        return np.ma.filled(values.astype(np.float64), np.nan)
    return values


def as_strings(values: Array, kind: FeatureKind, name: str) -> list[str | None]:
    """A column of strings, with None where one is missing. Raises UsageError for another kind."""
    values = all_missing(values)
    if {*map(type, values.tolist())} != {str}:
        found = feature_kind(name, values, "category")
        if found != "category":
            raise other_kind(name, kind, found)
    return as_texts(values)


def microseconds(values: Array) -> Array:
    """Times, or objects with a date, as microseconds since 1970, float64 (n,); NaN where missing."""
    if values.dtype.kind == "O":
        items = np.ma.getdata(values).tolist()
        values = np.array([_moment(item) for item in items], "M8[us]")
    times = _in_microseconds(np.ma.filled(values, np.datetime64("NaT", "us")))
    return np.where(np.isnat(times), np.nan, times.astype(np.int64))


def _in_microseconds(times: Any) -> Any:
    """Times of any unit as M8[us]; those that it does not hold are as far away as FAR."""
    if np.datetime_data(times.dtype)[0] not in FINE:
        times = np.clip(times, *FAR.astype(times.dtype))
    return times.astype("M8[us]")


def _number(item: Any) -> float:
    try:
        return float(item)
    except OverflowError:  # an integer beyond every float
        return np.inf if item > 0 else -np.inf


def _moment(item: Any) -> Any:
    """A time without a zone; one with a zone is taken in UTC, as pandas and Arrow store it."""
    if is_missing(item):
        return np.datetime64("NaT", "us")
    if getattr(item, "tzinfo", None) is None:
        return _in_microseconds(np.datetime64(item))
    local: Any = np.datetime64(item.replace(tzinfo=None), "us")
    return local - np.timedelta64(item.utcoffset() or 0, "us")


def other_kind(name: str, expected: FeatureKind, found: FeatureKind) -> UsageError:
    """The error for a column of another kind than the profile has."""
    words = f"{KIND_WORDS[found]} where the profile has {KIND_WORDS[expected]}"
    return UsageError(f"column {name!r} holds {words}; convert it as in training", feature=name)


def as_texts(values: Array) -> list[str | None]:
    """A column of strings, or of labels of any type, with None where one is missing."""
    items: list[Any] = values.tolist()  # a masked value is None
    if {*map(type, items)} != {str}:
        return [None if is_missing(item) or item == MISSING else str(item) for item in items]
    if MISSING in items:
        return [None if item == MISSING else item for item in items]
    return items


def stratum_names(values: Array) -> list[str]:
    """The stratum of each row.

    A number has one name, whether it comes as an integer, a boolean or a float.
    """
    if values.dtype.kind == "M":  # in nanoseconds `tolist` gives integers, in days dates
        values = _in_microseconds(values)
    return [_stratum(item) for item in values.tolist()]


def _stratum(item: Any) -> str:
    if is_missing(item) or item == MISSING:
        return str(None)
    if isinstance(item, int) or (isinstance(item, float) and item.is_integer()):
        return str(int(item))
    return str(np.float32(item)) if isinstance(item, float) else str(item)


def places_in(known: Iterable[str], names: Iterable[str]) -> Array:
    """The place of each name among those that are known, int64 (n,); -1 for another one."""
    at = {name: i for i, name in enumerate(known)}
    return np.array([at.get(name, -1) for name in names], np.int64)


# Labels: True, "true", 1 and "1.0" are not equal as names, and mean the same.


def as_labels(values: Any, what: str = "labels") -> Array:
    """Labels or predictions as an array, objects with None where some are masked.

    Raises UsageError for lists of several lengths, and as `refuse_bytes`.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise UsageError(f"{what} are one value for each row: {error}") from error
    refuse_bytes(array, what)
    return np.array(values.tolist(), object) if np.ma.is_masked(values) else array


def refuse_bytes(array: Array, what: str) -> None:
    """Raise UsageError for bytes, which are equal to no text and to no number."""
    objects = array.ravel().tolist() if array.dtype.kind == "O" else []
    if array.dtype.kind == "S" or any(isinstance(item, bytes) for item in objects):
        raise UsageError(f"{what} are bytes; decode them, as by values.astype(str)")


def label_names(labels: Array, known: Iterable[str]) -> list[str | None]:
    """The names of labels, (n,), with None where one is missing.

    A number has one name, whether it comes as an integer, a boolean or a float. A boolean is named
    "True" or "False" only where those are among the names that are `known`.
    """
    items = labels.tolist()
    if not any(isinstance(item, bool | int | float) for item in items):
        return list(as_texts(labels))
    in_words = not {"True", "False"}.isdisjoint(known)
    names: list[str | None] = [*stratum_names(labels)]
    for i, item in enumerate(items):
        if is_missing(item) or item == MISSING:
            names[i] = None
        elif in_words and isinstance(item, bool):
            names[i] = str(item)
    return names


def check_same_forms(pairs: Iterable[tuple[Any, Any]], fix: str) -> None:
    """Raise UsageError where a label means the same as another name, to which it is not equal.

    `fix` says what to do.
    """
    for label, other in set(pairs):
        meant = _meaning(label)
        if label != other and meant is not None and meant == _meaning(other):
            raise UsageError(
                f"the label {label!r} is not equal to {other!r}, and is probably the same class in "
                f"another form: {fix}"
            )


def _meaning(name: str | None) -> float | None:
    """The number or the truth that a name stands for; None for another name.

    A number is one as Python writes it: "01" and "1e1" may be codes.
    """
    text = str(name)
    if text.lower() in TRUTHS:
        return TRUTHS[text.lower()]
    try:
        number = float(text)
    except ValueError:
        return None
    return number if text in (repr(number), f"{number:.0f}") else None
