"""Refuse what a cluster cannot do with rows: wait for GPUs that it lacks, tell names, tell times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from modelkit.errors import DeviceError, DriftError, SignatureError

IN_UTC = ("UTC", "Etc/UTC", "GMT", "Z", "+00:00")


def check_pool(nodes: Sequence[Mapping[str, float]], actors: int) -> None:
    """Raise DeviceError where nodes of these resources can never hold actors of one whole GPU each.

    Raises ValueError for a number of actors that is none.
    """
    if not isinstance(actors, int) or actors < 1:
        raise ValueError(f"gpus is a whole number of GPUs, 0 or more, not {actors!r}")
    held = sum(int(node.get("GPU", 0)) for node in nodes)
    if actors > held:
        raise DeviceError(
            f"gpus={actors} needs as many whole GPUs, and the nodes of the cluster have {held}: the "
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
    counts = Counter(map(str.casefold, names))
    same = [name for name in names if counts[name.casefold()] > 1]
    if same:
        raise SignatureError(
            f"the columns {same} of keep and outputs differ in case alone, and Spark could not tell "
            "them apart; rename the columns of the rows, or set spark.sql.caseSensitive to true"
        )


def check_zone(names: Sequence[str], zone: str) -> None:
    """Raise DriftError for timestamps in a session zone other than UTC.

    Spark makes a timestamp of a time without a zone as if it were of the session's, so nothing says
    whether the reference had the time that a clock shows there or the time of UTC.
    """
    if names and zone not in IN_UTC:
        raise DriftError(
            f"the columns {[*names]} are timestamps, and the session zone is {zone}, so that their "
            "hours and days are others there than in UTC. Where the reference had times without a "
            'zone, cast them: col(name).cast("timestamp_ntz"); where it had times in UTC, set '
            'spark.sql.session.timeZone to "UTC"'
        )
