"""A Rollout of two Models: who answers, what is counted, what is decided, and what no caller notices."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from helpers.rollouts import COLUMNS, ROWS, SIGNATURE, Clock, Load, model, who
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit import events
from modelkit.errors import (
    BatchError,
    ClosedError,
    DeadlineExceeded,
    ModelkitError,
    Overloaded,
    RolloutError,
    SignatureError,
)
from modelkit.lifecycle.rollout.counting import MOST_ADDED_UP, is_finite, kind_of_error
from modelkit.lifecycle.rollout.routing import hash_of
from modelkit.lifecycle.rollout.shadow import MOST_WAITING
from modelkit.testing import Client, check_model

ERRORS = (mk.Guard("errors"),)
SHADOW = mk.RolloutStage(0, units=50)
ONE_CALL = mk.RolloutStage(0.1, units=1)
ROOM = 10  # seconds in which everything must be over


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("modelkit.lifecycle.rollout.rollout.perf_counter_ns", clock)
    return clock


def fail(feeds):
    raise RuntimeError("it broke")


def nan(feeds):
    return {"y": np.full(len(feeds["X"]), np.nan)}


def until(condition):
    end = time.monotonic() + ROOM
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"


def tick(rollout, clock, calls=0, key=None):
    """Make calls, and let a tick pass."""
    for _ in range(calls):
        with suppress(RuntimeError):
            rollout.run(ROWS, key=key)
    clock.go(10)
    return rollout.status()


def test_it_is_a_model():
    for options in ({"share": 0.5}, {"share": 0.5, "shadow": SHADOW}):
        rollout = mk.Rollout(model(1), model(1), seed=0, **options)
        check_model(rollout, ROWS)
        assert rollout.base is rollout._champion
        assert rollout.manifest is None
        assert rollout.unobserved is rollout
        assert not rollout.batchable
        for wrapper in (mk.Batcher, mk.Meter, mk.Monitor):
            for layers in (rollout, Layer(rollout)):
                with pytest.raises(ModelkitError, match=r"into each.*Rollout"):
                    wrapper(layers)
        rollout.rollback()
        check_model(rollout, ROWS)
        assert rollout._repr_html_()


@pytest.mark.parametrize(
    "ask",
    [
        lambda model: mk.evaluate(model, ROWS, [1.0], kind="regression"),
        lambda model: mk.gate(model, model, ROWS, [1.0], margin=0.1),
        lambda model: mk.Profile.fit(ROWS, model=model),
        lambda model: mk.Replicas([model]),
    ],
)
def test_what_is_of_one_version_refuses_a_rollout(ask):
    rollout = mk.Rollout(model(1), model(2), share=0.5, seed=0)
    for layers in (rollout, Layer(rollout)):
        with pytest.raises((ModelkitError, ValueError), match=r"Rollout.*version"):
            ask(layers)
    assert rollout.status().calls == (0, 0)


def test_a_key_stays_with_its_arm_and_a_larger_share_keeps_it(clock):
    rollout = mk.Rollout(model(1), model(2), stages=[ONE_CALL, 0.4], guards=ERRORS, seed=3)
    keys = [f"customer-{i}" for i in range(2000)]
    first = [who(rollout, key) for key in keys]
    assert first == [who(rollout, key) for key in keys]
    assert first.count(2) == pytest.approx(200, abs=50)
    assert rollout.status().stage == 1
    clock.go(10)
    assert rollout.status().stage == 2
    second = [who(rollout, key) for key in keys]
    assert second.count(2) == pytest.approx(800, abs=80)
    assert all(later == 2 for early, later in zip(first, second, strict=True) if early == 2)


def test_a_key_is_a_text(clock):
    rollout = mk.Rollout(model(1), model(2), share=0.5)
    with pytest.raises(TypeError, match="a key is a text"):
        rollout.predict(ROWS, key=7)
    with pytest.raises(TypeError, match="a key is a text"):
        hash_of(7, b"")


def test_rollouts_choose_independently_unless_seeded():
    def arms(seed):
        rollout = mk.Rollout(model(1), model(2), share=0.5, seed=seed)
        return [who(rollout, f"u{i}") for i in range(64)] + [who(rollout) for _ in range(64)]

    assert arms(1) == arms(1)
    assert arms(None) != arms(None)


def test_who_answered_is_seen_on_the_answer(clock):
    rollout = mk.Rollout(model(1), model(2), share=0.5, seed=0)
    answers = rollout.run(ROWS)
    assert answers.served_by.name == "FunctionModel"
    assert dict(answers).keys() == {"y", "who"}
    assert asyncio.run(rollout.arun(ROWS)).served_by == answers.served_by


def test_of_events_those_of_the_candidate_roll_it_back(clock):
    rollout = mk.Rollout(model(1), model(2, fail), share=0.3, guards=ERRORS, seed=0)
    heard = []
    stop = events.subscribe(heard.append, events.Decided, events.Swapped)
    status = tick(rollout, clock, 100)
    stop()
    assert status.decision == "rollback"
    assert status.guards[0].worse >= status.guards[0].rolls_back_at
    assert {who(rollout) for _ in range(50)} == {1}
    assert [type(event) for event in heard] == [events.Decided]
    assert "rollback" in str(heard[0])
    with pytest.raises(RolloutError, match="nothing to go back"):
        rollout.rollback()


def test_an_equal_candidate_is_promoted_and_can_be_taken_back(clock):
    guards = (mk.Guard("errors", floor=0.05),)
    champion, candidate = model(1), model(2)
    rollout = mk.Rollout(champion, candidate, share=0.5, guards=guards, seed=0)
    heard = []
    stop = events.subscribe(heard.append, events.Decided, events.Swapped)
    while tick(rollout, clock, 100).decision == "continue":
        pass
    stop()
    assert rollout.status().decision == "promote"
    assert {who(rollout) for _ in range(50)} == {2}
    assert rollout.base is candidate
    assert [type(event) for event in heard] == [events.Decided, events.Swapped]
    rollout.rollback()
    assert {who(rollout) for _ in range(50)} == {1}
    rollout.close()
    assert not champion.closed
    assert not candidate.closed


def test_by_hand(clock):
    rollout = mk.Rollout(model(1), model(2), share=0.5, seed=0)
    rollout.promote("it is Friday")
    assert who(rollout) == 2
    assert rollout.status().reason == "it is Friday"
    with pytest.raises(RolloutError, match="no rollout"):
        rollout.promote()
    with pytest.raises(RolloutError, match="follows no registry"):
        rollout.refresh()
    with pytest.raises(RolloutError, match="two Models, or a Registry"):
        mk.Rollout(model(1), "churn", share=0.5)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(rollout)


def test_time_running_out_holds_and_never_promotes(clock):
    stage = mk.RolloutStage(0.5, units=10**6)
    rollout = mk.Rollout(model(1), model(2), stages=[stage], guards=ERRORS, horizon=60, seed=0)
    heard = []
    stop = events.subscribe(heard.append, events.Decided)
    for _ in range(12):
        status = tick(rollout, clock, 5)
    stop()
    assert status.decision == "hold"
    assert "undecided" in status.reason
    assert {who(rollout) for _ in range(100)} == {1, 2}  # it goes on as it was
    assert len(heard) == 1  # it is said once


def test_no_traffic_decides_nothing(clock):
    rollout = mk.Rollout(model(1), model(2), stages=[mk.RolloutStage(0.1, units=10), 0.5])
    clock.go(3600)
    status = rollout.status()
    assert (status.decision, status.stage) == ("continue", 1)
    assert "10 calls of the candidate" in status.missing[0]


def test_with_rescue_the_champion_answers_what_the_candidate_fails_at(clock):
    for rescue in (False, True):
        rollout = mk.Rollout(
            model(1), model(2, fail), share=0.5, guards=ERRORS, rescue=rescue, seed=0
        )
        failed = 0
        for i in range(200):
            try:
                assert who(rollout, f"u{i}") == 1
            except RuntimeError:
                failed += 1
            if i % 2:
                continue
            with suppress(RuntimeError):
                assert asyncio.run(rollout.arun(ROWS, key=f"u{i}"))["who"][0] == 1
        assert (failed == 0) is rescue
        clock.go(10)
        assert rollout.status().decision == "rollback"  # they count all the same


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
    rollout = mk.Rollout(model(1), model(2, refuse), share=0.5, guards=guards, seed=0)
    for i in range(200):
        with suppress(SignatureError):
            rollout.run(ROWS, key=f"u{i}")
    clock.go(10)
    assert rollout.status().reason.startswith("refused")


def test_outputs_that_are_not_finite_and_marks_of_your_own(clock):
    guards = (mk.Guard("nonfinite"), mk.Guard("large", mark=lambda out: (out["y"] > 1e6).any()))
    for spoil, name in ((nan, "nonfinite"), (lambda feeds: {"y": np.full(3, 1e7)}, "large")):
        rollout = mk.Rollout(model(1), model(2, spoil), share=0.5, guards=guards, seed=0)
        assert tick(rollout, clock, 200).reason.startswith(name)
    assert is_finite({"y": np.array([1e308, -1e308]), "label": np.array(["a"], object)})
    assert not is_finite({"y": np.array([1.0, -np.inf], np.float32)})


@pytest.mark.parametrize("shadow", [None, mk.RolloutStage(0, seconds=9999)])
def test_a_mark_sees_outputs_that_the_call_did_not_ask_for(clock, shadow):
    guards = [mk.Guard("second", mark=lambda outputs: outputs["who"][0] == 2)]
    if shadow is not None:
        guards.append(mk.Guard("disagreement", floor=0.05))  # of what was asked for: there is none
    rollout = mk.Rollout(
        model(1), model(2), share=0.5, shadow=shadow, guards=guards, rescue=True, seed=0
    )
    for i in range(60):
        answers = rollout._call(ROWS, ("y",), mk.Call())
        assert answers.keys() == {"y"}
        assert answers.served_by.name == "FunctionModel"
        assert rollout.predict(ROWS, key=f"u{i}").tolist() == ROWS.sum(axis=1).tolist()
        assert asyncio.run(rollout.apredict(ROWS)).tolist() == ROWS.sum(axis=1).tolist()
        if shadow is not None:
            assert rollout._switch.course.shadow.wait(ROOM)
    clock.go(10)
    status = rollout.status()
    assert (status.decision, status.reason[:6]) == ("rollback", "second")
    if shadow is not None:
        assert status.guards[1].worse <= 1
        assert rollout._switch.past.shadow.failures == 0


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
    rollout = mk.Rollout(model(1), model(2), share=0.5, guards=guards, seed=0)
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
        rollout = mk.Rollout(champion, candidate, share=0.5, guards=guards, seed=0)
        for _ in range(5):
            status = tick(rollout, clock, 300)
        assert status.decision in decisions
    guards = (mk.Guard("slow", above=0.1),)
    candidate = model(2, lambda feeds: now.go(0.2))
    rollout = mk.Rollout(model(1), candidate, share=0.5, guards=guards, seed=0)
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
    rollout = mk.Rollout(champion, candidate, share=0.5, guards=[guard], seed=0)
    for _ in range(5):
        status = tick(rollout, clock, 300)
    assert (status.decision == "rollback") is rolled_back


@pytest.mark.parametrize("keys", [0, 900])
def test_a_candidate_that_is_longer_by_less_than_what_matters_is_not_rolled_back(
    clock, monkeypatch, keys
):
    """Each of its calls takes .9 ms more than one of the champion would: 7 ms in the median."""
    now = Clock()
    monkeypatch.setattr("modelkit.lifecycle.rollout.lineup.perf_counter_ns", now)
    rolled_back = {0.0: 0, 0.001: 0}
    for material in rolled_back:
        for seed in range(8):
            rng = np.random.default_rng(seed)

            def takes(longer, rng=rng):
                return lambda feeds: now.go(longer + rng.lognormal(-5, 0.2))

            guards = (mk.Guard("slow", material=material, worse=1.0),)
            rollout = mk.Rollout(
                model(1, takes(0)), model(2, takes(0.9e-3)), share=0.5, guards=guards, seed=seed
            )
            for turn in range(6):
                for i in range(300):
                    rollout.run(ROWS, key=f"u{(300 * turn + i) % keys}" if keys else None)
                clock.go(10)
                status = rollout.status()
            rolled_back[material] += status.decision == "rollback"
    assert rolled_back[0.001] == 0
    assert rolled_back[0.0] >= 4


def changed(**changes):
    return replace(SIGNATURE, **changes)


def with_columns(*columns, **more):
    spec = mk.TensorSpec("X", "float64", ("batch", len(columns)), columns)
    return changed(inputs=(spec,), **more)


@pytest.mark.parametrize(
    ("signature", "why"),
    [
        (changed(outputs=SIGNATURE.outputs[:1]), "its outputs are"),
        (changed(primary="who"), "its primary output is 'who'"),
        (changed(classes=("a", "b")), "its classes are"),
        (with_columns(*COLUMNS[:2]), "refuses rows with the column 'c2'"),
        (with_columns(*COLUMNS, mk.Column("new")), "needs the column 'new'"),
        (with_columns(*COLUMNS[::-1]), "another order"),
        (with_columns(mk.Column("c0", categories=(1.0, 2.0)), *COLUMNS[1:]), "takes only"),
        (
            changed(inputs=(mk.TensorSpec("X", "float64", ("batch", 3)),)),
            "takes no|needs the tensor",
        ),
    ],
)
def test_a_candidate_that_cannot_answer_in_place_is_refused(signature, why):
    with pytest.raises(RolloutError, match=why):
        mk.Rollout(model(1), model(2, signature=signature), share=0.5)


def test_a_candidate_may_read_columns_that_the_champion_ignores():
    champion = model(1, signature=changed(ignored=("new",)))
    wide = with_columns(*COLUMNS, mk.Column("new"))
    candidate = mk.FunctionModel(
        lambda feeds: {"y": feeds["X"][:, 3], "who": np.full(len(feeds["X"]), 2)}, wide
    )
    rollout = mk.Rollout(champion, candidate, share=1.0, guards=ERRORS)
    rows = {name: ROWS[:, i] for i, name in enumerate(("c0", "c1", "c2"))}
    assert rollout.predict({**rows, "new": np.full(3, 7.0)}).tolist() == [7.0] * 3
    missing = mk.TensorSpec(
        "X", "float64", ("batch", 3), tuple(replace(c, nullable=True) for c in COLUMNS)
    )
    with pytest.raises(RolloutError, match="no missing values"):
        mk.Rollout(model(1, signature=changed(inputs=(missing,))), model(2), share=0.5)


def test_shadow_changes_no_answer_and_raises_nothing(clock):
    gate = threading.Event()

    def slow_and_broken(feeds):
        gate.wait(ROOM)
        raise RuntimeError("only in shadow")

    rollout = mk.Rollout(
        model(1), model(2, slow_and_broken), share=0.5, shadow=SHADOW, guards=ERRORS
    )
    X = ROWS.copy()
    expected = model(1).run(X)
    for _ in range(MOST_WAITING + 20):  # the candidate hangs: the queue is full, and nobody waits
        answers = rollout.run(X)
        np.testing.assert_array_equal(answers["y"], expected["y"])
    answers = asyncio.run(rollout.arun(X))
    assert answers["who"][0] == 1
    assert "not shadowed" in rollout.status().notes[0]
    gate.set()
    shadow = rollout._switch.course.shadow
    assert shadow.wait(ROOM)
    clock.go(10)
    status = rollout.status()
    assert status.decision == "rollback"
    assert rollout.failures == 0


def test_shadow_sees_the_rows_as_they_were(clock):
    seen = []
    gate = threading.Event()

    def look(feeds):
        gate.wait(ROOM)
        seen.append(feeds["X"].copy())

    rollout = mk.Rollout(model(1), model(2, look), share=0.5, shadow=SHADOW, guards=ERRORS)
    X = ROWS.copy()
    answers = rollout.run(X, key="a")
    X[:] = -1
    answers["y"][:] = -1
    gate.set()
    assert rollout._switch.course.shadow.wait(ROOM)
    np.testing.assert_array_equal(seen[0], ROWS)


def test_disagreement_in_shadow_pauses(clock):
    guards = (*ERRORS, mk.Guard("disagreement", floor=0.05, tolerance=0.1))
    for shift, decision in ((0.05, "advance"), (1.0, "hold")):
        other = model(1, lambda feeds, shift=shift: {"y": feeds["X"].sum(axis=1) + shift})
        rollout = mk.Rollout(model(1), other, share=0.5, shadow=SHADOW, guards=guards)
        for _ in range(60):
            rollout.run(ROWS)
        assert rollout._switch.course.shadow.wait(ROOM)
        clock.go(10)
        assert rollout.status().decision == decision


def test_losses_in_shadow_are_pairs(clock):
    guards = (mk.Guard("loss", margin=0.05),)
    rollout = mk.Rollout(model(0), model(1), share=0.5, shadow=SHADOW, guards=guards)
    for i in range(60):
        rollout.run(ROWS, key=f"u{i}")
    assert rollout._switch.course.shadow.wait(ROOM)
    counted = [rollout.outcome(f"u{i}", lambda out: float(out["who"][0])) for i in range(60)]
    assert all(counted)
    clock.go(10)
    status = rollout.status()
    assert status.decision == "rollback"
    assert "loss" in status.reason


def loss_of(outputs):
    return float(outputs["who"][0]) / 2


@pytest.mark.parametrize("form", ["number", "function"])
def test_a_job_that_posts_losses_goes_on_from_shadow_to_canary(clock, form):
    """Both forms are taken in every stage; in shadow, a number is the loss of one answer of two."""
    guards = (mk.Guard("loss", margin=0.9),)
    stages = [mk.RolloutStage(0, units=5), mk.RolloutStage(0.5, units=10**6)]
    rollout = mk.Rollout(model(1), model(2), stages=stages, guards=guards, seed=0)

    def posted(keys):
        counted = 0
        for key in keys:
            answers = rollout.run(ROWS, key=key)
            if rollout._switch.course.stage == 0:
                assert rollout._switch.course.shadow.wait(ROOM)
            known = loss_of(answers)
            answers["who"][:] = 0  # the answers are the caller's, who may change them
            counted += rollout.outcome(key, loss_of if form == "function" else known)
        return counted

    assert posted(f"a{i}" for i in range(8)) == (8 if form == "function" else 0)
    notes = " ".join(rollout.status().notes)
    assert ("8 losses left out: in shadow both answered" in notes) is (form == "number")
    # The answers are kept for a function that comes after a number.
    assert rollout.outcome("a0", loss_of) is (form == "number")
    clock.go(10)
    assert rollout.status().stage == 2
    assert posted(f"b{i}" for i in range(40)) == 40
    counts = rollout._switch.course.collect()
    assert {label.candidate: label.loss for label in counts.labels} == {False: 0.5, True: 1.0}
    rollout.predict(ROWS, key="c")
    with pytest.raises(KeyError):  # the function asks for what the call did not ask for
        rollout.outcome("c", loss_of)


def test_losses_late_twice_never_and_of_unknown_keys(clock):
    guards = (mk.Guard("loss", margin=0.05),)
    rollout = mk.Rollout(model(1), model(2), stages=[ONE_CALL, 0.9], guards=guards, seed=0)
    keys = [f"u{i}" for i in range(400)]
    arms = {key: who(rollout, key) for key in keys}
    assert rollout.outcome("u0", 0.5)
    assert not rollout.outcome("u0", 0.5)  # twice for one answer
    assert not rollout.outcome("somebody else", 0.5)
    clock.go(10)
    later = {key: who(rollout, key) for key in keys}
    moved = [key for key in keys if arms[key] != later[key]]
    assert 200 < len(moved) < len(keys)
    # Those that stayed are left out as well, or one arm would have more of the old keys.
    assert not any(rollout.outcome(key, 0.5) for key in keys)
    who(rollout, "new")
    assert rollout.outcome("new", 0.5)
    notes = " ".join(rollout.status().notes)
    assert "400 losses left out: their keys were answered in two stages" in notes
    assert "1 losses left out: no answer" in notes
    for loss in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="from 0 to 1"):
            rollout.outcome("u1", loss)
    with pytest.raises(RolloutError, match="no guard watches losses"):
        mk.Rollout(model(1), model(2), share=0.5).outcome("a", 0.5)


def test_worse_losses_roll_back(clock):
    guards = (mk.Guard("loss", margin=0.05),)
    rollout = mk.Rollout(model(1), model(2), share=0.5, guards=guards, seed=0)
    rng = np.random.default_rng(0)
    for i in range(1500):
        arm = who(rollout, f"u{i}")
        rollout.outcome(f"u{i}", float(rng.random() < (0.2 if arm == 1 else 0.5)))
    clock.go(10)
    assert rollout.status().decision == "rollback"


def test_heavy_keys_that_fail_in_both_arms_are_nobodys_fault(clock):
    """One customer sends a bad row in a thousand calls: that is one event."""

    def broken(feeds):
        if feeds["X"][0, 0] < 0:
            raise RuntimeError("bad row")

    rollout = mk.Rollout(model(1, broken), model(2, broken), share=0.5, guards=ERRORS, seed=0)
    key = next(f"u{i}" for i in range(99) if who(rollout, f"u{i}") == 2)
    for _ in range(1000):
        with pytest.raises(RuntimeError):
            rollout.run(-1 - ROWS, key=key)
    clock.go(10)
    assert rollout.status().decision == "continue"


def test_close_ends_it_and_closes_nothing_that_was_handed_over():
    champion, candidate = model(1), model(2)
    rollout = mk.Rollout(champion, candidate, share=0.5, shadow=SHADOW)
    with rollout:
        who(rollout)
    rollout.close()
    assert rollout.closed
    assert not champion.closed
    for ask in (rollout.run, lambda X: asyncio.run(rollout.arun(X))):
        with pytest.raises(ClosedError, match="closed"):
            ask(ROWS)
    with pytest.raises(ClosedError):
        rollout.rollback()
    assert rollout.signature == SIGNATURE


def test_a_kept_traceback_keeps_no_activation(clock):
    rollout = mk.Rollout(model(1), model(2, fail), share=0.5, guards=ERRORS, seed=0)
    activation = weakref.ref(rollout._active.now)
    kept = []
    for i in range(20):
        try:
            rollout.run(ROWS, key=f"u{i}")
        except RuntimeError as error:
            kept.append(error)
    assert kept
    rollout.rollback()
    assert activation() is None


def test_a_call_ends_with_the_version_that_it_began_with():
    async def main():
        begun, go_on = asyncio.Event(), asyncio.Event()

        class Waiting(mk.Wrapper):
            __slots__ = ()

            async def _acall(self, X, outputs, call):
                begun.set()
                await go_on.wait()
                return await self._inner._acall(X, outputs, call)

        rollout = mk.Rollout(Waiting(model(1)), model(2), share=0.0001, guards=ERRORS)
        call = asyncio.create_task(rollout.arun(ROWS))
        await begun.wait()
        held = weakref.ref(rollout._active.now)
        rollout.promote()
        assert held() is not None
        assert (await rollout.arun(ROWS))["who"][0] == 2
        go_on.set()
        assert (await call)["who"][0] == 1
        del call
        assert held() is None

    asyncio.run(main())


class Strict(mk.Wrapper):
    """Notices when it is asked, or still at work, after it was closed."""

    __slots__ = ("__weakref__", "open")

    def __init__(self, inner):
        super().__init__(inner)
        self.open = True

    def _call(self, X, outputs, call):
        assert self.open
        answers = self._inner._call(X, outputs, call)
        assert self.open
        return answers

    async def _acall(self, X, outputs, call):
        assert self.open
        await asyncio.sleep(0)
        answers = self._inner._call(X, outputs, call)
        assert self.open
        return answers


def of_one_version(answers):
    return len(set(answers["who"].tolist())) == 1


def test_swaps_under_threads_and_coroutines_lose_nothing():
    """A replaced model is closed as soon as it is drained: no call meets it, or two versions."""
    rollout = mk.Rollout(Strict(model(0)), Strict(model(1)), share=0.5, guards=ERRORS)
    rollout.promote()
    switch = rollout._switch
    waiting, swaps = [], 0
    end = time.monotonic() + 3
    with Load(rollout, ROWS, of_one_version, threads=8, coroutines=1000) as load:
        # Where other tests have the CPUs, three seconds may be too few for any call.
        while time.monotonic() < end or swaps <= 20 or not min(load.calls):
            assert time.monotonic() < end + ROOM
            before = switch.champion
            waiting.append((switch.end(Strict(model(swaps + 2))), before))
            swaps += 1
            while waiting and waiting[0][0].drained:
                waiting.pop(0)[1].open = False
            time.sleep(0)
    assert load.wrong == []
    assert swaps > 20
    assert min(load.calls) > 0
    assert all(draining.wait(ROOM) for draining, _ in waiting)


def test_nothing_of_the_old_ones_stays_in_memory_and_a_child_goes_on():
    rollout = mk.Rollout(model(0), model(1), share=0.5, guards=ERRORS, shadow=SHADOW)
    rollout.run(ROWS, key="a")
    gone = []
    for number in range(50):
        gone.append(weakref.ref(rollout._active.now))
        rollout._switch.end(model(number))
        rollout.run(ROWS)
    assert all(each() is None for each in gone)
    rollout = mk.Rollout(model(1), model(2), share=0.5, guards=(mk.Guard("loss", margin=0.1),))
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


@pytest.mark.parametrize("kind", ["promote", "rollback", "close"])
@pytest.mark.parametrize("shadow", [None, SHADOW])
def test_what_has_ended_keeps_no_model_and_no_answer(kind, shadow):
    candidate = Strict(model(2))
    guards = (mk.Guard("loss", margin=0.1),)
    rollout = mk.Rollout(model(1), candidate, share=0.5, guards=guards, shadow=shadow, seed=0)
    for i in range(20):
        rollout.run(ROWS, key=f"u{i}")
    course = rollout._switch.course
    if shadow is not None:
        assert course.shadow.wait(ROOM)
    getattr(rollout, kind)()
    if kind == "promote":
        rollout.rollback()  # by which the candidate answers no more
    gone = weakref.ref(candidate)
    del candidate
    until(lambda: gone() is None)  # the thread of the shadow may hold it for a moment
    assert course.outcomes._answers == {}
    assert rollout.status().candidate is not None
    assert not rollout.outcome("u1", 0.5)


def test_who_listens_to_a_decision_may_end_the_rollout_first(clock):
    rollout = mk.Rollout(model(1), model(2), share=0.5, guards=ERRORS, seed=0)
    told = []

    def listen(event):
        told.append(event.decision)
        if event.decision == "promote":
            rollout.rollback("not this one")

    stop = events.subscribe(listen, events.Decided)
    rollout.promote("by mistake")
    stop()
    assert told == ["promote", "rollback"]
    assert (who(rollout), rollout.failures) == (1, 0)


class Layer(mk.Wrapper):
    """A layer of somebody's own."""

    __slots__ = ()


