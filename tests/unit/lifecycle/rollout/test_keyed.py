"""First events of keys: each key counts once, and is drawn anew where the share rises."""

from __future__ import annotations

import numpy as np
import pytest

from modelkit.lifecycle.rollout.keyed import (
    DONE,
    FIRST_EVENT,
    LOSS,
    MOST_KEYS,
    OWN,
    SPLIT,
    Keys,
    Pairing,
)
from modelkit.lifecycle.rollout.routing import WHOLE, limit_of


def test_where_the_share_rises_the_keys_of_the_champion_are_drawn_anew():
    rng = np.random.default_rng(0)
    keys = [int(key) for key in rng.integers(0, WHOLE, 20_000, dtype=np.uint64)]
    fresh = Keys()
    drawn = 0
    for share, expected in ((0.0, 0.0), (0.1, 0.1), (0.1, 0.1), (0.4, 0.3 / 0.9), (0.7, 0.5)):
        fresh.enter(share)
        assert fresh.share == pytest.approx(expected)
        if not share:
            continue
        units = tuple((key, key < limit_of(share)) for key in keys)
        inside, outside = fresh.count(units, DONE)
        assert fresh.count(units, DONE) == (0, 0)
        if inside:  # not where the share is the one before
            assert inside == pytest.approx(expected * (inside + outside), rel=0.05)
            drawn += 1
    assert drawn == 3
    fresh.enter(0.4)  # counts of a stage before that come late
    assert not fresh.drawn
    fresh.enter(1.0)
    assert fresh.count(tuple((key, True) for key in keys), DONE) == (20_000, 0)


def test_each_key_counts_once():
    keys = Keys()
    assert keys.count(((1, True), (2, False), (1, True)), DONE) == (1, 1)
    assert keys.count(((1, True), (3, False)), DONE) == (0, 1)
    many = tuple((key, False) for key in range(MOST_KEYS + 10))
    assert not keys.full
    assert keys.count(many, DONE) == (0, MOST_KEYS - 3)
    assert keys.full
    assert keys.count(((MOST_KEYS + 10, True),), DONE) == (0, 0)


def test_each_purpose_has_keys_of_its_own():
    keys = Keys()
    for purpose in (SPLIT, DONE, OWN, LOSS, FIRST_EVENT, FIRST_EVENT << 1):
        assert keys.count(((1, True),), purpose) == (1, 0)
        assert keys.count(((1, True),), purpose) == (0, 0)


def test_what_counts_once_in_a_rollout_is_not_drawn_again():
    keys = Keys()
    high = (WHOLE - 1, False)
    for share, again in ((0.1, 1), (0.5, 0)):
        keys.enter(share)
        assert keys.count((high,), SPLIT) == (0, 1)
        assert keys.count((high,), LOSS) == (0, again)
        assert keys.count(((0, True),), OWN) == (again, 0)  # the candidate's, whenever it was drawn


def test_arms_are_paired_in_the_order_of_labels():
    pairing = Pairing()
    assert pairing.take(0.5, candidate=True) is None
    assert pairing.take(0.2, candidate=False) is None
    assert pairing.take(0.4, candidate=False) is None
    assert pairing.take(0.5, candidate=True) == pytest.approx(0.3)
    assert pairing.take(0.5, candidate=True) is None
