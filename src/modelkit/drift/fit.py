"""From rows, or the tally of a reference, to a Profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.advice import advise
from modelkit.drift.cells import ABSENT, Feature, fit_feature
from modelkit.drift.columns import (
    ColumnsByName,
    FeatureKind,
    feature_kind,
    fifth,
    length,
    take_rows,
)
from modelkit.drift.counts import Tally, count_by
from modelkit.drift.layout import Layout, shared_weights
from modelkit.drift.losses import TARGET, fit_labels
from modelkit.drift.order import rows_apart, rows_with_values, sparse_text, thinned
from modelkit.drift.outputs import OF_CLASSES, PER_CLASS, name_outputs, output_columns
from modelkit.drift.segments import fit_segments
from modelkit.drift.sides import Options, Sides, read_sides
from modelkit.drift.units import (
    FEWEST_UNITS,
    ReferenceUnits,
    group_table,
    many,
    most_units,
    plural,
    shares_of,
)
from modelkit.drift.vectors import Basis, expand, fit_basis
from modelkit.embedding.recipe import TEXT
from modelkit.embedding.verbs import is_encoder
from modelkit.errors import UsageError
from modelkit.events import Advised, emit, wanted

MOST_STRATA = 64


def of_rows(X: Any, reference: Any, asked: Options) -> dict[str, Any]:
    """The fields of a Profile of rows, by name. Raises what `Profile.fit` says."""
    sides = read_sides(X, reference, asked)
    made = Fitting(asked)
    made.inputs(sides.train)
    served, fitted = _answers(made, sides, asked)
    made.check_names()
    layout = _layout_of(made, sides, asked)
    strata, member = _strata_of(layout, sides)
    columns = expand({**sides.held, **output_columns(served)}, layout.bases)
    cells = layout.cells(columns, length(sides.held))
    outputs = np.flatnonzero([feature.output for feature in layout.features])
    cells[np.ix_(fitted, outputs)] = ABSENT
    features, apart = _apart(layout.features, cells, member, asked)
    counts = count_by(apart, member, len(strata))
    _advise_of_sparse(features, counts)
    return {
        "layout": replace(layout, strata=strata, features=shared_weights(features)),
        "counts": counts,
        "rows": len(cells),
        "train_rows": length(sides.train),
        "ordered": asked.ordered,
        "advice": advise(features, cells, sides, asked),
        "units": _units_of(features, cells, member, sides.units, asked),
        "segments": fit_segments(asked.segments, features, cells),
        **fit_labels(served, len(cells), made.share_of(TARGET), asked),
    }


def _layout_of(made: Fitting, sides: Sides, asked: Options) -> Layout:
    """Where rows belong, without strata yet."""
    return Layout(
        features=tuple(made.features),
        bases=tuple(made.bases),
        strata=(),
        stratum=asked.stratum,
        timed=sides.timed,
        unit=asked.unit,
        time=asked.time,
        class_names=sides.class_names,
    )


def _advise_of_sparse(features: Sequence[Feature], counts: Array) -> None:
    """An event for the log where the counts are of too few rows."""
    sparse = sparse_text(features, counts)
    if sparse is not None and wanted(Advised):
        emit(Advised(sparse))


# Features.


class Fitting:
    """The features and the bases of embeddings, as they are made from training columns.

    A feature's weight is the importance of its column, divided among the numbers that the column is
    made into.
    """

    def __init__(self, asked: Options) -> None:
        odd = {
            name: weight
            for name, weight in asked.importance.items()
            if not isinstance(weight, Real) or not 0 <= weight < float("inf")
        }
        if odd:
            raise UsageError(f"an importance is a number, 0 or more; got {odd}")
        self.features: list[Feature] = []
        self.bases: list[Basis] = []
        self._asked = asked
        if isinstance(asked.text, str):
            raise UsageError(f"text is a sequence of columns; pass ({asked.text!r},)")
        self._texts = {*asked.text}  # of which the length counts, and not the words
        if asked.model is not None and is_encoder(asked.model):
            self._texts.add(TEXT)

    def inputs(self, train: ColumnsByName) -> None:
        """Add the features of the training columns, but for those that tell strata and units."""
        for name, column in train.items():
            if name not in self._asked.aside:
                kind: FeatureKind | None = "text" if name in self._texts else None
                self._add(name, column, self._weight(name), kind)

    def outputs(self, answers: ColumnsByName) -> None:
        """Add the features of a model's answers; all classes together count as one column."""
        columns = output_columns(answers)
        classes = [name for name in columns if name.startswith(PER_CLASS)]
        for name, column in columns.items():
            weight = self._weight(name)
            if name in classes:
                weight = self._weight(OF_CLASSES) / len(classes)
            self._add(name, column, weight, output=True)

    def _add(
        self,
        name: str,
        column: Array,
        weight: float,
        kind: FeatureKind | None = None,
        *,
        output: bool = False,
    ) -> None:
        numbers = {name: column}
        if column.ndim == 2:
            basis = fit_basis(column, name, self._asked.seed)
            self.bases.append(basis)
            numbers = basis.numbers(column)
            kind = "number"
        for part, values in numbers.items():
            found = kind or feature_kind(part, values)
            share = weight / len(numbers)
            self.features.append(fit_feature(part, found, values, output=output, weight=share))

    def _weight(self, name: str) -> float:
        return float(self._asked.importance.get(name, 1.0))

    def share_of(self, name: str) -> float:
        """The share of one more column beside the features."""
        own = self._weight(name)
        total = own + sum(feature.weight for feature in self.features)
        return own / total if total else 0.0

    def check_names(self) -> None:
        """Raise UsageError for two features of one name, and for asked names that no feature has.

        Labels make a feature of their own.
        """
        names = [feature.name for feature in self.features]
        names += [TARGET] * (self._asked.labels is not None)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"columns and outputs share the names {twice}; rename the columns")
        sources = [name.split(": ")[0] for name in names]
        sources += [OF_CLASSES for name in names if name.startswith(PER_CLASS)]
        unknown = sorted({*self._texts, *self._asked.importance} - {*names, *sources})
        if unknown:
            raise UsageError(
                f"text or importance names {unknown}, which is not a feature; there are {names}"
            )


