"""A Rollout that follows a registry: hot swaps, canaries that begin in its log, and what goes wrong."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from helpers.rollouts import until
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit import events
from modelkit.cli import main
from modelkit.errors import (
    ClosedError,
    Conflict,
    IntegrityError,
    NotFound,
    PackageError,
    RegistryError,
    UntrustedError,
    UsageError,
)
from modelkit.lifecycle.rollout.session import Session
from modelkit.testing import check_model

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
QUICK = {"poll": 1e-4, "threads": 1}
GUARDS = (mk.Guard("errors", floor=0.05),)
POLICY = mk.RolloutPolicy(
    (mk.RolloutStage(0.5, calls=20), mk.RolloutStage(0.6, calls=20)), GUARDS, tick=1e-3
)
LONG = mk.RolloutPolicy((mk.RolloutStage(0.5, seconds=3600),), GUARDS)


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    for i, version in enumerate(("1", "2", "3")):
        model = LogisticRegression(C=1.0 + i).fit(X, Y)
        mk.save(model, folder / f"{version}.mk", example=X, name="churn", version=version)
    other = LogisticRegression().fit(X[:, :2], Y)
    mk.save(other, folder / "narrow.mk", example=X[:, :2], name="churn", version="narrow")
    for at, version in enumerate(("j", "k")):
        model = LogisticRegression(C=2.0 + at).fit(X, Y)
        path = folder / f"{version}.mk"
        mk.save(model, path, example=X, name="churn", version=version, format="joblib")
    return folder


@pytest.fixture
def registry(tmp_path, packages):
    registry = mk.Registry(tmp_path / "models")
    for version in ("1", "2", "3", "narrow"):
        registry.register(packages / f"{version}.mk")
    registry.set_alias("churn", "champion", "1", expected=None, reason="first")
    return registry


def served(rollout, key=None):
    return rollout.run(X[:2], key=key).served_by.version


def champion(registry, version, expected):
    registry.set_alias("churn", "champion", version, expected=expected, reason="test")


class Noting(mk.Wrapper):
    """Notes in which order its layers are closed."""

    __slots__ = ("closings", "name")

    def __init__(self, inner, name, closings):
        super().__init__(inner)
        self.name = name
        self.closings = closings

    def close(self):
        self.closings.append((self.name, self._inner.closed, self.manifest.version))


def test_it_is_a_model_and_follows_the_alias(registry):
    with mk.Rollout(registry, "churn", wrap=lambda m: mk.Meter(mk.Batcher(m)), **QUICK) as rollout:
        check_model(rollout, X[:5])
        assert rollout.manifest.version == "1"
        assert (rollout.name, rollout.version) == ("churn", "1")
        assert rollout.placement.threads == 1
        heard = []
        stop = events.subscribe(heard.append, events.Swapped)
        champion(registry, "2", "1")
        until(lambda: served(rollout) == "2")
        stop()
        assert rollout.manifest.version == rollout.version == "2"
        assert [(event.version, event.before_version) for event in heard] == [("2", "1")]
        assert (rollout.predict(X) == registry.load("churn", "2").predict(X)).all()
        assert asyncio.run(rollout.arun(X[:2])).served_by.version == "2"
        again = pickle.loads(pickle.dumps(mk.Rollout(registry, "churn", **QUICK)))
        assert served(again) == "2"
        again.close()


def test_what_answered_before_is_kept_warm_and_nothing_else(registry):
    closings = []
    loads = []
    stop = events.subscribe(lambda event: loads.append(event.version), events.Loaded)

    def wrap(model):
        return Noting(Noting(model, "inner", closings), "outer", closings)

    rollout = mk.Rollout(registry, "churn", wrap=wrap, **QUICK)
    champion(registry, "2", "1")
    assert rollout.refresh()
    assert not rollout.refresh()
    assert closings == []
    rollout.rollback("it was better")  # an assignment: nothing is loaded
    assert served(rollout) == "1"
    assert registry.aliases("churn")["champion"].version == "1"
    assert loads == ["1", "2"]
    champion(registry, "3", "1")
    rollout.refresh()
    until(lambda: len(closings) == 2)
    assert closings == [("outer", False, "2"), ("inner", False, "2")]
    rollout.close()
    stop()
    assert closings[2:] == [
        ("outer", False, "1"),
        ("inner", False, "1"),
        ("outer", False, "3"),
        ("inner", False, "3"),
    ]
    with pytest.raises(ClosedError):
        rollout.predict(X)
    with pytest.raises(ClosedError):
        rollout.refresh()


def test_an_alias_beside_the_champion_changes_nothing_during_a_rollout(registry):
    registry.start_rollout("churn", "2", LONG, reason="try")
    rollout = mk.Rollout(registry, "churn", poll=3600, threads=1)
    registry.set_alias("churn", "other", "3", expected=None, reason="beside it")
    assert not rollout.refresh()
    assert rollout.under_way
    rollout.close()


def test_without_keep_the_old_one_is_closed_by_its_last_call(registry):
    closings = []
    rollout = mk.Rollout(
        registry, "churn", wrap=lambda m: Noting(m, "m", closings), keep=0, **QUICK
    )
    held = rollout._active.now
    champion(registry, "2", "1")
    rollout.refresh()
    assert served(rollout) == "2"
    assert closings == []
    del held
    until(lambda: closings == [("m", False, "1")])
    with pytest.raises(NotFound, match="no version of churn answered here before"):
        rollout.rollback()
    rollout.close()


def test_a_load_that_fails_changes_nothing_and_says_so(registry):
    rollout = mk.Rollout(registry, "churn", **QUICK)
    heard = []
    stop = events.subscribe(heard.append, events.NotFollowed)
    champion(registry, "narrow", "1")
    until(lambda: served(rollout) == "1" and rollout.failures)
    assert "cannot answer in place of the champion" in rollout.last_failure
    assert heard[0].version == "narrow"
    for _ in range(100):  # it is not tried at every poll
        served(rollout)
    assert rollout.failures == 1
    with pytest.raises(UsageError, match="refuses rows"):
        rollout.refresh()
    champion(registry, "2", "narrow")
    until(lambda: served(rollout) == "2")
    blob = registry.version("churn", "3").digest
    path = f"{registry.url}/blobs/sha256/{blob}.mk"
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.seek(200)
        file.write(b"\0" * 50)
    champion(registry, "3", "2")
    with pytest.raises(PackageError):
        rollout.refresh()
    assert served(rollout) == "2"
    assert "narrow" not in rollout._source._opened
    stop()
    rollout.close()


@pytest.fixture
def pickled(registry, packages):
    """The digests of a version of a graph and of two of joblib, which are registered."""
    for version in ("j", "k"):
        registry.register(packages / f"{version}.mk")
    return [registry.version("churn", version).digest for version in ("1", "j", "k")]


def test_a_joblib_package_is_not_followed_and_the_error_says_what_to_do(registry, pickled):
    """Opening it runs code, and whoever sets an alias has not been trusted by this process."""
    rollout = mk.Rollout(registry, "churn", allow={"joblib"}, **QUICK)
    champion(registry, "j", "1")
    with pytest.raises(UntrustedError, match=r"churn j is a joblib package.*digest=\[") as caught:
        rollout.refresh()
    assert len(caught.value.missing) == 1
    assert served(rollout) == "1"
    rollout.close()
    for options in ({}, {"allow": {"joblib"}}, {"digest": pickled}):
        with pytest.raises(UntrustedError, match="churn j is a joblib package"):
            mk.Rollout(registry, "churn", **options, **QUICK)


def test_a_rollout_of_what_cannot_answer_in_place_of_the_champion_does_not_begin(registry):
    """It was under way for ever, and no process took part."""
    before = registry.generation("churn")
    with pytest.raises(UsageError, match="churn narrow cannot answer in place of the champion, 1"):
        registry.start_rollout("churn", "narrow", LONG, reason="try")
    assert (registry.state("churn").rollout, registry.generation("churn")) == (None, before)


@pytest.mark.parametrize("narrow", [False, True])
def test_nullable_lets_a_model_follow_that_takes_no_missing_values(tmp_path, narrow):
    registry = mk.Registry(tmp_path / "models")
    options = {"nullable": False} if narrow else {}
    pair = (HistGradientBoostingClassifier(max_iter=5), options), (LogisticRegression(), {})
    for number, (model, how) in enumerate(pair, 1):
        path = tmp_path / f"{number}.mk"
        mk.save(model.fit(X, Y), path, example=X, name="churn", version=str(number), **how)
        registry.register(path)
    registry.set_alias("churn", "champion", "1", expected=None, reason="the first")
    if narrow:
        registry.start_rollout("churn", "2", LONG, reason="try")
        with mk.Rollout(registry, "churn", **QUICK) as rollout:
            assert rollout.status().under_way
        return
    with pytest.raises(
        UsageError, match=r"no missing values in .*nullable=False\), or nullable=\["
    ):
        registry.start_rollout("churn", "2", LONG, reason="try")


def test_versions_of_the_digests_that_are_trusted_are_followed_and_no_other(registry, pickled):
    graph, first, second = pickled
    digests = [graph, f"sha256:{first.upper()}"]
    trusting = {"allow": {"joblib"}, "digest": digests, "poll": QUICK["poll"]}
    rollout = mk.Rollout(registry, "churn", **trusting)
    registry.start_rollout("churn", "j", LONG, reason="try")
    until(lambda: served(rollout) == "j")
    rollout.promote()
    assert (served(rollout), rollout.failures) == ("j", 0)
    pickle.loads(pickle.dumps(rollout)).close()
    heard = []
    stop = events.subscribe(heard.append, events.NotFollowed)
    registry.start_rollout("churn", "k", LONG, reason="try")
    with pytest.raises(IntegrityError, match=f"churn k has digest {second}, which is not among"):
        rollout.refresh()
    assert (heard[0].version, served(rollout), rollout.under_way) == ("k", "j", False)
    assert f"churn k has digest {second}" in rollout.last_failure
    champion(registry, "2", "j")  # nor a graph that is not in the list
    with pytest.raises(IntegrityError, match="churn 2 has digest"):
        rollout.refresh()
    stop()
    assert served(rollout) == "j"
    rollout.close()
    for nobody in ([], [second], second):
        with pytest.raises(IntegrityError, match="churn 2 has digest"):
            mk.Rollout(registry, "churn", **{**trusting, "digest": nobody})
    champion(registry, "k", "2")
    with mk.Rollout(registry, "churn", **{**trusting, "digest": second}) as other:
        assert served(other) == "k"


@pytest.mark.parametrize("on_trial", [False, True])
def test_a_registry_that_is_gone_is_told_and_the_champion_goes_on(registry, tmp_path, on_trial):
    """That looked like no news."""
    rollout = mk.Rollout(registry, "churn", **QUICK)
    if on_trial:
        policy = mk.RolloutPolicy(LONG.stages, GUARDS, tick=1e-3)
        registry.start_rollout("churn", "2", policy, reason="try")
        until(lambda: served(rollout) and rollout.under_way)
    heard = []
    stop = events.subscribe(heard.append, events.NotFollowed)
    gone = tmp_path / "gone"
    Path(registry.url).rename(gone)
    until(lambda: served(rollout) and rollout.failures and heard)
    assert "the log was removed, or replaced" in rollout.last_failure
    assert str(heard[0]).startswith("churn: the registry was not followed: RegistryError")
    assert "the log was removed" in " ".join(rollout.status().notes)
    for _ in range(100):
        assert served(rollout) in ("1", "2")
    assert len(heard) == 1  # it is not tried at every poll
    with pytest.raises(RegistryError, match="the log was removed"):
        rollout.refresh()
    rollout.close()
    assert not Path(registry.url).exists()  # nor made anew by what was counted
    stop()


@pytest.mark.parametrize("decision", ["promote", "rollback"])
def test_every_service_tells_of_a_decision_that_was_made_elsewhere(registry, decision):
    services = [mk.Rollout(registry, "churn", **QUICK) for _ in range(2)]
    registry.start_rollout("churn", "2", LONG, reason="try")
    for service in services:
        service.refresh()
    heard = []
    stop = events.subscribe(heard.append, events.Decided)
    words = ["rollout", registry.url, decision, "churn", "--reason", "a person says so"]
    assert main(words) == 0
    for service in services * 2:
        service.refresh()
        served(service)
    stop()
    told = [(each.decision, each.candidate, each.stage, each.reason) for each in heard]
    assert told == [(decision, "churn 2", 1, "a person says so")] * 2
    for service in services:
        service.close()


def test_going_back_is_always_possible(registry, tmp_path):
    """The old version takes no missing values, as the new one does: nobody else may take its place."""
    holes = X.copy()
    holes[0, 0] = np.nan
    model = HistGradientBoostingClassifier(max_iter=5).fit(holes, Y)
    mk.save(model, tmp_path / "4.mk", example=holes, name="churn", version="4")
    registry.register(tmp_path / "4.mk")
    rollout = mk.Rollout(registry, "churn", **QUICK)
    champion(registry, "4", "1")
    rollout.refresh()
    rollout.predict(holes)
    champion(registry, "2", "4")
    with pytest.raises(UsageError, match="takes no missing values"):
        rollout.refresh()
    champion(registry, "4", "2")
    rollout.refresh()
    rollout.rollback("it was better")
    assert served(rollout) == "1"
    rollout.close()


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (lambda model, other: None, r"returned None \(NoneType\)"),
        (lambda model, other: 7, r"returned 7 \(int\)"),
        (lambda model, other: other, "returned <OnnxModel churn 2"),
        (lambda model, other: mk.Meter(mk.Batcher(other)), "returned <Meter churn 2"),
        (lambda model, other: model.close() or model, "returned <OnnxModel churn 1"),
    ],
)
def test_layers_are_around_the_model_that_was_opened(registry, gives, told):
    with registry.load("churn", "2", threads=1) as other:
        with pytest.raises(UsageError, match=f"an open Model around .* churn 1: .*{told}"):
            mk.Rollout(registry, "churn", wrap=lambda model: gives(model, other), **QUICK)
        assert not other.closed
        replicated = lambda model: mk.Meter(mk.Replicas([model, registry.load("churn", "1")]))  # noqa: E731
        with mk.Rollout(registry, "churn", wrap=replicated, **QUICK) as rollout:
            assert served(rollout) == "1"


def test_going_back_rolls_back_what_was_not_seen_yet_and_leaves_the_champion(registry):
    with mk.Rollout(registry, "churn", poll=3600, threads=1) as rollout:
        registry.set_alias("churn", "champion", "2", expected="1", reason="gate")
        assert rollout.refresh()
        registry.start_rollout("churn", "3", LONG, reason="try")
        rollout.rollback("orders went down")
        state = registry.state("churn")
        assert state.aliases["champion"].version == "2"
        assert state.rolled_back == {"3": "orders went down"}
        rollout.rollback("and before that too")
        assert registry.aliases("churn")["champion"].version == "1"


def test_without_calls_nothing_runs(registry):
    rollout = mk.Rollout(registry, "churn", **QUICK)
    served(rollout)
    until(lambda: not any(t.name.startswith("modelkit") for t in threading.enumerate()))
    champion(registry, "2", "1")
    assert not any(t.name.startswith("modelkit") for t in threading.enumerate())
    assert rollout.manifest.version == "1"
    rollout.close()


def test_no_champion_is_an_error(registry, packages):
    registry.register(packages / "1.mk")
    with pytest.raises(NotFound):
        mk.Rollout(registry, "other")
    with pytest.raises(UsageError, match="keep"):
        mk.Rollout(registry, "churn", keep=-1)


def test_keys_go_to_the_same_arm_in_every_service(registry):
    registry.start_rollout("churn", "2", LONG, reason="try it")
    one = mk.Rollout(registry, "churn", **QUICK)
    other = mk.Rollout(mk.Registry(registry.url), "churn", **QUICK)
    keys = [f"u{i}" for i in range(40)]
    arms = [served(one, key) for key in keys]
    assert set(arms) == {"1", "2"}
    assert arms == [served(other, key) for key in keys]
    one.close()
    other.close()


def test_a_rollout_of_the_log_runs_in_every_service(registry):
    one = mk.Rollout(registry, "churn", **QUICK)
    other = mk.Rollout(mk.Registry(registry.url), "churn", **QUICK)
    registry.start_rollout("churn", "2", POLICY, reason="try it")

    def over():
        for rollout in (one, other):
            served(rollout)
        return registry.state("churn").rollout is None

    until(over, "undecided")
    assert registry.aliases("churn")["champion"].version == "2"
    for rollout in (one, other):
        until(lambda rollout=rollout: served(rollout) == "2" and rollout.manifest.version == "2")
    entries = [entry for entry in registry.history("churn") if entry.kind != "named"]
    assert [entry.kind for entry in entries] == ["alias", "rollout", "decided", "decided"]
    assert [entry.about["decision"] for entry in entries[2:]] == ["advance", "promote"]
    worse, better = entries[-1].about["evidence"]["errors"]
    assert better >= np.log(100) > worse
    assert [entry.version for entry in registry.history("churn", "champion")] == ["1", "2"]
    one.close()
    other.close()


class Failing(mk.Wrapper):
    __slots__ = ()

    _acall = None  # only the sync verbs are called

    def _call(self, X, outputs, call):
        if self.manifest.version == "2":
            raise RuntimeError("version 2 is broken")
        return self._inner._call(X, outputs, call)


def test_a_worse_candidate_is_rolled_back_and_stays_so(registry):
    rollout = mk.Rollout(registry, "churn", wrap=Failing, rescue=True, **QUICK)
    registry.start_rollout("churn", "2", POLICY, reason="try it")
    until(lambda: served(rollout) and registry.state("churn").rolled_back)
    state = registry.state("churn")
    assert state.rollout is None
    assert "errors" in state.rolled_back["2"]
    assert {served(rollout) for _ in range(50)} == {"1"}
    assert rollout.status().decision == "rollback"
    with pytest.raises(Conflict, match="was rolled back"):
        registry.start_rollout("churn", "2", POLICY, reason="again")
    with pytest.raises(Conflict, match="force=True"):
        champion(registry, "2", "1")
    registry.start_rollout("churn", "2", POLICY, reason="it was the network", force=True)
    with pytest.raises(Conflict, match="under way"):
        registry.start_rollout("churn", "3", POLICY, reason="both")
    rollout.close()


def test_refresh_writes_a_rollback_that_was_decided_here(registry, monkeypatch):
    """The decision stops the candidate at once; the thread that writes it down may come later."""
    with monkeypatch.context() as late:
        late.setattr(Session, "write", lambda self, decision: None)
        rollout = mk.Rollout(registry, "churn", wrap=Failing, rescue=True, **QUICK)
        registry.start_rollout("churn", "2", POLICY, reason="try it")
        rollout.refresh()
        until(lambda: served(rollout) and not rollout.under_way)
        assert registry.state("churn").rollout is not None
    rollout.refresh()
    assert "errors" in registry.state("churn").rolled_back["2"]
    registry.start_rollout("churn", "3", POLICY, reason="the next one")
    rollout.close()


def test_which_rollouts_may_begin(registry, packages):
    with pytest.raises(Conflict, match="the champion already"):
        registry.start_rollout("churn", "champion", POLICY, reason="try")
    with pytest.raises(NotFound):
        registry.start_rollout("churn", "9", POLICY, reason="try")
    with pytest.raises(UsageError, match="a reason is needed"):
        registry.start_rollout("churn", "2", POLICY, reason=" ")
    registry.retire("churn", "3", reason="it leaks")
    with pytest.raises(Conflict, match="it leaks"):
        registry.start_rollout("churn", "3", POLICY, reason="try")
    bare = mk.Registry(registry.url + "-2")
    bare.register(packages / "1.mk")
    with pytest.raises(NotFound, match="needs a champion"):
        bare.start_rollout("churn", "1", POLICY, reason="try")
    underway = registry.start_rollout("churn", "2", POLICY, reason="try")
    with pytest.raises(UsageError, match="a decision is one of"):
        registry.decide_rollout("churn", underway, "perhaps", reason="?")


def test_by_hand_through_the_log(registry):
    rollout = mk.Rollout(registry, "churn", **QUICK)
    registry.start_rollout("churn", "2", LONG, reason="try")
    rollout.refresh()
    rollout.promote("it is good")
    assert served(rollout) == "2"
    assert registry.aliases("churn")["champion"].reason == "it is good"
    registry.start_rollout("churn", "3", LONG, reason="try")
    rollout.refresh()
    assert {served(rollout) for _ in range(50)} == {"2", "3"}
    rollout.rollback("no")
    assert {served(rollout) for _ in range(50)} == {"2"}
    assert registry.state("churn").rolled_back == {"3": "no"}
    with pytest.raises(Conflict, match="no rollout"):
        rollout.promote()
    rollout.close()


def test_whoever_moves_the_champion_ends_the_rollout(registry):
    rollout = mk.Rollout(registry, "churn", **QUICK)
    underway = registry.start_rollout("churn", "2", LONG, reason="try")
    rollout.refresh()
    champion(registry, "3", "1")
    rollout.refresh()
    assert {served(rollout) for _ in range(50)} == {"3"}
    with pytest.raises(Conflict, match="somebody else decided"):
        registry.decide_rollout("churn", underway, "promote", reason="late")
    rollout.close()


def test_of_two_that_decide_at_once_one_does(registry):
    for round_number in range(5):
        version, before = ("2", "1") if round_number % 2 == 0 else ("1", "2")
        underway = registry.start_rollout("churn", version, POLICY, reason="try")
        barrier = threading.Barrier(4)
        done = []

        def decide(number, underway=underway, barrier=barrier, done=done):
            mine = mk.Registry(registry.url)
            barrier.wait()
            with suppress(Conflict):
                mine.decide_rollout("churn", underway, "promote", reason=f"by {number}")
                done.append(number)

        threads = [threading.Thread(target=decide, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) == 1
        assert registry.aliases("churn")["champion"].version == version
        assert registry.history("churn")[-1].was == before


def test_a_rollout_is_part_of_the_state_that_an_entry_states(registry):
    underway = registry.start_rollout("churn", "2", POLICY, reason="try")
    state = registry.state("churn")
    assert state.rollout == underway
    assert mk.Registry(registry.url).state("churn") == state
    registry.decide_rollout("churn", underway, "advance", reason="on")
    moved = registry.state("churn")
    assert moved.rollout.stage == 1
    registry.decide_rollout("churn", moved.rollout, "rollback", reason="bad")
    ended = registry.state("churn")
    assert mk.Registry(registry.url).state("churn") == ended


def test_a_service_that_starts_later_joins_the_stage(registry):
    stages = (mk.RolloutStage(0.1, calls=1), mk.RolloutStage(0.9, seconds=3600))
    policy = mk.RolloutPolicy(stages, GUARDS)
    underway = registry.start_rollout("churn", "2", policy, reason="try")
    registry.decide_rollout("churn", underway, "advance", reason="on")
    with mk.Rollout(registry, "churn", **QUICK) as rollout:
        assert rollout.status().stage == 2
        answers = [served(rollout, f"u{i}") for i in range(100)]
        assert answers.count("2") > 70
