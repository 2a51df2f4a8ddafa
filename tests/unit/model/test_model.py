"""A model turns a batch into a batch: the verbs, the hooks under them, wrappers, and scikit-learn's tools."""

import asyncio
import inspect
import threading
import time

import numpy as np
import pytest
from helpers.flowers import FLOWER, LABELS, ROWS, VERBS, flower, regression

from modelkit import FunctionModel, Model, Signature, TensorSpec
from modelkit.errors import ClosedError, PackageError, SignatureError


def test_predict_is_the_primary_output(model):
    assert model.predict(ROWS).tolist() == LABELS


def test_predict_proba_has_a_column_a_class(model):
    probabilities = model.predict_proba(ROWS)
    assert probabilities.shape == (4, 2)
    assert model.classes_[probabilities.argmax(axis=1)].tolist() == LABELS


def test_run_gives_every_output_in_the_order_of_the_signature(model):
    outputs = model.run(ROWS)
    assert list(outputs) == ["label", "probabilities"]
    assert outputs["label"].tolist() == model.predict(ROWS).tolist()
    np.testing.assert_array_equal(outputs["probabilities"], model.predict_proba(ROWS))


def test_the_async_verbs_answer_as_the_others(model):
    async def all_at_once():
        return await asyncio.gather(
            model.arun(ROWS), model.apredict(ROWS), model.apredict_proba(ROWS)
        )

    outputs, labels, probabilities = asyncio.run(all_at_once())
    assert list(outputs) == ["label", "probabilities"]
    assert outputs["label"].tolist() == labels.tolist() == LABELS
    np.testing.assert_array_equal(probabilities, model.predict_proba(ROWS))


def test_many_async_calls_each_get_their_own_answer():
    sums = regression()

    async def all_at_once():
        return await asyncio.gather(
            *(sums.apredict(np.full((2, 2), i, np.float32)) for i in range(50))
        )

    assert [answer.tolist() for answer in asyncio.run(all_at_once())] == [
        [2 * i, 2 * i] for i in range(50)
    ]


def test_an_async_verb_runs_a_model_that_only_has_run_in_another_thread():
    threads = []

    def fn(feeds):
        threads.append(threading.get_ident())
        return {"prediction": feeds["X"].sum(axis=1)}

    asyncio.run(regression(fn).apredict(ROWS))
    regression(fn).predict(ROWS)
    assert threads[0] != threading.get_ident()
    assert threads[1] == threading.get_ident()


def test_the_verbs_are_final_and_async_where_they_say_so():
    for verb in VERBS:
        for name in (verb, f"a{verb}"):
            assert getattr(Model, name).__final__
            assert inspect.iscoroutinefunction(getattr(Model, name)) == name.startswith("a")
            assert list(inspect.signature(getattr(Model, name)).parameters)[2:] == [
                "deadline",
                "priority",
                "key",
            ]
    assert FunctionModel.__final__


def test_a_model_has_a_signature_and_a_hook_that_runs():
    assert Model.__abstractmethods__ == {"signature", "_run"}
    with pytest.raises(TypeError, match="abstract"):
        Model()


def test_predict_needs_a_primary_output():
    outputs = tuple(TensorSpec(name, "float32", ("batch",)) for name in ("mean", "spread"))
    model = FunctionModel(
        lambda feeds: dict.fromkeys(("mean", "spread"), feeds["X"][:, 0]),
        Signature(FLOWER.inputs, outputs),
    )
    assert list(model.run(ROWS)) == ["mean", "spread"]
    for refused in (model.predict, lambda X: asyncio.run(model.apredict(X))):
        with pytest.raises(
            SignatureError, match=r"predict needs a primary output.*run\(X\)\[name\].*primary=name"
        ) as error:
            refused(ROWS)
        assert error.value.signature is model.signature


