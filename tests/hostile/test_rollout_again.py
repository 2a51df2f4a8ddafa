"""What an adversary tried on labels of any process, and on threads that two arms share."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections import defaultdict

import numpy as np
import pytest
from helpers.examples import examples
from helpers.processes import PATIENCE, forks
from helpers.rollouts import ROWS, Clock, model, registry_of_two, save_numbered, who
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit import events
from modelkit.lifecycle.rollout.counts import ByArm, Counts, Label, Posted
from modelkit.lifecycle.rollout.labels import KeysAnswered, LossEvidence
from modelkit.lifecycle.rollout.posting import post_outcomes
from modelkit.lifecycle.rollout.shared import SharedCounts
from modelkit.testing import Client

X = np.eye(3)
LOSS = (mk.Guard("loss", margin=0.02),)
HALF = mk.RolloutStage(0.5)
SHADOW = mk.RolloutStage(0, units=1)
POLICY = mk.RolloutPolicy((mk.RolloutStage(0.5, seconds=3600),), LOSS, tick=0.05)
STAGES = (mk.RolloutStage(0.1, units=1), mk.RolloutStage(0.9))
STAGED = mk.RolloutPolicy(STAGES, LOSS, tick=0.05)


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    return save_numbered(tmp_path_factory.mktemp("packages"))


@pytest.fixture
def registry(packages, tmp_path):
    return registry_of_two(packages, tmp_path / "models")


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("modelkit.lifecycle.rollout.rollout.perf_counter_ns", clock)
    return clock


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"


# Sums of what several writers counted.


class Files:
    """The files of a rollout, in memory: those of a Shelf."""

    def __init__(self):
        self.files = {}

    def create(self, name, data):
        return self.files.setdefault(name, data) == data

    def read(self, name):
        return self.files.get(name)

    def names(self, folder):
        return sorted(name.rsplit("/", 1)[1] for name in self.files if name.startswith(folder))

    def folders(self, folder):
        return sorted({name.split("/")[1] for name in self.files if name.startswith(folder)})


def all_sums(files, most):
    """The sums that are made of files, in their order."""
    found = []
    for number in range(most):
        shared = SharedCounts(files, f"reader {number}")
        sums = []
        while (one := shared.next_sum()) is not None:
            sums.append(one)
        found = sums
        shared.add_up(float(number))
    return found


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=12))
@settings(max_examples=examples(50), deadline=None)
def test_every_file_is_in_one_sum_whatever_its_stage(written):
    """A job may write what it read of a stage after another one has written of the next."""
    files = Files()
    writers = {name: SharedCounts(files, name) for name in "abc"}
    for number, (name, stage) in enumerate(written):
        writers[name].write(stage, Counts(posted=(Posted(0.5, number),)))
    counted = defaultdict(list)
    sums = all_sums(files, len(written) + 2)
    assert all(one.counts.anything for one in sums)
    for one in sums:
        for posted in one.counts.posted:
            assert written[posted.key][1] == one.stage
            counted[written[posted.key][0]].append(posted.key)
    for name in "abc":
        assert counted[name] == [at for at, (writer, _) in enumerate(written) if writer == name]


def test_many_losses_are_added_up_in_parts(monkeypatch):
    """A sum is parsed at once, and no call is answered meanwhile."""
    monkeypatch.setattr("modelkit.lifecycle.rollout.shared.MOST_LOSSES", 20)
    files = Files()
    labels = SharedCounts(files, "labels")
    for start in range(0, 100, 10):
        labels.write_beside(0, Counts(posted=tuple(Posted(0.5, start + i) for i in range(10))))
    sums = all_sums(files, 10)
    assert [len(one.counts.posted) for one in sums] == [20] * 5


def test_a_slow_job_of_the_stage_before_holds_up_no_rollout(registry):
    """One job posted by what it read before the stage changed, and another one was faster."""
    rollout = registry.start_rollout("m", "2", STAGED, reason="try")
    labels = SharedCounts(registry.shelf("m", rollout), "labels")
    number = itertools.count()
    with mk.Rollout(registry, "m", poll=1e-3, threads=1) as served:

        def in_second_stage():
            served.predict(X[:1], key=f"first {next(number)}")
            return registry.state("m").rollout.stage == 1

        until(in_second_stage)
        labels.write_beside(1, Counts(posted=(Posted(0.5, 1),)))
        labels.write_beside(0, Counts(posted=(Posted(0.5, 2),)))

        def decided():
            for _ in range(20):
                key = f"second {next(number)}"
                served.outcome(key, 0.1 if served.predict(X[:1], key=key)[0] < 1.5 else 0.9)
            return registry.state("m").rollout is None

        until(decided)
    assert registry.history("m")[-1].reason == "loss: the candidate is shown to be worse"


# Labels that come late for answers of shadow.


def test_late_losses_of_shadow_promote_nothing(clock):
    """A candidate whose answers are all wrong; labels come when the customer has called again."""
    rollout = mk.Rollout(
        model(1), model(2), shadow=SHADOW, share=0.5, guards=(mk.Guard("loss", margin=0.3),), seed=0
    )
    keys = [f"k{i}" for i in range(500)]
    for key in keys:
        assert who(rollout, key) == 1  # which was right
    until(
        lambda: rollout._switch.course.shadow.wait(0.1) and not rollout._switch.course.shadow._jobs
    )
    clock.go(10)
    assert rollout.status().stage == 2
    assert {who(rollout, key) for key in keys} == {1, 2}
    assert not any(rollout.outcome(key, 0.0) for key in keys[:250])
    assert not any(rollout.outcome(key, lambda outputs: 0.0) for key in keys[250:])
    clock.go(10)
    status = rollout.status()
    assert (status.decision, status.guards[0].better) == ("continue", 1.0)
    assert "500 losses left out: their keys were answered in two stages" in status.notes
    new = [key for key in ("a", "b", "c", "d") if who(rollout, key)]
    assert all(rollout.outcome(key, 0.0) for key in new)


def test_keys_of_shadow_in_one_process_and_of_an_arm_in_another_are_left_out():
    for late in (False, True):
        keys = KeysAnswered()
        if not late:
            keys.answered_in_shadow([(1, False), (2, False)])
        keys.answered([(1, True), (3, True)], 1)
        if late:
            keys.answered_in_shadow([(1, False), (2, False)])
        told = [Posted(0.5, key) for key in (1, 2, 3)]
        assert [*keys.join(told)] == [Label(0.5, 3, True, 1)]
        assert [*keys.unchanged([Label(0.5, 1, True, 1)])] == []
        assert (keys.left_out, keys.one_sided, keys.unknown) == (2, 1, 0)


def test_a_registry_is_told_which_keys_were_answered_in_shadow(registry):
    policy = mk.RolloutPolicy((SHADOW, HALF), LOSS, tick=3600)
    rollout = registry.start_rollout("m", "2", policy, reason="try")
    with mk.Rollout(registry, "m", threads=1) as served:
        for key in ("k1", "k1", "k2", None):
            served.predict(X[:1], key=key)
    shelf = registry.shelf("m", rollout)
    (process,) = shelf.folders("counts")
    counts = json.loads(shelf.read(f"counts/{process}/0000000001"))["counts"]
    assert [arm for _, arm in counts["keys"]] == [False, False]
    assert counts["calls"] == [0, 0]  # none was drawn


# Losses in an order that goes by the loss.


@pytest.mark.parametrize("order", [lambda loss: loss, lambda loss: -loss])
def test_a_file_that_is_sorted_by_its_losses_promotes_nothing(registry, order):
    """In it, every loss would be compared with others that are as large."""
    rng = np.random.default_rng(0)
    rollout = registry.start_rollout("m", "2", POLICY, reason="try")
    with mk.Rollout(registry, "m", threads=1, poll=3600) as served:
        arms = {f"k{i}": served.predict(X[:1], key=f"k{i}")[0] > 1.5 for i in range(2000)}
    outcomes = [(key, float(rng.random() < (0.25 if arm else 0.1))) for key, arm in arms.items()]
    post_outcomes(registry, "m", sorted(outcomes, key=lambda outcome: order(outcome[1])))
    shared = SharedCounts(registry.shelf("m", rollout), "reader")
    evidence = LossEvidence(LOSS[0], 0.01, (HALF,))
    for _ in range(2):
        while (found := shared.next_sum()) is not None:
            evidence.tick(HALF, found.counts)
        shared.add_up(1.0)
    weighed = evidence.weighed()
    assert weighed.void == ""
    assert weighed.worse > np.log(100) > weighed.better


def test_losses_of_one_tick_may_come_in_any_order():
    rng = np.random.default_rng(0)
    keys = [(int(key), key < 1 << 63) for key in rng.integers(0, 1 << 64, 2000, dtype=np.uint64)]
    told = [Posted(float(rng.random() < 0.1 + 0.15 * arm), key) for key, arm in keys]
    found = []
    for losses in (told, sorted(told, key=lambda posted: posted.loss)):
        evidence = LossEvidence(LOSS[0], 0.01, (HALF,))
        evidence.tick(HALF, Counts(keys=tuple(keys), posted=tuple(losses)))
        found.append(evidence.weighed())
    assert found[0] == found[1]
    assert found[0].worse > np.log(100)


# What is told at the wrong moment, or to the wrong process.


def test_what_is_told_while_a_stage_ends_counts(clock):
    """Whoever hears of a decision may take a while, in which labels come."""
    rollout = mk.Rollout(model(1), model(2), stages=STAGES, guards=LOSS, seed=0)
    keys = [f"k{i}" for i in range(50)]
    for key in keys:
        who(rollout, key)
    told = []

    def listen(event):
        told.extend(rollout.outcome(key, 0.5) for key in keys)

    stop = events.subscribe(listen, events.Decided)
    clock.go(10)
    assert rollout.status().stage == 2
    stop()
    assert told == [True] * 50
    clock.go(10)
    rollout.status()
    (evidence,) = rollout._switch.course.trial.evidence
    assert sum(evidence._labels[0]) == 50


def test_a_function_says_where_it_cannot_count(registry):
    registry.start_rollout("m", "2", POLICY, reason="try")
    with (
        mk.Rollout(registry, "m", threads=1) as answers,
        mk.Rollout(registry, "m", threads=1) as is_told,
    ):
        answers.predict(X[:1], key="k")
        assert not is_told.outcome("k", lambda outputs: 0.5)
        notes = is_told.status().notes
        assert notes[0].startswith("1 losses left out: a function needs the outputs, which this")
        assert answers.outcome("k", lambda outputs: 0.5)
        assert not answers.outcome("k", 0.5)  # again
        assert answers.status().notes == ()


def test_in_shadow_a_number_says_that_it_does_not_count_in_any_process(registry):
    policy = mk.RolloutPolicy((SHADOW, HALF), LOSS, tick=3600)
    registry.start_rollout("m", "2", policy, reason="try")
    with mk.Rollout(registry, "m", threads=1) as is_told:
        assert not is_told.outcome("of another process", 0.5)
        assert "in shadow both answered" in is_told.status().notes[0]


def test_a_function_for_a_call_that_was_not_shadowed_does_not_count(monkeypatch):
    monkeypatch.setattr("modelkit.lifecycle.rollout.shadow.MOST_WAITING", 0)
    rollout = mk.Rollout(model(1), model(2), shadow=SHADOW, share=0.5, guards=LOSS)
    assert who(rollout, "k") == 1
    assert not rollout.outcome("k", lambda outputs: 0.5)
    assert "1 losses left out: no answer to their keys is known" in rollout.status().notes


def test_where_nothing_is_registered_that_is_said(registry, tmp_path):
    for where, name in ((registry, "other"), (mk.Registry(tmp_path / "nowhere"), "m")):
        with pytest.raises(mk.errors.NotFound):
            post_outcomes(where, name, [("k", 0.5)])


def test_a_post_makes_nothing_where_the_registry_was_removed(registry, tmp_path):
    registry.start_rollout("m", "2", POLICY, reason="try")
    (tmp_path / "models").rename(tmp_path / "elsewhere")
    with pytest.raises(mk.errors.RegistryError, match="was removed"):
        post_outcomes(registry, "m", [("k", 0.5)])
    assert not (tmp_path / "models").exists()


def test_refresh_says_that_a_rollout_ended(registry):
    registry.start_rollout("m", "2", POLICY, reason="try")
    with mk.Rollout(registry, "m", threads=1, poll=3600) as served:
        underway = registry.state("m").rollout
        registry.decide_rollout("m", underway, "rollback", reason="elsewhere")
        assert served.refresh()
        assert not served.refresh()


def test_it_is_said_that_no_more_keys_are_remembered(monkeypatch):
    monkeypatch.setattr("modelkit.lifecycle.rollout.labels.MOST_KEYS", 10)
    evidence = LossEvidence(LOSS[0], 0.01, STAGES)
    for stage, first in ((0, 0), (1, 6)):
        assert not evidence.full
        keys = tuple((key, False) for key in range(first, first + 6))
        evidence.tick(STAGES[stage], Counts(calls=ByArm(0, 6), keys=keys))
    assert evidence.full


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
    shelf = registry.shelf("m", rollout)
    (process,) = shelf.folders("counts")
    counts = json.loads(shelf.read(f"counts/{process}/0000000001"))["counts"]
    assert len(counts["labels"]) == 1
    assert "posted" not in counts


# Over HTTP.


def test_two_rollouts_of_two_models_in_one_app_take_their_own_losses():
    rollouts = {
        name: mk.Rollout(model(at), model(at + 1), share=0.5, guards=LOSS, tick=0.02, seed=at)
        for at, name in ((1, "a"), (3, "b"))
    }
    with Client(mk.App(rollouts)) as client:
        for number in range(2000):
            for name, bad in (("a", 2), ("b", 0)):
                key = f"k{number}"
                body = {"inputs": {"X": ROWS.tolist()}, "key": key}
                answer = client.post(f"/models/{name}/predict", json=body).json()
                loss = 0.9 if answer["outputs"]["who"][0] == bad else 0.1
                client.post(f"/models/{name}/outcome", json={"key": key, "loss": loss})
            if not rollouts["a"].under_way:
                break
        answer = client.post("/models/a/outcome", json={"key": key, "loss": 0})
        assert answer.status == 409
        assert (
            client.post("/models/b/outcome", json={"key": "?", "loss": 0}).json()["left_out"] == 1
        )
    assert rollouts["a"].status().decision == "rollback"
    assert rollouts["b"].status().decision != "rollback"


@pytest.mark.parametrize(
    "body",
    [
        b'{"key": "k", "loss": 1e400}',
        b'{"key": "k", "loss": ' + b"1" * 5000 + b"}",
        b'{"key": "\\ud800", "loss": 0}',
        b'{"outcomes": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"outcomes": null}',
        b'{"outcomes": [[]]}',
        b'{"outcomes": [{"key": "k", "loss": 0, "key": "l"}]}',
        b'{"KEY": "k", "loss": 0}',
        b"null",
        b"",
        b"\xff\xfe",
    ],
)
def test_hostile_bodies_are_refused_whole(body):
    rollout = mk.Rollout(model(1), model(2), share=0.5, guards=LOSS)
    with Client(mk.App({"m": rollout})) as client:
        headers = {"content-type": "application/json"}
        answer = client.request("POST", "/models/m/outcome", body=body, headers=headers)
    assert answer.status == 400
    assert rollout.status().notes == ()


# Threads that two arms share.


class Stubborn(mk.Wrapper):
    """Hands on how many threads to use, and then fails, once."""

    fails = True

    def _use_threads(self, threads):
        super()._use_threads(threads)
        if type(self).fails:
            type(self).fails = False
            raise MemoryError("no room")


def test_threads_are_given_back_where_a_layer_fails_in_the_middle(registry):
    with mk.Rollout(registry, "m", wrap=Stubborn, poll=3600, threads=4) as rollout:
        registry.start_rollout("m", "2", POLICY, reason="try")
        with pytest.raises(MemoryError):
            rollout.refresh()
        assert not rollout.under_way
        assert rollout.placement.threads == 4
        assert rollout.refresh()
        assert [each.placement.threads for each in rollout.models] == [2, 2]
