"""What an adversary found at the web edge, each as it was reproduced."""

import argparse
import asyncio
import gzip
import hashlib
import io
import json
import struct
from math import inf, nan

import numpy as np
import pytest
from helpers.apps import INFER, PREDICT, ROW, SIGNATURE, summed, tensor

import modelkit as mk
from modelkit.cli import main
from modelkit.cli.serve import add_serve
from modelkit.cli.settings import settings_of
from modelkit.errors import ClosedError, ModelkitError
from modelkit.testing import Client
from modelkit.types import Limits
from modelkit.web import plain, v2
from modelkit.web.asgi import headers_of
from modelkit.web.body import inflated

LIMITS = Limits()
OUT = mk.TensorSpec("y", "float32", ("batch",))


def test_a_gzip_body_of_many_empty_members_takes_no_time():
    """What follows a member was copied for each of them: 8 MiB took minutes of a thread."""
    body = gzip.compress(b"", mtime=0) * 300_000 + gzip.compress(b"{}", mtime=0)
    assert inflated(body, {b"content-encoding": b"gzip"}, 8 << 20) == b"{}"


# A tensor that is called as one of its columns.

MIXED = mk.Signature(
    (
        mk.TensorSpec(
            "any", "string", ("batch", 2), (mk.Column("any", "mixed"), mk.Column("text", "string"))
        ),
    ),
    (OUT,),
)


@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_whole_tensor_is_not_read_as_its_column_of_the_same_name(as_bytes):
    values = ["1.5", '"quoted"']
    told = {"name": "any", "datatype": "BYTES", "shape": [1, 2]}
    headers, tail = {}, b""
    if as_bytes:
        tail = b"".join(struct.pack("<I", len(text)) + text.encode() for text in values)
        told["parameters"] = {"binary_data_size": len(tail)}
    else:
        told["data"] = values
    head = json.dumps({"inputs": [told]}).encode()
    if as_bytes:
        headers = {v2.LENGTH_HEADER: b"%d" % len(head)}
    fed = MIXED.coerce(v2.read(head + tail, headers, MIXED, LIMITS).X)
    expected = MIXED.coerce([{"any": 1.5, "text": '"quoted"'}])
    assert fed["any"].tolist() == expected["any"].tolist()  # and not without the quotes


def test_columns_are_read_as_such_where_a_tensor_is_called_as_one():
    columns = {"any": ['"a"', "1"], "text": ['"b"', "2"]}
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [2], "data": values}
        for name, values in columns.items()
    ]
    fed = MIXED.coerce(v2.read(json.dumps({"inputs": inputs}).encode(), {}, MIXED, LIMITS).X)
    expected = MIXED.coerce({"any": ["a", 1], "text": ['"b"', "2"]})
    assert fed["any"].tolist() == expected["any"].tolist()


@pytest.mark.parametrize("form", ["columns", "inputs"])
def test_no_rows_of_a_tensor_that_is_called_as_its_column(form):
    columns = (mk.Column("x"), mk.Column("z"))
    signature = mk.Signature((mk.TensorSpec("x", "float64", ("batch", 2), columns),), (OUT,))
    body = json.dumps({form: {"x": [], "z": []}}).encode()
    assert signature.coerce(plain.read(body, {}, signature, LIMITS).X)["x"].shape == (0, 2)


@pytest.mark.parametrize("dtype", ["timedelta64[s]", "datetime64[s]", "bool"])
def test_a_column_that_is_called_as_another_tensor(dtype):
    signature = mk.Signature(
        (
            mk.TensorSpec("x", dtype, ("batch", 1), (mk.Column("a", dtype),)),
            mk.TensorSpec("other", "uint64", ("batch", 1), (mk.Column("x", "uint64"),)),
        ),
        (OUT,),
    )
    told, value = {
        "t": (60, np.timedelta64(60, "s")),
        "d": ("2026-01-31T12:30:00", np.datetime64("2026-01-31T12:30:00")),
        "b": (True, True),
    }[dtype[0]]
    rows = [{"a": told, "x": 2**64 - 1}]
    for asked in ({"rows": rows}, {"columns": {"a": [told], "x": [2**64 - 1]}}):
        fed = signature.coerce(plain.read(json.dumps(asked).encode(), {}, signature, LIMITS).X)
        assert fed["other"].tolist() == [[2**64 - 1]]
        assert fed["x"][0, 0] == value


# Instances.


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


# Who asks.


def status_of(app, headers):
    """The status of a request with these headers, of which some may come twice."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": json.dumps(ROW).encode()}

    scope = {"type": "http", "method": "POST", "path": PREDICT, "http_version": "1.1"}
    told = [(b"content-type", b"application/json"), *headers]
    asyncio.run(app({**scope, "headers": told}, receive, send))
    return sent[0]["status"]


GOOD = (b"authorization", b"Bearer good")
BAD = (b"authorization", b"Bearer bad")
GOOD_KEY = (b"x-api-key", b"good")
BAD_KEY = (b"x-api-key", b"bad")


@pytest.mark.parametrize(
    "headers", [(GOOD, BAD), (BAD, GOOD), (GOOD_KEY, BAD_KEY), (BAD_KEY, GOOD_KEY)]
)
def test_of_two_credentials_neither_counts(headers):
    """The last one did, and with other servers the first: a proxy may have checked the other."""
    app = mk.App({"sum": summed()}, auth=mk.tokens(hashlib.sha256(b"good").hexdigest()))
    assert status_of(app, [GOOD]) == 200
    assert status_of(app, headers) == 401
    app.close()


@pytest.mark.parametrize("scheme", [b"Basic eDp5", b"Digest a", b""])
def test_what_a_proxy_asks_for_may_stand_beside_a_key(scheme):
    """A proxy's own password was taken for the token."""
    app = mk.App({"sum": summed()}, auth=mk.tokens(hashlib.sha256(b"good").hexdigest()))
    proxy = (b"authorization", scheme)
    assert status_of(app, [proxy, GOOD_KEY]) == 200
    assert [status_of(app, [proxy, *other]) for other in ([], [BAD_KEY])] == [401, 401]
    assert status_of(app, [BAD, GOOD_KEY]) == 401
    app.close()


