"""From rows to the parts of a Profile: reading both sides, cells, strata, counts, and losses."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import CELLS, Feature
from modelkit.drift.columns import (
    ColumnsByName,
    FeatureKind,
    feature_kind,
    fifth,
    length,
    read_columns,
    stratum_names,
    take_rows,
)
from modelkit.drift.dependence import every, rows_apart
from modelkit.drift.edges import fit_feature
from modelkit.drift.labelfree import Calibration
from modelkit.drift.outputs import (
    OF_CLASSES,
    PER_CLASS,
    class_names,
    class_numbers,
    name_outputs,
    output_columns,
    scores_of,
    watched_outputs,
)
from modelkit.drift.refusals import check_length
from modelkit.drift.vectors import Basis, expand, fit_basis
from modelkit.embedding.recipe import TEXT
from modelkit.embedding.verbs import is_encoder
from modelkit.errors import UsageError
from modelkit.events import Advised, emit, wanted
from modelkit.model.model import PLAIN, Model

MOST_STRATA = 64
OWN_ROWS = (
    "the model answers half of X as its reference: if it was trained on X, its answers to these rows "
    "are surer than to any later ones, which raises alarms; pass reference= rows that it has not seen"
)

# The rows of both sides.


@dataclass(frozen=True)
class Sides:
    """The columns of the training rows and of the reference, and a model's answers to both.

    `class_names` are those of its probabilities.
    """

    train: ColumnsByName
    held: ColumnsByName
    train_answers: ColumnsByName | None = None
    held_answers: ColumnsByName | None = None
    class_names: tuple[str, ...] = ()


def read_sides(X: Any, reference: Any, model: Model | None, *, ordered: bool, seed: int) -> Sides:
    """The columns of both sides; without a reference, half of X is held out."""
    if model is not None:
        return _served_sides(X, reference, model, ordered=ordered, seed=seed)
    train = read_columns(X)
    if reference is not None:
        return Sides(train, read_columns(reference))
    return Sides(*_halves_of(train, ordered=ordered, seed=seed))


def _served_sides(X: Any, reference: Any, model: Model, *, ordered: bool, seed: int) -> Sides:
    signature = model.signature
    train = signature.coerce(X)
    if reference is not None:
        held = signature.coerce(reference)
    else:
        train, held = _halves_of(train, ordered=ordered, seed=seed)
        if wanted(Advised):
            emit(Advised(OWN_ROWS))
    outputs = watched_outputs(signature)
    train_answers = model._run(train, outputs, PLAIN)
    held_answers = model._run(held, outputs, PLAIN)
    return Sides(
        signature.columns(train),
        signature.columns(held),
        train_answers,
        held_answers,
        class_names(signature),
    )


def _halves_of(
    columns: ColumnsByName, *, ordered: bool, seed: int
) -> tuple[dict[str, Array], dict[str, Array]]:
    n = length(columns)
    order = np.arange(n) if ordered else np.random.default_rng(seed).permutation(n)
    first = np.sort(order[: n // 2])
    second = np.sort(order[n // 2 :])
    return take_rows(columns, first), take_rows(columns, second)


# Features.


class AlphaWeights:
    """The weights by which alpha is shared: those of columns, and evenly among their numbers."""

    def __init__(self, importance: Mapping[str, float]) -> None:
        odd = {
            name: weight for name, weight in importance.items() if not 0 <= weight < float("inf")
        }
        if odd:
            raise UsageError(f"an importance is a number from 0; got {odd}")
        self._importance = importance

    def of(self, name: str, parts: int = 1) -> float:
        """The weight of a column, or of each of the numbers it is made into."""
        return float(self._importance.get(name, 1.0)) / parts

    def share_of(self, name: str, others: Sequence[Feature]) -> float:
        """The share of one more column beside features whose weights are not shared out yet."""
        own = self.of(name)
        total = own + sum(feature.weight for feature in others)
        return own / total if total else 0.0

    @staticmethod
    def shared(features: Sequence[Feature]) -> tuple[Feature, ...]:
        """Features whose weights sum to one."""
        total = sum(feature.weight for feature in features)
        if not total > 0:
            raise UsageError("no feature has an importance above zero")
        return tuple(replace(feature, weight=feature.weight / total) for feature in features)


def length_columns(text: Sequence[str], model: Model | None) -> dict[str, FeatureKind]:
    """The columns of which the length counts, and not the words."""
    if isinstance(text, str):
        raise UsageError(f"text is a sequence of columns; pass ({text!r},)")
    names = list(text)
    if model is not None and is_encoder(model):
        names.append(TEXT)
    return dict.fromkeys(names, "text")


class Fitting:
    """The features and the bases of embeddings, as they are made from training columns.

    Args:
        kinds: the kinds of columns that their type does not tell.
        weights: of the features.
        seed: of the centroids of embeddings.
    """

    def __init__(self, kinds: Mapping[str, FeatureKind], weights: AlphaWeights, seed: int) -> None:
        self.features: list[Feature] = []
        self.bases: dict[str, Basis] = {}
        self._kinds = kinds
        self.weights = weights
        self.seed = seed

    def inputs(self, train: ColumnsByName, others: Collection[str]) -> None:
        """Add the features of the training columns, but for those that tell strata and units."""
        for name, column in train.items():
            if name not in others:
                kind = self._kinds.get(name)
                self._add(name, column, kind, output=False)

    def outputs(self, answers: ColumnsByName) -> None:
        """Add the features of a model's answers."""
        columns = output_columns(answers)
        classes = sum(name.startswith(PER_CLASS) for name in columns)
        for name, column in columns.items():
            self._add(name, column, None, output=True, classes=classes)

    def _add(
        self, name: str, column: Array, kind: FeatureKind | None, *, output: bool, classes: int = 0
    ) -> None:
        if column.ndim == 2:
            self._add_embedding(name, column, output=output)
            return
        weight = self.weights.of(name)
        if output and name.startswith(PER_CLASS):  # all classes together count as one column
            weight = self.weights.of(OF_CLASSES, classes)
        feature = fit_feature(
            name, kind or feature_kind(name, column), column, output=output, weight=weight
        )
        self.features.append(feature)

    def _add_embedding(self, name: str, vectors: Array, *, output: bool) -> None:
        basis = fit_basis(vectors, name, self.seed)
        self.bases[name] = basis
        numbers = basis.numbers(vectors, name)
        weight = self.weights.of(name, len(numbers))
        for part, values in numbers.items():
            feature = fit_feature(part, "number", values, output=output, weight=weight)
            self.features.append(feature)


