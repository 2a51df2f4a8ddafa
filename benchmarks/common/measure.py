"""How it is measured: interleaved calls, fresh processes, bare sessions to compare with, and tables."""

import argparse
import gc
import os
import platform
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Container, Hashable, Iterable
from importlib import metadata
from itertools import repeat
from pathlib import Path

import onnxruntime as ort

import modelkit as mk

CHILD = Path(__file__).with_name("child.py")
RESULTS = Path(__file__).parents[1] / "results"
CORES = len(os.sched_getaffinity(0))
SPIN = 0.06  # seconds; the workers of a session with default options spin for 0.04 after a run

Calls = dict[Hashable, Callable[[], object]]


def interleave(
    calls: Calls, rounds: int, spinning: Container[Hashable] = (), block: float = 0.003
) -> dict[Hashable, float]:
    """Median seconds of each call; in every round each has its turn: `block` seconds untimed, then as many timed.

    After a call that leaves its workers spinning on the other cores, the process rests until they
    sleep.
    """
    times: dict[Hashable, list[float]] = {name: [] for name in calls}
    counts = {}
    for name, call in calls.items():
        call()  # the first one is slow
        counts[name] = max(1, int(block / seconds(call, 1)))
    gc.disable()
    for _ in range(rounds):
        for name, call in calls.items():
            seconds(call, counts[name])
            times[name].append(seconds(call, counts[name]))
            if name in spinning:
                time.sleep(SPIN)
    gc.enable()
    return {name: statistics.median(values) for name, values in times.items()}


def seconds(call: Callable[[], object], count: int) -> float:
    """Seconds of one call, as the mean of `count`."""
    start = time.perf_counter()
    for _ in repeat(None, count):
        call()
    return (time.perf_counter() - start) / count


def child(script: str, path: Path, width: int, *cycles: int) -> list[list[float]]:
    """The numbers that a script of child.py prints, line by line."""
    command = [sys.executable, str(CHILD), script, str(path), str(width), *map(str, cycles)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [[float(number) for number in line.split()] for line in done.stdout.splitlines()]


def bare(graph: Path, threads: int = 0) -> ort.InferenceSession:
    """A session with onnxruntime's default options, or with so many threads; one alone does not spin."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    if threads == 1:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def table(header: str, rows: list[list[str]]) -> str:
    names = [name.strip() for name in header.split("|")]
    lines = [names, ["---"] + ["---:"] * (len(names) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def judge(value: float, target: str, limit: float | None) -> list[str]:
    """The cells 'target' and 'reached'; empty where nothing was asked for."""
    if limit is None:
        return ["", ""]
    reached = value >= limit if target == "at least" else value <= limit
    return [f"{target} {limit:g}", "yes" if reached else "**no**"]


def report(sections: Iterable[Callable[..., str]], libraries: Iterable[str], *args: object) -> str:
    """What the sections, called with `args`, have to say, under a line that says where and with what."""
    cpu = next(
        line
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in libraries)
    head = (
        f"{time.strftime('%Y-%m-%d')}, {cpu.partition(':')[2].strip()}, {CORES} cores, {platform.system()}, "
        f"Python {platform.python_version()}, modelkit {mk.__version__}, {versions}."
    )
    parts = [head]
    for section in sections:
        log(section.__name__)
        start = time.perf_counter()
        parts += [f"### {section.__doc__}", section(*args)]
        log(f"  {time.perf_counter() - start:.0f} s")
    return "\n\n".join(parts)


def command(about: str, sections: dict, libraries: tuple, name: str, **numbers: float) -> None:
    """The command line of a benchmark whose tables are kept in benchmarks/results/NAME.md.

    `numbers` are further options with their defaults; if there are any, each section is given the
    parsed options.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument(
        "--only", choices=sections, nargs="+", default=list(sections), help="measure these sections"
    )
    parser.add_argument("--write", action="store_true", help=f"write benchmarks/results/{name}.md")
    for option, default in numbers.items():
        parser.add_argument(
            f"--{option}", type=type(default), default=default, help=f"{default} unless told"
        )
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    given = [args] if numbers else []
    text = report([sections[section] for section in args.only], libraries, *given)
    print(text)
    if args.write:
        titles = [f"### {section.__doc__}" for section in sections.values()]
        page = RESULTS / f"{name}.md"
        before = page.read_text(encoding="utf-8") if page.exists() else ""
        write(updated(before, text, titles), name)


def updated(old: str, new: str, titles: Iterable[str]) -> str:
    """The new report, with the old one's sections where it has none of that title."""
    _, kept = apart(old)
    head, found = apart(new)
    return "\n\n".join([head, *(text for title in titles if (text := (kept | found).get(title)))])


def apart(text: str) -> tuple[str, dict[str, str]]:
    """What a report has before its sections, and the sections by their first line."""
    head, *sections = re.split(r"^(?=### )", text, flags=re.MULTILINE)
    return head.strip(), {section.partition("\n")[0]: section.strip() for section in sections}


def write(text: str, name: str) -> None:
    """Put a report into benchmarks/results/NAME.md, which is of one machine and is not committed."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(f"{text}\n", encoding="utf-8")


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
