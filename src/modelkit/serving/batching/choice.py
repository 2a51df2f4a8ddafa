"""Which of the calls that wait are worth the next run, and who runs it. No clock, no thread, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Protocol, TypeVar

from modelkit.serving.batching.policy import BatchPlan, Curve, seconds_of

# How many times as long as the longest run, and at least how many seconds, a batch waits for the end
# of another one that it should be as large as.
OVERDUE_RUNS = 4.0
OVERDUE_SECONDS = 1.0


class Offer(Protocol):
    """A call that waits: its size, and when its answer is due, infinity for any time."""

    size: int
    due: float


Offered = TypeVar("Offered", bound=Offer)


def next_batch(
    offers: Iterable[Offered], room: int, now: float, curve: Curve, caution: float
) -> tuple[list[Offered], list[Offered]]:
    """Choose the calls to run as one batch of at most `room`, and the calls to give up.

    `offers` are the calls that wait, the oldest first. `curve` says what runs take.

    A call that is answered after its deadline took the room of one that would have been in time. So
    the batch is made of the oldest calls that will be ready even if the run takes `caution` times
    as long as the curve says. Where these do not fill it, nobody is displaced, and it is made of
    all that can be ready at all.

    What cannot be ready, even alone, is given up while there is something better to run. Otherwise
    the call that is due last is tried: the curve may be wrong, and only a run can tell.
    """
    safe: list[Offered] = []
    possible: list[Offered] = []  # those that are safe as well
    late: list[Offered] = []
    total = 0
    whole = now + caution * seconds_of(curve, room)
    for offer in offers:
        size = offer.size
        due = offer.due
        surely = whole if size <= room else now + caution * seconds_of(curve, size)
        if due > surely:
            if safe and total + size > room:
                return safe, late
            safe.append(offer)
            possible.append(offer)
            total += size
            if total >= room:
                return safe, late
        elif due <= now + seconds_of(curve, size):
            late.append(offer)
        else:
            possible.append(offer)
    chosen = _most_in_time(possible, room, now, curve)
    if chosen:
        return chosen, late
    waiting = [offer for offer in late if offer.due > now]
    tried = [max(waiting, key=attrgetter("due"))] if waiting else []
    return tried, [offer for offer in late if offer.due <= now]


def first_in_time(offers: Iterable[Offered], ready: float) -> Offered:
    """The oldest call that is due after `ready`; if there is none, the one that is due last."""
    tight = []
    for offer in offers:
        if offer.due > ready:
            return offer
        tight.append(offer)
    return max(tight, key=attrgetter("due"))


def overdue(runs: Iterable[tuple[int, float]], now: float, plan: BatchPlan) -> list[int]:
    """The sizes of the runs, of (size, start), that should have ended long ago."""
    usual = seconds_of(plan.curve, plan.cap)
    began = now - max(OVERDUE_SECONDS, OVERDUE_RUNS * usual)
    return [size for size, start in runs if start < began]


def _most_in_time(offers: list[Offered], room: int, now: float, curve: Curve) -> list[Offered]:
    """The oldest calls of the largest batch that is ready before the first is due.

    Each call could be run alone.
    """
    most = 0
    size = 0
    for offer in sorted(offers, key=attrgetter("due"), reverse=True):
        size += offer.size
        too_large = size > room and most
        if too_large or offer.due <= now + seconds_of(curve, size):
            break
        most = size
    end = now + seconds_of(curve, most)
    chosen = []
    for offer in offers:
        if offer.due > end and offer.size <= most:
            chosen.append(offer)
            most -= offer.size
    return chosen
