"""The table of errors, row by row: the status, the headers, and `{"error": ...}` for every one of them."""

from __future__ import annotations

import hashlib
import logging
import re
import time

import pytest
from helpers.apps import EXPLAIN, INFER, PREDICT, ROW, Gate, summed, tensor
from helpers.client import Client
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit import errors
from modelkit.serving.metering import requests
from modelkit.types import Limits
from modelkit.web import asgi
from modelkit.web.routes import TEMPLATES

SMALL = Limits(body=2000, rows=4, requests=2, seconds=20.0)


def failing(error):
    def fail(feeds):
        raise error

    return summed(fail)


@pytest.fixture
def client():
    with Client(mk.App({"sum": summed()}, limits=SMALL)) as client:
        yield client


def told(answer):
    """What an error says, whose form is always the same."""
    value = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert set(value) in ({"error"}, {"error", "problems"})
    assert isinstance(value["error"], str)
    return value["error"]


BAD = [
    (b"{", "not JSON"),
    (b"[]", "object"),
    (b"{}", "inputs"),
    (b'{"inputs": []}', "inputs"),
    (b"\xff\xfe", "not JSON"),
    (b"[" * 3000 + b"]" * 3000, ""),
]


@pytest.mark.parametrize(("body", "word"), BAD)
def test_what_is_no_request_is_400(client, body, word):
    answer = client.post(INFER, body=body[:2000])
    assert answer.status == 400
    assert word in told(answer)


MISFITS = [
    tensor(shape=[2, 2]),
    tensor(shape=[-1, 2]),
    tensor(shape=["1", "2"]),
    tensor(datatype="FLOAT"),
    tensor() | {"outputs": [{"name": "nope"}]},
]


@pytest.mark.parametrize("request_", MISFITS)
def test_tensors_that_do_not_fit_themselves_are_400(client, request_):
    answer = client.post(INFER, json=request_)
    assert answer.status == 400
    assert told(answer)


HEADERS = [
    ("request-timeout", "soon"),
    ("request-timeout", "-1"),
    ("request-timeout", "nan"),
    ("x-envoy-expected-rq-timeout-ms", "0"),
    ("inference-header-content-length", "many"),
]


@pytest.mark.parametrize(("name", "value"), HEADERS)
def test_a_header_that_says_nothing_sensible_is_400(client, name, value):
    answer = client.post(INFER, json=tensor(), headers={name: value})
    assert answer.status == 400
    assert value in told(answer)


def test_nobody_and_strangers_are_401():
    auth = mk.bearer_tokens(hashlib.sha256(b"right").hexdigest())
    with Client(mk.App({"sum": summed()}, auth=auth)) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": "wrong"}):
            answer = client.post(PREDICT, json=ROW, headers=headers)
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert "wrong" not in told(answer)


@pytest.mark.parametrize(("gives", "status"), [("", 401), (None, 401), (True, 500), ({}, 500)])
def test_what_is_no_name_lets_nobody_in(gives, status):
    with Client(mk.App({"sum": summed()}, auth=lambda headers: gives)) as client:
        assert client.post(PREDICT, json=ROW).status == status


def test_a_principal_that_may_not_is_403():
    def auth(headers):
        raise PermissionError("alice may not ask on Sundays")

    with Client(mk.App({"sum": summed()}, auth=auth)) as client:
        answer = client.post(PREDICT, json=ROW)
    assert answer.status == 403
    assert told(answer) == "alice may not ask on Sundays"


UNKNOWN = [
    ("GET", "/nothing"),
    ("POST", "/v2/models/other/infer"),
    ("POST", "/models/other/predict"),
    ("GET", "/v2/models/other"),
    ("GET", "/v2/models/other/ready"),
    ("GET", "/v2/models/sum/versions/1"),
    ("POST", "/v2/models/sum/versions/1/infer"),
    ("GET", "/metrics"),
    ("GET", "/v2/"),
    ("GET", "/v2/models/"),
    ("POST", "/models/sum/predict/more"),
    ("GET", "//"),
]


