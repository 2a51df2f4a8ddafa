"""Measure a Batcher beside bare onnxruntime and three batching libraries, and print Markdown tables.

make bench NAME=batching                                                    every section
.venv-bench-batching/bin/python -m benchmarks.batching.run --only victims  one of them
.venv-bench-batching/bin/python -m benchmarks.batching.run --model MLP     with one model
.venv-bench-batching/bin/python -m benchmarks.batching.run --write         all, and write benchmarks/results/batching.md

README.md beside this file says what each table means.
"""

import argparse
import asyncio
import gc
import logging
import os
import shutil
import warnings
from collections.abc import Callable
from functools import cache, partial

os.environ |= {
    "ORT_DISABLE_TELEMETRY": "1",
    "BENTOML_DO_NOT_TRACK": "True",
}  # nothing is sent while it is measured

import numpy as np
from benchmarks.batching import load, manners, overload
from benchmarks.batching.contenders import (
    LOOP,
    THREADS,
    Contender,
    Make,
    Subject,
    contenders,
    subject_of,
)
from benchmarks.batching.load import Sample, Stream, Turn, interleave
from benchmarks.common.cases import FOLDER, classifiers, products
from benchmarks.common.measure import judge, log, report, table, write

import modelkit as mk

LIBRARIES = ("numpy", "onnxruntime", "scikit-learn", "batched", "async-batcher", "bentoml")
MODELS = ("LR", "GBT", "MLP", "1 ms", "10 ms")
LONG = MODELS[3:]
CALLERS = (1, 2, 8, 64, 512)
SECONDS = {"1 ms": 0.4, "10 ms": 0.6}  # of one turn; of the other models 0.2
ROUNDS = {"1 ms": 3, "10 ms": 3}  # of the other models 5

# What else takes turns beside the contenders, to compare with.
FIXED, TRIP, ROW = "best fixed batch", "asyncio alone", "model alone"
OVERHEAD = {THREADS: 3e-6, LOOP: 5e-6}  # seconds that a call may cost over a bare one
TIMES_BARE = {
    THREADS: {"GBT": 1.0, "MLP": 1.4},
    LOOP: {"LR": 2.7, "GBT": 2.1, "MLP": 3.6},
}  # for 64 callers
OF_LIMIT = {"LR": 0.65, "GBT": 0.75, "MLP": 0.75}

LOADS = (0.5, 0.8, 0.95, 1.2)
STREAM = 0.7  # seconds of each Poisson stream
WAIT = 0.02  # seconds in which a full queue is served

Results = dict[str, dict[int, dict[str, Sample]]]  # by model, callers and contender


@cache
def subject(model: str) -> Subject:
    return subject_of(
        (products() if model in LONG else dict(zip(MODELS, classifiers().values(), strict=False)))[
            model
        ]
    )


@cache
def batcher(model: str) -> mk.Batcher:
    """The one Batcher of a model, which learns from all that it does here."""
    made = mk.Batcher(subject(model).model)
    log(f"  {model}: {made.plan}")
    return made


def threads(models: list[str]) -> str:
    """Closed loop, threads"""
    results = asyncio.run(closed(THREADS, models))
    return "\n\n".join([overview(THREADS, results), targets(THREADS, results), *details(results)])


def event_loop(models: list[str]) -> str:
    """Closed loop, asyncio"""
    results = asyncio.run(closed(LOOP, models))
    return "\n\n".join([overview(LOOP, results), targets(LOOP, results), *details(results)])


