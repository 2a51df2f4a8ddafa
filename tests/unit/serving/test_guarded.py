"""A Guarded asks before anything else happens, and nothing leads around it."""

import asyncio
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.apps import SIGNATURE, summed
from helpers.records import hearing
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit import events
from modelkit.errors import AccessDenied, SignatureError, UsageError
from modelkit.model.identity import identity_of

X = np.array([[1.0, 2.0], [3.0, 4.0]])
VERBS = ("run", "predict", "arun", "apredict")


def only_billing(principal, action, about):
    return principal == "billing" or "only billing may"


def ask(model, verb, rows=X, **how):
    found = getattr(model, verb)(rows, **how)
    return asyncio.run(found) if verb.startswith("a") else found


class Counting(mk.Wrapper):
    """Counts whatever reaches it, by any of its hooks."""

    def __init__(self, inner):
        super().__init__(inner)
        self.reached = 0

    def _call(self, X, outputs, call):
        self.reached += 1
        return self.inner._call(X, outputs, call)

    async def _acall(self, X, outputs, call):
        self.reached += 1
        return await self.inner._acall(X, outputs, call)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, "billing", "Billing", "eve"]),
            st.sampled_from(VERBS),
            st.sampled_from([X, "no rows", None, np.ones((1, 9))]),
            st.sampled_from([{}, {"key": "k"}, {"deadline": 30.0}, {"priority": -1}]),
        ),
        max_size=12,
    )
)
@settings(deadline=None)
def test_a_call_reaches_what_is_inside_if_and_only_if_the_policy_allows_it(calls):
    """Also where its rows are wrong: who may not predict is not told what is wrong with them."""
    inside = Counting(mk.layered(summed(), batcher=False))
    guarded = mk.Guarded(inside, only_billing)
    allowed = 0
    before = inside.inner.totals()
    with hearing(events.Denied) as heard:
        for principal, verb, rows, how in calls:
            with mk.acting_as(principal):
                if principal != "billing":
                    with pytest.raises(AccessDenied, match="only billing may"):
                        ask(guarded, verb, rows, **how)
                    continue
                allowed += 1
                if rows is X:
                    found = ask(guarded, verb, rows, **how)
                    values = found["prediction"] if verb.endswith("run") else found
                    np.testing.assert_array_equal(values, [3.0, 7.0])
                else:
                    with pytest.raises(SignatureError):
                        ask(guarded, verb, rows, **how)
    assert inside.reached == allowed
    assert len(heard) == len(calls) - allowed
    after = inside.inner.totals()
    assert sum(after.calls.values()) - sum(before.calls.values()) == allowed


@pytest.fixture
def packaged(boosting_mk):
    with mk.load(boosting_mk, threads=1) as model:
        yield model


def refuse(principal, action, about):
    return False


def test_no_face_of_a_model_leads_around_it(packaged, breast_cancer):
    rows, y = breast_cancer
    guarded = mk.Guarded(mk.Meter(packaged), refuse)
    before = guarded.inner.totals()
    faces = [guarded, guarded.unobserved, guarded._for_key("k"), guarded.unobserved.unobserved]
    for model in faces:
        for verb in (*VERBS, "predict_proba", "apredict_proba"):
            with pytest.raises(AccessDenied):
                ask(model, verb, rows[:2])
        with pytest.raises(AccessDenied):
            model.score(rows[:9], y[:9])
        with pytest.raises(AccessDenied):
            mk.evaluate(model, rows[:60], y[:60])
    with pytest.raises(AccessDenied):
        mk.Profile.fit(rows, reference=rows, model=guarded)
    assert guarded.inner.totals() == before  # which other tests of this process counted


def test_texts_are_embedded_by_permission(encoder):
    with pytest.raises(AccessDenied):
        mk.embed(mk.Guarded(encoder, refuse), ["a text"])


def test_a_policy_learns_which_model_it_is_about(packaged, breast_cancer):
    asked = []

    def policy(*args):
        asked.append(args)
        return True

    guarded = mk.Guarded(mk.layered(packaged, batcher=False), policy)
    with mk.acting_as("billing"):
        guarded.predict(breast_cancer[0][:1])
        mk.Explainer(guarded, background=breast_cancer[0][:20]).explain(breast_cancer[0][:1])
    assert asked == [
        ("billing", action, identity_of(packaged)) for action in ("predict", "explain")
    ]


