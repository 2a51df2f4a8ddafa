"""Counts of HTTP requests, for all Apps of this process; in a folder, for all of its processes.

`route` is a template of a fixed few, never a path that a client chose: each pair of a route and a
status has slabs of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelkit.serving.metering.ledger import Ledger, Read, read_folder
from modelkit.serving.metering.totals import (
    BEGUN,
    DURATIONS,
    ENDED,
    FLIGHT,
    HTTP,
    NANOSECONDS,
    OK,
    WIDTH,
    Label,
    RequestTotals,
    added,
)

if TYPE_CHECKING:
    from modelkit.serving.metering.folder import SharedFolder


def begun() -> None:
    """Count a request that has arrived."""
    slab = _counts.in_flight.local.place.slab
    slab[BEGUN] += 1


def ended(route: str, status: int, seconds: float) -> None:
    """Count a request that was answered, or left, after so many seconds.

    Args:
        route: the template of its path, or "unmatched".
        status: the HTTP status of its answer.
        seconds: the time from its arrival.
    """
    counts = _counts
    ledger = counts.ended.get((route, status)) or counts.begin(route, status)
    place = ledger.local.place
    place.add_time(round(1e9 * seconds))
    slab = place.slab
    slab[OK] += 1
    flight = counts.in_flight.local.place.slab
    flight[ENDED] += 1


def totals(read: Read = read_folder) -> RequestTotals:
    """What was counted until now; raises PackageError where a folder cannot be read."""
    return _totals_of(_counts.sums(read))


def count_in(folder: SharedFolder) -> None:
    """Count in a folder from now on, and take along what was counted; the first folder stays.

    A Meter that shares calls it when it is made, which is before a server serves.
    """
    global _counts  # a process has one
    before = _counts
    if before.folder is not None:
        return
    after = _Counts(folder)
    for (route, status), ledger in [*before.ended.items()]:
        after.begin(route, status).add(ledger.own_sums())
    after.in_flight.add(before.in_flight.own_sums())
    _counts = after


class _Counts:
    """The Ledgers of requests: one for each route and status that came, one for those in flight."""

    def __init__(self, folder: SharedFolder | None) -> None:
        self.folder = folder
        self.in_flight = Ledger((FLIGHT,), folder)
        self.ended: dict[tuple[str, int], Ledger] = {}

    def begin(self, route: str, status: int) -> Ledger:
        """The Ledger of a route and status that come for the first time."""
        ledger = Ledger((HTTP, route, str(status)), self.folder)
        return self.ended.setdefault((route, status), ledger)

    def sums(self, read: Read) -> dict[Label, list[int]]:
        """What was counted, by label."""
        shared = {} if self.folder is None else read(self.folder)
        sums = {label: kept.sums for label, kept in shared.items()}
        for ledger in (self.in_flight, *[*self.ended.values()]):
            before = sums.get(ledger.label, [0] * WIDTH)
            sums[ledger.label] = added([before, ledger.own_sums()])
        return sums


def _totals_of(found: dict[Label, list[int]]) -> RequestTotals:
    requests: dict[tuple[str, int], int] = {}
    by_route: dict[str, list[int]] = {}
    in_flight = 0
    for label, sums in sorted(found.items()):
        if label[0] == FLIGHT:
            in_flight = max(0, sums[BEGUN] - sums[ENDED])
        if label[0] == HTTP:
            _, route, status = label
            requests[route, int(status)] = sums[OK]
            by_route[route] = added([by_route.get(route, [0] * WIDTH), sums])
    return RequestTotals(
        requests,
        {route: tuple(sums[DURATIONS:]) for route, sums in by_route.items()},
        {route: sums[NANOSECONDS] / 1e9 for route, sums in by_route.items()},
        in_flight,
    )


_counts = _Counts(None)
