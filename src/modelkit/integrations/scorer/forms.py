"""Refuse rows in a form that something else takes, and say what does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelkit._internal.arrays import is_a

FORMS = (
    "a Scorer takes a dict of arrays itself, an Arrow table or record batch by .arrow, a stream of "
    "record batches by .batches, and a pandas frame by .frame"
)


def check_dict(rows: Any) -> None:
    """Raise TypeError for anything but columns by name."""
    if not isinstance(rows, Mapping):
        raise TypeError(f"this is a {type(rows).__name__} and no dict of arrays: {FORMS}")


def check_frame(rows: Any) -> None:
    """Raise TypeError for anything but a pandas frame."""
    if not is_a(rows, "pandas", "DataFrame"):
        raise TypeError(f"this is a {type(rows).__name__} and no pandas frame: {FORMS}")


def check_table(rows: Any) -> None:
    """Raise TypeError for anything but an Arrow table or record batch."""
    if not is_a(rows, "pyarrow", "Table") and not is_a(rows, "pyarrow", "RecordBatch"):
        raise TypeError(f"this is a {type(rows).__name__} and no Arrow table: {FORMS}")


def check_schema(rows: Any) -> None:
    """Raise TypeError for anything but the schema of an Arrow table, such as the table itself."""
    if not is_a(rows, "pyarrow", "Schema"):
        raise TypeError(
            f"this is a {type(rows).__name__} and no Arrow schema: pass that of the rows, as "
            "table.schema"
        )


def check_batch(rows: Any) -> None:
    """Raise TypeError for anything but a record batch, such as the columns of a table."""
    if not is_a(rows, "pyarrow", "RecordBatch"):
        raise TypeError(
            f"a stream of record batches has a {type(rows).__name__}: {FORMS}; table.to_batches() "
            "makes such a stream"
        )


def check_engine_rows(rows: Any, wanted: str, *, fits: bool) -> None:
    """Raise TypeError unless rows are an engine's own, which `wanted` says how to get."""
    if not fits:
        library = type(rows).__module__.partition(".")[0]
        raise TypeError(
            f"the rows are {wanted}, not a {library} {type(rows).__name__}; rows that one process "
            "holds are scored by mk.Scorer(package) and compared by mk.Detector(profile).test"
        )