def test_an_explainer_stays_with_the_arm_of_its_key(tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 3))
    models = []
    for version, column in (("1", 0), ("2", 2)):
        y = (X[:, column] > 0).astype(int)
        path = tmp_path / f"{version}.mk"
        mk.save(
            LogisticRegression().fit(X, y), path, example=X, name="m", version=version, background=X
        )
        models.append(mk.load(path))
    rollout = mk.Rollout(*models, share=0.5, seed=0)
    arms = {rollout.run(X[:1], key=f"u{i}").served_by.version: f"u{i}" for i in range(20)}
    for number, version in enumerate(("1", "2")):
        explainer = mk.Explainer(rollout, key=arms[version])
        explanation = explainer.explain(X[:2])
        assert explanation.model_digest == models[number].manifest.model_digest
        assert explanation.version == version
        assert f">{version}<" in explanation.card()
    layered = mk.Explainer(Layer(rollout), key=arms["2"])
    assert layered.explain(X[:2]).model_digest == models[1].manifest.model_digest
    rollout.rollback()
    assert explainer.explain(X[:2]).model_digest == models[1].manifest.model_digest
    champion = mk.Explainer(rollout).explain(X[:2])
    assert (champion.model_digest, champion.version) == (models[0].manifest.model_digest, "1")