def _answers(made: Fitting, sides: Sides, asked: Options) -> tuple[ColumnsByName, Array]:
    """Add the features of a model's answers, if there are any.

    Returns the answers to the reference, by output, and the numbers of the rows of which they made
    the cells, and are not counted.
    """
    nothing = np.empty(0, np.int64)
    if sides.train_answers is not None and sides.held_answers is not None:
        made.outputs(sides.train_answers)
        return sides.held_answers, nothing
    if asked.scores is None:
        return {}, nothing
    served = name_outputs(asked.scores)
    rows = length(sides.held)
    odd = {name: len(column) for name, column in served.items() if len(column) != rows}
    if odd:
        raise UsageError(
            f"scores must have one entry for each of the {rows} reference rows; got {odd}"
        )
    fitted = _fifth_of(rows, sides.units, asked)
    made.outputs(take_rows(served, fitted))
    return served, fitted


def _fifth_of(rows: int, units: Array | None, asked: Options) -> Array:
    """The numbers of a fifth of the rows; of units, of all rows of a fifth of them.

    A unit that had lost a fifth of its rows would be compared with units that have all of theirs.
    """
    if units is None:
        return fifth(rows, ordered=asked.ordered, seed=asked.seed)[0]
    mine, _ = fifth(int(units.max()) + 1, ordered=False, seed=asked.seed)
    return np.flatnonzero(np.isin(units, mine))


# The reference.


def _strata_of(layout: Layout, sides: Sides) -> tuple[tuple[str, ...], Array]:
    """The names of the strata, and the number of each reference row's stratum, int64 (n,)."""
    names = layout.strata_of(sides.held, sides.seconds)
    if names is None:
        return ("",), np.zeros(length(sides.held), np.int64)
    known = sorted(set(names))
    if len(known) > MOST_STRATA:
        raise UsageError(
            f"column {layout.stratum!r} has {len(known)} values; at most {MOST_STRATA} strata are "
            "kept apart"
        )
    at = {name: i for i, name in enumerate(known)}
    return tuple(known), np.array([at[name] for name in names], np.int64)


def _apart(
    features: Sequence[Feature], cells: Array, member: Array, asked: Options
) -> tuple[Sequence[Feature], Array]:
    """Features with their strides, and the cells of rows that far apart; the others are absent."""
    if not asked.ordered:
        return features, cells
    rng = np.random.default_rng([asked.seed, len(cells)])
    strided = []
    for own, feature in zip(cells.T, features, strict=True):
        strides = [rows_apart(own[rows]) for rows in rows_with_values(own, member)]
        strided.append(replace(feature, stride=max(strides)))
    return strided, thinned(cells, member, strided, rng)


# Units.


def _units_of(
    features: Sequence[Feature], cells: Array, member: Array, units: Array | None, asked: Options
) -> ReferenceUnits | None:
    """What is kept of the units of a reference, if there are units: `units` has each row's.

    Raises UsageError for fewer than 8 units, and for a unit with rows of several strata.
    """
    if units is None:
        return None
    found = int(units.max(initial=-1)) + 1
    kept = _kept_units(found, features, asked)
    strata = np.zeros(found, np.int64)
    strata[units] = member
    mixed = np.flatnonzero(strata[units] != member)
    if len(mixed):
        raise UsageError(
            f"a unit of the reference has rows of several strata ({asked.unit!r}, row "
            f"{mixed[0]:,}): a unit is compared with units of its stratum, so the stratum is one for "
            "all its rows, such as the weekday of a day; leave stratum= out"
        )
    place = np.full(found, -1)
    place[kept] = np.arange(len(kept))
    counts = count_by(cells, place[units], len(kept))
    return _reference_units(counts, strata[kept], features, found)


def units_of_tally(tally: Tally, features: Sequence[Feature], asked: Options) -> ReferenceUnits:
    """What is kept of the units of a tally.

    Raises UsageError for fewer than 8 units, and for a unit with rows of several strata.
    """
    found = len(tally.groups)
    if len({key for key, _ in tally.groups}) < found:
        raise UsageError("a unit of the tally has rows of several strata")
    kept = _kept_units(found, features, asked)
    strata = np.array([stratum for _, stratum in tally.groups])
    return _reference_units(tally.counts[kept], strata[kept], features, found)


def _kept_units(found: int, features: Sequence[Feature], asked: Options) -> Array:
    """The numbers of the units that are kept. Raises UsageError for too few."""
    unit = str(asked.unit)
    if found < FEWEST_UNITS:
        raise UsageError(
            f"the reference has {many(found, unit)}; a profile of {plural(unit)} needs "
            f"{FEWEST_UNITS}, and 50 to notice much"
        )
    most = most_units(len(features))
    if found <= most:
        return np.arange(found)
    return np.sort(np.random.default_rng(asked.seed).permutation(found)[:most])


def _reference_units(
    counts: Array, strata: Array, features: Sequence[Feature], found: int
) -> ReferenceUnits:
    table = group_table(features)
    shares = [shares_of(each, table) for each in counts]
    return ReferenceUnits(np.array(shares), strata, found)
