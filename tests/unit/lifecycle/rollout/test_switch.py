"""Which lineup answers is switched by one at a time, and what goes wrong beside a switch stops nothing."""

from __future__ import annotations

import errno
import threading
from dataclasses import replace

import numpy as np
import pytest
from helpers.encoders import tiny
from helpers.rollouts import COLUMNS, ROWS, SIGNATURE, ledger_on, model, until

import modelkit as mk
from modelkit import events
from modelkit.errors import UsageError
from modelkit.lifecycle.rollout.counts import ByArm, Counts, EventCounts

ERRORS = (mk.Guard("errors"),)
LOSS = (mk.Guard("loss", margin=0.02),)
POLICY = mk.RolloutPolicy((mk.RolloutStage(0.5, seconds=3600),), LOSS, tick=0.05)


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
        thread.join(60)
        assert not thread.is_alive()
    finally:
        unsubscribe()
    assert rollout.run(np.eye(3)).served_by.version == "1"
    assert registry.history("m")[-1].reason == "it does not look well"
    rollout.close()


def test_a_rollback_is_written_where_somebody_began_another_stage(registry):
    stages = (mk.RolloutStage(0.3, seconds=3600), mk.RolloutStage(0.5, seconds=3600))
    policy = mk.RolloutPolicy(stages, (mk.Guard("errors"),), tick=0.05)
    underway = registry.start_rollout("m", "2", policy, reason="try")
    rollout = mk.Rollout(registry, "m", poll=3600, threads=1)
    registry.decide_rollout("m", underway, "advance", reason="elsewhere")
    other = ledger_on(registry.rollout_folder("m", underway), "other")
    arms = ByArm(300, 700)
    other.post(0, Counts(arms, arms, events={"errors": EventCounts(plain=ByArm(300, 0))}))
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
    other = ledger_on(registry.rollout_folder("m", underway), "other")
    other.post(0, Counts(arms, arms, events={"errors": EventCounts(plain=ByArm(300, 0))}))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "of 4711")

    with monkeypatch.context() as patched:
        patched.setattr(mk.Registry, "_write", full)
        until(lambda: not rollout.status().under_way and "No space left" in rollout.last_failure)
        assert registry.state("m").rollout is not None
    rollout.close()
    assert registry.history("m")[-1].about["decision"] == "rollback"


def test_refresh_says_that_a_rollout_ended(registry):
    registry.start_rollout("m", "2", POLICY, reason="try")
    with mk.Rollout(registry, "m", threads=1, poll=3600) as served:
        underway = registry.state("m").rollout
        registry.decide_rollout("m", underway, "rollback", reason="elsewhere")
        assert served.refresh()
        assert not served.refresh()


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
    with pytest.raises(UsageError, match=why):
        mk.Rollout(model(1), model(2, signature=signature), share=0.5)


def test_a_candidate_may_read_columns_that_the_champion_ignores():
    champion = model(1, signature=changed(ignored=("new",)))
    wide = with_columns(*COLUMNS, mk.Column("new"))
    candidate = mk.FunctionModel(
        lambda feeds: {"y": feeds["X"][:, 3], "who": np.full(len(feeds["X"]), 2)}, wide
    )
    rollout = mk.Rollout(
        champion, candidate, policy=mk.RolloutPolicy((mk.RolloutStage(1.0),), ERRORS)
    )
    rows = {name: ROWS[:, i] for i, name in enumerate(("c0", "c1", "c2"))}
    assert rollout.predict({**rows, "new": np.full(3, 7.0)}).tolist() == [7.0] * 3
    missing = mk.TensorSpec(
        "X", "float64", ("batch", 3), tuple(replace(c, nullable=True) for c in COLUMNS)
    )
    with pytest.raises(UsageError, match="no missing values"):
        mk.Rollout(model(1, signature=changed(inputs=(missing,))), model(2), share=0.5)


def test_an_array_is_not_read_as_other_columns():
    def signature(columns, ignored):
        spec = mk.TensorSpec("X", "float64", ("batch", 2), tuple(map(mk.Column, columns)))
        outputs = (mk.TensorSpec("y", "float64", ("batch",)),)
        return mk.Signature((spec,), outputs, primary="y", ignored=(ignored,))

    one = mk.FunctionModel(lambda feeds: {"y": feeds["X"][:, 1]}, signature("ab", "c"))
    other = mk.FunctionModel(lambda feeds: {"y": feeds["X"][:, 1]}, signature("ac", "b"))
    with pytest.raises(UsageError, match="would read an array"):
        mk.Rollout(one, other, share=0.5)


def test_an_encoder_with_other_prefixes_answers_for_no_other():
    """Texts get the prefix of the champion's role before an arm is chosen."""
    with (
        tiny(roles={"query": "a "}) as champion,
        tiny(roles={"query": "b "}) as other,
        tiny(roles={"query": "a "}, on_long="error") as like,
    ):
        with pytest.raises(UsageError, match=r"'b '.*, not by .*'a '"):
            mk.Rollout(champion, other, policy=POLICY)
        with mk.Rollout(champion, like, policy=POLICY) as rollout:
            assert rollout.under_way
