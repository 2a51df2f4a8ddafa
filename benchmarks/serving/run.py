"""Measure the App beside four serving frameworks, FastAPI and an empty application, and print Markdown tables.

make bench NAME=serving                                                          every section
.venv-bench-serving/bin/python -m benchmarks.serving.run --only one_row     one of them
.venv-bench-serving/bin/python -m benchmarks.serving.run --only one_row --servers "modelkit|empty"
.venv-bench-serving/bin/python -m benchmarks.serving.run --write            all, and write benchmarks/results/serving.md

README.md beside this file says what each table means.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import ExitStack
from functools import cache
from operator import sub, truediv
from pathlib import Path

import numpy as np
from benchmarks.common.cases import FOLDER, Case, save
from benchmarks.common.measure import bare, command, judge, log, table
from benchmarks.serving import in_process, mistakes, moments, texts
from benchmarks.serving.bodies import KINDS, as_bytes, from_bytes, raw
from benchmarks.serving.servers import (
    CONTENDERS,
    EMPTY,
    FASTAPI,
    METERED,
    MODEL,
    OURS,
    RIVALS,
    SERVE,
    WHOLE,
    Contender,
    Running,
    home_of,
    running,
)
from benchmarks.serving.turns import Turn, compared, median, take_turns
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier

import modelkit as mk

LIBRARIES = ("numpy", "onnxruntime", "uvicorn", "httptools", "uvloop", "orjson", "fastapi")
NAMES = {"kserve": "kserve", "mlserver": "mlserver", "litserve": "litserve", "bentoml": "bentoml"}
CLIENTS = 64
SECONDS = 2.0  # of one turn
ROUNDS = 5
MANY = 1000  # rows of a large request
OVERHEAD = {OURS: 25, WHOLE: 30}  # microseconds of processor time over the empty application
CLIENTS_SCRIPT = Path(__file__).with_name("clients.py")
TIMES_BEST = 8  # requests a second and core, of the best rival's


@cache
def case() -> Case:
    """Boosted trees on 30 columns, and the rows that they were fitted on, again and again."""
    X, y = load_breast_cancer(return_X_y=True)
    trees = GradientBoostingClassifier(n_estimators=200, random_state=0).fit(X, y)
    return Case(*save(trees, MODEL, X), np.tile(X, (20, 1)).astype(np.float32))


def folder() -> Path:
    """What the servers open: the package, and the graph in it."""
    return case().package.parent


def answers(x: np.ndarray) -> np.ndarray:
    return bare(case().graph, 1).run(["probabilities"], {"X": x})[0]


def chosen(args, names: Iterable[str]) -> list[str]:
    """Those of the servers that the command line asks for."""
    return [name for name in names if re.search(args.servers, name)]


def start(stack: ExitStack, names: list[str]) -> dict[str, Running]:
    """The servers, each asked for one row, whose answer is compared with the model's."""
    x = case().rows[:1]
    found = {}
    for name in names:
        contender = CONTENDERS[name]
        kind = KINDS[contender.kind]
        body = kind.write(x)
        server = stack.enter_context(running(name, contender, folder(), body))
        _, answer = server.ask(body)
        if name != EMPTY:
            assert np.allclose(kind.read(answer), answers(x), atol=1e-6), f"{name}: {answer}"
        server.rest()
        found[name] = server
        log(f"  {name} is up")
    return found


def requests_of(name: str, contender: Contender, x: np.ndarray, rows: int) -> Path:
    """A file of requests of so many rows each."""
    write = KINDS[contender.kind].write
    starts = range(0, len(x) - rows + 1, rows)
    bodies = [write(x[start : start + rows]) for start in starts]
    file = folder() / f"{name}-{rows}.json"
    file.write_text(json.dumps([raw(contender.path, contender.headers, body) for body in bodies]))
    return file


def one_row(args) -> str:
    """One row of JSON, 64 clients"""
    with ExitStack() as stack:
        servers = start(stack, chosen(args, CONTENDERS))
        files = {
            name: requests_of(name, CONTENDERS[name], case().rows[:256], 1) for name in servers
        }
        found = take_turns(servers, files, CLIENTS, SECONDS, int(args.rounds))
    rows = [row_of(name, turns, found) for name, turns in found.items()]
    header = (
        "server | CPU us a request | requests a second and core | us over the empty one | times modelkit "
        "| p50 ms | p99 ms | not answered | target | reached"
    )
    notes = f"The load took at most {max(median(turns, 'client') for turns in found.values()):.2f} of a core."
    return "\n\n".join([table(header, rows), best(found), notes, f"Rivals: {versions()}."])


def row_of(name: str, turns: list[Turn], found: dict[str, list[Turn]]) -> list[str]:
    cpu = median(turns, "cpu") * 1e6
    over = compared(turns, found[EMPTY], sub) * 1e6 if EMPTY in found else 0.0
    times = compared(turns, found[OURS], truediv) if OURS in found else 0.0
    return [
        name,
        f"{cpu:.1f}",
        f"{1e6 / cpu:,.0f}",
        f"{over:.1f}",
        f"{times:.1f}",
        *[f"{median(turns, of) * 1000:.2f}" for of in ("p50", "p99")],
        f"{sum(turn.failed for turn in turns)} of {sum(turn.answered + turn.failed for turn in turns):,}",
        *judge(over, "at most", OVERHEAD.get(name)),
    ]


