"""How often paired tests err and find what is there, in simulation."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from helpers.evaluated import together
from scipy import stats

from modelkit.stats.influence import Measured, mean_of
from modelkit.stats.paired import RightCounts, difference_of, times_needed
from modelkit.stats.ranks import area_of
from modelkit.stats.tests import tango

Z = stats.norm.isf(0.05)


def test_a_non_inferior_candidate_passes_as_often_as_planned():
    rng = np.random.default_rng(4)
    n, margin = 2000, 0.02
    share = 0.05
    counts = RightCounts(n // 20, n // 20, n)
    needed = ceil(n * times_needed(counts, margin, alpha=0.05, power=0.8))
    rest = 1 - 2 * share
    drawn = rng.multinomial(needed, [share, share, rest], 4000)
    shown = tango(drawn[:, 0], drawn[:, 1], needed, -margin) > Z
    assert shown.mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("n", [200, 2000])
def test_tango_holds_its_level_at_the_margin(n):
    rng = np.random.default_rng(5)
    drawn = rng.multinomial(n, [0.035, 0.055, 0.91], 20_000)  # the candidate is 2 points worse
    wrong = (tango(drawn[:, 0], drawn[:, 1], n, -0.02) > Z).mean()
    assert 0.03 < wrong < 0.06


def test_delong_holds_its_level_and_sees_more_than_an_unpaired_test():
    rng = np.random.default_rng(6)
    runs, n, positives = 300, 300, 60
    positive = np.arange(n) < positives
    weight = np.ones(n)
    shown = {0.0: 0, 0.35: 0}
    for gain in shown:
        for _ in range(runs):
            common = rng.normal(size=n) * np.sqrt(0.8)
            own = rng.normal(size=(2, n)) * np.sqrt(0.2)
            candidate = area_of(common + own[0] + positive * (1 + gain), positive, weight)
            champion = area_of(common + own[1] + positive, positive, weight)
            shown[gain] += difference_of(candidate, champion).p_above(0.0) <= 0.05
    assert shown[0.0] / runs < 0.09
    assert shown[0.35] / runs > 0.6


def test_clusters_keep_the_level_where_rows_alone_do_not():
    rng = np.random.default_rng(7)
    wrong = {"rows": 0, "clusters": 0}
    runs = 400
    for _ in range(runs):
        sizes = rng.geometric(1 / 15, 100)
        which = np.repeat(np.arange(100), sizes)
        d = rng.normal(size=100)[which] * 0.5 + rng.normal(size=len(which))
        part = mean_of(d, np.ones(len(d)))
        zero = Measured(0.0, np.zeros(len(d)))
        wrong["rows"] += difference_of(part, zero).p_above(0.0) <= 0.05
        wrong["clusters"] += difference_of(part, zero, together(which)).p_above(0.0) <= 0.05
    assert wrong["rows"] / runs > 0.12
    assert wrong["clusters"] / runs < 0.09
