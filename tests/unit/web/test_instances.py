"""Instances in, predictions out: the JSON of Vertex AI beside plain JSON."""

import json

import numpy as np
import pytest
from helpers.apps import SIGNATURE
from helpers.client import Client

import modelkit as mk
from modelkit.model.call import PLAIN
from modelkit.types import Limits
from modelkit.web import instances, plain
from modelkit.web.json import LONG
from modelkit.web.query import Query
from modelkit.web.replies import Refused
from modelkit.web.request import at_once

LIMITS = Limits(rows=4)


def spec(name, dtype, *shape, columns=()):
    return mk.TensorSpec(name, dtype, ("batch", *shape), tuple(columns))


def columns(*pairs):
    return [mk.Column(name, dtype) for name, dtype in pairs]


def sums(feeds):
    counts = [np.asarray(feed).reshape(len(feed), -1).shape[1] for feed in feeds.values()]
    rows = len(next(iter(feeds.values())))
    return {"size": np.full(rows, sum(counts)), "first": np.zeros((rows, 2))}


def model_of(*inputs):
    outputs = (spec("size", "int64"), spec("first", "float64", 2))
    return mk.FunctionModel(sums, mk.Signature(inputs, outputs))


NUMBERS = spec("x", "float64", 2, columns=columns(("a", "float64"), ("b", "float64")))
MIXED = (
    spec("age", "float64", 1, columns=columns(("age", "float64"))),
    spec("town", "string", 1, columns=columns(("town", "string"))),
)
IMAGE = spec("image", "float32", 2, 2)
TEXT = spec("text", "string")
CASES = [
    # inputs, instances, the same in plain JSON
    ((NUMBERS,), [{"a": 1.0, "b": 2.0}], {"rows": [{"a": 1.0, "b": 2.0}]}),
    ((NUMBERS,), [[1.0, 2.0], [3, 4]], {"rows": [{"a": 1.0, "b": 2.0}, {"a": 3, "b": 4}]}),
    (MIXED, [[36, "Bern"]], {"rows": [{"age": 36, "town": "Bern"}]}),
    ((IMAGE,), [[[1, 2], [3, 4]]], {"inputs": {"image": [[[1, 2], [3, 4]]]}}),
    ((IMAGE,), [{"image": [[1, 2], [3, 4]]}], {"inputs": {"image": [[[1, 2], [3, 4]]]}}),
    ((TEXT,), ["one", "two"], {"inputs": {"text": ["one", "two"]}}),
    ((IMAGE, TEXT), [{"image": [[1, 2], [3, 4]], "text": "a"}],
     {"inputs": {"image": [[[1, 2], [3, 4]]], "text": ["a"]}}),
]  # fmt: skip


def read(codec, value, signature):
    body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
    return at_once(codec.read(body, {}, signature, LIMITS))


def written(query, answers):
    return at_once(instances.write(query, answers, "m", ""))


@pytest.mark.parametrize(("inputs", "given", "same"), CASES)
def test_instances_are_rows(inputs, given, same):
    model = model_of(*inputs)
    query = read(instances, {"instances": given}, model.signature)
    other = read(plain, same, model.signature)
    feeds, expected = model.signature.coerce(query.X), model.signature.coerce(other.X)
    for name, array in expected.items():
        np.testing.assert_array_equal(feeds[name], array)
    answers = model._call(query.X, query.outputs, PLAIN)
    reply = written(query, answers)
    predictions = json.loads(reply.body)["predictions"]
    assert len(predictions) == len(given)
    assert predictions[0] == {"size": answers["size"][0], "first": [0.0, 0.0]}


def test_one_output_is_the_prediction_itself():
    model = model_of(NUMBERS)
    asked = {"instances": [[1, 2]], "parameters": {"outputs": ["first"], "priority": -1}}
    query = read(instances, asked, model.signature)
    assert query.priority == -1
    answers = model._call(query.X, query.outputs, PLAIN)
    reply = written(query, answers)
    assert json.loads(reply.body) == {"predictions": [[0.0, 0.0]]}


