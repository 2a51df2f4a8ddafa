"""First events of keys: each key counts once, and is drawn anew where the share rises."""

from __future__ import annotations

import numpy as np
import pytest

from modelkit.lifecycle.rollout.keyed import MOST_KEYS, FirstOfKeys, FreshKeys, Pairing
from modelkit.lifecycle.rollout.routing import WHOLE, limit_of


def test_where_the_share_rises_the_keys_of_the_champion_are_drawn_anew():
    rng = np.random.default_rng(0)
    keys = [int(key) for key in rng.integers(0, WHOLE, 20_000, dtype=np.uint64)]
    fresh = FreshKeys()
    drawn = 0
    for share, expected in ((0.0, 0.0), (0.1, 0.1), (0.1, 0.1), (0.4, 0.3 / 0.9), (0.7, 0.5)):
        fresh.enter(share)
        assert fresh.share == pytest.approx(expected)
        if not share:
            continue
        units = tuple((key, key < limit_of(share)) for key in keys)
        inside, outside = fresh.take(units)
        assert fresh.take(units) == (0, 0)
        if inside:  # not where the share is the one before
            assert inside == pytest.approx(expected * (inside + outside), rel=0.05)
            drawn += 1
    assert drawn == 3
    assert not fresh.enter(0.4)  # counts of a stage before that come late
    fresh.enter(1.0)
    assert fresh.take(tuple((key, True) for key in keys)) == (20_000, 0)


def test_each_key_counts_once():
    firsts = FirstOfKeys()
    assert firsts.take(((1, True), (2, False), (1, True))) == (1, 1)
    assert firsts.take(((1, True), (3, False))) == (0, 1)
    assert firsts.take(tuple((key, False) for key in range(MOST_KEYS + 10))) == (0, MOST_KEYS - 3)
    assert firsts.full
    assert firsts.take(((-1, True),)) == (0, 0)


def test_arms_are_paired_in_the_order_of_labels():
    pairing = Pairing()
    assert pairing.take(0.5, candidate=True) is None
    assert pairing.take(0.2, candidate=False) is None
    assert pairing.take(0.4, candidate=False) is None
    assert pairing.take(0.5, candidate=True) == pytest.approx(0.2)
    assert pairing.take(0.5, candidate=True) is None
