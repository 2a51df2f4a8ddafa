"""Embeddings as the clients of OpenAI and of TEI ask for them, from an App in this process."""

import base64
import hashlib
import io
import json
import math

import numpy as np
import pytest
from helpers.apps import summed
from helpers.client import Client
from helpers.encoders import INPUTS, OUTPUT, model_over_tokens, proto_of, tiny, tiny_tokenizer
from helpers.records import hearing
from onnx import TensorProto, helper

import modelkit as mk
from modelkit import events
from modelkit.model.call import PLAIN
from modelkit.serving.batching.policy import make_plan
from modelkit.serving.metering import requests
from modelkit.types import Limits
from modelkit.web.texts import LONG_TEXTS

OPENAI = "/v1/embeddings"
TEI = "/embed"
ROLES = {"query": "query ", "passage": "text "}
TEXTS = ["the river", "a museum of music in winter", "", "green"]


@pytest.fixture(scope="module")
def model():
    return tiny(roles=ROLES, dims=(8, 4))


@pytest.fixture
def client(model):
    with Client(mk.App({"tiny": model, "sum": summed()})) as client:
        yield client


def vectors_of(answer):
    """The vectors of an answer in the form of OpenAI, which is checked."""
    assert answer.status == 200, answer.body
    body = answer.json()
    assert body["object"] == "list"
    assert [each["object"] for each in body["data"]] == ["embedding"] * len(body["data"])
    assert [each["index"] for each in body["data"]] == [*range(len(body["data"]))]
    return np.array([each["embedding"] for each in body["data"]], np.float32)


def from_base64(answer):
    """The vectors of an answer, as the client of OpenAI reads them."""
    data = [base64.b64decode(each["embedding"]) for each in answer.json()["data"]]
    return np.array([np.frombuffer(raw, "<f4") for raw in data])


def test_texts_become_vectors_as_openai_answers(client, model):
    answer = client.post(OPENAI, json={"input": TEXTS, "model": "tiny"})
    np.testing.assert_array_equal(vectors_of(answer), model.embed(TEXTS))
    tokens = int(model.token_count(TEXTS).sum())
    body = answer.json()
    assert body["model"] == "tiny"
    assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    one = client.post(OPENAI, json={"input": TEXTS[0], "model": "tiny", "user": "u-7"})
    np.testing.assert_allclose(vectors_of(one), model.embed(TEXTS[:1]), rtol=1e-6)


def test_base64_has_the_bytes_of_floats_little_endian(client, model):
    asked = {"input": TEXTS, "model": "tiny", "encoding_format": "base64"}
    answer = client.post(OPENAI, json=asked)
    np.testing.assert_array_equal(from_base64(answer), model.embed(TEXTS))
    raw = base64.b64decode(answer.json()["data"][0]["embedding"])
    assert raw == model.embed(TEXTS)[0].astype("<f4").tobytes()


@pytest.mark.parametrize("form", ["float", "base64"])
def test_a_long_answer_is_the_same_as_many_short_ones(client, model, form):
    texts = [f"{TEXTS[at % 4]} {'river ' * (at % 7)}" for at in range(2500)]
    asked = {"model": "tiny", "encoding_format": form, "dimensions": 8}
    answer = client.post(OPENAI, json={"input": texts, **asked})
    found = vectors_of(answer) if form == "float" else from_base64(answer)
    assert [each["index"] for each in answer.json()["data"]] == [*range(2500)]
    np.testing.assert_allclose(found, model.embed(texts), rtol=1e-5, atol=1e-6)


def test_dimensions_cut_vectors_and_make_them_unit_again(client, model):
    asked = {"input": TEXTS, "model": "tiny", "dimensions": 4}
    found = vectors_of(client.post(OPENAI, json=asked))
    np.testing.assert_array_equal(found, model.embed(TEXTS, dims=4))
    lists = client.post(TEI, json={"inputs": TEXTS, "dimensions": 4}).json()
    np.testing.assert_array_equal(np.array(lists, np.float32), found)


@pytest.mark.parametrize(
    ("kind", "role"),
    [
        ("query", "query"),
        ("search_query", "query"),
        ("passage", "passage"),
        ("document", "passage"),
        ("search_document", "passage"),
        (None, None),
    ],
)
def test_an_input_type_is_a_role(client, model, kind, role):
    asked = {"input": TEXTS, "model": "tiny", "input_type": kind}
    answer = client.post(OPENAI, json=asked)
    np.testing.assert_array_equal(vectors_of(answer), model.embed(TEXTS, role=role))
    tokens = int(model.token_count(TEXTS, role=role).sum())
    assert answer.json()["usage"]["prompt_tokens"] == tokens


