"""The p-values of spans of a history, in simulation."""

from helpers.streams import at_most, rng

import modelkit as mk

START = 1_700_006_400  # 2023-11-15, midnight in UTC


class Clock:
    """A clock that the test sets."""

    def __init__(self, now=START):
        self.now = float(now)

    def __call__(self):
        return self.now


def test_spans_without_a_change_have_uniform_p_values():
    runs, small = 200, 0
    for run in range(runs):
        r = rng(run, 54)
        fresh = mk.Profile.fit({"x": r.normal(size=200)}, reference={"x": r.normal(size=300)})
        detector = mk.Detector(fresh, clock=Clock())
        detector.update({"x": r.normal(size=60)})
        small += detector.history.report().features[0].p_changed <= 0.1
    assert at_most(small, runs, 0.1), small
    assert small > 0.02 * runs
