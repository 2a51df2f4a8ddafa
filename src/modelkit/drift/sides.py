"""The rows of both sides of a Profile: what its cells are made from, and what is counted in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.columns import ColumnsByName, length, read_columns, take_rows
from modelkit.drift.counts import Tally
from modelkit.drift.layout import differences
from modelkit.drift.outputs import class_names, watched_outputs
from modelkit.drift.repeats import check_shared
from modelkit.drift.row_times import row_seconds
from modelkit.drift.units import (
    BATCH_UNIT,
    CYCLES,
    FEWEST_UNITS,
    PERIODS,
    columns_aside,
    count_of,
    of_call,
)
from modelkit.embedding.recipe import TEXT
from modelkit.embedding.verbs import is_encoder
from modelkit.errors import UsageError
from modelkit.events import Advised, emit
from modelkit.model.model import PLAIN, Model
from modelkit.model.wrapper import check_is_model, has_several_versions

FEWEST_ROWS = 50  # on either side
OWN_ROWS = (
    "the model answers half of X as its reference: if it was trained on X, its answers to these rows "
    "are surer than to any later ones, which raises alarms; pass reference= rows that it has not seen"
)


@final
@dataclass(frozen=True)
class Options:
    """The arguments of `Profile.fit` beside the rows; see there."""

    model: Model | None
    scores: Any
    labels: Any
    losses: Any
    positive: Any
    ordered: bool
    stratum: str | None
    text: Sequence[str]
    importance: Mapping[str, float]
    unit: str | None
    time: str | None
    segments: Sequence[str]
    seed: int

    @property
    def needed(self) -> list[str]:
        """The columns with times and units."""
        return columns_aside(self.time, self.unit)

    @property
    def texts(self) -> set[str]:
        """The columns whose length counts, and not their words."""
        encodes = self.model is not None and is_encoder(self.model)
        return {*self.text, *[TEXT] * encodes}

    def weight(self, name: str) -> float:
        """The importance of a column or an output."""
        return float(self.importance.get(name, 1.0))

    @property
    def aside(self) -> list[str]:
        """The columns with strata, times and units, which are not features."""
        return [name for name in (self.stratum, *self.needed) if name is not None]


@dataclass(frozen=True)
class Sides:
    """The columns of the training rows and of the reference, and what is known of the latter's rows.

    Args:
        train: the columns of the training rows.
        reference: the columns of the reference.
        seconds: when each row of the reference was, float64 (n,); None where nothing was asked for.
        units: the number of the unit of each row, int64 (n,).
        timed: whether times name the stratum, and no column.
        train_answers: the answers of a model to the training rows, by output.
        reference_answers: its answers to the reference.
        class_names: of the model's probabilities.
    """

    train: ColumnsByName
    reference: ColumnsByName
    seconds: Array | None = None
    units: Array | None = None
    timed: bool = False
    train_answers: ColumnsByName = field(default_factory=dict)
    reference_answers: ColumnsByName = field(default_factory=dict)
    class_names: tuple[str, ...] = ()


def read_sides(X: Any, reference: Any, options: Options) -> Sides:
    """The rows of both sides without the columns set aside, and what these columns say.

    Without a reference half of X is held out: whole units where there are units.

    Raises:
        UsageError: for arguments that do not go together, columns that are absent, ambiguous or
            differ, values that are not times, and too few rows.
        SignatureError: for rows that cannot be read.
    """
    check_arguments(reference, options)
    sides = Sides(X, reference)
    if options.unit is not None or options.time is not None:
        sides = _marked(X, reference, options)
    sides = _read(sides, options)
    _check_columns(sides, None if sides.timed else options.stratum)
    if reference is not None:
        check_shared(sides.train, sides.reference)
    return sides


def _read(given: Sides, options: Options) -> Sides:
    """Both sides as columns, with the model's answers."""
    model = options.model
    read = read_columns if model is None else model.signature.coerce
    train = read(given.train)
    if given.reference is not None:
        held = read(given.reference)
    else:
        train, held = _halves(train, None, options)
        if model is not None:
            emit(Advised(OWN_ROWS))
    if model is None:
        return replace(given, train=train, reference=held)
    signature = model.signature
    outputs = watched_outputs(signature)
    model._check_access("predict")
    return replace(
        given,
        train=signature.columns(train),
        reference=signature.columns(held),
        train_answers=model._run(train, outputs, PLAIN),
        reference_answers=model._run(held, outputs, PLAIN),
        class_names=class_names(signature),
    )


