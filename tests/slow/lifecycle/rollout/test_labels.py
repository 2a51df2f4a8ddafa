"""Labels that come late and real processes: forks that are killed, and services of two processes."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys

import numpy as np
import pytest
from helpers.processes import forks
from helpers.rollouts import FOLLOWED_BY_TWO
from helpers.servers import modelkit_serve, wait_until

import modelkit as mk
from modelkit.lifecycle.rollout.counts import Counts, PostedLoss
from modelkit.lifecycle.rollout.keyed import Keys
from modelkit.lifecycle.rollout.labels import LossEvidence

X = np.eye(3)


LOSS = (mk.Guard("loss", margin=0.02),)


POLICY = mk.RolloutPolicy((mk.RolloutStage(0.5, seconds=3600),), LOSS, tick=0.05)
HALF = mk.RolloutStage(0.5)
OUTCOME = "/models/m/outcome"


@forks
def test_a_label_counts_once_when_a_child_is_forked_and_killed(registry):
    policy = mk.RolloutPolicy(POLICY.stages, LOSS, tick=3600)
    rollout = registry.start_rollout("m", "2", policy, reason="try")
    with mk.Rollout(registry, "m", threads=1) as served:
        served.predict(X[:1], key="k")
        assert served.outcome("k", 0.5)
        child = os.fork()
        if child == 0:
            served.outcome("k", 0.5)
            served.outcome("only in the child", 0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        served.outcome("k", 0.5)
    folder = registry.rollout_folder("m", rollout)
    (process,) = folder.folders("counts")
    counts = json.loads(folder.read(f"counts/{process}/0000000001"))["counts"]
    assert len(counts["labels"]) == 1
    assert "posted" not in counts


def promoted(rng, *, joined):
    """Whether a candidate is promoted that loses .02 more, with labels of keys that never called.

    Labels of five times as many keys come, as of the customers of another service. By its hash, a
    key has an arm whether it called or not.
    """
    evidence = LossEvidence(LOSS[0], Keys(), 0.01, (HALF,))
    number = itertools.count()
    for _ in range(10):
        answered = [(next(number), bool(arm)) for arm in rng.random(400) < 0.5]
        others = [(next(number), bool(arm)) for arm in rng.random(2000) < 0.5]
        loss = [(key, rng.uniform(0.1, 0.3) + 0.02 * arm) for key, arm in answered]
        loss += [(key, rng.uniform(0.1, 0.3)) for key, _ in others]
        rng.shuffle(loss)
        told = answered if joined else answered + others
        posted = tuple(PostedLoss(float(each), int(key)) for key, each in loss)
        evidence.tick(HALF, Counts(keys=tuple(told), posted=posted))
        if evidence.weigh().better >= np.log(100):
            return True
    return False


def test_losses_of_keys_that_never_called_promote_nothing():
    """By the hash alone, they would: the difference of the arms is six times as small."""
    seeds = range(4)
    assert sum(promoted(np.random.default_rng(seed), joined=False) for seed in seeds) >= 3
    assert sum(promoted(np.random.default_rng(seed), joined=True) for seed in seeds) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="it is a server of POSIX")
def test_a_job_posts_labels_to_a_service_of_two_processes(registry):
    """Each request has a connection of its own, so that most labels reach the other process."""
    with modelkit_serve("m", "--registry", registry.url, *FOLLOWED_BY_TWO) as served:
        registry.start_rollout("m", "2", POLICY, reason="try")
        number = itertools.count()
        statuses = set()

        def decided():
            keys = [f"k{next(number)}" for _ in range(20)]
            outcomes = []
            for key in keys:
                body = {"inputs": {"X": X[:1].tolist()}, "key": key}
                status, answer = served.post("/models/m/predict", body)
                assert status == 200
                loss = 0.0 if answer["model_version"] == "1" else 0.9
                outcomes.append({"key": key, "loss": loss})
            for few in (outcomes[:10], outcomes[10:]):
                statuses.add(served.post(OUTCOME, {"outcomes": few})[0])
            return registry.state("m").rollout is None

        wait_until(decided, served.process)
    assert statuses <= {200, 409}
    assert registry.history("m")[-1].reason == "loss: the candidate is shown to be worse"
