"""What deceived a Rollout once: traffic that keeps its assumptions, and decisions that were wrong."""

from __future__ import annotations

import asyncio
import errno
import json
import math
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from helpers.rollouts import Clock, model, who
from sklearn.linear_model import LinearRegression

import modelkit as mk
from modelkit import events
from modelkit.errors import DeadlineExceeded, Overloaded, RolloutError
from modelkit.lifecycle.rollout.counts import ByArm, Counts, Happened
from modelkit.lifecycle.rollout.outcomes import AnsweredIn, Outcomes
from modelkit.lifecycle.rollout.shared import SharedCounts, write_counts

ALARM = math.log(100)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("modelkit.lifecycle.rollout.rollout.perf_counter_ns", clock)
    return clock


@pytest.fixture
def registry(tmp_path):
    registry = mk.Registry(tmp_path / "models")
    for version in ("1", "2", "3"):
        path = tmp_path / f"{version}.mk"
        estimator = LinearRegression().fit(np.eye(3), np.zeros(3))
        mk.save(estimator, path, example=np.eye(3), name="m", version=version)
        registry.register(path)
    registry.set_alias("m", "champion", "1", expected=None, reason="first")
    return registry


def fails_at(rng, rates):
    """A model that fails at a row of number k with the probability rates[k]."""

    def run(feeds):
        if rng.random() < rates[int(feeds["X"][0, 0])]:
            raise RuntimeError("it broke")
        return {"y": np.zeros(len(feeds["X"]))}

    return run


def ask(rollout, key=None, number=0):
    try:
        return rollout.run(np.array([[float(number), 0.0, 0.0]]), key=key)
    except RuntimeError:
        return None


