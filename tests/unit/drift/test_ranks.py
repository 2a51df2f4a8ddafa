"""The fast counting of ranks and evidence gives, to the bit, what the plain definition gives."""

import numpy as np
import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.drift import martingale
from modelkit.drift.cells import ABSENT, CELLS
from modelkit.stats.evidence import UNSPENT, Evidence, stake


def plain_advance(counts, cells, draws):
    """`martingale.advance` as it is defined: value after value, one feature at a time."""
    blocks, rows, d = cells.shape
    slots = np.zeros((blocks, d, martingale.P_SLOTS))
    added = np.zeros((blocks, d, CELLS), np.int64)
    for j in range(d):
        for b in range(blocks):
            for i in range(rows):
                cell = cells[b, i, j]
                if cell == ABSENT:
                    continue
                less, ties = counts[j, :cell].sum(), counts[j, cell]
                p = (less + draws[b, i, j] * (ties + 1)) / (counts[j].sum() + 1)
                slots[b, j, min(int(p * martingale.P_SLOTS), martingale.P_SLOTS - 1)] += 1
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
    slots, added = martingale.advance(counts, cells, draws)
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
    slots, added = martingale.advance(counts, cells, draws)
    for j in (0, 1, d // 2, d - 1):
        part = slice(j, j + 1)
        own_slots, own_added = plain_advance(alone[part], cells[:, :, part], draws[:, :, part])
        assert np.array_equal(slots[:, part], own_slots)
        assert np.array_equal(added[:, part], own_added)
        assert np.array_equal(counts[part], alone[part])


def test_both_ways_of_comparing_rows_agree():
    values = np.random.default_rng(0).integers(0, 9, (32, 200)).astype(np.uint8)
    for one, other in zip(
        martingale._gathered_pairs(values), martingale._shifted_pairs(values), strict=True
    ):
        assert np.array_equal(one, other)
    assert martingale._gathered_pairs(values)[0].sum() > 0


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
    state = evidence.state()
    assert np.array_equal(state["wealth"], wealth)
    assert np.array_equal(state["began"], began)
    assert np.allclose(state["run"], run, rtol=1e-12)
    rest = np.maximum(1 - spent[:, 0], UNSPENT) if guarantee == "ever" else 0
    assert np.array_equal(evidence.value, wealth @ weights + rest)