def test_where_an_encoder_lacks_the_role_nothing_stands_before_a_text():
    model = tiny(roles={"query": "query ", "topic": "the "})
    with Client(mk.App({"tiny": model})) as client:
        for kind, role in (("query", "query"), ("document", None), ("topic", "topic")):
            answer = client.post(OPENAI, json={"input": TEXTS, "input_type": kind})
            np.testing.assert_array_equal(vectors_of(answer), model.embed(TEXTS, role=role))
        answer = client.post(OPENAI, json={"input": TEXTS, "input_type": "classification"})
        assert answer.status == 400
        assert "topic" in answer.json()["error"]["message"]


def test_tei_gets_lists_of_numbers(client, model):
    """Vectors that an encoder makes unit stay so, as in sentence-transformers, whatever Haystack sends."""
    for asked in ({}, {"normalize": False}):
        found = client.post(TEI, json={"inputs": TEXTS, **asked}).json()
        np.testing.assert_array_equal(np.float32(found), model.embed(TEXTS))
    asked = {"inputs": TEXTS[1], "prompt_name": "query", "normalize": True, "truncate": True,
             "truncation_direction": "Right"}  # fmt: skip
    found = client.post(TEI, json=asked).json()
    np.testing.assert_allclose(found, model.embed(TEXTS[1:2], role="query"), rtol=1e-6)


def test_tei_may_refuse_a_text_that_is_cut(client):
    long = ["the river", "river " * 40]
    assert client.post(TEI, json={"inputs": long}).status == 200
    answer = client.post(TEI, json={"inputs": long, "truncate": False})
    assert answer.status == 422
    assert answer.json()["error"].startswith("1 of the texts have more than the 16 tokens")
    assert client.post(TEI, json={"inputs": long[0], "truncate": False}).status == 200


@pytest.mark.parametrize(("side", "other"), [("left", "right"), ("right", "left")])
def test_a_text_is_cut_at_the_end_that_the_tokenizer_cuts_at(side, other):
    tokenizer = tiny_tokenizer()
    tokenizer.enable_truncation(16, direction=side)
    model = tiny(tokenizer=tokenizer)
    with Client(mk.App({"tiny": model})) as client:
        for word in (side, side.title()):
            asked = {"inputs": "green " + "river " * 40, "truncation_direction": word}
            found = client.post(TEI, json=asked).json()
            np.testing.assert_array_equal(np.float32(found), model.embed([asked["inputs"]]))
        refused = client.post(TEI, json={"inputs": "a", "truncation_direction": other})
    assert (refused.status, f'["{side}","{side.title()}"]' in refused.json()["error"]) == (
        400,
        True,
    )


def test_vectors_of_any_length_are_made_unit_where_tei_wants_it():
    model = tiny(normalize=False, dims=(8, 4))
    with Client(mk.App({"tiny": model})) as client:
        for asked in ({}, {"normalize": False}):
            found = client.post(TEI, json={"inputs": TEXTS, **asked}).json()
            np.testing.assert_array_equal(np.float32(found), model.embed(TEXTS))
        found = client.post(TEI, json={"inputs": TEXTS, "normalize": True, "dimensions": 4}).json()
        whole = model.embed(TEXTS, dims=4)
        lengths = np.linalg.norm(whole, axis=1, keepdims=True)
        np.testing.assert_allclose(found, whole / lengths, rtol=1e-6)


def test_usage_counts_the_tokens_that_run(client):
    answer = client.post(OPENAI, json={"input": ["river " * 40, "river"], "model": "tiny"})
    assert answer.json()["usage"]["prompt_tokens"] == 16 + 3


# Which model is asked.


def test_the_only_encoder_needs_no_name(client, model):
    np.testing.assert_array_equal(
        vectors_of(client.post(OPENAI, json={"input": TEXTS})), model.embed(TEXTS)
    )
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [each["id"] for each in listed["data"]] == ["tiny"]
    assert client.get("/v1/models/tiny").json() == listed["data"][0]


