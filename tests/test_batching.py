"""What a Batcher promises its callers, whoever else calls."""

import asyncio
import copy
import gc
import os
import random
import signal
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.batching.policy import BATCH, DIRECT, PARALLEL, make_plan
from modelkit.errors import (
    BatchError,
    ClosedError,
    DeadlineExceeded,
    OutputCountError,
    Overloaded,
    SignatureError,
)
from modelkit.testing import check_model

SIGNATURE = mk.Signature(
    (mk.TensorSpec("x", "float32", ("n", 2)),),
    (mk.TensorSpec("y", "float32", ("n", 1)), mk.TensorSpec("size", "int64", ("n",))),
    primary="y",
)
STRESS = int(
    os.environ.get("MODELKIT_STRESS", "200")
)  # calls of each of ten callers; and the seconds they may take
ROOM = 10  # seconds in which everything must be over; nothing here takes one
PLANS = {
    # A model that costs next to nothing: threads run at once, loops gather.
    PARALLEL: make_plan(((1, 5e-6), (64, 1e-5)), 2, 64),
    # One that is worth gathering, too slow for an event loop.
    BATCH: make_plan(((1, 3e-3), (8, 4e-3)), 2, 8),
    # One whose rows are no cheaper in company.
    DIRECT: make_plan(((1, 3e-3), (2, 6e-3), (4, 12e-3)), 2, 64),
    # One that an event loop runs by itself, but threads wait for.
    "on the loop": make_plan(((1, 1e-4), (16, 1.4e-4)), 2, 16),
}


def double(feeds):
    x = feeds["x"]
    return {"y": 2 * x[:, :1], "size": np.full(len(x), len(x))}


def row(value):
    return np.array([[value, -value]], np.float32)


class Gate:
    """A model that can be held up: it says when a run began, and goes on when it is let."""

    def __init__(self, fn=double):
        self.fn = fn
        self.began = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.sizes = []

    def __call__(self, feeds):
        self.began.release()
        assert self.go.acquire(timeout=ROOM)
        self.sizes.append(len(feeds["x"]))
        return self.fn(feeds)

    def open(self):
        for _ in range(1000):
            self.go.release()

    def began_one(self):
        assert self.began.acquire(timeout=ROOM)


def model_of(fn=double):
    return mk.FunctionModel(fn, SIGNATURE, batchable=True)


def one_slot(fn, **options):
    return steady(mk.Batcher(model_of(fn), plan=make_plan(((1, 3e-3), (8, 4e-3)), 1, 8), **options))


def steady(batcher):
    """A Batcher that keeps the plan it was given; the functions here take no time, which it would soon find out."""
    batcher._lane.planner.observe = lambda *_: False
    return batcher


@pytest.fixture(params=[*PLANS])
def plan(request):
    return PLANS[request.param]


def wait_until(condition):
    end = time.monotonic() + ROOM
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0)


def waiting(batcher, size):
    wait_until(lambda: batcher.stats().queued == size)


# It is a Model.


def test_a_batcher_keeps_the_contract_of_a_model(plan, boosting_mk, breast_cancer):
    model = mk.load(boosting_mk)
    with mk.Batcher(model, plan=plan) as batcher:
        check_model(batcher, breast_cancer[0][:40])
        assert batcher.inner is batcher.base is model
        assert batcher.signature is model.signature
        assert batcher.placement is model.placement
    model.predict(breast_cancer[0][:1])  # what is wrapped is not closed


def test_every_kind_of_model_keeps_the_contract(penguins_mk, penguins, dense_mk):
    with mk.Batcher(mk.load(penguins_mk)) as batcher:
        check_model(batcher, penguins[0][:30])


def test_a_plan_is_measured_from_the_golden_rows_and_says_why(boosting_mk):
    batcher = mk.Batcher(mk.load(boosting_mk), max_rows=64)
    assert [size for size, _ in batcher.plan.curve][:3] == [1, 2, 4]
    assert batcher.plan.cap <= 64
    assert "us alone" in batcher.plan.why
    assert mk.Batcher(mk.load(boosting_mk), plan=batcher.plan).plan is batcher.plan
    assert mk.Batcher(mk.load(boosting_mk), plan="learn").plan.curve == ()


def test_a_notebook_shows_the_plan(boosting_mk):
    batcher = mk.Batcher(mk.load(boosting_mk))
    assert batcher.plan.why in batcher._repr_html_()
    assert "placement" in batcher._repr_html_()


