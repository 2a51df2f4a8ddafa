"""Limits: counted while reading, in bytes, inflated bytes, rows, requests and time; and clients that leave."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
import zlib

import onnx
import pytest
from helpers.apps import INFER, PREDICT, ROW, Gate, ask, summed, tensor, uvicorn_of, wait_for
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import modelkit as mk
from modelkit.serving.metering import requests
from modelkit.testing import Client
from modelkit.types import Limits
from modelkit.web.reply import Refused
from modelkit.web.room import Room
from modelkit.web.visit import Visit

BODY = json.dumps(tensor()).encode()
ENCODINGS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}


@pytest.fixture
def client():
    with Client(mk.App({"sum": summed()}, limits=Limits(body=1000))) as client:
        yield client


@pytest.mark.parametrize("encoding", [*ENCODINGS, "identity"])
def test_bodies_may_be_encoded(client, encoding):
    body = ENCODINGS.get(encoding, bytes)(BODY)
    answer = client.post(INFER, body=body, headers={"content-encoding": encoding})
    assert answer.status == 200, answer.body
    assert answer.json()["outputs"][0]["data"] == [3.0]


@pytest.mark.parametrize("limits", [Limits(body=1000), Limits(json=1000), Limits(999, 1000)])
def test_json_has_the_lesser_of_two_limits(limits):
    most = min(limits.body, limits.json)
    with Client(mk.App({"sum": summed()}, limits=limits)) as client:
        assert client.post(INFER, body=BODY.ljust(most)).status == 200
        for headers in ({}, {"content-encoding": "gzip"}):
            body = BODY.ljust(most + 1)
            answer = client.post(
                INFER, body=gzip.compress(body) if headers else body, headers=headers
            )
            assert answer.status == 413
            assert f"{most:,} bytes" in answer.json()["error"]


def test_only_tensors_as_bytes_may_be_larger_than_json():
    rows = b"\0" * 16 * 500
    told = {"name": "x", "shape": [500, 2], "datatype": "FP64"}
    inputs = [told | {"parameters": {"binary_data_size": len(rows)}}]
    head = json.dumps({"inputs": inputs}).encode()
    with Client(mk.App({"sum": summed()}, limits=Limits(json=1000))) as client:
        length = {
            "content-type": "application/octet-stream",
            "inference-header-content-length": str(len(head)),
        }
        assert client.post(INFER, body=head + rows, headers=length).status == 200
        assert client.post(PREDICT, body=head + rows, headers=length).status == 413
        length = {"inference-header-content-length": "1001"}
        answer = client.post(INFER, body=head.ljust(1001) + rows, headers=length)
    assert answer.status == 413
    assert "1,001 bytes of JSON" in answer.json()["error"]


def test_a_gzip_body_may_have_several_members(client):
    body = gzip.compress(BODY[:20]) + gzip.compress(BODY[20:])
    assert client.post(INFER, body=body, headers={"content-encoding": "gzip"}).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_inflates_beyond_the_limit_is_413(client, encoding):
    bomb = ENCODINGS[encoding](b" " * (1 << 24))
    if encoding == "gzip":
        bomb += bomb
    with Client(mk.App({"sum": summed()}, limits=Limits(body=1 << 20))) as larger:
        answer = larger.post(INFER, body=bomb, headers={"content-encoding": encoding})
    assert answer.status == 413
    assert "1,048,576" in answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [gzip.compress(BODY, mtime=0)[:-4], b"no gzip", gzip.compress(BODY, mtime=0) + b"more"],
    ids=["cut", "plain", "with more"],
)
def test_what_does_not_inflate_is_400(client, body):
    answer = client.post(INFER, body=body, headers={"content-encoding": "gzip"})
    assert answer.status == 400
    assert "gzip" in answer.json()["error"]


def test_a_chunked_body_is_counted_while_it_is_read():
    taken = []

    def parts():
        while True:
            taken.append(1)
            yield b" " * 100

    with Client(mk.App({"sum": summed()}, limits=Limits(body=1000))) as client:
        answer = client.post(INFER, body=parts())
    assert answer.status == 413
    assert answer.headers["connection"] == "close"
    assert (
        11 <= len(taken) < 60
    )  # the rest is taken for a while, so that the client reads the answer


def test_a_chunked_body_within_the_limit_is_read(client):
    answer = client.post(INFER, body=[BODY[:7], b"", BODY[7:]])
    assert answer.status == 200


def test_a_length_that_is_too_large_is_refused_before_anything_is_read():
    def parts():
        raise AssertionError("the body was read")
        yield

    with Client(mk.App({"sum": summed()}, limits=Limits(body=1000))) as client:
        headers = {"content-length": "1001", "expect": "100-continue"}
        answer = client.post(INFER, body=parts(), headers=headers)
    assert answer.status == 413


def test_a_body_that_never_ends_is_408():
    with Client(mk.App({"sum": summed()}, limits=Limits(seconds=0.2))) as client:
        answer = client.post(INFER, body=BODY, headers={"content-length": "100000"})
    assert answer.status == 408
    assert answer.headers["connection"] == "close"


def test_a_model_that_takes_too_long_is_504():
    gate = Gate()
    with Client(mk.App({"sum": gate.model}, limits=Limits(seconds=0.2))) as client:
        answer = client.post(PREDICT, json=ROW)
        gate.open()
    assert answer.status == 504


def test_one_request_too_many_is_429_and_health_is_answered():
    gate = Gate()
    refused = ("/models/{model}/predict", 429)
    before = requests.totals().requests.get(refused, 0)

    def was_refused():
        return requests.totals().requests.get(refused, 0) > before

    with Client(mk.App({"sum": gate.model}, limits=Limits(requests=3))) as client:
        many = [{"method": "POST", "path": PREDICT, "json": ROW} for _ in range(4)]
        many += [{"method": "GET", "path": f"/v2/health/{what}"} for what in ("ready", "live")]
        opening = threading.Thread(target=lambda: (wait_for(was_refused), gate.open()))
        opening.start()
        answers = client.concurrently(many)
        opening.join()
    statuses = [answer.status for answer in answers]
    assert statuses == [200, 200, 200, 429, 200, 200]
    assert answers[3].headers["retry-after"] == "1"
    assert "3 requests" in answers[3].json()["error"]


def test_the_wait_is_computed_from_what_waits_and_what_a_row_takes():
    from dataclasses import replace

    from modelkit.web.statuses import retry_after

    with mk.Batcher(summed(), plan="learn") as batcher:
        plan = replace(batcher.plan, curve=((1, 0.01), (100, 0.5)))
        assert retry_after(0, plan) == b"1"
        assert retry_after(400, plan) == b"2"
        assert retry_after(500, plan) == b"3"
        assert retry_after(10**6, plan) == b"30"
        assert retry_after(10**6, replace(plan, curve=())) == b"1"
    assert retry_after(10**6, None) == b"1"


def test_a_client_that_leaves_has_its_call_cancelled_and_harms_nobody():
    gate = Gate()
    meter = mk.Meter(gate.model)
    app = mk.App({"sum": meter})
    before = requests.totals().requests.get(("/models/{model}/predict", 499), 0)
    with Client(app) as client:
        stays = {"method": "POST", "path": PREDICT, "json": ROW}
        leaves = stays | {"leaves": gate.was_begun}

        def release():
            wait_for(lambda: meter.totals().calls["cancelled"] == 1)
            gate.open()

        releasing = threading.Thread(target=release)
        releasing.start()
        gone, *stayed = client.concurrently([leaves, stays, stays])
        releasing.join()
    assert gone.status == 0
    assert [answer.status for answer in stayed] == [200, 200]
    assert [answer.json()["outputs"]["prediction"] for answer in stayed] == [[3.0], [3.0]]
    assert requests.totals().requests["/models/{model}/predict", 499] == before + 1
    assert app.in_flight == 0


def test_a_client_that_leaves_a_queue_leaves_the_others_alone():
    """The first call runs, three wait for its thread in the queue of a Batcher; one of them leaves."""
    gate = Gate(batchable=True)
    with mk.Batcher(gate.model, plan="learn", loop=False, max_rows=1) as batcher:
        meter = mk.Meter(batcher)

        def one_leaves():
            return batcher.stats().queued >= 3

        def release():
            wait_for(lambda: meter.totals().calls["cancelled"] == 1)
            gate.open()

        releasing = threading.Thread(target=release)
        releasing.start()
        stays = {"method": "POST", "path": INFER, "json": tensor()}
        with Client(mk.App({"sum": meter})) as client:
            answers = client.concurrently([stays, stays, stays, stays | {"leaves": one_leaves}])
        releasing.join()
    assert [answer.status for answer in answers] == [200, 200, 200, 0]


def test_a_client_that_leaves_in_the_middle_of_its_body_is_counted():
    before = requests.totals().requests.get(("/models/{model}/predict", 499), 0)
    app = mk.App({"sum": summed()})
    with Client(app) as client:
        answer = client.request(
            "POST",
            PREDICT,
            body=b"{",
            headers={"content-type": "application/json", "content-length": "9"},
            leaves=lambda: app.in_flight == 1,
        )
    assert answer.status == 0
    assert requests.totals().requests["/models/{model}/predict", 499] == before + 1


def test_a_deadline_reaches_the_model():
    seen = []

    class Looking(mk.Wrapper):
        def _acall(self, X, outputs, call):
            seen.append(call.deadline and call.deadline - time.monotonic())
            return self._inner._acall(X, outputs, call)

    with Client(mk.App({"sum": Looking(summed())})) as client:
        client.post(INFER, json=tensor())
        client.post(INFER, json=tensor() | {"parameters": {"timeout": 5_000_000}})
        client.post(INFER, json=tensor(), headers={"request-timeout": "4"})
        client.post(INFER, json=tensor(), headers={"x-envoy-expected-rq-timeout-ms": "3000"})
        client.post(INFER, json=tensor(), headers={"request-timeout": "60"})
    assert seen[0] is None  # the App itself sees to its own
    for told, most in zip(seen[1:], (5, 4, 3, 30), strict=True):
        assert most - 2 < told <= most


def test_a_row_that_a_graph_goes_on_for_is_ended_and_holds_nobody_up(tmp_path):
    """It ran on the event loop for good: health, the limit of time and SIGTERM came to nothing."""
    x, y = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 1])
        for name in "xy"
    )
    body = onnx.parser.parse_graph(
        """body (int64 i, bool on, float[batch, 1] a) => (bool more, float[batch, 1] b)
        { more = Identity(on) b = Mul(a, a) }"""
    )
    nodes = [
        onnx.helper.make_node("Cast", ["x"], ["whole"], to=onnx.TensorProto.INT64),
        onnx.helper.make_node("ReduceMax", ["whole"], ["trips"], keepdims=0),
        onnx.helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body),
    ]
    opset = [onnx.helper.make_opsetid("", 18)]
    graph = onnx.helper.make_graph(nodes, "g", [x], [y])
    proto = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    mk.save(proto, tmp_path / "looping.mk", name="looping", version="1")
    with mk.load(tmp_path / "looping.mk", device="cpu") as model, mk.Batcher(model) as batcher:
        assert mk.Meter(batcher).endless
        assert (batcher.plan.loop_rows, batcher.plan.loop_batch) == (0, 0)
        with Client(mk.App({"looping": batcher}, limits=Limits(seconds=0.5))) as client:
            asked = [{"inputs": {"x": [[value]]}} for value in (3e10, 1.0)]
            answers = [client.post("/models/looping/predict", json=each) for each in asked]
    assert [answer.status for answer in answers] == [504, 200]


@pytest.mark.parametrize("path", [PREDICT, "/models/sum/instances", "/models/sum/outcome"])
def test_content_without_a_type_is_refused(path, client):
    """A page of any site could have a browser send it, without being asked for leave."""
    answer = client.post(path, body=json.dumps(ROW).encode())
    assert answer.status == 415
    assert "no Content-Type" in answer.json()["error"]


def test_clients_of_v2_may_leave_the_type_out_and_pages_may_not(client):
    assert client.post(INFER, body=BODY).status == 200
    for name in ("origin", "sec-fetch-site"):
        assert client.post(INFER, body=BODY, headers={name: "null"}).status == 415


def test_a_slow_auth_is_no_slow_body():
    async def auth(headers):
        await asyncio.get_running_loop().create_future()

    with Client(mk.App({"sum": summed()}, auth=auth, limits=Limits(seconds=0.1))) as client:
        answer = client.post(PREDICT, json=ROW)
    assert answer.status == 504
    assert "before the answer" in answer.json()["error"]


@pytest.mark.parametrize("form", ["rows", "columns", "instances"])
def test_a_text_has_so_many_letters(form, tmp_path):
    vectorizer = CountVectorizer(analyzer="char")
    texts = ["one", "two"] * 10
    model = make_pipeline(vectorizer, LogisticRegression()).fit(texts, [0, 1] * 10)
    mk.save(model, tmp_path / "t.mk", example=texts, name="t", version="1")
    verb = "instances" if form == "instances" else "predict"
    column = mk.inspect(tmp_path / "t.mk").signature.inputs[0].name
    with Client(mk.App({"t": str(tmp_path / "t.mk")}, limits=Limits(letters=100))) as client:
        for letters, status in ((100, 200), (101, 413)):
            values = ["a" * letters, "b"]
            asked = {form: {column: values} if form == "columns" else values}
            answer = client.post(f"/models/t/{verb}", json=asked)
            assert answer.status == status, answer.body
    assert "a text of 101 letters" in answer.json()["error"]


# The memory of clients that stand still.


async def asked_of(app, receive, send, path=PREDICT):
    """Ask in a task of its own, as a server has it."""
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    async with asyncio.timeout(30):
        await app(scope, receive, send)


class Still:
    """A client that sends parts of a body, or takes parts of an answer, and then stands still."""

    def __init__(self, *parts, takes=1 << 30, more=True):
        self.parts = [*parts]
        self.more = more
        self.takes = takes
        self.got = []
        self.stands = asyncio.Event()

    async def receive(self):
        if not self.parts:
            await asyncio.get_running_loop().create_future()
        body = self.parts.pop(0)
        return {"type": "http.request", "body": body, "more_body": self.more or bool(self.parts)}

    async def send(self, message):
        self.got.append(message)
        if len(self.got) > self.takes:
            self.stands.set()
            await asyncio.get_running_loop().create_future()

    @property
    def status(self):
        return self.got[0]["status"]


def test_half_bodies_make_room_for_others_and_take_no_place():
    """One that stands still for longest leaves; who sends on is answered."""
    app = mk.App({"sum": summed()}, limits=Limits(memory=1 << 20, requests=1))
    half = b" " * (400 << 10)
    clients = [Still(half) for _ in range(3)]
    honest = Still(b" " * (300 << 10), json.dumps(ROW).encode(), more=False)

    async def main():
        tasks = []
        for client in [*clients, honest]:
            tasks.append(asyncio.ensure_future(asked_of(app, client.receive, client.send)))
            await asyncio.sleep(0)
        await tasks[-1]
        assert honest.status == 200
        assert [len(client.got) for client in clients] == [2, 2, 0]
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    assert [clients[0].status, clients[1].status] == [408, 408]
    assert "too slowly" in json.loads(clients[0].got[1]["body"])["error"]
    assert app.in_flight == 0


def test_long_answers_go_in_parts_to_those_who_take_them():
    """Whole ones were held for as long as their clients stood still."""
    rows = 20_000
    app = mk.App({"sum": summed()}, limits=Limits(memory=1 << 18, rows=rows))
    body = json.dumps({"columns": {"a": [0.123456789] * rows, "b": [1.0] * rows}}).encode()
    still = Still(body, takes=2, more=False)
    honest = Still(body, more=False)

    async def main():
        first = asyncio.ensure_future(asked_of(app, still.receive, still.send))
        await still.stands.wait()
        await asked_of(app, honest.receive, honest.send)
        await first  # it was cut

    asyncio.run(main())
    assert app.in_flight == 0
    sizes = [len(message["body"]) for message in honest.got[1:]]
    assert max(sizes) <= 1 << 16
    answer = json.loads(b"".join(message["body"] for message in honest.got[1:]))
    assert answer["outputs"]["prediction"] == [1.123456789] * rows
    assert [message.get("more_body", False) for message in honest.got[1:]][-2:] == [True, False]


def test_a_body_that_is_refused_takes_no_memory_from_others():
    """Its bytes counted on while its client was let end it."""
    room = Room(100)
    busy, refused, other = (Visit("POST", "/", {}, 30.0) for _ in range(3))
    room.moved(busy, 80)
    room.busy(busy)
    with pytest.raises(Refused, match="take all of the 100 bytes"):
        room.moved(refused, 50)
    room.moved(other, 20)
    for each in (busy, refused, other):
        room.leave(each)
        assert each.size == 0


def test_a_client_that_left_is_no_failure_whatever_a_server_raises():
    app = mk.App({"sum": summed()})
    client = Still(json.dumps(ROW).encode(), more=False)

    async def main(message):
        async def send(_):
            raise RuntimeError(message)

        await asked_of(app, client.receive, send)

    asyncio.run(main("unable to perform operation on <TCPTransport>; the handler is closed"))
    client.parts = [json.dumps(ROW).encode()]
    with pytest.raises(RuntimeError, match="Expected ASGI message"):
        asyncio.run(main("Expected ASGI message"))


# What a real server does.


def request_bytes(body, *lines):
    head = [f"POST {PREDICT} HTTP/1.1", "host: here", "content-type: application/json", *lines]
    return "\r\n".join([*head, "", ""]).encode() + body


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_client_of_a_server_that_leaves(loop):
    gate = Gate()
    meter = mk.Meter(gate.model)
    app = mk.App({"sum": meter})
    body = json.dumps(ROW).encode()
    with uvicorn_of(app, loop=loop) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(request_bytes(body, f"content-length: {len(body)}"))
            assert gate.begun.acquire(timeout=30)
        wait_for(lambda: meter.totals().calls["cancelled"] == 1)
        gate.open()
        assert ask(server.port, "POST", PREDICT, body)[0] == 200
    assert app.in_flight == 0


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_slow_body_is_ended_by_a_server(http):
    app = mk.App({"sum": summed()}, limits=Limits(seconds=0.3))
    with (
        uvicorn_of(app, http=http) as server,
        socket.create_connection(("127.0.0.1", server.port)) as connection,
    ):
        connection.sendall(request_bytes(b"{", "content-length: 50"))
        answer = b""
        while part := connection.recv(1000):
            answer += part
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()


def test_a_client_that_does_not_take_its_answer_gives_its_place_back():
    """A server may wait for a client to read. Who reads nothing would hold a place for ever."""
    app = mk.App({"sum": summed()}, limits=Limits(seconds=0.3))
    left = ("/models/{model}/predict", 499)
    before = requests.totals().requests.get(left, 0)

    async def receive():
        return {"type": "http.request", "body": json.dumps(ROW).encode()}

    async def send(message):
        await asyncio.get_running_loop().create_future()

    async def main():
        scope = {"type": "http", "method": "POST", "path": PREDICT, "headers": []}
        async with asyncio.timeout(30):
            await app(scope, receive, send)
        assert asyncio.current_task().cancelling() == 0

    asyncio.run(main())
    assert app.in_flight == 0
    assert requests.totals().requests[left] == before + 1


@pytest.mark.parametrize("size", [(2 << 20) + 1, 24 << 20])
@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_client_that_sends_too_much_is_told_so_by_a_server(http, size):
    app = mk.App({"sum": summed()})
    with uvicorn_of(app, http=http) as server:
        status, headers, body = ask(server.port, "POST", PREDICT, b" " * size)
    assert status == 413
    assert headers["connection"] == "close"
    assert "2,097,152 bytes" in json.loads(body)["error"]


def test_health_is_answered_while_the_queue_is_full_and_a_large_body_is_parsed():
    """No time is asserted: what is shown is that an answer came while both were the case."""
    gate = Gate()
    app = mk.App({"sum": gate.model}, limits=Limits(requests=2))
    body = json.dumps({"rows": [{"a": 0.123456789, "b": 1.0}] * 9_000}).encode()

    async def main(server):
        loop = asyncio.get_running_loop()
        asking = [
            loop.run_in_executor(None, ask, server.port, "POST", PREDICT, body) for _ in range(2)
        ]
        seen = set()
        while gate.calls < 2:
            seen.add((await asyncio.to_thread(ask, server.port, "GET", "/v2/health/live"))[0])
        assert (await asyncio.to_thread(ask, server.port, "POST", PREDICT, body))[0] == 429
        seen.add((await asyncio.to_thread(ask, server.port, "GET", "/v2/health/ready"))[0])
        gate.open()
        return seen, [answer[0] for answer in await asyncio.gather(*asking)]

    with uvicorn_of(app) as server:
        seen, statuses = asyncio.run(main(server))
    assert seen == {200}
    assert statuses == [200, 200]
