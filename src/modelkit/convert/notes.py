"""What a caller says of a model that says less of itself: names, classes, roles, images, equivalents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modelkit._internal.arrays import is_a
from modelkit.convert.preprocess import Preprocess
from modelkit.errors import ConversionError, SignatureError
from modelkit.signature.frames import read_frame
from modelkit.signature.signature import Signature
from modelkit.signature.spec import Column, TensorSpec

NamesByInput = Sequence[str] | Mapping[str, Sequence[str]]
Equivalents = Mapping[type, Callable[[Any], Any]]


@dataclass(frozen=True)
class Notes:
    """What a caller of `modelkit.save` says of a model; None for what is not said.

    `names` are the columns of its input of two dimensions, or of several inputs by their names.
    `classes` are the labels in the order of the probabilities. `outputs` gives an output another
    name, from new to old. `preprocess` says how images become its input. `converters` gives, for a
    fitted estimator of a class, a fitted estimator that answers as it does and has a converter.
    """

    names: NamesByInput | None = None
    classes: Sequence[Any] | None = None
    outputs: Mapping[str, str] | None = None
    preprocess: Preprocess | None = None
    converters: Equivalents | None = None

    @property
    def given(self) -> list[str]:
        """The keywords of `save` for graphs and modules that were used."""
        used = [name for name, value in vars(self).items() if value is not None]
        return [name for name in used if name != "converters"]

    def refuse(self, what: str) -> None:
        """Raise ConversionError for a model that says all of itself."""
        if self.given:
            used = ", ".join(f"{name}=" for name in self.given)
            raise ConversionError(
                f"{used} is for ONNX graphs and torch modules, which do not state it; {what} "
                "does: leave it out"
            )


def with_columns_of(signature: Signature, notes: Notes, example: Any) -> Signature:
    """The signature with the columns that were named.

    The names come from `names=`; or from an example that has names, where its width fits the only
    input; or, where there are several inputs of one column each, from these inputs.

    Raises ConversionError.
    """
    given = signature.inputs
    names = notes.names
    if isinstance(names, Mapping):
        known = [spec.name for spec in given]
        if strange := sorted(set(names) - set(known)):
            raise ConversionError(f"names= has {strange}, and the inputs are {known}")
        named = {name: _listed_names(columns) for name, columns in names.items()}
    elif names is not None and len(given) > 1:
        raise ConversionError(
            f"there are {len(given)} inputs: pass names= as a dict, {{{given[0].name!r}: [...], ...}}"
        )
    elif names is not None:
        named = {given[0].name: _listed_names(names)}
    elif len(given) == 1:
        named = _names_of_example(given[0], example)
    elif all(spec.shape[1:] == (1,) and isinstance(spec.shape[0], str) for spec in given):
        named = {spec.name: [spec.name] for spec in given}
    else:
        named = {}
    inputs = tuple(_with_columns(spec, named.get(spec.name)) for spec in given)
    try:
        return replace(signature, inputs=inputs)
    except SignatureError as error:
        raise ConversionError(f"these names of columns do not work: {error}") from None


def _listed_names(names: Any) -> list[str]:
    found = [] if isinstance(names, str) else list(names)
    if not found or not all(isinstance(name, str) and name for name in found):
        raise ConversionError(f"names= is a list of the names of columns, not {names!r:.80}")
    return found


def _names_of_example(spec: TensorSpec, example: Any) -> dict[str, list[str]]:
    """The columns of an example that has names, if it is a table as wide as an input."""
    if len(spec.shape) != 2 or not is_table(example):
        return {}
    if isinstance(example, Mapping) and set(example) == {spec.name}:
        return {}
    names = [str(name) for name in read_frame(example)[0]]
    width = spec.shape[1]
    if isinstance(width, int) and len(names) != width:
        raise ConversionError(f"the example has {len(names)} columns, and {spec} takes {width}")
    return {spec.name: names}


def is_table(example: Any) -> bool:
    """Whether an example has named columns: a frame, an Arrow table, a dict, or records."""
    if is_a(example, "pandas", "DataFrame") or is_a(example, "polars", "DataFrame"):
        return True
    if isinstance(example, Mapping) or hasattr(example, "__arrow_c_stream__"):
        return True
    records = isinstance(example, list | tuple) and len(example) > 0
    return records and all(isinstance(row, Mapping) for row in example)


def _with_columns(spec: TensorSpec, names: list[str] | None) -> TensorSpec:
    """A tensor with named columns; a column of floats may be missing, as any float may."""
    if names is None:
        return spec
    if len(spec.shape) != 2:
        raise ConversionError(
            f"the columns of {spec} cannot be named: only an input of two dimensions has columns"
        )
    rows, width = spec.shape
    if isinstance(width, int) and width != len(names):
        raise ConversionError(f"{len(names)} names are given, and {spec} has {width} columns")
    nullable = "float" in spec.dtype
    columns = [Column(name, spec.dtype, nullable) for name in names]
    return replace(spec, shape=(rows, len(names)), columns=tuple(columns))
