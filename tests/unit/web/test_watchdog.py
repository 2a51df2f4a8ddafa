"""What ends a request from outside: its time is over, or its client left; nothing looks out where nothing is asked."""

import asyncio
import json
import threading

from helpers.apps import INFER, PREDICT, ROW, Gate, summed, tensor, wait_for
from helpers.client import Client

import modelkit as mk
from modelkit.serving.metering import requests
from modelkit.types import Limits


def test_an_idle_app_has_no_timer():
    app = mk.App({"sum": summed()})

    async def main():
        loop = asyncio.get_running_loop()

        async def receive():
            return {"type": "http.request", "body": json.dumps(ROW).encode()}

        async def send(message):
            pass

        scope = {"type": "http", "method": "POST", "path": PREDICT, "headers": []}
        await app(scope, receive, send)
        watchdog = app._watchdogs[loop]
        assert watchdog.running
        while watchdog.running:  # nothing else happens here
            await asyncio.sleep(0.01)
        return [handle for handle in loop._scheduled if not handle.cancelled()]

    assert asyncio.run(main()) == []


def test_a_model_that_takes_too_long_is_504():
    gate = Gate()
    with Client(mk.App({"sum": gate.model}, limits=Limits(seconds=0.2))) as client:
        answer = client.post(PREDICT, json=ROW)
        gate.open()
    assert answer.status == 504


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


def test_a_slow_auth_is_no_slow_body():
    async def auth(headers):
        await asyncio.get_running_loop().create_future()

    with Client(mk.App({"sum": summed()}, auth=auth, limits=Limits(seconds=0.1))) as client:
        answer = client.post(PREDICT, json=ROW)
    assert answer.status == 504
    assert "before the answer" in answer.json()["error"]


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
