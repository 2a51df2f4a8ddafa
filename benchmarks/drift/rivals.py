"""The other libraries: river's detectors in this process, Evidently and NannyML as children, and two dummies.

An alarm is the number of live rows that had been seen when it was raised.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmarks.drift.data import NAMES, Rows, Run
from river import drift
from river.drift import binary

HERE = Path(__file__).parent
BATCH = 500


class Online(NamedTuple):
    """A detector of river: how it is made, its default, and values from loose to strict to tune it with, if it is."""

    name: str
    make: Callable[[float], Any]
    default: float
    ladder: tuple[float, ...]
    binary: bool = False
    slow: bool = False


def built(detector: Callable[..., Any], option: str, value: float, **options: int) -> Any:
    return detector(**{option: value}, **options)


def named(detector: Callable[..., Any], option: str, **options: int) -> Callable[[float], Any]:
    return partial(built, detector, option, **options)  # a lambda could not go to another process


ONLINE = (
    Online("ADWIN", named(drift.ADWIN, "delta"), 0.002, tuple(0.9 * 0.8**k for k in range(32))),
    Online(
        "PageHinkley",
        named(drift.PageHinkley, "threshold"),
        50,
        tuple(50 * 1.2**k for k in range(-15, 32)),
    ),
    Online("KSWIN", named(drift.KSWIN, "alpha", seed=0), 0.005, (), slow=True),
    Online(
        "DDM",
        named(binary.DDM, "drift_threshold"),
        3,
        (2.5, 3, 3.5, 4, 4.5, 5, 6, 8, 10),
        binary=True,
    ),
    Online(
        "EDDM",
        named(binary.EDDM, "beta"),
        0.9,
        (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.3),
        binary=True,
    ),
    Online("HDDM_A", named(binary.HDDMA, "drift_confidence"), 0.001, (), binary=True),
    Online("HDDM_W", named(binary.HDDMW, "drift_confidence"), 0.001, (), binary=True),
)


def numbers(rows: Rows) -> list[np.ndarray]:
    """What a detector of numbers can be shown: a category as its rank, a column with gaps as where they are."""
    columns = []
    for column in rows.values():
        if column.dtype.kind == "U":
            columns.append(np.searchsorted(NAMES, column).astype(float))
        elif np.isnan(column).any():
            columns.append(np.isnan(column).astype(float))
        else:
            columns += list(column.reshape(len(column), -1).T.astype(float))
    return columns


def takes(one: Online, columns: list[np.ndarray]) -> bool:
    bits = all(np.isin(column, (0, 1)).all() for column in columns)
    return bits if one.binary else not (one.slow and len(columns) > 1)


def fired(
    make: Callable[[], Any], columns: list[np.ndarray], until: int | None = None
) -> list[int]:
    """The alarms of a detector for each column; up to the first after `until` rows."""
    found: set[int] = set()
    for column in columns:
        found.update(alarms(make(), column, until))
    return sorted(found)


def alarms(detector: Any, column: np.ndarray, until: int | None) -> Iterator[int]:
    for row, value in enumerate(column.tolist(), 1):
        detector.update(value)
        if detector.drift_detected:
            yield row
            if until is not None and row > until:
                return


def any_alarm(one: Online, value: float, columns: list[np.ndarray]) -> bool:
    return bool(fired(partial(one.make, value), columns, until=0))


def tuned(one: Online, rate: Callable[[float], float], target: float) -> float | None:
    """The loosest value of the ladder whose rate of runs with an alarm is at most `target`; None if there is none."""
    low, high = 0, len(one.ladder)
    while low < high:
        middle = (low + high) // 2
        if rate(one.ladder[middle]) <= target:
            high = middle
        else:
            low = middle + 1
    return one.ladder[low] if low < len(one.ladder) else None


# --- children ---


def ask(library: str, method: str, pairs: list[tuple[Rows, Rows]]) -> dict[str, Any]:
    """What the child says of runs of reference and live rows: scores by column, run and batch."""
    arrays = {
        f"{part}/{name}": np.stack([pair[index][name] for pair in pairs])
        for index, part in enumerate(("reference", "live"))
        for name in pairs[0][index]
    }
    return told(library, HERE / f"child_{library}.py", method, arrays)


def ask_units(library: str, runs: list[tuple[Rows, Rows]]) -> dict[str, Any]:
    """What the child says of runs of reference and live rows with a column "unit": scores by column, run and unit."""
    arrays = {
        f"{run}/{part}/{name}": column.astype(str) if column.dtype == object else column
        for run, pair in enumerate(runs)
        for part, rows in zip(("reference", "live"), pair, strict=True)
        for name, column in rows.items()
    }
    return told(library, HERE / "child_units.py", library, arrays)


def told(library: str, script: Path, method: str, arrays: Rows) -> dict[str, Any]:
    """What a child in the environment of a library finds in arrays."""
    with tempfile.TemporaryDirectory(prefix="modelkit-bench-") as folder:
        source, target = Path(folder) / "rows.npz", Path(folder) / "verdicts.json"
        np.savez(source, **arrays)
        command = [python(library), script, method, source, target]
        quiet = os.environ | {"PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            [*map(str, command)], capture_output=True, text=True, check=False, cwd=folder, env=quiet
        )
        if done.returncode:
            raise RuntimeError(f"{library} {method}: {done.stderr.strip().splitlines()[-1]}")
        return json.loads(target.read_text(encoding="utf-8"))["found"]


def python(library: str) -> Path:
    """Of the environment that the Makefile makes beside this one."""
    return Path(f"{Path(sys.prefix)}-{library}") / "bin" / "python"


def version(library: str) -> str | None:
    """None where the library is not installed, or cannot be imported."""
    code = f"import {library}; print({library}.__version__)"
    try:
        done = subprocess.run(
            [str(python(library)), "-c", code], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip().splitlines()[-1]


def side_by_side(runs: dict[str, Run]) -> tuple[Rows, Rows]:
    """One frame of reference rows and one of live rows, a column for each run."""
    reference, live = (
        {name: getattr(run, part)["x"] for name, run in runs.items()}
        for part in ("reference", "live")
    )
    return reference, live


def late(scores: list[float], limit: float = 1) -> list[int]:
    """The alarms of batches whose score exceeds the limit."""
    return [(batch + 1) * BATCH for batch, score in enumerate(scores) if score > limit]
