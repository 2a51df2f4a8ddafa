"""Ranks, bets and evidence of rows: the fast counting gives, to the bit, what the plain definition gives."""

from math import log

import numpy as np
import pytest
from helpers.examples import examples
from helpers.streams import rng
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from modelkit.drift import limits, ranks
from modelkit.drift.cells import ABSENT, CELLS
from modelkit.drift.limits import FIRST_PART, LATER_PART
from modelkit.drift.ranks import SLOTS, bets_on_rows, gains, rank_rows
from modelkit.stats.evidence import UNSPENT, Evidence, stake

STREAM = [[3, 3, 0, 2], [3, 3, 1, 3]]
DRAWS = [[0.5, 0.25, 0.75, 0.1], [0.9, 0.3, 0.6, 0.8]]


def plain_advance(counts, cells, draws):
    """`rank_rows` as it is defined: value after value, one feature at a time."""
    blocks, rows, d = cells.shape
    slots = np.zeros((blocks, d, SLOTS))
    added = np.zeros((blocks, d, CELLS), np.int64)
    for j in range(d):
        for b in range(blocks):
            for i in range(rows):
                cell = cells[b, i, j]
                if cell == ABSENT:
                    continue
                less, ties = counts[j, :cell].sum(), counts[j, cell]
                p = (less + draws[b, i, j] * (ties + 1)) / (counts[j].sum() + 1)
                slots[b, j, min(int(p * SLOTS), SLOTS - 1)] += 1
                counts[j, cell] += 1
                added[b, j, cell] += 1
    return slots, added


def drawn(seed, blocks, d, few, gaps):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 50, (d, CELLS)) * rng.integers(0, 2, (d, CELLS))
    cells = rng.integers(0, 4 if few else CELLS, (blocks, 32, d)).astype(np.uint8)
    cells[rng.random(cells.shape) < gaps] = ABSENT
    return counts, cells, rng.random(cells.shape)


