"""What a record of an audit log costs, and whether 100,000 attacks on logs are found."""

import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from benchmarks.common.measure import judge, table

import modelkit as mk
from modelkit.events import AliasSet

sys.path.append(str(Path(__file__).parents[2] / "tests"))  # for `helpers`
ATTACKED = 100_000
RECORDS = 20_000
EVENT = AliasSet("churn", "champion", "1.1.0", "1.0.0", "gate 2026-11")
SIGNATURE = mk.Signature(
    [mk.TensorSpec("x", "float64", ("n", 20))], [mk.TensorSpec("y", "float64", ("n",))]
)


def microseconds(call, number: int, rounds: int = 5) -> float:
    """The best of some rounds, of which the whole counts: checkpoints and files that end as well."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(number):
            call()
        taken.append(time.perf_counter() - start)
    return min(taken) / number * 1e6


def records() -> str:
    """What a record of an audit log costs; the disk is the one of this folder"""
    from helpers.audits import KEY

    model = mk.FunctionModel(lambda feeds: {"y": feeds["x"].sum(axis=1)}, SIGNATURE)
    row = np.random.default_rng(0).normal(size=(1, 20))
    with tempfile.TemporaryDirectory(dir=os.getcwd()) as folder:
        with mk.AuditLog(Path(folder, "audit"), KEY) as audit:
            event = microseconds(lambda: audit.record(EVENT), RECORDS)
            bare = microseconds(lambda: model.predict(row, key="a"), RECORDS)
            served = audit.answers(model)
            answer = microseconds(lambda: served.predict(row, key="a"), RECORDS // 4) - bare
        start = time.perf_counter()
        report = mk.AuditLog.verify(Path(folder, "audit"), [KEY.public_key()])
        check = (time.perf_counter() - start) / report.records * 1e6
        assert report.problems == ()
        with mk.AuditLog(Path(folder, "fsync"), KEY, fsync_each=True) as audit:
            flushed, disk = flushes(audit, Path(folder, "alone"))
    rows = [
        ["an event, a signed checkpoint each 1,000", f"{event:.1f}", *judge(event, "at most", 20)],
        ["an answer: keyed hashes and the record, beside the bare call", f"{answer:.1f}", "", ""],
        ["an event with `fsync_each`", f"{flushed:.0f}", "", ""],
        ["fsync of this disk after a write of as many bytes", f"{disk:.0f}", "", ""],
        ["`AuditLog.verify` with a key, a record", f"{check:.1f}", "", ""],
    ]
    return table("| microseconds | target | reached", rows)


def flushes(audit: mk.AuditLog, path: Path) -> tuple[float, float]:
    """Medians of a record that is flushed and of the disk alone, in turns."""
    taken: dict[str, list[float]] = {"record": [], "disk": []}
    with path.open("ab", buffering=0) as file:
        for _ in range(300):
            for name, times in taken.items():
                start = time.perf_counter()
                if name == "record":
                    audit.record(EVENT)
                else:
                    file.write(b"x" * 300)
                    os.fsync(file.fileno())
                times.append(time.perf_counter() - start)
    record, disk = (statistics.median(each) * 1e6 for each in taken.values())
    return record, disk


def tampering() -> str:
    """How many of 100,000 attacks on audit logs of random length are found"""
    from helpers.audits import ATTACKS, KEY, log_in, problem_with, tamper, write_log

    rng = random.Random(0)
    logs = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(60):
            events = [
                AliasSet(str(rng.random()), "a", str(n), "x" * rng.randrange(50), "r")
                for n in range(rng.randrange(1, 30))
            ]
            options = {
                "checkpoint_every": rng.randrange(1, 9),
                "rotate_bytes": rng.choice([500, 1 << 20]),
            }
            where = Path(folder, str(number))
            kept = f"{write_log(where, events, rng.choice([None, KEY]), **options)}\n".encode()
            logs.append((*log_in(where), kept))
    assert not any(problem_with(log, b"".join(lines), None, kept) for log, lines, kept in logs)
    tried: Counter[str] = Counter()
    found: Counter[str] = Counter()
    kinds = (*ATTACKS, "end")
    for n in range(ATTACKED):
        kind = kinds[n % len(kinds)]
        (log, lines, kept), (_, other, _) = rng.sample(logs, 2)
        if kind == "end":
            data = b"".join(lines[: lines.index(kept) + 1])
            data = data[: rng.randrange(len(data))]
            problem = problem_with(log, data, None, kept)
        else:
            problem = problem_with(log, tamper(kind, lines, rng.randrange, other))
        tried[kind] += 1
        found[kind] += bool(problem)
    names = {
        "flip": "a byte has another value",
        "swap": "two lines are swapped",
        "cut": "lines are removed, and not the last",
        "repeat": "a line is repeated",
        "splice": "a line of another log is put in",
        "replace": "a line of another log takes the place of one",
        "end": "the end is cut anywhere, with a checkpoint kept elsewhere",
    }
    rows = [[names[kind], f"{tried[kind]:,}", f"{found[kind]:,}"] for kind in kinds]
    rows.append(["all", f"{tried.total():,}", f"{found.total():,}"])
    return table("attack | logs | found", rows)