def test_a_model_without_golden_rows_is_learned_from_its_calls():
    with mk.Batcher(model_of()) as batcher:
        assert batcher.plan.curve == ()
        for value in range(20):
            batcher.predict(row(value))
        assert batcher.plan.curve


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_rows": 0}, "max_rows must be a positive integer, got 0"),
        ({"max_queue": 2.5}, "max_queue must be a positive integer, got 2.5"),
        ({"on_full": "drop"}, "on_full is"),
        ({"plan": "guess"}, "plan is"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mk.Batcher(model_of(), **options)


# What cannot be batched is refused, with the reason.


def test_a_function_that_was_not_said_to_be_batchable_is_refused():
    with pytest.raises(BatchError, match="batchable=True"):
        mk.Batcher(mk.FunctionModel(double, SIGNATURE))


def test_tensors_without_a_common_leading_dimension_are_refused():
    signature = mk.Signature(
        (mk.TensorSpec("x", "float32", ("n", 2)),), (mk.TensorSpec("y", "float32", (1,)),)
    )
    with pytest.raises(BatchError, match="lead with one named dimension"):
        mk.Batcher(mk.FunctionModel(double, signature, batchable=True))


def test_a_package_whose_rows_depend_on_their_batch_is_refused(tmp_path):
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "centred", ends[:1], ends[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    mk.save(proto, tmp_path / "centred.mk", name="centred", version="1")
    with pytest.raises(BatchError, match="rows DIFFER"):
        mk.Batcher(mk.load(tmp_path / "centred.mk"))


# Each caller gets its own answer.


def test_a_lone_call_runs_on_the_caller_s_thread(plan):
    threads = []

    def record(feeds):
        threads.append(threading.get_ident())
        return double(feeds)

    with mk.Batcher(model_of(record), plan=plan) as batcher:
        assert batcher.predict(row(3)) == 6
        assert threads == [threading.get_ident()]


@pytest.mark.parametrize("on", [PARALLEL, "on the loop"])
def test_a_loop_that_calls_one_at_a_time_runs_inline_and_one_that_calls_at_once_gathers(on):
    sizes, threads = [], set()

    def record(feeds):
        sizes.append(len(feeds["x"]))
        threads.add(threading.get_ident())
        return double(feeds)

    async def main():
        for value in range(5):
            assert await batcher.apredict(row(value)) == 2 * value
        alone = len(sizes)
        got = await asyncio.gather(*(batcher.apredict(row(value)) for value in range(60)))
        assert [float(y[0, 0]) for y in got] == [2 * value for value in range(60)]
        return alone

    with mk.Batcher(model_of(record), plan=PLANS[on]) as batcher:
        alone = asyncio.run(main())
    assert sizes[:alone] == [1] * 5
    assert max(sizes) > 1  # how many is up to what the plan learns of this machine meanwhile
    assert on != PARALLEL or threads == {threading.get_ident()}


def test_what_waits_for_a_slot_is_gathered():
    gate = Gate()
    with one_slot(gate) as batcher, ThreadPoolExecutor(8) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        others = [pool.submit(batcher.predict, row(value)) for value in range(1, 6)]
        waiting(batcher, 5)
        gate.open()
        assert first.result(ROOM) == 0
        assert [float(other.result(ROOM)[0, 0]) for other in others] == [2, 4, 6, 8, 10]
    assert gate.sizes == [1, 5]
    assert batcher.stats().released["idle"] == 1


def test_outputs_and_shapes_that_differ_never_share_a_batch():
    signature = mk.Signature(
        (mk.TensorSpec("x", "float32", ("n", "m")),),
        (mk.TensorSpec("total", "float32", ("n",)), mk.TensorSpec("size", "int64", ("n",))),
        primary="total",
    )

    def total(feeds):
        seen.append(feeds["x"].shape)
        return {"total": feeds["x"].sum(1), "size": np.full(len(feeds["x"]), len(feeds["x"]))}

    seen = []
    gate = Gate(total)
    with (
        mk.Batcher(
            mk.FunctionModel(gate, signature, batchable=True),
            plan=make_plan(((1, 3e-3), (64, 4e-3)), 1, 64),
        ) as batcher,
        ThreadPoolExecutor(16) as pool,
    ):
        first = pool.submit(batcher.predict, np.ones((1, 1), np.float32))
        gate.began_one()
        asked = [
            pool.submit(verb, np.ones((1, m), np.float32))
            for m in (1, 2, 3)
            for verb in (batcher.predict, batcher.run)
            for _ in range(2)
        ]
        waiting(batcher, 12)
        gate.open()
        first.result(ROOM)
        for i, future in enumerate(asked):
            got = future.result(ROOM)
            assert (got if isinstance(got, np.ndarray) else got["total"]) == 1 + i // 4
    assert len(seen) == 7  # the first, then one for each shape and set of outputs


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 100])
def test_any_number_of_rows_is_answered_in_order(plan, rows):
    x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)

    async def alone():
        return await batcher.apredict(x)

    async def in_company():
        got, _ = await asyncio.gather(batcher.apredict(x), batcher.apredict(row(1)))
        return got

    with mk.Batcher(model_of(), plan=plan) as batcher:
        for got in (
            batcher.predict(x),
            batcher.submit(x).result(ROOM),
            asyncio.run(alone()),
            asyncio.run(in_company()),
        ):
            np.testing.assert_array_equal(got, 2 * x[:, :1])


def test_a_large_call_is_interleaved_with_small_ones():
    gate = Gate()
    large = np.ones((1000, 2), np.float32)
    with one_slot(gate) as batcher, ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        big = pool.submit(batcher.predict, large)
        waiting(batcher, 8)
        small = pool.submit(batcher.predict, row(5))
        waiting(batcher, 9)
        for _ in range(3):
            gate.go.release()
        assert small.result(ROOM) == 10
        assert not big.done()
        gate.open()
        assert (big.result(ROOM) == 2).all()
        first.result(ROOM)


def test_low_priority_waits_for_high_and_fills_what_it_leaves():
    def record(feeds):
        ran.append(feeds["x"][:, 0].tolist())
        return double(feeds)

    ran = []
    gate = Gate(record)
    with one_slot(gate) as batcher, ThreadPoolExecutor(32) as pool:
        asked = [pool.submit(batcher.predict, row(0))]
        gate.began_one()
        asked += [pool.submit(batcher.predict, row(-1), priority=-1) for _ in range(8)]
        waiting(batcher, 8)
        asked += [pool.submit(batcher.predict, row(1)) for _ in range(12)]
        waiting(batcher, 20)
        gate.open()
        for future in asked:
            future.result(ROOM)
    assert ran == [[0], [1] * 8, [1] * 4 + [-1] * 4, [-1] * 4]


# The queue is bounded.


def test_a_full_queue_is_an_error_that_says_how_full():
    gate = Gate()
    with one_slot(gate, max_queue=2) as batcher, ThreadPoolExecutor(4) as pool:
        first = [pool.submit(batcher.predict, row(0))]
        gate.began_one()
        first += [pool.submit(batcher.predict, row(value)) for value in (1, 2)]
        waiting(batcher, 2)
        for ask in (batcher.predict, batcher.submit, lambda x: asyncio.run(batcher.apredict(x))):
            with pytest.raises(Overloaded, match="2 wait already, and at most 2 may") as caught:
                ask(row(9))
            assert (caught.value.queued, caught.value.max_queue) == (2, 2)
        gate.open()
        assert [float(future.result(ROOM)[0, 0]) for future in first] == [0, 2, 4]
        assert batcher.stats().shed == 3
    assert batcher.stats().deepest == 2


def test_a_full_queue_can_be_waited_for():
    gate = Gate()
    with one_slot(gate, max_queue=2, on_full="block") as batcher, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(batcher.predict, row(0))]
        gate.began_one()
        asked += [pool.submit(batcher.predict, row(value)) for value in range(1, 3)]
        waiting(batcher, 2)
        with pytest.raises(DeadlineExceeded, match="stayed full"):
            batcher.submit(row(9), deadline=1e-3)
        blocked = pool.submit(batcher.submit, row(4))
        gate.open()
        assert blocked.result(ROOM).result(ROOM) == 8
        assert [float(future.result(ROOM)[0, 0]) for future in asked] == [0, 2, 4]


def test_work_that_may_wait_takes_no_room_from_the_rest():
    gate = Gate()
    with one_slot(gate, max_queue=4) as batcher, ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(batcher.predict, row(0))]
        gate.began_one()
        asked += [pool.submit(batcher.predict, row(value), priority=-1) for value in range(1, 5)]
        waiting(batcher, 4)
        with pytest.raises(Overloaded):
            batcher.predict(row(9), priority=-1)
        asked += [pool.submit(batcher.predict, row(value)) for value in range(5, 9)]
        waiting(batcher, 8)
        with pytest.raises(Overloaded):
            batcher.predict(row(9))
        gate.open()
        assert [float(future.result(ROOM)[0, 0]) for future in asked] == [
            2 * value for value in range(9)
        ]


