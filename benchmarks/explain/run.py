"""Measure explanations beside shap and lime, each ratio within one run, and print Markdown tables.

make bench NAME=explain                                                 every section
.venv-bench-explain/bin/python -m benchmarks.explain.run --only speed  one of them
.venv-bench-explain/bin/python -m benchmarks.explain.run --write       all, and write benchmarks/results/explain.md

README.md beside this file says what each table means.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from itertools import islice, pairwise
from math import comb
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # nothing is sent while it is measured

import lightgbm
import numpy as np
import pandas as pd
import shap
import xgboost
from benchmarks.common.measure import command, interleave, judge, log, seconds, table
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, make_friedman1
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from tests.helpers.kinds import KINDS, Kind

import modelkit as mk

LIBRARIES = (
    "numpy",
    "onnxruntime",
    "scikit-learn",
    "xgboost-cpu",
    "lightgbm",
    "catboost",
    "shap",
    "lime",
)
FOLDER = tempfile.TemporaryDirectory(prefix="modelkit-bench-")
# Families of tests/helpers/kinds.py in which some kind has an exact method.
FAMILIES = (
    "linear", "support vectors", "discriminants", "trees", "boosting", "combinations", "several outputs",
    "transformers", "columns", "XGBoost", "LightGBM", "CatBoost",
)  # fmt: skip
BACKGROUND, ROWS = 100, 300
VARIED = 9  # columns that brute force varies: 2^9 coalitions of each background row
SHARE = 1e-5  # of scale, that exact values may be off
TICK = 0.001
LONG = 400  # passes over the background, where the truth is itself sampled


def save(model: object, name: str, example: object) -> mk.Model:
    path = Path(FOLDER.name) / f"{name}.mk"
    mk.save(model, path, example=example, name="kind", version="1")
    return mk.load(path)


# --- exactness ---


def exactness() -> str:
    """Exact values beside shap on the original model, and beside brute force on it"""
    lines, misses = [], []
    for kind in KINDS:
        if kind.family not in FAMILIES:
            continue
        start = time.perf_counter()
        found = compare_kind(kind)
        log(f"  {kind.id}: {found}; {time.perf_counter() - start:.1f} s")
        if isinstance(found, str):
            misses.append(f"{kind.id} ({found})")
        else:
            lines.append([kind.id, *found])
    shap_worker().shutdown()
    within = sum(line[-1] == "yes" for line in lines)
    return "\n\n".join(
        [
            f"{len(lines)} models have an exact method; {within} of them are within {SHARE:g} of scale.",
            table("| method | of | shap | from shap | from brute force | target | reached", lines),
            f"Not exact, of the same families: {'; '.join(misses)}.",
        ]
    )


def compare_kind(kind: Kind) -> list[str] | str:
    """Cells of a line; or what is done where no method is exact."""
    original, X = kind.fit()
    model = save(original, "kind", X)
    X = to_single(X) if kind.numbers == "float32" else X
    rng = np.random.default_rng(0)
    rows, background = (take(X, rng.choice(len(X), size, replace=False)) for size in (8, 20))
    of_many = "probabilities_0"  # of a model of several labels, the probabilities of the first
    output = of_many if of_many in model.signature.output_names else "auto"
    try:
        explainer = mk.Explainer(model, background=background, output=output, seed=0)
    except mk.errors.ExplainError:
        return "gives labels alone"
    if explainer.plan().method not in ("trees", "additive"):
        return explainer.plan().method
    ours = explainer.explain(rows)
    scale = float(np.abs(ours.base_values + ours.values.sum(axis=1)).max())
    engine, theirs = of_shap(original, rows, background, ours.method, ours.values.shape)
    by_shap = None if theirs is None else worst(ours.values, theirs) / scale
    by_force = None
    try:
        by_force = max(islice(brute_gaps(original, model, ours, X, background), 2)) / scale
    except (ValueError, AttributeError, NotImplementedError) as error:
        log(f"  {kind.id}: no brute force: {type(error).__name__}: {error}")
    known = by_force if by_force is not None else by_shap
    shown = ["" if share is None else f"{share:.1g}" for share in (by_shap, by_force)]
    cells = (
        ["", ""] if known is None else [f"at most {SHARE:g}", "yes" if known <= SHARE else "**no**"]
    )
    return [ours.method, ours.output_space, engine, *shown, *cells]


def of_shap(
    original: Any, rows: Any, background: Any, method: str, shape: tuple[int, ...]
) -> tuple[str, np.ndarray | None]:
    """shap's values on the original model in its own libraries, or why there are none."""
    try:
        values = (
            shap_worker().submit(run_shap, original, rows, background, method).result(timeout=120)
        )
    except BrokenProcessPool:
        shap_worker.cache_clear()
        return "crashed", None
    except (
        Exception
    ) as error:  # it raises whatever it meets: assertions, TypeError, InvalidModelError
        return f"refused: {type(error).__name__}", None
    values = values[:, :, None] if values.ndim == 2 else values
    if values.shape != shape and values.shape[2] == 2:
        values = values[:, :, 1:]
    if values.shape != shape:
        return f"other shape: {values.shape[1:]}", None
    return {"trees": "Tree", "additive": "Linear"}[method], values


