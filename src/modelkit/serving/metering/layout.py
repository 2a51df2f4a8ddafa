"""What stands where in a slab, and what slabs add up to; pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from modelkit.serving.metering.totals import BOUNDS, OUTCOMES, Totals

Slab: TypeAlias = "list[int] | memoryview[int]"
Label: TypeAlias = tuple[str, ...]  # what a slab counts: its kind, and what tells it apart

OF_A_MODEL = "model"  # then name, version, digest
HTTP = "http"  # then route, status
FLIGHT = "flight"  # requests begun and ended
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


def checked_label(parts: Sequence[object]) -> Label:
    """A label that was read from a file; raises TypeError and ValueError for what is none."""
    label = tuple(str(part) for part in parts)
    of_strings = isinstance(parts, list) and label == tuple(parts)
    if not of_strings or LABEL_LENGTHS.get(label[0] if label else "") != len(label):
        raise ValueError(f"{parts!r:.100} is no label of shared counts")
    if label[0] == HTTP and not label[2].isdecimal():
        raise ValueError(f"{label[2]!r:.100} is no status of HTTP")
    return label


def zeros() -> Slab:
    """A slab in the memory of this process."""
    return [0] * WIDTH


def added(slabs: Sequence[Slab]) -> list[int]:
    """Slabs added up, column by column."""
    if not slabs:
        return [0] * WIDTH
    return [sum(column) for column in zip(*slabs, strict=True)]


def totals_of(sums: Sequence[int]) -> Totals:
    """The totals of a model whose slabs add up to these sums."""
    calls = dict(zip(OUTCOMES, sums, strict=False))
    seconds = sums[NANOSECONDS] / 1e9
    rows = sums[OK] + sums[MORE_ROWS]
    return Totals(calls, rows, seconds, tuple(sums[DURATIONS:WIDTH]))