@dataclass(frozen=True)
class ServedAnswers:
    """The model's answers to the reference.

    Args:
        served: all of them, by output.
        columns: those that are counted, by feature name.
        rows: for each feature that only some rows are counted of, the numbers of these.
    """

    served: ColumnsByName
    columns: ColumnsByName
    rows: Mapping[str, Array]


def fit_answers(
    fitting: Fitting, sides: Sides, scores: Any, units: Array | None, *, ordered: bool
) -> ServedAnswers:
    """Add the features of a model's answers, if there are any, and give those of the reference.

    `units` has the number of each row's unit, int64 (n,), where there are units.
    """
    if sides.train_answers is not None and sides.held_answers is not None:
        fitting.outputs(sides.train_answers)
        columns = expand(output_columns(sides.held_answers), fitting.bases)
        return ServedAnswers(sides.held_answers, columns, {})
    if scores is None:
        return ServedAnswers({}, {}, {})
    served = name_outputs(scores)
    rows = length(sides.held)
    check_length(served, rows, "scores")
    mine, others = _fifth_of(rows, units, ordered=ordered, seed=fitting.seed)
    before = len(fitting.features)
    fitting.outputs(take_rows(served, mine))
    counted = {feature.name: others for feature in fitting.features[before:]}
    columns = expand(output_columns(take_rows(served, others)), fitting.bases)
    return ServedAnswers(served, columns, counted)


def _fifth_of(rows: int, units: Array | None, *, ordered: bool, seed: int) -> tuple[Array, Array]:
    """The numbers of a fifth of the rows, and of the others; of units, all rows of a fifth of them.

    A unit that had lost a fifth of its rows would be compared with units that have all of theirs.
    """
    if units is None:
        return fifth(rows, ordered=ordered, seed=seed)
    mine, _ = fifth(int(units.max()) + 1, ordered=False, seed=seed)
    own = np.isin(units, mine)
    return np.flatnonzero(own), np.flatnonzero(~own)


# Counts of the reference.


def strata_of(
    held: ColumnsByName, stratum: str | None, cycle: Array | None = None
) -> tuple[tuple[str, ...], Array]:
    """The names of the strata, and the number of each reference row's stratum, int64 (n,).

    `cycle` has the strata of rows, (n,), where their times tell them and no column does.
    """
    if stratum is None:
        return ("",), np.zeros(length(held), np.int64)
    names = stratum_names(held[stratum] if cycle is None else cycle)
    known = sorted(set(names))
    if len(known) > MOST_STRATA:
        raise UsageError(
            f"column {stratum!r} has {len(known)} values; at most {MOST_STRATA} strata are kept "
            "apart"
        )
    at = {name: i for i, name in enumerate(known)}
    member = [at[name] for name in names]
    return tuple(known), np.array(member, np.int64)


def count_cells(
    made: Sequence[Feature],
    columns: ColumnsByName,
    member: Array,
    rows: Mapping[str, Array],
    *,
    ordered: bool,
    seed: int,
) -> tuple[list[Feature], Array]:
    """Features with their strides, and the counts (strata, features, 67) of rows that far apart.

    `member` is the number of each row's stratum, and `rows` the numbers of the rows of a feature
    that does not have all of them. `seed` says from which row on they are counted.
    """
    rng = np.random.default_rng([seed, len(member)])
    strata = int(member.max()) + 1
    counts = np.zeros((strata, len(made), CELLS), np.int64)
    features = []
    for j, feature in enumerate(made):
        cells = feature.cells(columns[feature.name])
        own = member[rows[feature.name]] if feature.name in rows else member
        groups = [cells[own == s] for s in range(strata)]
        stride = max(map(rows_apart, groups)) if ordered else 1
        for s, group in enumerate(groups):
            kept = group[every(stride, len(group), rng)]
            counts[s, j] = np.bincount(kept, minlength=CELLS)
        features.append(replace(feature, stride=stride))
    return features, counts


# Losses of the reference.


def fit_calibration(
    served: ColumnsByName, labels: Any, classes: tuple[Any, ...], seed: int
) -> Calibration:
    """The calibration of the probabilities by the reference's labels."""
    numbers = {str(name): i for i, name in enumerate(classes)}
    names = [str(label) for label in np.asarray(labels).tolist()]
    strange = sorted(set(names) - set(numbers))
    if strange:
        raise UsageError(
            f"the labels {strange[:5]} are not classes of the model; it has {list(numbers)}"
        )
    member = np.array([numbers[name] for name in names], np.int64)
    scores = scores_of(served["probabilities"])
    return Calibration.fit(
        tuple(numbers),
        scores,
        member,
        np.random.default_rng(seed),
        class_numbers(served.get("label"), tuple(numbers)),
    )