def test_thousands_of_headers_are_joined():
    """It took the square of their number."""
    told = [(b"%d" % at, b"a") for at in range(50_000)]
    headers = headers_of({"headers": [*told, *told]})
    assert (len(headers), headers[b"7"]) == (50_000, b"a, a")


def test_a_header_that_came_twice_is_seen_whole():
    seen = []
    app = mk.App({"sum": summed()}, auth=lambda headers: seen.append(dict(headers)))
    told = [(b"x-name", b"a"), (b"cookie", b"k=1"), (b"x-name", b"b"), (b"cookie", b"l=2")]
    assert status_of(app, told) == 401
    assert seen == [{"content-type": "application/json", "x-name": "a, b", "cookie": "k=1; l=2"}]
    app.close()


def test_the_digest_of_an_empty_token_is_refused():
    """As a shell makes it of a variable that is not set; any `X-API-Key:` would have passed."""
    for form in (hashlib.sha256(b"").hexdigest(), {"billing": hashlib.sha256(b"").hexdigest()}):
        with pytest.raises(ValueError, match="empty token"):
            mk.tokens(form)


@pytest.mark.parametrize("name", ["", 3, None, "a\nb"])
def test_a_caller_has_a_name(name):
    with pytest.raises(ValueError, match="name of a caller"):
        mk.tokens({name: "0" * 64})


def test_a_length_of_thousands_of_zeros_is_a_length():
    """It was a 500 behind a server of WSGI."""
    body = json.dumps(ROW).encode()
    app = mk.App({"sum": summed()})
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": PREDICT, "wsgi.input": io.BytesIO(body)}
    environ["CONTENT_TYPE"] = "application/json"
    told = []
    app.wsgi(
        {**environ, "CONTENT_LENGTH": "0" * 5000 + str(len(body))}, lambda *head: told.append(head)
    )
    assert told[0][0] == "200 OK"
    app.close()


# Limits, names and replacements.


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": nan}, {"seconds": inf}, {"seconds": 0}, {"seconds": "1"}, {"requests": 0},
        {"requests": True}, {"rows": -1}, {"body": "8"}, {"body": 1e6},
    ],
)  # fmt: skip
def test_limits_that_limit_nothing_are_refused(wrong):
    """With nan no request was ever late, and with 0 requests none was answered."""
    (name,) = wrong
    with pytest.raises(ValueError, match=rf"Limits\.{name} is a"):
        Limits(**wrong)


@pytest.mark.parametrize("name", [".", ".."])
def test_a_name_that_clients_resolve_is_refused(name):
    with pytest.raises(ValueError, match="part of a path"):
        mk.App({name: summed()})


def test_a_closed_model_replaces_none():
    """It did, and each request was answered with 503 from then on."""
    closed = summed()
    closed.close()
    app = mk.App({"sum": summed()})
    with Client(app) as client:
        with pytest.raises(ClosedError):
            app.replace("sum", closed)
        assert client.post(INFER, json=tensor()).status == 200


def test_all_is_closed_although_one_cannot_be(boosting_mk):
    """What came after the first that failed stayed open."""

    class Failing(mk.Wrapper):
        def close(self):
            raise OSError("the disk is full")

    app = mk.App({"first": boosting_mk, "second": boosting_mk})
    opened = [served.active.now.value.opened for served in app._edge.served.values()]
    for each in opened:
        each.model = Failing(each.model)
    with pytest.raises(OSError, match="the disk is full"):
        app.close()
    assert [each.model.closed for each in opened] == [True, True]


# The command.


@pytest.fixture
def serve(boosting_mk):
    return lambda *arguments: main(["serve", str(boosting_mk), "--port", "0", *arguments])


def test_what_is_wrong_with_names_and_tokens_is_told_without_a_traceback(serve, tmp_path, capsys):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"billing {hashlib.sha256(b'').hexdigest()}\n")
    undecodable = tmp_path / "bytes"
    undecodable.write_bytes(b"\xff")
    for wrong in (
        ("--name", ".."), ("--name", "a\nb"), ("--tokens", str(tokens)),
        ("--tokens", str(undecodable)), ("--host", "\u00e9..x"),
        ("--drain", "inf"),  # it never ended after SIGTERM
    ):  # fmt: skip
        assert serve(*wrong) != 0
        assert capsys.readouterr().err.startswith("modelkit: ")


def test_certificates_that_cannot_be_read_are_named(serve, tmp_path, capsys):
    for name in ("missing.pem", "empty.pem"):
        (tmp_path / "empty.pem").touch()
        assert serve("--ssl-certfile", str(tmp_path / name)) != 0
        assert name in capsys.readouterr().err


def test_a_number_of_many_digits_is_told_without_a_traceback():
    parser = argparse.ArgumentParser()
    add_serve(parser.add_subparsers())
    with pytest.raises(ModelkitError, match="PORT is a whole number"):
        settings_of(parser.parse_args(["serve", "x.mk"]), {"PORT": "9" * 5000})
