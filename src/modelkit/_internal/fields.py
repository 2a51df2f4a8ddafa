"""Read frozen dataclasses from plain JSON values, strictly, and write them back.

A reader believes nothing: every field must be known and present, or have a default, and hold the
type that its annotation names. All errors are ValueErrors that name the field by its path.
"""

from __future__ import annotations

import dataclasses
import re
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from numbers import Integral
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import numpy as np

from modelkit.errors import UsageError

MAX_JSON_DEPTH = 16  # of lists and objects within a field of any JSON value
MOST_SHOWN = 500
BRIEF = reprlib.Repr()
BRIEF.maxtuple = BRIEF.maxlist = BRIEF.maxdict = 3
BRIEF.maxstring = BRIEF.maxother = 60
SCALARS = (str, int, float, bool)
SURROGATE = re.compile("[\ud800-\udfff]")

Object = TypeVar("Object")
Named = TypeVar("Named", bound=Any)
Reader = Callable[[object, str], Any]


def freeze(value: object, *names: str, **kinds: type) -> None:
    """Make tuples of the sequences that a frozen value was given, so it has a hash.

    None stays. Raises TypeError for a str, whose items would be letters, for a set, which lacks an
    order, for what lacks items, and for items of another kind than is named.
    """
    for name in (*names, *kinds):
        given = getattr(value, name)
        if given is None:
            continue
        where = f"{name} of {type(value).__name__}"
        if isinstance(given, str | bytes | set | frozenset) or not isinstance(given, Iterable):
            raise TypeError(f"{where} is a tuple or a list, not {given!r:.80}")
        items = tuple(given)
        kind = kinds.get(name, object)
        for item in items:
            if not isinstance(item, kind):
                raise TypeError(f"{where} holds values of {kind.__name__}, not {item!r:.80}")
        object.__setattr__(value, name, items)


def check_integer(what: str, number: Any, least: int) -> None:
    """Raise UsageError for an argument that is no integer, of Python or numpy, or less than `least`."""
    if isinstance(number, bool) or not isinstance(number, Integral) or number < least:
        raise UsageError(f"{what} is an integer of at least {least}, not {number!r}")


def read_object(cls: type[Object], plain: object, where: str) -> Object:
    """A dataclass from a JSON object.

    Fields may be annotated as str, int, float, bool, literals, tuples, dicts by string, unions,
    other dataclasses, or Any: a JSON value of at most 16 levels, and in a tuple one that is not a
    list and no object. JSON has neither bytes nor arrays nor dataclasses: a caller that keeps them
    beside the JSON puts them among its values. A field that is not compared is derived, so it is
    not read.

    Args:
        cls: the dataclass.
        plain: what a JSON parser gives.
        where: the path of the object, for messages.

    Raises ValueError for unknown or missing fields, for other types, and for what `cls` refuses.
    """
    if isinstance(plain, cls):
        return plain
    if not isinstance(plain, dict):
        raise _other_type(where, "an object", type(plain).__name__)
    readers: Mapping[str, Reader] = _readers(cls)  # type: ignore[arg-type]  # a class is hashable
    unknown = sorted(set(plain) - set(readers))
    absent = [name for name in _required(cls) if name not in plain]
    if unknown or absent:
        raise ValueError(f"{where}: unknown fields {unknown}, missing fields {absent}")
    values = {name: readers[name](value, f"{where}: {name}") for name, value in plain.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def read_known(cls: type[Object], plain: object, where: str) -> Object:
    """As `read_object`, but fields that a newer modelkit added are left out."""
    if isinstance(plain, dict):
        plain = {name: plain[name] for name in _readers(cls) if name in plain}  # type: ignore[arg-type]
    return read_object(cls, plain, where)


def write_object(value: Any, *, defaults: bool = True) -> Any:
    """The JSON value of a dataclass, with lists for tuples; `read_object` is the inverse.

    Without `defaults`, fields that hold their default are left out.
    """
    if isinstance(value, tuple):
        return [write_object(item, defaults=defaults) for item in value]
    if isinstance(value, dict):
        return {name: write_object(item, defaults=defaults) for name, item in value.items()}
    if not dataclasses.is_dataclass(value):
        return value
    plain = {}
    for field in _fields(type(value)):
        held = getattr(value, field.name)
        if defaults or held != _default(field):
            plain[field.name] = write_object(held, defaults=defaults)
    return plain


def item_named(items: Sequence[Named], name: str, what: str) -> Named:
    """The item that has a name. Raises KeyError, with the names that there are, where none has it."""
    for item in items:
        if item.name == name:
            return item
    raise KeyError(f"unknown {what} {name!r}; there are {', '.join(each.name for each in items)}")


def brief(self: Any) -> str:
    """What a value holds, on one screen: the `__repr__` of values that may be long.

    That is its text where it has one, else its fields, of which long ones are cut.
    """
    name = type(self).__name__
    if "__str__" in vars(type(self)):
        return cut(f"<{name} {str(self).removeprefix(f'{name} ')}>")
    shown = [field.name for field in dataclasses.fields(self) if field.repr]
    return cut(f"{name}({', '.join(f'{own}={BRIEF.repr(getattr(self, own))}' for own in shown)})")


def cut(text: str, most: int = MOST_SHOWN) -> str:
    """A text of at most so many characters, which ends as a longer one does."""
    return text if len(text) <= most else f"{text[: most - 4]}...{text[-1]}"


def read_json(value: object, where: str, depth: int = 0) -> object:
    """Any JSON value whose strings are valid text and whose integers fit 64 bits.

    Scalars of numpy are the values of Python that they hold. Raises ValueError.
    """
    if isinstance(value, np.generic):  # a number, boolean or text of numpy
        value = value.item()
    if depth > MAX_JSON_DEPTH:
        raise ValueError(f"{where} nests deeper than {MAX_JSON_DEPTH} levels")
    if isinstance(value, dict):
        found = {}
        for key, item in value.items():
            found[_checked((str,), key, where)] = read_json(item, f"{where}.{key}", depth + 1)
        return found
    if isinstance(value, list):
        return [read_json(item, f"{where}[{at}]", depth + 1) for at, item in enumerate(value)]
    return None if value is None else _checked(SCALARS, value, where)


def _checked(kinds: tuple[type, ...], value: object, where: str) -> Any:
    _read_scalar(kinds, value, where)
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise ValueError(f"{where} is beyond 64 bits")
    if isinstance(value, str) and not value.isascii() and SURROGATE.search(value):
        raise ValueError(f"{where} holds a lone surrogate")
    return value


def _fields(cls: Any) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(cls) if field.init and field.compare]


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _required(cls: Any) -> list[str]:
    return [field.name for field in _fields(cls) if _default(field) is dataclasses.MISSING]


