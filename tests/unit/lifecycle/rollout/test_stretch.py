"""How much longer a usual call of the candidate takes, and so how far its long calls are blamed."""

from __future__ import annotations

from modelkit.lifecycle.rollout.stretch import Stretch


def test_calls_are_blamed_by_how_much_longer_a_usual_one_takes():
    stretch = Stretch()
    assert stretch.blamed(100, 1000) == 0  # no call of the candidate is known
    stretch.take([200] * 9, 100)
    assert stretch.blamed(100, 1000) == 0.5
    assert stretch.blamed(2000, 1000) == 1  # longer by 2000, which matters
    stretch.take([50] * 500, 100)
    assert stretch.blamed(100, 1000) == 1  # quicker
    assert Stretch().blamed(0, 0) == 0
