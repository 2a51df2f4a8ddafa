"""How rarely alarms of losses are false, in simulation."""

from helpers.streams import at_most, labelled_profile, rng

import modelkit as mk


def test_losses_that_did_not_change_raise_no_alarm():
    profile, alarms = labelled_profile(), 0
    for run in range(60):
        alarms += bool(
            mk.Detector(profile, alpha=0.05).update_labels(
                losses=(rng(run, 41).random(3000) < 0.1).astype(float)
            )
        )
    assert at_most(alarms, 60, 0.05)