@pytest.mark.parametrize(("method", "path"), UNKNOWN)
def test_what_is_not_there_is_404(client, method, path):
    answer = client.request(method, path)
    assert answer.status == 404
    assert told(answer)


METHODS = [
    ("GET", INFER, "POST"),
    ("PUT", INFER, "POST"),
    ("DELETE", PREDICT, "POST"),
    ("OPTIONS", EXPLAIN, "POST"),
    ("POST", "/v2", "GET, HEAD"),
    ("POST", "/v2/health/ready", "GET, HEAD"),
    ("PATCH", "/", "GET, HEAD"),
]


@pytest.mark.parametrize(("method", "path", "allowed"), METHODS)
def test_another_method_is_405_and_told_which(client, method, path, allowed):
    answer = client.request(method, path)
    assert answer.status == 405
    assert answer.headers["allow"] == allowed
    assert allowed in told(answer)


def test_a_body_that_is_too_large_is_413_and_ends_the_connection(client):
    answer = client.post(INFER, body=b" " * 2001)
    assert answer.status == 413
    assert answer.headers["connection"] == "close"
    assert "2,000 bytes" in told(answer)


def test_too_many_rows_are_413(client):
    answer = client.post(INFER, json=tensor([(1.0, 2.0)] * 5))
    assert answer.status == 413
    assert "5 rows" in told(answer)


TYPES = [
    ({"content-type": "text/csv"}, "text/csv"),
    ({"content-type": "application/x-www-form-urlencoded"}, "urlencoded"),
    ({"content-encoding": "br"}, "br"),
    ({"content-encoding": "gzip, gzip"}, "gzip"),
]


@pytest.mark.parametrize(("headers", "word"), TYPES)
def test_another_type_or_encoding_is_415(client, headers, word):
    answer = client.post(INFER, json=tensor(), headers=headers)
    assert answer.status == 415
    assert word in told(answer)


def test_rows_that_the_signature_refuses_are_422_with_every_problem(client):
    answer = client.post(PREDICT, json={"rows": [{"a": "one", "c": 2.0}]})
    assert answer.status == 422
    assert told(answer)
    problems = answer.json()["problems"]
    assert len(problems) > 1
    assert any("'b'" in problem for problem in problems)


def test_a_full_queue_is_429_and_says_when_to_come_back():
    error = errors.Overloaded("the queue is full", queued=64, max_queue=64)
    with Client(mk.App({"sum": failing(error)})) as client:
        answer = client.post(PREDICT, json=ROW)
    assert answer.status == 429
    assert answer.headers["retry-after"] == "1"
    assert told(answer) == "the queue is full"


def test_a_closed_model_is_503():
    model = summed()
    model.close()
    with Client(mk.App({"sum": model})) as client:
        answer = client.post(PREDICT, json=ROW)
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert "closed" in told(answer)


def test_a_closed_app_is_503():
    app = mk.App({"sum": summed()})
    app.close()
    client = Client(app)
    with pytest.raises(RuntimeError, match="was closed"), client:
        pass


TIMES = [
    ({"request-timeout": "0.000001"}, {}),
    ({"x-envoy-expected-rq-timeout-ms": "0.001"}, {}),
    ({}, {"parameters": {"timeout": 1}}),
    (
        {"request-timeout": "5", "x-envoy-expected-rq-timeout-ms": "0.001"},
        {"parameters": {"timeout": 10**7}},
    ),
]


@pytest.mark.parametrize(("headers", "more"), TIMES)
def test_a_deadline_that_has_passed_is_504_and_the_model_is_not_asked(headers, more):
    asked = []
    with Client(mk.App({"sum": summed(asked.append)})) as client:
        answer = client.post(INFER, json=tensor() | more, headers=headers)
    assert answer.status == 504
    assert "deadline" in told(answer)
    assert not asked


def test_an_answer_that_comes_too_late_is_504(monkeypatch):
    """By the clock of who looks at that, which goes once the model has begun."""
    gate = Gate()
    monkeypatch.setattr(asgi, "monotonic", lambda: time.monotonic() + 1000 * gate.calls)
    with Client(mk.App({"sum": gate.model})) as client:
        answer = client.post(PREDICT, json=ROW, headers={"request-timeout": "20"})
        gate.open()
    assert answer.status == 504
    assert gate.calls == 1


