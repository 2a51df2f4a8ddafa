"""Packages in Spark: the rows of a DataFrame are scored as Arrow batches, without pickling."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from modelkit.drift.counts import Tally
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.errors import SignatureError, importing
from modelkit.integrations.scorer.arrow import arrow_field, pyarrow
from modelkit.integrations.scorer.refusals import (
    check_apart_in_any_case,
    check_engine_rows,
    check_zone,
)
from modelkit.integrations.scorer.scorer import Scorer, scorer_of
from modelkit.integrations.scorer.tallier import TALLY, Tallier, sum_batches
from modelkit.package.source import Openable

OfBatches = Callable[[Iterable[Any]], Iterator[Any]]

ROWS = "a spark DataFrame, as spark.createDataFrame makes it"
GROUPS = 4  # of tallies, each of which a task adds up: the driver gets one of each

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

        from modelkit.integrations.spark import score
        score(spark.read.parquet("customers"), "churn.mk", keep=["id"]).write.parquet("scored")

    Args:
        rows: a `pyspark.sql.DataFrame` with the model's columns.
        package: what `mk.Scorer` takes, or a Scorer. A path has to be there on every worker.
        outputs: see `mk.Scorer`.
        keep: see `mk.Scorer`.

    Returns:
        A DataFrame of the kept columns and the outputs; one of several values a row is an array.

    Raises PackageError as `mk.Scorer` does, SignatureError as that and `Scorer.columns` do, for names
    that differ in case alone, and for an output of uint64, which Spark does not have; and TypeError
    for other rows.
    """
    with importing("pyspark", "modelkit.integrations.spark"):
        from pyspark.sql.pandas.types import from_arrow_schema
        from pyspark.sql.types import StructType
    check_engine_rows(rows, ROWS, fits=hasattr(rows, "mapInArrow"))
    scorer = scorer_of(package, outputs=outputs, keep=keep)
    wanted = scorer.columns(rows.columns, [kind for _, kind in rows.dtypes])
    if rows.sparkSession.conf.get("spark.sql.caseSensitive") != "true":
        check_apart_in_any_case([*scorer.keep, *(output.name for output in scorer.outputs)])
    added = pyarrow().schema([_spark_field(arrow_field(output)) for output in scorer.outputs])
    kept = [rows.schema[name] for name in scorer.keep]
    return _mapped(
        rows,
        wanted,
        partial(_scored, scorer, added),
        StructType([*kept, *from_arrow_schema(added)]),
    )


def drift(
    rows: Any, profile: Profile, *, scores: Sequence[str] = (), alpha: float = 0.01, seed: int = 0
) -> DriftReport:
    """Compare the rows of a Spark DataFrame with a Profile: one exact test of the counts of all.

        from modelkit.integrations.spark import drift
        print(drift(spark.read.parquet("customers"), profile))

    `rows` has the columns of the profile, and the outputs of the model that `scores` names, as
    `score` adds them; `mk.Detector` gets `alpha` and `seed`.

    Returns:
        The report of one batch, as `Detector.test` gives it.

    Raises UsageError for no rows,
    columns that are missing, timestamps in a session zone other than UTC, outputs that the profile
    does not look at, and what `Profile.tally` refuses.
    """
    check_engine_rows(rows, ROWS, fits=hasattr(rows, "mapInArrow"))
    tallier = Tallier(profile, scores)
    wanted = tallier.columns(rows.columns)
    zone = rows.sparkSession.conf.get("spark.sql.session.timeZone")
    check_zone([name for name, kind in rows.dtypes if kind == "timestamp" and name in wanted], zone)
    tallies = _mapped(rows, wanted, tallier.batches, f"{TALLY} binary").repartition(GROUPS)
    found = tallies.mapInArrow(sum_batches, tallies.schema).collect()
    return tallier.report([Tally.from_bytes(row[TALLY]) for row in found], alpha, seed)


def _mapped(rows: Any, wanted: Collection[str], function: OfBatches, schema: Any) -> Any:
    """What a function of record batches makes of the columns that are wanted and there.

    They travel under names without dots and backquotes, which Spark would read as syntax, and which
    differ in more than case.
    """
    columns = rows.columns
    plain = [f"column{i}" for i in range(len(columns))]
    places = [i for i, name in enumerate(columns) if name in wanted]
    names = [columns[i] for i in places]
    selected = rows.toDF(*plain).select([plain[i] for i in places])
    return selected.mapInArrow(partial(_renamed, names, function), schema)


def _renamed(names: list[str], function: OfBatches, batches: Iterable[Any]) -> Iterator[Any]:
    """A function of record batches, over batches under their own names."""
    return function(batch.rename_columns(names) for batch in batches)


def _scored(scorer: Scorer, added: Any, batches: Iterable[Any]) -> Iterator[Any]:
    """Record batches of scored rows: kept columns as they came, outputs in the types of Spark."""
    pa = pyarrow()
    for batch in scorer.batches(batches):
        columns = batch.columns[: len(scorer.keep)]
        outputs = batch.columns[len(scorer.keep) :]
        for column, field in zip(outputs, added, strict=True):
            columns.append(column if column.type == field.type else column.cast(field.type))
        yield pa.record_batch(columns, names=batch.schema.names)


def _spark_field(field: Any) -> Any:
    """A field with the type of Spark that holds all its values.

    Raises SignatureError where there is none.
    """
    pa = pyarrow()
    is_list = pa.types.is_list(field.type)
    plain = field.type.value_type if is_list else field.type
    if str(plain) == "uint64":
        raise SignatureError(
            f"output {field.name!r} is uint64, which Spark does not have; leave it out by outputs="
        )
    if str(plain) in WIDER:
        plain = pa.type_for_alias(WIDER[str(plain)])
    return field.with_type(pa.list_(plain) if is_list else plain)
