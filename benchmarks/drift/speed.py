"""What watching costs: counters, detectors, tests of batches, single calls, memory and sizes."""

import gc
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from benchmarks.common.measure import judge, log, table
from benchmarks.drift.ours import BLOCK
from benchmarks.drift.rivals import ONLINE, ask, fired, version

import modelkit as mk
from modelkit.drift.counts import count_by
from modelkit.drift.tracker import Tracker

WIDTH = 20
REPEATS = 5
CALLS, WARM, TURN, PASSES = 20_000, 2_000, 500, 11
MANY_COLUMNS, WIDE_ROWS = 500, 8_000
ALL_ROWS = 1e9  # a budget, in rows a second
BUDGET, SERVED = (
    2_000,
    6,
)  # the default one, and for how many seconds rows are served as fast as they can be


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, WIDTH)).astype(np.float32)


@cache
def profile() -> mk.Profile:
    return mk.Profile.fit(rows(10_000, 1), reference=rows(10_000, 2))


def spent(call: Callable[[], object]) -> float:
    """Seconds; the median of five."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def a_value(call: Callable[[], object], n: int) -> float:
    """Nanoseconds a row and feature."""
    return spent(call) / (n * WIDTH) * 1e9


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def asked(library: str, n: int) -> dict[str, float]:
    """The speed that a child reports of n rows beside 10,000; nothing where it does not run."""
    if version(library) is None:
        return {}
    reference, live = ({"x": rows(size, seed)[None]} for seed, size in ((0, 10_000), (1, n)))
    return ask(library, "speed", [({"x": reference["x"][0]}, {"x": live["x"][0]})])


# --- counters ---


def counting(watch: Tracker, X: np.ndarray, block: int) -> None:
    """Rows into counts, and nothing else."""
    for start in range(0, len(X), block):
        found = profile().layout.encode(X[start : start + block], None, None)
        watch.count(found.cells, found.strata, time.time())


def counting_batch(X: np.ndarray) -> None:
    """Counts alone, as `fit` and `test` need them."""
    count_by(profile().layout.encode(X, None, None).cells)


def watching(detector: mk.Detector, X: np.ndarray, block: int) -> None:
    for start in range(0, len(X), block):
        detector.update(X[start : start + block])


def counters(_args) -> str:
    """Counting and watching, ns a row and feature, 20 features, one thread"""
    watch = Tracker(profile(), alpha=0.01, tolerance=0.03, guarantee="ever", seed=0)
    lines = []
    for n in (10_000, 100_000, 1_000_000):
        X = rows(n)
        for block in (BLOCK, 10_000):
            name = f"{n:,} rows: a Detector counts, blocks of {block:,}"
            lines.append(judged(name, a_value(partial(counting, watch, X, block), n), 40))
        lines.append(
            judged(f"{n:,} rows: a batch is counted", a_value(partial(counting_batch, X), n), 10)
        )
    X = rows(100_000)
    n, half = len(X), len(X) // 2
    fit = a_value(lambda: mk.Profile.fit(X[:half], reference=X[half:]), n)
    detectors = a_value(partial(watching, mk.Detector(profile()), X, BLOCK), n)
    mine = {"Profile.fit": fit, f"all detectors, blocks of {BLOCK:,}": detectors}
    lines += [[f"{n:,} rows: {name}", number(value), "", ""] for name, value in mine.items()]
    log("  modelkit")
    lines += [[name, number(value), "", ""] for name, value in others(X).items()]
    return table("| ns | target | reached", lines)


def wide(_args) -> str:
    """500 columns: CPU nanoseconds a row and column, one thread, and what a budget leaves out"""
    rng = np.random.default_rng(0)
    few, many = (rng.normal(size=(n, MANY_COLUMNS)).astype(np.float32) for n in (4096, WIDE_ROWS))
    profile = mk.Profile.fit(few, reference=rng.normal(size=few.shape).astype(np.float32))
    watch = Tracker(profile, alpha=0.01, tolerance=0.03, guarantee="ever", seed=0)
    detector = mk.Detector(profile)
    detector.update(few)

    def counted() -> None:
        for start in range(0, len(many), BLOCK):
            found = profile.layout.encode(many[start : start + BLOCK], None, None)
            watch.count(found.cells, found.strata, time.time())

    def watched_all() -> None:
        for start in range(0, len(many), BLOCK):
            detector.update(many[start : start + BLOCK])

    cells = len(many) * MANY_COLUMNS
    counting_ns, all_ns = (cpu(call) / cells * 1e9 for call in (counted, watched_all))
    lines = [
        judged("counters", counting_ns, 40),
        judged("all detectors", all_ns, 150),
        ["10,000,000 rows, counted", f"{counting_ns * 5e9 / 1e9 / 60:.1f} minutes", "", ""],
        ["10,000,000 rows, all looked at", f"{all_ns * 5e9 / 1e9 / 60:.1f} minutes", "", ""],
        ["rows a second that one core looks at", number(1e9 / (all_ns * MANY_COLUMNS)), "", ""],
        ["state, KiB", number(len(detector.state()) / 1024), "", ""],
        ["report, ms", number(spent(detector.report) * 1e3), "", ""],
    ]
    return table("| ns | target | reached", lines)


def cpu(call: Callable[[], object]) -> float:
    """CPU seconds; the least of three."""
    times = []
    for _ in range(3):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def judged(name: str, value: float, limit: float) -> list[str]:
    return [name, number(value), *judge(value, "at most", limit)]


def others(X: np.ndarray) -> dict[str, float]:
    import pandas as pd
    import whylogs

    n = len(X)
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(WIDTH)])
    found = {"whylogs.log, 100,000 rows": a_value(lambda: whylogs.log(frame), n)}
    for library in ("nannyml", "evidently"):
        spent = asked(library, n)
        if "fit" in spent:
            found[f"{library}, fit, 10,000 rows"] = spent["fit"] / (10_000 * WIDTH) * 1e9
        if spent:
            found[f"{library}, compare, 100,000 rows"] = spent["batch"] / (n * WIDTH) * 1e9
    few = [np.random.default_rng(0).normal(size=5000)]
    bits = [(few[0] > 1.28).astype(float)]
    for one in ONLINE:
        call = partial(fired, partial(one.make, one.default), bits if one.binary else few)
        found[f"river {one.name}, one value at a time"] = spent_once(call) / 5000 * 1e9
    return found


def spent_once(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


# --- batches ---


def tests(_args) -> str:
    """A test of one batch against 10,000 reference rows, ms a feature, 20 features"""
    lines = []
    for n in (200, 10_000, 1_000_000):
        X = rows(n, 3)
        detector = mk.Detector(profile())
        ours = spent(partial(detector.test, X)) / WIDTH * 1e3
        theirs = {
            library: asked(library, n).get("batch")
            for library in ("nannyml", "evidently")
            if n < 1_000_000
        }
        shown = [
            "" if t is None else f"{t / WIDTH * 1e3:.2f}"
            for t in (theirs.get("nannyml"), theirs.get("evidently"))
        ]
        lines.append([f"{n:,} rows", f"{ours:.2f}", *judge(ours, "at most", 10), *shown])
    return table("| modelkit | target | reached | nannyml | evidently", lines)


# --- calls ---


@cache
def model() -> mk.Model:
    from sklearn.linear_model import LogisticRegression

    X = rows(2000)
    fitted = LogisticRegression().fit(X, X[:, 0] > 0)
    path = Path(tempfile.mkdtemp(prefix="modelkit-bench-")) / "watched.mk"
    mk.save(fitted, path, example=X, name="watched", version="1")
    return mk.load(path, device="cpu")


def watched(budget: float) -> mk.Monitor:
    return mk.Monitor(model(), profile(), budget=budget)


def calls(_args) -> str:
    """One watched row of 20 features beside the same row unwatched, microseconds"""
    contenders = {"unwatched": model(), "counters": watched(0), "all detectors": watched(ALL_ROWS)}
    X = rows(CALLS, 4)
    singles = [X[i : i + 1] for i in range(CALLS)]
    gc.collect()
    gc.disable()
    passes = [
        in_turns({name: one.predict for name, one in contenders.items()}, singles)
        for _ in range(PASSES)
    ]
    shown = shown_a_second(singles)
    gc.enable()
    means, longest = (
        {name: np.array([pick(one[name][WARM:]) for one in passes]) / 1e3 for name in contenders}
        for pick in (np.mean, np.max)
    )
    more = {name: float(np.median(means[name] - means["unwatched"])) for name in contenders}
    stall = {name: statistics.median(longest[name]) for name in contenders}
    lines = []
    for name, limit in (("unwatched", None), ("counters", 3), ("all detectors", 8)):
        beyond = stall[name] - stall["unwatched"]
        lines.append(
            [
                name,
                f"{statistics.median(means[name]):.2f}",
                f"{more[name]:.2f}",
                *judge(more[name], "at most", limit),
                number(stall[name]),
                f"{beyond:.0f}",
                *judge(beyond, "at most", limit and 500),
            ]
        )
    header = "| a call | more than unwatched | target | reached | longest call | more than unwatched | target | reached"
    share = shown * (more["all detectors"] - more["counters"]) / 1e6
    bound = [
        [
            f"a budget of {BUDGET:,} rows a second",
            f"{shown:,.0f}",
            f"{share:.1%}",
            *judge(share, "at most", 0.02),
        ]
    ]
    return "\n\n".join(
        [
            table(header, lines),
            table("| rows shown a second | share of a core | target | reached", bound),
        ]
    )


def in_turns(calls: dict[str, Callable], singles: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Nanoseconds of each call; contenders take turns of 500."""
    times = {name: np.empty(len(singles)) for name in calls}
    for start in range(0, len(singles), TURN):
        for name, call in calls.items():
            timed(call, singles[start : start + TURN], times[name][start : start + TURN])
    return times