def test_work_that_may_wait_and_is_blocked_blocks_nothing_else():
    gate = Gate()
    with one_slot(gate, max_queue=2, on_full="block") as batcher, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(batcher.predict, row(0))]
        gate.began_one()
        asked += [pool.submit(batcher.predict, row(value), priority=-1) for value in (1, 2)]
        waiting(batcher, 2)
        blocked = pool.submit(batcher.submit, row(3), priority=-1)
        futures = [batcher.submit(row(value)) for value in (4, 5)]
        assert not blocked.done()
        gate.open()
        futures.append(blocked.result(ROOM))
        assert [float(future.result(ROOM)[0, 0]) for future in futures] == [8, 10, 6]
        assert [float(future.result(ROOM)[0, 0]) for future in asked] == [0, 2, 4]


# Deadlines.


@pytest.mark.parametrize("verb", ["predict", "submit", "apredict"])
def test_a_deadline_that_has_passed_is_never_run(plan, verb):
    """By the call of a wrapper that took its time, and by a deadline that was over at once."""

    def ask():
        if verb == "predict":
            return batcher.predict(row(1), deadline=1e-9)
        if verb == "submit":
            return batcher.submit(row(1), deadline=1e-9).result(ROOM)
        return asyncio.run(batcher.apredict(row(1), deadline=1e-9))

    ran = []
    with mk.Batcher(model_of(lambda feeds: ran.append(1) or double(feeds)), plan=plan) as batcher:
        with pytest.raises(DeadlineExceeded):
            ask()
        assert batcher.stats().expired == 1
    assert not ran


def test_what_expires_in_the_queue_is_never_run():
    gate = Gate()
    with one_slot(gate) as batcher, ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        with pytest.raises(DeadlineExceeded):
            batcher.predict(row(1), deadline=1e-3)
        with pytest.raises(DeadlineExceeded):
            asyncio.run(batcher.apredict(row(2), deadline=1e-3))
        late = batcher.submit(row(3), deadline=1e-3)
        over = time.monotonic() + 1e-3
        on_time = pool.submit(batcher.predict, row(4), deadline=ROOM)
        waiting(batcher, 2)
        wait_until(lambda: time.monotonic() > over)
        gate.open()
        with pytest.raises(DeadlineExceeded):
            late.result(ROOM)
        assert on_time.result(ROOM) == 8
        assert first.result(ROOM) == 0
    assert gate.sizes == [1, 1]
    assert batcher.stats().expired == 3


@pytest.mark.parametrize("on", [PARALLEL, BATCH])
def test_what_expires_before_the_flush_of_its_tick_is_never_run(on):
    async def main():
        late = asyncio.ensure_future(batcher.apredict(row(1), deadline=1e-3))
        on_time = asyncio.ensure_future(batcher.apredict(row(2), deadline=ROOM))
        await asyncio.sleep(0)
        over = time.monotonic() + 1e-3
        while time.monotonic() < over:  # the loop is held up before the flush
            pass
        return await asyncio.gather(late, on_time, return_exceptions=True)

    ran = []

    def record(feeds):
        ran.extend(feeds["x"][:, 0].tolist())
        return double(feeds)

    with mk.Batcher(model_of(record), plan=PLANS[on]) as batcher:
        late, on_time = asyncio.run(main())
    assert isinstance(late, DeadlineExceeded)
    assert on_time == 4
    assert ran == [2]


def test_a_deadline_that_is_kept_changes_nothing(plan):
    async def main():
        return await asyncio.gather(
            *(batcher.apredict(row(value), deadline=ROOM) for value in range(20))
        )

    with mk.Batcher(model_of(), plan=plan) as batcher:
        assert [float(y[0, 0]) for y in asyncio.run(main())] == [2 * value for value in range(20)]
        assert batcher.predict(row(1), deadline=ROOM, priority=-1) == 2


# A failure stays with its cause.


def poisoned(feeds):
    x = feeds["x"]
    if (x[:, 0] == 666).any():
        raise ArithmeticError("a poisoned row")
    return double(feeds)


@pytest.mark.parametrize("k", range(7))
def test_a_bad_row_fails_alone_wherever_it_is(k):
    gate = Gate(poisoned)
    with one_slot(gate) as batcher, ThreadPoolExecutor(8) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        asked = []
        for place in range(7):
            asked.append(pool.submit(batcher.predict, row(666 if place == k else place)))
            waiting(batcher, place + 1)
        gate.open()
        first.result(ROOM)
        for place, future in enumerate(asked):
            if place == k:
                with pytest.raises(ArithmeticError):
                    future.result(ROOM)
            else:
                assert future.result(ROOM) == 2 * place
    assert batcher.stats().failed == 1


def test_bad_rows_fail_alone_on_an_event_loop(plan):
    async def main():
        return await asyncio.gather(
            *(batcher.apredict(row(666 if value % 7 == 3 else value)) for value in range(50)),
            return_exceptions=True,
        )

    with mk.Batcher(model_of(poisoned), plan=plan) as batcher:
        got = asyncio.run(main())
    failed = [answer for answer in got if isinstance(answer, Exception)]
    assert all(isinstance(error, ArithmeticError) for error in failed)
    assert len({id(error) for error in failed}) == len(failed) == 7
    assert [float(y[0, 0]) for y in got if not isinstance(y, Exception)] == [
        2 * v for v in range(50) if v % 7 != 3
    ]


def test_rows_that_do_not_fit_are_refused_alone_and_before_anything_runs(
    plan, boosting_mk, breast_cancer
):
    rows = breast_cancer[0].to_numpy(np.float32)[:6].copy()
    rows[2, 5] = np.nan

    async def main():
        return await asyncio.gather(
            *(batcher.apredict(rows[i : i + 1]) for i in range(6)),
            batcher.apredict(rows[0]),
            return_exceptions=True,
        )

    model = mk.load(boosting_mk)
    with mk.Batcher(model, plan=plan) as batcher:
        *got, flat = asyncio.run(main())
        for _ in range(3):
            with pytest.raises(SignatureError, match="missing value"):
                batcher.predict(rows[2:3])
    assert isinstance(flat, SignatureError)
    assert isinstance(got[2], SignatureError)
    assert "missing value" in str(got[2])
    for i in (0, 1, 3, 4, 5):
        np.testing.assert_array_equal(got[i], model.predict(rows[i : i + 1]))


