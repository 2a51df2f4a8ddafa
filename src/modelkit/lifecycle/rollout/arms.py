"""Into which arm do bad events fall? Evidence from counts alone, which may be looked at for ever.

A stage sends a share q of its units to the candidate, drawn for each unit. Whatever happens to the
rate of events with the time of day, an event falls into the candidate with probability

    theta(r) = q r / (q r + 1 - q),

where r is the relative risk of the candidate at that moment: only the arm is random, and the
rollout drew it. A bet on r = b against r <= m multiplies its stake by the likelihood ratio of
theta(b) to theta(m): see `stats.betting`, and docs/rollout_guarantees.md for the proof. News: Lindon
and Malek, Anytime-valid inference for multinomial count data (arXiv:2011.03567).

Of one arm alone, rates of events are bet on against a floor.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, log
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.stats.betting import ABOVE, BELOW, Bets
from modelkit.stats.evidence import Restarted, log_mean

Span = tuple[float, int, int, int]  # the share, the events in both arms, the ticks
MOST_SPANS = 32
BEYOND_CHANCE = 8.0  # of the largest of some thousand likelihood ratios, as a logarithm


@final
@dataclass(frozen=True)
class Events:
    """The events of a stage, each the first of its unit.

    Attributes:
        share: the share of units that go to the candidate; above 0 and below 1.
        candidate: the number of events in the candidate.
        champion: the number of events in the champion.
    """

    share: float
    candidate: int
    champion: int


def chance(share: float, risk: Array) -> Array:
    """The probability that an event is in the candidate, for each relative risk."""
    found: Array = share * risk / (share * risk + 1 - share)
    return found


def log_gains(events: Events, margin: float, factors: Array) -> Array:
    """The logarithm of the gain of each bet, on risks of `margin * factors` against `margin`."""
    bets = Bets.on_rates(
        chance(events.share, margin * factors), float(chance(events.share, np.array(margin)))
    )
    return bets.log_counts(events.candidate, events.champion)


def log_better(stages: Iterable[Events], margin: float) -> float:
    """The logarithm of the evidence that the candidate's risk is below `margin` times.

    It is the wealth of a mixture of fixed bets over all stages: what a promotion needs. Where the
    risk is `margin` or more at all times, it ever reaches 1/alpha with a probability of at most
    alpha.
    """
    gains = np.zeros(len(BELOW))
    for events in stages:
        gains += log_gains(events, margin, BELOW)
    return log_mean(gains)


@final
class EventTimes:
    """The events of both arms by time, and what they say for a promotion.

    What the champion alone went through for a time, such as a bad half hour, speaks for no
    candidate: where a span of up to half the ticks differs from the others beyond chance, with
    fewer events of the candidate, the evidence is also taken without it, and the least counts. It
    is never more than that of all events, whose guarantee it has.
    """

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._known: dict[float, float] = {}  # what was found since the last event, by margin

    def add(self, events: Events) -> None:
        """Take the events of a tick. Those of a share of before, which come late, join its last ones."""
        places = [at for at, (share, *_) in enumerate(self._spans) if share == events.share]
        late = places and places[-1] < len(self._spans) - 1
        if places and (late or not events.candidate + events.champion):
            share, candidate, champion, ticks = self._spans[places[-1]]
            merged = (share, candidate + events.candidate, champion + events.champion, ticks + 1)
            self._spans[places[-1]] = merged
            if events.candidate + events.champion:
                self._known.clear()
            return
        self._known.clear()
        self._spans.append((events.share, events.candidate, events.champion, 1))
        if len(self._spans) > MOST_SPANS:
            self._spans = _with_one_less(self._spans)

    def log_better(self, margin: float) -> float:
        """The logarithm of the evidence that the candidate's risk is below `margin` times."""
        if margin not in self._known:
            self._known[margin] = self._least_better(margin)
        return self._known[margin]

    def _least_better(self, margin: float) -> float:
        spans = self._spans
        left = sum(ticks for *_, ticks in spans) // 2
        least = inf
        while True:
            stages = [Events(*span[:3]) for span in spans]
            found = log_better(stages, margin)
            least = min(least, found)
            alone = champion_alone(spans, left) if found > 0 else None
            if alone is None:
                return least
            left -= sum(ticks for *_, ticks in spans[alone])
            spans = [*spans[: alone.start], *spans[alone.stop :]]


def _with_one_less(spans: list[Span]) -> list[Span]:
    """The spans, of which the two neighbours of one share with the fewest events are joined."""
    pairs = [
        (one[1] + one[2] + two[1] + two[2], at)
        for at, (one, two) in enumerate(itertools.pairwise(spans))
        if one[0] == two[0]
    ]
    if not pairs:
        return spans
    _, at = min(pairs)
    share, candidate, champion, ticks = spans[at]
    _, more, other, further = spans[at + 1]
    joined = (share, candidate + more, champion + other, ticks + further)
    return [*spans[:at], joined, *spans[at + 2 :]]