def test_old_customers_are_not_compared_with_new_ones(clock):
    """When the share grows, old keys stay with the champion more often than new ones do."""
    rng = np.random.default_rng(0)
    rollout = mk.Rollout(
        model(1, fails_at(rng, (0.3, 0.02))),
        model(2, fails_at(rng, (0.6, 0.04))),
        stages=[mk.RolloutStage(0.05, seconds=15), mk.RolloutStage(0.5, seconds=9999)],
        guards=[mk.Guard("errors", worse=1000.0, floor=0.0)],
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


def labels(rollout, clock, rng, keys, loss):
    for key in keys:
        who(rollout, key)
    for key in keys:
        rollout.outcome(key, loss(key))
    clock.go(10)
    rollout.status()


def test_labels_of_a_heavy_customer_count_once(clock):
    """A few customers give most labels, and the models are equal for each of them."""
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        guards = [mk.Guard("loss", margin=0.02)]
        rollout = mk.Rollout(model(1), model(2), share=0.5, guards=guards, seed=seed)
        level = rng.random(12)
        for _ in range(10):
            for key in rng.integers(0, 12, 300).tolist():
                who(rollout, f"k{key}")
                rollout.outcome(f"k{key}", float(rng.random() < level[key]))
            clock.go(10)
            rollout.status()
        found.append(rollout.status().decision)
    assert set(found) == {"continue"}


def test_labels_count_for_the_stage_of_their_answer(clock):
    """Labels come a stage late, when the share is another."""
    guards = [mk.Guard("loss", margin=0.02)]
    stages = [mk.RolloutStage(0.05, seconds=15), mk.RolloutStage(0.5, seconds=9999)]
    rollout = mk.Rollout(model(1), model(2), stages=stages, guards=guards, seed=0)
    early = [f"a{i}" for i in range(1000)]
    for key in early:
        who(rollout, key)
    for _ in range(2):
        clock.go(10)
        rollout.status()
        who(rollout)
    assert rollout.status().stage == 2
    for key in early:
        assert rollout.outcome(key, 0.5)
    clock.go(10)
    assert rollout.status().decision == "continue"
    # Old customers come again, and new ones, who lose more.
    for i in range(3000):
        key = f"a{i % 1000}" if i % 2 else f"b{i}"
        who(rollout, key)
        rollout.outcome(key, 0.1 if i % 2 else 0.9)
        if i % 500 == 0:
            clock.go(10)
            rollout.status()
    clock.go(10)
    assert rollout.status().decision == "continue"


def test_calls_of_one_kind_say_nothing_of_the_other(clock):
    """Health checks have no key and never fail; the customers of the candidate fail often."""
    rng = np.random.default_rng(0)
    rollout = mk.Rollout(
        model(1, fails_at(rng, (0.0, 0.0))),
        model(2, fails_at(rng, (0.0, 0.5))),
        share=0.5,
        guards=[mk.Guard("errors")],
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

    rollout = mk.Rollout(model(1), model(2, spoil), share=0.5, guards=[mk.Guard("errors")], seed=0)
    for _ in range(20):
        for i in range(1000):
            with suppress(error):
                rollout.run(np.zeros((1, 3)), key=f"k{i}" if key else None)
        clock.go(10)
        status = rollout.status()
    assert status.decision == "hold"
    assert "do not answer" in status.reason


def test_a_candidate_whose_callers_give_up_is_not_promoted(clock):
    guards = [mk.Guard("errors")]
    rollout = mk.Rollout(model(1), model(2), share=0.5, guards=guards, seed=0)

    async def hang(X, outputs, call):
        await asyncio.sleep(3600)

    async def answer(X, outputs, call):
        return {"y": np.zeros(1)}

    lineup = rollout._active.now.value
    lineup.candidate.aways = (hang, hang)
    lineup.champion.aways = (answer, answer)

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
    rollout = mk.Rollout(model(1), model(2), share=0.5, guards=[mk.Guard("errors")], seed=0)
    counters = rollout._active.now.value.counters
    numbers = [counters.begin(1, True) for _ in range(20)]
    for number in numbers[10:]:
        counters.answered(1, True, number, {}, 1)
    assert counters.collect().done == ()
    for number in numbers[:10]:
        counters.failed(1, True, number, RuntimeError("it took long"))
    [done] = counters.collect().done
    assert done.bad == {"errors": 0.5}


def test_losses_of_any_float_are_written(clock):
    guards = [mk.Guard("loss", margin=0.02)]
    rollout = mk.Rollout(model(1), model(2), share=0.5, guards=guards, seed=0)
    for i in range(4):
        who(rollout, f"k{i}")
        assert rollout.outcome(f"k{i}", np.float32(0.5))
    json.dumps(write_counts(rollout._switch.course._counters.collect()))


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
        share=0.5,
        shadow=mk.RolloutStage(0, seconds=9999),
        guards=[mk.Guard(kind)],
    )
    for _ in range(20):
        for _ in range(60):
            ask(rollout)
        course = rollout._switch.course
        if course is None:
            break
        course.shadow.wait(10)
        clock.go(10)
        rollout.status()
    assert rollout.status().decision == decision


def test_a_layer_that_cannot_be_closed_keeps_no_other_open(registry):
    opened = []

    class Stuck(mk.Wrapper):
        __slots__ = ()

        def close(self):
            raise RuntimeError("it does not close")

    def wrap(model):
        opened.append(model)
        return Stuck(model)

    rollout = mk.Rollout(registry, "m", wrap=wrap, keep=0, threads=1)
    for before, version in (("1", "2"), ("2", "3")):
        registry.set_alias("m", "champion", version, expected=before, reason="next")
        rollout.refresh()
    rollout._switch.at_exit()
    assert [model.closed for model in opened] == [True, True, False]
    assert (rollout.failures, rollout.last_failure) == (2, "RuntimeError")
    with pytest.raises(RuntimeError, match="does not close"):
        rollout.close()
    assert opened[2].closed


def test_an_array_is_not_read_as_other_columns():
    def signature(columns, ignored):
        spec = mk.TensorSpec("X", "float64", ("batch", 2), tuple(map(mk.Column, columns)))
        outputs = (mk.TensorSpec("y", "float64", ("batch",)),)
        return mk.Signature((spec,), outputs, primary="y", ignored=(ignored,))

    one = mk.FunctionModel(lambda feeds: {"y": feeds["X"][:, 1]}, signature("ab", "c"))
    other = mk.FunctionModel(lambda feeds: {"y": feeds["X"][:, 1]}, signature("ac", "b"))
    with pytest.raises(RolloutError, match="would read an array"):
        mk.Rollout(one, other, share=0.5)


def test_shadow_outlives_what_is_no_exception(clock):
    def leave(feeds):
        raise SystemExit(3)

    shadow = mk.RolloutStage(0, units=50)
    rollout = mk.Rollout(
        model(1), model(2, leave), share=0.5, shadow=shadow, guards=[mk.Guard("errors")]
    )
    for _ in range(5):
        ask(rollout)
        assert rollout._switch.course.shadow.wait(10)
    assert rollout._switch.course.shadow.failures == 5
    assert rollout._switch.course.shadow.dropped == 0


def test_who_listens_to_a_swap_may_take_it_back(registry):
    rollout = mk.Rollout(registry, "m", threads=1)

    def listen(swapped):
        rollout.refresh()
        if swapped.version == "2":
            rollout.rollback("it does not look well")

    unsubscribe = events.subscribe(listen, events.Swapped)
    try:
        registry.set_alias("m", "champion", "2", expected="1", reason="next")
        thread = threading.Thread(target=rollout.refresh, daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    finally:
        unsubscribe()
    assert rollout.run(np.eye(3)).served_by.version == "1"
    assert registry.history("m")[-1].reason == "it does not look well"
    rollout.close()


def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"


def test_late_counts_that_show_harm_roll_back_after_the_stage_has_changed(registry):
    stages = (mk.RolloutStage(0.3, units=100), mk.RolloutStage(0.5, seconds=3600))
    policy = mk.RolloutPolicy(stages, (mk.Guard("errors"),), tick=0.05)
    underway = registry.start_rollout("m", "2", policy, reason="try")
    rollout = mk.Rollout(registry, "m", poll=0.01, threads=1)
    other = SharedCounts(registry.shelf("m", underway), "other")
    arms = ByArm(300, 700)
    other.write(0, Counts(calls=arms, plain=arms))
    until(lambda: rollout.status().stage == 2)
    other.write(0, Counts(arms, arms, events={"errors": Happened(plain=ByArm(300, 0))}))
    until(lambda: not rollout.status().under_way)
    until(lambda: registry.state("m").rollout is None)
    assert registry.history("m")[-1].about["decision"] == "rollback"
    rollout.close()


def test_shadow_is_counted_by_all_processes(registry):
    stages = (mk.RolloutStage(0, units=20), mk.RolloutStage(0.5, seconds=3600))
    policy = mk.RolloutPolicy(stages, (mk.Guard("errors"),), tick=0.05)
    registry.start_rollout("m", "2", policy, reason="try")
    rollout = mk.Rollout(registry, "m", poll=0.01, threads=1)

    def advances():
        rollout.run(np.eye(3))
        return rollout.status().stage == 2

    until(advances)
    rollout.close()


def test_a_sum_from_the_future_stops_nothing(registry):
    stages = (mk.RolloutStage(0.5, seconds=3600),)
    policy = mk.RolloutPolicy(stages, (mk.Guard("errors"),), tick=0.05)
    underway = registry.start_rollout("m", "2", policy, reason="try")
    other = SharedCounts(registry.shelf("m", underway), "a machine with another clock")
    other.write(0, Counts(calls=ByArm(1, 1), plain=ByArm(1, 1)))
    other.add_up(1e6)
    rollout = mk.Rollout(registry, "m", poll=0.01, threads=1)
    rollout.run(np.eye(3))
    until(lambda: sum(rollout.status().calls) == 3)
    rollout.close()


def test_hostile_names_stay_text(clock, tmp_path):
    name = "<script>alert(1)</script>"
    guards = [mk.Guard(name, mark=lambda outputs: True)]
    rollout = mk.Rollout(model(1), model(2), share=0.5, guards=guards)
    for _ in range(3):
        ask(rollout)
        clock.go(10)
        rollout.status()
    page = rollout.status().page(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script" in page


def test_a_rollback_is_written_where_somebody_began_another_stage(registry):
    stages = (mk.RolloutStage(0.3, seconds=3600), mk.RolloutStage(0.5, seconds=3600))
    policy = mk.RolloutPolicy(stages, (mk.Guard("errors"),), tick=0.05)
    underway = registry.start_rollout("m", "2", policy, reason="try")
    rollout = mk.Rollout(registry, "m", poll=3600, threads=1)
    registry.decide_rollout("m", underway, "advance", reason="elsewhere")
    other = SharedCounts(registry.shelf("m", underway), "other")
    arms = ByArm(300, 700)
    other.write(0, Counts(arms, arms, events={"errors": Happened(plain=ByArm(300, 0))}))
    until(lambda: not rollout.status().under_way)
    until(lambda: registry.state("m").rollout is None)
    assert registry.history("m")[-1].about["decision"] == "rollback"
    rollout.close()


def test_a_rollback_that_could_not_be_written_is_written_when_it_closes(registry, monkeypatch):
    policy = mk.RolloutPolicy(
        (mk.RolloutStage(0.3, seconds=3600),), (mk.Guard("errors"),), tick=0.05
    )
    underway = registry.start_rollout("m", "2", policy, reason="try")
    rollout = mk.Rollout(registry, "m", poll=3600, threads=1)
    arms = ByArm(300, 700)
    other = SharedCounts(registry.shelf("m", underway), "other")
    other.write(0, Counts(arms, arms, events={"errors": Happened(plain=ByArm(300, 0))}))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "of 4711")

    with monkeypatch.context() as patched:
        patched.setattr(mk.Registry, "decide_rollout", full)
        until(lambda: not rollout.status().under_way and "No space left" in rollout.last_failure)
        assert registry.state("m").rollout is not None
    rollout.close()
    assert registry.history("m")[-1].about["decision"] == "rollback"


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


def test_rows_that_wait_in_shadow_are_bounded_in_bytes(clock, monkeypatch):
    monkeypatch.setattr("modelkit.lifecycle.rollout.shadow.MOST_HELD", 1000)
    gate = threading.Event()
    shadow = mk.RolloutStage(0, units=50)
    rollout = mk.Rollout(
        model(1), model(2, lambda feeds: gate.wait(10) and None), share=0.5, shadow=shadow
    )
    rows = np.zeros((30, 3))
    for _ in range(10):
        rollout.run(rows)
    beside = rollout._switch.course.shadow
    assert len(beside._jobs) <= 2
    assert beside.dropped >= 7
    gate.set()
    assert beside.wait(10)
    assert beside._held == 0


def test_who_answered_within_a_rollout_within_a_rollout(registry):
    one, other, last = [registry.load("m", version, threads=1) for version in "123"]
    inner = mk.Rollout(one, other, share=0.999999, seed=1)
    rollout = mk.Rollout(inner, last, share=0.000001, seed=2)
    assert rollout.run(np.eye(3), key="k").served_by.version == "2"