def timed(
    call: Callable[[np.ndarray], object], singles: list[np.ndarray], times: np.ndarray
) -> None:
    clock = time.perf_counter_ns
    for i, single in enumerate(singles):
        start = clock()
        call(single)
        times[i] = clock() - start


def shown_a_second(singles: list[np.ndarray]) -> float:
    """Rows that reach the detectors while rows are served without a pause."""
    monitor = watched(BUDGET)
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < SERVED:
        for single in singles[:TURN]:
            monitor.predict(single)
    return monitor.shown / elapsed


# --- memory and sizes ---


def memory(_args) -> str:
    """Memory and state over a million rows"""
    detector, lines, resident = mk.Detector(profile()), [], []
    done = 0
    for until in (10_000, 100_000, 1_000_000):
        while done < until:
            detector.update(rows(BLOCK, done))
            done += BLOCK
        resident.append(mebibytes())
        lines.append(
            [
                f"{until:,} rows",
                f"{resident[-1]:,.1f}",
                f"{len(detector.state()) / 1024 / WIDTH:.2f}",
                "",
                "",
            ]
        )
    growth = resident[-1] - resident[1]
    lines.append(
        ["from 100,000 rows to 1,000,000", f"{growth:+.1f}", "", *judge(growth, "at most", 1)]
    )
    return table("| resident, MiB | state, KiB a feature | target | reached", lines)


def mebibytes() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def sizes(_args) -> str:
    """Sizes, 20 features"""
    import pandas as pd
    import whylogs

    X = rows(100_000)
    names = [f"x{i}" for i in range(WIDTH)]
    per_feature = len(mk.Profile.fit(X[:50_000], reference=X[50_000:]).to_bytes()) / WIDTH / 1024
    page = len(mk.Detector(profile()).test(X[:10_000]).to_html().encode()) / 1024
    theirs = len(whylogs.log(pd.DataFrame(X, columns=names)).view().serialize()) / WIDTH / 1024
    lines = [
        [
            "profile, KiB a feature",
            f"{per_feature:.2f}",
            *judge(per_feature, "at most", 2.5),
            f"whylogs {theirs:.1f}",
        ],
        [
            "report as a page, KiB",
            f"{page:,.0f}",
            *judge(page, "at most", 300),
            report_of_evidently(),
        ],
    ]
    return table("| modelkit | target | reached | others", lines)


def report_of_evidently() -> str:
    found = asked("evidently", 10_000)
    return f"evidently {found['report'] / 1024:,.0f}" if found else ""