async def closed(mode: str, models: list[str]) -> Results:
    """All contenders in turns, for each model and number of callers."""
    results: Results = {}
    for model in models:
        speeds = await fixed_batches(model)
        gc.freeze()  # so that a collection between two turns takes no time
        results[model] = {}
        for callers in CALLERS:
            if mode == THREADS and model == "10 ms" and callers == 512:
                continue  # one request of each thread takes seconds
            seconds = SECONDS.get(model, 0.2) * (2 if callers == 512 else 1)
            makes = contenders(mode, batcher(model), long=model in LONG, callers=callers)
            turns: dict[str, Turn] = {
                name: partial(turn, make, mode, subject(model), callers, seconds)
                for name, make in makes.items()
            }
            if model in LONG:
                size, at_once = max(
                    (key for key in speeds if key[0] * key[1] <= callers), key=speeds.__getitem__
                )
                turns[FIXED] = partial(load.fixed, subject(model), size, at_once, seconds)
            elif mode == LOOP and callers == 64:
                size, _ = max((key for key in speeds if key[1] == 1), key=speeds.__getitem__)
                turns[ROW] = partial(load.fixed, subject(model), size, 1, seconds)
                turns[TRIP] = partial(load.round_trip, callers, seconds)
            log(f"  {model}, {callers} callers")
            results[model][callers] = await interleave(turns, ROUNDS.get(model, 5))
    return results


async def fixed_batches(model: str) -> dict[tuple[int, int], float]:
    """Rows a second in full batches, by their size and how many are run at once."""
    keys = [(1 << power, at_once) for at_once in (1, 2) for power in range(7)]
    return {
        key: (await load.fixed(subject(model), *key, SECONDS.get(model, 0.2) / 4)).rate
        for key in keys
    }


async def turn(make: Make, mode: str, subject: Subject, callers: int, seconds: float) -> Sample:
    """One turn of a contender: right answers, some untimed calls, then the timed ones."""
    closed = load.in_threads if mode == THREADS else load.on_loop
    with make(subject) as contender:
        await check(contender, mode, subject)
        await closed(contender, subject, callers, seconds / 5)
        gc.collect()
        return await closed(contender, subject, callers, seconds)


async def check(contender: Contender, mode: str, subject: Subject) -> None:
    """Eight calls at once get the answers that the model gives to each row alone."""
    rows = subject.rows[:8]
    if mode == THREADS:
        answers = await asyncio.gather(*(asyncio.to_thread(contender.call, row) for row in rows))
    else:
        answers = await asyncio.gather(*map(contender.call, rows))
    for answer, row in zip(answers, rows, strict=True):
        assert np.allclose(np.squeeze(answer), np.squeeze(subject.run(row)), atol=1e-4)


def best_of(found: dict[str, Sample], *, peers: bool) -> str:
    """The fastest of the others; with `peers`, of the libraries that batch."""
    out = {"modelkit", FIXED, TRIP, ROW} | (
        {name for name in found if name.startswith("bare")} if peers else set()
    )
    return max(found.keys() - out, key=lambda name: found[name].rate)


def overview(mode: str, results: Results) -> str:
    rows = []
    for model, callers, found in cells(results):
        bare, mine, peer = found["bare"].rate, found["modelkit"].rate, best_of(found, peers=True)
        part = mine * (1 / bare + OVERHEAD[mode])
        rows.append(
            [
                f"{model}, {callers}",
                *[f"{rate:,.0f}" for rate in (bare, mine, found[peer].rate)],
                peer,
                *[f"{mine / rate:.2f}" for rate in (bare, found[peer].rate)],
                f"{part:.2f}",
                *judge(part, "at least", 0.95),
            ]
        )
    never_slower = f"of 1 / (t + {OVERHEAD[mode] * 1e6:.0f} us)"
    header = "model, callers | bare | modelkit | best peer | which | times bare | times peer"
    return table(f"{header} | {never_slower} | target | reached", rows)


def cells(results: Results):
    return (
        (model, callers, found) for model, row in results.items() for callers, found in row.items()
    )


