"""An App as ASGI calls it: mounted, behind middleware, with or without a lifespan, from several loops."""

import asyncio
import json
import threading

import pytest
from helpers.apps import PREDICT, ROW, Still, asked_of, summed, without_lifespan
from helpers.client import Client

import modelkit as mk
from modelkit.web.asgi import headers_of


@pytest.mark.parametrize("prefix", ["/ml", "/a/b"])
def test_mounted_in_fastapi_and_starlette(prefix):
    import fastapi
    from fastapi.testclient import TestClient

    app = mk.App({"sum": summed()})
    api = fastapi.FastAPI(lifespan=app.lifespan)
    api.mount(prefix, app)

    @api.get("/mine")
    def mine():
        return {"is": "mine"}

    with TestClient(api) as client:
        assert client.get("/mine").json() == {"is": "mine"}
        assert client.post(prefix + PREDICT, json=ROW).json()["outputs"] == {"prediction": [3.0]}
        assert client.get(prefix + "/v2/health/ready").status_code == 200
        assert client.get(prefix + "/").status_code == 200
        assert client.get(prefix + "/nothing").status_code == 404
        assert client.post(PREDICT, json=ROW).status_code == 404
    assert app._edge.closed


def test_mounted_without_a_lifespan_and_behind_middleware():
    """A mounted App gets no lifespan, and starts when it is first asked."""
    import fastapi
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.testclient import TestClient

    async def principal(request, call_next):
        response = await call_next(request)
        response.headers["x-who"] = request.state.principal
        return response

    app = mk.App({"sum": summed()}, auth=lambda headers: "alice")
    api = fastapi.FastAPI()
    api.mount("/ml", app)
    api.add_middleware(BaseHTTPMiddleware, dispatch=principal)
    answer = TestClient(api).post("/ml" + PREDICT, json=ROW)
    assert answer.status_code == 200
    assert answer.headers["x-who"] == "alice"


def test_what_is_no_http_is_left_alone():
    app = mk.App({"sum": summed()})
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "websocket.connect"}

    asyncio.run(app({"type": "websocket", "path": "/v2"}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1000}]


def test_a_version_of_http_without_connections_is_sent_no_such_header():
    app = mk.App({"sum": summed()})
    app.drain()

    async def newer(scope, receive, send):
        await app({**scope, "http_version": "2"}, receive, send)

    with Client(newer) as client:
        assert "connection" not in client.get("/v2").headers


def test_several_loops_may_ask_one_app(app):
    """Each request is looked after by its own loop."""

    def rounds():
        with Client(without_lifespan(app)) as client:
            return [client.post(PREDICT, json=ROW).status for _ in range(20)]

    results = []
    threads = [threading.Thread(target=lambda: results.append(rounds())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[200] * 20] * 4
    assert app.in_flight == 0


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


def test_thousands_of_headers_are_joined():
    """It took the square of their number."""
    told = [(b"%d" % at, b"a") for at in range(50_000)]
    headers = headers_of({"headers": [*told, *told]})
    assert (len(headers), headers[b"7"]) == (50_000, b"a, a")
