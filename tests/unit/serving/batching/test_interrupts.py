"""What an exception of the application's signal handlers does to a Batcher: it goes to whoever was interrupted."""

import asyncio
import gc
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from helpers.batchers import PLANS, ROOM, model_of, row, steady, wait_until

import modelkit as mk
from modelkit.errors import BatchError
from modelkit.lifecycle.rollout.outcomes import AnsweredIn, Outcomes
from modelkit.serving.batching.interrupts import is_interrupt
from modelkit.serving.batching.policy import PARALLEL, make_plan

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs signals")

SIGNATURE = mk.Signature(
    (mk.TensorSpec("x", "float32", ("n", 2)),), (mk.TensorSpec("y", "float32", ("n", 2)),)
)
# Threads wait for each other, and event loops for threads.
SLOW = make_plan(((1, 3e-3), (8, 4e-3)), 1, 8)
ON_LOOP = PLANS["on the loop"]
AT_ONCE = PLANS[PARALLEL]


class SoftTimeLimit(Exception):  # as Celery names its own
    pass


class HardStop(BaseException):
    pass


KINDS = (SoftTimeLimit, HardStop, SystemExit, KeyboardInterrupt)


class Handler:
    """Handlers in the forms that there are, all of which raise."""

    def __init__(self, raised):
        self.raised = raised

    def method(self, signum, frame):
        raise self.raised

    __call__ = method

    def helped(self, *_):
        self.fail()

    def fail(self):
        raise self.raised

    def without_its_frame(self, signum, frame):
        del signum, frame
        self.fail()

    def only_once(self, signum, frame):
        signal.signal(signum, signal.SIG_DFL)
        raise self.raised


FORMS = {
    "function": lambda handler: lambda signum, frame: handler.fail(),
    "any arguments": lambda handler: lambda *arguments: handler.fail(),
    "method": lambda handler: handler.method,
    "object": lambda handler: handler,
    "partial": lambda handler: partial(handler.helped, 1),
    "without its frame": lambda handler: handler.without_its_frame,
    "only once": lambda handler: handler.only_once,
}


@pytest.fixture
def install():
    """Install a handler of SIGUSR1 until the test is over."""
    before = signal.getsignal(signal.SIGUSR1)
    yield partial(signal.signal, signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def interrupt():
    os.kill(os.getpid(), signal.SIGUSR1)
    threading.Event().wait(ROOM)  # until the signal comes


def batcher_of(fn, plan, **options):
    model = mk.FunctionModel(fn, SIGNATURE, batchable=True)
    return steady(mk.Batcher(model, plan=plan, **options))


# Telling them apart.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_an_exception_of_a_signal_handler_is_known(install, form, kind):
    raised = kind()
    install(FORMS[form](Handler(raised)))
    with pytest.raises(kind) as caught:
        interrupt()
    assert caught.value is raised
    assert is_interrupt(raised)


@pytest.mark.parametrize("error", [SoftTimeLimit(), SystemExit(), asyncio.CancelledError()])
def test_an_exception_of_the_model_is_none(error):
    def model(x):
        raise error

    with pytest.raises(type(error)):
        model(1)
    assert not is_interrupt(error)


def test_what_a_model_makes_of_the_exception_of_a_handler_counts_as_that(install):
    def model():
        try:
            interrupt()
        except SoftTimeLimit as error:
            raise RuntimeError("the model was disturbed") from error

    install(Handler(SoftTimeLimit()))
    with pytest.raises(RuntimeError) as caught:
        model()
    assert is_interrupt(caught.value)


def test_a_model_that_fails_for_a_caller_who_was_interrupted_before_just_fails(install):
    def run():
        try:
            raise RuntimeError("the model failed")
        except RuntimeError as error:
            return is_interrupt(error)

    install(Handler(SoftTimeLimit()))
    try:
        interrupt()
    except SoftTimeLimit:
        assert not run()


def test_another_thread_is_never_interrupted():
    def run():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            return is_interrupt(error)

    assert run()
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(run).result(ROOM)


# Who gets what.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plan", [SLOW, AT_ONCE])
def test_a_main_thread_that_is_interrupted_in_its_own_run_gets_the_exception_itself(
    install, plan, kind
):
    def fn(feeds):
        if threading.current_thread() is threading.main_thread() and not stopped:
            stopped.append(True)
            interrupt()
        return {"y": feeds["x"]}

    stopped = []
    raised = kind()
    install(Handler(raised))
    with batcher_of(fn, plan) as batcher:
        for _ in range(2):  # the same instance once more
            stopped.clear()
            with pytest.raises(kind) as caught:
                batcher.predict(row(1))
            assert caught.value is raised
        assert batcher.predict(row(1))[0, 0] == 1
        assert batcher.stats().failed == 0
        assert batcher._scheduler.active == batcher._scheduler.running == 0


def test_the_main_thread_runs_no_rows_of_others():
    """Whatever waits beside its own, and whoever came first."""

    def fn(feeds):
        if threading.current_thread() is threading.main_thread():
            in_main.extend(feeds["x"][:, 0].tolist())
        return {"y": feeds["x"]}

    def others():
        while not over.is_set():
            assert batcher.predict(row(1))[0, 0] == 1

    in_main, over = [], threading.Event()
    with batcher_of(fn, SLOW) as batcher, ThreadPoolExecutor(4) as pool:
        running = [pool.submit(others) for _ in range(4)]
        for _ in range(2000):
            assert batcher.predict(row(7))[0, 0] == 7
        over.set()
        for future in running:
            future.result(ROOM)
    assert set(in_main) <= {7.0}


@pytest.mark.parametrize("kind", [SoftTimeLimit, HardStop])
@pytest.mark.parametrize("plan", [ON_LOOP, AT_ONCE])
@pytest.mark.parametrize("deadline", [None, ROOM])
def test_an_interrupted_event_loop_answers_everybody_and_reports_the_exception(
    install, deadline, plan, kind
):
    async def main():
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context["exception"])
        )
        return await asyncio.gather(
            *(batcher.apredict(row(value), deadline=deadline) for value in range(5))
        )

    def fn(feeds):
        if threading.current_thread() is threading.main_thread() and not stopped:
            stopped.append(True)
            interrupt()
        return {"y": feeds["x"]}

    stopped, reported, raised = [], [], kind()
    install(Handler(raised))
    with batcher_of(fn, plan) as batcher:
        got = asyncio.run(main())
    assert [float(y[0, 0]) for y in got] == [0, 1, 2, 3, 4]
    assert stopped
    assert reported == [raised]