def test_everyone_gets_an_exception_of_his_own():
    error = ArithmeticError("always the same")

    def always(feeds):
        raise error

    gate = Gate(always)
    with one_slot(gate) as batcher, ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(batcher.predict, row(0))]
        gate.began_one()
        futures += [pool.submit(batcher.predict, row(value)) for value in range(1, 5)]
        waiting(batcher, 4)
        gate.open()
        errors = [future.exception(ROOM) for future in futures]
    assert len({id(error) for error in errors}) == 5
    assert all("always the same" in str(error) for error in errors)


@pytest.mark.parametrize("raised", [StopIteration("odd"), SystemExit(3), KeyboardInterrupt()])
def test_an_exception_that_is_no_error_becomes_one(raised):
    def odd(feeds):
        raise copy.copy(raised)

    with one_slot(odd) as batcher:
        with pytest.raises(BatchError, match=type(raised).__name__):
            batcher.submit(row(1)).result(ROOM)
        with pytest.raises(BatchError, match=type(raised).__name__):
            asyncio.run(batcher.apredict(row(1)))


@pytest.mark.parametrize("change", [1, -1])
def test_a_wrong_number_of_rows_is_an_error_and_nobody_s_answer(change, plan):
    class Miscounting(mk.Model):
        signature = SIGNATURE
        batchable = True

        def _run(self, feeds, outputs, call):
            answer = double(feeds)
            if len(feeds["x"]) > 1:
                answer = {
                    name: np.resize(array, (len(array) + change, *array.shape[1:]))
                    for name, array in answer.items()
                }
            return {name: answer[name] for name in outputs}

    async def main():
        return await asyncio.gather(*(batcher.apredict(row(value)) for value in range(4)))

    with mk.Batcher(Miscounting(), plan=plan) as batcher:
        # Alone, each row is answered rightly, and so it is found out.
        assert [float(y[0, 0]) for y in asyncio.run(main())] == [0, 2, 4, 6]
        if batcher.plan.mode == BATCH:
            with pytest.raises(OutputCountError, match=f"{3 + change} rows of 'y' for 3 rows"):
                batcher.predict(np.ones((3, 2), np.float32))


def test_a_batch_too_large_for_memory_is_halved_and_remembered():
    sizes = []

    def small(feeds):
        sizes.append(len(feeds["x"]))
        if len(feeds["x"]) > 2:
            raise MemoryError("Failed to allocate memory for requested buffer")
        return double(feeds)

    gate = Gate(small)
    with one_slot(gate) as batcher, ThreadPoolExecutor(8) as pool:
        gate.open()
        for _ in range(3):
            got = batcher.predict(np.arange(14, dtype=np.float32).reshape(7, 2))
            np.testing.assert_array_equal(got[:, 0], np.arange(0, 28, 4))
        futures = [pool.submit(batcher.predict, row(value)) for value in range(8)]
        assert [float(future.result(ROOM)[0, 0]) for future in futures] == [
            2 * value for value in range(8)
        ]
        assert batcher.plan.cap <= 2
        assert batcher.stats().out_of_memory >= 1
        assert batcher.stats().failed == 0
        seen = len(sizes)
        batcher.predict(np.ones((7, 2), np.float32))
        assert max(sizes[seen:]) <= 2


# Callers that leave.


@pytest.mark.parametrize("k", range(5))
@pytest.mark.parametrize("moment", ["before the tick", "in the queue", "while it runs"])
def test_a_cancelled_task_leaves_the_others_alone(k, moment):
    async def main():
        tasks = [asyncio.create_task(batcher.apredict(row(value))) for value in range(5)]
        await asyncio.sleep(0)
        if moment != "before the tick":
            await asyncio.to_thread(waiting, batcher, 5)
        if moment == "while it runs":
            gate.go.release()
            await asyncio.to_thread(gate.began_one)
        tasks[k].cancel()
        if moment == "before the tick":
            await asyncio.sleep(0)
        gate.open()
        return await asyncio.gather(*tasks, return_exceptions=True)

    gate = Gate()
    with one_slot(gate) as batcher, ThreadPoolExecutor(1) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        got = asyncio.run(main())
        assert first.result(ROOM) == 0
    assert isinstance(got[k], asyncio.CancelledError)
    assert [float(y[0, 0]) for i, y in enumerate(got) if i != k] == [
        2 * i for i in range(5) if i != k
    ]


@pytest.mark.parametrize("k", range(4))
def test_a_task_cancelled_in_an_inline_tick_leaves_the_others_alone(k):
    async def main():
        tasks = [asyncio.create_task(batcher.apredict(row(value))) for value in range(4)]
        await asyncio.sleep(0)
        tasks[k].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    with mk.Batcher(model_of(), plan=PLANS[PARALLEL]) as batcher:
        got = asyncio.run(main())
    assert isinstance(got[k], asyncio.CancelledError)
    assert [float(y[0, 0]) for i, y in enumerate(got) if i != k] == [
        2 * i for i in range(4) if i != k
    ]
    assert batcher.stats().abandoned == 1


def test_a_future_can_be_cancelled_while_it_waits():
    gate = Gate()
    with one_slot(gate) as batcher, ThreadPoolExecutor(1) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        futures = [batcher.submit(row(value)) for value in range(3)]
        assert futures[1].cancel()
        gate.open()
        assert futures[0].result(ROOM) == 0
        assert futures[2].result(ROOM) == 4
        with pytest.raises(CancelledError):
            futures[1].result(ROOM)
        first.result(ROOM)
    assert sorted(gate.sizes) == [1, 2]


def test_a_loop_that_dies_takes_nobody_with_it():
    async def ask():
        asyncio.create_task(batcher.apredict(row(1)))  # noqa: RUF006 - it is to be abandoned
        await asyncio.sleep(0)
        await asyncio.to_thread(waiting, batcher, 1)
        asyncio.get_running_loop().stop()
        await asyncio.sleep(ROOM)

    gate = Gate()
    with one_slot(gate) as batcher, ThreadPoolExecutor(2) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        loop = asyncio.new_event_loop()
        task = loop.create_task(ask())
        loop.run_forever()
        loop.close()
        other = pool.submit(batcher.predict, row(2))
        waiting(batcher, 2)
        gate.open()
        assert first.result(ROOM) == 0
        assert other.result(ROOM) == 4
        task._log_destroy_pending = False
        for left in asyncio.all_tasks(loop):
            left._log_destroy_pending = False