@pytest.mark.parametrize("name", ["sum", "ada", "tiny/", "tiny/infer"])
def test_what_is_not_listed_is_not_found_alone(client, name):
    answer = client.get(f"/v1/models/{name}")
    assert (answer.status, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_of_several_encoders_one_has_to_be_named(model):
    with Client(mk.App({"tiny": model, "other": tiny()})) as client:
        answer = client.post(OPENAI, json={"input": TEXTS})
        assert answer.status == 400
        assert "['tiny', 'other']" in answer.json()["error"]["message"]
        assert client.post(TEI, json={"inputs": TEXTS, "model": "other"}).status == 200
    with Client(mk.App({"sum": summed()})) as client:
        answer = client.post(OPENAI, json={"input": TEXTS})
        assert (answer.status, "such requests: none" in answer.json()["error"]["message"]) == (
            400,
            True,
        )


def test_an_unknown_model_and_one_without_vectors_are_refused(client):
    unknown = client.post(OPENAI, json={"input": "a", "model": "text-embedding-3-small"})
    assert unknown.status == 404
    assert unknown.json()["error"]["code"] == "model_not_found"
    other = client.post(OPENAI, json={"input": "a", "model": "sum"})
    assert other.status == 400
    assert "another kind of model" in other.json()["error"]["message"]


def test_a_model_that_is_replaced_answers_from_then_on(model):
    newer = tiny(pooling="max")
    app = mk.App({"tiny": model})
    with Client(app) as client:
        asked = {"input": TEXTS, "model": "tiny"}
        np.testing.assert_array_equal(
            vectors_of(client.post(OPENAI, json=asked)), model.embed(TEXTS)
        )
        app.replace("tiny", newer)
        np.testing.assert_array_equal(
            vectors_of(client.post(OPENAI, json=asked)), newer.embed(TEXTS)
        )


# What is refused, and in which form.

BAD = [
    # the body, and words of the message
    ({}, "input is null"),
    ({"input": None}, "input is null"),
    ({"input": []}, "a list of one text or more"),
    ({"input": {}}, "input is an object"),
    ({"input": 5}, "input is 5 (a number)"),
    ({"input": True}, "input is true (a boolean)"),
    ({"input": ["a", None]}, "input[1] is null"),
    ({"input": ["a", 1.5]}, "input[1] is 1.5 (a number); send a text"),
    ({"input": [["a"]]}, "input[0] is a list"),
    ({"input": [1, 2, 3]}, "check_embedding_ctx_length=False"),
    ({"input": [[1, 2], [3]]}, "check_embedding_ctx_length=False"),
    ({"input": "a", "dimensions": 5}, "send one of [8,4]"),
    ({"input": "a", "dimensions": 0}, "send one of [8,4]"),
    ({"input": "a", "dimensions": -4}, "send one of [8,4]"),
    ({"input": "a", "dimensions": 4.0}, "send one of [8,4]"),
    ({"input": "a", "dimensions": True}, "send one of [8,4]"),
    ({"input": "a", "dimensions": "4"}, "send one of [8,4]"),
    ({"input": "a", "encoding_format": "int8"}, 'encoding_format is "int8" (a string)'),
    ({"input": "a", "encoding_format": ["float"]}, "encoding_format is a list"),
    ({"input": "a", "input_type": 7}, "input_type is 7"),
    ({"input": "a", "input_type": "clustering"}, '[null,"query","passage","search_query","document","search_document"'),
    ({"input": "a", "stream": True}, 'no field "stream"'),
    ({"input": "a", "model": 7}, "model is 7"),
    ({"input": "a", "model": ""}, 'model is ""'),
    ({"input": "a", "model": ["tiny"]}, "model is a list"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "words"), BAD, ids=lambda each: str(each)[:40])
def test_what_is_no_request_is_refused_in_the_form_of_openai(client, body, words):
    answer = client.post(OPENAI, json=body)
    assert answer.status == 400, answer.body
    error = answer.json()["error"]
    assert words in error.pop("message")
    assert error == {"type": "invalid_request_error", "param": None, "code": None}


BYTES = [
    (b"", "not JSON"),
    (b"[]", "a JSON object is expected"),
    (b"{", "not JSON"),
    (b'{"input": "\\ud800"}', "not JSON"),
    (b'{"input": "\xff"}', "not JSON"),
    (b'{"input": "a", "input": "b"}', "twice"),
    (b'{"input": "a", "model": "tiny", "model": "sum"}', "twice"),
    (b'{"input": NaN}', "not JSON"),
]


@pytest.mark.parametrize(("body", "words"), BYTES)
@pytest.mark.parametrize("path", [OPENAI, TEI])
def test_bytes_that_are_no_request_are_refused(client, path, body, words):
    body = body.replace(b"input", b"inputs") if path == TEI else body
    answer = client.post(path, body=body, headers={"content-type": "application/json"})
    assert answer.status == 400, answer.body
    error = answer.json()["error"]
    assert words in (error["message"] if path == OPENAI else error)


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"inputs": []}, 400, "a list of one text or more"),
        ({"inputs": [["a", "b"]]}, 400, "inputs[0] is a list"),
        ({"inputs": "a", "normalize": 0}, 400, "normalize is 0"),
        ({"inputs": "a", "truncation_direction": "left"}, 400, "truncation_direction"),
        ({"inputs": "a", "truncate": "yes"}, 400, "truncate is"),
        ({"inputs": "a", "prompt_name": "title"}, 400, '[null,"query","passage"]'),
        ({"inputs": "a", "prompt_name": 5}, 400, '[null,"query","passage"]'),
        ({"inputs": "a", "truncate": 1}, 400, "[true,false]"),
        ({"input": "a"}, 400, 'no field "input"'),
    ],
)
def test_what_is_no_request_is_refused_in_the_form_of_tei(client, asked, status, words):
    answer = client.post(TEI, json=asked)
    assert (answer.status, words in answer.json()["error"]) == (status, True), answer.body
    assert answer.json()["error_type"] == "Validation"


