"""Labels that come late to any process: each loss counts once, for the arm that answered its key."""

from __future__ import annotations

import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.client import Client
from helpers.rollouts import ledger_on, model, next_sum, until, who

import modelkit as mk
from modelkit import events
from modelkit.cli import main
from modelkit.errors import UsageError
from modelkit.lifecycle.rollout.counts import ByArm, Counts, Label, PostedLoss
from modelkit.lifecycle.rollout.guards import Guard
from modelkit.lifecycle.rollout.keyed import Keys
from modelkit.lifecycle.rollout.labels import PATIENT, KeysAnswered, LossEvidence
from modelkit.lifecycle.rollout.losses import post_outcomes
from modelkit.lifecycle.rollout.policy import RolloutStage
from modelkit.lifecycle.rollout.status import progress_afar
from modelkit.types import Limits

X = np.eye(3)
LOSS = (mk.Guard("loss", margin=0.02),)
HALF = mk.RolloutStage(0.5)
POLICY = mk.RolloutPolicy((mk.RolloutStage(0.5, seconds=3600),), LOSS, tick=0.05)
OUTCOME = "/models/m/outcome"
STAGES = (mk.RolloutStage(0.1, calls=1), mk.RolloutStage(0.9))


# What is joined with what; pure.


def test_a_loss_is_joined_with_the_answer_whichever_is_told_first():
    keys = KeysAnswered()
    assert keys.answered([(1, True)], 0) == []
    assert [*keys.join([PostedLoss(0.5, 1), PostedLoss(0.25, 2)])] == [Label(0.5, 1, True, 0)]
    assert keys.answered([(2, False)], 1) == [Label(0.25, 2, False, 1)]
    assert keys.answered([(1, True)], 1) == []  # in a second stage
    assert [*keys.join([PostedLoss(0.5, 1)])] == []
    assert [*keys.unchanged([Label(0.5, 1, True, 1), Label(0.5, 2, False, 1)])] == [
        Label(0.5, 2, False, 1)
    ]
    assert (keys.left_out, keys.unknown) == (2, 0)


def test_a_loss_waits_for_a_while_and_no_longer():
    keys = KeysAnswered()
    assert [*keys.join([PostedLoss(0.5, 1), PostedLoss(0.5, 2)])] == []
    for _ in range(PATIENT - 1):
        keys.answered([], 0)
    assert len(keys.answered([(1, True)], 0)) == 1
    keys.answered([], 0)
    assert keys.unknown == 1
    assert keys.answered([(2, True)], 0) == []


def test_what_waits_and_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr("modelkit.lifecycle.rollout.labels.MOST_KEYS", 10)
    keys = KeysAnswered()
    assert [*keys.join(PostedLoss(0.5, key) for key in range(15))] == []
    assert keys.unknown == 5
    assert len(keys.answered([(key, True) for key in range(20)], 0)) == 10
    assert keys.full
    assert [*keys.join([PostedLoss(0.5, 15)])] == []


def test_a_loss_that_two_processes_were_told_counts_once():
    evidence = LossEvidence(LOSS[0], Keys(), 0.01, (HALF,))
    keys = tuple((key, bool(key % 2)) for key in range(1000))
    labels = tuple(Label(0.9 * arm, key, arm, 0) for key, arm in keys)
    posted = tuple(PostedLoss(0.9 * arm, key) for key, arm in keys)
    evidence.tick(HALF, Counts(keys=keys, labels=labels, posted=posted))
    once = evidence.weigh()
    assert once.worse > np.log(100)
    evidence.tick(HALF, Counts(posted=posted, labels=labels))
    assert evidence.weigh() == once


def test_of_a_key_its_first_loss_counts():
    """2,000 losses of two keys are no more than two: the keys were drawn."""
    half = RolloutStage(0.5)
    evidence = LossEvidence(Guard("loss", margin=0.01), Keys(), 0.01, (half,))
    for _ in range(1000):
        labels = (Label(0.0, 1, candidate=False, stage=0), Label(1.0, 2, candidate=True, stage=0))
        evidence.tick(half, Counts(labels=labels))
    assert evidence.weigh().worse < 1


