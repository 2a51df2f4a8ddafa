"""A Rollout of two Models: who answers, what is counted, what is decided, and what no caller notices."""

from __future__ import annotations

import asyncio
import pickle
import weakref
from contextlib import suppress

import numpy as np
import pytest
from helpers.churn import X, run_keys
from helpers.client import Client
from helpers.rollouts import ROWS, SIGNATURE, Strict, fail, model, tick, until, who
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit import events
from modelkit.errors import ClosedError, Conflict, ModelkitError, UsageError
from modelkit.lifecycle.rollout.routing import hash_of
from modelkit.testing import check_model

ERRORS = (mk.Guard("errors"),)
SHADOW = mk.RolloutStage(0, calls=50)
HALF = mk.RolloutStage(0.5)
ONE_CALL = mk.RolloutStage(0.1, calls=1)
ROOM = 100  # seconds after which something hangs


def test_it_is_a_model():
    for stages in ((HALF,), (SHADOW, HALF)):
        rollout = mk.Rollout(model(1), model(1), policy=mk.RolloutPolicy(stages), seed=0)
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
    rollout = mk.Rollout(
        model(1),
        model(2),
        policy=mk.RolloutPolicy((ONE_CALL, mk.RolloutStage(0.4)), ERRORS),
        seed=3,
    )
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
    rollout = mk.Rollout(
        model(1), model(2, fail), policy=mk.RolloutPolicy((mk.RolloutStage(0.3),), ERRORS), seed=0
    )
    heard = []
    stop = events.subscribe(heard.append, events.Decided, events.Swapped)
    status = tick(rollout, clock, 100)
    stop()
    assert status.decision == "rollback"
    assert status.guards[0].worse >= status.guards[0].rolls_back_at
    assert {who(rollout) for _ in range(50)} == {1}
    assert [type(event) for event in heard] == [events.Decided]
    assert "rollback" in str(heard[0])
    with pytest.raises(UsageError, match="nothing to go back"):
        rollout.rollback()


def test_an_equal_candidate_is_promoted_and_can_be_taken_back(clock):
    guards = (mk.Guard("errors", floor=0.05),)
    champion, candidate = model(1), model(2)
    rollout = mk.Rollout(
        champion, candidate, policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), guards), seed=0
    )
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
    with pytest.raises(Conflict, match="no rollout"):
        rollout.promote()
    with pytest.raises(UsageError, match="follows no registry"):
        rollout.refresh()
    with pytest.raises(UsageError, match="two Models, or a Registry"):
        mk.Rollout(model(1), "churn", share=0.5)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(rollout)


def test_time_running_out_holds_and_never_promotes(clock):
    stage = mk.RolloutStage(0.5, calls=10**6)
    rollout = mk.Rollout(
        model(1), model(2), policy=mk.RolloutPolicy((stage,), ERRORS, horizon=60), seed=0
    )
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
    rollout = mk.Rollout(
        model(1),
        model(2),
        policy=mk.RolloutPolicy((mk.RolloutStage(0.1, calls=10), mk.RolloutStage(0.5))),
    )
    clock.go(3600)
    status = rollout.status()
    assert (status.decision, status.stage) == ("continue", 1)
    assert "10 calls of the candidate" in status.missing[0]


def test_with_rescue_the_champion_answers_what_the_candidate_fails_at(clock):
    for rescue in (False, True):
        rollout = mk.Rollout(
            model(1),
            model(2, fail),
            policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), ERRORS),
            rescue=rescue,
            seed=0,
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


def test_losses_late_twice_never_and_of_unknown_keys(clock):
    guards = (mk.Guard("loss", margin=0.05),)
    rollout = mk.Rollout(
        model(1),
        model(2),
        policy=mk.RolloutPolicy((ONE_CALL, mk.RolloutStage(0.9)), guards),
        seed=0,
    )
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
    for loss in ("0.5", None, np.array([0.5, 0.1])):
        with pytest.raises(TypeError, match="a loss is a number from 0 to 1, not"):
            rollout.outcome("u1", loss)
    with pytest.raises(UsageError, match="no guard watches losses"):
        mk.Rollout(model(1), model(2), share=0.5).outcome("a", 0.5)


def test_worse_losses_roll_back(clock):
    guards = (mk.Guard("loss", margin=0.05),)
    rollout = mk.Rollout(
        model(1), model(2), policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), guards), seed=0
    )
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

    rollout = mk.Rollout(
        model(1, broken),
        model(2, broken),
        policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), ERRORS),
        seed=0,
    )
    key = next(f"u{i}" for i in range(99) if who(rollout, f"u{i}") == 2)
    for _ in range(1000):
        with pytest.raises(RuntimeError):
            rollout.run(-1 - ROWS, key=key)
    clock.go(10)
    assert rollout.status().decision == "continue"


def test_close_ends_it_and_closes_nothing_that_was_handed_over():
    champion, candidate = model(1), model(2)
    rollout = mk.Rollout(
        champion, candidate, policy=mk.RolloutPolicy((SHADOW, mk.RolloutStage(0.5)))
    )
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
    rollout = mk.Rollout(
        model(1), model(2, fail), policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), ERRORS), seed=0
    )
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

            _call = None  # only the async verbs are called

            async def _acall(self, X, outputs, call):
                begun.set()
                await go_on.wait()
                return await self._inner._acall(X, outputs, call)

        rollout = mk.Rollout(
            Waiting(model(1)), model(2), policy=mk.RolloutPolicy((mk.RolloutStage(0.0001),), ERRORS)
        )
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


