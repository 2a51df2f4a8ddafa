"""Values as records: a line of JSON that names its schema, and back."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from modelkit._internal import fields, jsonable

RecordValue = TypeVar("RecordValue")


def to_record(value: Any, schema: str) -> str:
    """All fields of a dataclass, as one line of ASCII: it may be printed on any terminal."""
    plain = {"schema": schema} | jsonable.to_plain(fields.write_object(value))
    return json.dumps(plain, allow_nan=False, sort_keys=True)


def from_record(
    kind: type[RecordValue],
    text: str,
    schema: str,
    what: str,
) -> RecordValue:
    """The inverse of `to_record`.

    Args:
        kind: the dataclass.
        text: its record.
        schema: the name of its schema.
        what: what it is, for messages.

    Raises ValueError for any other text, and TypeError for what is none.
    """
    plain = jsonable.parse_record(text, schema)
    return fields.read_object(kind, plain, what)