@cache
def _readers(cls: Any) -> Mapping[str, Reader]:
    return {field.name: _reader_of(str(field.type), cls.__module__) for field in _fields(cls)}


@cache
def _reader_of(annotation: str, module: str) -> Reader:
    # `get_type_hints` would evaluate derived fields too, and one annotation many times: 1 ms.
    return _reader(eval(annotation, vars(sys.modules[module])))  # noqa: S307 - of our own source


def _reader(annotation: Any) -> Reader:
    """What reads the values of an annotation."""
    if annotation is Any:
        return read_json
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return partial(read_object, annotation)
    origin = get_origin(annotation)
    kinds = get_args(annotation)
    if origin is tuple and kinds[-1] is not ...:
        return partial(_read_items, [_reader(kind) for kind in kinds])
    if origin is tuple:
        item = kinds[0]
        return partial(_read_tuple, _scalar(SCALARS) if item is Any else _reader(item))
    if origin in (dict, Mapping):
        return partial(_read_dict, _reader(kinds[1]))
    if origin is Literal:
        return partial(_read_literal, kinds)
    if origin is np.ndarray:
        return _scalar((np.ndarray,))
    if origin not in (Union, UnionType):
        return _scalar((annotation,))
    if NoneType not in kinds:
        return _scalar(kinds)
    others = [kind for kind in kinds if kind is not NoneType]
    return partial(_read_optional, _reader(others[0]) if len(others) == 1 else _scalar((*others,)))


def _scalar(kinds: tuple[type, ...]) -> Reader:
    """What reads values of these types; JSON may write a float without a fraction."""
    return partial(_read_scalar, (*kinds, int) if float in kinds else kinds)


def _read_scalar(kinds: tuple[type, ...], value: object, where: str) -> Any:
    if type(value) not in kinds:
        names = " or ".join(dict.fromkeys(kind.__name__ for kind in kinds))
        raise _other_type(where, names, value)
    return value


def _read_tuple(item: Reader, value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _other_type(where, "a list", value)
    return tuple(item(entry, f"{where}[{at}]") for at, entry in enumerate(value))


def _read_items(items: list[Reader], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) != len(items):
        raise _other_type(where, f"a list of {len(items)} values", value)
    return tuple(item(entry, where) for item, entry in zip(items, value, strict=True))


def _read_literal(known: tuple[str, ...], value: object, where: str) -> object:
    if value not in known:
        raise _other_type(where, f"one of {list(known)}", value)
    return value


def _read_dict(item: Reader, value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _other_type(where, "an object", value)
    return {key: item(entry, f"{where}.{key}") for key, entry in value.items()}


def _other_type(where: str, wanted: str, value: object) -> ValueError:
    return ValueError(f"{where} must be {wanted}, got {value!r:.80}")


def _read_optional(item: Reader, value: object, where: str) -> Any:
    return None if value is None else item(value, where)
