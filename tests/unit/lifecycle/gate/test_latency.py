"""Turns of two models are timed by a clock that is given."""

from __future__ import annotations

import numpy as np

from modelkit.lifecycle.gate.latency import timed_turns


def test_turns_are_timed_by_the_clock_that_is_given(boosting_mk, breast_cancer):
    import modelkit as mk

    with mk.load(boosting_mk) as model:
        feeds = model.signature.coerce(breast_cancer[0].head(3))
        ticks = iter(range(10_000_000))
        found = timed_turns((model, feeds), (model, feeds), lambda: next(ticks) * 1e-3)
    assert found.candidate.shape == found.champion.shape
    assert np.allclose(found.candidate, 1e-3)
