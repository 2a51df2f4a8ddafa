"""A function is a Model, and what it answers is checked."""

import asyncio

import numpy as np
import pytest
from helpers.flowers import FLOWER, LABELS, ROWS, regression

from modelkit import FunctionModel, Signature, TensorSpec
from modelkit.errors import ModelkitError, OutputCountError
from modelkit.testing import check_model

# The verbs.


def test_a_function_model_keeps_the_contract(model):
    check_model(model, ROWS)


def test_an_error_of_the_function_is_the_callers(ask_or_await):
    def fn(feeds):
        raise ZeroDivisionError("in the function")

    with pytest.raises(ZeroDivisionError, match="in the function"):
        ask_or_await(FunctionModel(fn, FLOWER), ROWS)


# What a function may answer.


def test_zero_rows_are_answered_without_the_function():
    def fn(feeds):
        raise AssertionError

    model = FunctionModel(fn, FLOWER)
    outputs = model.run(ROWS[:0])
    assert outputs["label"].shape == (0,)
    assert outputs["label"].dtype == object
    assert outputs["probabilities"].shape == (0, 2)
    assert outputs["probabilities"].dtype == np.float32
    assert asyncio.run(model.apredict(ROWS[:0])).shape == (0,)


def test_numpy_strings_become_objects(model):
    assert model.predict(ROWS).dtype == object


def test_outputs_that_were_not_asked_for_may_be_left_out():
    only_labels = FunctionModel(lambda feeds: {"label": np.array(LABELS)}, FLOWER)
    assert only_labels.predict(ROWS).tolist() == LABELS
    with pytest.raises(
        ModelkitError, match=r"gave \['label'\], without the outputs \['probabilities'\]"
    ):
        only_labels.run(ROWS)


@pytest.mark.parametrize("rows", [0, 3, 5])
def test_another_number_of_rows_is_refused(ask_or_await, rows):
    def fn(feeds):
        return {
            "label": np.array(LABELS[:1] * rows, object),
            "probabilities": np.ones((rows, 2), np.float32),
        }

    with pytest.raises(
        OutputCountError, match=f"gave {rows} rows of '.*' for 4 rows of input"
    ) as error:
        ask_or_await(FunctionModel(fn, FLOWER), ROWS)
    assert (error.value.expected, error.value.got) == (4, rows)


@pytest.mark.parametrize(
    ("answer", "width"),
    [
        (np.ones(4, np.float64), None),
        (np.ones(4, np.int64), None),
        (np.ones(4, bool), None),
        (np.array(["1"] * 4), None),
        ([1.0] * 4, None),
        (np.ones((4, 1), np.float32), None),
        (np.float32(1), None),
        (np.ones(4, np.float32), 1),
        (np.ones((4, 3), np.float32), 2),
    ],
    ids=[
        "float64",
        "integers",
        "booleans",
        "strings",
        "a list of floats",
        "rank 2",
        "rank 0",
        "rank 1",
        "too wide",
    ],
)
def test_an_output_of_another_dtype_or_shape_is_refused(answer, width):
    with pytest.raises(
        ModelkitError, match=r"the function gave .* for the output prediction: float32\[batch"
    ):
        regression(lambda feeds: {"prediction": answer}, width).predict(ROWS)


@pytest.mark.parametrize("answer", [None, 1.0, np.ones(4, np.float32), [np.ones(4, np.float32)]])
def test_an_answer_without_names_is_refused(answer):
    with pytest.raises(ModelkitError, match="the function gave"):
        regression(lambda feeds: answer).predict(ROWS)


def test_inputs_and_outputs_share_their_named_dimensions():
    signature = Signature(
        (TensorSpec("ids", "int64", ("batch", "seq")),),
        (TensorSpec("per_token", "float32", ("batch", "seq")),),
    )
    ids = np.ones((2, 3), np.int64)
    same = FunctionModel(lambda feeds: {"per_token": feeds["ids"].astype(np.float32)}, signature)
    assert same.predict(ids).shape == (2, 3)
    shorter = FunctionModel(
        lambda feeds: {"per_token": feeds["ids"][:, 1:].astype(np.float32)}, signature
    )
    with pytest.raises(ModelkitError, match=r"dimension 'seq' is 3 in .*, but 2 in 'per_token'"):
        shorter.predict(ids)


def test_a_model_without_a_batch_dimension_may_answer_in_any_number():
    total = Signature(
        (TensorSpec("X", "float32", ("n", 2)),), (TensorSpec("total", "float32", ()),)
    )
    model = FunctionModel(lambda feeds: {"total": feeds["X"].sum()}, total)
    assert model.predict(np.ones((3, 2), np.float32)) == 6
    assert model.predict(np.ones((0, 2), np.float32)) == 0


def test_a_function_cannot_change_the_rows_of_its_caller():
    def double(feeds):
        feeds["X"] *= 2
        return {"y": feeds["X"]}

    spec = TensorSpec("X", "float64", ("batch", 2))
    signature = Signature((spec,), (TensorSpec("y", "float64", ("batch", 2)),))
    rows = np.ones((3, 2))
    with pytest.raises(ValueError, match="read-only"):
        FunctionModel(double, signature).predict(rows)
    assert rows.tolist() == np.ones((3, 2)).tolist()
    assert rows.flags.writeable
    texts = Signature(
        (TensorSpec("t", "string", ("batch", 1)),), (TensorSpec("y", "float64", ("batch",)),)
    )
    words = np.array([["a"], ["b"]], object)

    def upper(feeds):
        feeds["t"][:] = "A"
        return {"y": np.ones(2)}

    with pytest.raises(ValueError, match="read-only"):
        FunctionModel(upper, texts).predict(words)
    assert words.tolist() == [["a"], ["b"]]
    scalar = Signature((TensorSpec("r", "int64", ()),), (TensorSpec("y", "int64", ()),))
    assert (
        FunctionModel(lambda feeds: {"y": feeds["r"] + 1}, scalar).run({"r": np.array(3)})["y"] == 4
    )
