"""From rows, or the tally of a reference, to a Profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.advice import advise
from modelkit.drift.cells import ABSENT, Feature, fit_feature
from modelkit.drift.columns import feature_kind, fifth, length, places_in, take_rows
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
from modelkit.errors import UsageError
from modelkit.events import Advised, emit

MOST_STRATA = 64


def of_rows(X: Any, reference: Any, options: Options) -> dict[str, Any]:
    """The fields of a Profile of rows, by name. Raises what `Profile.fit` says."""
    sides, fitted = _with_scores(read_sides(X, reference, options), options)
    layout, share = _layout_of(sides, options)
    strata, member = _strata_of(layout, sides)
    columns = expand({**sides.reference, **output_columns(sides.reference_answers)}, layout.bases)
    cells = layout.cells(columns, length(sides.reference))
    outputs = np.flatnonzero([feature.output for feature in layout.features])
    cells[np.ix_(fitted, outputs)] = ABSENT
    features, counts = _counts(layout.features, cells, member, len(strata), options)
    return {
        "layout": replace(layout, strata=strata, features=tuple(features)),
        "counts": counts,
        "rows": len(cells),
        "train_rows": length(sides.train),
        "ordered": options.ordered,
        "advice": advise(features, cells, sides, options),
        "units": _units_of(features, cells, member, sides.units, options),
        "segments": fit_segments(options.segments, features, cells),
        **fit_labels(sides.reference_answers, len(cells), share, options),
    }


# Features.


def _with_scores(sides: Sides, options: Options) -> tuple[Sides, Array]:
    """Both sides with the answers that were passed as scores, if there are any.

    Also returns the numbers of the reference rows whose answers make cells, and are not counted.
    """
    if options.scores is None:
        return sides, np.empty(0, np.int64)
    served = name_outputs(options.scores)
    rows = length(sides.reference)
    odd = {name: len(column) for name, column in served.items() if len(column) != rows}
    if odd:
        raise UsageError(
            f"scores must have one entry for each of the {rows} reference rows; got {odd}"
        )
    if sides.units is None:
        fitted, _ = fifth(rows, ordered=options.ordered, seed=options.seed)
    else:  # a unit without a fifth of its rows would be compared with whole ones
        mine, _ = fifth(int(sides.units.max()) + 1, ordered=False, seed=options.seed)
        fitted = np.flatnonzero(np.isin(sides.units, mine))
    return replace(sides, train_answers=take_rows(served, fitted), reference_answers=served), fitted


def _layout_of(sides: Sides, options: Options) -> tuple[Layout, float]:
    """Where rows belong, without strata yet; and the share of alpha that labels have."""
    features, bases = _fit_features(sides, options)
    _check_names([feature.name for feature in features], options)
    layout = Layout(
        features=shared_weights(features),
        bases=tuple(bases),
        strata=(),
        stratum=options.stratum,
        timed=sides.timed,
        unit=options.unit,
        time=options.time,
        class_names=sides.class_names,
    )
    own = options.weight(TARGET)
    return layout, own / (own + sum(feature.weight for feature in features))


def _fit_features(sides: Sides, options: Options) -> tuple[list[Feature], list[Basis]]:
    """The features of training columns and answers, and the bases of embeddings.

    A feature's weight is the importance of its column, divided among the numbers that the column is
    made into; all classes together count as one column.
    """
    answers = output_columns(sides.train_answers)
    columns = [(name, own, False) for name, own in sides.train.items() if name not in options.aside]
    columns += [(name, own, True) for name, own in answers.items()]
    classes = sum(name.startswith(PER_CLASS) for name in answers)
    features: list[Feature] = []
    bases: list[Basis] = []
    for name, column, output in columns:
        weight = options.weight(name)
        if output and name.startswith(PER_CLASS):
            weight = options.weight(OF_CLASSES) / classes
        numbers = {name: column}
        if column.ndim == 2:
            bases.append(fit_basis(column, name, options.seed))
            numbers = bases[-1].numbers(column)
        of_text = not output and name in options.texts
        for part, values in numbers.items():
            kind = "text" if of_text else feature_kind(part, values)
            share = weight / len(numbers)
            features.append(fit_feature(part, kind, values, output=output, weight=share))
    return features, bases


def _check_names(names: list[str], options: Options) -> None:
    """Raise UsageError for two features of one name, and for asked names that no feature has.

    Labels make a feature of their own.
    """
    names += [TARGET] * (options.labels is not None)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"columns and outputs share the names {twice}; rename the columns")
    known = {*names, *(name.split(": ")[0] for name in names)}
    known |= {OF_CLASSES for name in names if name.startswith(PER_CLASS)}
    unknown = sorted({*options.texts, *options.importance} - known)
    if unknown:
        raise UsageError(
            f"text or importance names {unknown}, which is not a feature; there are {names}"
        )


# The reference.


def _strata_of(layout: Layout, sides: Sides) -> tuple[tuple[str, ...], Array]:
    """The names of the strata, and the number of each reference row's stratum, int64 (n,)."""
    names = layout.strata_of(sides.reference, sides.seconds)
    if names is None:
        return ("",), np.zeros(length(sides.reference), np.int64)
    known = sorted(set(names))
    if len(known) > MOST_STRATA:
        raise UsageError(
            f"column {layout.stratum!r} has {len(known)} values; at most {MOST_STRATA} strata are "
            "kept apart"
        )
    return tuple(known), places_in(known, names)


