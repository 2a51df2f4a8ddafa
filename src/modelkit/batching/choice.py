"""Which of the calls that wait are worth the next run. No clock, no thread, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from modelkit.batching.policy import Curve, seconds_of

Offer = tuple[int, float]  # the size of a call, and its deadline on the clock of `now`; infinity for none
GIVEN_UP = -inf  # the deadline of a call whose caller has left


def choose(offers: Iterable[Offer], room: int, now: float, curve: Curve, caution: float) -> tuple[list[int], list[int]]:
    """The places of the calls to run as one batch of at most `room`, and of the calls to give up, the oldest first.

    A call that is answered after its deadline took the room of one that would have been in time. So the batch is made
    of the oldest calls that will be ready even if the run takes `caution` times as long as the curve says. Where these
    do not fill it, nobody is displaced, and it is made of all that can be ready at all.

    What cannot be ready, even alone, is given up while there is something better to run. Otherwise the call with the
    latest deadline is tried: the curve may be wrong, and only a run can tell.
    """
    safe: list[tuple[int, Offer]] = []
    possible: list[tuple[int, Offer]] = []
    late: list[tuple[int, Offer]] = []
    total = 0
    whole = _seconds(curve, room)
    for place, (size, deadline) in enumerate(offers):
        seconds = whole if size <= room else _seconds(curve, size)
        if deadline > now + caution * seconds:
            if safe and total + size > room:
                total = room
                break
            safe.append((place, (size, deadline)))
            total += size
            if total >= room:
                break
        elif deadline > now + _seconds(curve, size):
            possible.append((place, (size, deadline)))
        else:
            late.append((place, (size, deadline)))
    if total >= room:
        return _places(safe), _places(late)
    chosen = _most_in_time(sorted(safe + possible), room, now, curve)
    if not chosen:
        waiting = [offered for offered in late if offered[1][1] > now]
        chosen = [max(waiting, key=_deadline)] if waiting else []
        late = [offered for offered in late if offered[1][1] <= now]
    return _places(chosen), _places(late)


def _most_in_time(offered: list[tuple[int, Offer]], room: int, now: float, curve: Curve) -> list[tuple[int, Offer]]:
    """The oldest calls of the largest batch that is ready before the first deadline in it. Each call could be alone."""
    most = size = 0
    for _, (its, deadline) in sorted(offered, key=_deadline, reverse=True):
        size += its
        too_large = size > room and most
        if too_large or deadline <= now + _seconds(curve, size):
            break
        most = size
    end = now + _seconds(curve, most)
    chosen = []
    for place, (its, deadline) in offered:
        if deadline > end and its <= most:
            chosen.append((place, (its, deadline)))
            most -= its
    return chosen


def cannot_be_ready(offer: Offer, now: float, curve: Curve) -> bool:
    """Whether a call would be late even if it were run at once and alone."""
    size, deadline = offer
    return deadline <= now + _seconds(curve, size)


def _seconds(curve: Curve, size: int) -> float:
    return seconds_of(curve, size) if curve and size else 0.0


def _deadline(offered: tuple[int, Offer]) -> float:
    return offered[1][1]


def _places(offered: list[tuple[int, Offer]]) -> list[int]:
    return [place for place, _ in offered]
