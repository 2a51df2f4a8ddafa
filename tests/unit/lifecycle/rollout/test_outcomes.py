"""Answers wait for their labels within bounds."""

from __future__ import annotations

import numpy as np

from modelkit.lifecycle.rollout.outcomes import AnsweredIn, Outcomes


def test_answers_that_wait_for_labels_are_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr("modelkit.lifecycle.rollout.outcomes.MOST_BYTES", 1000)
    outcomes = Outcomes(3600)
    answers = {"y": np.zeros(20)}
    for unit in range(50):
        outcomes.both_answered(unit, answers, answers)
    kept = [outcomes.take(unit, by_function=True) is not None for unit in range(50)]
    assert kept == [False] * 47 + [True] * 3
    assert (outcomes._bytes, outcomes.unknown) == (0, 47)
    outcomes = Outcomes(3600)
    for unit in range(50):
        outcomes.answered(unit, AnsweredIn(candidate=True, stage=1), {"y": np.zeros(100)})
    assert outcomes._bytes == 800
    # What is forgotten is what was answered, and not by whom: a number counts for each.
    assert outcomes.take(0, by_function=True) is None
    assert all(outcomes.take(unit, by_function=False) for unit in range(50))
    assert (outcomes._bytes, outcomes.unheard, outcomes.unknown) == (0, 1, 0)