def _counts(
    features: Sequence[Feature], cells: Array, member: Array, strata: int, options: Options
) -> tuple[Sequence[Feature], Array]:
    """Features with their strides, and the counts (strata, d, 67) of rows that far apart."""
    if options.ordered:
        rng = np.random.default_rng([options.seed, len(cells)])
        strided = []
        for own, feature in zip(cells.T, features, strict=True):
            strides = [rows_apart(own[rows]) for rows in rows_with_values(own, member)]
            strided.append(replace(feature, stride=max(strides)))
        features = strided
        cells = thinned(cells, member, features, rng)
    counts = count_by(cells, member, strata)
    sparse = sparse_text(features, counts)
    if sparse is not None:
        emit(Advised(sparse))
    return features, counts


# Units.


def _units_of(
    features: Sequence[Feature], cells: Array, member: Array, units: Array | None, options: Options
) -> ReferenceUnits | None:
    """What is kept of the units of a reference, if there are units: `units` has each row's.

    Raises UsageError for fewer than 8 units, and for a unit with rows of several strata.
    """
    if units is None:
        return None
    strata = np.zeros(int(units.max(initial=-1)) + 1, np.int64)
    strata[units] = member
    mixed = np.flatnonzero(strata[units] != member)
    if len(mixed):
        raise UsageError(
            f"a unit of the reference has rows of several strata ({options.unit!r}, row "
            f"{mixed[0]:,}): a unit is compared with units of its stratum, so the stratum is one for "
            "all its rows, such as the weekday of a day; leave stratum= out"
        )

    def counts(kept: Array) -> Array:
        place = np.full(len(strata), -1)
        place[kept] = np.arange(len(kept))
        return count_by(cells, place[units], len(kept))

    return _kept_units(counts, strata, features, options)


def units_of_tally(tally: Tally, features: Sequence[Feature], options: Options) -> ReferenceUnits:
    """What is kept of the units of a tally.

    Raises UsageError for fewer than 8 units, and for a unit with rows of several strata.
    """
    if len({key for key, _ in tally.groups}) < len(tally.groups):
        raise UsageError("a unit of the tally has rows of several strata")
    strata = np.array([stratum for _, stratum in tally.groups])
    return _kept_units(lambda kept: tally.counts[kept], strata, features, options)


def _kept_units(
    counts: Callable[[Array], Array], strata: Array, features: Sequence[Feature], options: Options
) -> ReferenceUnits:
    """Units of these strata, a random part of too many; `counts` gives the counts of some units."""
    unit = str(options.unit)
    found = len(strata)
    if found < FEWEST_UNITS:
        raise UsageError(
            f"the reference has {many(found, unit)}; a profile of {plural(unit)} needs "
            f"{FEWEST_UNITS}, and 50 to notice much"
        )
    kept = np.arange(found)
    most = most_units(len(features))
    if found > most:
        kept = np.sort(np.random.default_rng(options.seed).permutation(found)[:most])
    table = group_table(features)
    shares = [shares_of(each, table) for each in counts(kept)]
    return ReferenceUnits(np.array(shares), strata[kept], found)