def test_of_a_rollout_it_is_about_the_champion_of_the_moment(boosting, breast_cancer, tmp_path):
    rows = breast_cancer[0]
    models = []
    for version in ("1", "2"):
        mk.save(boosting, tmp_path / version, example=rows, name="m", version=version)
        models.append(mk.load(tmp_path / version, threads=1))
    asked = []

    def policy(principal, action, about):
        asked.append(about)
        return True

    rollout = mk.Rollout(*models, share=0.5)
    guarded = mk.Guarded(rollout, policy)
    guarded.predict(rows[:1])
    rollout.promote()
    guarded.predict(rows[:1])
    rollout.rollback()
    guarded._for_key("k").predict(rows[:1])
    assert asked == [identity_of(models[at]) for at in (0, 1, 0)]


def test_what_is_denied_is_no_event_of_an_arm():
    """The candidate would be rolled back for the errors of callers whom a policy denies."""
    policy = mk.RolloutPolicy((mk.RolloutStage(0.5),), (mk.Guard("errors", floor=0.05),), tick=1e-6)
    rollout = mk.Rollout(summed(), summed(), policy=policy, seed=0)
    guarded = mk.Guarded(rollout, only_billing)
    for number in range(200):
        with pytest.raises(AccessDenied):
            guarded.predict(X, key=str(number))
    with mk.acting_as("billing"):
        guarded.predict(X, key="one")
    progress = rollout.status()
    assert sum(progress.calls) == 1


def test_the_version_of_a_key_is_guarded_and_kept(numbered_packages):
    """What stays with one version of a Rollout asks too, and is that version."""
    models = [mk.load(numbered_packages / f"{n}.mk", threads=1) for n in (1, 2)]
    rollout = mk.Rollout(*models, share=0.5, seed=0)
    pinned = mk.Guarded(rollout, only_billing)._for_key("k")
    with pytest.raises(AccessDenied):
        pinned.predict(np.eye(3))
    with mk.acting_as("billing"):
        before = pinned.predict(np.eye(3))
        rollout.promote()
        np.testing.assert_array_equal(pinned.predict(np.eye(3)), before)


@pytest.mark.parametrize(
    "outer",
    [
        mk.Meter,
        mk.Batcher,
        mk.layered,
        lambda model: mk.layered(model, meter=False),
        lambda model: mk.Replicas([model]),
        lambda model: mk.Rollout(model, summed(), share=0.5),
        lambda model: mk.Rollout(summed(), model, share=0.5),
        lambda model: mk.Rollout(summed(), mk.Guarded(Counting(model), refuse), share=0.5),
    ],
)
def test_it_is_the_outermost_layer(outer):
    """Inside, its denials would count as errors, and threads of nobody would ask."""
    for guarded in (mk.Guarded(summed(), refuse), Counting(mk.Guarded(summed(), refuse))):
        with pytest.raises(UsageError, match=r"Guarded|Counting"):
            outer(guarded)


def test_a_monitor_goes_inside(packaged, breast_cancer):
    profile = mk.Profile.fit(breast_cancer[0])
    with pytest.raises(UsageError, match="Put Guarded outside"):
        mk.Monitor(mk.Guarded(packaged, refuse), profile)
    watched = mk.Monitor(packaged, profile)
    with pytest.raises(AccessDenied):
        mk.Guarded(watched, refuse).predict(breast_cancer[0])
    assert watched.detector.report().rows == 0


def test_a_batcher_is_not_asked(packaged, breast_cancer):
    with mk.Batcher(packaged) as batcher:
        with pytest.raises(AccessDenied):
            mk.Guarded(batcher, refuse).predict(breast_cancer[0][:1])
        assert batcher.stats().calls == 0


