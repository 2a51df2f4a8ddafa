"""What a Meter has counted, as values, and the slabs of numbers that add up to them; pure functions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, final

from modelkit._internal import fields
from modelkit.errors import ClosedError, DeadlineExceeded, Overloaded, SignatureError
from modelkit.model.model import Outputs
from modelkit.signature.signature import Signature

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
Slab: TypeAlias = "list[int] | memoryview[int]"
Label: TypeAlias = tuple[str, ...]  # what a slab counts: its kind, and what tells it apart

OF_A_MODEL = "model"  # then name, version, digest
HTTP = "http"  # then route, status
FLIGHT = "flight"  # requests begun and ended
KEPT_VERSIONS = 3  # versions of a name that are still shown after their last Meter is gone
LABEL_LENGTHS = {OF_A_MODEL: 4, HTTP: 3, FLIGHT: 1}

# Columns of whole numbers. Durations are in nanoseconds, so that they are whole as well.
COLUMNS = {name: at for at, name in enumerate(OUTCOMES)}
OK = COLUMNS["ok"]
MORE_ROWS = len(OUTCOMES)  # rows less answered calls, so that a call of one row stores one number
NANOSECONDS = MORE_ROWS + 1
DURATIONS = MORE_ROWS + 2
WIDTH = DURATIONS + len(BOUNDS) + 1
BEGUN = 0  # these two in slabs of requests in flight
ENDED = 1
BOUNDS_NS = tuple(round(1e9 * bound) for bound in BOUNDS)


def outcome_of(error: BaseException) -> str:
    """The outcome of a call that raised."""
    return next(name for kind, name in OUTCOME_OF if isinstance(error, kind))


def answered_rows(signature: Signature, answers: Outputs) -> int:
    """The number of rows of answers whose rows lie on any axis; 1 for those on none."""
    dim = signature.row_dim
    for spec in signature.outputs:
        if dim is not None and dim in spec.shape and spec.name in answers:
            return int(answers[spec.name].shape[spec.shape.index(dim)])
    return 1


@final
@dataclass(frozen=True)
class MeterTotals:
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

    __repr__ = fields.brief

    def __add__(self, other: MeterTotals) -> MeterTotals:
        """The totals of both, as of several processes."""
        calls = {name: self.calls[name] + other.calls[name] for name in OUTCOMES}
        pairs = zip(self.durations, other.durations, strict=True)
        durations = tuple(mine + theirs for mine, theirs in pairs)
        return MeterTotals(calls, self.rows + other.rows, self.seconds + other.seconds, durations)

    def __str__(self) -> str:
        failed = [f"{count} {name}" for name, count in self.calls.items() if count and name != "ok"]
        parts = [f"{self.calls['ok']} calls answered", f"{self.rows} rows", *failed]
        timed = sum(self.durations)
        if timed:
            parts.append(f"{1e6 * self.seconds / timed:,.0f} us a call")
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


@final
@dataclass(frozen=True)
class LabelCounts:
    """What was counted of one label.

    Attributes:
        sums: the numbers, by column.
        retired: when it was retired, in nanoseconds since 1970; 0 while it is in use.
    """

    sums: list[int]
    retired: int

    def __add__(self, other: LabelCounts) -> LabelCounts:
        """What was counted in both places; it is retired if it is so in both."""
        times = (self.retired, other.retired)
        return LabelCounts(added([self.sums, other.sums]), max(times) if all(times) else 0)


AllCounts = dict[Label, LabelCounts]


def add_up(pairs: Iterable[tuple[Label, LabelCounts]]) -> AllCounts:
    """What was counted of each label in several places."""
    found: AllCounts = {}
    for label, kept in pairs:
        found[label] = found[label] + kept if label in found else kept
    return found


def without_the_old(found: AllCounts) -> AllCounts:
    """All but the models of a name that were retired before its last `KEPT_VERSIONS`."""
    retired: dict[str, list[tuple[int, Label]]] = {}
    for label, kept in found.items():
        if label[0] == OF_A_MODEL and kept.retired:
            retired.setdefault(label[1], []).append((kept.retired, label))
    old = {label for each in retired.values() for _, label in sorted(each)[:-KEPT_VERSIONS]}
    return {label: kept for label, kept in found.items() if label not in old}


def checked_label(parts: Sequence[object]) -> Label:
    """A label that was read from a file; raises TypeError and ValueError for what is none."""
    label = tuple(str(part) for part in parts)
    of_strings = isinstance(parts, list) and label == tuple(parts)
    if not of_strings or LABEL_LENGTHS.get(label[0] if label else "") != len(label):
        raise ValueError(f"{parts!r:.100} is not a label of shared counts")
    if label[0] == HTTP and not label[2].isdecimal():
        raise ValueError(f"{label[2]!r:.100} is not a status of HTTP")
    return label


def zeros() -> Slab:
    """A slab in the memory of this process."""
    return [0] * WIDTH


def added(slabs: Sequence[Slab]) -> list[int]:
    """Slabs added up, column by column."""
    if not slabs:
        return [0] * WIDTH
    return [sum(column) for column in zip(*slabs, strict=True)]


def totals_of(sums: Sequence[int]) -> MeterTotals:
    """The totals of a model whose slabs add up to these sums."""
    calls = dict(zip(OUTCOMES, sums, strict=False))
    seconds = sums[NANOSECONDS] / 1e9
    rows = sums[OK] + sums[MORE_ROWS]
    return MeterTotals(calls, rows, seconds, tuple(sums[DURATIONS:WIDTH]))
