"""Into which arm do bad events fall? Evidence from counts alone, which may be looked at for ever.

A stage sends a share q of its units to the candidate, drawn for each unit. Whatever happens to the
rate of events with the time of day, an event falls into the candidate with probability

    theta(r) = q r / (q r + 1 - q),

where r is the relative risk of the candidate at that moment: only the arm is random, and the
rollout drew it. A bet on r = b against r <= m multiplies its stake by the likelihood ratio of
theta(b) to theta(m): see `stats.betting`, and docs/explanation/rollout_proofs.md for the proof. News: Lindon
and Malek, Anytime-valid inference for multinomial count data (arXiv:2011.03567).

Of one arm alone, rates of events are bet on against a floor.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import inf, log
from typing import NamedTuple, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.stats.betting import ABOVE, BELOW, Bets, log_split
from modelkit.stats.evidence import Restarted, log_mean

MOST_SPANS = 32
NO_FLOOR = 0.5  # of evidence that does not count, as a floor is missing
BEYOND_CHANCE = 8.0  # of the largest of some thousand likelihood ratios, as a logarithm


@final
@dataclass(frozen=True)
class Events:
    """Events of units that were drawn: numbers, or arrays (...) of several kinds or stages.

    Attributes:
        share: the share of units that go to the candidate; above 0 and below 1.
        candidate: the number of events in the candidate.
        champion: the number of events in the champion.
    """

    share: Array | float
    candidate: Array | int
    champion: Array | int


class Span(NamedTuple):
    """A span of time in a stage.

    Attributes:
        share: the share of units that go to the candidate.
        candidate: the number of events in the candidate.
        champion: the number of events in the champion.
        ticks: how long it is.
    """

    share: float
    candidate: int
    champion: int
    ticks: int


def chance(share: Array | float, risk: Array) -> Array:
    """The probability that an event is in the candidate, for each relative risk."""
    return share * risk / (share * risk + 1 - share)


def log_gains(events: Events, margin: Array | float, factors: Array) -> Array:
    """The logarithm of the gain of each bet (..., J), on risks of `margin * factors` against `margin`."""
    shares = np.asarray(events.share)[..., None]
    margins = np.asarray(margin)[..., None]
    bets = Bets.on_rates(chance(shares, margins * factors), chance(shares, margins))
    return bets.log_counts(events.candidate, events.champion)


def log_better(stages: Events, margin: float) -> float:
    """The logarithm of the evidence that the candidate's risk is below `margin` times.

    It is the wealth of a mixture of fixed bets over all stages, (n,) of them: what a promotion
    needs. Where the risk is `margin` or more at all times, it ever reaches 1/alpha with a
    probability of at most alpha.
    """
    return float(log_mean(log_gains(stages, margin, BELOW).sum(axis=0)))


@final
class EventTimes:
    """The events of both arms by time, and what they say for a promotion.

    What the champion alone went through for a time, such as a bad half hour, speaks for no
    candidate: where a span of up to half the ticks differs from the others beyond chance, with
    fewer events of the candidate, the evidence is also taken without it, and the least counts. It
    is never more than the evidence of all events, whose guarantee it has.
    """

    def __init__(self, margin: float) -> None:
        self._margin = margin
        self._spans: list[Span] = []
        self._known: float | None = 0.0  # until the next event

    def add(self, share: float, candidate: int, champion: int) -> None:
        """Take the events of a tick. Late events of an earlier share join its last ones."""
        span = Span(share, candidate, champion, 1)
        anything = candidate + champion > 0
        if anything:
            self._known = None
        last = [at for at, each in enumerate(self._spans) if each.share == share][-1:]
        late = last != [len(self._spans) - 1]
        if last and (late or not anything):
            self._spans[last[0]] = _joined(self._spans[last[0]], span)
            return
        self._known = None
        self._spans.append(span)
        if len(self._spans) > MOST_SPANS:
            self._spans = _with_one_less(self._spans)

    @property
    def log_better(self) -> float:
        """The logarithm of the evidence that the candidate's risk is below the margin."""
        if self._known is None:
            self._known = self._least_better()
        return self._known

    def _least_better(self) -> float:
        spans = self._spans
        left = sum(span.ticks for span in spans) // 2
        least = inf
        while True:
            found = log_better(Events(*np.array(spans).T[:3]), self._margin)
            least = min(least, found)
            alone = champion_alone(spans, left) if found > 0 else None
            if alone is None:
                return least
            left -= sum(span.ticks for span in spans[alone])
            spans = [*spans[: alone.start], *spans[alone.stop :]]


def _joined(one: Span, other: Span) -> Span:
    return Span(one.share, *map(sum, zip(one[1:], other[1:], strict=True)))