def test_a_model_that_fails_is_500_and_the_log_has_the_reason(caplog):
    with Client(mk.App({"sum": failing(ZeroDivisionError("secret 4711"))})) as client:
        answer = client.post(PREDICT, json=ROW, headers={"x-request-id": "abc-1"})
    assert answer.status == 500
    assert told(answer) == "ZeroDivisionError while answering; the log has it as request abc-1"
    assert answer.headers["x-request-id"] == "abc-1"
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.name == "modelkit"
    assert record.modelkit_request_id == "abc-1"
    assert record.exc_info[0].__name__ == "ZeroDivisionError"
    assert "secret 4711" not in logging.Formatter().format(record)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TimeoutError("postgres://user:4711@db timed out"), 504),
        (PermissionError("token 4711"), 403),
        (ConnectionError("4711"), 500),
        (PermissionError(13, "denied", "/4711"), 500),
    ],
)
def test_no_text_of_an_error_that_is_not_ours_reaches_a_client(error, status):
    with Client(mk.App({"sum": failing(error)})) as client:
        answer = client.post(PREDICT, json=ROW, headers={"x-request-id": "r"})
    assert answer.status == status
    assert "4711" not in told(answer)


@pytest.mark.parametrize("sent", ["", "a\tb", "x" * 129])
def test_a_request_without_a_sensible_id_gets_one(sent, caplog):
    with Client(mk.App({"sum": failing(ZeroDivisionError())})) as client:
        answer = client.post(PREDICT, json=ROW, headers={"x-request-id": sent})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    caplog.clear()


def test_what_cannot_be_explained_is_501_with_the_reason(client):
    answer = client.post(EXPLAIN, json=ROW)
    assert answer.status == 501
    assert "background" in told(answer)


def test_every_status_is_counted_by_its_template():
    before = requests.totals().requests
    with Client(mk.App({"sum": summed()})) as client:
        client.get("/secret/4711")
        client.post("/v2/models/4711/infer", json=tensor())
        client.post(PREDICT, json=ROW)
    after = requests.totals()
    grown = {key: count - before.get(key, 0) for key, count in after.requests.items()}
    assert {key: count for key, count in grown.items() if count} == {
        ("unmatched", 404): 1,
        ("/v2/models/{model}/infer", 404): 1,
        ("/models/{model}/predict", 200): 1,
    }
    assert after.in_flight == 0


NAMES = st.sampled_from(["content-type", "content-length", "content-encoding", "request-timeout", "accept",
    "x-envoy-expected-rq-timeout-ms", "x-request-id", "authorization", "x-api-key", "expect",
    "inference-header-content-length"])  # fmt: skip
VALUES = st.text(st.characters(max_codepoint=255), max_size=40) | st.integers().map(str)
PARTS = st.sampled_from(
    [
        "",
        "v2",
        "models",
        "sum",
        "versions",
        "1",
        "infer",
        "predict",
        "explain",
        "ready",
        "health",
        "live",
        "metrics",
    ]
)
PATHS = st.lists(PARTS | st.text(max_size=8), max_size=8).map("/".join) | st.sampled_from(
    [INFER, PREDICT, EXPLAIN]
)
METHODS_TRIED = st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS", "get", ""])


def test_a_413_is_whole_though_the_time_of_a_request_is_short(monkeypatch):
    """The client says that more is to come, and sends nothing: that took longer than the limit."""
    monkeypatch.setattr(asgi, "_LINGER", 1000.0)
    app = mk.App({"sum": summed()}, limits=Limits(body=100, seconds=0.3))
    with Client(app) as client:
        answer = client.post(INFER, headers={"content-length": "5000"}, body=b"{")
    assert answer.status == 413
    assert b"100" in answer.body