@cache
def shap_worker() -> ProcessPoolExecutor:
    """A process in which shap may crash."""
    return ProcessPoolExecutor(1, get_context("spawn"))


def run_shap(original: Any, rows: Any, background: Any, method: str) -> np.ndarray:
    warnings.simplefilter("ignore")
    masker = shap.maskers.Independent(background, max_samples=len(background))
    if method == "additive":
        return np.asarray(shap.LinearExplainer(original, masker).shap_values(rows), float)
    engine = shap.TreeExplainer(original, masker, feature_perturbation="interventional")
    return np.asarray(engine.shap_values(rows, check_additivity=False), float)


def brute_gaps(
    original: Any, model: mk.Model, ours: mk.Explanation, X: Any, background: Any
) -> Iterator[float]:
    """The worst difference from brute force on the original, for one row after the other.

    The background is made equal to the row in all but a few columns; the others get exactly 0,
    then. A row is left out where package and original answer one of its mixed rows differently:
    they are not the same function there.
    """
    explainer = mk.Explainer(model, background=background)
    few, d = take(background, range(4)), ours.values.shape[1]
    for i in range(0, len(X), 29):
        row = take(X, [i])
        weight = np.abs(explainer.explain(row).values[0]).max(axis=1)
        varied = np.sort(np.argsort(-weight)[:VARIED])
        near = mix(row, few, np.where(np.isin(np.arange(d), varied), np.arange(4)[:, None], -1))
        mixed = mix(row, near, coalitions_of(varied, 4, d))
        if not alike(original, model, mixed):
            log(f"    row {i} is left out")
            continue
        got = mk.Explainer(model, background=near, method=ours.method).explain(row).values[0]
        exact = np.zeros_like(got)
        exact[varied] = brute(partial(answer, original, ours.output_space), row, near, varied, d)
        yield float(np.abs(got - exact).max())


def alike(original: Any, model: mk.Model, X: Any) -> bool:
    """Whether package and original give the same answers: trees compare with thresholds that a package rounds."""
    verb = next(
        verb for verb in ("predict_proba", "predict", "transform") if hasattr(original, verb)
    )
    if verb == "predict_proba" and not model.signature.has_probabilities:
        return True
    one, other = (
        getattr(original, verb)(X),
        getattr(model, verb if verb != "transform" else "predict")(X),
    )
    return np.asarray(one).dtype.kind != "f" or np.allclose(
        np.ravel(one), np.ravel(other), rtol=1e-4, atol=1e-5
    )


def brute(
    f: Callable[[Any], np.ndarray], row: Any, background: Any, varied: np.ndarray, d: int
) -> np.ndarray:
    """Shapley values of some columns of one row, from every coalition of them on every background row."""
    m, count = len(varied), len(background)
    mixed = mix(row, background, coalitions_of(varied, count, d))
    worth = np.asarray(f(mixed), float).reshape(1 << m, count, -1).mean(axis=1)
    subsets, values = np.arange(1 << m), []
    sizes = np.bitwise_count(subsets)
    for j in range(m):
        without = np.flatnonzero(~(subsets >> j) & 1)
        weights = 1 / (m * np.array([comb(m - 1, s) for s in sizes[without]]))
        values.append(weights @ (worth[without | (1 << j)] - worth[without]))
    return np.array(values)