def test_an_interrupted_run_of_urgent_calls_leaves_the_plain_rows_of_its_tick_answered(install):
    """They waited for the next tick, which need not come."""

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        urgent = [batcher.apredict(row(value), deadline=ROOM) for value in range(3)]
        plain = [batcher.apredict(row(value)) for value in range(3, 6)]
        async with asyncio.timeout(ROOM):
            return await asyncio.gather(*urgent, *plain)

    def fn(feeds):
        if threading.current_thread() is threading.main_thread() and not stopped:
            stopped.append(True)
            interrupt()
        return {"y": feeds["x"]}

    stopped, reported, raised = [], [], SoftTimeLimit()
    install(Handler(raised))
    with batcher_of(fn, ON_LOOP) as batcher:
        got = asyncio.run(main())
    assert [float(y[0, 0]) for y in got] == [0, 1, 2, 3, 4, 5]
    assert reported == [raised]


# What a Future raises is not raised by `submit`.


@pytest.mark.parametrize("plan", [SLOW, AT_ONCE])
@pytest.mark.parametrize(
    "raised", [ArithmeticError("odd"), asyncio.CancelledError("odd"), SystemExit("odd")]
)
def test_submit_never_raises_what_its_future_does(plan, raised):
    def fn(feeds):
        raise raised

    with batcher_of(fn, plan) as batcher:
        errors = [batcher.submit(row(1)).exception(ROOM) for _ in range(2)]
    assert all(isinstance(error, ArithmeticError | BatchError) for error in errors)
    assert all("odd" in str(error) for error in errors)
    assert errors[0] is not errors[1]


def test_submit_passes_on_that_the_model_was_closed():
    model = mk.FunctionModel(lambda feeds: {"y": feeds["x"]}, SIGNATURE, batchable=True)
    with mk.Batcher(model, plan=AT_ONCE) as batcher:
        model.close()
        assert "the model was closed" in str(batcher.submit(row(1)).exception(ROOM))


# A handler, or a finalizer, that calls while its thread is in the middle of a step.


@pytest.mark.parametrize("options", [{}, {"stable_shapes": True, "max_rows": 8}], ids=str)
@pytest.mark.parametrize("plan", [SLOW, ON_LOOP, AT_ONCE], ids=lambda plan: plan.mode)
def test_whoever_interrupts_a_step_may_count_and_ask(plan, options):
    with batcher_of(lambda x: {"y": x["x"]}, plan, **options) as batcher:
        rows = [row(n) for n in range(20)]
        X = np.concatenate(rows)
        assert batcher.predict(rows[0]).tolist() == rows[0].tolist()
        with batcher._scheduler._lock:  # which all other threads wait for
            before = batcher.stats()
            assert batcher.predict(X).tolist() == X.tolist()
            assert batcher.submit(X).result(0).tolist() == X.tolist()
            assert batcher.stats().calls == before.calls + 2
        assert batcher.predict(rows[1]).tolist() == rows[1].tolist()
        stats = [batcher.stats() for _ in range(3)]
        assert [each.calls for each in stats] == [before.calls + 3] * 3


