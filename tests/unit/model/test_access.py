"""Who asks, and that nothing but True is permission."""

import asyncio
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.records import hearing
from hypothesis import given
from hypothesis import strategies as st

import modelkit as mk
from modelkit import events
from modelkit.errors import AccessDenied, UsageError
from modelkit.model.access import check_access, check_policy, principal
from modelkit.types import Identity

ABOUT = Identity("churn", "1.1.0", "d" * 64)
NAMES = st.one_of(st.none(), st.text())


def policy_of(answer):
    return lambda principal, action, about: answer


@given(
    answer=st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(),
        st.lists(st.booleans()), st.builds(object), st.just(True).map(lambda _: check_access),
    ),
    name=NAMES,
)  # fmt: skip
def test_nothing_but_true_is_permission(answer, name):
    """1, 1.0, "yes" and [True] are not; what is denied is heard once, without what surrounds it."""
    with hearing(events.Denied) as heard, mk.acting_as(name):
        if answer is True:
            check_access(policy_of(answer), "predict", ABOUT)
            assert heard == []
            return
        with pytest.raises(AccessDenied) as caught:
            check_access(policy_of(answer), "predict", ABOUT)
    error = caught.value
    assert isinstance(error, PermissionError)
    assert error.errno is None
    assert (error.principal, error.action, error.about) == (name, "predict", ABOUT)
    [event] = heard
    assert (event.name, event.version, event.action) == ("churn", "1.1.0", "predict")
    assert event.principal == name
    if isinstance(answer, str) and answer.isprintable():
        assert event.reason == answer
        assert str(error).endswith(answer)
    for text in (str(error), str(event)):
        assert text.isprintable(), "a line break would look like another record of a log"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.about) == (str(error), ABOUT)


def test_what_an_async_policy_gives_is_no_permission():
    async def yes(*_):
        return True

    given_back = []

    def hidden(*_):
        given_back.append(yes())
        return given_back[0]

    with pytest.raises(AccessDenied, match="gave <class 'coroutine'> in place of True"):
        check_access(hidden, "predict", ABOUT)
    given_back[0].close()
    with pytest.raises(AccessDenied, match=r"gave <class 'numpy\.bool_?'> in place of True"):
        check_access(lambda *_: np.True_, "predict", ABOUT)


@pytest.mark.parametrize(
    "error", [KeyError("key of Eve"), PermissionError("never"), UsageError("no"), TimeoutError()]
)
def test_a_policy_that_fails_denies_and_its_text_stays_with_the_application(error):
    def policy(*_):
        raise error

    with hearing(events.Denied) as heard, pytest.raises(AccessDenied) as caught:
        check_access(policy, "load", ABOUT)
    assert caught.value.__cause__ is error
    assert heard[0].reason.startswith(f"the policy failed: {type(error).__name__}")
    assert "Eve" not in str(caught.value) + str(heard[0])


def test_an_interrupt_of_a_policy_is_no_denial():
    def policy(*_):
        raise KeyboardInterrupt

    with hearing(events.Denied) as heard, pytest.raises(KeyboardInterrupt):
        check_access(policy, "load", ABOUT)
    assert heard == []


def test_a_policy_is_a_plain_function_of_three():
    async def policy(*_):
        return True

    class Asked:
        async def __call__(self, *_):
            return True

    import functools

    for wrong in (policy, Asked(), functools.partial(policy, None)):
        with pytest.raises(TypeError, match="is async"):
            check_policy(wrong)
    with pytest.raises(TypeError, match="a policy is a function"):
        check_policy("billing")


@given(st.lists(NAMES, max_size=6))
def test_blocks_within_blocks_give_back_who_acted_before(names):
    def enter(left):
        before = principal()
        if left:
            with mk.acting_as(left[0]):
                assert principal() == left[0]
                enter(left[1:])
                assert principal() == left[0]
        assert principal() == before

    enter(names)
    assert principal() is None


def test_threads_and_tasks_act_for_themselves():
    """A thread begins with nobody, as the contexts of Python have it; a task with who made it."""
    both = threading.Barrier(2)

    def act(name):
        with mk.acting_as(name):
            both.wait(30)
            return principal()

    with mk.acting_as("outside"), ThreadPoolExecutor(2) as pool:
        assert [*pool.map(act, "ab")] == ["a", "b"]
        assert pool.submit(principal).result(30) is None

    async def task(name):
        with mk.acting_as(name):
            await asyncio.sleep(0)
            return principal()

    async def together():
        with mk.acting_as("outside"):
            made = asyncio.create_task(asyncio.to_thread(principal))
            found = await asyncio.gather(*map(task, "abc"))
            return [*found, await made]

    assert asyncio.run(together()) == ["a", "b", "c", "outside"]


def test_a_principal_is_a_text_or_none():
    for wrong in (b"billing", 7, True):
        with pytest.raises(TypeError, match="a principal is a text"), mk.acting_as(wrong):
            pass
    assert principal() is None
