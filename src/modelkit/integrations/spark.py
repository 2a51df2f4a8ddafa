"""Packages in Spark: the rows of a DataFrame are scored as Arrow batches, without pickling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from modelkit.errors import SignatureError, importing
from modelkit.package.load import Openable
from modelkit.scorer.arrow import pyarrow
from modelkit.scorer.scorer import Scorer, scorer_of

# Spark has no unsigned integers and no halves: each goes to the next type that holds all its values.
WIDER = {"uint8": "int16", "uint16": "int32", "uint32": "int64", "halffloat": "float32"}


def score(
    rows: Any,
    package: Openable | Scorer,
    *,
    outputs: Sequence[str] | None = None,
    keep: Sequence[str] = (),
) -> Any:
    """Score the rows of a Spark DataFrame; nothing runs before its result is asked for.

    Args:
        rows: a `pyspark.sql.DataFrame` with the model's columns.
        package: what `mk.Scorer` takes, or a Scorer. A path has to be there on every worker.
        outputs: see `mk.Scorer`.
        keep: see `mk.Scorer`.

    Returns:
        A DataFrame of the kept columns and the outputs; one of several values a row is an array.

    Raises:
        PackageError, SignatureError: as `mk.Scorer` does; also for an output of uint64, which Spark
            does not have.
        MissingExtraError: if pyspark is not installed.
    """
    with importing("pyspark", "modelkit.integrations.spark"):
        from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
    scorer = scorer_of(package, outputs=outputs, keep=keep)
    wanted = dict.fromkeys([*scorer.keep, *scorer.inputs])
    selected = rows.select([_quoted(name) for name in rows.columns if name in wanted])
    schema = _without_unsigned(scorer.schema(to_arrow_schema(selected.schema)))
    return selected.mapInArrow(
        partial(_scored, scorer, schema),
        from_arrow_schema(schema),
    )


def _quoted(name: str) -> str:
    """A column by its whole name: Spark takes a dot for a field of a struct."""
    escaped = name.replace("`", "``")
    return f"`{escaped}`"


def _scored(
    scorer: Scorer,
    schema: Any,
    batches: Iterable[Any],
) -> Iterator[Any]:
    """Record batches of scored rows, in the types of Spark."""
    for batch in scorer.batches(batches):
        table = pyarrow().Table.from_batches([batch])
        yield from table.cast(schema).to_batches()


def _without_unsigned(schema: Any) -> Any:
    """A schema in types that Spark has. Raises SignatureError where there is none."""
    pa = pyarrow()
    return pa.schema([field.with_type(_known(field)) for field in schema])


def _known(field: Any) -> Any:
    """The type of Spark that holds every value of a field."""
    pa = pyarrow()
    is_list = pa.types.is_list(field.type)
    plain = field.type.value_type if is_list else field.type
    if str(plain) == "uint64":
        raise SignatureError(
            f"output {field.name!r} is uint64, which Spark does not have; leave it out by outputs="
        )
    known = pa.type_for_alias(WIDER.get(str(plain), str(plain))) if str(plain) in WIDER else plain
    return pa.list_(known) if is_list else known
