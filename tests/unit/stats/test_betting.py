"""Bets against a mean: none that the library makes pays on the wrong side, and counts are what units are."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.drift.codec import freeze, thaw
from modelkit.drift.limits import FRACTIONS, band, band_bets, scores
from modelkit.drift.losses import loss_increments
from modelkit.lifecycle.rollout.arms import Events, chance, log_gains
from modelkit.stats.betting import (
    ABOVE,
    BELOW,
    GRID,
    MOST_STAKED,
    STAKES,
    Bets,
    ConfidenceSequence,
    MarginEvidence,
    _grid,
    log_split,
    log_staked,
)

TEN = np.array([1, 0, 1, 1, 0, 1, 1, 0, 1, 1.0])
UNITS = np.linspace(0, 1, 9)


class Case(NamedTuple):
    """Bets against a mean: the values that there may be (n,), what each bet pays for them (n, J), and the side
    of the hypothesis: 1 for a mean of at most `mean`, -1 for at least."""

    name: str
    values: np.ndarray
    pays: np.ndarray
    mean: float
    side: int


def one_by_one(log_pays):
    """The payoffs of each of the units by itself, (n, J)."""
    return np.exp([log_pays(UNITS[at : at + 1]) for at in range(len(UNITS))])


def bets_on_arms(share, margin):
    mean = float(chance(share, np.array(margin)))
    for side, factors in ((1, ABOVE), (-1, BELOW)):
        pays = [log_gains(Events(share, k, 1 - k), margin, factors) for k in (0, 1)]
        yield Case("arms", np.array([0.0, 1.0]), np.exp(pays), mean, side)


def bets_on_rates(floor):
    for side, factors in ((1, ABOVE), (-1, BELOW)):
        pays = one_by_one(Bets.on_multiples(floor, factors).log_values)
        yield Case("rates", UNITS, pays, floor, side)


def bets_on_differences(margin, largest):
    values = 2 * UNITS - 1
    pays = np.exp(log_staked(values, margin, MarginEvidence(margin, largest)._slopes))
    yield Case("differences", values, pays[:, : len(STAKES)], margin, 1)
    yield Case("differences", values, pays[:, len(STAKES) :], margin, -1)


def bets_on_losses(u):
    yield Case("losses", UNITS, one_by_one(lambda loss: loss_increments(loss, u)), u, 1)


def bets_of_the_band(counts, tolerance):
    limits = band(counts, tolerance, 0.01)
    pays, _ = band_bets(counts, limits)
    table, _ = scores(counts / max(counts.sum(), 1))
    bets = np.exp(pays).reshape(len(counts), len(table), len(FRACTIONS))
    for which in range(len(table)):
        yield Case("band", table[which], bets[:, which], float(limits[which]), 1)


@st.composite
def cases(draw):
    number = draw(st.integers(0, 4))
    if number == 0:
        found = bets_on_arms(draw(st.floats(0.001, 0.999)), draw(st.floats(0.2, 5)))
    elif number == 1:
        found = bets_on_rates(draw(st.floats(0.0005, 0.9)))
    elif number == 2:
        found = bets_on_differences(draw(st.floats(0, 0.9)), draw(st.floats(1, 3)))
    elif number == 3:
        found = bets_on_losses(draw(st.floats(1e-6, 1.5)))
    else:
        counts = draw(st.lists(st.integers(0, 400), min_size=16, max_size=16))
        found = bets_of_the_band(np.array(counts), draw(st.floats(0, 0.3)))
    return draw(st.sampled_from(list(found)))


def on_the_wrong_side(law, case):
    """The law, mixed with the value farthest on the wrong side until its mean is that of the hypothesis."""
    beyond = case.side * (law @ case.values - case.mean)
    farthest = int(np.argmin(case.side * case.values))
    room = case.side * (case.mean - case.values[farthest])
    if beyond <= 0 or room < 0:
        return law
    share = beyond / (beyond + room)
    return (1 - share) * law + share * (np.arange(len(law)) == farthest)


@settings(max_examples=examples(400))
@given(cases(), st.randoms(use_true_random=False))
def test_no_bet_pays_more_than_its_stake_where_the_mean_is_on_the_wrong_side(case, random):
    few = [random.random() ** 8 + 1e-12 for _ in case.values]
    law = on_the_wrong_side(np.array(few) / sum(few), case)
    assert (case.pays >= 0).all()
    if np.isfinite(case.mean):
        assert (law @ case.pays <= 1 + 1e-9).all(), case.name


@given(st.floats(0.001, 0.9), st.lists(st.booleans(), min_size=1, max_size=30))
def test_counts_pay_as_their_units_do(rate, units):
    for factors in (ABOVE, BELOW):
        bets = Bets.on_multiples(rate, factors)
        counted = bets.log_counts(sum(units), len(units) - sum(units))
        np.testing.assert_allclose(bets.log_values(np.array(units, float)), counted, atol=1e-9)


@given(st.floats(0.001, 0.9))
def test_a_bet_by_its_slope_is_one_by_its_ends(mean):
    slopes = STAKES * MOST_STAKED / mean
    ends = Bets(1 - slopes * mean, 1 + slopes * (1 - mean))
    logs = log_staked(UNITS, mean, slopes).sum(axis=0)
    np.testing.assert_allclose(ends.log_values(UNITS), logs, rtol=1e-12, atol=7e-15)


def test_differences_tell_on_both_sides():
    rng = np.random.default_rng(0)
    for mean, above, below in ((0.05, True, False), (-0.01, False, True)):
        evidence = MarginEvidence(0.01)
        for _ in range(40):
            evidence.update(np.clip(rng.normal(mean, 0.11, 100), -1, 1))
        assert (evidence.log_above >= math.log(100)) == above
        assert (evidence.log_below >= math.log(100)) == below
    with pytest.raises(ValueError, match="from 0 to 1"):
        MarginEvidence(0.01).update(np.array([1.5]))
    with pytest.raises(ValueError, match="from 0 to 1"):
        MarginEvidence(0.01).update(np.array([np.nan]))
    with pytest.raises(ValueError, match="margin"):
        MarginEvidence(1.0)


def test_a_split_that_is_broken_is_found():
    rng = np.random.default_rng(0)
    sound = [rng.binomial(100_000, 0.05) for _ in range(200)]
    alarms = [log_split(0.05, k, 100_000 - k) >= math.log(100) for k in sound]
    assert sum(alarms) <= 2
    # The candidate loses a tenth of its calls before they are counted.
    assert log_split(0.05, 4500, 95_000) >= math.log(100)
    assert log_split(1.0, 100, 0) == 0


def test_an_interval_is_that_of_the_formulas_rounded_outward():
    losses, alpha = np.tile([0.0, 0.5, 0, 1, 0.25], 8), 0.05
    sequence = ConfidenceSequence(alpha)
    sequence.update(losses)

    def worth(m):
        up = down = 1.0
        total, squares = 0.5, 0.25
        for i, x in enumerate(losses, 1):
            stake = np.sqrt(2 * math.log(2 / alpha) / (squares / i * i * math.log(i + 1)))
            up *= 1 + min(stake, 0.5 / m) * (x - m)
            down *= 1 - min(stake, 0.5 / (1 - m)) * (x - m)
            total += x
            squares += (x - total / (i + 1)) ** 2
        return max(up, down) / 2

    inside = _grid()[1:-1]
    kept = inside[[worth(m) < 1 / alpha for m in inside]]
    low, high = sequence.interval()
    assert low < kept[0] <= kept[-1] < high
    assert np.searchsorted(_grid(), kept[0]) - np.searchsorted(_grid(), low) == 1
    assert np.searchsorted(_grid(), high) - np.searchsorted(_grid(), kept[-1]) == 1


def test_an_interval_only_shrinks_and_closes_in_on_the_mean():
    rng = np.random.default_rng(4)
    sequence, last = ConfidenceSequence(0.05), (0.0, 1.0)
    assert sequence.interval() == last
    for _ in range(100):
        sequence.update(rng.random(100) < 0.1)
        low, high = sequence.interval()
        assert last[0] <= low <= high <= last[1]
        last = low, high
    assert last[1] - last[0] < 0.03


def test_no_mean_fits_losses_whose_mean_has_changed():
    sequence = ConfidenceSequence(0.05)
    sequence.update(np.zeros(2000))
    sequence.update(np.ones(2000))
    assert sequence.interval() is None
    sequence.update(np.ones(10))
    assert sequence.interval() is None


@given(st.lists(st.floats(0, 1), max_size=150), st.integers(0, 150))
@settings(max_examples=examples(30))
def test_going_on_from_a_state_changes_no_bit(losses, cut):
    whole, first, second = (ConfidenceSequence(0.01) for _ in range(3))
    for part in (losses[:cut], losses[cut:]):
        whole.update(np.array(part))
    first.update(np.array(losses[:cut]))
    thaw(second, freeze(first, arrays := {}), arrays)
    second.update(np.array(losses[cut:]))
    assert whole.interval() == second.interval()
    for name in ConfidenceSequence.changing:
        assert np.array_equal(getattr(whole, name), getattr(second, name))


def test_the_state_does_not_grow():
    sequence = ConfidenceSequence(0.01)
    freeze(sequence, arrays := {})
    before = {name: array.nbytes for name, array in arrays.items()}
    sequence.update(np.tile(TEN, 100))
    freeze(sequence, arrays)
    assert {name: array.nbytes for name, array in arrays.items()} == before
    assert sum(before.values()) < 20 * GRID


def test_several_means_are_followed_as_each_of_them_is():
    rng = np.random.default_rng(0)
    largest = np.array([1.0, 0.5])
    values = rng.uniform(-1, 0.5, (2, 30))
    both = MarginEvidence(0.1, largest)
    both.update(values)
    for row in range(2):
        one = MarginEvidence(0.1, float(largest[row]))
        one.update(values[row])
        assert both.log_above[row] == pytest.approx(float(one.log_above))
        assert both.log_below[row] == pytest.approx(float(one.log_below))
