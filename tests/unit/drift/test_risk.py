"""Losses: bounds on the held-out risk, the bets of the loss e-process, and the betting confidence sequence."""

from math import log

import numpy as np
import pytest
from helpers.calibrated import peak_of
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from modelkit.drift.codec import freeze, thaw
from modelkit.drift.risk import (
    GRID,
    LOSS_WEIGHTS,
    ConfidenceSequence,
    _grid,
    loss_bets,
    loss_increments,
    risk_bound,
)
from modelkit.stats.evidence import Evidence

TEN = np.array([1, 0, 1, 1, 0, 1, 1, 0, 1, 1.0])


def test_the_bound_has_its_reference_value():
    assert risk_bound(5000, 500, 500, 0.005, binary=True) == pytest.approx(0.1114129, abs=1e-7)
    assert risk_bound(5000, 500, 500, 0.005, binary=True) == pytest.approx(
        stats.beta.isf(0.005, 501, 4500)
    )


def test_the_bernstein_bound_by_hand():
    losses = np.array([0.1, 0.4, 0.2, 0.9])
    expected = 0.4 + np.sqrt(2 * losses.var(ddof=1) * log(20) / 4) + 7 * log(20) / 9
    n = 1000  # the same, often enough for the bound to be below 1
    many = np.tile(losses, n)
    got = risk_bound(4 * n, many.sum(), (many**2).sum(), 0.1, binary=False)
    assert expected > 1
    assert risk_bound(4, losses.sum(), (losses**2).sum(), 0.1, binary=False) == 1
    wide = np.sqrt(2 * many.var(ddof=1) * log(20) / 4000) + 7 * log(20) / (3 * 3999)
    assert got == pytest.approx(0.4 + wide)


@pytest.mark.parametrize("binary", [True, False])
def test_no_losses_and_nothing_but_losses_bound_nothing(binary):
    assert risk_bound(0, 0, 0, 0.01, binary=binary) == 1
    assert risk_bound(9, 9, 9, 0.01, binary=binary) == 1


def test_the_wealth_of_the_bets_has_its_reference_values():
    evidence, wealth = Evidence(1, LOSS_WEIGHTS), []
    for _ in range(2):
        logs = loss_increments(TEN, 0.2)[None]
        evidence.step(logs, np.exp(logs), np.array(10))
        wealth.append(log(evidence.value[0]))
    assert wealth == pytest.approx([3.365280, 8.764584], abs=1e-6)


@given(st.floats(1e-6, 1.5), st.lists(st.floats(0, 1), min_size=1, max_size=20).map(np.array))
def test_a_bet_never_loses_all_and_gains_nothing_on_average_at_the_bound(u, losses):
    assert np.isfinite(loss_increments(losses, u)).all()
    if u <= 1:
        mean = (1 - u) * np.exp(loss_increments(np.zeros(1), u)) + u * np.exp(
            loss_increments(np.ones(1), u)
        )
        assert mean == pytest.approx(np.ones(6))
    assert (1 - loss_bets(u) * u >= 0.1 - 1e-12).all()


def test_a_worse_model_is_seen():
    rng = np.random.default_rng(2)
    assert all(peak_of(0.25, 0.11, rng, 1000) >= 100 for _ in range(20))


def test_an_interval_is_that_of_the_formulas_rounded_outward():
    losses, alpha = np.tile([0.0, 0.5, 0, 1, 0.25], 8), 0.05
    sequence = ConfidenceSequence(alpha)
    sequence.update(losses)

    def worth(m):
        up = down = 1.0
        total, squares = 0.5, 0.25
        for i, x in enumerate(losses, 1):
            stake = np.sqrt(2 * log(2 / alpha) / (squares / i * i * log(i + 1)))
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
    plain = freeze(first, arrays := {})
    thaw(second, plain, arrays)
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
