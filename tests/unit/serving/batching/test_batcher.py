"""What a Batcher promises its callers, whoever else calls."""

import asyncio
import itertools
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.batchers import (
    PLANS,
    ROOM,
    SIGNATURE,
    Gate,
    double,
    model_of,
    one_slot,
    row,
    steady,
    waiting,
)

import modelkit as mk
from modelkit.errors import BatchError
from modelkit.serving.batching.policy import PARALLEL, make_plan
from modelkit.testing import check_model

# It is a Model.


def test_a_batcher_keeps_the_contract_of_a_model(plan, boosting_mk, breast_cancer):
    model = mk.load(boosting_mk)
    with mk.Batcher(model, plan=plan) as batcher:
        check_model(batcher, breast_cancer[0][:40])
        assert batcher.inner is batcher.base is model
        assert batcher.signature is model.signature
        assert batcher.placement is model.placement
    model.predict(breast_cancer[0][:1])  # what is wrapped is not closed


def test_a_batcher_with_a_measured_plan_keeps_the_contract(penguins_mk, penguins):
    with mk.Batcher(mk.load(penguins_mk)) as batcher:
        check_model(batcher, penguins[0][:30])


def test_a_plan_is_measured_from_the_golden_rows_and_says_why(boosting_mk, monkeypatch):
    now = itertools.count()  # by the clock, a busy machine would leave no time for the larger sizes
    monkeypatch.setattr("modelkit.serving.batching.measure.timer", lambda: 1e-6 * next(now))
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
        ({"max_rows": 0}, "max_rows is an integer of at least 1, not 0"),
        ({"max_queue": 2.5}, "max_queue is an integer of at least 1, not 2.5"),
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


# Cheap models, such as gather, such as are no cheaper in company, and such as nothing is known of.
CHEAP = make_plan(((1, 5e-6), (64, 1e-5)), 2, 64)
GATHERS = make_plan(((1, 3e-4), (8, 4e-4)), 1, 8)
SLOW = make_plan(((1, 3e-3), (8, 4e-3)), 1, 8)
NO_CHEAPER = make_plan(((1, 3e-3), (8, 24e-3)), 2, 8)
UNKNOWN = make_plan((), 1, 8)


@pytest.mark.parametrize(
    ("plan", "rows", "of_a_thread", "of_a_loop", "on_loop"),
    [
        (CHEAP, 1, [1], [1], True),
        (CHEAP, 64, [64], [64], True),
        (CHEAP, 65, [65], [64, 1], False),
        (GATHERS, 1, [1], [1], True),
        (GATHERS, 8, [8], [8], True),
        (GATHERS, 9, [8, 1], [8, 1], False),
        (SLOW, 1, [1], [1], False),
        (SLOW, 8, [8], [8], False),
        (SLOW, 9, [8, 1], [8, 1], False),
        (NO_CHEAPER, 1, [1], [1], False),
        (NO_CHEAPER, 2, [1, 1], [1, 1], False),
        (UNKNOWN, 1, [1], [1], False),
        (UNKNOWN, 9, [8, 1], [8, 1], False),
    ],
)
def test_the_way_of_a_call_follows_from_plan_size_and_caller(
    plan, rows, of_a_thread, of_a_loop, on_loop
):
    """In which runs, and by which thread."""
    runs, threads = [], set()

    def record(feeds):
        runs.append(len(feeds["x"]))
        threads.add(threading.get_ident())
        return double(feeds)

    async def ask():
        await batcher.apredict(x)

    x = np.ones((rows, 2), np.float32)
    with steady(mk.Batcher(model_of(record), plan=plan)) as batcher:
        batcher.predict(x)
        assert (runs, threads) == (of_a_thread, {threading.get_ident()})
        runs.clear()
        threads.clear()
        asyncio.run(ask())
        assert runs == of_a_loop
        assert (threads == {threading.get_ident()}) == on_loop


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


# Futures, and plans that are learned.


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
        # A thread that only wants its answer runs nobody's callback.
        assert other.result(ROOM) == 14
        held.set()
        assert [float(future.result(ROOM)[0, 0]) for future in futures[:3]] == [0, 2, 4]
        assert does == "exit" or called.wait(ROOM)


def test_learning_from_single_calls_does_not_rule_batches_out():
    gate = Gate()
    gate.open()
    with mk.Batcher(model_of(gate)) as batcher:
        for value in range(40):
            batcher.predict(row(value))
        assert batcher.plan.cap >= 2


# Pickles.


def rows_for(model, count=64):
    (spec,) = model.signature.inputs
    return np.random.default_rng(0).normal(size=(count, spec.shape[1])).astype(np.float32)


def test_a_batcher_is_pickled_with_its_options(boosting_mk):
    with mk.load(boosting_mk, device="cpu") as model:
        plan = mk.Batcher(model, plan="learn").plan
        options = {
            "max_rows": 32,
            "max_queue": 77,
            "stable_shapes": True,
            "plan": plan,
            "loop": False,
        }
        with mk.Batcher(model, **options) as batcher:
            x = rows_for(model)
            expected = batcher.predict(x)
            again = pickle.loads(pickle.dumps(batcher))
        assert again._origin.keywords.items() >= options.items()
        assert again.base is not model
        np.testing.assert_array_equal(again.predict(x), expected)
    with (
        mk.load(boosting_mk.read_bytes()) as model,
        mk.Batcher(model, plan="learn") as batcher,
        pytest.raises(TypeError, match="by the path"),
    ):
        pickle.dumps(batcher)
