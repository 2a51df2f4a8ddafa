"""Values as JSON, records (a line of JSON that names its schema), and back.

JSON has neither NaN nor infinity: these are {"number": "nan"} and so on.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from math import isfinite
from typing import Any, TypeVar

import numpy as np

from modelkit._internal import fields
from modelkit.errors import PackageError

RecordValue = TypeVar("RecordValue")


def parse_json(text: str) -> Any:
    """The value of a strict JSON text.

    Raises ValueError for a key that stands twice, for NaN and infinities, and for numbers beyond
    the range of a float64.
    """
    return json.loads(
        text,
        object_pairs_hook=distinct_keys,
        parse_constant=_no_constant,
        parse_float=_finite_number,
    )


def parse_record(text: str, schema: str) -> dict[str, Any]:
    """The values of a strict JSON object that names its schema, as `from_plain` gives them.

    Raises ValueError for any other text.
    """
    try:
        plain = from_plain(parse_json(text))
    except RecursionError:
        raise ValueError("the text has too many lists and objects within each other") from None
    record: dict[str, Any] = plain if isinstance(plain, dict) else {}
    found = record.pop("schema", None)
    if found is None:
        raise ValueError(f'it has no "schema": a record names {schema!r} there')
    if found != schema:
        raise ValueError(f"this is a record of {found!r:.80}, and not of {schema}")
    return record


def distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises ValueError for a key that stands twice."""
    plain = dict(pairs)
    if len(plain) < len(pairs):
        raise ValueError(f"a key appears twice among {[key for key, _ in pairs]}")
    return plain


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _finite_number(text: str) -> float:
    number = float(text)
    if not isfinite(number):  # Python takes 1e999 for infinity
        raise ValueError(f"{text:.40} is beyond the largest number")
    return number


def to_json(value: Any) -> str:
    """Any result of this library as one line of JSON, in ASCII.

        mk.to_json(np.array([1.5, np.nan]))  # '[1.5, {"number": "nan"}]'

    Arrays and tuples are lists, and values such as a Signature or an Alarm objects of their fields;
    what has a record of its own, such as an Explanation, a DriftReport or a Manifest, is that.
    JSON has neither NaN nor infinity: these are {"number": "nan"} and so on. Points in time are in
    the form of ISO 8601, spans are seconds, and missing ones null.

    Returns:
        The JSON, of ASCII and without a line break.

    Raises TypeError for what is not a result, such as a Model or a frame.
    """
    return json.dumps(to_plain(value), allow_nan=False)


def to_plain(value: Any) -> Any:
    """Arrays, tuples, numbers and the values of this library as values that JSON has."""
    if isinstance(value, np.ndarray):
        times = value.dtype.kind in "mM"
        return _plain_times(value) if times else to_plain(value.tolist())
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): to_plain(item) for name, item in value.items()}
    if isinstance(value, np.datetime64 | np.timedelta64):
        return _plain_times(np.array(value))
    if isinstance(value, datetime):
        return value.isoformat() if value == value else None  # pandas.NaT
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, np.generic) and not isinstance(value, str):
        value = value.item()
    if isinstance(value, float) and not isfinite(value):
        return {"number": str(value)}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return _plain_object(value)


def _plain_object(value: Any) -> Any:
    """A value of this library as its record, or else by its fields. Raises TypeError for others."""
    if isinstance(value, Mapping):
        return to_plain(dict(value))
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r:.80}")
    if hasattr(value, "to_json"):
        return json.loads(value.to_json())
    names = [field.name for field in dataclasses.fields(value) if field.init]
    return {name: to_plain(getattr(value, name)) for name in names}


def _plain_times(times: Any) -> Any:
    """Points in time as texts, spans as seconds, and None for those that are missing."""
    if times.ndim:
        return [_plain_times(item) for item in times]
    if np.isnat(times):
        return None
    if times.dtype.kind == "m":
        return float(times / np.timedelta64(1, "s"))
    return str(np.datetime_as_string(times))


def from_plain(value: Any) -> Any:
    """The inverse of `to_plain`, with lists for arrays and tuples."""
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"number"} and isinstance(value["number"], str):
        return float(value["number"])
    return {name: from_plain(item) for name, item in value.items()}


def to_record(value: Any, schema: str) -> str:
    """All fields of a dataclass, as one line of ASCII: it may be printed on any terminal."""
    plain = {"schema": schema} | to_plain(fields.write_object(value))
    return json.dumps(plain, allow_nan=False, sort_keys=True)


def from_record(kind: type[RecordValue], text: str, schema: str, what: str) -> RecordValue:
    """The inverse of `to_record`.

    Args:
        kind: the dataclass.
        text: its record.
        schema: the name of its schema.
        what: what it is, for messages.

    Raises ValueError for any other text, and TypeError for what is none.
    """
    plain = parse_record(text, schema)
    return fields.read_object(kind, plain, what)


def read_report(kind: type[RecordValue], text: str, schema: str, what: str) -> RecordValue:
    """As `from_record`, with a PackageError, which names what it is, for any other text."""
    try:
        return from_record(kind, text, schema, what)
    except (TypeError, ValueError) as error:
        raise PackageError(f"this is not {what} in JSON: {error}") from error
