"""From a caller's rows to cells: the one way, for what is fitted, watched, tested and tallied."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import ABSENT, Feature
from modelkit.drift.columns import places_in, read_columns, stratum_names
from modelkit.drift.outputs import check_classes, class_names, name_outputs, output_columns
from modelkit.drift.row_times import given_seconds, row_seconds
from modelkit.drift.units import UnitRows, columns_aside, cycle_names, needed_times, of_call
from modelkit.drift.vectors import Basis, expand, source_of
from modelkit.errors import UsageError
from modelkit.signature.column_names import missing_columns
from modelkit.signature.signature import Signature
from modelkit.signature.spec import names_of

NAMES_SHOWN = 6  # names of columns in a message


@final
@dataclass(frozen=True, eq=False)
class Rows:
    """The n rows of one call, and where each belongs.

    Args:
        cells: uint8 (n, d), 255 where a row lacks a value for a feature.
        strata: the number of each row's stratum, int64 (n,), -1 for one that the reference does not
            have; None without strata.
        seconds: when each was, in POSIX seconds, float64 (n,); None where nothing says it.
        units: the rows of each unit; None without units.
        columns: what the cells are made from, by feature name.
        answers: the model's, by output; empty where a call has none.
    """

    cells: Array
    strata: Array | None
    seconds: Array | None
    units: list[UnitRows] | None
    columns: Mapping[str, Array]
    answers: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.cells)


@final
@dataclass(frozen=True, eq=False)
class Layout:
    """What says where a row belongs: features and their cells, strata, and units.

    Args:
        features: the d features.
        bases: what makes numbers of embeddings.
        strata: the names of the strata.
        stratum: the column that names them, or what of a row's time does; None without strata.
        timed: whether times name the stratum, and no column.
        unit: what is compared as a whole; None for rows.
        time: the column of times.
        class_names: of the probabilities, in their order; empty where they are not known.
    """

    features: tuple[Feature, ...]
    bases: tuple[Basis, ...]
    strata: tuple[str, ...]
    stratum: str | None
    timed: bool
    unit: str | None
    time: str | None
    class_names: tuple[str, ...]

    def encode(self, X: Any, scores: Any, at: Any) -> Rows:
        """The rows of one call, as `Detector.update` takes it.

        Raises UsageError for rows that do not fit, SignatureError for rows that cannot be read.
        """
        if X is None and scores is None:
            raise UsageError("there are neither rows nor scores")
        columns = {} if X is None else self.columns(X)
        answers = {}
        if scores is not None:
            answers = name_outputs(scores, self.outputs(), self.class_names)
            columns |= self._output_columns(answers)
        return self.encode_columns(columns, at, answers)

    def encode_columns(
        self, columns: Mapping[str, Array], at: Any, answers: Mapping[str, Array] | None = None
    ) -> Rows:
        """Rows with these columns, (n,) each, where embeddings are numbers already.

        `at` says when they were, where no column does. Raises UsageError for columns of different
        lengths, for times that are given twice, or needed and absent, and for rows without a
        stratum or a unit.
        """
        lengths = {len(column): name for name, column in columns.items()}
        if len(lengths) > 1:
            raise UsageError(f"rows and scores have different lengths, such as {lengths}")
        n = max(lengths, default=0)
        seconds = self._seconds(columns, at, n)
        names = self.strata_of(columns, seconds)
        strata = None if names is None else places_in(self.strata, names)
        units = None
        if self.unit is not None:
            units = of_call(self.unit, columns.get(self.unit), seconds, n)
        return Rows(self.cells(columns, n), strata, seconds, units, columns, answers or {})

    def cells(self, columns: Mapping[str, Array], n: int) -> Array:
        """The cells of n rows with these columns, uint8 (n, d); 255 for a feature without one."""
        cells = np.full((n, len(self.features)), ABSENT, np.uint8)
        for j, feature in enumerate(self.features):
            if feature.name in columns:
                cells[:, j] = feature.cells(columns[feature.name])
        return cells

    def _seconds(self, columns: Mapping[str, Array], at: Any, n: int) -> Array | None:
        if self.time is None or self.time not in columns:
            return None if at is None else given_seconds(at, n)
        if at is not None:
            raise UsageError(f"the rows have their times in column {self.time!r}; leave out at=")
        return row_seconds(columns[self.time], self.time)

    def strata_of(self, columns: Mapping[str, Array], seconds: Array | None) -> list[str] | None:
        """The name of each row's stratum; None without strata.

        Raises UsageError for rows that lack the column or the times of the stratum.
        """
        name = self.stratum
        if name is None:
            return None
        if self.timed:
            return stratum_names(cycle_names(needed_times(seconds, name), name))
        if name not in columns:
            raise UsageError(
                f"the rows lack the column {name!r}, which names the stratum", feature=name
            )
        return stratum_names(columns[name])

    def _output_columns(self, answers: Mapping[str, Array]) -> dict[str, Array]:
        known = self.outputs()
        columns = output_columns(answers)
        check_classes(columns, known)
        odd = sorted(set(columns) - known)
        if odd:
            raise UsageError(
                f"the profile lacks the scores {odd}; it has {sorted(known)}; to watch these, fit it with "
                "model= or scores="
            )
        return expand(columns, self.bases)

    # The columns that are looked at.

    def columns(self, X: Any) -> dict[str, Array]:
        """The columns of the caller's rows that are looked at, by name; embeddings as numbers.

        Raises UsageError where one is missing, with the nearest name.
        """
        found = read_columns(X)
        wanted = self.sources()
        if self.time in found:
            wanted.append(str(self.time))
        self.check_columns(list(found))
        return expand({name: found[name] for name in wanted}, self.bases)

    def check_columns(self, known: Sequence[str]) -> None:
        """Raise UsageError, with the nearest name, where rows with these columns lack one."""
        sources = self.sources()
        absent = [name for name in sources if name not in known]
        if absent:
            others = [name for name in known if name not in sources]
            problems = missing_columns(absent[:NAMES_SHOWN], others)
            more = f" and {len(absent) - NAMES_SHOWN:,} more" if len(absent) > NAMES_SHOWN else ""
            there = f"; the rows have {first_names(others)} besides" if others else ""
            raise UsageError(
                f"the rows do not fit the profile: {', '.join(problems)}{more}{there}",
                feature=absent[0],
            )

    def sources(self) -> list[str]:
        """The columns that rows must have: inputs, and the ones with strata, times and units."""
        inputs = [feature.name for feature in self.features if not feature.output]
        names = list(dict.fromkeys(source_of(name, self.bases) for name in inputs))
        if self.stratum is not None and not self.timed:
            names.append(self.stratum)
        aside = columns_aside(self.time, self.unit)
        return names + [name for name in aside if name not in (*names, self.time)]

    def outputs(self) -> set[str]:
        """The names of the outputs that are looked at, before embeddings are made into numbers."""
        names = [feature.name for feature in self.features if feature.output]
        return {source_of(name, self.bases) for name in names}

    def wanted(self) -> frozenset[str]:
        """The columns and outputs that are looked at, before embeddings are made into numbers."""
        return frozenset(self.sources()) | self.outputs()

    def check_same(self, other: Layout) -> None:
        """Raise UsageError unless another one is of the same columns and outputs."""
        mine = self.wanted()
        theirs = other.wanted()
        same = (self.stratum, self.unit, self.time) == (other.stratum, other.unit, other.time)
        if mine == theirs and not same:
            raise UsageError(
                "the new reference differs in its stratum, unit or time; fit it with the same arguments"
            )
        if mine != theirs:
            raise UsageError(
                f"the new reference has other columns: it lacks {sorted(mine - theirs)} and has "
                f"others, {sorted(theirs - mine)}; a model with other columns needs a Detector of its "
                "own"
            )

    def check(self, signature: Signature) -> None:
        """Raise UsageError unless a model takes these columns, and gives these outputs.

        Embeddings have the same width in both, and classes the same names in the same order, where
        they are known.
        """
        _check_sources(self.sources(), self.time, signature)
        given = {"confidence": "probabilities"}
        heads = {name.partition("[")[0] for name in self.outputs()}
        strange = [
            head for head in sorted(heads) if given.get(head, head) not in signature.output_names
        ]
        if strange:
            raise UsageError(
                f"the profile has the scores {strange}; the model gives {list(signature.output_names)}"
            )
        theirs = class_names(signature)
        if self.class_names and self.class_names != theirs:
            raise UsageError(
                f"the profile is of a model with the classes {first_names(self.class_names)}, and "
                f"this one has {first_names(theirs)}: fit the profile with model= of this one"
            )
        widths = {
            own.name: own.shape[-1] for own in signature.inputs + signature.outputs if own.shape
        }
        for basis in self.bases:
            width = widths.get(basis.name)
            if isinstance(width, int) and width != len(basis.mean):
                raise UsageError(
                    f"the profile knows {basis.name!r} as vectors of {len(basis.mean)}, and the "
                    f"model's have {width}: fit it on whole ones",
                    feature=basis.name,
                )


def shared_weights(features: Sequence[Feature]) -> tuple[Feature, ...]:
    """Features whose weights sum to one. Raises UsageError where none has any."""
    total = sum(feature.weight for feature in features)
    if not total > 0:
        raise UsageError("no feature has an importance above zero")
    return tuple(replace(feature, weight=feature.weight / total) for feature in features)


def _check_sources(sources: Sequence[str], time: str | None, signature: Signature) -> None:
    known = names_of(signature.inputs)
    given = [*sources, time] if time in known else sources
    has = "it has {}, which the model does not take"
    if said := differences(known, given, "the profile lacks {}", has):
        raise UsageError(
            f"the profile and the model's signature differ in the columns: {said}; fit the profile "
            "on rows as the model takes them (with importance={'a column': 0} for one that is not "
            "to be watched), or give rows with more columns to Detector.update, with scores=",
            columns=sorted({*known} ^ {*given}),
        )


def differences(wanted: Collection[str], given: Collection[str], lacks: str, has: str) -> str:
    """What is absent and what is there beside it, each in its words, where there is any."""
    absent = [name for name in wanted if name not in given]
    others = [name for name in given if name not in wanted]
    return ", and ".join(
        words.format(first_names(names))
        for words, names in ((lacks, absent), (has, others))
        if names
    )


def first_names(names: Sequence[str]) -> str:
    """The first of many names, in words."""
    more = len(names) - NAMES_SHOWN
    shown = f"{[*names[:NAMES_SHOWN]]}"
    return f"{shown} and {more:,} more" if more > 0 else shown
