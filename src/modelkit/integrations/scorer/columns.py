"""Which columns of rows a Scorer reads: told by their names and types, before anything is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from modelkit.errors import SignatureError
from modelkit.signature.column_names import missing_columns, refused_rows
from modelkit.signature.signature import Signature
from modelkit.signature.spec import TensorSpec


def names_read(signature: Signature, known: Iterable[str]) -> tuple[str, ...]:
    """The columns of a model, or its tensors where rows have these whole in place of all columns."""
    columns = column_names(signature)
    tensors = [spec.name for spec in signature.inputs]
    there = set(known)
    if there.issuperset(tensors) and there.isdisjoint(columns):
        return tuple(tensors)
    names = []
    for spec in signature.inputs:
        names += [column.name for column in spec.columns] or [spec.name]
    return tuple(names)


def column_names(signature: Signature) -> set[str]:
    """The names of the columns of all tensors."""
    return {column.name for spec in signature.inputs for column in spec.columns}


def whole_tensors(signature: Signature, read: Sequence[str]) -> list[TensorSpec]:
    """The tensors that a column has whole, where these names are read."""
    there = set(read) - column_names(signature)
    return [spec for spec in signature.inputs if spec.name in there]


def check_read(read: Sequence[str], known: Sequence[str]) -> None:
    """Raise SignatureError, with the likely name, where a column is not among those known, or twice."""
    counts = Counter(known)
    absent = [name for name in read if name not in counts]
    if absent:
        others = [*counts.keys() - set(read)]
        raise refused_rows(missing_columns(absent, sorted(others)))
    twice = [name for name in read if counts[name] > 1]
    if twice:
        raise SignatureError(f"the rows have several columns of the names {twice}")


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
