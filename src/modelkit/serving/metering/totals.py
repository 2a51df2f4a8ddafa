"""What a Meter has counted, as values; pure functions, without a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from modelkit.errors import ClosedError, DeadlineExceeded, Overloaded, SignatureError

# What may become of a call, in the order in which it is shown.
OUTCOMES = ("ok", "signature", "overloaded", "deadline", "closed", "error", "cancelled")
OUTCOME_OF: tuple[tuple[type[BaseException], str], ...] = (
    (SignatureError, "signature"),
    (Overloaded, "overloaded"),
    (DeadlineExceeded, "deadline"),
    (ClosedError, "closed"),
    (asyncio.CancelledError, "cancelled"),
    (Exception, "error"),
    (BaseException, "cancelled"),  # the caller was interrupted, or its event loop closed
)
STEPS = ("1", "2.5", "5")
# Upper bounds of durations in seconds: 1, 2.5 and 5 microseconds, and so on to 5 s, then 10, 30, 60.
BOUNDS = (*(float(f"{step}e{power}") for power in range(-6, 1) for step in STEPS), 10.0, 30.0, 60.0)


def outcome_of(error: BaseException) -> str:
    """The outcome of a call that raised."""
    return next(name for kind, name in OUTCOME_OF if isinstance(error, kind))


@final
@dataclass(frozen=True)
class Totals:
    """What was counted of a model.

    Attributes:
        calls: the number of calls by outcome. `ok`: answered; `signature`: refused rows;
            `overloaded`, `deadline`, `closed`: the errors of these names; `error`: any other;
            `cancelled`: the caller went away.
        rows: the number of rows that were answered.
        seconds: the estimated sum of the durations of answered calls.
        durations: the estimated number of answered calls by duration: one for each of `BOUNDS`, up
            to and including it, and one for all that took longer.
    """

    calls: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    rows: int = 0
    seconds: float = 0.0
    durations: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)

    def __add__(self, other: Totals) -> Totals:
        """The totals of both, as of several processes."""
        calls = {name: self.calls[name] + other.calls[name] for name in OUTCOMES}
        pairs = zip(self.durations, other.durations, strict=True)
        durations = tuple(mine + theirs for mine, theirs in pairs)
        return Totals(calls, self.rows + other.rows, self.seconds + other.seconds, durations)

    def __str__(self) -> str:
        failed = [f"{count} {name}" for name, count in self.calls.items() if count and name != "ok"]
        parts = [f"{self.calls['ok']} calls answered", f"{self.rows} rows", *failed]
        timed = sum(self.durations)
        if timed:
            parts.append(f"{1e6 * self.seconds / timed:.3g} us a call")
        return ", ".join(parts)


@final
@dataclass(frozen=True)
class RequestTotals:
    """The HTTP requests that were counted.

    Attributes:
        requests: the number of answered requests by route and status.
        durations: the number of answered requests by duration, by route: one for each of `BOUNDS`,
            up to and including it, and one for all that took longer.
        seconds: the sum of the durations, by route.
        in_flight: the number of requests that have arrived and are not answered.
    """

    requests: Mapping[tuple[str, int], int]
    durations: Mapping[str, tuple[int, ...]]
    seconds: Mapping[str, float]
    in_flight: int