def test_keys_of_shadow_in_one_process_and_of_an_arm_in_another_are_left_out():
    for late in (False, True):
        keys = KeysAnswered()
        if not late:
            keys.answered_in_shadow([(1, False), (2, False)])
        keys.answered([(1, True), (3, True)], 1)
        if late:
            keys.answered_in_shadow([(1, False), (2, False)])
        told = [PostedLoss(0.5, key) for key in (1, 2, 3)]
        assert [*keys.join(told)] == [Label(0.5, 3, True, 1)]
        assert [*keys.unchanged([Label(0.5, 1, True, 1)])] == []
        assert (keys.left_out, keys.one_sided, keys.unknown) == (2, 1, 0)


def test_losses_of_one_tick_may_come_in_any_order():
    rng = np.random.default_rng(0)
    keys = [(int(key), key < 1 << 63) for key in rng.integers(0, 1 << 64, 2000, dtype=np.uint64)]
    told = [PostedLoss(float(rng.random() < 0.1 + 0.15 * arm), key) for key, arm in keys]
    found = []
    for losses in (told, sorted(told, key=lambda posted: posted.loss)):
        evidence = LossEvidence(LOSS[0], Keys(), 0.01, (HALF,))
        evidence.tick(HALF, Counts(keys=tuple(keys), posted=tuple(losses)))
        found.append(evidence.weigh())
    assert found[0] == found[1]
    assert found[0].worse > np.log(100)


def test_it_is_said_that_no_more_keys_are_remembered(monkeypatch):
    monkeypatch.setattr("modelkit.lifecycle.rollout.labels.MOST_KEYS", 10)
    evidence = LossEvidence(LOSS[0], Keys(), 0.01, STAGES)
    for stage, first in ((0, 0), (1, 6)):
        assert not evidence.keys.full
        keys = tuple((key, False) for key in range(first, first + 6))
        evidence.tick(STAGES[stage], Counts(calls=ByArm(0, 6), keys=keys))
    assert evidence.keys.full


# Processes that did not answer.


def test_any_service_takes_the_losses_of_another(registry):
    with (
        mk.Rollout(registry, "m", poll=1e-3, threads=1) as answers,
        mk.Rollout(registry, "m", poll=1e-3, threads=1) as is_told,
    ):
        registry.start_rollout("m", "2", POLICY, reason="try")
        until(lambda: answers.under_way and is_told.under_way)
        number = itertools.count()

        def decided():
            for _ in range(50):
                key = f"k{next(number)}"
                arm = answers.predict(X[:1], key=key)[0]
                taken = is_told.outcome(key, 0.2 if arm < 1.5 else 0.6)
                assert taken or not is_told.under_way
            answers.status()
            is_told.status()
            return registry.state("m").rollout is None

        until(decided)
        until(lambda: not (answers.refresh() or answers.under_way))
    assert registry.history("m")[-1].reason == "loss: the candidate is shown to be worse"


def test_what_was_told_before_a_service_ends_counts(registry):
    registry.start_rollout("m", "2", POLICY, reason="try")
    policy_tick_is_far = mk.RolloutPolicy(POLICY.stages, LOSS, tick=3600)
    registry.decide_rollout("m", registry.state("m").rollout, "rollback", reason="again")
    registry.start_rollout("m", "2", policy_tick_is_far, reason="try", force=True)
    with mk.Rollout(registry, "m", threads=1) as served:
        served.predict(X[:1], key="k")
        assert served.outcome("k", 0.5)
        assert served.outcome("of another process", 0.5)
    folder = registry.rollout_folder("m", registry.state("m").rollout)
    (process,) = folder.folders("counts")
    counts = json.loads(folder.read(f"counts/{process}/0000000001"))["counts"]
    assert [loss for loss, *_ in counts["labels"]] == [0.5]
    assert [loss for loss, _ in counts["posted"]] == [0.5]


@pytest.mark.parametrize("order", [lambda loss: loss, lambda loss: -loss])
def test_a_file_that_is_sorted_by_its_losses_promotes_nothing(registry, order):
    """In it, every loss would be compared with others that are as large."""
    rng = np.random.default_rng(0)
    rollout = registry.start_rollout("m", "2", POLICY, reason="try")
    with mk.Rollout(registry, "m", threads=1, poll=3600) as served:
        arms = {f"k{i}": served.predict(X[:1], key=f"k{i}")[0] > 1.5 for i in range(2000)}
    outcomes = [(key, float(rng.random() < (0.5 if arm else 0.1))) for key, arm in arms.items()]
    post_outcomes(registry, "m", sorted(outcomes, key=lambda outcome: order(outcome[1])))
    shared = ledger_on(registry.rollout_folder("m", rollout), "reader")
    evidence = LossEvidence(LOSS[0], Keys(), 0.01, (HALF,))
    for _ in range(2):
        while (found := next_sum(shared)) is not None:
            evidence.tick(HALF, found.counts)
        shared.add_up(1.0)
    weighed = evidence.weigh()
    assert weighed.void == ""
    assert weighed.worse > np.log(100) > weighed.better