def targets(mode: str, results: Results) -> str:
    rows = []

    def row(what, shown, value, target, limit):
        rows.append([what, shown, f"{value:.2f}", *judge(value, target, limit)])

    for model, callers, found in cells(results):
        bare, mine, peer = found["bare"], found["modelkit"], found[best_of(found, peers=True)]
        where = f"{model}, {callers}: "
        if model in LONG:
            other = best_of(found, peers=False)
            row(f"{where}of the best other", other, mine.rate / found[other].rate, "at least", 1)
            row(
                f"{where}of the {FIXED}",
                shown_batch(found[FIXED]),
                mine.rate / found[FIXED].rate,
                "at least",
                0.9,
            )
            continue
        if callers != 64:
            continue
        row(
            f"{where}times bare", "", mine.rate / bare.rate, "at least", TIMES_BARE[mode].get(model)
        )
        if mode == THREADS:
            limit = 3 if model in TIMES_BARE[mode] else None
            row(f"{where}bare's p99, times its own", "", bare.p99 / mine.p99, "at least", limit)
            continue
        row(f"{where}times the best peer", "", mine.rate / peer.rate, "at least", 10)
        trip, alone = 1 / found[TRIP].rate, 1 / found[ROW].rate
        shown = f"{trip * 1e6:.2f} + {alone * 1e6:.2f} us"
        row(
            f"{where}of 1 / ({TRIP} + {ROW})",
            shown,
            mine.rate * (trip + alone),
            "at least",
            OF_LIMIT[model],
        )
    return table("model, callers: what | with | value | target | reached", rows)


def shown_batch(sample: Sample) -> str:
    return f"{sample.rate:,.0f} a second, in batches of {sample.batch:.0f}"


def details(results: Results) -> list[str]:
    """Everything that was measured, folded away, a table for each model."""
    header = (
        "callers, contender | requests a second | p50, ms | p99, ms | rows a run | CPU s for 1,000"
    )
    parts = []
    for model, by_callers in results.items():
        rows = []
        for callers, found in by_callers.items():
            bare, peer = found["bare"].rate, found[best_of(found, peers=True)].rate
            for name, sample in found.items():
                if name in (TRIP, ROW, FIXED):
                    continue
                rows.append(
                    [
                        f"{callers}, {name}",
                        f"{sample.rate:,.0f}",
                        *[f"{seconds * 1000:.3f}" for seconds in (sample.p50, sample.p99)],
                        f"{sample.batch:.1f}" if sample.batch else "",
                        f"{sample.cpu * 1000:.4f}",
                        *[f"{sample.rate / rate:.2f}" for rate in (bare, peer)],
                    ]
                )
        whole = table(f"{header} | times bare | times the best peer", rows)
        parts.append(
            f"<details><summary>{model}: all contenders</summary>\n\n{whole}\n\n</details>"
        )
    return parts


def stream(models: list[str]) -> str:
    """Open loop, asyncio: Poisson streams"""
    rows = []
    for model in models:
        if model in ("MLP", "1 ms"):
            log(f"  {model}")
            rows += asyncio.run(streams(model))
    header = "model, contender, load | sent a second | answered | of capacity | p50, ms | p99, ms | refused | lost"
    return table(f"{header} | targets | reached", rows)


async def streams(model: str) -> list[list[str]]:
    kept = batcher(model)
    capacities = await interleave(
        {name: partial(capacity, model, make) for name, make in pair(kept).items()}, 3
    )
    queue = int(capacities["modelkit"].rate * WAIT)
    bounded = mk.Batcher(subject(model).model, max_queue=queue, plan=kept.plan)
    log(f"  a queue of {queue} rows")
    found: dict[tuple[str, float], list[Stream]] = {}
    for _ in range(3):
        for part in LOADS:
            for name, make in pair(bounded).items():
                gc.collect()
                with make(subject(model)) as contender:
                    rate = part * capacities[name].rate
                    one = await load.poisson(
                        contender, subject(model), rate, STREAM, spin=model not in LONG
                    )
                found.setdefault((name, part), []).append(one)
    bounded.close()
    rows = []
    for (name, part), samples in found.items():
        middle = Stream(*np.median(samples, axis=0).tolist())._replace(
            lost=sum(sample.lost for sample in samples)
        )
        rows.append(
            [
                f"{model}, {name}, {part:.0%}",
                *stream_cells(name, part, capacities[name].rate, middle),
            ]
        )
    return rows


