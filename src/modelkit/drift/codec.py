"""What changes of an object, as values that JSON can hold and arrays; and back, bit for bit.

A class names its attributes that change in `changing`. Frozen values whose number changes have their
class in `entries`, and lists of arrays whose number of rows changes are named in
`growing`. All else is made again from the same arguments.
"""

from __future__ import annotations

import dataclasses
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from modelkit._internal import fields
from modelkit._internal.arrays import Array
from modelkit._internal.json import from_plain, parse_json, to_plain
from modelkit._internal.npz import pack_arrays, unpack_arrays
from modelkit.errors import PackageError

Arrays = dict[str, Array]


def freeze(value: Any, arrays: Arrays, path: str = "") -> Any:
    """A value as plain ones; its arrays are put into `arrays` by their path, and None in their place.

    It may be an object with `changing`, a dataclass, a dict by name, a list, tuple or deque of such
    values, an array, a random generator or a plain value.
    """
    if isinstance(value, np.ndarray):
        arrays[path] = value
        return None
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if hasattr(value, "changing"):
        value = {name: getattr(value, name) for name in value.changing}
    elif dataclasses.is_dataclass(value):
        names = [own.name for own in dataclasses.fields(value) if own.init and own.compare]
        value = {name: getattr(value, name) for name in names}
    if isinstance(value, Mapping):
        return {name: freeze(part, arrays, f"{path}/{name}") for name, part in value.items()}
    if isinstance(value, list | tuple | deque):
        if _all_plain(value):
            return [*value]
        return [freeze(part, arrays, f"{path}/{i}") for i, part in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def thaw(fresh: Any, plain: Any, arrays: Mapping[str, Array], path: str = "") -> Any:
    """The inverse of `freeze`.

    Objects are filled in place. Plain values, and arrays in their shape and type, must fit `fresh`.
    An array without rows in `fresh` stands for any number of rows (and integers of any size), and
    None for any value.

    Args:
        fresh: what was made with the same arguments as the value that was frozen.
        plain: what `freeze` gave.
        arrays: the arrays by their path.
        path: the path of the value.

    Raises ValueError for what does not fit.
    """
    if path in arrays:
        return _array(fresh, arrays[path], path)
    if isinstance(fresh, np.random.Generator):
        fresh.bit_generator.state = plain
        return fresh
    if hasattr(fresh, "changing"):
        return _filled(fresh, plain, arrays, path)
    if isinstance(plain, dict):
        known = fresh or dict.fromkeys(plain)
        _check_names(known, plain, path)
        return {
            name: thaw(known[name], part, arrays, f"{path}/{name}") for name, part in plain.items()
        }
    if isinstance(plain, list):
        return _items(fresh, plain, arrays, path)
    return _scalar(fresh, plain, path)


def _array(fresh: Any, stored: Array, path: str) -> Array:
    if not isinstance(fresh, np.ndarray):
        if fresh is None or (np.ndim(stored) and isinstance(fresh, int | float)):
            return stored.copy("K")
        raise ValueError(f"{path} is an array, and not {type(fresh).__name__}")
    grows = bool(fresh.ndim and not len(fresh) and stored.ndim)
    integers = grows and {stored.dtype.kind, fresh.dtype.kind} <= {*"iu"}
    fits = stored.dtype == fresh.dtype or integers
    if not fits or fresh.shape[grows:] != stored.shape[grows:]:
        raise ValueError(
            f"{path} is {stored.dtype} {stored.shape}, and not {fresh.dtype} {fresh.shape}"
        )
    return stored.copy()


def _filled(fresh: Any, plain: Any, arrays: Mapping[str, Array], path: str) -> Any:
    _check_names(fresh.changing, plain, path)
    entries = getattr(fresh, "entries", {})
    for name in fresh.changing:
        current, part, where = getattr(fresh, name), plain[name], f"{path}/{name}"
        if name in getattr(fresh, "growing", ()):
            current = [own[:0] for own in current]
        if name in entries:
            kind = entries[name]
            items = [_entry(kind, one, arrays, f"{where}/{i}") for i, one in enumerate(part)]
            value = _like(current, items)
        else:
            value = thaw(current, part, arrays, where)
        setattr(fresh, name, value)
    return fresh


def _entry(kind: Any, plain: Any, arrays: Mapping[str, Array], path: str) -> Any:
    """A dataclass of this class."""
    return fields.read_object(kind, thaw(None, plain, arrays, path), path)


def _all_plain(items: Iterable[Any]) -> bool:
    """Whether no item has parts, so that many need not be looked at one by one."""
    return {*map(type, items)} <= {str, int, float, bool}


def _items(fresh: Any, plain: list[Any], arrays: Mapping[str, Array], path: str) -> Any:
    if fresh is None and _all_plain(plain):
        return plain
    known = [*(fresh or [None] * len(plain))]
    if len(known) != len(plain):
        raise ValueError(f"{path} has {len(plain)} entries, and not {len(known)}")
    pairs = zip(known, plain, strict=True)
    items = [thaw(own, part, arrays, f"{path}/{i}") for i, (own, part) in enumerate(pairs)]
    return _like(fresh, items)


def _like(fresh: Any, items: list[Any]) -> Any:
    """The items in the container that a fresh object has."""
    if isinstance(fresh, deque):
        return deque(items, fresh.maxlen)
    return tuple(items) if isinstance(fresh, tuple) else items


def _check_names(known: Any, plain: Any, path: str) -> None:
    if not isinstance(plain, dict) or {*plain} != {*known}:
        found = sorted(plain) if isinstance(plain, dict) else plain
        raise ValueError(f"{path or 'it'} has {sorted(known)}, and not {found!r:.200}")


def _scalar(fresh: Any, plain: Any, path: str) -> Any:
    if isinstance(fresh, float) and type(plain) is int:
        return float(plain)
    if fresh is not None and type(plain) is not type(fresh):
        raise ValueError(f"{path} is a {type(fresh).__name__}, and not {plain!r:.80}")
    return plain


def pack(schema: str, about: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """Values and arrays as one npz that `unpack` reads; equal contents give equal bytes."""
    text = json.dumps(to_plain({"schema": schema, **about}), sort_keys=True, allow_nan=False)
    return pack_arrays({"about": np.frombuffer(text.encode(), np.uint8), **arrays})


def unpack(schema: str, data: bytes | memoryview, what: str) -> tuple[dict[str, Any], Arrays]:
    """The values and arrays that were packed.

    Raises PackageError for bytes of another schema, and for bytes that `pack` did not make; TypeError
    for anything but bytes.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"a {what} is bytes, not {type(data).__name__}")
    try:
        arrays = unpack_arrays(data)
        text = arrays.pop("about").tobytes().decode()
        about: dict[str, Any] = from_plain(parse_json(text))
        found = about.pop("schema")
    except Exception as error:
        raise PackageError(f"this is not a {what}: {error}") from error
    if found != schema:
        raise PackageError(
            f"this is not a {what} of {schema}: the bytes are of {found!r}, another kind or version"
        )
    return about, arrays


def narrow(array: Array) -> Array:
    """Counts as uint32, where they fit."""
    small = array.dtype == np.int64 and 0 <= array.min(initial=0) <= array.max(initial=0) < 1 << 32
    return array.astype(np.uint32) if small else array


def wide(array: Array) -> Array:
    """The inverse of `narrow`."""
    return array.astype(np.int64) if array.dtype == np.uint32 else array


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Raise PackageError for all that goes wrong when what was unpacked is read as a `what`."""
    try:
        yield
    except PackageError:
        raise
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise PackageError(f"this is not a {what}: {error!s}") from error
