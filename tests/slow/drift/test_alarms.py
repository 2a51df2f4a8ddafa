"""How rarely a reference taken after an alarm raises another, in simulation."""

from helpers.streams import at_most, rng

import modelkit as mk


def test_a_reference_taken_after_an_alarm_has_its_own_alpha():
    """Rows change, an alarm comes, later rows make the reference: nothing new is found in more."""
    runs, alarms = 150, 0
    for run in range(runs):
        r = rng(run, 62)

        def drawn(n, shift, r=r):
            return {"x": r.normal(shift, 1, n)}

        detector = mk.Detector(
            mk.Profile.fit(drawn(200, 0), reference=drawn(400, 0)), alpha=0.1, seed=run
        )
        taken = 0
        while not detector.alarms and taken < 30:
            detector.update(drawn(100, 0.8))
            taken += 1
        assert detector.alarms
        first = len(detector.alarms)
        detector.rebase(mk.Profile.fit(drawn(200, 0.8), reference=drawn(400, 0.8)), "moved")
        detector.update(drawn(3000, 0.8))
        alarms += len(detector.alarms) > first
    assert at_most(alarms, runs, 0.1), alarms
