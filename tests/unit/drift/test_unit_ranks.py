"""Whole units by their rank among others, exact by enumeration, and units that alarm again."""

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from helpers.examples import examples, some
from helpers.units import evidence, some_units
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.drift.ranks import bets_on_tails, bets_on_units
from modelkit.drift.unit_ranks import last_ranks, place_scores, unit_scores
from modelkit.drift.units import most_units

small_bags = st.lists(
    st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=2, max_size=5
).map(lambda bag: np.pad(np.array(bag, np.uint16) * 1000, ((0, 0), (0, 12)))[:, None])


@given(small_bags)
@settings(deadline=None)
def test_over_all_orders_of_a_small_bag_the_rank_of_the_last_is_exactly_uniform(bag):
    """For each score, the intervals that ties spread over cover [0, 1) equally: no order is missing."""
    n = len(bag)
    covered = [dict.fromkeys(range(n), Fraction(0)) for _ in range(3)]
    orders = [*permutations(range(n))]
    full = np.ones((n, 1), bool)
    for order in orders:
        scores = unit_scores(bag[list(order)])
        low = np.rint(last_ranks(scores, full, np.zeros((1, 3)))[0] * n).astype(int)
        high = np.rint(last_ranks(scores, full, np.ones((1, 3)))[0] * n).astype(int)
        for score in range(3):
            for slot in range(low[score], high[score]):
                covered[score][slot] += Fraction(1, int(high[score] - low[score]))
    for slots in covered:
        assert set(slots.values()) == {Fraction(len(orders), n)}


@given(small_bags)
@settings(deadline=None)
def test_over_all_orders_two_ranks_in_a_row_are_exactly_independent(bag):
    """Given the bag, the last rank is uniform whatever the rank before it was."""
    n = len(bag)
    joint = {}
    full = np.ones((n, 1), bool)
    for order in permutations(range(n)):
        sorted_bag = bag[list(order)]
        steps = []
        for last in (n - 1, n):
            scores = unit_scores(sorted_bag[:last])
            ends = [
                np.rint(last_ranks(scores, full[:last], np.full((1, 3), u))[0] * last).astype(int)
                for u in (0, 1)
            ]
            steps.append((ends[0][2], ends[1][2]))
        (a, b), (c, d) = steps
        for one in range(a, b):
            for other in range(c, d):
                weight = Fraction(1, int((b - a) * (d - c)))
                joint[one, other] = joint.get((one, other), 0) + weight
    assert len(joint) == n * (n - 1)
    assert len(set(joint.values())) == 1


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=examples(50))
def test_scores_are_those_of_the_units_whatever_their_order(seed):
    rng = np.random.default_rng(seed)
    bag = some_units(rng, 30, 3)
    bag[7] = bag[2]
    bag[11, 1] = 0  # without values of a feature
    order = rng.permutation(30)
    assert np.array_equal(unit_scores(bag[order]), unit_scores(bag)[order])


def test_bets_gain_nothing_on_uniform_ranks():
    logs, weights = bets_on_units()
    assert np.abs(np.exp(logs).mean(axis=0) - 1).max() < 1e-12
    assert weights.sum() == pytest.approx(1)


def test_a_unit_that_is_forgotten_may_be_the_newest_as_well_as_any_other():
    rng = np.random.default_rng(0)
    shares = some_units(rng, 9, 1)
    stays = 0
    for seed in range(400):
        one = evidence(shares[:8], seed=seed)
        one.bag.room = [8]
        one.judge(shares[8], 0)
        stays += any((unit == shares[8]).all() for unit in one.bag.bags[0])
    assert abs(stays / 400 - 8 / 9) < 0.06


def test_what_is_kept_of_units_is_bounded():
    assert most_units(6) == 400
    assert most_units(500) * 500 * 32 <= 2 << 20
    rng = np.random.default_rng(0)
    one = evidence(some_units(rng, 20, 500))
    more = some_units(rng, 1, 500)[0]
    one.bag.bags[0] = np.repeat(more[None], 2 * most_units(500), axis=0)
    one.bag.order[0] = np.arange(2 * most_units(500))
    one.judge(more, 0)
    assert len(one.bag.bags[0]) == 2 * most_units(500)


def within(moved, true, own):
    """The least centre and slack (1, 6) by which units (n, 1, 16) are moved ones of others."""
    apart = place_scores(moved) - place_scores(true)
    high, low = apart[own:].max(axis=0), apart[own:].min(axis=0)
    return (high + low) / 2, (high - low) / 2 + 1e-9


