"""What a model takes and gives: named tensors with named dimensions, and named, typed columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from modelkit._internal import fields
from modelkit._internal.arrays import Array
from modelkit._internal.fields import freeze
from modelkit.errors import SignatureError, UsageError
from modelkit.signature.cast import MISSING
from modelkit.signature.coercion import Block, Coercion, Feeds
from modelkit.signature.refusing import REFUSED
from modelkit.signature.schema import request_schema
from modelkit.signature.spec import AS_OBJECTS, MIXED, ZONE, TensorSpec, check_text, no_rows

__all__ = ["ROLES", "Feeds", "Signature", "primary_of", "why_no_probabilities"]

ROLES = ("label", "prediction", "embedding")  # outputs that `predict` answers with
EXTRA = ("refuse", "ignore")  # what becomes of columns that nobody knows
MOST_SHOWN = 4  # columns of one tensor, where a signature is shown


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a model.

        print(model.signature)
        model.signature.coerce([{"age": 40, "income": 52_000, "plan": "plus"}])

    A dimension name stands for one size wherever it appears, in inputs and outputs alike. `primary`
    names the output that `predict` returns; without it, that is the output called label, prediction
    or embedding, or the only one. `classes` are the labels of a classifier, in the order of the
    columns of its output `probabilities`. `batch` is the named dimension that leads every input and
    output; where it is None, rows cannot be split or joined. `row_dim` is the named dimension that
    counts rows: `batch`, or else one that every tensor has on some axis, as in a recurrent network
    with state, or else the first that leads an input. A dimension that one tensor has twice counts
    no rows.

    `ignored` names columns that rows may have and that the model does not read, such as those that
    a pipeline drops. Other names than these and the columns' own are refused, unless `extra` is
    "ignore" rather than "refuse": that is how a caller wants rows to be read, and no part of the
    model, so it is neither compared nor kept in a package.

    `refusals` are the reasons for which the graph refuses rows that every column allows, as its
    source does; it then has one output more, which says so.

    Raises SignatureError for duplicate names and for a primary output that does not exist.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    primary: str | None = None
    classes: tuple[Any, ...] | None = None
    ignored: tuple[str, ...] = ()
    extra: str = field(default="refuse", repr=False, compare=False)
    refusals: tuple[str, ...] = ()

    # Derived once, because every call reads them.
    column_names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    output_names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    has_probabilities: bool = field(init=False, repr=False, compare=False)
    batch: str | None = field(init=False, repr=False, compare=False)
    row_dim: str | None = field(init=False, repr=False, compare=False)
    block: Block | None = field(init=False, repr=False, compare=False)

    __repr__ = fields.brief

    def __post_init__(self) -> None:
        freeze(self, "classes", "ignored", "refusals", inputs=TensorSpec, outputs=TensorSpec)
        derive = partial(object.__setattr__, self)
        output_names = tuple(spec.name for spec in self.outputs)
        columns = tuple(column.name for spec in self.inputs for column in spec.columns)
        _check_distinct("input", [spec.name for spec in self.inputs], least=1)
        _check_distinct("output", output_names, least=1)
        _check_distinct("column", [*columns, *self.ignored], least=0)
        for name in self.ignored:
            check_text("column", name)
        if self.extra not in EXTRA:
            raise UsageError(f"extra is 'refuse' or 'ignore', not {self.extra!r}")
        derive("column_names", columns)
        derive("output_names", output_names)
        derive("primary", _primary(self.primary, output_names))
        for reason in self.refusals:
            check_text("reason", reason)
        for label in self.classes or ():
            check_text("class", label)
        # A mixture has those of its components, and the scores that no classifier gives.
        counted = self.classes is not None or "score_samples" in output_names
        derive("has_probabilities", counted and "probabilities" in output_names)
        leading = {spec.shape[0] if spec.shape else 1 for spec in self.inputs + self.outputs}
        row_dim = _row_dim(self.inputs, self.outputs)
        derive("row_dim", row_dim)
        derive("batch", row_dim if leading == {row_dim} else None)
        coercion = self._coercion()
        derive("block", coercion.block)
        # Hides the method of that name below, which would be one call more.
        derive("coerce", coercion.coerce)

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.inputs, self.outputs, self.primary, self.classes, self.ignored, self.extra)
        return Signature, (*parts, self.refusals)

    def _coercion(self) -> Coercion:
        return Coercion(self.inputs, self.ignored, takes_extra=self.extra == "ignore")

    def coerce(self, X: Any) -> Feeds:
        """Turn the caller's rows into tensors by name.

        What is refused is decided by names, types and shapes, never by whether the values happen
        to convert. What fits as it is may be shared with `X`, without a copy.

        Args:
            X: a (n, width) array or a list of n lists, by position; a dict, frame, Arrow table or
                list of records, whose names are the columns, in any order; a dict of arrays, whose
                names are the tensors; for a model of one text, a list or Series of n texts.

        Raises:
            SignatureError: listing everything that does not fit.
        """
        return self._coercion().coerce(X)

    def count(self, feeds: Mapping[str, Array]) -> int:
        """The number of rows of `feeds`: the size of `row_dim`, or 1 if there is none."""
        for spec in self.inputs:
            if self.row_dim in spec.shape:
                size: int = feeds[spec.name].shape[spec.shape.index(self.row_dim)]
                return size
        return 1

    def take(self, feeds: Mapping[str, Array], places: Array) -> Feeds:
        """The rows at `places` of each tensor; a tensor without an axis of rows stays as it is."""
        taken = dict(feeds)
        for spec in self.inputs:
            if self.row_dim in spec.shape:
                taken[spec.name] = feeds[spec.name].take(
                    places, axis=spec.shape.index(self.row_dim)
                )
        return taken

    def columns(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The inverse of `coerce`: columns by name, missing strings as None.

        A tensor without columns stays whole.
        """
        out: dict[str, Array] = {}
        for spec in self.inputs:
            if not spec.columns:
                whole = feeds[spec.name]
                out[spec.name] = with_none(whole) if spec.dtype in AS_OBJECTS else whole
            for j, column in enumerate(spec.columns):
                values = feeds[spec.name][:, j]
                if column.dtype in AS_OBJECTS:
                    values = with_none(values)
                if column.dtype.endswith(f"{ZONE}]"):
                    values = _in_utc(values)
                if column.dtype == MIXED:
                    values[:] = [None if item is None else json.loads(item) for item in values]
                out[column.name] = values
        return out

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema (2020-12) of a request: a list of rows, whose own schema is ["items"].

            model.signature.json_schema()["items"]["required"]  # ["age", "income", "plan"]

        A row is an object with the columns as its fields; a field that may be missing may be null,
        and must be there. Points in time are texts in the form of ISO 8601, spans are seconds.
        Where an input lacks columns, a request is an object of arrays by name instead.
        """
        return request_schema(self.inputs, self.ignored, takes_extra=self.extra == "ignore")

    @property
    def graph_outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs of the graph: the model's own, and the one that says which rows it refuses."""
        if not self.refusals:
            return self.outputs
        return (
            *self.outputs,
            TensorSpec(REFUSED, "float64", (self.row_dim or "rows", len(self.refusals))),
        )

    def empty(self, outputs: Iterable[str]) -> dict[str, Array]:
        """Outputs of zero rows, in the declared dtype; every named dimension has size 0."""
        specs = {spec.name: spec for spec in self.outputs}
        return {name: no_rows(specs[name]) for name in outputs}

    def table(self) -> list[tuple[str, str, str, str, str]]:
        """One line a tensor, to show: input or output, name, dtype, shape, columns."""
        inputs = [("input", *_shown(spec)) for spec in self.inputs]
        return inputs + [("output", *_shown(spec)) for spec in self.outputs]

    def __str__(self) -> str:
        return f"({'; '.join(map(str, self.inputs))}) -> ({'; '.join(map(str, self.outputs))})"


