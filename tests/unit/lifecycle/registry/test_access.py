"""A Registry asks a policy for what leaves it and for who may answer; a Rollout asks once, and acts for nobody."""

import pickle

import numpy as np
import pytest
from helpers.records import hearing
from helpers.rollouts import registry_of_numbers, until
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit import events
from modelkit.errors import AccessDenied
from modelkit.model.access import principal

ROLES = {"reader": ("load",), "shipper": ("export",), "release": ("set_alias",)}
PRINCIPALS = [None, *ROLES]
POLICY = mk.RolloutPolicy((mk.RolloutStage(0.5),), (mk.Guard("errors", floor=0.05),), tick=1e-6)


def by_role(principal, action, about):
    return action in ROLES.get(principal, ())


class Noted:
    """A policy that notes who asked for what of which version."""

    def __init__(self):
        self.asked = []
        self.allows = True

    def __call__(self, principal, action, about):
        self.asked.append((principal, action, about.version))
        return self.allows


@pytest.fixture
def where(numbered_packages, tmp_path):
    return registry_of_numbers(numbered_packages, tmp_path / "models").url


VERBS = {
    "load": ("load", lambda registry: registry.load("m", threads=1).close()),
    "fetch": ("export", lambda registry: registry.fetch("m", "2")),
    "reference": ("export", lambda registry: registry.reference("m")),
    "set_alias": (
        "set_alias",
        lambda registry: registry.set_alias("m", "spare", "2", expected=None, reason="try"),
    ),
    "retire": ("set_alias", lambda registry: registry.retire("m", "3", reason="old")),
    "start_rollout": (
        "set_alias",
        lambda registry: registry.start_rollout("m", "2", POLICY, reason="try"),
    ),
    "a Rollout": ("load", lambda registry: mk.Rollout(registry, "m", threads=1).close()),
}


@pytest.mark.parametrize("verb", [*VERBS])
def test_each_verb_asks_for_its_action_and_leaves_no_trace_where_it_is_denied(where, verb):
    action, do = VERBS[verb]
    registry = mk.Registry(where, policy=by_role)
    before = registry.history("m")
    for name in PRINCIPALS:
        with mk.acting_as(name), hearing(events.Denied) as heard:
            if action in ROLES.get(name, ()):
                continue
            with pytest.raises(AccessDenied) as caught:
                do(registry)
        assert (caught.value.action, caught.value.principal) == (action, name)
        assert caught.value.about.name == "m"
        assert len(caught.value.about.digest) == 64
        assert len(heard) == 1
    assert registry.history("m") == before
    with mk.acting_as(next(name for name in ROLES if action in ROLES[name])):
        do(registry)


def test_without_a_policy_nobody_is_asked(where):
    for _, do in VERBS.values():
        do(mk.Registry(where))


def test_what_is_known_of_a_version_asks_nobody(where, numbered_packages):
    registry = mk.Registry(where, policy=by_role)
    assert registry.version("m").version == "1"
    assert len(registry.versions("m")) == 3
    assert registry.register(numbered_packages / "1.mk").version == "1"
    registry.keep("m", "1", "report.html", b"<p>")


def test_a_registry_travels_with_its_policy(where):
    again = pickle.loads(pickle.dumps(mk.Registry(where, policy=by_role)))
    with pytest.raises(AccessDenied):
        again.load("m")
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(mk.Registry(where, policy=lambda *_: True))
    with pytest.raises(TypeError, match="a policy is a function"):
        mk.Registry(where, policy="reader")


def test_a_rollout_asks_once_and_follows_for_nobody(where):
    """Whoever calls just then neither has to be allowed to load what comes, nor is who did it."""
    policy = Noted()
    registry = mk.Registry(where, policy=policy)
    with mk.acting_as("operator"), mk.Rollout(registry, "m", poll=1e-6, threads=1) as rollout:
        assert policy.asked == [("operator", "load", "1")]
        policy.allows = False
        elsewhere = mk.Registry(where)
        elsewhere.set_alias("m", "champion", "2", expected="1", reason="newer")
        with mk.acting_as("customer"):
            until(lambda: rollout.predict(np.eye(3))[0] == 2)
        elsewhere.set_alias("m", "champion", "3", expected="2", reason="newer")
        rollout.refresh()
        assert rollout.predict(np.eye(3))[0] == 3
        assert policy.asked == [("operator", "load", "1")]


