"""Measure drift alarms beside other libraries: false ones, delays and costs, and print Markdown tables.

make bench NAME=drift                                                    every section; an hour and more
.venv-bench-drift/bin/python -m benchmarks.drift.run --only rivals      one of them
.venv-bench-drift/bin/python -m benchmarks.drift.run --minutes .5       with less time for the others; likewise --runs
.venv-bench-drift/bin/python -m benchmarks.drift.run --write            all, and write benchmarks/results/drift.md

README.md beside this file says what each table means.
"""

import os

os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

from collections.abc import Sequence
from functools import partial

import numpy as np
from benchmarks.common.measure import command, judge, log, table
from benchmarks.drift.again import again
from benchmarks.drift.claims import checks, sorted_calls, strides
from benchmarks.drift.coverage import coverage
from benchmarks.drift.data import EMBEDDING, NULLS, Null, draw
from benchmarks.drift.delays import delays, labels
from benchmarks.drift.ours import ALPHA, collect, share, watch
from benchmarks.drift.regimes import regimes
from benchmarks.drift.rivals import (
    BATCH,
    ONLINE,
    Online,
    ask,
    fired,
    late,
    numbers,
    side_by_side,
    takes,
    version,
)
from benchmarks.drift.speed import calls, counters, memory, sizes, tests, wide
from benchmarks.drift.units import seasons, units

LIBRARIES = ("numpy", "scipy", "onnxruntime", "scikit-learn", "pandas", "river", "whylogs")
REFERENCES = (500, 2_000, 10_000, 100_000)
HORIZON, LONG, SLOW_HORIZON = 10_000, 100_000, 2_000
EMBEDDING_REFERENCE = 500  # a method takes seconds for a batch


# --- modelkit ---


def kinds(null: Null, n_ref: int, horizon: int, seed: np.random.SeedSequence) -> list[str]:
    """The kinds of the alarms of one run."""
    return [alarm.kind for alarm in watch(null, draw(null, n_ref, horizon, seed), seed)]


def false_alarms(args) -> str:
    """False alarms of modelkit in 10,000 rows, alpha .01"""
    return of_ours(HORIZON, args.runs)


