"""The end of an App behind a server: its last answer, and a rolling restart."""

import asyncio
import json
import threading
from collections import Counter

from helpers.apps import PREDICT, ROW, Gate, ask, summed, uvicorn_of, wait_for
from helpers.servers import exchange, request_of

import modelkit as mk
from modelkit.serving.metering import requests


def test_a_rolling_restart_drops_nothing():
    """The first of two servers is drained and stopped under load; clients go where they are let."""
    request = request_of(PREDICT, json.dumps(ROW).encode())
    first, second = mk.App({"sum": summed()}), mk.App({"sum": summed()})
    before = answered()
    moved = []

    def restart(server):
        wait_for(lambda: answered() > before + 300)
        first.drain()
        wait_for(lambda: ask(server.port, "GET", "/v2/health/ready")[0] == 503)
        wait_for(lambda: len(moved) == 32 and first.in_flight == 0)
        server.should_exit = True

    async def main(old, new):
        counts = Counter()
        enough = before + 1500

        async def client():
            port = old
            while answered() < enough or restarting.is_alive():
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                closed = False
                while not closed and (answered() < enough or restarting.is_alive()):
                    status, closed, _ = await exchange(reader, writer, request)
                    counts[status] += 1
                writer.close()
                await writer.wait_closed()
                if closed:  # as a balancer does, which asks whether the server is ready
                    port = new
                    moved.append(port)

        await asyncio.gather(*(client() for _ in range(32)))
        return counts

    with uvicorn_of(first) as old, uvicorn_of(second) as new:
        restarting = threading.Thread(target=restart, args=(old,))
        restarting.start()
        counts = asyncio.run(main(old.port, new.port))  # it raises where a request has no answer
        restarting.join()
    assert set(counts) == {200}
    assert counts[200] >= 1500


def answered():
    return requests.totals().requests.get(("/models/{model}/predict", 200), 0)


def test_closing_waits_for_the_last_answer():
    gate = Gate()
    app = mk.App({"sum": gate.model})
    with uvicorn_of(app, lifespan="off") as server:
        answers = []
        asking = threading.Thread(
            target=lambda: answers.append(
                ask(server.port, "POST", PREDICT, b'{"rows": [{"a": 1, "b": 2}]}')
            )
        )
        asking.start()
        assert gate.begun.acquire(timeout=30)
        assert app.in_flight == 1
        closing = threading.Thread(target=app.close)
        closing.start()
        wait_for(lambda: app._edge.closed)
        assert ask(server.port, "POST", PREDICT, b"{}")[0] == 503
        assert closing.is_alive()
        gate.open()
        closing.join(30)
        asking.join(30)
    assert answers[0][0] == 200
    assert app.in_flight == 0
    app.close()  # closing twice is fine