@pytest.mark.parametrize("ask", ["predict", "submit"])
@pytest.mark.parametrize("caller", ["main", "thread", "loop"])
def test_whoever_interrupts_a_run_with_the_only_slot_may_ask(install, ask, caller):
    """What interrupts the model, in its own thread, waits for no slot."""
    found = []

    def nested(*_):
        asked = batcher.submit(row(7)).result(0) if ask == "submit" else batcher.predict(row(7))
        found.append(asked.tolist())

    def model(x):
        if x["x"][0, 0] != 7:
            interrupt() if caller == "main" else nested()
        return {"y": x["x"]}

    def interrupt():
        os.kill(os.getpid(), signal.SIGUSR1)
        while not found:
            pass

    install(nested)
    with batcher_of(model, SLOW) as batcher:
        if caller == "main":
            assert batcher.predict(row(1)).tolist() == row(1).tolist()
        elif caller == "thread":
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(batcher.predict, row(1)).result(ROOM).tolist() == row(1).tolist()
        else:
            assert asyncio.run(batcher.apredict(row(1))).tolist() == row(1).tolist()
        assert found == [row(7).tolist()]
        assert batcher._scheduler.active == 0
        assert batcher.stats().calls == 2


def test_whoever_interrupts_a_call_that_waits_may_ask(install):
    """The main thread waits for the only slot, which another thread has until the handler is answered."""
    begun, answered = threading.Event(), threading.Event()

    def model(x):
        if x["x"][0, 0] == 1:
            begun.set()
            answered.wait(ROOM)
        return {"y": x["x"]}

    def nested(*_):
        assert batcher.predict(row(7)).tolist() == row(7).tolist()
        answered.set()

    install(nested)
    with batcher_of(model, SLOW) as batcher, ThreadPoolExecutor(2) as pool:
        first = pool.submit(batcher.predict, row(1))
        assert begun.wait(ROOM)

        def signal_when_it_waits():
            while not batcher.stats().queued:
                pass
            os.kill(os.getpid(), signal.SIGUSR1)
            while not answered.wait(0.1):  # Python sees a signal late that comes as a wait begins
                os.kill(os.getpid(), signal.SIGUSR1)

        pool.submit(signal_when_it_waits)
        assert batcher.predict(row(2)).tolist() == row(2).tolist()
        assert answered.is_set()
        assert first.result(ROOM).tolist() == row(1).tolist()


def test_whoever_interrupts_replicas_and_losses_may_ask_them():
    copies = [mk.FunctionModel(lambda x: {"y": x["x"]}, SIGNATURE) for _ in range(2)]
    replicas = mk.Replicas(copies)
    with replicas._lock:
        assert replicas.predict(row(3)).tolist() == row(3).tolist()
    assert [each.outstanding for each in replicas.replicas] == [0, 0]
    outcomes = Outcomes(seconds=60)
    with outcomes._lock:
        outcomes.answered(1, AnsweredIn(candidate=True, stage=0), {"y": row(1)})
        assert outcomes.take(1, by_function=False).served.candidate


# At any moment.


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signals")
@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, Exception])
def test_an_interrupt_at_any_moment_leaks_no_slot_and_loses_nobody(threads, kind):
    class Interrupt(kind):
        pass

    def interrupt(*_):
        raise Interrupt

    def others():
        while not over.is_set():
            assert batcher.predict(row(3)) == 6

    lost = 0
    over = threading.Event()
    draw = random.Random(0)
    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # hypothesis has it call a function, in which the interpreter ignores what a signal handler raises
    try:
        with mk.Batcher(model_of(), plan=make_plan(((1, 3e-3), (8, 4e-3)), 1, 8)) as batcher:
            with ThreadPoolExecutor(4) as pool:
                running = [pool.submit(others) for _ in range(threads)]
                for _ in range(400):
                    try:
                        signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-6, 3e-4))
                        end = time.monotonic() + ROOM
                        while time.monotonic() < end:
                            assert batcher.predict(row(1)) == 2
                        lost += 1
                    except Interrupt:
                        pass
                over.set()
                for future in running:
                    future.result(ROOM)
            scheduler = batcher._scheduler
            wait_until(lambda: scheduler.active == 0)
            assert (scheduler.running, scheduler.queue.waiting) == (0, 0)
            assert lost == 0
    finally:
        gc.enable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
