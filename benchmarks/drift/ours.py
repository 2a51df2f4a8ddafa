"""modelkit on the runs of drift_data.py, and runs on all cores."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from math import inf
from multiprocessing import get_context
from typing import Any

import numpy as np
from benchmarks.common.measure import CORES
from benchmarks.drift.data import Labelled, Null, Run, part, seeds, size

import modelkit as mk

BLOCK = 1000
ALPHA = 0.01
logging.getLogger("modelkit").addHandler(logging.NullHandler())  # alarms are counted here


def watch(null: Null, run: Run, seed: np.random.SeedSequence, **options: Any) -> list[Any]:
    """The alarms of a Detector that sees the live rows in blocks."""
    number = int(seed.generate_state(1)[0])
    profile = mk.Profile.fit(
        run.train, reference=run.reference, ordered=null.ordered, stratum=null.stratum, seed=number
    )
    detector = mk.Detector(profile, alpha=ALPHA, seed=number, **options)
    alarms = []
    for start in range(0, size(run.live), BLOCK):
        alarms += detector.update(part(run.live, start, start + BLOCK))
    return alarms


def watch_labels(
    reference: Labelled, live: Labelled, seed: np.random.SeedSequence, **options: Any
) -> list[Any]:
    """The same for labels; the score of the predicted class is the only feature."""
    profile = mk.Profile.fit(
        {"score": reference.score}, reference={"score": reference.score}, losses=reference.errors
    )
    detector = mk.Detector(profile, alpha=ALPHA, seed=int(seed.generate_state(1)[0]), **options)
    alarms = []
    for start in range(0, len(live.y), BLOCK):
        rows = slice(start, start + BLOCK)
        alarms += detector.update_labels(live.y[rows], live.predicted[rows])
    return alarms


def share(alarmed: int, runs: int) -> tuple[float, float, float]:
    """A share of runs with its Clopper-Pearson interval of 95 %."""
    from scipy.stats import binomtest

    limits = binomtest(alarmed, runs).proportion_ci(0.95, method="exact")
    return alarmed / runs, float(limits.low), float(limits.high)


def collect(
    task: Callable[[np.random.SeedSequence], Any],
    name: str,
    runs: int,
    seconds: float = 0,
    most: float = inf,
) -> list[Any]:
    """Results of `task(seed)` on all cores: `runs` of them, and up to `most` while `seconds` have not passed."""
    supply, found, start = seeds(name), [], time.perf_counter()
    with ProcessPoolExecutor(CORES, get_context("fork")) as pool:
        while len(found) < runs or (len(found) < most and time.perf_counter() - start < seconds):
            block = list(islice(supply, runs))
            found += pool.map(task, block, chunksize=max(1, len(block) // (8 * CORES)))
    return found
