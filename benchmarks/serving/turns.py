"""Turns of the load: each server has its own in every round, while the others rest."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.serving.servers import Running

LOAD = Path(__file__).with_name("load.py")


class Turn(NamedTuple):
    """What one server did in one turn; times in seconds."""

    cpu: float  # of the server and its children, for one answer
    rate: float  # answers a second
    p50: float
    p99: float
    worst: float
    client: float  # of a core that the load took
    failed: int
    answered: int


def offer(
    port: int, connections: int, seconds: float, file: Path, pause: float = 0.0
) -> subprocess.Popen:
    """Start the load; `told` waits for what it says."""
    command = [sys.executable, LOAD, *map(str, (port, connections, seconds, pause, file))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def told(load: subprocess.Popen) -> dict:
    """What became of the requests, as load.py prints it."""
    output, _ = load.communicate()
    assert load.returncode == 0, "the load failed"
    return json.loads(output)


def turn(server: Running, connections: int, seconds: float, file: Path) -> Turn:
    before = server.cpu()
    seen = told(offer(server.port, connections, seconds, file))
    cpu = server.cpu() - before
    answered = seen["statuses"].get("200", 0)
    return Turn(
        cpu / max(1, answered),
        answered / seen["seconds"],
        seen["p50"],
        seen["p99"],
        seen["worst"],
        seen["client"] / seen["seconds"],
        sum(seen["statuses"].values()) - answered,
        answered,
    )


def take_turns(
    servers: dict[str, Running],
    files: dict[str, Path],
    connections: int,
    seconds: float,
    rounds: int,
) -> dict[str, list[Turn]]:
    """The turns of each server, by rounds; a short one before them does not count."""
    found: dict[str, list[Turn]] = {name: [] for name in servers}
    for number in range(rounds + 1):
        for name, server in servers.items():
            server.wake()
            one = turn(server, connections, seconds if number else seconds / 4, files[name])
            server.rest()
            if number:
                found[name].append(one)
    return found


def median(turns: list[Turn], of: str) -> float:
    return statistics.median(getattr(turn, of) for turn in turns)


def compared(turns: list[Turn], others: list[Turn], how: Callable[[float, float], float]) -> float:
    """The median over the rounds of how the processor times of two servers compare."""
    pairs = zip(turns, others, strict=True)
    return statistics.median(how(one.cpu, other.cpu) for one, other in pairs)