def test_an_app_says_which_version_answered(tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 3))
    models = []
    for version in ("1", "2"):
        path = tmp_path / f"{version}.mk"
        y = (X[:, 0] > 0).astype(int)
        mk.save(
            LogisticRegression().fit(X, y), path, example=X, name="m", version=version, background=X
        )
        models.append(mk.load(path))
    rollout = mk.Rollout(*models, share=0.5, seed=0)
    names = [column.name for column in rollout.signature.inputs[0].columns]
    row = dict(zip(names, (0.1, 0.2, 0.3), strict=True))
    with Client(mk.App({"m": rollout})) as client:
        for verb in ("predict", "explain"):
            seen = set()
            for i in range(12):
                body = {"rows": [row], "key": f"u{i}"}
                answer = client.post(f"/models/m/{verb}", json=body)
                assert answer.status == 200, answer.body
                version = rollout.run(X[:1], key=f"u{i}").served_by.version
                assert answer.headers["model-version"] == version
                seen.add(version)
            assert seen == {"1", "2"}


def test_the_status_is_a_value_with_a_card_and_a_page(clock, tmp_path):
    stages = [mk.RolloutStage(0.2, units=1), 0.5]
    rollout = mk.Rollout(model(1), model(2), stages=stages, seed=0, tick=1)
    for _ in range(3):
        status = tick(rollout, clock, 100)
    assert status.stages == 2
    assert sum(status.calls) >= 200
    text = str(status)
    for word in ("candidate", "decision", "stage: 2 of 2", "errors", "missing"):
        assert word in text
    page = status.page(tmp_path / "rollout.html").read_text(encoding="utf-8")
    assert page.count("<svg") == len(status.guards)
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert pickle.loads(pickle.dumps(status)) == status