@pytest.mark.parametrize(
    ("path", "field", "field_of_texts"),
    [
        (OPENAI, "model", "input"),
        (OPENAI, "dimensions", "input"),
        (OPENAI, "input_type", "input"),
        (OPENAI, "encoding_format", "input"),
        (TEI, "prompt_name", "inputs"),
        (TEI, "model", "inputs"),
    ],
)
def test_an_answer_does_not_repeat_a_long_value(client, path, field, field_of_texts):
    answer = client.post(path, json={field_of_texts: "a", field: "x" * 100_000})
    assert answer.status in (400, 404)
    assert len(answer.body) < 500


def test_a_path_below_v1_that_there_is_not_is_refused_in_the_form_of_openai(client):
    for path in ("/v1/chat/completions", "/v1/embeddings/", "/v1/models/tiny/infer"):
        answer = client.post(path, json={})
        assert (answer.status, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_a_full_queue_is_refused_in_the_form_of_openai():
    """The client of OpenAI waits as long as Retry-After says, and asks again."""
    plan = make_plan(((3, 3e-3), (512, 4e-3)), 1, 512)
    batcher = mk.Batcher(tiny(), max_queue=4, plan=plan, loop=False)
    with batcher, Client(mk.App({"tiny": batcher})) as client:
        asked = {"method": "POST", "path": OPENAI, "json": {"input": ["river"] * 20}}
        answers = client.concurrently([asked] * 8)
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    for answer in refused:
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(answer.headers["retry-after"]) <= 30


def test_limits_hold_for_texts_too(model):
    limits = Limits(rows=3, json=2000, letters=900, seconds=5)
    with Client(mk.App({"tiny": model}, limits=limits)) as client:
        for asked, status in ((["a"] * 4, 413), ("a" * 2000, 413), ("a" * 1200, 413), ("a", 200)):
            answer = client.post(OPENAI, json={"input": asked})
            assert answer.status == status, answer.body
            if status == 413:
                assert answer.json()["error"]["type"] == "invalid_request_error"
        asked = {"json": {"input": "a"}, "headers": {"request-timeout": "1e-9"}}
        late = client.post(OPENAI, **asked)
        assert (late.status, late.json()["error"]["type"]) == (504, "server_error")


def test_a_prefix_does_not_count_towards_the_letters_of_a_text(model):
    with Client(mk.App({"tiny": model}, limits=Limits(letters=900))) as client:
        asked = {"input": "a" * 900, "input_type": "query"}
        assert client.post(OPENAI, json=asked).status == 200


def test_an_empty_text_and_odd_letters_have_vectors(client, model):
    texts = ["", " ", "\0", "\N{GRINNING FACE}", "e\u0301", "\ufeff", "\u202eriver", "x" * 5000]
    np.testing.assert_array_equal(
        vectors_of(client.post(OPENAI, json={"input": texts})), model.embed(texts)
    )


def test_vectors_that_are_not_finite_are_a_failure_of_the_model():
    """In JSON they would be null, and in base64 NaN: both would spoil an index."""
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Log", ["float"], ["log"]),  # of [PAD], which the tokenizer knows as 0
        helper.make_node("Unsqueeze", ["log", "last"], ["wide"]),
        helper.make_node("Expand", ["wide", "size"], ["last_hidden_state"]),
    ]
    weights = {"last": np.array([2]), "size": np.array([1, 1, 8])}
    model = tiny(proto_of(nodes, INPUTS, (OUTPUT,), weights), normalize=False)
    assert not math.isfinite(model.embed(["[PAD] river"])[0, 0])
    with Client(mk.App({"tiny": model})) as client:
        for asked in ({}, {"encoding_format": "base64"}):
            answer = client.post(OPENAI, json={"input": ["river", "[PAD] river"], **asked})
            assert answer.status == 500
            error = answer.json()["error"]
            assert error["type"] == "server_error"
            assert "text 1" in error["message"]
        assert client.post(TEI, json={"inputs": "[PAD]"}).status == 500
        assert client.post(OPENAI, json={"input": "river"}).status == 200