@settings(max_examples=examples(20))
@given(
    st.integers(0, 2**32),
    st.integers(1, 5),
    st.integers(1, 6),
    st.booleans(),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_ranks_are_those_of_the_definition(seed, blocks, d, few, gaps):
    counts, cells, draws = drawn(seed, blocks, d, few, gaps)
    plainly = counts.copy()
    slots, added = rank_rows(counts, cells, draws)
    plain_slots, plain_added = plain_advance(plainly, cells, draws)
    assert np.array_equal(slots, plain_slots)
    assert np.array_equal(added, plain_added)
    assert np.array_equal(counts, plainly)


@pytest.mark.parametrize("gaps", [0.0, 0.1])
@pytest.mark.parametrize(
    ("blocks", "d"), [(1, 127), (1, 128), (1, 129), (40, 60), (3, 700), (1, 2100)]
)
def test_wide_rows_have_the_ranks_of_each_feature_alone(blocks, d, gaps):
    """Around the widths at which another way of counting is taken."""
    counts, cells, draws = drawn(d, blocks, d, few=False, gaps=gaps)
    alone = counts.copy()
    slots, added = rank_rows(counts, cells, draws)
    for j in (0, 1, d // 2, d - 1):
        part = slice(j, j + 1)
        own_slots, own_added = plain_advance(alone[part], cells[:, :, part], draws[:, :, part])
        assert np.array_equal(slots[:, part], own_slots)
        assert np.array_equal(added[:, part], own_added)
        assert np.array_equal(counts[part], alone[part])


def test_both_ways_of_comparing_rows_agree():
    values = np.random.default_rng(0).integers(0, 9, (32, 200)).astype(np.uint8)
    for one, other in zip(ranks._gathered_pairs(values), ranks._shifted_pairs(values), strict=True):
        assert np.array_equal(one, other)
    assert ranks._gathered_pairs(values)[0].sum() > 0


@pytest.mark.parametrize("guarantee", ["ever", "arl"])
def test_evidence_is_that_of_the_recursion(guarantee):
    """Wealth, best single start and its step, kept by masks, bet by bet; three begin anew once."""
    rng = np.random.default_rng(3)
    monitors, bets = 7, 11
    weights = np.full(bets, 1 / bets)
    evidence = Evidence(monitors, weights, guarantee)
    wealth = np.zeros((monitors, bets))
    run = np.full((monitors, bets), -np.inf)
    began = np.zeros((monitors, bets), np.int64)
    born, spent = np.zeros((monitors, 1), int), np.zeros((monitors, 1))
    for step in range(300):
        logs = rng.normal(-0.02, 0.3, (monitors, bets))
        fresh = stake(step - born) if guarantee == "ever" else 32
        log_fresh = np.log(fresh) if guarantee == "ever" else 0.0
        spent += fresh
        began = np.where(run < log_fresh, step, began)
        run = np.maximum(run, log_fresh) + logs
        wealth = (wealth + fresh) * np.exp(logs)
        evidence.step(logs, np.exp(logs), np.full(monitors, 32))
        if step == 150:
            which = np.arange(monitors) < 3
            evidence.restart(which)
            run[which], wealth[which] = -np.inf, 0
            born[which], spent[which] = step + 1, 0
    assert np.array_equal(evidence._wealth, wealth)
    assert np.array_equal(evidence._began, began)
    assert np.allclose(evidence._run, run, rtol=1e-12)
    rest = np.maximum(1 - spent[:, 0], UNSPENT) if guarantee == "ever" else 0
    assert np.array_equal(evidence.value, wealth @ weights + rest)


def slots_of(counts, cells, draws):
    """One feature, micro-batches of any length: the slots of `rank_rows`."""
    blocks, _ = rank_rows(
        counts, np.array([cells], np.uint8)[:, :, None], np.array([draws])[:, :, None]
    )
    return blocks


def plain_p(counts, cells, draws):
    """The definition, row by row."""
    counts = list(counts)
    for cell, draw in zip(cells, draws, strict=True):
        if cell != ABSENT:
            yield (sum(counts[:cell]) + draw * (counts[cell] + 1)) / (sum(counts) + 1)
            counts[cell] += 1


def test_the_conformal_martingale_has_its_reference_values():
    start = [2, 3, 4, 1]
    p = list(plain_p(start, np.ravel(STREAM), np.ravel(DRAWS)))
    assert p == pytest.approx(
        [10 / 11, 13 / 16, 9 / 52, 13 / 28, 0.97333333, 0.78125, 0.31764706, 0.93333333]
    )
    counts = np.zeros((1, CELLS), np.int64)
    counts[0, :4] = start
    ever, arl = (Evidence(1, bets_on_rows()[1], mode) for mode in ("ever", "arl"))
    found, wealth, reached = [], [], []
    for cells, draws in zip(STREAM, DRAWS, strict=True):
        slots = slots_of(counts, cells, draws)
        found.append(np.flatnonzero(slots[0, 0]).tolist())
        logs = gains(slots, bets_on_rows()[0])[0]
        for evidence in (ever, arl):
            evidence.step(logs, np.exp(logs), np.array([4]))
        wealth.append(log(ever.value[0]))
        reached.append(log(arl.value[0]))
    assert found == [sorted([58, 52, 11, 29]), sorted([62, 50, 20, 59])]
    assert wealth == pytest.approx([-0.048992184, 0.001410820], abs=1e-8)
    assert reached == pytest.approx([1.208389846, 2.137558216], abs=1e-8)
    assert counts[0, :4].tolist() == [3, 4, 5, 6]


def test_stakes_sum_to_less_than_one_and_bets_are_fair():
    assert stake(0) == pytest.approx(0.293362, abs=1e-6)
    assert stake(1) == pytest.approx(0.034522, abs=1e-6)
    total = stake(np.arange(2_000_000)).sum() + 1.5 / log(2_000_007.5)  # which is the tail
    assert total == pytest.approx(0.993911, abs=1e-6)
    assert FIRST_PART + LATER_PART * total <= 1  # all that a feature's alarms may use
    table, weights = bets_on_rows()
    assert np.abs(np.exp(table).mean(axis=0) - 1).max() < 1e-12
    assert weights.sum() == pytest.approx(1)
    assert limits.band_bets(np.full(16, 9), np.ones(36))[1].sum() == pytest.approx(1)


@settings(max_examples=examples(40))
@given(st.lists(st.integers(0, 30), min_size=CELLS, max_size=CELLS), st.data())
def test_ranks_in_blocks_are_those_of_the_definition(start, data):
    blocks = data.draw(st.integers(1, 3))
    cells = data.draw(
        st.lists(
            st.sampled_from([0, 1, 5, 64, 66, ABSENT]), min_size=32 * blocks, max_size=32 * blocks
        )
    )
    draws = rng(1).random(32 * blocks)
    counts = np.array([start, start])
    both = np.repeat(np.array(cells, np.uint8).reshape(blocks, 32, 1), 2, axis=2)
    slots, added = rank_rows(counts, both, np.repeat(draws.reshape(blocks, 32, 1), 2, axis=2))
    expected = np.floor(64 * np.array(list(plain_p(start, cells, draws))))
    assert (
        slots.sum(axis=0)[0].astype(int).tolist()
        == np.bincount(expected.astype(int), minlength=64).tolist()
    )
    assert np.array_equal(slots[:, 0], slots[:, 1])
    assert np.array_equal(counts - start, added.sum(axis=0))
    assert np.array_equal(
        counts[0] - start, np.bincount([c for c in cells if c != ABSENT], minlength=CELLS)
    )


@pytest.mark.parametrize("law", [[1.0], [0.99, 0.01], np.full(67, 1 / 67), 1 / np.arange(1, 40)])
@pytest.mark.parametrize("absent", [0.0, 0.3])
def test_p_values_are_uniform_for_any_law_and_a_tiny_reference(law, absent):
    law = np.asarray(law) / np.sum(law)
    draw = rng(len(law), int(10 * absent))
    lanes, blocks = 200, 8
    counts = np.zeros((lanes, CELLS), np.int64)
    counts[:, : len(law)] = draw.multinomial(20, law, lanes)
    cells = draw.choice(len(law), (blocks, 32, lanes), p=law).astype(np.uint8)
    cells[draw.random(cells.shape) < absent] = ABSENT
    slots, _ = rank_rows(counts, cells, draw.random(cells.shape))
    for some in (slots, slots[:1], slots[-1:]):  # first and last rows of a stream alike
        assert stats.chisquare(some.sum(axis=(0, 1))).pvalue > 1e-4
