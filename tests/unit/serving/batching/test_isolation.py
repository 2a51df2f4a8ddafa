"""A failure in a batch stays with the call that caused it."""

import asyncio
import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.batchers import (
    ROOM,
    SIGNATURE,
    Gate,
    double,
    model_of,
    one_slot,
    poisoned,
    row,
    waiting,
)

import modelkit as mk
from modelkit.errors import BatchError, OutputCountError, SignatureError
from modelkit.serving.batching.policy import BATCH
from modelkit.signature.refusing import check_refused


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
    assert batcher.stats().failed == 7
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


def refusing(feeds):
    x = feeds["x"]
    check_refused(x[:, :1] >= 600, ["it is 600 or more"])
    return double(feeds)


@pytest.mark.parametrize("stable", [False, True])
def test_refused_rows_are_counted_from_the_first_row_of_the_call(plan, stable):
    """However it is cut into pieces, and filled up."""

    async def ask(rows):
        await batcher.apredict(rows)

    with mk.Batcher(model_of(refusing), max_rows=8, plan=plan, stable_shapes=stable) as batcher:
        asks = {
            "predict": batcher.predict,
            "submit": lambda rows: batcher.submit(rows).result(ROOM),
            "apredict": lambda rows: asyncio.run(ask(rows)),
        }
        for bad in (0, 7, 8, 20, 21):
            rows = np.concatenate([row(666 if place == bad else place) for place in range(22)])
            for name, predict in asks.items():
                with pytest.raises(SignatureError) as caught:
                    predict(rows)
                assert caught.value.rows == (bad,), name
                assert caught.value.problems == (f"row {bad}: it is 600 or more",)


def test_refused_rows_are_counted_from_the_first_row_of_a_call_run_in_halves():
    def small(feeds):
        if len(feeds["x"]) > 3:
            raise MemoryError
        return refusing(feeds)

    with one_slot(small) as batcher, pytest.raises(SignatureError) as caught:
        batcher.predict(np.concatenate([row(666 if place == 6 else place) for place in range(8)]))
    assert caught.value.rows == (6,)


def test_calls_with_refused_rows_cost_the_others_of_their_batch_one_run_more():
    gate = Gate(refusing)
    with one_slot(gate) as batcher, ThreadPoolExecutor(8) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        asked = []
        for place in range(7):
            asked.append(pool.submit(batcher.predict, row(666 if place in (1, 4) else place)))
            waiting(batcher, place + 1)
        gate.open()
        first.result(ROOM)
        for place, future in enumerate(asked):
            if place in (1, 4):
                with pytest.raises(SignatureError, match="row 0: it is 600") as caught:
                    future.result(ROOM)
                assert caught.value.rows == (0,)
            else:
                assert future.result(ROOM) == 2 * place
    assert gate.sizes == [1, 7, 5]
    assert batcher.stats().failed == 2


class Unspeakable(Exception):
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