@pytest.mark.parametrize("when", ["while it waits", "when it is to lead"])
def test_an_interrupted_thread_leaves_the_others_alone(when):
    """The interrupt comes where the thread waits, or just after it was woken to lead."""
    import ctypes

    class Stopped(BaseException):
        pass

    def leave():
        try:
            batcher.predict(row(1))
        except Stopped:
            left.set()

    gate, left = Gate(), threading.Event()
    with one_slot(gate) as batcher, ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        thread = threading.Thread(target=leave)
        thread.start()
        waiting(batcher, 1)
        others = [pool.submit(batcher.predict, row(value)) for value in (2, 3)]
        waiting(batcher, 3)
        # Delivered when the thread next runs bytecode: after it was woken.
        assert (
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(Stopped)
            )
            == 1
        )
        gate.open()
        assert first.result(ROOM) == 0
        assert [float(other.result(ROOM)[0, 0]) for other in others] == [4, 6]
        thread.join(ROOM)
        assert left.is_set()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signals")
def test_ctrl_c_in_a_waiting_main_thread_leaves_the_others_alone():
    gate = Gate()
    with one_slot(gate) as batcher, ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        left, main = threading.Event(), threading.get_ident()

        def interrupt():
            waiting(batcher, 1)
            os.kill(os.getpid(), signal.SIGINT)
            # A signal that comes just before the interpreter begins to wait for a lock does not end
            # that wait.
            while not left.is_set():
                signal.pthread_kill(main, signal.SIGUSR1)
                time.sleep(0)

        before = signal.signal(signal.SIGUSR1, lambda *_: None)
        try:
            interrupter = pool.submit(interrupt)
            with pytest.raises(KeyboardInterrupt):
                batcher.predict(row(1))
            left.set()
            interrupter.result(ROOM)
        finally:
            left.set()
            signal.signal(signal.SIGUSR1, before)
        other = pool.submit(batcher.predict, row(2))
        waiting(batcher, 1)
        gate.open()
        assert first.result(ROOM) == 0
        assert other.result(ROOM) == 4
    assert batcher.stats().abandoned == 1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signals")
def test_ctrl_c_in_a_main_thread_that_runs_its_rows_leaves_the_others_alone():
    def slow(feeds):
        if threading.current_thread() is threading.main_thread():
            asked.extend(pool.submit(batcher.predict, row(value)) for value in (2, 3))
            waiting(batcher, 2)
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(ROOM)  # until the signal comes
        return double(feeds)

    asked = []
    with one_slot(slow) as batcher, ThreadPoolExecutor(4) as pool:
        with pytest.raises(KeyboardInterrupt):
            batcher.predict(row(1))
        assert [float(other.result(ROOM)[0, 0]) for other in asked] == [4, 6]


def test_nobody_is_told_of_a_refusal_that_a_cancelled_task_no_longer_waits_for():
    """In the very tick in which its call is refused: asyncio would log an error that was never retrieved."""

    async def main():
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context)
        )
        tasks = [
            asyncio.create_task(batcher.apredict(row(value), deadline=ROOM)) for value in range(3)
        ]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        got = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(error) for error in got] == [asyncio.CancelledError] * 3
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def collected():
        await main()
        gc.collect()

    gate, reported = Gate(), []
    with one_slot(gate, max_queue=1) as batcher, ThreadPoolExecutor(2) as pool:
        first = [pool.submit(batcher.predict, row(0))]
        gate.began_one()
        first.append(pool.submit(batcher.predict, row(1)))
        waiting(batcher, 1)
        asyncio.run(collected())
        gate.open()
        assert [float(future.result(ROOM)[0, 0]) for future in first] == [0, 2]
    assert reported == []


@pytest.mark.parametrize("rows", [0, 1])
def test_a_model_can_be_kept_off_the_event_loop(plan, rows):
    async def main():
        x = np.ones((rows, 2), np.float32)
        for _ in range(3):
            assert len(await batcher.apredict(x)) == rows
        await asyncio.gather(*(batcher.apredict(x) for _ in range(20)))
        await asyncio.gather(*(batcher.apredict(x, deadline=ROOM) for _ in range(20)))

    class Model(mk.Model):
        signature = SIGNATURE
        batchable = True

        def _run(self, feeds, outputs, call):
            threads.add(threading.get_ident())
            answer = double(feeds)
            return {name: answer[name] for name in outputs}

    threads = set()
    with mk.Batcher(Model(), plan=plan, loop=False) as batcher:
        asyncio.run(main())
        assert batcher.plan.loop_rows == 0
    assert threads
    assert threading.get_ident() not in threads


# The end.


def test_close_answers_what_was_asked_and_refuses_the_rest(plan):
    gate = Gate()
    gate.open()
    batcher = mk.Batcher(model_of(gate), plan=plan)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(batcher.predict, row(value)) for value in range(4)]
        [future.result(ROOM) for future in asked]
        later = [batcher.submit(row(value)) for value in range(4)]
        batcher.close()
        assert all(future.done() for future in later)
        batcher.close()
    for ask in (batcher.predict, batcher.submit, lambda x: asyncio.run(batcher.apredict(x))):
        with pytest.raises(ClosedError, match="the batcher was closed"):
            ask(row(1))