def test_the_plan_says_how_long_it_takes():
    rollout = mk.Rollout(model(1), model(2), share=0.05, guards=ERRORS)
    plan = rollout.plan({"errors": 0.01}, risks=(2.0, 5.0))
    needs = {need.risk: need.requests for need in plan.needs}
    assert needs[5.0] < needs[2.0]
    assert needs[1.0] == pytest.approx(148_000, rel=0.05)
    assert "an equal candidate" in str(plan)
    assert plan._repr_html_()
    with pytest.raises(RolloutError, match="rates are of guards"):
        rollout.plan({"latency": 0.1})
    never = mk.Rollout(model(1), model(2), share=0.05, guards=ERRORS).plan({"errors": 0.01}, (1.1,))
    assert "never" in str(never)


def test_many_events_are_weighed_by_a_thread(clock):
    champion, candidate = model(1, fail), model(2, fail)
    rollout = mk.Rollout(champion, candidate, share=0.5, guards=ERRORS, seed=0)
    for i in range(600):
        with suppress(RuntimeError):
            rollout.run(ROWS, key=f"u{i}")
    clock.go(10)
    with suppress(RuntimeError):
        rollout.run(ROWS)
    until(lambda: rollout._switch.course.waiting == 0)
    assert sum(rollout._switch.course.trial.all_calls.__dict__.values()) >= 600


def test_errors_beside_the_calls_reach_no_caller(clock, monkeypatch):
    rollout = mk.Rollout(model(1), model(2), share=0.5, guards=ERRORS)

    def broken():
        raise RuntimeError("a tick failed")

    monkeypatch.setattr(rollout._switch.course, "collect", broken)
    clock.go(10)
    assert who(rollout) in (1, 2)
    assert (rollout.failures, rollout.last_failure) == (1, "RuntimeError")
    assert "1 failures beside the calls" in rollout.status().notes[0]


def test_the_hash_of_a_rollout_is_that_of_its_seed():
    rollout = mk.Rollout(model(1), model(2), share=0.5, seed=7)
    for i in range(20):
        expected = 2 if hash_of(f"u{i}", b"7") < 1 << 63 else 1
        assert who(rollout, f"u{i}") == expected
