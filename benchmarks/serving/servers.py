"""Who is compared: each a command that serves one ONNX file on a port of loopback, and the request that it takes."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OWN = Path(sys.executable).parent
HOST = "127.0.0.1"
PATIENCE = 60.0  # seconds in which a server has to answer its first request
MODEL = "cancer"
QUICK = "quick"  # the same model, beside a slow one of that name
TOKEN = "benchmark"  # noqa: S105 - it guards nothing
V2 = f"/v2/models/{MODEL}/infer"


class Contender(NamedTuple):
    """`program` is started in the environment `home`; "{port}" stands for a free port, "{port+1}" for another."""

    program: tuple[str, ...]
    kind: str
    path: str
    home: str = ""
    variables: dict[str, str] = {}  # noqa: RUF012 - never written to
    headers: dict[str, str] = {}  # noqa: RUF012 - the same; of each request


def uvicorn(app: str, kind: str, path: str, **variables: str) -> Contender:
    program = ("uvicorn", f"benchmarks.serving.{app}:app", "--port", "{port}")
    quiet = ("--log-level", "warning", "--no-access-log")
    return Contender((*program, *quiet), kind, path, variables=variables)


def modelkit(variant: str) -> Contender:
    made = uvicorn("app_modelkit", "v2", V2, VARIANT=variant)
    return made._replace(headers={"x-api-key": TOKEN}) if variant == "all" else made


def mlserver(**settings: str | int) -> Contender:
    return Contender(
        ("mlserver", "start", "{folder}"),
        "v2",
        V2,
        "mlserver",
        {
            "MLSERVER_HTTP_PORT": "{port}",
            "MLSERVER_GRPC_PORT": "{port+1}",
            "MLSERVER_METRICS_PORT": "{port+2}",
            "MLSERVER_MODEL_NAME": MODEL,
            "MLSERVER_MODEL_IMPLEMENTATION": "benchmarks.serving.rival_mlserver.Cancer",
        }
        | {f"MLSERVER_{name.upper()}": str(value) for name, value in settings.items()},
    )


def litserve(*arguments: str) -> Contender:
    program = ("python", "-m", "benchmarks.serving.rival_litserve", *arguments)
    return Contender(program, "lit", "/predict", "litserve")


def bentoml(service: str) -> Contender:
    program = ("bentoml", "serve", f"benchmarks.serving.rival_bentoml:{service}")
    where = ("--port", "{port}", "--host", HOST, "--working-dir", str(ROOT))
    return Contender((*program, *where), "rows", "/infer", "bentoml")


KSERVE = ("python", "-m", "benchmarks.serving.rival_kserve")
EMPTY, FASTAPI = "empty ASGI app", "FastAPI, pydantic"
BARE, OURS = "modelkit, no Batcher", "modelkit"
METERED, WHOLE = "modelkit, Meter", "modelkit, Meter, auth, events"
SERVE = "modelkit serve"
# The best settings were found by trying; README.md says which were tried.
CONTENDERS: dict[str, Contender] = {
    EMPTY: uvicorn("app_empty", "v2", V2),
    FASTAPI: uvicorn("app_fastapi", "rows", "/predict"),
    "KServe": Contender(KSERVE, "v2", V2, "kserve"),
    "KServe, best": Contender((*KSERVE, "quiet"), "v2", V2, "kserve"),
    "MLServer": mlserver(),
    "MLServer, best": mlserver(parallel_workers=0, debug=0, gzip_enabled=0, metrics_endpoint=""),
    "LitServe": litserve("1"),
    "LitServe, best": litserve("64", "quiet"),
    "BentoML": bentoml("Plain"),
    "BentoML, best": bentoml("Best"),
    BARE: modelkit("model"),
    OURS: modelkit("batcher"),
    METERED: modelkit("meter"),
    WHOLE: modelkit("all"),
    SERVE: Contender(("modelkit", "serve", "{package}", "--port", "{port}"), "v2", V2),
}
RIVALS = [name for name, contender in CONTENDERS.items() if contender.home]


class Running(NamedTuple):
    """A server that answers, and what it takes."""

    contender: Contender
    process: psutil.Process
    port: int

    def cpu(self) -> float:
        """Seconds of processor time of the server and of all its children so far."""
        total = 0.0
        for process in self.family():
            try:
                total += sum(process.cpu_times()[:2])
            except psutil.NoSuchProcess:
                continue
        return total

    def ask(self, body: bytes | None, path: str = "", method: str = "POST") -> tuple[int, bytes]:
        """Status and body of the answer; status 0 where there is none."""
        path = path or self.contender.path
        return ask(self.port, body, path, method, self.contender.headers)

    def rest(self) -> None:
        """Stop all its processes, so that a server that polls takes nothing from the others."""
        for process in self.family():
            process.suspend()

    def wake(self) -> None:
        for process in self.family():
            process.resume()

    def family(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


def ask(
    port: int,
    body: bytes | None,
    path: str,
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    """Status and body of the answer; status 0, and why, where there is none."""
    told = {"content-type": "application/json"} | (headers or {})
    url = f"http://{HOST}:{port}{path}"
    request = urllib.request.Request(url, body, told, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - the same
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:
        return 0, str(error).encode()


def free_ports(count: int = 3) -> int:
    """The first of so many ports in a row that nobody listens on."""
    for _ in range(100):
        with socket.socket() as first:
            first.bind((HOST, 0))
            port = first.getsockname()[1]
        try:
            for number in range(port, port + count):
                with socket.socket() as one:
                    one.bind((HOST, number))
        except OSError:
            continue
        return port
    raise OSError("there are no free ports")


def home_of(name: str) -> Path:
    """Where the programs of an environment lie: of this one, or of a rival's beside it."""
    return ROOT / f"{OWN.parent.name}-{name}" / "bin" if name else OWN


def ours(folder: Path) -> dict[str, str]:
    """What the environment of each server has."""
    return {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "GRAPH": str(folder / "model.onnx"),
        "PACKAGE": str(folder / f"{MODEL}.mk"),
        "OMP_NUM_THREADS": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "BENTOML_DO_NOT_TRACK": "True",
        "DO_NOT_TRACK": "1",
    }


def filled(text: str, port: int, folder: Path) -> str:
    package = folder / f"{MODEL}.mk"
    ports = {"{port}": port, "{port+1}": port + 1, "{port+2}": port + 2}
    for name, value in {**ports, "{folder}": folder, "{package}": package}.items():
        text = text.replace(name, str(value))
    return text


@contextmanager
def running(name: str, contender: Contender, folder: Path, body: bytes) -> Iterator[Running]:
    """Start a server, with its log in `folder`; it is killed with all its children."""
    port = free_ports()
    home = home_of(contender.home)
    command = [filled(part, port, folder) for part in contender.program]
    variables = {key: filled(value, port, folder) for key, value in contender.variables.items()}
    own = ours(folder) | {"PATH": f"{home}:{os.environ['PATH']}", "PORT": str(port)}
    log = folder / f"{name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [home / command[0], *command[1:]],
            cwd=folder,
            env=os.environ | own | variables,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    tree = psutil.Process(process.pid)
    server = Running(contender, tree, port)
    try:
        until = time.monotonic() + PATIENCE
        while server.ask(body)[0] != 200:
            if process.poll() is not None or time.monotonic() > until:
                raise OSError(f"{name} did not start: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield server
    finally:
        family = server.family() if process.poll() is None else []
        if family:
            server.wake()
        for one in family:
            one.terminate()
        _, alive = psutil.wait_procs(family, 3)
        for one in alive:
            one.kill()
        process.wait()