def coalitions_of(varied: np.ndarray, count: int, d: int) -> np.ndarray:
    """For `mix`: every coalition of some columns with each background row, (2^m * count, d)."""
    m = len(varied)
    inside = (np.arange(1 << m)[:, None] >> np.arange(m)) & 1 == 1
    chosen = np.tile(np.arange(count)[:, None], (1 << m, d))
    chosen[:, varied] = np.where(np.repeat(inside, count, axis=0), -1, chosen[:, varied])
    return chosen


def mix(row: Any, background: Any, chosen: np.ndarray) -> Any:
    """Rows whose columns come from a background row each, or from the explained row where `chosen` is -1."""
    if isinstance(row, pd.DataFrame):
        stacked = pd.concat([background, row], ignore_index=True)
        at = np.where(chosen < 0, len(background), chosen)
        return pd.DataFrame(
            {name: stacked[name].take(at[:, j]).array for j, name in enumerate(stacked)}
        )
    return np.concatenate([background, row])[
        np.where(chosen < 0, len(background), chosen), np.arange(row.shape[1])
    ]


def answer(original: Any, space: str, X: Any) -> np.ndarray:
    """What the original gives in the space that was explained."""
    library = type(original).__module__.partition(".")[0]
    if space == "probability":
        return original.predict_proba(X)
    if library in ("xgboost", "lightgbm", "catboost"):
        margin = {
            "xgboost": {"output_margin": True}, "lightgbm": {"raw_score": True},
            "catboost": {"prediction_type": "RawFormulaVal"},
        }  # fmt: skip
        found = original.predict(X, **(margin[library] if space == "raw_score" else {}))
        bagged = library == "lightgbm" and original.boosting_type == "rf" and space == "raw_score"
        return (
            found / original.n_estimators if bagged else found
        )  # its raw scores are sums, its answers means
    if hasattr(original, "decision_function"):
        return original.decision_function(X)
    if not hasattr(original, "predict"):
        return original.transform(X)
    return np.log(original.predict(X)) if space == "raw_score" else original.predict(X)


def to_single(X: Any) -> Any:
    """The numbers that a graph in single precision sees, in the dtype they had."""
    if isinstance(X, pd.DataFrame):
        narrow = {
            name: X[name].astype(np.float32).astype(np.float64) for name in X.select_dtypes("float")
        }
        return X.assign(**narrow)
    return X.astype(np.float32).astype(X.dtype)


def take(X: Any, chosen: Any) -> Any:
    return (
        X.iloc[list(chosen)].reset_index(drop=True)
        if isinstance(X, pd.DataFrame)
        else X[list(chosen)]
    )


