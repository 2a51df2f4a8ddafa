"""The client in this process: an application sees of it what it would see of a server."""

import asyncio
import contextlib
import json
import threading

import numpy as np
import pytest
from helpers.client import Client, Response

import modelkit as mk


def answering(status=200, body=b"", headers=()):
    return [
        {"type": "http.response.start", "status": status, "headers": [*headers]},
        {"type": "http.response.body", "body": body},
    ]


async def read(receive):
    """The parts of a body, and whether it came to its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return parts, False
        parts.append(message["body"])
        if not message["more_body"]:
            return parts, True


async def echo(scope, receive, send):
    """Answers with what it was asked; it has no lifespan."""
    assert scope["type"] == "http"
    parts, whole = await read(receive)
    said = {name: scope[name] for name in ("method", "path")}
    said["raw_path"] = scope["raw_path"].decode()
    said["query"] = scope["query_string"].decode()
    said["headers"] = {name.decode(): value.decode() for name, value in scope["headers"]}
    said["parts"] = [part.decode() for part in parts]
    said["whole"] = whole
    twice = [(b"X-Two", b"1"), (b"X-Two", b"2")]
    for message in answering(201, json.dumps(said).encode(), twice):
        await send(message)


def test_a_request_arrives_and_its_answer_comes_back():
    with Client(echo) as client:
        answer = client.request("PUT", "/a%20b/é?x=1&y=2", headers={"X-Name": "me"}, body=b"hello")
    assert (answer.status, answer.complete) == (201, True)
    assert answer.headers == {"x-two": "1, 2"}
    assert answer.json() == {
        "method": "PUT",
        "path": "/a b/é",
        "raw_path": "/a%20b/%C3%A9",
        "query": "x=1&y=2",
        "headers": {"host": "testserver", "content-length": "5", "x-name": "me"},
        "parts": ["hello"],
        "whole": True,
    }


def test_get_post_and_json():
    with Client(echo) as client:
        got = client.get("/", headers={"Accept": "text/html"}).json()
        posted = client.post("/", json={"rows": [[1.5]]}).json()
        empty = client.post("/").json()
    assert (got["method"], got["parts"]) == ("GET", [""])
    assert got["headers"] == {"host": "testserver", "accept": "text/html"}
    assert posted["parts"] == ['{"rows": [[1.5]]}']
    assert posted["headers"]["content-type"] == "application/json"
    assert empty["headers"]["content-length"] == "0"


def test_a_chunked_body_has_no_length_in_advance():
    with Client(echo) as client:
        seen = client.post("/", body=(part for part in (b"a", b"", b"b"))).json()
    assert seen["parts"] == ["a", "", "b", ""]
    assert seen["whole"]
    assert seen["headers"] == {"host": "testserver", "transfer-encoding": "chunked"}


@pytest.mark.parametrize("body", [b"half", [b"ha", b"lf"]])
def test_a_client_that_leaves_in_the_middle_of_its_body(body):
    seen = []

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        parts, whole = await read(receive)
        seen.append((b"".join(parts), whole))

    with Client(app) as client:
        answer = client.request(
            "POST", "/", body=body, headers={"content-length": "8"}, leaves=lambda: True
        )
        assert answer == Response(0, {}, b"", complete=False)
        seen.clear()
        polls = iter(range(100))
        client.request(
            "POST", "/", body=body, headers={"content-length": "8"}, leaves=lambda: next(polls) > 2
        )
    assert seen == [(b"half", False)]


def test_a_client_that_leaves_while_it_waits_and_one_that_stays():
    started = threading.Event()
    seen = []

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await read(receive)
        await send(answering()[0])
        started.set()
        seen.append(await receive())
        await send({"type": "http.response.body", "body": b"nobody reads this"})

    with Client(app) as client:
        answer = client.request("GET", "/", leaves=started.is_set)
    assert seen == [{"type": "http.disconnect"}]
    assert answer == Response(200, {}, b"", complete=False)

    async def stays(scope, receive, send):
        assert scope["type"] == "http"
        for message in answering(body=b"whole"):
            await send(message)
        await read(receive)
        seen.append(await receive())

    with Client(stays) as client:
        answer = client.request("GET", "/", leaves=lambda: False)
    assert answer == Response(200, {}, b"whole")
    assert seen[1:] == [{"type": "http.disconnect"}]


def test_many_requests_at_once_meet_each_other():
    meeting = []
    all_there = asyncio.Event()

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        meeting.append(scope["path"])
        if len(meeting) == 20:
            all_there.set()
        await all_there.wait()
        for message in answering(body=scope["path"].encode()):
            await send(message)

    with Client(app) as client:
        answers = client.concurrently(
            [{"method": "GET", "path": f"/{number}"} for number in range(20)]
        )
    assert [answer.body.decode() for answer in answers] == [f"/{number}" for number in range(20)]


def test_the_lifespan_is_begun_and_ended_and_its_state_reaches_requests():
    seen = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            seen.append((await receive())["type"])
            scope["state"]["model"] = "loaded"
            await send({"type": "lifespan.startup.complete"})
            seen.append((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})
            return
        seen.append(scope["state"]["model"])
        scope["state"]["model"] = "changed"
        for message in answering():
            await send(message)

    client = Client(app)
    for _ in range(2):
        seen.clear()
        with client:
            client.get("/")
            client.get("/")
        assert seen == ["lifespan.startup", "loaded", "loaded", "lifespan.shutdown"]


def test_an_application_that_cannot_start_or_end_is_an_error():
    async def fails(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no model"})
        raise OSError("the disk is full")

    with pytest.raises(RuntimeError, match="startup failed: no model") as caught, Client(fails):
        pass
    assert isinstance(caught.value.__cause__, OSError)

    async def raises(scope, receive, send):
        await receive()
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"), Client(raises):
        pass

    async def fails_late(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed"})

    with pytest.raises(RuntimeError, match="shutdown failed"), Client(fails_late):
        pass


def test_what_goes_wrong_in_a_request_is_raised():
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        if scope["path"] == "/raises":
            raise ZeroDivisionError("by zero")
        if scope["path"] == "/late":
            raise TimeoutError("of the application")
        start, body = answering()
        if scope["path"] == "/body":
            await send(body)
        await send(start)
        if scope["path"] in ("/", "/twice"):
            await send(body)
        if scope["path"] == "/twice":
            await send(body)

    def leaves():
        raise LookupError("in the test")

    with Client(app) as client:
        with pytest.raises(ZeroDivisionError):
            client.get("/raises")
        with pytest.raises(TimeoutError, match="of the application"):
            client.get("/late")
        with pytest.raises(RuntimeError, match=r"http.response.body where the answer"):
            client.get("/body")
        with pytest.raises(RuntimeError, match=r"http.response.body where the answer"):
            client.get("/twice")
        with pytest.raises(RuntimeError, match="without an answer"):
            client.get("/half")
        with pytest.raises(ZeroDivisionError):
            client.concurrently([{"method": "GET", "path": "/raises"}])
        with pytest.raises(ValueError, match='begins with "/"'):
            client.get("raises")
        with pytest.raises(TypeError, match="encode the text"):
            client.post("/", body="text")
        assert client.post("/", body=bytearray(b"12")).status == 200

        async def within():
            return client.get("/")

        with pytest.raises(RuntimeError, match="from no coroutine"):
            asyncio.run(within())
        with pytest.raises(ValueError, match="not both"):
            client.post("/", body=b"1", json=1)

    async def waits(scope, receive, send):
        assert scope["type"] == "http"
        await read(receive)
        await receive()

    with Client(waits) as client, pytest.raises(LookupError):
        client.request("GET", "/", leaves=leaves)
    with pytest.raises(RuntimeError, match="with Client"):
        client.get("/")


def test_an_answer_that_does_not_come(monkeypatch):
    import helpers.client as module

    async def hangs(scope, receive, send):
        assert scope["type"] == "http"
        await asyncio.Event().wait()

    monkeypatch.setattr(module, "PATIENCE", 0.01)
    with Client(hangs) as client, pytest.raises(TimeoutError, match="GET / was not answered"):
        client.get("/")


def model_of_sums(blocked=None):
    """Sums rows; each run waits for `blocked`, if it is given."""

    def run(feeds):
        if blocked is not None:
            assert blocked.wait(60)
        return {"y": feeds["x"].sum(axis=1)}

    signature = mk.Signature(
        [mk.TensorSpec("x", "float64", ("n", 2))], [mk.TensorSpec("y", "float64", ("n",))]
    )
    return mk.FunctionModel(run, signature, batchable=True)


def test_a_batcher_behind_it_keeps_one_loop_and_gathers_its_calls():
    loops = set()
    with mk.Batcher(model_of_sums()) as batcher:

        async def app(scope, receive, send):
            assert scope["type"] == "http"
            loops.add(asyncio.get_running_loop())
            parts, _ = await read(receive)
            row = np.array([json.loads(b"".join(parts))], float)
            answer = await batcher.apredict(row)
            for message in answering(body=json.dumps(answer.tolist()).encode()):
                await send(message)

        with Client(app) as client:
            requests = [
                {"method": "POST", "path": "/", "json": [number, 1]} for number in range(64)
            ]
            for _ in range(3):
                answers = client.concurrently(requests)
                assert [answer.json() for answer in answers] == [[n + 1.0] for n in range(64)]
                assert client.post("/", json=[5, 6]).json() == [11.0]
        assert len(loops) == 1
        assert batcher.stats().calls == 3 * 65


def test_a_client_that_leaves_the_queue_harms_nobody():
    blocked = threading.Event()
    with mk.Batcher(model_of_sums(blocked)) as batcher:

        async def app(scope, receive, send):
            assert scope["type"] == "http"
            await read(receive)
            call = asyncio.ensure_future(batcher.apredict(np.ones((1, 2))))
            gone = asyncio.ensure_future(receive())
            await asyncio.wait({call, gone}, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            if not call.done():
                call.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await call
                blocked.set()
                return
            for message in answering(body=json.dumps(call.result().tolist()).encode()):
                await send(message)

        request = {"method": "GET", "path": "/"}
        polls = iter(range(1000))
        with Client(app) as client:
            *stayed, left = client.concurrently(
                [request] * 5 + [request | {"leaves": lambda: next(polls) > 5}]
            )
        assert [answer.json() for answer in stayed] == [[2.0]] * 5
        assert (left.status, left.complete) == (0, False)


def test_starlette_and_fastapi_are_served_with_their_lifespans():
    from fastapi import FastAPI, Request
    from starlette.applications import Starlette
    from starlette.responses import StreamingResponse
    from starlette.routing import Mount, Route

    ended = []

    @contextlib.asynccontextmanager
    async def lifespan(app):
        yield {"factor": 3}
        ended.append(app)

    api = FastAPI(lifespan=lifespan)

    @api.post("/times")
    async def times(request: Request):
        return [request.state.factor * value for value in await request.json()]

    with Client(api) as client:
        assert client.post("/times", json=[1, 2]).json() == [3, 6]
        assert client.get("/times").status == 405
    assert ended == [api]

    def stream(request):
        return StreamingResponse(iter([b"a", b"b"]), headers={"X-Root": request.scope["root_path"]})

    mounted = Starlette(routes=[Mount("/ml", routes=[Route("/stream", stream)])])
    with Client(mounted) as client:
        answer = client.get("/ml/stream")
    assert (answer.status, answer.body, answer.headers["x-root"]) == (200, b"ab", "/ml")


def test_a_stream_without_an_end_is_left():
    from starlette.applications import Starlette
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    sent = []

    async def endless():
        while True:
            sent.append(b"x")
            yield b"x"
            await asyncio.sleep(0)

    async def stream(request):
        assert not await request.is_disconnected()
        return StreamingResponse(endless())

    with Client(Starlette(routes=[Route("/", stream)])) as client:
        answer = client.request("GET", "/", leaves=lambda: len(sent) > 3)
    assert (answer.status, answer.complete) == (200, False)
    assert answer.body.startswith(b"xxx")
