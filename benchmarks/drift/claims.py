"""False alarms where rows are exchangeable and something else is not as it should be.

Sorted calls, strides that are chosen from the reference that is counted, and checks of many columns.
"""

from functools import partial

import numpy as np
from benchmarks.common.measure import judge, log, table
from benchmarks.drift.ours import collect, share

import modelkit as mk

LEVEL = 0.05
SORTED_RUNS = 300
COLUMNS, RATE = 100, 2e-4  # of a missing value now and then


def sorted_calls(args) -> str:
    """Sorted calls without drift, alpha .05"""
    lines = []
    for name, task in (
        ("sorted by a column, 12 calls of 500", by_a_column),
        ("sorted by stratum and column, 12 calls of 600", by_stratum),
        ("sorted calls of 500 in a Monitor, which draws 64", monitored),
    ):
        lines.append(of_level(name, collect(task, name, max(SORTED_RUNS, args.runs // 5))))
    name = 'the first with order="time", a misuse'
    found = collect(partial(by_a_column, order="time"), name, 50)
    lines.append([name, f"{len(found)}", f"{np.mean(found):.1%}", "", "", ""])
    return table("| runs | with an alarm | 95 % interval | target | reached", lines)


def strides(args) -> str:
    """Exchangeable rows with `ordered=True`, alpha .05"""
    lines = []
    for reference in (200, 500, 2000):
        name = f"strides {reference}"
        found = collect(partial(in_order, reference), name, args.runs)
        apart = np.array([stride for stride, _ in found])
        alarms = np.array([alarm for _, alarm in found])
        several = apart > 1
        level = LEVEL * 2 / 3
        _, counts = np.unique(apart, return_counts=True)
        bound = np.minimum(level, counts / len(found)).sum() / level
        line = of_level(f"{reference:,} rows of reference", alarms.tolist())
        line[4:4] = [f"{several.mean():.1%}", f"{alarms[several].sum()} of {several.sum()}"]
        line[6:6] = [f"{bound:.1f}"]
        lines.append(line)
    header = "| runs | with an alarm | 95 % interval | with a stride | alarms of these | bound"
    return table(header + " | target | reached", lines)


def checks(args) -> str:
    """Checks of a batch without drift, alpha .05"""
    runs = max(100, args.runs // 10)
    name = f"{COLUMNS} columns of which {RATE:.2%} is missing, 1,000 rows of reference, 50 of batch"
    found = collect(sparse_batch, "checks", runs)
    return table(
        "| runs | with a check | 95 % interval | target | reached", [of_level(name, found)]
    )


def of_level(name: str, found: list[bool]) -> list[str]:
    rate, low, high = share(int(sum(found)), len(found))
    cells = [name, f"{len(found):,}", f"{rate:.2%}", f"{low:.2%} to {high:.2%}"]
    cells += judge(low, "at most", LEVEL)
    log(f"  {' | '.join(cells)}")
    return cells


def two_columns(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    return {"a": rng.normal(size=n), "b": np.round(rng.gamma(2, 2, n), 1)}


def by_shop(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    shop = rng.integers(0, 3, n)
    return {"x": rng.normal(shop * 2.0), "shop": shop}


def by_a_column(seed: np.random.SeedSequence, order: str = "any") -> bool:
    rng = np.random.default_rng(seed)
    profile = mk.Profile.fit(two_columns(rng, 500), reference=two_columns(rng, 2000))
    detector = mk.Detector(profile, alpha=LEVEL, seed=number(rng))
    for _ in range(12):
        rows = two_columns(rng, 500)
        at = np.argsort(rows["b"], kind="stable")
        detector.update({name: values[at] for name, values in rows.items()}, order=order)
    return bool(detector.alarms)


def by_stratum(seed: np.random.SeedSequence) -> bool:
    rng = np.random.default_rng(seed)
    profile = mk.Profile.fit(by_shop(rng, 600), reference=by_shop(rng, 2000), stratum="shop")
    detector = mk.Detector(profile, alpha=LEVEL, seed=number(rng))
    for _ in range(12):
        rows = by_shop(rng, 600)
        at = np.lexsort((rows["x"], rows["shop"]))
        detector.update({name: values[at] for name, values in rows.items()})
    return bool(detector.alarms)


def monitored(seed: np.random.SeedSequence) -> bool:
    rng = np.random.default_rng(seed)
    signature = mk.Signature(
        inputs=[mk.TensorSpec("X", "float32", ("n", 1), columns=(mk.Column("x", "float32"),))],
        outputs=[mk.TensorSpec("prediction", "float32", ("n",))],
    )
    model = mk.FunctionModel(lambda feeds: {"prediction": feeds["X"][:, 0]}, signature)
    profile = mk.Profile.fit({"x": rng.normal(size=500)}, reference={"x": rng.normal(size=2000)})
    watched = mk.Monitor(model, profile, alpha=LEVEL, budget=1e9, seed=number(rng))
    for _ in range(48):
        watched.predict(np.sort(rng.normal(size=(500, 1)).astype(np.float32), axis=0))
    return bool(watched.detector.alarms)


def in_order(reference: int, seed: np.random.SeedSequence) -> tuple[int, bool]:
    """The stride that rows without dependence call for, and whether an alarm came in 80 blocks."""
    rng = np.random.default_rng(seed)
    profile = mk.Profile.fit(
        {"x": rng.normal(size=200)}, reference={"x": rng.normal(size=reference)}, ordered=True
    )
    stride = profile.features[0].stride
    detector = mk.Detector(profile, alpha=LEVEL, seed=number(rng), history=0)
    detector.update({"x": rng.normal(size=2560 * min(stride, 8))}, order="time")
    return stride, any(alarm.kind == "changed" for alarm in detector.alarms)


def sparse_batch(seed: np.random.SeedSequence) -> bool:
    rng = np.random.default_rng(seed)
    sides = [sparse(rng, n) for n in (60, 1000, 50)]
    profile = mk.Profile.fit(sides[0], reference=sides[1])
    report = mk.Detector(profile, alpha=LEVEL, seed=number(rng)).test(sides[2])
    return any(check.p is not None for check in report.checks)


def sparse(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    return {f"c{j}": np.where(rng.random(n) < RATE, np.nan, 1.0) for j in range(COLUMNS)}


def number(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 31))
