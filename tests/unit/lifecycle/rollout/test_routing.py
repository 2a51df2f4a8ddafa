"""Keys go to arms by their hash: as often as the share says, and independently for each salt."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.rollouts import model, who

import modelkit as mk
from modelkit.lifecycle.rollout.routing import WHOLE, hash_of, limit_of


def test_a_larger_share_holds_the_keys_of_a_smaller_one():
    hashes = np.array([hash_of(f"customer-{i}", b"salt") for i in range(40_000)], dtype=object)
    for share in (0.01, 0.05, 0.25, 1.0):
        inside = (hashes < limit_of(share)).mean()
        assert inside == pytest.approx(share, abs=0.004)
    assert limit_of(0) == 0
    assert limit_of(1) == WHOLE
    tenths = np.bincount([h * 10 // WHOLE for h in hashes], minlength=10)
    assert ((tenths - 4000) ** 2 / 4000).sum() < 27.9  # chi-square of 9, .001


def test_salts_choose_independently():
    keys = [f"user-{i:06d}" for i in range(40_000)]
    limit = limit_of(0.05)
    first = np.array([hash_of(key, b"a") < limit for key in keys])
    second = np.array([hash_of(key, b"b") < limit for key in keys])
    assert (first & second).sum() == pytest.approx(100, abs=40)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_is_a_share(share):
    with pytest.raises(ValueError, match="from 0 to 1"):
        limit_of(share)


def test_the_hash_of_a_rollout_is_that_of_its_seed():
    rollout = mk.Rollout(model(1), model(2), share=0.5, seed=7)
    for i in range(20):
        expected = 2 if hash_of(f"u{i}", b"7") < 1 << 63 else 1
        assert who(rollout, f"u{i}") == expected
