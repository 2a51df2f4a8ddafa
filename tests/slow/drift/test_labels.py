"""How rarely alarms of losses are false, in simulation."""

from helpers.streams import at_most, rng

import modelkit as mk
from modelkit.drift.profile import Profile


def labelled_profile(n=5000, rate=0.1):
    rows = rng(1).normal(size=(n, 1))
    return Profile.fit(
        rng(2).normal(size=(200, 1)), reference=rows, losses=(rng(3).random(n) < rate).astype(float)
    )


def test_losses_that_did_not_change_raise_no_alarm():
    profile, alarms = labelled_profile(), 0
    for run in range(60):
        alarms += bool(
            mk.Detector(profile, alpha=0.05).update_labels(
                losses=(rng(run, 41).random(3000) < 0.1).astype(float)
            )
        )
    assert at_most(alarms, 60, 0.05)