def _with_one_less(spans: list[Span]) -> list[Span]:
    """The spans, of which the two neighbours of one share with the fewest events are joined."""
    joined = {
        at: _joined(one, other)
        for at, (one, other) in enumerate(itertools.pairwise(spans))
        if one.share == other.share
    }
    if not joined:
        return spans
    at = min(joined, key=lambda at: joined[at].candidate + joined[at].champion)
    return [*spans[:at], joined[at], *spans[at + 2 :]]


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
    total = [((different == shares) @ each)[:, None] for each in (candidate, champion)]
    ratio = _log_ratio(different, [mine * inside, mine * other], total)
    best = int(ratio.argmax())
    return slice(int(start[best]), int(stop[best])) if ratio[best] >= BEYOND_CHANCE else None


def _log_ratio(share: Array, inside: list[Array], total: list[Array]) -> Array:
    """The likelihood ratio of one risk inside and another one outside; 0 where that inside is larger."""
    outside = [both - part for both, part in zip(total, inside, strict=True)]
    ratio = _log_likelihood(share, *inside) + _log_likelihood(share, *outside)
    ratio -= _log_likelihood(share, *total)
    ratio[_risk(share, *inside) >= _risk(share, *outside)] = 0.0
    return ratio


def _risk(share: Array, candidate: Array, champion: Array) -> Array:
    """The relative risk by Mantel and Haenszel, over the shares along the first axis."""
    found: Array = (candidate * (1 - share)).sum(0) / np.maximum((champion * share).sum(0), 1e-9)
    return np.clip(found, 1e-9, 1e9)


def _log_likelihood(share: Array, candidate: Array, champion: Array) -> Array:
    """The log-likelihood of the arms of these events, with the risk that they show."""
    risk = _risk(share, candidate, champion)
    found = candidate * np.log(share * risk) + champion * np.log(1 - share)
    total: Array = (found - (candidate + champion) * np.log(share * risk + 1 - share)).sum(0)
    return total


@final
class SplitEvidence:
    """The evidence that units are not split between the arms as they were drawn."""

    def __init__(self) -> None:
        self._units: dict[
            tuple[int, float], tuple[int, int]
        ] = {}  # by stage and share, in both arms

    def add(self, stage: int, share: float, candidate: int, champion: int) -> None:
        """Take units that were drawn in a stage."""
        before, other = self._units.get((stage, share), (0, 0))
        self._units[stage, share] = (before + candidate, other + champion)

    @property
    def log(self) -> float:
        """The logarithm of the evidence."""
        return sum(log_split(share, *units) for (_, share), units in self._units.items())


@final
class Worse(Restarted):
    """The evidence that the candidate's risk is above each margin, (n,), now or since some time.

    Where the risk is at most its margin at all times, `peak` ever reaches 1/alpha with a
    probability of at most alpha.
    """

    def __init__(self, margins: Array) -> None:
        super().__init__(len(margins), len(ABOVE))
        self._margins = margins

    def tick(self, *events: Events) -> None:
        """Take the events (n,) of a tick, of one share or of several."""
        self.step(np.sum([log_gains(each, self._margins, ABOVE) for each in events], axis=0))


@final
class Above(Restarted):
    """The evidence that the rate of events of one arm is above each floor, (n,), now or since some time.

    Every rate is above a floor of 0: there is none.
    """

    def __init__(self, floors: Array) -> None:
        super().__init__(len(floors), len(ABOVE))
        self._bets = Bets.on_multiples(np.where(floors > 0, floors, NO_FLOOR), ABOVE)
        self._every = np.where(floors > 0, 0.0, np.inf)

    @property
    def peak(self) -> Array:
        """The largest evidence there was, (n,)."""
        return np.maximum(super().peak, self._every)

    def tick(self, units: Array, events: Array) -> None:
        """Take the counts (n,) of a tick."""
        self.step(self._bets.log_counts(events, units - events))


@final
class Below:
    """The evidence that the rate of events of one arm is below each floor, (n,): of calls, and of keys."""

    def __init__(self, floors: Array) -> None:
        self._bets = Bets.on_multiples(floors, BELOW)
        self._calls = np.zeros((len(floors), len(BELOW)))
        self._keys = np.zeros((len(floors), len(BELOW)))

    def take_calls(self, units: Array, events: Array) -> None:
        """Take calls (n,) without keys."""
        self._calls += self._bets.log_counts(events, units - events)

    def take_keys(self, shares: Array, compared: Array) -> None:
        """Take the shares of the calls of keys that were bad, (n, keys), where these are compared, (n,)."""
        self._keys[compared] += self._bets.log_values(shares)[compared]

    @property
    def log_of_calls(self) -> Array:
        """The logarithm of the evidence of calls, (n,)."""
        return log_mean(self._calls)

    @property
    def log_of_keys(self) -> Array:
        """The logarithm of the evidence of keys, (n,)."""
        return log_mean(self._keys)


def units_needed(rate: float, share: float, risk: float, margin: float, alpha: float) -> float:
    """About how many units both arms need until a risk can be distinguished from the margin.

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
