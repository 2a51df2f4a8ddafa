"""Whether a graph answers a row alike in batches of several sizes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from modelkit.convert.parity.compare import Answers, Differences, compare, merge, tolerance
from modelkit.convert.source import Source, is_native
from modelkit.model.model import Model
from modelkit.signature.signature import Feeds, Signature

BATCH_SIZES = (1, 7, 64)
INVARIANCE_ROWS = 256  # at most, that are answered in batches of several sizes
GRAPH_RUNS = 256  # at most, of one batch size
ESTIMATOR_RUNS = 8  # each takes about as long as a hundred runs of a graph
LARGEST = float(np.finfo(np.float64).max)  # stands for infinity, which JSON cannot hold


def batch_invariance(
    source: Source, model: Model, feeds: Feeds | None
) -> tuple[tuple[int, ...], float, bool]:
    """The sizes tried, the largest difference between them, and whether rows are independent.

    One row alone cannot be tried in several sizes: then there is one size, and nothing was
    measured.
    """
    signature = model.signature
    axes = _row_axes(signature)
    if feeds is None or len(axes) < len(signature.outputs):
        return (), 0.0, False
    total = min(signature.count(feeds), INVARIANCE_ROWS)
    sizes = (*(size for size in BATCH_SIZES if size < total), total)
    try:
        worst = _worst_of_sizes(source, model, feeds, sizes, axes)
    except Exception:  # of what runs at one size alone, whatever it is called
        return (), 0.0, False
    if worst is None:
        return sizes, LARGEST, False
    return sizes, min(worst.max_abs, LARGEST), worst.agree and len(sizes) > 1


def _row_axes(signature: Signature) -> dict[str, int]:
    """The axis of the rows, by output; outputs without one are left out."""
    dim = signature.row_dim
    return {spec.name: spec.shape.index(dim) for spec in signature.outputs if dim in spec.shape}


def _worst_of_sizes(
    source: Source, model: Model, feeds: Feeds, sizes: tuple[int, ...], axes: Mapping[str, int]
) -> Differences | None:
    """The largest differences between answers in batches of these sizes; None for other shapes.

    The last size is all rows at once.
    """
    *smaller, total = sizes
    runs = ESTIMATOR_RUNS if is_native(source) else GRAPH_RUNS
    worst = Differences()
    whole = _in_parts(model, feeds, total, total, axes)
    for size in smaller:
        first = min(total, size * runs)
        joined = _in_parts(model, feeds, first, size, axes)
        expected = {name: whole[name].take(range(first), axis) for name, axis in axes.items()}
        if any(joined[name].shape != expected[name].shape for name in axes):
            return None
        found = compare(expected, joined, *tolerance(source))
        worst.wrong = np.append(worst.wrong, found.wrong)
        merge(worst, found)
    return worst


def _in_parts(
    model: Model, feeds: Feeds, total: int, size: int, axes: Mapping[str, int]
) -> Answers:
    """The answers to the first `total` rows, `size` rows a run, joined."""
    parts: list[Answers] = []
    for start in range(0, total, size):
        places = np.arange(start, min(start + size, total))
        some = model.signature.take(feeds, places)
        parts.append(model.run(model.signature.columns(some)))  # which coerces them to the same
    return {name: np.concatenate([part[name] for part in parts], axes[name]) for name in axes}
