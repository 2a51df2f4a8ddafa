"""Bytes of Tallies that no rows give: they are refused when they are read, or when they are tested."""

import numpy as np
import pytest
from helpers.tallied import make_past

import modelkit as mk
from modelkit.errors import PackageError, UsageError


@pytest.fixture(scope="module")
def past():
    return make_past()


@pytest.mark.parametrize(
    "groups",
    [
        [[None, -2]],
        [[None, 0.5]],
        [[None, True]],
        [[True, 0]],
        [[["z"], 0]],
        [[None, 0], [None, 0]],
        [["z", 0], [1, 0]],
        "ab",
        [[None]],
        3,
    ],
)
def test_bytes_with_forged_groups_are_no_tally(past, groups):
    copies = len(groups) if isinstance(groups, list) else 1
    counts = np.concatenate([past.tally.counts.astype(np.uint16)] * copies)
    with pytest.raises(PackageError, match="this is not a tally"):
        past.forged(groups, counts)


@pytest.mark.parametrize("change", [lambda c: c + 0.5, lambda c: c * 1j, lambda c: c.astype(str),
                                    lambda c: c - 1, lambda c: (c + 2**62).astype(np.uint64),
                                    lambda c: c[:, :, :9].astype(np.uint8)])  # fmt: skip
def test_bytes_with_forged_counts_are_no_tally(past, change):
    with pytest.raises(PackageError, match="this is not a tally"):
        past.forged([[None, 0]], change(past.tally.counts))


def test_a_tally_that_no_rows_give_is_not_tested(past):
    counts = past.tally.counts.astype(np.uint32)
    uneven = np.concatenate([counts[:, :1] * 3, counts[:, 1:]], axis=1)
    odd = [
        past.forged([[None, 7]], counts),
        past.forged([["z", 0]], counts),
        past.forged([[None, 0]], counts[:, :1]),
        past.forged([[None, 0]], uneven),
        past.forged([[None, 0]], counts * 0),
    ]
    detector = mk.Detector(past.profile)
    assert detector.test(past.forged([[None, 0]], counts)).rows == len(past.rows)
    for tally in odd:
        with pytest.raises(UsageError, match="tally"):
            detector.test(tally)
