"""From rows to a Profile's parts: reading both sides, cells, strata, counts, and losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from modelkit.cast import Array
from modelkit.drift.cells import (
    CELLS,
    Feature,
    as_numbers,
    fit_feature,
    kind_of,
    read_columns,
    stratum_names,
)
from modelkit.drift.dependence import rows_apart
from modelkit.drift.labelfree import Calibration
from modelkit.drift.outputs import (
    Baseline,
    check_losses,
    classes_of,
    error_scale,
    losses_of,
    predicted_of,
    scores_of,
    watched_outputs,
)
from modelkit.drift.vectors import Basis, fit_basis
from modelkit.errors import DriftError
from modelkit.model import PLAIN, Model

FEWEST = 50  # rows on either side
MOST_STRATA = 64

Columns = Mapping[str, Array]


def check_arguments(
    reference: Any, model: Any, scores: Any, epsilon: float | None, *, labelled: bool, ordered: bool
) -> None:
    """Raise DriftError for arguments of `Profile.fit` that do not go together."""
    if reference is None and (scores is not None or labelled):
        raise DriftError(
            "scores, labels and losses are those of the reference rows: pass reference= as well"
        )
    if model is not None and scores is not None:
        raise DriftError("pass the model or its scores, not both")
    if epsilon is not None and (labelled or not epsilon > 0):
        raise DriftError(
            "epsilon is positive, and labels and losses cannot be kept private: leave one of them "
            "out"
        )
    if epsilon is not None and (ordered or reference is None or scores is not None):
        raise DriftError(
            "with epsilon each row must be counted whatever the others are: pass reference=, "
            "model= instead of "
            "scores=, and not ordered=True, which takes rows some way apart"
        )


def read(
    X: Any, reference: Any, model: Model | None, *, ordered: bool, seed: int
) -> tuple[Columns, Columns, tuple[Columns, Columns] | None]:
    """Columns of both sides, and what the model answers to both."""
    if model is None:
        train = read_columns(X)
        if reference is not None:
            return train, read_columns(reference), None
        first, second = _halves(length(train), ordered=ordered, seed=seed)
        return (
            {n: c[first] for n, c in train.items()},
            {n: c[second] for n, c in train.items()},
            None,
        )
    signature = model.signature
    feeds = signature.coerce(X)
    if reference is not None:
        both = (feeds, signature.coerce(reference))
    else:
        first, second = _halves(len(next(iter(feeds.values()))), ordered=ordered, seed=seed)
        both = ({n: a[first] for n, a in feeds.items()}, {n: a[second] for n, a in feeds.items()})
    wanted = watched_outputs(signature)
    answers = tuple(model._run(side, wanted, PLAIN) for side in both)
    return signature.columns(both[0]), signature.columns(both[1]), (answers[0], answers[1])


def _halves(n: int, *, ordered: bool, seed: int) -> tuple[Array, Array]:
    order = np.arange(n) if ordered else np.random.default_rng(seed).permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 :])


def fifth(n: int, *, ordered: bool) -> tuple[Array, Array]:
    """Rows for the cells of scores, and the others for their counts."""
    rows = np.arange(n)
    mine = rows < n // 5 if ordered else rows % 5 == 0
    return rows[mine], rows[~mine]


def length(columns: Columns) -> int:
    """How many rows columns have."""
    return len(next(iter(columns.values()))) if columns else 0


def check_length(columns: Columns, rows: int, what: str) -> None:
    """Raise DriftError unless every column has so many rows."""
    odd = {name: len(column) for name, column in columns.items() if len(column) != rows}
    if odd:
        raise DriftError(
            f"{what} must have one entry for each of the {rows} reference rows; got {odd}"
        )


def check_columns(train: Columns, held: Columns, stratum: str | None) -> None:
    """Raise DriftError unless both sides have the same columns, among them the stratum's, and enough rows."""
    if not train:
        raise DriftError("the rows have no columns")
    absent = sorted(set(train) - set(held))
    more = sorted(set(held) - set(train))
    if absent or more:
        raise DriftError(f"the reference lacks the columns {absent} and has others, {more}")
    if stratum is not None and (stratum not in train or train[stratum].ndim != 1):
        raise DriftError(
            f"there is no column {stratum!r} to tell strata by; there are {list(train)}"
        )
    for what, side in (("X", train), ("reference", held)):
        if length(side) < FEWEST:
            raise DriftError(
                f"{what} has {length(side)} rows; a profile needs {FEWEST}, and 5,000 to notice "
                f"much; without reference=, half of X is held out as one"
            )


def check_names(made: list[Feature], *asked: Mapping[str, Any]) -> None:
    """Raise DriftError for features of one name, and for names asked for that are none."""
    names = [feature.name for feature in made]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DriftError(f"columns and outputs share the names {twice}; rename the columns")
    unknown = sorted(
        {name for names_of in asked for name in names_of}
        - {*names, *(n.split(": ")[0] for n in names)}
    )
    if unknown:
        raise DriftError(
            f"text or importance names {unknown}, which is no feature; there are {names}"
        )


