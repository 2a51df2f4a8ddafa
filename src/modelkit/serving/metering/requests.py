"""Counts of HTTP requests, for all Apps of this process; in a folder, for all of its processes.

`route` is a template of a fixed few, never a path that a client chose: each pair of a route and a
status has slabs of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelkit.serving.metering.ledger import Ledger, Read, counted_by, read_folder
from modelkit.serving.metering.totals import (
    BEGUN,
    DURATIONS,
    ENDED,
    FLIGHT,
    HTTP,
    NANOSECONDS,
    OK,
    RequestTotals,
    add_up,
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
    counts = _counts
    found = counted_by([counts.in_flight, *[*counts.ended.values()]], read)
    answered = sorted(label for label in found if label[0] == HTTP)
    routes = add_up((label[1:2], found[label]) for label in answered)
    flight = found[counts.in_flight.label].sums
    return RequestTotals(
        {
            (route, int(status)): found[HTTP, route, status].sums[OK]
            for _, route, status in answered
        },
        {route: tuple(kept.sums[DURATIONS:]) for (route,), kept in routes.items()},
        {route: kept.sums[NANOSECONDS] / 1e9 for (route,), kept in routes.items()},
        max(0, flight[BEGUN] - flight[ENDED]),
    )


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


_counts = _Counts(None)