def best(found: dict[str, list[Turn]]) -> str:
    """modelkit beside the best of the frameworks at their defaults, and at their best settings."""
    rows = []
    defaults = [name for name in RIVALS if not name.endswith("best")]
    for what, names in (("at its default", defaults), ("at its best setting", RIVALS)):
        measured = [name for name in names if name in found]
        if not measured or OURS not in found:
            continue
        rival = min(measured, key=lambda name: median(found[name], "cpu"))
        for mine in (OURS, METERED, SERVE):
            if mine in found:
                times = compared(found[rival], found[mine], truediv)
                limit = TIMES_BEST if mine == OURS else None
                about = f"{mine}, times {rival}, the best {what}"
                rows.append([about, f"{times:.1f}", *judge(times, "at least", limit)])
    return table("requests a second and core | value | target | reached", rows) if rows else ""


def versions() -> str:
    """What is installed in the environments of the rivals."""
    told = []
    for home, library in NAMES.items():
        if not home_of(home).exists():  # nor is it asked for, by --servers
            continue
        code = f"from importlib.metadata import version; print(version({library!r}))"
        done = subprocess.run(
            [home_of(home) / "python", "-c", code], check=True, capture_output=True, text=True
        )
        told.append(f"{library} {done.stdout.strip()}")
    return ", ".join(told)


def many_rows(args) -> str:
    """1,000 rows in a request, 8 clients"""
    x = case().rows[: 4 * MANY]
    with ExitStack() as stack:
        servers = start(stack, chosen(args, MANY_SERVERS))
        files, asked = {}, {}
        for name, server in servers.items():
            contender = CONTENDERS[name]
            files[f"{name}, JSON"] = requests_of(name, contender, x, MANY)
            asked[f"{name}, JSON"] = server
            if contender.kind == "v2" and takes_bytes(name, server, x[:MANY]):
                body, headers = as_bytes(x[:MANY])
                told = raw(contender.path, contender.headers | headers, body)
                files[f"{name}, bytes"] = folder() / f"{name}-bytes.json"
                files[f"{name}, bytes"].write_text(json.dumps([told]))
                asked[f"{name}, bytes"] = server
        found = take_turns(asked, files, 8, 1.0, 3)
    rows = [
        [
            name,
            f"{median(turns, 'cpu') * 1000:.2f}",
            *[f"{median(turns, of) * 1000:.1f}" for of in ("p50", "p99")],
            f"{sum(turn.failed for turn in turns)}",
        ]
        for name, turns in found.items()
    ]
    return table("server | CPU ms a request | p50 ms | p99 ms | not answered", rows)


def inside(_args) -> str:
    """A request without a server"""
    return in_process.report(case(), MANY)


MANY_SERVERS = (FASTAPI, "KServe, best", "MLServer, best", OURS, SERVE)


def takes_bytes(name: str, server: Running, x: np.ndarray) -> bool:
    """Whether the binary extension is answered, and rightly."""
    body, headers = as_bytes(x)
    server.wake()
    contender = server.contender._replace(headers=server.contender.headers | headers)
    status, answer = server._replace(contender=contender).ask(body)
    server.rest()
    right = status == 200 and np.allclose(from_bytes(answer), answers(x), atol=1e-6)
    if not right:
        log(f"  {name} does not take bytes: {status} {answer[:200]!r}")
    return right


def bad_input(args) -> str:
    """What bad input gets"""
    names = chosen(args, (OURS, "KServe, best", "MLServer, best"))
    with ExitStack() as stack:
        servers = start(stack, names)
        for server in servers.values():
            server.wake()
        rows = [
            [what, *[mistakes.cell(server, mistake) for server in servers.values()]]
            for what, mistake in mistakes.MISTAKES.items()
        ]
    return table(" | ".join(["mistake", *names]), rows)


def restarts(_args) -> str:
    """A rolling restart, ten swaps, and health under load"""
    return moments.report(folder(), case())


def clients(_args) -> str:
    """The clients of KServe and Triton"""
    rows = case().rows[:5]
    file = folder() / "clients.npz"
    with mk.load(case().package) as model:
        np.savez(file, rows=rows, **model.run(rows))
    with running("clients", CONTENDERS[OURS], folder(), KINDS["v2"].write(rows)) as server:
        ask = [home_of("kserve") / "python", CLIENTS_SCRIPT, str(server.port), file]
        done = subprocess.run(ask, stdout=subprocess.PIPE, check=True, text=True)
    checks = json.loads(done.stdout)
    failed = [what for what, held in checks.items() if not held]
    if failed:
        raise AssertionError(f"{len(failed)} of {len(checks)} checks failed: {'; '.join(failed)}")
    return f"{len(checks)} checks of live, ready, metadata, JSON, bytes, gzip and errors: all held."


def embeddings(args) -> str:
    """Embeddings of one text, 64 clients"""
    return texts.report(int(args.rounds))


SECTIONS = {
    section.__name__: section
    for section in (one_row, many_rows, inside, restarts, bad_input, clients, embeddings)
}


def main() -> None:
    try:
        command(__doc__, SECTIONS, LIBRARIES, "serving", rounds=ROUNDS, servers=".")
    finally:
        shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()