def test_a_model_closed_underneath_is_told_to_each_caller(plan):
    model = model_of()
    with mk.Batcher(model, plan=plan) as batcher:
        model.close()
        for ask in (batcher.predict, lambda x: asyncio.run(batcher.apredict(x))):
            with pytest.raises(ClosedError, match="the model was closed"):
                ask(row(1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_child_of_a_fork_begins_with_an_empty_queue():
    gate = Gate()
    with one_slot(gate) as batcher, ThreadPoolExecutor(2) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        second = pool.submit(batcher.predict, row(1))
        waiting(batcher, 1)
        child = os.fork()
        if child == 0:
            gate.open()
            good = batcher.predict(row(7)) == 14 and batcher.stats().queued == 0
            os._exit(0 if good else 1)
        assert os.waitpid(child, 0)[1] == 0
        gate.open()
        assert (first.result(ROOM), second.result(ROOM)) == (0, 2)


def test_nothing_is_left_running(plan):
    async def main():
        await asyncio.gather(*(batcher.apredict(row(value)) for value in range(20)))

    with mk.Batcher(model_of(), plan=plan) as batcher:
        asyncio.run(main())
        batcher.submit(row(1)).result(ROOM)
    names = {thread.name for thread in threading.enumerate()}
    wait_until(
        lambda: not any(thread.name == "modelkit-batcher" for thread in threading.enumerate())
    )
    assert "modelkit-batcher" not in {thread.name for thread in threading.enumerate()}, names


def test_what_was_submitted_is_answered_at_the_end_of_the_interpreter(tmp_path):
    import subprocess

    script = tmp_path / "script.py"
    script.write_text(
        "import time, numpy as np, modelkit as mk\n"
        "spec = lambda name: mk.TensorSpec(name, 'float32', ('n', 1))\n"
        "def slow(feeds):\n"
        "    done = time.monotonic() + 0.01\n"
        "    while time.monotonic() < done: pass\n"
        "    return {'y': feeds['x']}\n"
        "model = mk.FunctionModel(slow, mk.Signature((spec('x'),), (spec('y'),)), batchable=True)\n"
        "batcher = mk.Batcher(model, max_rows=1)\n"
        "for i in range(5):\n"
        "    batcher.submit(np.full((1, 1), i, np.float32)).add_done_callback("
        "lambda f: print(f'{int(f.result()[0, 0])}\\n', end=''))\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == list("01234")
    assert done.stderr == ""


def test_a_batch_leaves_no_references_behind(plan):
    async def main(batcher):
        for _ in range(50):
            await asyncio.gather(*(batcher.apredict(row(value)) for value in range(16)))

    with mk.Batcher(model_of(), plan=plan) as batcher, ThreadPoolExecutor(8) as pool:
        asyncio.run(main(batcher))
        x = row(1)
        before = sys.getrefcount(x)
        list(pool.map(batcher.predict, [x] * 200))
        asyncio.run(main(batcher))
        gc.collect()
        wait_until(lambda: sys.getrefcount(x) <= before)
    gone = weakref.ref(batcher)
    del batcher
    wait_until(lambda: gc.collect() is not None and gone() is None)


# Answers that do not depend on their batch, to the bit.


def test_stable_shapes_make_every_answer_bit_identical(tmp_path):
    from sklearn.datasets import make_classification
    from sklearn.linear_model import LogisticRegression

    X, y = make_classification(2000, 30, n_informative=20, n_classes=5, random_state=0)
    X = X.astype(np.float32)
    mk.save(LogisticRegression().fit(X, y), tmp_path / "lr.mk", example=X, name="lr", version="1")
    model = mk.load(tmp_path / "lr.mk")
    with mk.Batcher(model, stable_shapes=True) as batcher:
        alone = np.concatenate([batcher.predict_proba(X[i : i + 1]) for i in range(300)])

        async def main():
            return await asyncio.gather(*(batcher.apredict_proba(X[i : i + 1]) for i in range(300)))

        for got in (batcher.predict_proba(X[:300]), np.concatenate(asyncio.run(main()))):
            assert got.tobytes() == alone.tobytes()
        assert batcher.plan.bit_identical
        with ThreadPoolExecutor(8) as pool:
            got = np.concatenate(
                [*pool.map(batcher.predict_proba, [X[i : i + 3] for i in range(0, 300, 3)])]
            )
        assert got.tobytes() == alone.tobytes()
    np.testing.assert_allclose(alone, model.predict_proba(X[:300]), rtol=1e-5)


def test_padding_never_reaches_a_caller_nor_the_count_of_rows():
    seen = []

    def record(feeds):
        seen.append(feeds["x"].copy())
        return double(feeds)

    plan = make_plan(((1, 3e-3), (8, 4e-3)), 1, 8)
    with mk.Batcher(model_of(record), plan=plan, stable_shapes=True) as batcher:
        got = batcher.predict(np.arange(6, dtype=np.float32).reshape(3, 2))
        assert got.tolist() == [[0], [4], [8]]
        assert batcher.predict(np.zeros((0, 2), np.float32)).shape == (0, 1)
    assert [len(x) for x in seen] == [8]
    assert (seen[0][3:] == seen[0][2]).all()


# Costs.


class Tokens(mk.Model):
    """A model that declares what its rows cost: the first number of each."""

    signature = SIGNATURE
    batchable = True

    def __init__(self):
        self.costs = []
        self.gate = Gate()

    def _prepare(self, feeds):
        return feeds, int(feeds["x"][:, 0].sum())

    def _run(self, feeds, outputs, call):
        self.costs.append(self._prepare(feeds)[1])
        answer = self.gate(feeds)
        return {name: answer[name] for name in outputs}


def test_the_largest_batch_is_one_of_cost_where_the_model_declares_it():
    model = Tokens()
    plan = make_plan(((1, 3e-3), (100, 4e-3)), 1, 100)
    with steady(mk.Batcher(model, plan=plan)) as batcher, ThreadPoolExecutor(8) as pool:
        first = pool.submit(batcher.predict, row(1))
        model.gate.began_one()
        others = []
        for cost in (60, 30, 50, 40):
            others.append(pool.submit(batcher.predict, row(cost)))
            waiting(batcher, sum((60, 30, 50, 40)[: len(others)]))
        model.gate.open()
        assert [float(future.result(ROOM)[0, 0]) for future in [first, *others]] == [
            2,
            120,
            60,
            100,
            80,
        ]
    assert model.costs == [1, 90, 90]


# Everything at once.


class Mixer:
    """Asks in every way there is, at random, and checks that each answer is that to its own rows."""

    def __init__(self, batcher, seed, poison):
        self.batcher, self.random, self.poison = batcher, random.Random(seed), poison
        self.answered = 0

    def ask_for(self):
        rows = self.random.choice([1, 1, 1, 1, 2, 3, 20])
        values = np.array([self.random.randrange(10**6) for _ in range(rows)], np.float32)
        bad = self.random.random() < self.poison
        if bad:
            values[self.random.randrange(rows)] = 666
        x = np.stack([values, values], 1)
        options = {
            "deadline": self.random.choice([None, None, ROOM]),
            "priority": self.random.choice([0, 0, -1]),
        }
        return x, bad or bool((values == 666).any()), options

    def check(self, x, bad, get):
        try:
            got = get()
        except ArithmeticError:
            assert bad
        else:
            assert not bad
            np.testing.assert_array_equal(got, 2 * x[:, :1])
        self.answered += 1

    def thread(self, count):
        futures = []
        for _ in range(count):
            x, bad, options = self.ask_for()
            if self.random.random() < 0.3:
                futures.append((x, bad, self.batcher.submit(x, **options)))
            else:
                self.check(x, bad, lambda x=x, options=options: self.batcher.predict(x, **options))
        for x, bad, future in futures:
            self.check(x, bad, lambda future=future: future.result(ROOM))

    async def task(self, count):
        for _ in range(count):
            x, bad, options = self.ask_for()
            task = asyncio.ensure_future(self.batcher.apredict(x, **options))
            if self.random.random() < 0.02:
                await asyncio.sleep(0)
                task.cancel()
            try:
                got = await task
            except asyncio.CancelledError:
                self.answered += 1
            except ArithmeticError:
                self.check(x, bad, self.refuse)
            else:
                self.check(x, bad, lambda got=got: got)

    def refuse(self):
        raise ArithmeticError

    async def tasks(self, count):
        await asyncio.gather(*(self.task(count // 8) for _ in range(8)))


def stress(plan, seed, count, poison=0.01):
    with mk.Batcher(model_of(poisoned), plan=plan, on_full="block") as batcher:
        mixers = [Mixer(batcher, (seed, i).__hash__(), poison) for i in range(10)]
        with ThreadPoolExecutor(10) as pool:
            done = [pool.submit(mixer.thread, count) for mixer in mixers[:8]]
            done += [pool.submit(asyncio.run, mixer.tasks(count)) for mixer in mixers[8:]]
            for future in done:
                future.result(STRESS)
        assert sum(mixer.answered for mixer in mixers) == 8 * count + 2 * (count // 8 * 8)
        stats = batcher.stats()
        assert stats.queued == 0
        # The last answers are out before the runner that gave them has retired.
        lane = batcher._lane
        wait_until(lambda: (lane.slots.active, lane.slots.running, lane.queue.waiting) == (0, 0, 0))


@pytest.mark.parametrize("seed", range(3))
def test_two_loops_and_eight_threads_get_what_they_asked_for(plan, seed):
    stress(plan, seed, STRESS)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=30),
    st.integers(1, 3),
    st.integers(1, 12),
)
def test_any_mixture_of_good_and_bad_calls_is_answered_call_by_call(calls, slots, cap):
    async def main():
        return await asyncio.gather(
            *(
                batcher.apredict(np.full((rows, 2), 666 if bad else rows, np.float32))
                for rows, bad in calls
            ),
            return_exceptions=True,
        )

    with mk.Batcher(
        model_of(poisoned), plan=make_plan(((1, 3e-3), (64, 4e-3)), slots, cap)
    ) as batcher:
        got = asyncio.run(main())
    for (rows, bad), answer in zip(calls, got, strict=True):
        if bad and rows:
            assert isinstance(answer, ArithmeticError)
        else:
            assert answer.tolist() == [[2.0 * rows]] * rows


# What was once wrong.


def test_a_plan_that_changes_in_the_middle_of_a_tick_mixes_nothing_up():
    async def main():
        tasks = [asyncio.ensure_future(batcher.apredict(x[i : i + 1])) for i in range(1000)]
        return await asyncio.gather(*tasks)

    def replan(feeds):
        planners[0].plan = large if planners[0].plan is small else small
        return double(feeds)

    small, large = (make_plan(((1, 5e-6), (size, 6e-6)), 2, size) for size in (4, 16))
    x = np.arange(2000, dtype=np.float32).reshape(1000, 2)
    with mk.Batcher(model_of(replan), plan=small) as batcher:
        planners = [batcher._lane.planner]
        np.testing.assert_array_equal(np.concatenate(asyncio.run(main())), 2 * x[:, :1])


def test_a_loop_that_is_behind_refuses_what_comes_on_top():
    async def main():
        first = [asyncio.ensure_future(batcher.apredict(x[i : i + 1])) for i in range(300)]
        await asyncio.sleep(0)  # the first tick is on its way, and is taken whole
        await asyncio.sleep(0)
        second = [asyncio.ensure_future(batcher.apredict(x[i : i + 1])) for i in range(50)]
        return await asyncio.gather(*first), await asyncio.gather(*second, return_exceptions=True)

    def slow(feeds):
        end = time.monotonic() + 3e-3
        while time.monotonic() < end:
            pass
        return double(feeds)

    x = np.arange(600, dtype=np.float32).reshape(300, 2)
    with steady(mk.Batcher(model_of(slow), plan=PLANS[PARALLEL], max_queue=100)) as batcher:
        first, second = asyncio.run(main())
        assert [float(y[0, 0]) for y in first] == [4.0 * i for i in range(300)]
        assert all(isinstance(error, Overloaded) for error in second)
        assert batcher.stats().shed == 50


@pytest.mark.parametrize("does", ["predict", "submit", "wait", "sleep", "exit"])
def test_a_callback_of_a_future_may_do_what_it_likes(does):
    def callback(_):
        if does == "predict":
            assert batcher.predict(row(50)) == 100
        elif does == "submit":
            futures.append(batcher.submit(row(51)))
        elif does == "wait":
            assert batcher.submit(row(50)).result(ROOM) == 100
        elif does == "sleep":
            held.wait(ROOM)
        else:
            raise SystemExit
        called.set()

    gate, called, held = Gate(), threading.Event(), threading.Event()
    with one_slot(gate) as batcher, ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        futures = [batcher.submit(row(value)) for value in range(3)]
        futures[0].add_done_callback(callback)
        other = pool.submit(batcher.predict, row(7))
        waiting(batcher, 4)
        gate.open()
        assert first.result(ROOM) == 0
        assert (
            other.result(ROOM) == 14
        )  # a thread that only wants its answer runs nobody's callback
        held.set()
        assert [float(future.result(ROOM)[0, 0]) for future in futures[:3]] == [0, 2, 4]
        assert does == "exit" or called.wait(ROOM)


class Unspeakable(Exception):  # noqa: N818
    def __str__(self):
        raise AttributeError("no text")

    __repr__ = __str__


def test_an_exception_that_cannot_even_be_shown_is_still_answered():
    def fn(feeds):
        if (feeds["x"] == 666).any():
            raise error
        return double(feeds)

    error = Unspeakable()
    with one_slot(fn) as batcher:
        for _ in range(3):
            with pytest.raises((Unspeakable, BatchError)):
                batcher.submit(row(666)).result(ROOM)
            with pytest.raises((Unspeakable, BatchError)):
                batcher.predict(row(666))
            assert batcher.predict(row(1)) == 2


def test_outputs_of_a_split_call_that_do_not_fit_together_are_an_error():
    signature = mk.Signature(
        (mk.TensorSpec("x", "float32", ("n", 2)),),
        (mk.TensorSpec("y", "float32", ("n", "m")),),
        primary="y",
    )

    def ragged(feeds):
        rows = len(feeds["x"])
        if rows > 2:
            raise MemoryError
        return {"y": np.zeros((rows, int(feeds["x"][0, 0])), np.float32)}

    model = mk.FunctionModel(ragged, signature, batchable=True)
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    for cap in (2, 8):
        with mk.Batcher(
            model, max_rows=cap, plan=make_plan(((1, 3e-3), (cap, 6e-3)), 1, cap)
        ) as batcher:
            for ask in (batcher.predict, lambda x, batcher=batcher: batcher.submit(x).result(ROOM)):
                with pytest.raises(ValueError, match="dimensions"):
                    ask(x)


def test_large_calls_that_overlap_let_a_single_row_through():
    plan = make_plan(((1, 3e-3), (8, 4e-3)), 2, 8)
    ran = []

    def record(feeds):
        ran.append(feeds["x"][0, 0])
        return double(feeds)

    gate = Gate(record)
    with steady(mk.Batcher(model_of(gate), plan=plan)) as batcher, ThreadPoolExecutor(4) as pool:
        large = [
            pool.submit(batcher.predict, np.full((400, 2), value, np.float32), priority=-1)
            for value in (1, 2)
        ]
        gate.began_one()
        gate.began_one()
        small = pool.submit(batcher.predict, row(7))
        wait_until(lambda: batcher.stats().queued >= 1)
        for _ in range(40):
            gate.go.release()
        assert small.result(ROOM) == 14
        gate.open()
        for value, future in zip((1, 2), large, strict=True):
            assert (future.result(ROOM) == 2 * value).all()
    assert ran.index(7) < 42  # of a hundred: some runs go on until its thread is awake


def test_room_that_an_expired_call_leaves_is_given_on():
    gate = Gate()
    with one_slot(gate, max_queue=1, on_full="block") as batcher, ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        late = pool.submit(batcher.predict, row(1), deadline=0.2)
        waiting(batcher, 1)
        blocked = pool.submit(batcher.submit, row(2))
        with pytest.raises(DeadlineExceeded):
            late.result(ROOM)
        assert not first.done()
        future = blocked.result(ROOM)
        gate.open()
        assert future.result(ROOM) == 4
        first.result(ROOM)


def test_one_call_that_is_out_of_memory_by_itself_shrinks_nobody_s_batches():
    def fn(feeds):
        if (feeds["x"] == 666).any():
            raise MemoryError
        return double(feeds)

    with one_slot(fn) as batcher:
        for _ in range(5):
            with pytest.raises(MemoryError):
                batcher.predict(row(666))
        assert batcher.plan.cap == 8


def test_learning_from_single_calls_does_not_rule_batches_out():
    gate = Gate()
    gate.open()
    with mk.Batcher(model_of(gate)) as batcher:
        for value in range(40):
            batcher.predict(row(value))
        assert batcher.plan.cap >= 2


@pytest.mark.parametrize("deadline", [1e10, float("inf")])
def test_a_deadline_may_be_very_far(deadline):
    async def ask():
        return await batcher.apredict(row(2), deadline=deadline)

    gate = Gate()
    with one_slot(gate) as batcher, ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        asked = [
            pool.submit(batcher.predict, row(1), deadline=deadline),
            pool.submit(asyncio.run, ask()),
        ]
        waiting(batcher, 2)
        gate.open()
        assert [float(future.result(ROOM)[0, 0]) for future in [first, *asked]] == [0, 2, 4]


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
            lane = batcher._lane
            wait_until(lambda: lane.slots.active == 0)
            assert (lane.slots.running, lane.queue.waiting) == (0, 0)
            assert lost == 0
    finally:
        gc.enable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# What one caller asks for is bounded, and what it passed is what it meant.


@pytest.mark.parametrize("how", ["measured", "of another", "of a smaller one", "learned"])
def test_no_batch_is_larger_than_the_largest_one(how):
    sizes = []

    def fn(feeds):
        sizes.append(len(feeds["x"]))
        return double(feeds)

    plan = make_plan(((1, 1e-3), (64, 2e-3), (512, 3e-3)), 2, 512)
    small = make_plan(((1, 1e-3), (16, 1.1e-3)), 2, 4096)
    assert small.piece > 16
    options = {
        "measured": "measure",
        "of another": plan,
        "of a smaller one": small,
        "learned": "learn",
    }
    with mk.Batcher(model_of(fn), max_rows=16, plan=options[how]) as batcher:
        assert batcher.plan.cap <= batcher.plan.piece <= 16
        batcher._lane.planner.observe = lambda *_: False
        rows = np.arange(400, dtype=np.float32).reshape(200, 2)
        np.testing.assert_array_equal(batcher.predict(rows)[:, 0], 2 * rows[:, 0])
        np.testing.assert_array_equal(batcher.submit(rows).result(ROOM)[:, 0], 2 * rows[:, 0])
        np.testing.assert_array_equal(asyncio.run(batcher.apredict(rows))[:, 0], 2 * rows[:, 0])
    assert max(sizes) <= 16


def test_after_a_run_too_large_for_memory_no_part_is_as_large_again():
    plan = make_plan(((1, 1e-3), (64, 1.1e-3)), 1, 1024)
    with mk.Batcher(model_of(), plan=plan) as batcher:
        assert batcher.plan.piece > 64
        batcher._lane.shrink(16)
        assert batcher.plan.cap <= batcher.plan.piece <= 8


@pytest.mark.parametrize("change", [-1, 1])
def test_a_call_that_runs_at_once_is_counted_as_well(change):
    """By a Model of the user's own, whose answers nothing else looks at."""

    class Odd(mk.Model):
        @property
        def signature(self):
            return SIGNATURE

        @property
        def batchable(self):
            return True

        def _run(self, feeds, outputs, call):
            rows = np.zeros((len(feeds["x"]) + change, 1), np.float32)
            return {name: rows if name == "y" else rows[:, 0].astype(int) for name in outputs}

    with (
        mk.Batcher(Odd(), plan=PLANS[PARALLEL]) as batcher,
        pytest.raises(OutputCountError, match="for 3 rows"),
    ):
        batcher.predict(np.zeros((3, 2), np.float32))


def test_what_was_submitted_is_what_it_was_then():
    gate = Gate()
    with one_slot(gate) as batcher:
        rows = np.zeros((1, 2), np.float32)
        futures = []
        for value in range(9):
            rows[:] = value
            futures.append(batcher.submit(rows))
        gate.open()
        assert [future.result(ROOM)[0, 0] for future in futures] == [
            2 * value for value in range(9)
        ]


def test_a_large_call_ends_at_its_deadline():
    """Nobody else waits, so each of its pieces finds a free slot; the deadline counts for them all."""
    gate = Gate()
    with one_slot(gate) as batcher, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(batcher.predict, np.zeros((40, 2), np.float32), deadline=1e-3)
        gate.began_one()
        late = time.monotonic() + 2e-3
        wait_until(lambda: time.monotonic() > late)
        gate.open()
        with pytest.raises(DeadlineExceeded):
            asked.result(ROOM)
        assert len(gate.sizes) == 1
        assert batcher.stats().expired == 1
