"""Traffic that deceived a Rollout once: old customers, heavy ones, health checks, and models that do not answer."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from helpers.rollouts import ask, model, who

import modelkit as mk
from modelkit.errors import DeadlineExceeded, Overloaded


def fails_at(rng, rates):
    """A model that fails at a row of number k with the probability rates[k]."""

    def run(feeds):
        if rng.random() < rates[int(feeds["X"][0, 0])]:
            raise RuntimeError("it broke")
        return {"y": np.zeros(len(feeds["X"]))}

    return run


def test_old_customers_are_not_compared_with_new_ones(clock):
    """When the share grows, old keys stay with the champion more often than new ones do."""
    rng = np.random.default_rng(0)
    rollout = mk.Rollout(
        model(1, fails_at(rng, (0.3, 0.02))),
        model(2, fails_at(rng, (0.6, 0.04))),
        policy=mk.RolloutPolicy(
            (mk.RolloutStage(0.05, seconds=15), mk.RolloutStage(0.5, seconds=9999)),
            [mk.Guard("errors", worse=1000.0, floor=0.0)],
        ),
        seed=0,
    )
    for _ in range(2):
        for i in range(600):
            ask(rollout, f"old-{i}")
        clock.go(10)
        rollout.status()
    assert rollout.status().stage == 2
    for turn in range(20):
        for i in range(600):
            if turn >= 2:
                ask(rollout, f"old-{i}")
            ask(rollout, f"new-{i}", 1)
    clock.go(10)
    assert rollout.status().guards[0].better < 1


def test_labels_of_a_heavy_customer_count_once(clock):
    """A few customers give most labels, and the models are equal for each of them."""
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        guards = [mk.Guard("loss", margin=0.02)]
        rollout = mk.Rollout(
            model(1), model(2), policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), guards), seed=seed
        )
        level = rng.random(12)
        for _ in range(10):
            for key in rng.integers(0, 12, 300).tolist():
                who(rollout, f"k{key}")
                rollout.outcome(f"k{key}", float(rng.random() < level[key]))
            clock.go(10)
            rollout.status()
        found.append(rollout.status().decision)
    assert set(found) == {"continue"}


def test_calls_of_one_kind_say_nothing_of_the_other(clock):
    """Health checks have no key and never fail; the customers of the candidate fail often."""
    rng = np.random.default_rng(0)
    rollout = mk.Rollout(
        model(1, fails_at(rng, (0.0, 0.0))),
        model(2, fails_at(rng, (0.0, 0.5))),
        policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), [mk.Guard("errors")]),
        seed=0,
    )
    for _ in range(10):
        for i in range(1500):
            ask(rollout)
            ask(rollout, f"customer-{i % 4}", 1)
        clock.go(10)
        rollout.status()
    assert rollout.status().decision == "continue"


@pytest.mark.parametrize("error", [Overloaded, DeadlineExceeded])
@pytest.mark.parametrize("key", [True, False])
def test_a_candidate_that_does_not_answer_is_not_promoted(clock, error, key):
    def spoil(feeds):
        raise error("too much")

    rollout = mk.Rollout(
        model(1),
        model(2, spoil),
        policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), [mk.Guard("errors")]),
        seed=0,
    )
    for _ in range(20):
        for i in range(1000):
            with suppress(error):
                rollout.run(np.zeros((1, 3)), key=f"k{i}" if key else None)
        clock.go(10)
        status = rollout.status()
    assert status.decision == "hold"
    assert "do not answer" in status.reason


@pytest.mark.parametrize("kind", ["errors", "nonfinite"])
@pytest.mark.parametrize(("rate", "decision"), [(0.05, "continue"), (0.4, "rollback")])
def test_in_shadow_an_equal_candidate_is_not_worse(clock, kind, rate, decision):
    """Both fail now and then, at other rows: the one no more often than the other."""
    rng = np.random.default_rng(0)

    def spoil(rate):
        def run(feeds):
            if rng.random() < rate:
                if kind == "errors":
                    raise RuntimeError("it broke")
                return {"y": np.full(len(feeds["X"]), np.nan)}
            return None

        return run

    rollout = mk.Rollout(
        model(1, spoil(0.05)),
        model(2, spoil(rate)),
        policy=mk.RolloutPolicy(
            (mk.RolloutStage(0, seconds=9999), mk.RolloutStage(0.5)), [mk.Guard(kind)]
        ),
    )
    for _ in range(20):
        for _ in range(60):
            ask(rollout)
        session = rollout._switch.session
        if session is None:
            break
        session.lineups.shadow.wait(280)
        clock.go(10)
        rollout.status()
    assert rollout.status().decision == decision
