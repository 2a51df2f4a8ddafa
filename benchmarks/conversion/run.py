"""Measure packages beside the models they came from, for every kind that can be saved, and print Markdown tables.

make bench NAME=conversion                                                         every kind
.venv-bench-conversion/bin/python -m benchmarks.conversion.run --only LightGBM    those whose name holds a text
.venv-bench-conversion/bin/python -m benchmarks.conversion.run --write   all, and keep them

README.md beside this file says what each table means.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # nothing is sent while it is measured

import numpy as np
import torch
from benchmarks.common.measure import interleave, log, report, seconds, table, write
from tests.helpers.kinds import KINDS
from threadpoolctl import threadpool_limits
from torch import nn

import modelkit as mk
from modelkit.model.manifest import Parity

LIBRARIES = (
    "numpy", "onnxruntime", "scikit-learn", "skl2onnx", "spox", "xgboost-cpu", "lightgbm", "catboost",
    "torch", "onnxscript",
)  # fmt: skip
SIZES = (1, 10_000)
ROUNDS = {1: 7, 10_000: 5}  # twice: see race
SLOW = (
    (0.5, 2),
    (0.1, 3),
)  # seconds for both calls together, and how many rounds have to do from there on
ENDLESS = 1e300  # what a manifest writes for an infinite difference


class Torch(NamedTuple):
    """A torch module, not trained, in the form of tests/helpers/kinds.py."""

    name: str
    layers: Callable[[], Iterable[nn.Module]]
    shape: tuple[int, ...]

    @property
    def id(self) -> str:
        return f"torch: {self.name}"

    def fit(self) -> tuple[nn.Module, np.ndarray]:
        torch.manual_seed(0)
        rows = torch.randn(500, *self.shape).numpy()
        return nn.Sequential(*self.layers()).eval(), rows


def perceptron() -> list[nn.Module]:
    return [
        nn.Linear(64, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
        nn.Softmax(1),
    ]


def convolutions() -> list[nn.Module]:
    blocks = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)]
    return [
        *blocks,
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    ]


MODULES = (
    Torch("network 64-128-64-10", perceptron, (64,)),
    Torch("convolutions over 8 by 8 pixels", convolutions, (1, 8, 8)),
)


class Result(NamedTuple):
    """What was measured of one kind: seconds by number of rows, of the original and of its package."""

    name: str
    parity: Parity
    times: dict[int, tuple[float, float]]

    def ratio(self, size: int) -> float:
        original, package = self.times[size]
        return original / package


@cache
def results(only: str) -> list[Result]:
    found = []
    with tempfile.TemporaryDirectory(prefix="modelkit-bench-") as folder:
        for kind in (*KINDS, *MODULES):
            if only.lower() in kind.id.lower():
                start = time.perf_counter()
                found.append(measure(kind, Path(folder) / "kind.mk"))
                shown = ", ".join(f"{size:,} rows {found[-1].ratio(size):.2f}" for size in SIZES)
                log(f"  {kind.id}: {shown}; {time.perf_counter() - start:.1f} s")
    if not found:
        sys.exit(f"no kind has {only!r} in its name")
    return found


def measure(kind: object, package: Path) -> Result:
    original, X = kind.fit()
    manifest = mk.save(original, package, example=X, name="kind", version="1")
    with mk.load(package) as model:
        times = {size: race(original, model, tile(X, size), ROUNDS[size]) for size in SIZES}
    return Result(kind.id, manifest.parity, times)


def race(original: object, model: mk.Model, rows: object, rounds: int) -> tuple[float, float]:
    """Median seconds of both on the same rows, in the container that a user of the original has.

    The original runs with its default threads, then with one, beside the package each time; the
    better median counts.
    """
    texts = isinstance(rows, list)
    calls = {
        "original": partial(ask, original, rows),
        "package": partial(
            model.predict, {model.signature.inputs[0].name: rows} if texts else rows
        ),
    }
    sizes = {name: np.asarray(call()).size for name, call in calls.items()}
    assert sizes["original"] == sizes["package"], sizes
    once = sum(seconds(call, 1) for call in calls.values())
    rounds = next((few for limit, few in SLOW if once > limit), rounds)
    # Thread pools of the original may spin after a call, so the process rests after each of its
    # turns.
    default = interleave(calls, rounds, {"original"}, block=0.004)
    with single(original) as keywords:
        calls["original"] = partial(ask, original, rows, **keywords)
        alone = interleave(calls, rounds, block=0.004)
    return min(default["original"], alone["original"]), min(default["package"], alone["package"])


def ask(original: object, rows: object, **keywords: object) -> object:
    if isinstance(original, nn.Module):
        with torch.inference_mode():
            return original(torch.from_numpy(rows)).numpy()
    return (original.predict if hasattr(original, "predict") else original.transform)(
        rows, **keywords
    )


@contextmanager
def single(original: object) -> Iterator[dict[str, object]]:
    """One thread for the original; yields the keywords of `predict` that this takes."""
    library, before = type(original).__module__.partition(".")[0], torch.get_num_threads()
    if library == "xgboost":
        original.get_booster().set_param({"nthread": 1})
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield {"lightgbm": {"num_threads": 1}, "catboost": {"thread_count": 1}}.get(library, {})
    torch.set_num_threads(before)
    if library == "xgboost":
        original.get_booster().set_param({"nthread": 0})


def tile(X: object, size: int) -> object:
    """So many rows: those of `X` over and over."""
    chosen = np.arange(size) % len(X)
    if isinstance(X, list):
        return [X[i] for i in chosen]
    return X.iloc[chosen].reset_index(drop=True) if hasattr(X, "iloc") else X[chosen]


def parity(only: str) -> str:
    """How near a package is to its original"""
    lines = []
    for name, found, _ in results(only):
        far = "not asked" if not found.large_rows else f"{found.large_max_rel:.1g}"
        far = "infinite" if found.large_max_rel > ENDLESS else far
        far += f", {found.large_flips} of {found.large_rows} labels" if found.large_flips else ""
        lines.append(
            [
                name,
                f"{found.rows:,}",
                f"{found.max_rel:.1g}",
                f"{found.rtol:g}",
                f"{found.label_flips}",
                f"{found.ties}",
                f"{found.threshold_rows or ''}",
                f"{found.missing_rows or ''}",
                "yes" if found.batch_invariant else "**no**",
                f"{found.batch_max_abs:.1g}",
                far,
            ]
        )
    header = "| rows | worst relative error | allowed | label flips | ties | rows at thresholds | rows with gaps"
    return table(header + " | batches agree | worst difference | far beyond", lines)


def speed(only: str) -> str:
    """How fast `predict` of a package is"""
    lines, summary = [], []
    for found in results(only):
        cells = []
        for size, unit in zip(SIZES, (1e6, 1e3), strict=True):
            original, package = (value * unit for value in found.times[size])
            cells += [number(original), number(package), marked(found.ratio(size))]
        lines.append([found.name, *cells])
    for size in SIZES:
        ratios = sorted(found.ratio(size) for found in results(only))
        lost = sum(ratio < 1 for ratio in ratios)
        summary.append(
            f"{size:,} row{'s' * (size > 1)}: the package is {statistics.median(ratios):.1f} times as fast in the "
            f"median, {ratios[0]:.2f} at the least and {number(ratios[-1])} at the most; slower for {lost} of "
            f"{len(ratios)} kinds."
        )
    header = "| 1 row: original, us | package, us | times faster | 10,000 rows: original, ms | package, ms"
    return "\n".join(summary) + "\n\n" + table(header + " | times faster", lines)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def marked(ratio: float) -> str:
    return number(ratio) if ratio >= 1 else f"**{ratio:.2f}**"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="measure the kinds whose name holds this"
    )
    parser.add_argument(
        "--write", action="store_true", help="write benchmarks/results/conversion.md"
    )
    args = parser.parse_args()
    if args.write and args.only:
        parser.error("--write takes the tables of one whole run, so not with --only")
    warnings.simplefilter("ignore")
    text = report((speed, parity), LIBRARIES, args.only)
    print(text)
    if args.write:
        write(text, "conversion")


if __name__ == "__main__":
    main()
