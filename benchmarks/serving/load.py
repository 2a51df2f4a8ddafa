"""The load, in a process of its own: `load.py PORT CONNECTIONS SECONDS PAUSE FILE` prints what became of its requests.

FILE holds whole HTTP requests as JSON texts; every connection sends one, waits for its answer, and sends the next after
PAUSE seconds. It imports nothing of modelkit, and loses little time over an answer: what is measured is the server.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path

import uvloop

HOST = "127.0.0.1"
PATIENCE = 5.0  # seconds after the end in which what is under way may still be answered
LENGTH = b"content-length: "


class Load:
    """What all connections share."""

    def __init__(self, requests: list[bytes], seconds: float, pause: float) -> None:
        self.requests = requests
        self.pause = pause
        self.times: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.under_way = 0
        self.done = asyncio.Event()
        self.seconds = seconds

    def begin(self) -> None:
        self.start = time.perf_counter()
        self.until = self.start + self.seconds


class Connection(asyncio.Protocol):
    """One client that keeps its connection, and opens another where the server closes it."""

    def __init__(self, load: Load, port: int, number: int) -> None:
        self.load = load
        self.port = port
        self.next = number
        self.rest = b""
        self.waiting = False

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self, HOST, self.port)
        except OSError:
            self.load.statuses["refused"] += 1
            loop.call_later(0.01, self.open_again)

    def open_again(self) -> None:
        if time.perf_counter() < self.load.until:
            self.opening = asyncio.ensure_future(self.open())

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        load = self.load
        now = time.perf_counter()
        if now > load.until or self.transport.is_closing():
            return
        self.sent = now
        self.waiting = True
        load.under_way += 1
        self.transport.write(load.requests[self.next % len(load.requests)])
        self.next += 1

    def data_received(self, data: bytes) -> None:
        data = self.rest + data
        end = whole(data)
        if end is None or len(data) < end:
            self.rest = data
            return
        self.rest = b""
        load = self.load
        load.times.append(time.perf_counter() - self.sent)
        load.statuses[data[9:12].decode()] += 1
        self.answered()
        if b"connection: close" in data[:end].lower():
            self.transport.close()
        elif load.pause:
            asyncio.get_running_loop().call_later(load.pause, self.send)
        else:
            self.send()

    def answered(self) -> None:
        self.waiting = False
        self.load.under_way -= 1
        if not self.load.under_way:
            self.load.done.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.rest = b""
        if self.waiting:
            self.load.statuses["dropped"] += 1
            self.answered()
        self.open_again()


def whole(data: bytes) -> int | None:
    """How many bytes an answer has, as far as its head is here; only answers of a told length are read."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return None
    at = data.find(LENGTH, 0, head)
    if at < 0:
        at = data[:head].lower().index(LENGTH)
    end = data.index(b"\r\n", at)
    return head + 4 + int(data[at + len(LENGTH) : end])


async def main(load: Load, port: int, connections: int) -> None:
    load.begin()
    clients = [Connection(load, port, 61 * number) for number in range(connections)]
    await asyncio.gather(*(client.open() for client in clients))
    await asyncio.sleep(load.until - time.perf_counter())
    took = time.perf_counter() - load.start
    if load.under_way:
        load.done.clear()
        try:
            await asyncio.wait_for(load.done.wait(), PATIENCE)
        except TimeoutError:
            load.statuses["lost"] += load.under_way
    times = sorted(load.times)
    print(
        json.dumps(
            {
                "statuses": load.statuses,
                "seconds": took,
                "p50": times[len(times) // 2],
                "p99": times[len(times) * 99 // 100],
                "worst": times[-1],
                "client": time.process_time(),
            }
        )
    )


if __name__ == "__main__":
    port, connections, seconds, pause, file = sys.argv[1:]
    texts = json.loads(Path(file).read_text())
    load = Load([text.encode("latin-1") for text in texts], float(seconds), float(pause))
    uvloop.run(main(load, int(port), int(connections)))