# What holds for every route.


def test_who_asks_is_asked_for_a_key(model):
    tokens = {"billing": hashlib.sha256(b"sk-1").hexdigest()}

    def policy(principal, action, about):
        return principal == "billing" or "only billing may"

    guarded = mk.Guarded(model, policy)
    app = mk.App(
        {"tiny": guarded},
        auth=mk.bearer_tokens({**tokens, "other": hashlib.sha256(b"2").hexdigest()}),
    )
    with Client(app) as client:
        for key, status, code in (
            ("sk-1", 200, None),
            ("2", 403, None),
            ("wrong", 401, "invalid_api_key"),
        ):
            headers = {"authorization": f"Bearer {key}"}
            answer = client.post(OPENAI, json={"input": "a"}, headers=headers)
            assert answer.status == status, answer.body
            assert status == 200 or answer.json()["error"]["code"] == code


def test_requests_are_counted_and_told_with_their_model(client):
    with hearing(events.Handled) as heard:
        client.post(OPENAI, json={"input": "a", "model": "tiny"})
        client.post(OPENAI, json={"input": "a", "model": "nobody"})
    assert [(each.route, each.model, each.status) for each in heard] == [
        (OPENAI, "tiny", 200),
        (OPENAI, "", 404),
    ]
    assert (OPENAI, 200) in requests.totals().requests


def test_wsgi_answers_the_same(model):
    body = json.dumps({"input": TEXTS, "model": "tiny"}).encode()
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": OPENAI,
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    told = []
    parts = mk.App({"tiny": model}).wsgi(environ, lambda status, headers: told.append(status))
    found = json.loads(b"".join(parts))
    assert told == ["200 OK"]
    np.testing.assert_array_equal(
        np.array([each["embedding"] for each in found["data"]], np.float32), model.embed(TEXTS)
    )


def test_requests_of_several_clients_share_runs():
    """Those that come at once are run together, as many as fit into the tokens of a run."""
    sizes = []
    inner = model_over_tokens()

    def run(feeds):
        sizes.append(len(feeds["input_ids"]))
        return inner._run(feeds, ("last_hidden_state",), PLAIN)

    model = tiny(mk.FunctionModel(run, inner.signature, batchable=True))
    plan = make_plan(((3, 3e-3), (512, 4e-3)), 1, 512)  # worth gathering, too slow for the loop
    with mk.Batcher(model, plan=plan) as batcher, Client(mk.App({"tiny": batcher})) as client:
        sizes.clear()
        asked = [{"input": f"the river {'a ' * at}"} for at in range(8)]
        answers = client.concurrently(
            [{"method": "POST", "path": OPENAI, "json": each} for each in asked]
        )
        for each, answer in zip(asked, answers, strict=True):
            np.testing.assert_allclose(
                vectors_of(answer)[0], model.embed([each["input"]])[0], rtol=1e-5
            )
        assert batcher.stats().batches <= 2
        assert max(sizes) >= 4


def test_a_long_body_is_read_beside_the_event_loop(client, model):
    text = "the river " * (LONG_TEXTS // 10 + 1)
    found = vectors_of(client.post(OPENAI, json={"input": [text, "green"]}))
    np.testing.assert_allclose(found, model.embed([text, "green"]), rtol=1e-6)