class Weights:
    """How alpha is shared: by column, evenly among the numbers that an embedding is made of."""

    def __init__(self, importance: Mapping[str, float]) -> None:
        odd = {
            name: weight for name, weight in importance.items() if not 0 <= weight < float("inf")
        }
        if odd:
            raise DriftError(f"an importance is a number from 0; got {odd}")
        self._importance = importance

    def of(self, name: str, parts: int = 1) -> float:
        """The weight of a column, or of each of the numbers it is made into."""
        return float(self._importance.get(name, 1.0)) / parts

    @staticmethod
    def shared(features: Sequence[Feature]) -> tuple[Feature, ...]:
        """Features whose weights sum to one."""
        total = sum(feature.weight for feature in features)
        if not total > 0:
            raise DriftError("no feature has an importance above zero")
        return tuple(replace(feature, weight=feature.weight / total) for feature in features)


def fit_columns(  # noqa: PLR0913 - one pass over columns, with what it adds to
    columns: Columns,
    kinds: Mapping[str, str],
    weights: Weights,
    seed: int,
    made: list[Feature],
    bases: dict[str, Basis],
    *,
    without: str | None = None,
    output: bool = False,
) -> None:
    """Add the features of training columns to `made`, and what embeddings are compared with to `bases`."""
    for name, column in columns.items():
        if name == without:
            continue
        if column.ndim == 2:
            bases[name] = fit_basis(column, name, seed)
            parts = bases[name].numbers(column, name)
            weight = weights.of(name, len(parts))
            made += [
                fit_feature(part, "number", v, output=output, weight=weight)
                for part, v in parts.items()
            ]
        else:
            kind: Any = kinds.get(name) or kind_of(name, column)
            made.append(fit_feature(name, kind, column, output=output, weight=weights.of(name)))


def strata_of(held: Columns, stratum: str | None) -> tuple[tuple[str, ...], Array]:
    """The strata, and for each reference row which it belongs to."""
    if stratum is None:
        return ("",), np.zeros(length(held), np.int64)
    names = stratum_names(held[stratum])
    known = sorted(set(names))
    if len(known) > MOST_STRATA:
        raise DriftError(
            f"column {stratum!r} has {len(known)} values; at most {MOST_STRATA} strata are kept "
            "apart"
        )
    at = {name: i for i, name in enumerate(known)}
    return tuple(known), np.array([at[name] for name in names], np.int64)


def count(
    made: list[Feature],
    columns: Columns,
    member: Array,
    observed: Mapping[str, Array],
    strata: int,
    *,
    ordered: bool,
) -> tuple[list[Feature], Array]:
    """Features with their strides, and the counts (strata, features, 67) of rows that far apart.

    `member` is the stratum of each row, and `observed` the rows of a feature where those are not
    all.
    """
    counts = np.zeros((strata, len(made), CELLS), np.int64)
    features = []
    for j, feature in enumerate(made):
        cells = feature.cells(columns[feature.name])
        mine = member[observed[feature.name]] if feature.name in observed else member
        groups = [cells[mine == s] for s in range(strata)]
        stride = max(rows_apart(group) for group in groups) if ordered else 1
        for s, group in enumerate(groups):
            counts[s, j] = np.bincount(group[::stride], minlength=CELLS)
        features.append(replace(feature, stride=stride))
    return features, counts


def labelled(  # noqa: PLR0913 - called once
    served: Columns,
    labels: Any,
    losses: Any,
    model: Model | None,
    rows: int,
    seed: int,
    *,
    ordered: bool,
) -> tuple[Baseline, Calibration | None]:
    """The losses of the reference, and what its labels say of the probabilities."""
    truth = check_losses(losses) if labels is None else np.asarray(labels)
    if truth.shape != (rows,):
        raise DriftError(f"there are {rows} reference rows and {len(truth)} labels or losses")
    if labels is None:
        return Baseline.of(truth), None
    classes = classes_of(served, labels, None if model is None else model.signature.classes)
    predicted = predicted_of(served, classes)
    if (
        predicted.dtype.kind == "f"
    ):  # the scale is part of the loss: what bounds the mean of it are other rows
        mine, others = fifth(rows, ordered=ordered)
        scale = error_scale(truth[mine], predicted[mine])
        return Baseline.of(losses_of(truth[others], predicted[others], scale), scale), None
    baseline = Baseline.of(losses_of(truth, predicted))
    if classes is None:
        return baseline, None
    numbers = {str(name): i for i, name in enumerate(classes)}
    strange = sorted({str(label) for label in truth.tolist()} - set(numbers))
    if strange:
        raise DriftError(
            f"the labels {strange[:5]} are no classes of the model; it has {list(numbers)}"
        )
    member = np.array([numbers[str(label)] for label in truth.tolist()], np.int64)
    shares = scores_of(served["probabilities"])
    return baseline, Calibration.fit(tuple(numbers), shares, member, np.random.default_rng(seed))


def duplicates(features: Sequence[Feature], columns: Columns) -> int:
    """How many rows equal an earlier one in every column that is looked at, (n,) each."""
    inputs = [feature for feature in features if not feature.output]
    total = np.zeros(len(columns[inputs[0].name]) if inputs else 0, np.uint64)
    for j, feature in enumerate(inputs):
        values = columns[feature.name]
        plain = (
            feature.cells(values)
            if feature.kind == "category"
            else as_numbers(values, feature.kind, feature.name)
        )
        bits = plain.view(f"u{plain.itemsize}").astype(np.uint64) + np.uint64(2 * j + 1)
        bits = (bits ^ (bits >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
        total = (total ^ bits ^ (bits >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return len(total) - len(np.unique(total))