def test_many_writers_of_losses_share_a_folder_and_lose_none(registry):
    rollout = registry.start_rollout("m", "2", POLICY, reason="try")
    with ThreadPoolExecutor(8) as pool:
        posts = [pool.submit(post_outcomes, registry, "m", [(f"k{i}", 0.5)]) for i in range(40)]
        assert [post.result() for post in posts] == [None] * 40
    folder = registry.rollout_folder("m", rollout)
    assert folder.folders("counts") == ["labels"]
    files = [
        json.loads(folder.read(f"counts/labels/{name}")) for name in folder.names("counts/labels")
    ]
    assert len({key for file in files for _, key in file["counts"]["posted"]}) == 40


def test_the_command_line_posts_what_services_add_up(registry, tmp_path, capsys):
    losses = tmp_path / "losses.csv"

    def post(*words):
        status = main(["rollout", registry.url, "outcome", "m", *words])
        out, err = capsys.readouterr()
        return status, out + err

    assert post("--key", "k", "--loss", "0") == (
        3,
        "modelkit: no rollout of m is under way, so no loss counts\n",
    )
    registry.start_rollout("m", "2", POLICY, reason="try")
    losses.write_text("key,loss\nk0,2\n")
    assert post(str(losses))[0] == 2
    losses.write_text("key,loss\nk0,\n")
    assert "column 'loss': missing value" in post(str(losses))[1]
    losses.write_text("customer,loss\nk0,1\n")
    assert "missing column 'key'" in post(str(losses))[1]
    losses.write_text("key,version,loss\nk0,1,1\n")
    assert "on the command line: --extra ignore" in post(str(losses))[1]
    losses.write_text("key,version,loss\nk0,1\n")
    assert "row 0 has 2 cells, and 3 are expected" in post(str(losses), "--extra", "ignore")[1]
    assert "leave out --key" in post(str(losses), "--key", "k")[1]
    assert "has --key and --loss" in post("--key", "k")[1]
    assert "from 0 to 1, not nan" in post("--key", "k", "--loss", "nan")[1]
    with mk.Rollout(registry, "m", poll=1e-3, threads=1) as rollout:
        answers = {f"k{i}": rollout.predict(X[:1], key=f"k{i}")[0] for i in range(2000)}
        told = [f"{0.2 if arm < 1.5 else 0.6},1.0,{key}" for key, arm in answers.items()]
        losses.write_text("loss,version,key\n" + "\n".join(told))
        words = (str(losses), "--extra", "ignore", "--json")
        assert post(*words) == (0, '{"posted": 2000}\n')
        assert post("--key", "k1", "--loss", "0")[1] == "1 posted\n"

        def decided():
            rollout.predict(X[:1])
            return registry.state("m").rollout is None

        until(decided)
    assert progress_afar(registry, "m").decision == "rollback"


def test_a_rollout_of_two_models_knows_all_of_its_keys():
    rollout = mk.Rollout(model(1), model(2), policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), LOSS))
    assert not rollout.outcome("never seen", 0.5)


def test_in_shadow_a_number_counts_for_nobody(registry):
    stages = (mk.RolloutStage(0, calls=10_000), mk.RolloutStage(0.5))
    registry.start_rollout("m", "2", mk.RolloutPolicy(stages, LOSS), reason="try")
    with mk.Rollout(registry, "m", threads=1) as rollout:
        assert rollout.under_way
        assert not rollout.outcome("of another process", 0.5)
        assert not rollout.outcome("of another process", lambda outputs: 0.5)
    with pytest.raises(UsageError, match="in shadow, where both answer"):
        post_outcomes(registry, "m", [("k", 0.5)])


def test_labels_count_for_the_stage_of_their_answer(clock):
    """Labels come a stage late, when the share is another."""
    guards = [mk.Guard("loss", margin=0.02)]
    stages = [mk.RolloutStage(0.05, seconds=15), mk.RolloutStage(0.5, seconds=9999)]
    rollout = mk.Rollout(model(1), model(2), policy=mk.RolloutPolicy(stages, guards), seed=0)
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


