"""Counts with noise for privacy."""

import numpy as np
import pytest
from helpers.drawn import noisy_rows
from scipy import stats

import modelkit as mk
from modelkit.drift import privacy
from modelkit.drift.profile import Profile
from modelkit.errors import UsageError


def test_private_counts_are_noisy_and_never_negative():
    train, rows = noisy_rows(2000), noisy_rows(2000, 1)
    profile = Profile.fit(train, reference=rows, epsilon=0.5)
    plain = Profile.fit(train, reference=rows)
    assert profile.epsilon == 0.5
    assert Profile.from_bytes(profile.to_bytes()).epsilon == 0.5
    assert (profile.counts >= 0).all()
    assert not np.array_equal(profile.counts, plain.counts)
    assert profile.duplicates == 0
    detector = mk.Detector(profile)
    assert "changed" not in detector._watch.streams()[0][1].bettors
    assert any("private" in said for said in detector.profile.assumptions())


def test_one_row_more_changes_the_odds_of_a_count_by_at_most_its_share_of_epsilon():
    epsilon, features, runs = 2.0, 2, 40_000
    cells = runs // features

    def released(count):
        return privacy.noisy(np.full((1, features, cells), count), epsilon).ravel()

    here, there = (np.bincount(np.minimum(released(count), 40), minlength=41) for count in (10, 11))
    for a, b in zip(here, there, strict=True):
        if min(a, b) < 100:
            continue
        # Four standard deviations of the logarithm of the ratio.
        error = 4 * (1 / a + 1 / b) ** 0.5
        assert abs(np.log(a / b)) <= epsilon / features + error
    law = np.exp(-epsilon / features * np.abs(np.arange(41) - 10.0))
    law /= (1 + np.exp(-1)) / (1 - np.exp(-1))
    assert stats.chisquare(here[5:16], law[5:16] / law[5:16].sum() * here[5:16].sum()).pvalue > 1e-4


@pytest.mark.parametrize(
    "arguments", [{"ordered": True}, {"reference": None}, {"scores": np.ones(200)}, {"losses": np.ones(200)},
    {"epsilon": 0.0},
                  {"epsilon": -1.0}, {"epsilon": float("nan")}],
    ids=str,
)  # fmt: skip
def test_what_would_not_be_private_is_refused(arguments):
    rows = noisy_rows(200)
    with pytest.raises(UsageError, match="epsilon"):
        Profile.fit(rows, **({"reference": rows, "epsilon": 1.0} | arguments))