def pair(batcher: mk.Batcher) -> dict[str, Make]:
    return {
        name: make
        for name, make in contenders(LOOP, batcher).items()
        if name in ("bare", "modelkit")
    }


async def capacity(model: str, make: Make) -> Sample:
    with make(subject(model)) as contender:
        await check(contender, LOOP, subject(model))
        return await load.flood(contender, subject(model), STREAM)


def stream_cells(name: str, part: float, capacity: float, one: Stream) -> list[str]:
    reached = []
    if name == "modelkit" and part > 1:
        reached = [one.goodput >= 0.95 * capacity, one.p99 <= 2 * WAIT]
    if name == "modelkit":
        reached.append(one.lost == 0)
    target = (
        f"0.95 of capacity, p99 at most {2000 * WAIT:.0f} ms, none lost"
        if len(reached) > 1
        else "none lost"
    )
    return [
        *[f"{rate:,.0f}" for rate in (part * capacity, one.goodput)],
        f"{one.goodput / capacity:.2f}",
        *[f"{seconds * 1000:.2f}" for seconds in (one.p50, one.p99)],
        f"{one.shed:.1%}",
        f"{one.lost}",
        target if reached else "",
        ", ".join("yes" if yes else "**no**" for yes in reached),
    ]


def victims(_models: list[str]) -> str:
    """Victims of another caller's poison or cancellation, and a process at rest"""
    return f"{harm()}\n\n{rest()}"


def harm() -> str:
    rows = []
    for mode in (THREADS, LOOP):
        for name, make in contenders(mode).items():
            if name.startswith("bare") or name.endswith("best"):
                continue
            log(f"  {mode}, {name}")
            if mode == THREADS:
                poison = [manners.victims_in_threads(make, 8, bad) for bad in range(8)]
                cancelled = None
            else:
                poison = [
                    asyncio.run(manners.victims_on_loop(make, 8, bad, cancel=False))
                    for bad in range(8)
                ]
                cancelled = [
                    asyncio.run(manners.victims_on_loop(make, 4, bad, cancel=True))
                    for bad in range(4)
                ]
            limit = 0 if name == "modelkit" else None
            cells = [f"{sum(poison)} of 56", "" if cancelled is None else f"{sum(cancelled)} of 12"]
            rows.append(
                [
                    f"{mode}, {name}",
                    *cells,
                    *judge(sum(poison) + sum(cancelled or []), "at most", limit),
                ]
            )
    return table(
        "with default settings | victims of a poison row | of a cancellation | target | reached",
        rows,
    )


def rest() -> str:
    rows = []
    for mode in (THREADS, LOOP):
        for name in contenders(mode):
            if name == "bare":
                continue
            log(f"  {mode}, {name}")
            often, busy = manners.at_rest(mode, name)
            limit = 0 if name == "modelkit" else None
            rows.append(
                [f"{mode}, {name}", f"{often:.1f}", f"{busy:.0%}", *judge(often, "at most", limit)]
            )
    return table("at rest | wake-ups a second | of a core | target | reached", rows)


def deadlines(_models: list[str]) -> str:
    """Overload with deadlines"""
    return overload.overload()


SECTIONS: dict[str, Callable[[list[str]], str]] = {
    section.__name__: section for section in (threads, event_loop, stream, deadlines, victims)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=SECTIONS, help="measure one section")
    parser.add_argument("--model", choices=MODELS, help="with one model")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/batching.md")
    args = parser.parse_args()
    if args.write and (args.only or args.model):
        parser.error(
            "--write takes the tables of one whole run, so neither with --only nor with --model"
        )
    warnings.simplefilter("ignore")
    logging.disable()  # the other libraries log each failure
    gc.disable()
    models = [args.model] if args.model else list(MODELS)
    text = report([SECTIONS[args.only]] if args.only else SECTIONS.values(), LIBRARIES, models)
    print(text)
    if args.write:
        write(text, "batching")


if __name__ == "__main__":
    try:
        main()
    finally:
        shutil.rmtree(FOLDER)
