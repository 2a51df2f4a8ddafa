"""Swaps under the load of threads and coroutines: no call is lost, and none meets two versions."""

from __future__ import annotations

import os
import time
from contextlib import suppress

import numpy as np
from helpers.rollouts import NUMBERS, ROWS, Load, Strict, model, until, who

import modelkit as mk

ERRORS = (mk.Guard("errors"),)


ROOM = 100  # seconds after which something hangs


def of_one_version(answers):
    return len(set(answers["who"].tolist())) == 1


def test_swaps_under_threads_and_coroutines_lose_nothing():
    """A replaced model is closed as soon as it is drained: no call meets it, or two versions."""
    rollout = mk.Rollout(
        Strict(model(0)), Strict(model(1)), policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), ERRORS)
    )
    rollout.promote()
    switch = rollout._switch
    waiting, swaps = [], 0
    end = time.monotonic() + 3
    with Load(rollout, ROWS, of_one_version, threads=8, coroutines=1000) as load:
        # Where other tests have the CPUs, three seconds may be too few for any call.
        while time.monotonic() < end or swaps <= 20 or not min(load.calls):
            before = switch.champion
            switch.end(Strict(model(swaps + 2)))
            waiting.append((switch._drainings[-1], before))
            swaps += 1
            while waiting and waiting[0][0].drained:
                waiting.pop(0)[1].open = False
            time.sleep(0)
    assert load.wrong == []
    assert swaps > 20
    assert min(load.calls) > 0
    assert all(draining.wait(ROOM) for draining, _ in waiting)


def test_swaps_lose_no_call(registry):
    """Aliases move while threads and coroutines ask; closed models would raise ClosedError."""
    rollout = mk.Rollout(registry, "m", wrap=mk.Batcher, keep=0, poll=1e-4, threads=1)
    answers_of = [registry.load("m", version).predict(ROWS) for version in NUMBERS]

    def sound(answers):
        (found,) = answers.values()
        return any(np.allclose(found, each, atol=1e-6) for each in answers_of)

    now, swaps = "1", 0
    end = time.monotonic() + 3
    with Load(rollout, ROWS, sound, threads=4, coroutines=50) as load:
        while time.monotonic() < end or swaps <= 3 or not min(load.calls):
            later = str(int(now) % 3 + 1)
            registry.set_alias("m", "champion", later, expected=now, reason="test")
            until(lambda later=later: rollout.manifest.version == later)
            now = later
            swaps += 1
    assert load.wrong == []
    assert rollout.last_failure == ""
    assert swaps > 3
    assert min(load.calls) > 0
    rollout.close()


def test_a_child_goes_on():
    rollout = mk.Rollout(
        model(1),
        model(2),
        policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), (mk.Guard("loss", margin=0.1),)),
    )
    rollout.run(ROWS, key="a")
    with rollout._switch.lock:  # as another thread might, at the moment of the fork
        child = os.fork()
        if not child:
            code = 1
            with suppress(BaseException):
                answers = [who(rollout, f"u{i}") for i in range(20)]
                rollout.outcome("u1", 0.5)
                rollout.status()
                rollout.promote()
                code = 0 if {1, 2} == set(answers) and who(rollout) == 2 else 2
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert rollout.status().decision == "continue"