def test_what_is_told_while_a_stage_ends_counts(clock):
    """Whoever hears of a decision may take a while, in which labels come."""
    rollout = mk.Rollout(model(1), model(2), policy=mk.RolloutPolicy(STAGES, LOSS), seed=0)
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
    (evidence,) = rollout._switch.session.trial.evidence
    assert {sum(units) for units in evidence._split._units.values()} == {50}


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
        assert not [note for note in answers.status().notes if "left out" in note]


def test_a_rollout_without_a_guard_of_losses_takes_none(registry):
    policy = mk.RolloutPolicy((HALF,), (mk.Guard("errors"),))
    registry.start_rollout("m", "2", policy, reason="try")
    with pytest.raises(UsageError, match="no guard of the rollout of m 2 watches losses"):
        post_outcomes(registry, "m", [("k", 0.5)])


# Over HTTP.


@pytest.fixture
def client(registry):
    registry.start_rollout("m", "2", POLICY, reason="try")
    with (
        mk.Rollout(registry, "m", threads=1) as rollout,
        Client(mk.App({"m": rollout}, limits=Limits(rows=3))) as client,
    ):
        yield client


def test_losses_are_taken_one_by_one_and_together(client):
    row = {"inputs": {"X": X[:1].tolist()}, "key": "k1"}
    assert client.post("/models/m/predict", json=row).status == 200
    answer = client.post(OUTCOME, json={"key": "k1", "loss": 0.5})
    assert (answer.status, answer.json()["counted"], answer.json()["left_out"]) == (200, 1, 0)
    again = [{"key": "k1", "loss": 0.5}, {"key": "of another process", "loss": 1}]
    answer = client.post(OUTCOME, json={"outcomes": again})
    assert answer.json() == {"model_name": "m", "counted": 1, "left_out": 1}
    assert "model-version" not in answer.headers


JSON = {"content-type": "application/json"}
ONE = {"key": "k", "loss": 0.5}


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"key": "k"}, 400, "the loss of the outcome is null; send a number"),
        ({"key": 7, "loss": 0.5}, 400, "the key of the outcome is 7 (a number); send a string"),
        ({**ONE, "when": "now"}, 400, 'no field "when"'),
        ({**ONE, "loss": True}, 400, "is true (a boolean); send a number"),
        ({**ONE, "loss": 1.5}, 422, "is 1.5; send 0 (right) to 1"),
        ({"outcomes": [ONE], "key": "k"}, 400, 'no field "key"'),
        ({"outcomes": ONE}, 400, "outcomes are an object"),
        ({"outcomes": [ONE, 1]}, 400, "outcome 1 is 1 (a number)"),
        ({"outcomes": [ONE, {**ONE, "loss": -1}]}, 422, "the loss of outcome 1 is -1"),
        ({"outcomes": [ONE] * 4}, 413, "4 rows are more than the 3"),
        ([ONE], 400, "the body is a list"),
        (b'{"key": "k", "loss": 0.5, "loss": 0}', 400, "twice"),
        (b'{"key": "k", "loss": NaN}', 400, "JSON lacks NaN"),
    ],
)
def test_what_is_no_outcome_is_refused(client, body, status, told):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.request("POST", OUTCOME, body=data, headers=JSON)
    assert answer.status == status, answer.body
    assert told in answer.json()["error"]


def test_where_nothing_is_compared_no_loss_counts(registry, numbered_packages):
    with (
        mk.Rollout(registry, "m", threads=1) as rollout,
        mk.Rollout(model(1), model(2), share=0.5) as other,
        Client(mk.App({"m": rollout, "e": other, "p": str(numbered_packages / "1.mk")})) as client,
    ):
        for name, status, told in (
            ("m", 409, "no rollout of 'm' is under way here"),
            ("e", 409, "no guard watches losses"),
            ("p", 404, "'p' is not a Rollout"),
            ("x", 404, "there is no model 'x'"),
        ):
            answer = client.post(f"/models/{name}/outcome", json=ONE)
            assert answer.status == status
            assert told in answer.json()["error"]
        paths = client.get("/openapi.json").json()["paths"]
        assert OUTCOME in paths
        assert "/models/p/outcome" not in paths


def test_who_may_not_ask_may_not_tell(registry):
    registry.start_rollout("m", "2", POLICY, reason="try")
    with (
        mk.Rollout(registry, "m", threads=1) as rollout,
        Client(mk.App({"m": rollout}, auth=lambda headers: None)) as client,
    ):
        assert client.post(OUTCOME, json=ONE).status == 401
        assert client.get(OUTCOME).status == 405