def _halves(
    columns: ColumnsByName, units: Array | None, options: Options
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Half of the rows, or the rows of half of the units, and the others."""
    if units is None:
        units = np.arange(length(columns))
    order = np.unique(units)
    if not options.ordered:
        order = np.random.default_rng(options.seed).permutation(order)
    first = np.isin(units, order[: len(order) // 2])
    return take_rows(columns, first), take_rows(columns, ~first)


# Times and units.


def _marked(X: Any, reference: Any, options: Options) -> Sides:
    """Both sides without the columns of times and units, and what these say of the reference."""
    train = _columns(X, options)
    batches = None
    if reference is not None:
        held, batches = _held(reference, options)
    elif options.unit == BATCH_UNIT:
        raise UsageError("with unit='batch' pass reference=, a list of batches")
    else:
        train, held = _halves(train, _marks(train, None, options)[1], options)
    seconds, units = _marks(held, batches, options)
    if options.ordered and seconds is not None and (np.diff(seconds) < 0).any():
        raise UsageError(
            f"the reference is not in the order of {options.time!r}: sort it, or leave out "
            "ordered=True"
        )
    timed = seconds is not None and options.stratum in CYCLES and options.stratum not in held
    return Sides(_stripped(train, options), _stripped(held, options), seconds, units, timed)


def _columns(X: Any, options: Options) -> dict[str, Array]:
    columns = read_columns(X)
    ambiguous = options.unit in (*PERIODS, BATCH_UNIT) and options.unit in columns
    if ambiguous and options.unit != options.time:
        raise UsageError(
            f"unit={options.unit!r} may mean the column {options.unit!r} or a {options.unit} by itself; "
            "rename the column, or leave it out"
        )
    return columns


def _held(reference: Any, options: Options) -> tuple[dict[str, Array], Array | None]:
    """The columns of the reference, and of batches the number of each row's."""
    if options.unit != BATCH_UNIT:
        return _columns(reference, options), None
    if not isinstance(reference, Sequence) or len(reference) < FEWEST_UNITS:
        raise UsageError(
            f"with unit='batch' the reference is a list of {FEWEST_UNITS} batches or more, each as "
            "update() takes it"
        )
    batches = [_columns(batch, options) for batch in reference]
    names = [set(batch) for batch in batches]
    if any(own != names[0] for own in names):
        raise UsageError(f"the batches of the reference differ in their columns: {names[:2]}")
    joined = {}
    for name in batches[0]:
        parts = [batch[name] for batch in batches]
        masked = any(map(np.ma.isMaskedArray, parts))
        joined[name] = np.ma.concatenate(parts) if masked else np.concatenate(parts)  # type: ignore[no-untyped-call]
    return joined, np.repeat(np.arange(len(batches)), [length(batch) for batch in batches])


def _marks(
    held: ColumnsByName, batches: Array | None, options: Options
) -> tuple[Array | None, Array | None]:
    """The time and the unit of each row, as in `Sides`."""
    absent = [name for name in options.needed if name not in held]
    if absent:
        periods_too = (
            "" if absent[0] == options.time else "; a unit is also 'day', 'week' or 'batch'"
        )
        raise UsageError(
            f"the reference lacks the column {absent[0]!r}; it has {list(held)}{periods_too}",
            feature=absent[0],
        )
    seconds = None if options.time is None else row_seconds(held[options.time], options.time)
    units = batches
    if options.unit is not None and batches is None:
        units = np.zeros(length(held), np.int64)
        parts = of_call(options.unit, held.get(options.unit), seconds, len(units))
        for number, part in enumerate(parts):
            units[part.rows] = number
    return seconds, units


def _stripped(columns: dict[str, Array], options: Options) -> dict[str, Array]:
    """The columns without times and units, unless the model takes them."""
    taken = () if options.model is None else options.model.signature.column_names
    return {
        name: column
        for name, column in columns.items()
        if name not in options.needed or name in taken
    }


# Refusals.


def check_arguments(reference: Any, options: Options) -> None:
    """Raise UsageError for arguments that do not go together, TypeError for no Model."""
    if options.model is not None:
        check_is_model(options.model, "Profile.fit(model=)")
        if has_several_versions(options.model):
            raise UsageError(
                "a Profile describes the answers of one version, and a Rollout has several: pass the "
                "Model of one, as registry.load(name, version) gives it"
            )
    for name in ("stratum", "unit", "time"):
        column = getattr(options, name)
        if column is not None and not isinstance(column, str):
            raise UsageError(f"{name}= is the name of one column, a string; got {column!r:.80}")
    labelled = options.labels is not None or options.losses is not None
    if options.positive is not None and options.labels is None:
        raise UsageError("positive= is for estimates that labels= calibrates: pass both")
    if reference is None and (options.scores is not None or labelled):
        raise UsageError(
            "scores, labels and losses belong to the reference rows: pass reference= as well"
        )
    if options.model is not None and options.scores is not None:
        raise UsageError("pass the model or its scores, not both")
    _check_one_reference(reference, options)
    _check_features(options)
    _check_segments(options)
    _check_units(options)


def _check_one_reference(reference: Any, options: Options) -> None:
    """Raise UsageError for a list of tables or tallies where the rows of one are needed."""
    if not isinstance(reference, list | tuple) or not reference:
        return
    first = reference[0]
    if isinstance(first, Tally):
        raise UsageError("the reference is several tallies: pass Tally.total(reference), their sum")
    table = hasattr(first, "columns") or getattr(first, "ndim", 0) == 2
    if table and options.unit != BATCH_UNIT:
        raise UsageError(
            "the reference is several tables: concatenate them, or pass unit='batch' to compare each "
            "as a whole"
        )


def _check_features(options: Options) -> None:
    for what, names in (("text", options.text), ("segments", options.segments)):
        if isinstance(names, str):
            raise UsageError(f"{what} is a sequence of columns; pass ({names!r},)")
    odd = {
        name: weight
        for name, weight in options.importance.items()
        if not isinstance(weight, Real) or not 0 <= weight < float("inf")
    }
    if odd:
        raise UsageError(f"an importance is a number, 0 or more; got {odd}")


def _check_segments(options: Options) -> None:
    names = options.segments
    if names and options.stratum is not None:
        raise UsageError(
            f"segments and stratum do not go together: the alarms of a stratum of {options.stratum!r} "
            "say already where the change is"
        )
    if names and options.unit is not None:
        raise UsageError(
            "segments and unit do not go together: rows in segments are tested one by one, and with "
            f"unit={options.unit!r} they cannot be; leave one out"
        )


def _check_units(options: Options) -> None:
    unit = options.unit
    if unit is None:
        return
    if unit in PERIODS and options.time is None:
        raise UsageError(
            f"unit={unit!r} needs time=: the name of the column with the time of each row"
        )
    if unit not in PERIODS and unit == options.time:
        raise UsageError(f"unit and time both name the column {unit!r}; for days pass unit='day'")
    if options.ordered:
        raise UsageError(
            "unit= compares whole units and takes every row, ordered=True takes rows some way "
            "apart: pass one of them"
        )


def check_tallied(options: Options) -> None:
    """Raise UsageError for arguments that need rows, where the reference is a tally."""
    given = {"scores": options.scores, "labels": options.labels, "losses": options.losses}
    odd = [name for name, value in given.items() if value is not None]
    odd += ["segments"] * bool(options.segments) + ["ordered"] * options.ordered
    if odd:
        raise UsageError(
            f"a reference that is a tally has counts and no rows: leave out {', '.join(odd)}"
        )


def check_enough(rows: int, what: str) -> None:
    """Raise UsageError for fewer rows than a side of a profile needs."""
    if rows < FEWEST_ROWS:
        raise UsageError(
            f"{what} has {count_of(rows, 'row')} left; a profile needs {FEWEST_ROWS} on each side, and 5,000 to "
            "notice much. Without reference=, half of the rows or units of X are held out as one"
        )


def _check_columns(both: Sides, stratum: str | None) -> None:
    """Raise UsageError unless both sides have the same columns, the stratum's, and enough rows."""
    train = both.train
    if not train:
        raise UsageError("the rows lack columns")
    has = "the reference has the columns {}, which X does not have"
    if said := differences(train, both.reference, "the reference lacks the columns {}", has):
        raise UsageError(said)
    if stratum is not None and (stratum not in train or train[stratum].ndim != 1):
        raise UsageError(
            f"unknown column {stratum!r} for strata; there are {list(train)}, and "
            "'weekday' and 'hour' where time= names the column of times"
        )
    for name, column in train.items():
        if column.ndim > 2:
            raise UsageError(
                f"{name!r} has {column.ndim} dimensions, as images have, and a Profile describes numbers, "
                "texts and vectors: pass a dict of numbers that you compute from each, such as its mean, "
                "and the answers of the model as scores="
            )
    for what, side in (("X", train), ("reference", both.reference)):
        check_enough(length(side), what)
