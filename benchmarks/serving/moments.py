"""What clients notice of a restart, of swaps of the model, and of other clients' large and many requests."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from benchmarks.common.cases import Case
from benchmarks.common.measure import judge, table
from benchmarks.serving.bodies import as_v2, raw
from benchmarks.serving.servers import HOST, MODEL, PATIENCE, QUICK, V2, modelkit, ours, running
from benchmarks.serving.turns import offer, told

SWAPS = 10
CALMLY = 0.4  # seconds between two swaps
DRAINED = 1.5  # seconds from the drain to SIGTERM: until clients have other connections
LARGE = 8 << 20  # bytes, the most that an App takes
WORST = 50.0  # milliseconds


def report(folder: Path, case: Case) -> str:
    file = folder / "moments.json"
    file.write_text(json.dumps([raw(V2, {}, as_v2(row[None])) for row in case.rows[:256]]))
    rows = [*restarts(folder, file), *swaps(folder, case, file), *health(folder, case, file)]
    return table("moment | requests | not answered | p99 ms | worst ms | target | reached", rows)


def cells(what: str, seen: dict, value: float, limit: float | None) -> list[str]:
    statuses = seen["statuses"]
    failed = {key: count for key, count in statuses.items() if key != "200"}
    return [
        what,
        f"{sum(statuses.values()):,}",
        ", ".join(f"{count} {key}" for key, count in failed.items()) or "0",
        f"{seen['p99'] * 1000:.1f}",
        f"{seen['worst'] * 1000:.1f}",
        *judge(value, "at most", limit),
    ]


def failures(seen: dict) -> int:
    return sum(seen["statuses"].values()) - seen["statuses"].get("200", 0)


# A rolling restart: two servers accept from one socket.


def restarts(folder: Path, file: Path) -> list[list[str]]:
    rows = []
    for drained in (False, True):
        seen = restart(folder, file, drained=drained)
        what = "after `drain`" if drained else "without `drain`"
        limit = 0 if drained else None
        rows.append(
            cells(f"rolling restart {what}, 32 clients: dropped", seen, failures(seen), limit)
        )
    return rows


def restart(folder: Path, file: Path, *, drained: bool) -> dict:
    with ExitStack() as stack:
        shared = stack.enter_context(socket.socket())
        shared.bind((HOST, 0))
        shared.listen(512)
        older = stack.enter_context(behind(shared, folder))
        load = offer(shared.getsockname()[1], 32, DRAINED + 5, file)
        newer = stack.enter_context(behind(shared, folder))
        if drained:
            older.send_signal(signal.SIGUSR1)
            time.sleep(DRAINED)
        older.terminate()
        older.wait(PATIENCE)
        seen = told(load)
        assert newer.poll() is None
    return seen


@contextmanager
def behind(shared: socket.socket, folder: Path):
    """A server that accepts from a socket of ours, once it has started."""
    log = folder / f"restart-{time.monotonic_ns()}.log"
    number = shared.fileno()
    program = ["uvicorn", "benchmarks.serving.app_modelkit:app", "--fd", str(number)]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *program, "--no-access-log"],
            cwd=folder,
            env=os.environ | ours(folder) | {"VARIANT": "opened"},
            pass_fds=(number,),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until_said(log, "startup complete", 1)
        yield process
    finally:
        process.kill()
        process.wait()


def until_said(log: Path, words: str, times: int) -> None:
    until = time.monotonic() + PATIENCE
    while log.read_text().count(words) < times:
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.02)


# Swaps of the model.


def swaps(folder: Path, case: Case, file: Path) -> list[list[str]]:
    body = as_v2(case.rows[:1])
    rows = []
    with running("swaps", modelkit("opened"), folder, body) as server:
        for count in (0, SWAPS):
            load = offer(server.port, 64, 1 + SWAPS * CALMLY * 2, file)
            for number in range(1, count + 1):
                time.sleep(CALMLY)
                server.process.send_signal(signal.SIGUSR2)
                until_said(folder / "swaps.log", "replaced", number)
            assert load.poll() is None, "the swaps took longer than the load"
            seen = told(load)
            what = (
                f"{count} swaps, 64 clients: the worst call" if count else "the same without a swap"
            )
            worst = seen["worst"] * 1000 if not failures(seen) else float("inf")
            rows.append(cells(what, seen, worst, WORST if count else None))
    return rows


# Health.


def health(folder: Path, case: Case, file: Path) -> list[list[str]]:
    """A client asks for health, while others fill the queue and send bodies as large as an App takes."""
    probe, large = folder / "probe.json", folder / "large.json"
    probe.write_text(json.dumps(["GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n"]))
    body = padded(case.rows)
    large.write_text(json.dumps([raw(V2.replace(MODEL, QUICK), {}, body)]))
    with running("health", modelkit("slow"), folder, as_v2(case.rows[:1])) as server:
        alone = told(offer(server.port, 1, 2, probe, 0.002))
        load = [offer(server.port, 128, 8, file, 0.05), offer(server.port, 1, 8, large)]
        time.sleep(1)
        busy = told(offer(server.port, 1, 6, probe, 0.002))
        full, parsed = map(told, load)
    assert full["statuses"].get("429", 0) > full["statuses"].get("200", 0) > 0, full
    answered = sum(parsed["statuses"].values())
    what = f"health while the queue is full and {answered} bodies of 8 MiB are read"
    return [
        cells("health, nothing else asked for", alone, 0.0, None),
        cells(what, busy, busy["worst"] * 1000, WORST),
    ]


def padded(x: np.ndarray) -> bytes:
    """As many rows as an App takes, with all the digits of a float64, and blanks up to 8 MiB."""
    data = ",".join(f"{value!r}" for value in x[:10_000].astype(float).ravel().tolist())
    tensor = f'{{"name":"X","shape":[10000,30],"datatype":"FP32","data":[{data}]}}'
    body = f'{{"inputs":[{tensor}]}}'.encode()
    assert len(body) <= LARGE, len(body)
    return body + b" " * (LARGE - len(body))