def with_none(texts: Array) -> Array:
    """A copy with None where a text is missing."""
    texts = texts.copy()
    texts[texts == MISSING] = None
    return texts


def _in_utc(times: Array) -> Array:
    """Times as objects of numpy, which `coerce` takes for times in UTC."""
    found = np.empty(len(times), object)
    found[:] = list(times)
    return found


def _check_distinct(kind: str, names: Sequence[str], least: int) -> None:
    if len(set(names)) < len(names) or len(names) < least:
        raise SignatureError(
            f"a signature needs distinct {kind} names{', at least one' * least}; got {list(names)}"
        )


def _primary(asked: str | None, names: tuple[str, ...]) -> str | None:
    """The output that `predict` answers with, or None where none stands out."""
    if asked is not None:
        if asked not in names:
            raise SignatureError(f"primary output {asked!r} is not one of {list(names)}")
        return asked
    for role in ROLES:
        if role in names:
            return role
    return names[0] if len(names) == 1 else None


def coerce_as(signature: Signature, rows: object, what: str) -> Feeds:
    """Rows from elsewhere than a request, such as a background, as feeds.

    Raises SignatureError for rows that do not fit, and names them.
    """
    try:
        return signature.coerce(rows)
    except SignatureError as error:
        raise SignatureError(f"{what}: {error}", **vars(error)) from None


