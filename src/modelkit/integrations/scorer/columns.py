"""Which columns of rows a Scorer reads, by their names and types, and which it adds for each output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import SignatureError
from modelkit.signature.column_names import missing_columns, refused_rows
from modelkit.signature.signature import Signature
from modelkit.signature.spec import AS_OBJECTS, TensorSpec, names_of


def names_read(signature: Signature, known: Iterable[str]) -> tuple[str, ...]:
    """The columns of a model, or its tensors where rows have these whole in place of all columns."""
    tensors = [spec.name for spec in signature.inputs]
    there = set(known)
    if there.issuperset(tensors) and there.isdisjoint(signature.column_names):
        return tuple(tensors)
    return tuple(names_of(signature.inputs))


def whole_tensors(signature: Signature, read: Sequence[str]) -> list[TensorSpec]:
    """The tensors that a column has whole, where these names are read."""
    there = set(read).difference(signature.column_names)
    return [spec for spec in signature.inputs if spec.name in there]


def check_read(read: Sequence[str], known: Sequence[str]) -> None:
    """Raise SignatureError, with the likely name, where a column is not among those known, or twice."""
    there = set(known)
    absent = [name for name in read if name not in there]
    if absent:
        raise refused_rows(missing_columns(absent, sorted(there.difference(read))))
    twice = repeated(known, read)
    if twice:
        raise SignatureError(f"the rows have several columns of the names {twice}")


def repeated(names: Iterable[str], among: Container[str] | None = None) -> list[str]:
    """The names that come more than once, of all or of some."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    return [name for name in twice if among is None or name in among]


def check_no_decimals(read: Sequence[str], known: Sequence[str], kinds: Sequence[object]) -> None:
    """Raise SignatureError where an engine calls the type of a column that is read a decimal."""
    kind_of = dict(zip(known, map(str, kinds), strict=True))
    odd = [name for name in read if kind_of[name].startswith("decimal")]
    if odd:
        raise SignatureError(
            f"the columns {odd} are decimals ({kind_of[odd[0]]}), which a tensor does not hold "
            'exactly; cast them first: column.cast("float64") in Arrow, col(name).cast("double") '
            "in Spark"
        )


@dataclass(frozen=True)
class ScoredOutput:
    """One output: a value a row, or several that have a label each.

    `labels` is None for one value a row. `size` is the number of values, None where it depends on
    the rows.
    """

    name: str
    dtype: str
    labels: tuple[str, ...] | None = None
    size: int | None = None

    @property
    def is_single(self) -> bool:
        """Whether a row has one value."""
        return self.labels is None and self.size == 1

    @property
    def is_text(self) -> bool:
        """Whether its values are strings."""
        return self.dtype in AS_OBJECTS

    def column_names(self, width: int) -> list[str]:
        """The names of the columns that a frame gets of it, for so many values a row."""
        if self.is_single:
            return [self.name]
        labels = self.labels or map(str, range(width))
        return [f"{self.name}_{label}" for label in labels]

    def columns(self, values: Array) -> list[tuple[str, Array]]:
        """Its values, (n,) or (n, width), as names and columns (n,)."""
        if self.is_single:
            return [(self.name, values)]
        return list(zip(self.column_names(values.shape[1]), values.T, strict=True))


def scored_output(spec: TensorSpec, signature: Signature) -> ScoredOutput:
    """How an output of a model appears beside its rows.

    Raises SignatureError for an output without an axis of rows, or of more than two dimensions.
    """
    if not spec.shape or spec.shape[0] != signature.row_dim or len(spec.shape) > 2:
        shape = ", ".join(map(str, spec.shape))
        raise SignatureError(
            f"output {spec.name!r} has shape ({shape}), which is not a column beside the rows: name "
            "the outputs that you want by outputs="
        )
    if len(spec.shape) == 1:
        return ScoredOutput(spec.name, spec.dtype, size=1)
    size = spec.shape[1] if isinstance(spec.shape[1], int) else None
    labels: tuple[str, ...] | None = None
    if size == 1:
        labels = ("0",)  # a list of one value all the same
    if spec.name == "probabilities" and signature.classes is not None:
        labels = tuple(map(str, signature.classes))
        size = len(labels)
    return ScoredOutput(spec.name, spec.dtype, labels, size)


def check_columns_apart(outputs: Sequence[ScoredOutput], keep: Sequence[str]) -> None:
    """Raise SignatureError where a kept column and an output would have the same name."""
    made = [output.name for output in outputs]
    if repeated(made):
        raise SignatureError(
            f"the model has outputs of the names that an explanation adds, in {made}; choose among "
            "its outputs by outputs="
        )
    taken = set(made)
    for output in outputs:
        taken.update(output.column_names(output.size or 0))
    both = sorted(taken.intersection(keep))
    if both or repeated(keep):
        raise SignatureError(
            f"keep={list(keep)} and the outputs {made} share names ({both or 'twice in keep'}); "
            "rename the columns of the rows, or choose among the outputs by outputs="
        )


def check_kept(keep: Sequence[str], known: Sequence[str]) -> None:
    """Raise SignatureError where a column that is to be passed on is not there once."""
    twice = repeated(known, keep)
    if twice:
        raise SignatureError(f"keep names {twice}, and the rows have several columns of that name")
    absent = [name for name in keep if name not in known]
    if absent:
        raise SignatureError(f"keep names {absent}, and the rows have the columns {list(known)}")


def check_lengths(kept: Mapping[str, Array], added: Mapping[str, Array]) -> None:
    """Raise SignatureError where a kept column has another number of rows than the outputs."""
    rows = max(map(len, added.values()))
    odd = [name for name, values in kept.items() if not _has_rows(values, rows)]
    if odd:
        raise SignatureError(f"the model was given {rows} rows, and keep has others in {odd}")


def _has_rows(values: Any, rows: int) -> bool:
    """Whether a column has so many values; a text or a number is not a column."""
    if isinstance(values, list | tuple):  # of values of any kind, which may be no array
        return len(values) == rows
    return not isinstance(values, str | bytes) and np.shape(values)[:1] == (rows,)


def check_known_widths(outputs: Sequence[ScoredOutput], engine: str) -> None:
    """Raise SignatureError for an output of which only rows tell the number of columns."""
    odd = [output.name for output in outputs if output.size is None]
    if odd:
        raise SignatureError(
            f"the outputs {odd} have as many values a row as the rows say, and {engine} needs to "
            "know the columns of a frame before; choose others by outputs=, or score Arrow tables, "
            "as Ray and Spark do, where each output is one column of lists"
        )


def check_side_by_side(names: Iterable[str]) -> None:
    """Raise SignatureError where two columns of a frame would have one name."""
    twice = repeated(names)
    if twice:
        raise SignatureError(
            f"several columns of the frame would be named {twice}; score an Arrow table, where each "
            "output is one column, or rename columns or choose among the outputs by outputs="
        )


def listed_names(names: Sequence[str], what: str) -> tuple[str, ...]:
    """Names that a caller gave.

    Raises SignatureError for a text, whose letters would be names, for a set, which lacks an order,
    and for names that are not texts.
    """
    if isinstance(names, str):
        raise SignatureError(f"{what} is a list of names, not the text {names!r}")
    if isinstance(names, AbstractSet):
        raise SignatureError(f"{what} is a list of names, in their order, and a set has none")
    listed = tuple(names)
    odd = [name for name in listed if not isinstance(name, str)]
    if odd:
        raise SignatureError(f"{what} has the names {odd}, which are not texts: {[*map(str, odd)]}")
    return listed
