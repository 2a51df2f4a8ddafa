"""Does a candidate take every row that the champion takes, and give the same outputs? Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelkit.signature.signature import Signature
from modelkit.signature.spec import NUMERIC, Column, TensorSpec

FLOATS = ("float32", "float64")
MOST_NAMED = 5  # columns in a message


def incompatibilities(champion: Signature, candidate: Signature) -> tuple[str, ...]:
    """Every reason why one model cannot answer in place of the other; none where it can.

    Columns that only the candidate reads have to be ones that the champion's rows may have.
    """
    found = breaches(champion, candidate)
    gaps = refused_gaps(champion, candidate)
    if not gaps:
        return found
    told = (
        f"it takes no missing values in {some_of(gaps)}, and the champion does. If rows have none "
        "there, save the champion so: mk.save(..., nullable=False), or nullable=[...] with the names "
        "of the columns that may be missing; if they have, fill them in within the candidate, as by a "
        "SimpleImputer"
    )
    return (*found, told)


def breaches(champion: Signature, candidate: Signature) -> tuple[str, ...]:
    """As `incompatibilities`, but for missing values, which rows may never have."""
    return (*_inputs(champion, candidate), *_outputs(champion, candidate))


def refused_gaps(champion: Signature, candidate: Signature) -> tuple[str, ...]:
    """The names of the columns and tensors that only the champion takes missing values in."""
    ours, theirs = _refusing(champion), _refusing(candidate)
    return tuple(name for name, refuses in ours.items() if not refuses and theirs.get(name, False))


def _refusing(signature: Signature) -> dict[str, bool]:
    """Whether each tensor without columns, and each column, refuses missing values."""
    found = {spec.name: spec.finite for spec in signature.inputs if not spec.columns}
    return found | {name: not column.nullable for name, (_, column) in _by_name(signature).items()}


def some_of(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - MOST_NAMED
    told = ", ".join(map(repr, names[:MOST_NAMED]))
    return f"{told} and {more:,} more columns" if more > 0 else told


def _outputs(champion: Signature, candidate: Signature) -> list[str]:
    found = []
    theirs = {spec.name: _form(spec) for spec in candidate.outputs}
    ours = {spec.name: _form(spec) for spec in champion.outputs}
    if theirs != ours:
        found.append(f"its outputs are {_told(candidate.outputs)}, not {_told(champion.outputs)}")
    if candidate.primary != champion.primary:
        found.append(f"its primary output is {candidate.primary!r}, not {champion.primary!r}")
    if candidate.classes != champion.classes:
        found.append(f"its classes are {candidate.classes}, not {champion.classes}")
    return found


def _form(spec: TensorSpec) -> tuple[str, tuple[int | None, ...]]:
    """A dtype and a shape, whatever its free sizes are called."""
    return spec.dtype, tuple(None if isinstance(size, str) else size for size in spec.shape)


def _told(specs: tuple[TensorSpec, ...]) -> str:
    return "; ".join(map(str, specs))


def _inputs(champion: Signature, candidate: Signature) -> list[str]:
    ours = [spec for spec in champion.inputs if not spec.columns]
    theirs = {spec.name: spec for spec in candidate.inputs if not spec.columns}
    found = []
    for spec in ours:
        other = theirs.pop(spec.name, None)
        if other is None:
            found.append(f"it does not take the tensor {spec.name!r}")
        else:
            found += _tensor(spec, other)
    found += [f"it needs the tensor {name!r}, which the champion does not take" for name in theirs]
    return found + _columns(champion, candidate)


def _tensor(ours: TensorSpec, theirs: TensorSpec) -> list[str]:
    found = []
    if not takes_all(theirs.dtype, ours.dtype):
        found.append(f"its tensor {ours.name!r} is {theirs.dtype}, not {ours.dtype}")
    if not _covers(theirs.shape, ours.shape):
        found.append(f"its tensor {ours.name!r} has shape {theirs.shape}, not {ours.shape}")
    return found


def takes_all(theirs: str, ours: str) -> bool:
    """Whether a tensor of one dtype takes all values that one of another takes.

    Floats of 32 and of 64 bits take the same rows, since both round what they are given; whole
    numbers are refused where they do not fit.
    """
    if theirs == ours:
        return True
    if theirs in FLOATS:
        return ours in (*FLOATS, "float16", *NUMERIC, "bool")
    if theirs in NUMERIC:
        return ours == "bool" or (ours in NUMERIC and np.can_cast(ours, theirs))
    return False


def _covers(theirs: tuple[int | str, ...], ours: tuple[int | str, ...]) -> bool:
    if len(theirs) != len(ours):
        return False
    pairs = zip(theirs, ours, strict=True)
    return all(isinstance(size, str) or size == other for size, other in pairs)


def _columns(champion: Signature, candidate: Signature) -> list[str]:
    ours = _by_name(champion)
    theirs = _by_name(candidate)
    found = []
    for name, (tensor, column) in ours.items():
        if name in theirs:
            found += _column(tensor, column, *theirs[name])
        elif name not in candidate.ignored and candidate.extra != "ignore":
            found.append(f"it refuses rows with the column {name!r}")
    spare = {*champion.ignored}
    for name in theirs:
        if name not in ours and name not in spare and champion.extra != "ignore":
            found.append(f"it needs the column {name!r}, which the champion's rows do not have")
    for name in spare - {*theirs, *candidate.ignored}:
        if candidate.extra != "ignore":
            found.append(f"it refuses rows with the column {name!r}, which the champion ignores")
    if [*ours] != [*theirs]:
        found += _order(champion, candidate)
    return found


def _by_name(signature: Signature) -> dict[str, tuple[TensorSpec, Column]]:
    return {column.name: (spec, column) for spec in signature.inputs for column in spec.columns}


def _order(champion: Signature, candidate: Signature) -> list[str]:
    """A row may come as a plain array, whose columns lack names but an order."""
    ours = [*champion.column_names]
    theirs = [*candidate.column_names]
    if sorted(ours) == sorted(theirs):
        return [f"it has the same columns in another order, {theirs}, not {ours}"]
    if len(ours) == len(theirs):
        return [f"it would read an array of {ours} as one of {theirs}, which has as many columns"]
    return []


def _column(tensor: TensorSpec, ours: Column, other: TensorSpec, theirs: Column) -> list[str]:
    found = []
    if not takes_all(other.dtype, tensor.dtype):
        found.append(f"its column {ours.name!r} is held as {other.dtype}, not {tensor.dtype}")
    if (ours.dtype == "string") != (theirs.dtype == "string"):
        found.append(f"its column {ours.name!r} is {theirs.dtype}, not {ours.dtype}")
    if theirs.categories is not None:
        known = {*theirs.categories}
        lacks = [each for each in ours.categories or () if each not in known]
        if ours.categories is None:
            found.append(f"its column {ours.name!r} takes only {list(theirs.categories)}")
        elif lacks:
            found.append(f"its column {ours.name!r} does not take {lacks}")
    return found