def primary_of(signature: Signature) -> str:
    """The name of the primary output. Raises SignatureError where there is none."""
    if signature.primary is not None:
        return signature.primary
    raise SignatureError(
        f"predict needs a primary output, and none of {list(signature.output_names)} is named "
        "label, prediction or embedding; use run(X)[name], or name it: "
        "Signature(..., primary=name)",
        signature=signature,
    )


def why_no_probabilities(signature: Signature) -> str | None:
    """Why a model lacks class probabilities, and what to call in their place."""
    if signature.has_probabilities:
        return None
    given = list(signature.output_names)
    fix = f"this model gives {given}: use predict or run"
    if signature.classes is None and "probabilities" in given:
        fix = (
            "its signature does not list classes, because it gives several labels a row: "
            "use run(X)['probabilities']"
        )
    return f"predict_proba needs classes and an output named probabilities; {fix}"


def _row_dim(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> str | None:
    """The dimension that counts rows: the first candidate that all tensors share.

    Candidates are the dimensions that lead an input, then the others. If none is shared, the first
    that leads an input counts the rows.
    """
    tensors = [spec for spec in inputs + outputs if spec.shape]  # a scalar has no rows
    leading = []
    others = []
    for spec in inputs:
        leading += _named_dims(spec.shape[:1])
        others += _named_dims(spec.shape[1:])
    square = {dim for spec in tensors for dim in spec.shape if spec.shape.count(dim) > 1}
    leading = [dim for dim in leading if dim not in square]
    others = [dim for dim in others if dim not in square]
    for dim in leading + others:
        if all(dim in spec.shape for spec in tensors):
            return dim
    return leading[0] if leading else None


def _named_dims(shape: tuple[int | str, ...]) -> list[str]:
    return [size for size in shape if isinstance(size, str)]


def _shown(spec: TensorSpec) -> tuple[str, str, str, str]:
    shape = ", ".join(map(str, spec.shape))
    return spec.name, spec.dtype, f"({shape})", _summary(spec)


def _summary(spec: TensorSpec) -> str:
    columns = spec.columns
    if not columns:
        return "NaN and infinities are refused" if spec.finite else ""
    names = ", ".join(column.name for column in columns[:MOST_SHOWN])
    more = ", ..." if len(columns) > MOST_SHOWN else ""
    shown = names + more
    traits = {column.dtype + (", may be missing" if column.nullable else "") for column in columns}
    closed = [f"one of {list(column.categories)}" for column in columns if column.categories]
    about = "; ".join([*sorted(traits), *closed])
    return about if shown == spec.name else f"{shown} ({about})"