@pytest.mark.parametrize(
    ("outputs", "classes"),
    [
        ((TensorSpec("prediction", "float32", ("batch",)),), None),
        ((TensorSpec("label", "string", ("batch",)),), ("iris", "rose")),
        (FLOWER.outputs, None),
    ],
    ids=["regression", "no probabilities", "no classes"],
)
def test_predict_proba_needs_classes_and_probabilities(outputs, classes):
    model = FunctionModel(flower, Signature(FLOWER.inputs, outputs, classes=classes))
    for verb in ("predict_proba", "apredict_proba"):
        with pytest.raises(
            AttributeError, match="predict_proba needs classes and an output named probabilities"
        ) as error:
            getattr(model, verb)
        by_name = "use run(X)['probabilities']" in str(error.value)
        assert by_name == ("probabilities" in model.signature.output_names)


def test_rows_that_do_not_fit_never_reach_the_function(ask_or_await):
    def fn(feeds):
        raise AssertionError

    with pytest.raises(SignatureError, match="missing column 'b'"):
        ask_or_await(FunctionModel(fn, FLOWER), {"a": [1.0]})


def test_a_plain_call_builds_nothing(recorder, ask_or_await):
    ask_or_await(recorder, ROWS)
    ask_or_await(recorder, ROWS)
    recorder.predict(ROWS)
    calls = [call for _, _, _, call in recorder.hooks]
    assert (calls[0].deadline, calls[0].priority, calls[0].key) == (None, 0, None)
    assert all(call is calls[0] for call in calls)


def test_a_deadline_is_turned_from_seconds_into_a_point_in_time(recorder, ask_or_await):
    before = time.monotonic()
    ask_or_await(recorder, ROWS, deadline=30, priority=-1, key="user 7")
    after = time.monotonic()
    ((_, _, _, call),) = recorder.hooks
    assert before + 30 <= call.deadline <= after + 30
    assert (call.priority, call.key) == (-1, "user 7")


@pytest.mark.parametrize("deadline", [0, -1, -0.5, float("nan")])
def test_a_deadline_is_positive(recorder, ask_or_await, deadline):
    with pytest.raises(
        ValueError, match="deadline is in seconds from now and must be positive; got"
    ):
        ask_or_await(recorder, ROWS, deadline=deadline)
    assert recorder.hooks == []


@pytest.mark.parametrize("priority", [1, -2, 0.5, None, "high"])
def test_a_priority_is_zero_or_minus_one(recorder, ask_or_await, priority):
    with pytest.raises(
        ValueError, match=f"priority is 0, or -1 for work that may wait; got {priority!r}"
    ):
        ask_or_await(recorder, ROWS, priority=priority)
    assert recorder.hooks == []


# Closing.


def test_a_closed_model_refuses_every_verb(model, ask_or_await):
    model.close()
    model.close()
    with pytest.raises(ClosedError, match="the model was closed"):
        ask_or_await(model, ROWS)


def test_a_closed_model_refuses_zero_rows_too(model, ask):
    model.close()
    with pytest.raises(ClosedError):
        ask(model, ROWS[:0])


def test_a_model_is_a_context_manager(model):
    with model as same:
        assert same is model
        assert model.predict(ROWS).tolist() == LABELS
    with pytest.raises(ClosedError):
        model.predict(ROWS)


def test_a_context_closes_the_model_and_lets_the_error_through(model):
    with pytest.raises(ZeroDivisionError), model:
        raise ZeroDivisionError
    with pytest.raises(ClosedError):
        model.predict(ROWS)


def test_without_golden_rows_there_is_nothing_to_warm_up_or_verify(recorder):
    for verb in (recorder.warmup, recorder.verify):
        with pytest.raises(PackageError, match="FunctionModel lacks golden rows"):
            verb()


def test_a_model_is_shown_with_its_signature(model):
    assert repr(model) == f"<FunctionModel: {FLOWER}>"
    page = model._repr_html_()
    for part in ("FunctionModel", "probabilities", "iris, rose", "a, b (float32)"):
        assert part in page
