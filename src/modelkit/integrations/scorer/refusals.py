"""Refuse rows in a form that something else takes, and what a cluster cannot do with rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelkit.errors import DeviceError, SignatureError, UsageError
from modelkit.integrations.scorer.columns import repeated

FORMS = (
    "a Scorer takes a dict of arrays itself, an Arrow table or record batch by .arrow, a stream of "
    "record batches, as table.to_batches() makes it, by .batches, and a pandas frame by .frame; the "
    "schema of a table is table.schema"
)
IN_UTC = ("UTC", "Etc/UTC", "GMT", "Z", "+00:00")


def check_form(rows: object, wrong: str, *, fits: bool) -> None:
    """Raise TypeError for rows in a form that something else takes.

    Args:
        rows: the rows.
        wrong: what is wrong with rows of a type, which stands for {}.
        fits: whether they have the form that was asked for.
    """
    if not fits:
        raise TypeError(f"{wrong.format(type(rows).__name__)}: {FORMS}")


def check_engine_rows(rows: Any, wanted: str, *, fits: bool) -> None:
    """Raise TypeError unless rows are an engine's own, which `wanted` says how to get."""
    if not fits:
        library = type(rows).__module__.partition(".")[0]
        raise TypeError(
            f"the rows are {wanted}, not a {library} {type(rows).__name__}; rows that one process "
            "holds are scored by mk.Scorer(package) and compared by mk.Detector(profile).test"
        )


def check_pool(nodes: Sequence[Mapping[str, float]], actors: int) -> None:
    """Raise DeviceError where nodes of these resources can never hold actors of one whole GPU each.

    Raises UsageError for a number of actors that is none.
    """
    if not isinstance(actors, int) or actors < 1:
        raise UsageError(f"gpus is a whole number of GPUs, 0 or more, not {actors!r}")
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if actors > gpus:
        raise DeviceError(
            f"gpus={actors} needs as many whole GPUs, and the nodes of the cluster have {gpus}: the "
            "job would wait for ever; use fewer or add nodes",
            device="cuda",
        )
    if not any(node.get("CPU", 0) >= 1 for node in nodes):
        raise DeviceError(
            "no node of the cluster has a CPU to read the rows with: the job would wait for ever",
            device="cuda",
        )


def check_apart_in_any_case(names: Sequence[str]) -> None:
    """Raise SignatureError where names of columns differ in case alone, which an engine ignores."""
    twice = repeated(map(str.casefold, names))
    same = [name for name in names if name.casefold() in twice]
    if same:
        raise SignatureError(
            f"the columns {same} of keep and outputs differ in case alone, and Spark could not tell "
            "them apart; rename the columns of the rows, or set spark.sql.caseSensitive to true"
        )


def check_zone(names: Sequence[str], zone: str) -> None:
    """Raise UsageError for timestamps in a session zone other than UTC.

    Spark makes a timestamp of a time without a zone as if it were of the session's, so nothing says
    whether the reference had the time that a clock shows there or the time of UTC.
    """
    if names and zone not in IN_UTC:
        raise UsageError(
            f"the columns {[*names]} are timestamps, and the session zone is {zone}, so that their "
            "hours and days are others there than in UTC. Where the reference had times without a "
            'zone, cast them: col(name).cast("timestamp_ntz"); where it had times in UTC, set '
            'spark.sql.session.timeZone to "UTC"'
        )