def long_false_alarms(args) -> str:
    """False alarms of modelkit in 100,000 rows, alpha .01"""
    return of_ours(LONG, max(1, args.runs // 10))


def of_ours(horizon: int, runs: int) -> str:
    lines = []
    for null in NULLS:
        for n_ref in REFERENCES:
            found = collect(
                partial(kinds, null, n_ref, horizon), f"{null.name} {n_ref} {horizon}", runs
            )
            rate, low, high = share(sum(map(bool, found)), runs)
            of_kind = [sum(kind in run for run in found) / runs for kind in ("changed", "material")]
            often = sum(map(len, found)) / (runs * horizon) * 100_000
            cells = [f"{n_ref:,}", f"{runs:,}", f"{rate:.2%}", f"{low:.2%} to {high:.2%}"]
            lines.append(
                [
                    null.name,
                    *cells,
                    *(f"{kind:.2%}" for kind in of_kind),
                    f"{often:.3f}",
                    *judge(low, "at most", ALPHA),
                ]
            )
            log(f"  {' | '.join(lines[-1])}")
    header = "| reference rows | runs | with an alarm | 95 % interval | changed | material | alarms in 100,000 rows"
    return table(header + " | target of the lower limit | reached", lines)


# --- other libraries ---


def rivals(args) -> str:
    """False alarms of other libraries at their defaults, 10,000 rows"""
    parts = [of_river(args)]
    for library, method, unit in (("evidently", "preset", 25), ("nannyml", "univariate", 25)):
        found = version(library)
        if found is None:
            parts.append(f"{library}: not run, it does not install or import on this machine")
            continue
        parts.append(f"{library} {found}, batches of {BATCH} rows:")
        parts.append(of_batches(library, method, unit, args))
        parts += (
            [of_small_batches(args), of_embeddings(args)]
            if library == "evidently"
            else [of_labels(args)]
        )
    return "\n\n".join(parts)


def of_river(args) -> str:
    nulls = [null for null in NULLS if not null.wide]
    cells = [(null, one) for null in nulls for one in ONLINE if takes(one, example(null))]
    seconds = args.minutes * 60 / len(cells)
    found = {}
    for null, one in cells:
        runs = collect(partial(river_run, null, one), null.name, at_least(args), seconds, 2000)
        found[null.name, one.name] = rate_of(runs, slow=one.slow)
        log(f"  {null.name}, {one.name}: {found[null.name, one.name]}")
    lines = [
        [null.name, *(found.get((null.name, one.name), "") for one in ONLINE)] for null in nulls
    ]
    return table(
        " | ".join(
            [
                "",
                *(f"{one.name}, {SLOW_HORIZON:,} rows" if one.slow else one.name for one in ONLINE),
            ]
        ),
        lines,
    )


def example(null: Null) -> list[np.ndarray]:
    return numbers({"x": null.make(np.random.default_rng(0), 1000)["x"]})


def river_run(null: Null, one: Online, seed: np.random.SeedSequence) -> list[int]:
    live = draw(null, 1, SLOW_HORIZON if one.slow else HORIZON, seed).live
    return fired(
        partial(one.make, one.default), numbers({"x": live["x"]}), until=0 if one.slow else None
    )


def at_least(args) -> int:
    return max(10, min(50, round(20 * args.minutes)))


def rate_of(runs: Sequence[Sequence[int]], *, slow: bool = False) -> str:
    """Share of runs with an alarm, its interval, and alarms in 100,000 rows; a slow one is stopped at its first."""
    rate, low, high = share(sum(map(bool, runs)), len(runs))
    rows = sum(run[-1] if run else SLOW_HORIZON for run in runs) if slow else HORIZON * len(runs)
    often = sum(map(len, runs)) / rows * 100_000
    return f"{rate:.1%} ({low:.1%} to {high:.1%}), {often:.3g}"


def of_batches(library: str, method: str, unit: int, args) -> str:
    """Each null is a column of one frame; in every run each column has verdicts of its own."""
    columns: dict[str, list[str]] = {}
    sizes = (500, 10_000)
    for n_ref in sizes:
        least, most = -(-at_least(args) // unit), 2000 // unit
        seconds = args.minutes * 60 / len(sizes)
        parts = collect(
            partial(batch_run, library, method, n_ref, unit),
            f"{library} {n_ref}",
            least,
            seconds,
            most,
        )
        runs = len(parts) * unit
        log(f"  {library}, {n_ref} reference rows: {runs} runs")
        columns.setdefault("runs", []).append(f"{runs:,}")
        for name in parts[0]:
            columns.setdefault(name, []).append(
                rate_of([late(run) for part in parts for run in part[name]])
            )
    header = " | ".join(["", *(f"{n_ref:,} reference rows" for n_ref in sizes)])
    log(f"  {columns}")
    return table(header, [[name, *cells] for name, cells in columns.items()])


def batch_run(
    library: str, method: str, n_ref: int, runs: int, seed: np.random.SeedSequence
) -> dict:
    return ask(library, method, [frames(n_ref, HORIZON, one) for one in seed.spawn(runs)])


def frames(n_ref: int, horizon: int, seed: np.random.SeedSequence) -> tuple[dict, dict]:
    scalar = [null for null in NULLS if not null.wide]
    drawn = {
        null.name: draw(null, n_ref, horizon, one)
        for null, one in zip(scalar, seed.spawn(len(scalar)), strict=True)
    }
    return side_by_side(drawn)


def of_small_batches(args) -> str:
    """Evidently's preset on single batches of 100 rows."""
    parts = collect(partial(small_batches, at_least(args)), "small", 2)
    verdicts = {name: [run[0] >= 1 for part in parts for run in part[name]] for name in parts[0]}
    columns = np.array([found for name, found in verdicts.items() if name != "dataset"]).mean(
        axis=0
    )
    lines = [
        [name, f"{sum(found):,} of {len(found):,}", f"{rate:.0%} ({low:.1%} to {high:.1%})"]
        for name, found in verdicts.items()
        for rate, low, high in [share(sum(found), len(found))]
    ]
    spread = f"{columns.min():.0%} to {columns.max():.0%}"
    lines.append(["share of the columns, mean and range", "", f"{columns.mean():.0%} ({spread})"])
    return table("| batches | said to drift, batches of 100, 5,000 reference rows", lines)


def small_batches(runs: int, seed: np.random.SeedSequence) -> dict:
    return ask("evidently", "preset", [frames(5_000, 100, one) for one in seed.spawn(runs)])


def of_embeddings(args) -> str:
    """Evidently's methods for embeddings take seconds, so a run is one batch."""
    lines = []
    for method in ("model", "mmd", "mmd, bootstrap"):
        parts = collect(partial(embedding_batches, method, at_least(args) // 5), method, 2)
        found = [drifted for part in parts for drifted in part]
        rate, low, high = share(sum(found), len(found))
        lines.append(
            [f"embeddings, {method}", f"{len(found):,}", f"{rate:.0%} ({low:.1%} to {high:.1%})"]
        )
    return table(f"| batches | said to drift, {EMBEDDING_REFERENCE} reference rows", lines)


def embedding_batches(method: str, runs: int, seed: np.random.SeedSequence) -> list[bool]:
    drawn = [draw(EMBEDDING, EMBEDDING_REFERENCE, BATCH, one) for one in seed.spawn(runs)]
    found = ask("evidently", method, [(run.reference, run.live) for run in drawn])["x"]
    return [bool(late(scores, 0.5)) for scores in found]


def of_labels(args) -> str:
    """CBPE and realised performance on a model whose scores are the true probabilities."""
    lines = []
    for method in ("cbpe", "performance"):
        cells = []
        for n_ref in (500, 10_000):
            parts = collect(
                partial(labelled_run, method, n_ref, 25),
                method,
                -(-at_least(args) // 25),
                args.minutes * 6,
                80,
            )
            cells.append(rate_of([late(run) for part in parts for run in part]))
        lines.append([f"{method}, accuracy", *cells])
    return table("| 500 reference rows | 10,000 reference rows", lines)


def labelled_run(method: str, n_ref: int, runs: int, seed: np.random.SeedSequence) -> list:
    pairs = [
        tuple(
            scored(np.random.default_rng(side), n)
            for side, n in zip(one.spawn(2), (n_ref, HORIZON), strict=True)
        )
        for one in seed.spawn(runs)
    ]
    return ask("nannyml", method, pairs)["accuracy"]


def scored(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    score = 1 / (1 + np.exp(-2 * rng.normal(size=n)))
    return {
        "score": score,
        "predicted": (score > 0.5).astype(int),
        "y": (rng.random(n) < score).astype(int),
    }


SECTIONS = {
    section.__name__: section
    for section in (
        false_alarms, long_false_alarms, again, rivals, delays, labels, units, seasons, regimes, sorted_calls, strides,
        checks, coverage, counters, wide, tests, calls, memory, sizes,
    )
}  # fmt: skip


if __name__ == "__main__":
    command(__doc__, SECTIONS, LIBRARIES, "drift", minutes=5.0, runs=2000, units=300)
