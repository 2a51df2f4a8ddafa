"""Counts for the trials of rollouts, drawn from a seed."""

from __future__ import annotations

import math

import numpy as np

import modelkit as mk
from modelkit.lifecycle.rollout.counts import ByArm, Counts, EventCounts, Label
from modelkit.lifecycle.rollout.trial import Trial

ERRORS = mk.Guard("errors")


HALF = mk.RolloutStage(0.5)


def counts_of(rng, share, calls, rates, risk):
    """The counts of a tick whose calls have no keys."""
    to_candidate = int(rng.binomial(calls, share))
    events = {}
    for name, rate in rates.items():
        bad = int(rng.binomial(to_candidate, min(1.0, rate * risk)))
        events[name] = EventCounts(ByArm(bad, int(rng.binomial(calls - to_candidate, rate))))
    arms = ByArm(to_candidate, calls - to_candidate)
    return Counts(calls=arms, plain=arms, events=events)


def run_to_end(policy, risk, seed, rates=None, *, ticks=400, drift=0.6):
    calls = 1000
    rng = np.random.default_rng(seed)
    trial = Trial(policy, 0.0)
    for tick in range(1, ticks + 1):
        season = 1 + drift * math.sin(tick / 20)
        now = {name: rate * season for name, rate in (rates or {"errors": 0.01}).items()}
        counts = counts_of(rng, trial.in_stage.share, calls, now, risk)
        decision = trial.tick(counts, 10.0 * tick)
        if decision.kind == "advance":
            trial.enter(trial.stage + 1)
        if trial.over:
            return decision.kind, tick
    return decision.kind, ticks


STAGES = (mk.RolloutStage(0.05, calls=300), mk.RolloutStage(0.25, calls=1000), HALF)


ONE = mk.RolloutPolicy(STAGES, (ERRORS,), horizon=3500)


def labels_of(rng, tick, arms, gap):
    return tuple(
        Label(float(rng.random() < 0.2 + gap * arm), tick * 1000 + i, arm, 0)
        for i, arm in enumerate(arms)
    )