def test_nothing_of_the_old_ones_stays_in_memory():
    rollout = mk.Rollout(
        model(0), model(1), policy=mk.RolloutPolicy((SHADOW, mk.RolloutStage(0.5)), ERRORS)
    )
    rollout.run(ROWS, key="a")
    gone = []
    for number in range(50):
        gone.append(weakref.ref(rollout._active.now))
        rollout._switch.end(model(number))
        rollout.run(ROWS)
    assert all(each() is None for each in gone)


@pytest.mark.parametrize("kind", ["promote", "rollback", "close"])
@pytest.mark.parametrize("stages", [(HALF,), (SHADOW, HALF)])
def test_what_has_ended_keeps_no_model_and_no_answer(kind, stages):
    candidate = Strict(model(2))
    guards = (mk.Guard("loss", margin=0.1),)
    rollout = mk.Rollout(model(1), candidate, policy=mk.RolloutPolicy(stages, guards), seed=0)
    for i in range(20):
        rollout.run(ROWS, key=f"u{i}")
    session = rollout._switch.session
    if session.lineups.shadow is not None:
        assert session.lineups.shadow.wait(ROOM)
    getattr(rollout, kind)()
    if kind == "promote":
        rollout.rollback()  # by which the candidate answers no more
    gone = weakref.ref(candidate)
    del candidate
    until(lambda: gone() is None)  # the thread of the shadow may hold it for a moment
    assert session.losses.outcomes._answers == {}
    assert rollout.status().candidate is not None
    assert not rollout.outcome("u1", 0.5)


def test_who_listens_to_a_decision_may_end_the_rollout_first(clock):
    rollout = mk.Rollout(
        model(1), model(2), policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), ERRORS), seed=0
    )
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


def test_the_status_is_a_value_with_a_card_and_a_page(clock):
    stages = [mk.RolloutStage(0.2, calls=1), HALF]
    rollout = mk.Rollout(model(1), model(2), policy=mk.RolloutPolicy(stages, tick=1), seed=0)
    for _ in range(3):
        status = tick(rollout, clock, 100)
    assert status.stages == 2
    assert sum(status.calls) >= 200
    text = str(status)
    for word in ("candidate", "decision", "stage: 2 of 2", "errors", "missing"):
        assert word in text
    page = status.to_html()
    assert page.count("<svg") == len(status.guards)
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert pickle.loads(pickle.dumps(status)) == status


def test_errors_beside_the_calls_reach_no_caller(clock, monkeypatch):
    rollout = mk.Rollout(
        model(1), model(2), policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), ERRORS)
    )

    def broken():
        raise RuntimeError("a tick failed")

    monkeypatch.setattr(rollout._switch.session, "collect", broken)
    clock.go(10)
    assert who(rollout) in (1, 2)
    assert (rollout.failures, rollout.last_failure) == (1, "RuntimeError")
    assert "1 failures beside the calls" in rollout.status().notes[0]


def test_who_answered_within_a_rollout_within_a_rollout(registry):
    one, other, last = [registry.load("m", version, threads=1) for version in "123"]
    inner = mk.Rollout(one, other, share=0.999999, seed=1)
    rollout = mk.Rollout(inner, last, share=0.000001, seed=2)
    assert rollout.run(np.eye(3), key="k").served_by.version == "2"


def test_a_key_that_calls_seldom_counts_for_no_promotion_and_the_status_says_so(two):
    rollout = mk.Rollout(
        *two, policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), ERRORS, tick=1e-9), seed=0
    )
    run_keys(rollout, 100)
    told = "a key counts for a promotion once it has had 20 calls: 0 of 100 keys have"
    assert told in rollout.status().missing
    run_keys(rollout, 30, calls=19)
    assert any("30 of 100 keys have" in what for what in rollout.status().missing)
    run_keys(rollout, 100, calls=19)
    assert "a key counts" not in str(rollout.status())  # since all do


def test_customers_who_call_once_can_promote(two):
    guards = [mk.Guard("errors", floor=0.2)]
    rollout = mk.Rollout(
        *two,
        policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), guards, tick=1e-9, key_calls=1),
        seed=0,
    )
    run_keys(rollout, 400)
    assert rollout.status().decision == "promote"


@pytest.mark.parametrize("key", [7, 7.0, b"seven", np.int64(7)])
def test_a_key_that_is_no_text_is_refused_before_a_rollout_begins(two, key):
    with pytest.raises(TypeError, match=r"str\(customer\)"):
        two[0].predict(X[:1], key=key)


def test_a_rollout_without_traffic_gives_the_candidate_no_larger_share(two):
    stages = [mk.RolloutStage(share, seconds=1e-9) for share in (0.01, 0.05, 0.5)]
    rollout = mk.Rollout(*two, policy=mk.RolloutPolicy(stages, tick=1e-9))
    for _ in range(4):
        status = rollout.status()
    assert (status.decision, status.share) == ("continue", 0.01)
    assert status.missing == ("the candidate has had no call in this stage",)


def test_options_that_a_rollout_does_not_have(two, churn):
    with pytest.raises(TypeError, match=r"does not take stages; it takes policy=mk\.RolloutPolicy"):
        mk.Rollout(*two, stages=[0.1])
    for options in ({}, {"share": 0.1, "policy": mk.RolloutPolicy((HALF,))}):
        with pytest.raises(UsageError, match=r"either policy=.* or share="):
            mk.Rollout(*two, **options)
    with pytest.raises(TypeError, match=r"policy is a mk\.RolloutPolicy, not 'canary'"):
        mk.Rollout(*two, policy="canary")
    for seed in (1.5, True, "a"):
        with pytest.raises(TypeError, match="seed is a whole number or None"):
            mk.Rollout(*two, share=0.1, seed=seed)
    with pytest.raises(TypeError, match=r"does not take share: .*start_rollout\('churn'"):
        mk.Rollout(churn, "churn", share=0.1)