def champion_alone(spans: list[Span], most: int) -> slice | None:
    """The span of at most so many ticks in which the champion alone was worse, beyond chance.

    It is the one, of all within a share, of the largest likelihood ratio: one risk in it and
    another one outside, against one risk everywhere.
    """
    shares, candidate, champion, ticks = np.array(spans).T
    start, stop = np.triu_indices(len(spans) + 1, 1)
    sums = [np.concatenate([[0.0], np.cumsum(each)]) for each in (candidate, champion, ticks)]
    inside, other, length = (each[stop] - each[start] for each in sums)
    within = (shares[start] == shares[stop - 1]) & (length <= most) & (other > 0)
    start, stop, inside, other = start[within], stop[within], inside[within], other[within]
    if not len(start):
        return None
    different = np.unique(shares)[:, None]
    mine = different == shares[start]
    parts = [(different == shares) @ each for each in (candidate, champion)]
    within_arms = (mine * inside, mine * other)
    outside = [all_[:, None] - part for all_, part in zip(parts, within_arms, strict=True)]
    everywhere = [all_[:, None] for all_ in parts]
    ratio = _log_likelihood(different, *within_arms) + _log_likelihood(different, *outside)
    ratio -= _log_likelihood(different, *everywhere)
    ratio[_risk(different, *within_arms) >= _risk(different, *outside)] = 0.0
    best = int(ratio.argmax())
    return slice(int(start[best]), int(stop[best])) if ratio[best] >= BEYOND_CHANCE else None


def _risk(share: Array, candidate: Array, champion: Array) -> Array:
    """The relative risk by Mantel and Haenszel, over the shares along the first axis."""
    found: Array = (candidate * (1 - share)).sum(0) / np.maximum((champion * share).sum(0), 1e-9)
    return np.clip(found, 1e-9, 1e9)


def _log_likelihood(share: Array, candidate: Array, champion: Array) -> Array:
    """That of the arms of these events, with the risk that they show."""
    risk = _risk(share, candidate, champion)
    found = candidate * np.log(share * risk) + champion * np.log(1 - share)
    total: Array = (found - (candidate + champion) * np.log(share * risk + 1 - share)).sum(0)
    return total


@final
class Worse(Restarted):
    """The evidence that the candidate's risk is above `margin` times, now or since some time.

    Where the risk is at most `margin` at all times, `peak` ever reaches 1/alpha with a probability
    of at most alpha.
    """

    def __init__(self, margin: float) -> None:
        super().__init__(len(ABOVE))
        self._margin = margin

    def tick(self, *events: Events) -> None:
        """Take the events of a tick, of one share or of several."""
        self.step(np.sum([log_gains(each, self._margin, ABOVE) for each in events], axis=0))


@final
class Above(Restarted):
    """The evidence that the rate of events of one arm is above a floor, now or since some time."""

    def __init__(self, floor: float) -> None:
        super().__init__(len(ABOVE))
        self._bets = Bets.on_multiples(floor, ABOVE)

    def tick(self, units: int, events: int) -> None:
        """Take the counts of a tick."""
        self.step(self._bets.log_counts(events, units - events))


@final
class Below:
    """The evidence that the rate of events of one arm is below a floor: of calls, and of keys."""

    def __init__(self, floor: float) -> None:
        self._bets = Bets.on_multiples(floor, BELOW)
        self._calls = np.zeros(len(BELOW))
        self._keys = np.zeros(len(BELOW))

    def take_calls(self, units: int, events: int) -> None:
        """Take calls without keys."""
        self._calls += self._bets.log_counts(events, units - events)

    def take_keys(self, shares: Array) -> None:
        """Take the shares of the calls of keys that were bad."""
        self._keys += self._bets.log_values(shares)

    @property
    def log_of_calls(self) -> float:
        """The logarithm of the evidence of calls."""
        return log_mean(self._calls)

    @property
    def log_of_keys(self) -> float:
        """The logarithm of the evidence of keys."""
        return log_mean(self._keys)


def units_needed(rate: float, share: float, risk: float, margin: float, alpha: float) -> float:
    """About how many units both arms need until a risk is told from the margin.

    Args:
        rate: of events in the champion, for each unit.
        share: of units that go to the candidate.
        risk: the relative risk of the candidate that is to be found.
        margin: the relative risk that is allowed.
        alpha: the probability of a false decision.

    Returns:
        ln(7 / alpha) over the information of a unit; infinite where the risk is the margin.
    """
    found = float(chance(share, np.array(risk)))
    allowed = float(chance(share, np.array(margin)))
    divergence = (1 - found) * log((1 - found) / (1 - allowed))
    if found > 0:
        divergence += found * log(found / allowed)
    events = rate * (1 - share + share * risk)
    if events * divergence <= 0:
        return inf
    return log(len(ABOVE) / alpha) / (events * divergence)