@given(st.integers(0, 2**32 - 1), st.integers(3, 20), st.integers(1, 10), st.integers(0, 9))
@settings(deadline=None, max_examples=examples(60))
def test_units_that_were_moved_no_further_than_is_allowed_never_rank_higher(seed, m, later, since):
    """The step of the proof of "material": the p-value is at least that of the units as they were."""
    rng = np.random.default_rng(seed)
    since = min(since, later - 1)
    true, other = some_units(rng, m + later, 1), some_units(rng, m + later, 1)
    moved = true.copy()
    moved[m:] = (true[m:] * 0.7 + other[m:] * 0.3).astype(np.uint16)
    order = np.append(np.full(m, -1), np.arange(later))
    kept_units = np.append(np.arange(m), np.arange(m + since, m + later))
    p = []
    for shares in (moved, true):
        one = evidence(true[:m], seed=seed).bag.tails
        one.allowed[:] = since
        one.limits[:] = 0
        if shares is moved:
            one.limits[:] = np.hstack(within(moved[kept_units], true[kept_units], m))
        draws = np.random.default_rng(seed).random((1, 6))
        p.append(one.ranks(shares, order, draws))
    assert (p[0] >= p[1] - 1e-12).all()


def test_bets_on_small_ranks_pay_the_less_the_larger_the_rank_is():
    logs, weights = bets_on_tails()
    assert (np.diff(logs, axis=0) < 0).all()
    assert np.abs(np.exp(logs).mean(axis=0) - 1).max() < 1e-12
    assert weights.sum() == pytest.approx(1)


# Once a feature has alarmed. Of each part of a stream: its days, their level, and the alarms in it.
AGAIN = {
    "lasts": [(10, 0.0, ""), (120, 0.8, "cm")],
    "grows": [(10, 0.0, ""), (20, 1.0, "cm"), (20, 2.5, "M")],
    "turns": [(20, 1.0, "cm"), (30, -1.5, "M")],
    "goes, and comes again": [(20, 1.0, "cm"), (30, 0.0, ""), (20, 1.0, "m")],
    "small, and then large": [(60, 0.2, "c"), (12, 1.5, "m")],
}


def levelled(rng, n, level):
    return [{"x": rng.normal(level + rng.normal() * 0.2, 1, 60)} for _ in range(n)]


@pytest.mark.parametrize("stratum", [None, "s"])
@some("name", AGAIN, 3)
def test_a_feature_of_units_alarms_again_where_its_change_grows_or_turns(name, stratum):
    rng = np.random.default_rng(3)

    def units(n, level):
        return [
            unit | ({} if stratum is None else {stratum: np.full(60, i % 2)})
            for i, unit in enumerate(levelled(rng, n, level))
        ]

    training = {"x": rng.normal(size=1000)} | ({} if stratum is None else {stratum: np.zeros(1000)})
    past = units(160, 0.0)
    profile = mk.Profile.fit(training, reference=past, unit="batch", stratum=stratum)
    detector = mk.Detector(profile, history=0, tolerance=0.1)
    for n, level, expected in AGAIN[name]:
        found = [alarm for unit in units(n, level) for alarm in detector.update(unit)]
        said = [a.kind[0].upper() if a.again else a.kind[0] for a in found]
        assert sorted(said) == sorted(expected), (level, said)
        assert all(alarm.p <= alarm.level for alarm in found)
        state = detector.state()
        detector = mk.Detector.resume(profile, state)
        assert detector.state() == state


def test_an_acknowledged_change_of_units_is_told_again_where_they_leave_it():
    rng = np.random.default_rng(4)
    past = levelled(rng, 100, 0.0)
    profile = mk.Profile.fit({"x": rng.normal(size=1000)}, reference=past, unit="batch")
    detector = mk.Detector(profile, history=0)
    for unit in levelled(rng, 60, 0.6):
        for alarm in detector.update(unit):
            detector.acknowledge(alarm, "known")
    assert [alarm.again for alarm in detector.alarms if alarm.kind == "changed"] == [False]
    more = [alarm for unit in levelled(rng, 40, 0.0) for alarm in detector.update(unit)]
    assert [(alarm.kind, alarm.again) for alarm in more] == [("changed", True)]
