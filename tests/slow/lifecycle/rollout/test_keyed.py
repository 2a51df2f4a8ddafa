"""How often evidence by keys errs, in simulation: heavy keys, and keys that fail often."""

from __future__ import annotations

import math

import numpy as np

import modelkit as mk
from modelkit.lifecycle.rollout.counts import ByArm, CompleteKey, Counts, EventCounts, Unit
from modelkit.lifecycle.rollout.trial import Trial


def keyed_run(seed, *, share, keys, calls, risk, even=False):
    """Pareto keys of which 5 % fail often, by arm; the evidence for a rollback and a promotion."""
    rng = np.random.default_rng(seed)
    guard = mk.Guard("errors", worse=1.2, better=1.5, floor=0.0)
    trial = Trial(mk.RolloutPolicy((mk.RolloutStage(share),), (guard,)), 0.0)
    weight = np.ones(keys) if even else rng.pareto(1.2, keys) + 0.1
    weight /= weight.sum()
    arm = rng.random(keys) < share
    rate = np.where(rng.random(keys) < 0.05, 0.3, 0.001) * np.where(arm, risk, 1.0)
    made = np.zeros(keys, int)
    bad = np.zeros(keys, int)
    for _ in range(20):
        drawn = rng.choice(keys, calls // 20, p=weight)
        failed = rng.random(len(drawn)) < np.minimum(rate[drawn], 1)
        done = []
        for key, fails in zip(drawn.tolist(), failed.tolist(), strict=True):
            if made[key] < 20:
                made[key] += 1
                bad[key] += fails
                if made[key] == 20:
                    done.append(CompleteKey(key, bool(arm[key]), {"errors": bad[key] / 20}))
        units = tuple(Unit(int(key), bool(arm[key])) for key in np.unique(drawn[failed]))
        failures = np.bincount(arm[drawn[failed]].astype(int), minlength=2).tolist()
        happened = EventCounts(keys=units, keyed=ByArm(failures[1], failures[0]))
        arms = ByArm(int(arm[drawn].sum()), int((~arm[drawn]).sum()))
        counts = Counts(arms, events={"errors": happened}, done=tuple(done))
        trial._weigh(counts, 0)  # also when it is over
    [weighed] = trial.state().guards
    return weighed.worse, weighed.better


def test_keys_that_fail_often_raise_no_alarm():
    ends = [keyed_run(s, share=0.1, keys=2000, calls=20_000, risk=1.0)[0] for s in range(100)]
    assert sum(end >= math.log(100) for end in ends) <= 2


def test_means_of_keys_promote_an_equal_candidate_and_none_at_the_margin():
    equal = keyed_run(0, share=0.3, keys=25_000, calls=800_000, risk=1.0, even=True)[1]
    assert equal >= math.log(100)
    margin = [
        keyed_run(s, share=0.5, keys=2000, calls=60_000, risk=1.5, even=True)[1] for s in range(40)
    ]
    assert sum(end >= math.log(100) for end in margin) <= 2
