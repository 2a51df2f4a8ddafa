"""Each pipeline as a package of the modelkit that is imported: saved, and its answers compared with the source's.

`python -m benchmarks.conversion.packages before TEXT` does so for an older modelkit, which PYTHONPATH names.
"""

import sys
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from benchmarks.conversion.answers import compared, ties, truth, truth_of, variants
from benchmarks.conversion.everyday import Everyday
from benchmarks.conversion.kept import FOLDER, collect, file_of, fitted
from benchmarks.conversion.pipelines import PIPELINES

import modelkit as mk

BATCHES = (1, 7, 100, 10_000)
PARTS = 8  # batches of each size but the largest
Found = dict[str, Any]


def package_of(kind: str, pipeline: Everyday) -> Path:
    return FOLDER / kind / f"{file_of(pipeline)}.mk"


def saved(kind: str, pipeline: Everyday) -> Found:
    """Save a pipeline, and compare what the package answers to rows that it never saw."""
    model, seen, fresh = fitted(pipeline)
    path = package_of(kind, pipeline)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        mk.save(model, path, example=seen, name="everyday", version="1")
    except Exception as error:  # a refusal is what is counted
        return {"state": "refused", "message": f"{type(error).__name__}: {error}"}
    with mk.load(path) as package:
        outputs = tuple(spec.name for spec in package.signature.outputs)
        found = against(model, variants(fresh, seen), outputs, partial(answered, package))
        found["batches"] = in_batches(model, package, fresh, outputs)
    return found


def answered(package: mk.Model, rows: Any) -> dict[str, Any]:
    return package.run({package.signature.inputs[0].name: rows} if isinstance(rows, list) else rows)


def against(
    model: Any,
    kinds: Iterable[tuple[str, Any, Any]],
    outputs: tuple[str, ...],
    answer: Callable[[Any], dict[str, Any]],
) -> Found:
    """How far answers are from the source's, by the kind of rows; a text where rows were not taken."""
    found: dict[str, Any] = {}
    for name, given, widened in kinds:
        expected = truth_of(model, widened, outputs)
        if expected is None:
            continue
        try:
            got = answer(given)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
            continue
        found[name] = list(vars(compared(expected, got, partial(ties, model, widened))).values())
    return {"state": "converted", "rows": found}


def in_batches(model: Any, package: mk.Model, fresh: Any, outputs: tuple[str, ...]) -> float:
    """The largest relative difference in batches of several sizes; infinite for labels flipped beyond ties.

    The source is asked in the same batches: some of its answers depend on what else is asked.
    """
    worst = 0.0
    for size in BATCHES:
        for start in range(
            0, len(fresh) if size < max(BATCHES) else 1, max(1, len(fresh) // PARTS)
        ):
            few = tiled(fresh, size, start)
            expected = truth(model, few, outputs)
            found = compared(expected, answered(package, few), partial(ties, model, few))
            worst = inf if found.flips > found.ties else max(worst, found.relative)
    return worst


def tiled(X: Any, size: int, start: int = 0) -> Any:
    """So many rows: those of `X` over and over."""
    chosen = [at % len(X) for at in range(start, start + size)]
    if isinstance(X, list):
        return [X[at] for at in chosen]
    return X.iloc[chosen].reset_index(drop=True) if hasattr(X, "iloc") else X[chosen]


def main() -> None:
    kind, only = sys.argv[1:]
    warnings.simplefilter("ignore")
    chosen = [pipeline for pipeline in PIPELINES if only.lower() in pipeline.name.lower()]
    collect(kind, chosen, partial(saved, kind))


if __name__ == "__main__":
    main()
