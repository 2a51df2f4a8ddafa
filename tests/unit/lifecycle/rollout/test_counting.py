"""What is counted of a call: errors, refusals, marks, time, and keys that are complete."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import numpy as np
import pytest
from helpers.rollouts import ROWS, Clock, fail, model, nan, tick, until

import modelkit as mk
from modelkit.errors import BatchError, ClosedError, DeadlineExceeded, Overloaded, SignatureError
from modelkit.lifecycle.rollout.counting import MOST_ADDED_UP, is_finite, kind_of_error

ERRORS = (mk.Guard("errors"),)


ROOM = 100  # seconds after which something hangs


def test_the_errors_of_callers_and_queues_are_not_the_models():
    assert kind_of_error(SignatureError("rows")) == "refused"
    assert kind_of_error(RuntimeError()) == "errors"
    assert kind_of_error(BatchError("the graph cannot")) == "errors"
    for error in (Overloaded("full"), DeadlineExceeded("late"), ClosedError("closed")):
        assert kind_of_error(error) is None
    for error in (asyncio.CancelledError(), KeyboardInterrupt(), GeneratorExit()):
        assert kind_of_error(error) is None


def test_rows_that_only_the_candidate_refuses_are_a_guard_of_their_own(clock):
    def refuse(feeds):
        raise SignatureError("too new")

    guards = (mk.Guard("errors"), mk.Guard("refused"))
    rollout = mk.Rollout(
        model(1), model(2, refuse), policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), guards), seed=0
    )
    for i in range(200):
        with suppress(SignatureError):
            rollout.run(ROWS, key=f"u{i}")
    clock.go(10)
    assert rollout.status().reason.startswith("refused")


def test_outputs_that_are_not_finite_and_marks_of_your_own(clock):
    guards = (mk.Guard("nonfinite"), mk.Guard("large", mark=lambda out: (out["y"] > 1e6).any()))
    for spoil, name in ((nan, "nonfinite"), (lambda feeds: {"y": np.full(3, 1e7)}, "large")):
        rollout = mk.Rollout(
            model(1),
            model(2, spoil),
            policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), guards),
            seed=0,
        )
        assert tick(rollout, clock, 200).reason.startswith(name)
    assert is_finite({"y": np.array([1e308, -1e308]), "label": np.array(["a"], object)})
    assert not is_finite({"y": np.array([1.0, -np.inf], np.float32)})


@pytest.mark.parametrize("shadow", [None, mk.RolloutStage(0, seconds=9999)])
def test_a_mark_sees_outputs_that_the_call_did_not_ask_for(clock, shadow):
    guards = [mk.Guard("second", mark=lambda outputs: outputs["who"][0] == 2)]
    stages = [mk.RolloutStage(0.5)]
    if shadow is not None:
        guards.append(mk.Guard("disagreement", floor=0.05))  # of what was asked for: there is none
        stages.insert(0, shadow)
    rollout = mk.Rollout(
        model(1), model(2), policy=mk.RolloutPolicy(stages, guards), rescue=True, seed=0
    )
    for i in range(60):
        answers = rollout._call(ROWS, ("y",), mk.types.Call())
        assert answers.keys() == {"y"}
        assert answers.served_by.name == "FunctionModel"
        assert rollout.predict(ROWS, key=f"u{i}").tolist() == ROWS.sum(axis=1).tolist()
        assert asyncio.run(rollout.apredict(ROWS)).tolist() == ROWS.sum(axis=1).tolist()
        if shadow is not None and i % 10 == 9:
            assert rollout._switch.session.lineups.shadow.wait(ROOM)
    clock.go(10)
    status = rollout.status()
    assert (status.decision, status.reason[:6]) == ("rollback", "second")
    if shadow is not None:
        assert status.guards[1].worse <= 1
        assert rollout._switch.past.lineups.shadow.failures == 0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("count", [1, MOST_ADDED_UP, MOST_ADDED_UP + 1, 100])
def test_few_numbers_and_many_are_looked_at_alike(dtype, count):
    largest = np.full((count, 1), np.finfo(dtype).max, dtype)
    assert is_finite({"y": largest})
    assert is_finite({"y": largest[:0]})
    for bad in (np.inf, -np.inf, np.nan):
        array = largest.copy()
        array[0] = -bad
        array[count // 2] = bad
        assert not is_finite({"y": array})


def test_a_mark_that_raises_holds_and_reaches_no_caller(clock):
    guards = (mk.Guard("odd", mark=lambda outputs: 1 / 0),)
    rollout = mk.Rollout(
        model(1), model(2), policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), guards), seed=0
    )
    status = tick(rollout, clock, 10)
    assert (status.decision, status.guards[0].void != "") == ("hold", True)


def test_slow_calls_are_found_by_the_quantiles_of_the_champion(clock, monkeypatch):
    now = Clock()
    monkeypatch.setattr("modelkit.lifecycle.rollout.lineup.perf_counter_ns", now)
    rng = np.random.default_rng(0)

    def takes(factor):
        def spoil(feeds):
            now.go(factor * rng.lognormal(-5, 0.3))

        return spoil

    for factor, decisions in ((1.0, {"continue", "promote"}), (2.0, {"rollback"})):
        guards = (mk.Guard("slow", material=1e-3),)
        champion, candidate = model(1, takes(1.0)), model(2, takes(factor))
        rollout = mk.Rollout(
            champion, candidate, policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), guards), seed=0
        )
        for _ in range(5):
            status = tick(rollout, clock, 300)
        assert status.decision in decisions
    guards = (mk.Guard("slow", above=0.1),)
    candidate = model(2, lambda feeds: now.go(0.2))
    rollout = mk.Rollout(
        model(1), candidate, policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), guards), seed=0
    )
    for _ in range(3):
        status = tick(rollout, clock, 300)
    assert status.decision == "rollback"


@pytest.mark.parametrize(
    ("longer", "guard", "rolled_back"),
    [
        (5e-6, mk.Guard("slow"), False),
        (0.9e-3, mk.Guard("slow"), False),
        (3e-3, mk.Guard("slow"), False),
        (30e-3, mk.Guard("slow"), True),
        (3e-3, mk.Guard("slow", material=0.001), True),
        (5e-6, mk.Guard("slow", material=0), True),
        (3e-3, mk.Guard("slow", material=0.005), False),
        (5e-6, mk.Guard("slow", above=102e-6), True),
    ],
)
def test_microseconds_do_not_matter(clock, monkeypatch, longer, guard, rolled_back):
    """A champion that takes 100 microseconds, give or take one, and a candidate that takes more."""
    now = Clock()
    monkeypatch.setattr("modelkit.lifecycle.rollout.lineup.perf_counter_ns", now)
    rng = np.random.default_rng(0)

    def takes(seconds):
        def spoil(feeds):
            now.go(seconds + 1e-6 * rng.random())

        return spoil

    champion, candidate = model(1, takes(100e-6)), model(2, takes(100e-6 + longer))
    rollout = mk.Rollout(
        champion, candidate, policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), [guard]), seed=0
    )
    for _ in range(5):
        status = tick(rollout, clock, 300)
    assert (status.decision == "rollback") is rolled_back


def test_many_events_are_weighed_by_a_thread(clock):
    champion, candidate = model(1, fail), model(2, fail)
    rollout = mk.Rollout(
        champion, candidate, policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), ERRORS), seed=0
    )
    for i in range(600):
        with suppress(RuntimeError):
            rollout.run(ROWS, key=f"u{i}")
    clock.go(10)
    with suppress(RuntimeError):
        rollout.run(ROWS)
    trial = rollout._switch.session.trial
    until(lambda: trial.all_calls.candidate + trial.all_calls.champion >= 600)


def test_a_candidate_whose_callers_give_up_is_not_promoted(clock):
    guards = [mk.Guard("errors")]
    rollout = mk.Rollout(
        model(1), model(2), policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), guards), seed=0
    )

    async def hang(X, outputs, call):
        await asyncio.sleep(3600)

    async def answer(X, outputs, call):
        return {"y": np.zeros(1)}

    lineup = rollout._active.now.value
    lineup.candidate.acall = hang
    lineup.champion.acall = answer

    async def calls():
        for _ in range(400):
            task = asyncio.ensure_future(rollout.arun(np.zeros((1, 3))))
            for _ in range(5):
                await asyncio.sleep(0)
            task.cancel()  # who is answered does not notice
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(calls())
    clock.go(10)
    assert rollout.status().decision == "hold"


def test_a_key_is_complete_when_its_calls_have_ended(clock):
    """The errors of the candidate take long, and come after twenty quick answers of their key."""
    rollout = mk.Rollout(
        model(1),
        model(2),
        policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), [mk.Guard("errors")]),
        seed=0,
    )
    counters = rollout._active.now.value.counters
    calls = [counters.begin(1, True) for _ in range(20)]
    for call in calls[10:]:
        counters.answered(call, {}, 1)
    assert counters.collect().done == ()
    for call in calls[:10]:
        counters.failed(call, RuntimeError("it took long"))
    [done] = counters.collect().done
    assert done.bad == {"errors": 0.5}