def test_callers_at_once_leave_the_traces_of_those_who_may(packaged, breast_cancer):
    """Threads and tasks of several principals through a Batcher, a Meter and a Rollout of two arms."""
    rows = breast_cancer[0]
    policy = mk.RolloutPolicy((mk.RolloutStage(0.5),), (mk.Guard("errors", floor=0.05),), tick=1e-6)
    with mk.Batcher(packaged) as one, mk.Batcher(packaged) as other:
        meter = mk.Meter(one)
        rollout = mk.Rollout(meter, other, policy=policy, seed=0)
        guarded = mk.Guarded(rollout, only_billing)
        before = meter.totals().calls
        names = ["billing", "eve", None, "billing"]

        def call(number):
            with mk.acting_as(names[number % 4]):
                try:
                    guarded.predict(rows[number : number + 1], key=str(number))
                except AccessDenied:
                    return False
            return True

        async def acall(number):
            with mk.acting_as(names[number % 4]):
                try:
                    await guarded.apredict(rows[number : number + 1], key=str(number))
                except AccessDenied:
                    return False
            return True

        async def together():
            return await asyncio.gather(*map(acall, range(200)))

        with ThreadPoolExecutor(8) as pool, hearing(events.Denied) as heard:
            found = [*pool.map(call, range(200)), *asyncio.run(together())]
        expected = [name == "billing" for name in names] * 100
        assert found == expected
        assert len(heard) == 200
        assert sum(rollout.status().calls) == 200
        after = meter.totals().calls
        metered = sum(after.values()) - sum(before.values())
        assert metered + other.stats().calls == 200
        assert one.stats().calls == metered


def test_two_policies_both_have_to_allow_it():
    def weekdays(principal, action, about):
        return "not today"

    for guarded in (
        mk.Guarded(mk.Guarded(summed(), only_billing), weekdays),
        mk.Guarded(mk.Guarded(summed(), weekdays), only_billing),
    ):
        with mk.acting_as("billing"):
            with pytest.raises(AccessDenied, match="not today"):
                guarded.predict(X)
            with pytest.raises(AccessDenied, match="not today"):
                guarded._check_access("outcome")
        with pytest.raises(AccessDenied):
            guarded._check_access("outcome")


def test_who_may_not_explain_gets_no_explanation(packaged, breast_cancer):
    rows = breast_cancer[0]

    def policy(principal, action, about):
        return action == "predict"

    guarded = mk.Guarded(packaged, policy)
    assert len(guarded.predict(rows[:1])) == 1
    for method in ("auto", "sampling"):
        explainer = mk.Explainer(guarded, background=rows[:20], method=method)
        with pytest.raises(AccessDenied, match="'explain'"):
            explainer.explain(rows[:1])


def test_who_may_explain_alone_may(packaged, breast_cancer):
    """Probes of a method are no calls of anybody; a policy that forbids predictions is not asked for them."""
    rows = breast_cancer[0]

    def policy(principal, action, about):
        return action == "explain"

    found = mk.Explainer(
        mk.Guarded(packaged, policy), background=rows[:20], method="sampling"
    ).explain(rows[:1])
    assert len(found.values) == 1


def test_it_pickles_with_a_policy_that_does(packaged, breast_cancer):
    rows = breast_cancer[0][:2]
    again = pickle.loads(pickle.dumps(mk.Guarded(packaged, only_billing)))
    with pytest.raises(AccessDenied):
        again.predict(rows)
    with mk.acting_as("billing"):
        np.testing.assert_array_equal(again.predict(rows), packaged.predict(rows))
    again.base.close()
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(mk.Guarded(packaged, lambda *_: True))


def test_what_is_no_model_or_policy_is_refused():
    with pytest.raises(TypeError, match="takes a Model"):
        mk.Guarded("churn.mk", refuse)
    with pytest.raises(TypeError, match="a policy is a function"):
        mk.Guarded(summed(), None)


def test_it_does_not_wait_for_awaits_that_were_denied():
    """The coroutine of what is inside is not even made, so none is left that was never awaited."""

    async def call():
        with pytest.raises(AccessDenied):
            await mk.Guarded(summed(), refuse).arun(X)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(call())


def test_it_has_the_face_of_what_it_wraps(packaged):
    guarded = mk.Guarded(packaged, refuse)
    assert guarded.signature == packaged.signature
    assert guarded.manifest is packaged.manifest
    assert mk.Guarded(summed(), refuse).signature == SIGNATURE
