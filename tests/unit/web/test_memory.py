"""The memory of clients that stand still."""

import asyncio
import json

import pytest
from helpers.apps import ROW, Still, asked_of, summed

import modelkit as mk
from modelkit.types import Limits
from modelkit.web.asgi import AsgiRequest, Memory
from modelkit.web.replies import Refused


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
    memory = Memory(100)

    async def main():
        scope = {"method": "POST", "path": "/", "headers": []}
        busy, refused, other = (
            AsgiRequest(scope, None, None, Limits(), None, memory) for _ in range(3)
        )
        busy.grow(80)
        memory.busy(busy)
        with pytest.raises(Refused, match="take all of the 100 bytes"):
            refused.grow(50)
        other.grow(20)
        for each in (busy, refused, other):
            memory.release(each)
            assert each.size == 0

    asyncio.run(main())