def test_a_rollout_that_decides_by_its_counts_acts_for_nobody(where):
    """A customer's call weighs the evidence; the customer promotes nothing."""
    policy = Noted()
    registry = mk.Registry(where, policy=policy)
    short = mk.RolloutPolicy(
        (mk.RolloutStage(0.5, seconds=1e-3),), (mk.Guard("errors", floor=0.5),), tick=1e-6
    )
    registry.start_rollout("m", "2", short, reason="try")
    with mk.Rollout(registry, "m", poll=1e-6, threads=1) as rollout:
        policy.allows = False
        assert deciders(rollout) == {None}
    assert [action for _, action, _ in policy.asked] == ["set_alias", "load"]
    with (
        mk.Registry(where).load("m", "1") as champion,
        mk.Registry(where).load("m", "2") as candidate,
        mk.Rollout(champion, candidate, policy=short) as rollout,
    ):
        assert deciders(rollout) == {None}


def deciders(rollout):
    """For whom a rollout acts when it decides, while a customer calls."""
    acted = []
    stop = mk.events.subscribe(lambda event: acted.append(principal()), events.Decided)
    try:
        with mk.acting_as("customer"):
            until(lambda: rollout.predict(np.eye(3)) is not None and acted)
            assert principal() == "customer"
    finally:
        stop()
    return {*acted}


def test_who_promotes_or_rolls_back_by_hand_is_asked(where):
    policy = Noted()
    registry = mk.Registry(where, policy=policy)
    registry.start_rollout("m", "2", POLICY, reason="try")
    with mk.Rollout(registry, "m", poll=1e-6, threads=1) as rollout:
        policy.allows = False
        policy.asked.clear()
        with mk.acting_as("customer"):
            for decide in (rollout.promote, rollout.rollback):
                with pytest.raises(AccessDenied, match="'set_alias' for m 2"):
                    decide()
            with pytest.raises(AccessDenied):
                registry.decide_rollout("m", registry.state("m").rollout, "promote", reason="mine")
        assert registry.state("m").rollout is not None
        policy.allows = True
        with mk.acting_as("release"):
            rollout.promote()
        assert registry.version("m").version == "2"
        policy.allows = False
        with mk.acting_as("customer"), pytest.raises(AccessDenied):
            rollout.rollback()
        assert registry.version("m").version == "2"
        policy.allows = True
        rollout.rollback()
        assert registry.version("m").version == "1"
    assert policy.asked[-1] == (None, "set_alias", "1")


@given(
    st.lists(st.tuples(st.sampled_from(PRINCIPALS), st.sampled_from(["1", "2", "3"])), max_size=8)
)
@settings(deadline=None, max_examples=15)
def test_the_log_has_what_was_allowed_and_nothing_else(
    numbered_packages, tmp_path_factory, changes
):
    open_one = registry_of_numbers(numbered_packages, tmp_path_factory.mktemp("models"))
    registry = mk.Registry(open_one.url, policy=by_role)
    now = "1"
    count = len(open_one.history("m"))
    for name, version in changes:
        with mk.acting_as(name):
            if name != "release":
                with pytest.raises(AccessDenied):
                    registry.set_alias("m", "champion", version, expected=now, reason="r")
                continue
            registry.set_alias("m", "champion", version, expected=now, reason="r")
        count += 1
        now = version
    assert open_one.version("m").version == now
    assert len(open_one.history("m")) == count


def test_what_travels_asks_where_it_is_made_and_a_reference_before_it_leaves(where):
    """A worker acts for nobody: a Rollout asks again there, and what a reference opens asks nobody."""
    registry = mk.Registry(where, policy=by_role)
    with mk.acting_as("reader"), mk.Rollout(registry, "m", threads=1) as rollout:
        sent = pickle.dumps(rollout)
        with pickle.loads(sent) as again:
            assert again.predict(np.eye(3))[0] == 1
    with pytest.raises(AccessDenied):
        pickle.loads(sent)
    with mk.acting_as("shipper"):
        reference = pickle.dumps(registry.reference("m"))
    with mk.load(pickle.loads(reference), threads=1) as model:
        assert model.predict(np.eye(3))[0] == 1
    scorer = mk.Scorer(pickle.loads(reference))
    assert scorer({"x0": np.ones(2), "x1": np.zeros(2), "x2": np.zeros(2)})["prediction"][0] == 1