def worst(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


# --- speed ---


class Forest(NamedTuple):
    """A model of trees on 30 columns, its package, and how many rows are explained at once."""

    name: str
    original: Any
    model: mk.Model
    rows: int
    target: float | None


@cache
def friedman(columns: int = 30) -> tuple[np.ndarray, np.ndarray]:
    X, y = make_friedman1(2000, columns, noise=0.5, random_state=0)
    return to_single(X), y


@cache
def forests() -> list[Forest]:
    log("  training nine ensembles")
    X, y = friedman()
    thirds = np.searchsorted(np.quantile(y, [1 / 3, 2 / 3]), y)
    seed = {"random_state": 0}
    boosting, forest = (
        partial(GradientBoostingRegressor, **seed),
        partial(RandomForestRegressor, n_jobs=-1, **seed),
    )
    found = []
    for name, original, labels, rows, target in (
        ("GradientBoosting, depth 3 x 100", boosting(max_depth=3), y, ROWS, 30),
        (
            "XGBoost, 3 classes, depth 3 x 100",
            xgboost.XGBClassifier(max_depth=3, n_estimators=100),
            thirds,
            ROWS,
            50,
        ),
        ("GradientBoosting, depth 6 x 200", boosting(max_depth=6, n_estimators=200), y, ROWS, 7),
        ("RandomForest, depth 6 x 100", forest(max_depth=6), y, ROWS, 0.9),
        ("RandomForest, depth 8 x 100", forest(max_depth=8), y, 60, 0.9),
        ("RandomForest, depth 10 x 100", forest(max_depth=10), y, 30, 0.9),
        ("RandomForest, no limit x 20", forest(20), y, 30, 0.9),
        (
            "HistGradientBoosting, 31 leaves x 100",
            HistGradientBoostingRegressor(**seed),
            y,
            ROWS,
            0.9,
        ),
        ("LightGBM, 31 leaves x 100", lightgbm.LGBMRegressor(verbose=-1), y, ROWS, 0.9),
    ):
        original.fit(X, labels)
        found.append(
            Forest(name, original, save(original, f"forest{len(found)}", X[:500]), rows, target)
        )
    return found


def background_rows(count: int = BACKGROUND) -> np.ndarray:
    return friedman()[0][-count:]


def of_trees(original: Any, background: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """shap's interventional trees, with every background row and without the check of the sums, which takes time."""
    masker = shap.maskers.Independent(background, max_samples=len(background))
    engine = shap.TreeExplainer(original, masker, feature_perturbation="interventional")
    return partial(engine.shap_values, check_additivity=False)


def race(calls: dict[Any, Callable[[], object]], allowed: float = 4.0) -> dict[Any, float]:
    """Median seconds of calls that take turns, in about so many seconds and at least three rounds."""
    once = sum(seconds(call, 1) for call in calls.values())
    return interleave(calls, int(min(15, max(3, allowed / once / 2))))


def speed() -> str:
    """`explain` beside `shap.TreeExplainer`, 100 background rows, 30 columns; microseconds a row"""
    X, lines = friedman()[0], []
    for name, original, model, count, target in forests():
        start = time.perf_counter()
        explainer = mk.Explainer(model, background=background_rows(), method="trees")
        build = time.perf_counter() - start
        theirs = of_trees(original, background_rows())
        many, one = X[:count], X[:1]
        ours, expected = explainer.explain(many).values, np.asarray(theirs(many))
        scale = np.abs(ours).sum(axis=1).max()
        gap = worst(ours, expected.reshape(ours.shape)) / scale
        calls = {
            ("ours", count): partial(explainer.explain, many), ("shap", count): partial(theirs, many),
            ("ours", 1): partial(explainer.explain, one), ("shap", 1): partial(theirs, one),
        }  # fmt: skip
        times = {key: value / key[1] * 1e6 for key, value in race(calls).items()}
        times["predict", count] = race({0: partial(model.predict, many)}, 0.2)[0] / count * 1e6
        ratio = times["shap", count] / times["ours", count]
        cells = [times["predict", count], times["ours", count], times["shap", count]]
        lines.append(
            [
                name,
                *map(number, cells),
                f"{ratio:.1f}",
                *judge(ratio, "at least", target),
                *map(number, (times["ours", 1], times["shap", 1])),
                f"{times['shap', 1] / times['ours', 1]:.1f}",
                f"{build * 1e3:,.0f}",
                f"{gap:.0e}",
            ]
        )
        log(f"  {name}: {ratio:.1f}")
    header = "| predict | modelkit | shap | times faster | target | reached | one row: modelkit | shap | times faster"
    return table(header + " | to build, ms | difference", lines)


def more_background() -> str:
    """The same with 1,000 background rows; microseconds a row"""
    X, lines = friedman()[0], []
    for name, _, model, count, _ in forests():
        times, builds, calls = {}, {}, {}
        for size in (100, 1000):
            start = time.perf_counter()
            try:
                explainer = mk.Explainer(model, background=background_rows(size), method="trees")
            except mk.errors.ExplainError as error:
                log(f"  {name}, {size}: {error}")
                continue
            builds[size] = (time.perf_counter() - start) * 1e3
            calls[size] = partial(explainer.explain, X[:count])
        times = {size: value / count * 1e6 for size, value in race(calls, 2).items()}
        if 1000 not in times:
            lines.append(
                [
                    name,
                    number(times[100]),
                    "refused",
                    "",
                    "at most 1.1",
                    "**no**",
                    number(builds[100]),
                    "",
                ]
            )
            continue
        ratio = times[1000] / times[100]
        cells = [
            number(times[100]),
            number(times[1000]),
            f"{ratio:.2f}",
            *judge(ratio, "at most", 1.1),
        ]
        lines.append([name, *cells, number(builds[100]), number(builds[1000])])
    return table("| 100 | 1,000 | ratio | target | reached | to build, ms: 100 | 1,000", lines)


# --- other threads ---


def stalls() -> str:
    """The longest that another thread waits while rows are explained or an Explainer is made, in milliseconds"""
    X, lines = friedman()[0], []
    for name, original, model, count, _ in forests():
        explainer = mk.Explainer(model, background=background_rows(), method="trees")
        theirs = of_trees(original, background_rows())
        calls = {
            "idle": partial(time.sleep, 0.3),
            "ours": partial(explainer.explain, X[:count]),
            "build": partial(mk.Explainer, model, background=background_rows(), method="trees"),
            "shap": partial(theirs, X[:count]),
        }
        found: dict[str, list[float]] = {key: [] for key in calls}
        for turn in range(3):
            for key, call in calls.items():
                if key != "shap" or not turn:  # it is slow, and far off
                    found[key].append(longest_wait(call))
        idle, ours, build, other = (statistics.median(waits) * 1e3 for waits in found.values())
        judged = judge(max(ours, build), "at most", 10)
        cells = [f"{idle:.1f}", f"{ours:.1f}", f"{build:.1f}", *judged, f"{other:.0f}"]
        lines.append([f"{name}, {count} rows", *cells])
    return table("| nothing runs | modelkit | modelkit, building | target | reached | shap", lines)


def longest_wait(call: Callable[[], object]) -> float:
    """The longest time between two ticks of a thread that asks for one every millisecond, beyond that millisecond."""
    ticks, done = [], threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(TICK)
        ticks.append(time.perf_counter())

    thread = threading.Thread(target=tick)
    thread.start()
    time.sleep(5 * TICK)
    call()
    done.set()
    thread.join()
    return max(after - before for before, after in pairwise(ticks)) - TICK


# --- the sampler ---


def sampler() -> str:
    """The sampler beside `shap.PermutationExplainer` and `KernelExplainer`, all with their defaults"""
    lines = []
    for name, model, rows, background, truth in black_boxes():
        log(f"  {name}")
        found: dict[str, list[Sampled]] = {}
        for seed in range(3):
            for contender, run in contenders(model, background, seed):
                if seed and contender.startswith("Kernel"):
                    continue  # it is slow, and takes no seed
                few = 4 if contender.startswith("Kernel") else len(rows)
                found.setdefault(contender, []).append(
                    sampled(run, Counted(model), rows[:few], truth[:few])
                )
        times = {
            contender: statistics.median(one.seconds for one in runs)
            for contender, runs in found.items()
        }
        errors = {
            contender: statistics.mean(one.error for one in runs)
            for contender, runs in found.items()
        }
        ours = [contender for contender in found if contender.startswith("modelkit")]
        as_exact = [contender for contender in ours if errors[contender] <= errors["Permutation"]]
        quickest = min(as_exact, key=times.__getitem__, default=None)
        for contender, runs in found.items():
            ratio = times["Permutation"] / times[contender]
            judged = ["", ""]
            if contender == ours[0]:
                judged = ["error at most 4 %", "yes" if errors[contender] <= 0.04 else "**no**"]
            if contender == quickest:
                also = [
                    f"{judged[0]}; " * bool(judged[0]) + "8 times faster",
                    "yes" if ratio >= 8 else "**no**",
                ]
                judged = [also[0], f"{judged[1]}; " * bool(judged[1]) + also[1]]
            cells = [
                f"{runs[0].asked:,}",
                f"{times[contender] * 1e3:.2f}",
                f"{errors[contender]:.2%}",
                f"{ratio:.1f}",
            ]
            inside = (
                ""
                if runs[0].inside is None
                else f"{statistics.mean(one.inside for one in runs):.0%}"
            )
            lines.append([f"{name}: {contender}", *cells, *judged, inside])
    header = (
        "| model rows a row | ms a row | error, of rms | faster than Permutation | target | reached"
    )
    return table(header + " | within 1.96 standard errors", lines)


class Sampled(NamedTuple):
    """One run: seconds and model rows for each row, the error, and the share of values within 1.96 standard errors."""

    seconds: float
    asked: int
    error: float
    inside: float | None


def sampled(
    run: Callable[..., Any], asked: "Counted", rows: np.ndarray, truth: np.ndarray
) -> Sampled:
    start = time.perf_counter()
    values, spread, evaluations = run(asked, rows)
    spent = (time.perf_counter() - start) / len(rows)
    error = float(np.sqrt(((values - truth) ** 2).mean() / (truth**2).mean()))
    inside = None if spread is None else float((np.abs(values - truth) <= 1.96 * spread).mean())
    return Sampled(spent, (evaluations or asked.rows) // len(rows), error, inside)


class Counted:
    """`predict` of a model that counts the rows."""

    def __init__(self, model: mk.Model) -> None:
        self.rows, self._model = 0, model

    def __call__(self, X: np.ndarray) -> np.ndarray:
        self.rows += len(X)
        return self._model.predict(X).ravel()


def contenders(
    model: mk.Model, background: np.ndarray, seed: int
) -> Iterator[tuple[str, Callable[..., Any]]]:
    def ours(asked: Counted, rows: np.ndarray, passes: int = 0) -> Any:
        del asked  # it is the model that is asked
        budget = passes * len(background) * 2 * (rows.shape[1] - 1) if passes else None
        explainer = mk.Explainer(
            model, background=background, method="sampling", seed=seed, budget=budget
        )
        found = explainer.explain(rows)
        return found.values[:, :, 0], found.std_error[:, :, 0], found.evaluations

    def permutation(asked: Counted, rows: np.ndarray) -> Any:
        masker = shap.maskers.Independent(background, max_samples=len(background))
        return (
            shap.PermutationExplainer(asked, masker, seed=seed)(rows, silent=True).values,
            None,
            None,
        )

    def kernel(asked: Counted, rows: np.ndarray, **options: Any) -> Any:
        return (
            shap.KernelExplainer(asked, background).shap_values(rows, silent=True, **options),
            None,
            None,
        )

    yield "modelkit", ours
    for passes in (1, 2, 3, 4):
        yield f"modelkit, budget of {passes} passes", partial(ours, passes=passes)
    yield "Permutation", permutation
    yield "Kernel", kernel
    yield "Kernel, l1_reg=False", partial(kernel, l1_reg=False)


def black_boxes() -> Iterator[tuple[str, mk.Model, np.ndarray, np.ndarray, np.ndarray]]:
    """A name, a model, rows, a background and the exact values."""
    X, y = friedman(10)
    wide = friedman()[0]
    network = make_pipeline(
        StandardScaler(), MLPRegressor(hidden_layer_sizes=(64, 64), max_iter=300, random_state=0)
    )
    boxes = (
        ("SVR, 10 columns", SVR(C=10).fit(X[:400], y[:400]), X),
        ("MLP 64-64, 10 columns", clone(network).fit(X, y), X),
        ("MLP 64-64, 30 columns", clone(network).fit(wide, y), wide),
    )
    for name, original, data in boxes:
        model = save(original, "box", data[:500])
        rows, background, d = data[:10], data[-BACKGROUND:], data.shape[1]
        if d <= 10:
            truth = [
                brute(model.predict, row[None], background, np.arange(d), d)[:, 0] for row in rows
            ]
        else:
            budget = LONG * BACKGROUND * 2 * (d - 1)
            long = mk.Explainer(
                model, background=background, method="sampling", budget=budget, seed=1000
            )
            truth = long.explain(rows).values[:, :, 0]
        yield name, model, rows, background, np.array(truth)
    forest = next(forest for forest in forests() if forest.name == "RandomForest, depth 6 x 100")
    rows, background = wide[:10], background_rows()
    exact = mk.Explainer(forest.model, background=background, method="trees").explain(rows)
    yield f"{forest.name}, 30 columns", forest.model, rows, background, exact.values[:, :, 0]


# --- LIME ---


def lime() -> str:
    """LIME of 5,000 samples beside the lime library, 30 columns"""
    from lime.lime_tabular import LimeTabularExplainer

    X, y = load_breast_cancer(return_X_y=True)
    X = to_single(X)
    model = save(RandomForestClassifier(100, max_depth=6, random_state=0).fit(X, y), "lime", X)
    rows, samples, d = X[::60], 5000, X.shape[1]
    try:
        explainers = [
            mk.Explainer(model, background=X, method="lime", budget=samples, seed=seed)
            for seed in (0, 0, 1)
        ]
    except (mk.errors.ExplainError, TypeError) as error:
        return f"not run: {error}"

    def library(seed: int) -> Callable[[np.ndarray], np.ndarray]:
        made = LimeTabularExplainer(X, random_state=seed)

        def coefficients(row: np.ndarray) -> np.ndarray:
            found = made.explain_instance(
                row, model.predict_proba, num_features=d, num_samples=samples
            )
            return np.array([weight for _, weight in sorted(found.as_map()[1])])

        return coefficients

    start = time.perf_counter()
    explainers[0].explain(rows[:1])
    first = time.perf_counter() - start
    ours, again, other = (
        np.array([e.explain(row[None]).values[0, :, -1] for row in rows]) for e in explainers
    )
    theirs, seeded = (
        np.array([coefficients(row) for row in rows]) for coefficients in map(library, (0, 1))
    )
    fidelity = explainers[0].explain(rows).fidelity
    r2, error, ess = (float(np.mean(fidelity[name])) for name in ("r2", "local_error", "ess"))
    coefficients = library(0)
    times = race(
        {"ours": lambda: explainers[0].explain(rows[:1]), "lime": lambda: coefficients(rows[0])}
    )
    bulk = race({"ours": partial(explainers[0].explain, rows)})["ours"] / len(rows)
    ratio = times["lime"] / times["ours"]
    rms = float(np.sqrt((theirs**2).mean()))

    def apart(one: np.ndarray, two: np.ndarray) -> str:
        spearman = [
            pd.Series(a).corr(pd.Series(b), method="spearman")
            for a, b in zip(one, two, strict=True)
        ]
        return f"{np.sqrt(((one - two) ** 2).mean()) / rms:.0%} of rms, Spearman {np.mean(spearman):.2f}"

    facts = [
        ["ms a row, one at a time", f"{times['ours'] * 1e3:.2f}", f"{times['lime'] * 1e3:.1f}"],
        ["ms a row, ten at once", f"{bulk * 1e3:.2f}", ""],
        ["ms of the first row", f"{first * 1e3:.1f}", ""],
        ["times faster (at least 10)", f"{ratio:.1f}: {'yes' if ratio >= 10 else '**no**'}", ""],
        ["from the library, seed 0", apart(ours, theirs), apart(seeded, theirs)],
        ["from itself, another seed", apart(ours, other), apart(seeded, theirs)],
        ["the same seed twice", "equal" if np.array_equal(ours, again) else "**differs**", ""],
        [
            "fidelity reported",
            f"R2 {r2:.2f}, local error {error:.2f}, effective samples {ess:,.0f}",
            "R2",
        ],
    ]
    return table("| modelkit | lime", facts)


# --- import ---


def importing() -> str:
    """What is loaded"""
    path = Path(FOLDER.name) / "import.mk"
    X, y = friedman(10)
    mk.save(
        GradientBoostingRegressor(random_state=0).fit(X, y),
        path,
        example=X[:200],
        name="a",
        version="1",
    )
    np.save(path.with_suffix(".npy"), X[:100])
    explained = (
        f"import numpy as np, modelkit as mk; X = np.load({str(path.with_suffix('.npy'))!r});"
        f"mk.Explainer(mk.load({str(path)!r}), background=X).explain(X)"
    )
    lines = []
    for name, code in (
        ("`import modelkit`", "import modelkit"),
        ("load a package and explain 100 rows", explained),
        ("`import shap`", "import shap"),
        ("`import lime.lime_tabular`", "import lime.lime_tabular"),
    ):
        show = (
            f"import sys, time; t = time.perf_counter(); {code}; t = time.perf_counter() - t;"
            "status = dict(line.split(':') for line in open('/proc/self/status'));"
            "print(t, int(status['VmHWM'].split()[0]) / 1024);"
            "print(*[m for m in ('shap', 'lime', 'numba', 'sklearn', 'matplotlib') if m in sys.modules])"
        )
        found = []
        for _ in range(4):  # the first reads files
            done = subprocess.run(
                [sys.executable, "-c", show], check=True, capture_output=True, text=True
            )
            numbers, modules = done.stdout.splitlines()
            found.append([float(value) for value in numbers.split()])
        spent, peak = (statistics.median(values) for values in zip(*found[1:], strict=True))
        judged = ["", ""]
        if "modelkit" in code:
            bad = {"shap", "lime"} & set(modules.split())
            judged = ["neither shap nor lime", "**no**" if bad else "yes"]
        lines.append([name, f"{spent * 1e3:.0f}", f"{peak:.0f}", modules or "none", *judged])
    return table(
        "| ms | MiB at the peak | of shap, lime, numba, sklearn, matplotlib | target | reached",
        lines,
    )


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


SECTIONS = {
    section.__name__: section
    for section in (exactness, speed, more_background, stalls, sampler, lime, importing)
}


if __name__ == "__main__":
    command(__doc__, SECTIONS, LIBRARIES, "explain")