@pytest.mark.parametrize(
    ("inputs", "body", "words"),
    [
        ((NUMBERS,), "{", "not JSON"),
        ((NUMBERS,), "[]", "a JSON object is expected"),
        ((NUMBERS,), "{}", "instances are null"),
        ((NUMBERS,), '{"instances": {}}', "instances are an object"),
        ((NUMBERS,), '{"instances": [], "signature_name": "x"}', 'no field "signature_name"'),
        ((NUMBERS,), '{"instances": [], "parameters": null}', "parameters are null"),
        ((NUMBERS,), '{"instances": [], "parameters": {"threshold": 1}}', 'no field "threshold"'),
        ((NUMBERS,), '{"instances": [[1]]}', "instance 0 has 1 values, and there are 2 columns"),
        ((NUMBERS,), '{"instances": [[1, 2], {"a": 1}]}', "a row is an object"),
        ((NUMBERS,), '{"instances": [{"a": 1, "a": 2, "b": 1}]}', "twice"),
        ((NUMBERS,), '{"instances": [[1, 99999999999999999999]]}', "99999999999999999999"),
        ((NUMBERS,), '{"instances": [[1,1],[1,1],[1,1],[1,1],[1,1]]}', "5 rows"),
        ((IMAGE, TEXT), '{"instances": [{"image": 1}]}', "instance 0 lacks 'text'"),
        ((IMAGE, TEXT), '{"instances": [[1]]}', r"an object with the inputs \['image', 'text'\]"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(inputs, body, words):
    with pytest.raises(Refused, match=words):
        read(instances, body, model_of(*inputs).signature)


@pytest.mark.parametrize("rows", [0, 1, 5000])
@pytest.mark.parametrize(
    ("outputs", "at_once"),
    [(("embedding",), LONG), (("label", "embedding", "score"), instances.AT_ONCE)],
)
def test_a_long_answer_is_written_some_rows_at_a_time(rows, outputs, at_once):
    """It was written as plain JSON, parsed and written again, which held up an event loop for long."""
    rng = np.random.default_rng(0)
    answers = {
        "label": np.array([f"a{i % 3}" for i in range(rows)], object),
        "embedding": rng.normal(size=(rows, 8)).astype(np.float32),
        "score": rng.normal(size=rows),
    }
    predictions = json.loads(written(Query(None, outputs), answers).body)["predictions"]
    assert len(predictions) == rows
    for row, prediction in enumerate(predictions):
        by_name = prediction if len(outputs) > 1 else {outputs[0]: prediction}
        assert [*by_name] == [*outputs]
        for name, value in by_name.items():
            np.testing.assert_array_equal(np.array(value, answers[name].dtype), answers[name][row])
    numbers = sum(answers[name].size for name in outputs)
    turns = len([*instances.write(Query(None, outputs), answers, "m", "")])
    assert turns >= numbers // at_once


def test_predictions_have_the_digits_of_their_outputs():
    """As plain JSON has them: a float of 32 bits is not written as one of 64."""
    answers = {
        "single": np.array([0.1, 1e-6], np.float32),
        "half": np.array([[0.1], [2]], np.float16),
        "large": np.array([2**64 - 1, 0], np.uint64),
        "other": np.array(
            [1, 2], np.longlong
        ),  # which orjson takes as an array, and not as a number
        "truth": np.array([True, False]),
        "span": np.array([1500, "NaT"], "m8[ms]"),
    }
    reply = written(Query(None, tuple(answers)), answers)
    assert reply.body == (
        b'{"predictions":[{"single":0.1,"half":[0.099975586],"large":18446744073709551615,"other":1,'
        b'"truth":true,"span":1.5},{"single":0.000001,"half":[2.0],"large":0,"other":2,'
        b'"truth":false,"span":null}]}'
    )
    for name in answers:
        one = written(Query(None, (name,)), answers)
        by_name = [record[name] for record in json.loads(reply.body)["predictions"]]
        assert json.loads(one.body) == {"predictions": by_name}


def test_others_have_a_turn_after_parsing():
    steps = instances.read(b'{"instances": []}', {}, model_of(NUMBERS).signature, LIMITS)
    assert [*steps] == [None]


def test_an_infinity_in_the_middle_of_a_long_answer_is_refused():
    answers = {"y": np.zeros(50_000)}
    answers["y"][30_000] = np.inf
    with pytest.raises(Refused, match="infinity"):
        written(Query(None, ("y",)), answers)


@pytest.mark.parametrize("shape", [(), (1,), (3, 2)])
def test_an_output_without_a_value_for_each_instance_is_refused(shape):
    """It was a 500, or, where its size was the number of instances, a part of it for each of them."""
    outputs = (mk.TensorSpec("y", "float64", ("batch",)), mk.TensorSpec("n", "float64", shape))
    model = mk.FunctionModel(
        lambda feeds: {"y": feeds["x"].sum(axis=1), "n": np.zeros(shape)},
        mk.Signature(SIGNATURE.inputs, outputs),
        batchable=False,
    )
    with Client(mk.App({"sum": model})) as client:
        asked = {"instances": [[1.0, 2.0]]}
        answer = client.post("/models/sum/instances", json=asked)
        assert (answer.status, "'n'" in answer.json()["error"]) == (400, True)
        asked["parameters"] = {"outputs": ["y"]}
        answer = client.post("/models/sum/instances", json=asked)
        assert answer.json() == {"predictions": [3.0]}
