"""Votes of pairs of classes, and what they come to for each class."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.tensors import affine


def votes_of_pairs(second: Any, classes: int) -> Any:
    """(n, classes): how many pairs each class wins; `second` is 1 where a pair says its second."""
    turned = _turned(classes)
    before = (turned < 0).sum(axis=0)  # each pair votes for its first class, until it is turned
    return affine(second, turned, before)


def scores_of_pairs(second: Any, sure: Any, classes: int) -> Any:
    """(n, classes): votes, and less than half a vote for how `sure` pairs are of their second class."""
    votes = votes_of_pairs(second, classes)
    sums = sure @ _turned(classes)
    return votes + sums / ((np.abs(sums) + 1.0) * 3.0)


def _turned(classes: int) -> Array:
    """(pairs, classes): what a vote for the second class of a pair changes."""
    pairs = list(combinations(range(classes), 2))
    found = np.zeros((len(pairs), classes))
    for number, (first, second) in enumerate(pairs):
        found[number, first] = -1.0
        found[number, second] = 1.0
    return found