@pytest.mark.usefixtures("own_counts")
def test_any_request_is_answered_and_never_by_a_failure():
    app = mk.App(
        {"sum": summed()},
        limits=Limits(body=100, seconds=0.2),
        auth=mk.bearer_tokens({"a": "0" * 64}),
    )
    opened = mk.App({"sum": summed()}, limits=Limits(body=100, seconds=0.2))

    @settings(max_examples=examples(300), deadline=None)
    @given(METHODS_TRIED, PATHS, st.dictionaries(NAMES, VALUES), st.binary(max_size=120))
    def ask(method, path, headers, body):
        scope_path = "/" + path.lstrip("/")
        for asking in (client, guarded):
            answer = asking.request(method, scope_path, headers=headers, body=[body])
            assert 200 <= answer.status < 600
            assert answer.status != 500, answer.body

    with Client(app) as guarded, Client(opened) as client:
        ask()
    assert {route for route, _ in requests.totals().requests} <= {*TEMPLATES, "unmatched"}


# Requests as newcomers send them.

BOTH = mk.Signature(
    (mk.TensorSpec("X", "float64", ("batch", 2), (mk.Column("a"), mk.Column("b"))),),
    (mk.TensorSpec("sum", "float64", ("batch",)),),
)

PIXELS = mk.Signature(
    (mk.TensorSpec("pixels", "float64", ("batch", 3)),),
    (mk.TensorSpec("sum", "float64", ("batch",)),),
)


def adding(signature=BOTH):
    (spec,) = signature.inputs
    return mk.FunctionModel(lambda feeds: {"sum": feeds[spec.name].sum(axis=1)}, signature)


@pytest.fixture(scope="module")
def newcomer():
    with Client(mk.App({"sum": adding(), "pixels": adding(PIXELS)})) as newcomer:
        yield newcomer


def asked_by(newcomer, path, **asked):
    answer = newcomer.post(path, **asked)
    return answer.status, answer.json()


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/models/sum/predict", {"a": 1, "b": 2}, 400, '"a" belongs to a row, and rows come as {"rows"'),
        ("/models/pixels/predict", {"pixels": [[1, 2, 3]]}, 400, 'rows come as {"inputs"'),
        ("/models/sum/predict", [{"a": 1, "b": 2}], 400, "openapi.json has examples"),
        ("/models/sum/predict", {"instances": [[1, 2]]}, 400, "POST /models/{model}/instances"),
        ("/models/sum/predict", {"rows": [[1, 2]]}, 400, "POST /models/{model}/instances"),
        ("/models/sum/predict", {"data": []}, 400, 'no field "data" is known: a request'),
        ("/models/sum/predict/", {}, 404, "is it '/models/sum/predict'?"),
        ("/metrics", {}, 404, "'/metrics'; GET /openapi.json lists"),
        ("/predict", {}, 404, "GET /openapi.json lists the paths"),
    ],
)  # fmt: skip
def test_what_is_right_elsewhere_is_said_to_be(newcomer, path, body, status, message):
    told, answer = asked_by(newcomer, path, json=body)
    assert told == status
    assert message in answer["error"]


def test_the_type_of_a_form_is_named_as_it_was_sent(newcomer):
    form = {"content-type": "application/x-www-form-urlencoded"}
    status, answer = asked_by(newcomer, "/models/sum/predict", headers=form, body=b"a=1")
    assert status == 415
    assert "the content is 'application/x-www-form-urlencoded'; send JSON" in answer["error"]


def test_uneven_rows_of_a_tensor_are_named(newcomer):
    asked = {"inputs": {"pixels": [[1, 2, 3], [1, 2, 3], [4]]}}
    status, answer = asked_by(newcomer, "/models/pixels/predict", json=asked)
    assert status == 422
    assert answer["problems"] == [
        "'pixels': row 2 has 1 values, and row 0 has 3; all rows of a tensor are of one size"
    ]


def test_problems_of_uneven_records_are_sentences(newcomer):
    asked = {"rows": [{"a": 1, "b": 2}, {"a": 1}]}
    status, answer = asked_by(newcomer, "/models/sum/predict", json=asked)
    assert status == 422
    assert answer["problems"] == ["the field 'b' is not in every record"]
