"""Counts of HTTP requests in this process, for all Apps of it.

`route` is a template of a fixed few, never a path that a client chose: each pair of a route and a
status has a slab of its own.
"""

from __future__ import annotations

from modelkit.metering.slabs import DURATIONS, NANOSECONDS, OK, WIDTH, Slabs, zeros
from modelkit.metering.totals import RequestTotals

BEGUN = 0
ENDED = 1

_in_flight = Slabs(zeros)
_ended: dict[tuple[str, int], Slabs] = {}


def begun() -> None:
    """Count a request that has arrived."""
    slab = _in_flight.local.place.slab
    slab[BEGUN] += 1


def ended(route: str, status: int, seconds: float) -> None:
    """Count a request that was answered, or left, after so many seconds."""
    slabs = _ended.get((route, status)) or _ended.setdefault((route, status), Slabs(zeros))
    place = slabs.local.place
    place.add_time(round(1e9 * seconds), 1)
    slab = place.slab
    slab[OK] += 1
    flight = _in_flight.local.place.slab
    flight[ENDED] += 1


def totals() -> RequestTotals:
    """What was counted until now."""
    requests: dict[tuple[str, int], int] = {}
    durations: dict[str, tuple[int, ...]] = {}
    seconds: dict[str, float] = {}
    for (route, status), slabs in sorted(_ended.items()):
        sums = slabs.sums()
        requests[route, status] = sums[OK]
        seconds[route] = seconds.get(route, 0.0) + sums[NANOSECONDS] / 1e9
        mine = sums[DURATIONS:WIDTH]
        before = durations.get(route, (0,) * len(mine))
        durations[route] = tuple(map(sum, zip(before, mine, strict=True)))
    flight = _in_flight.sums()
    return RequestTotals(requests, durations, seconds, max(0, flight[BEGUN] - flight[ENDED]))
