"""What a model takes and gives: named tensors with named dimensions, and named, typed columns.

`Signature.coerce` turns the caller's rows into tensors and refuses what does not fit, always for
the same
reasons: it looks at names, types and shapes, never at whether the values happen to convert.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
from numpy import ndarray, vdot

from modelkit import frames
from modelkit.cast import MISSING, VDOT_ITEMS, Array, CastError, Rule, cast_column, quick_cast
from modelkit.errors import SignatureError
from modelkit.spec import TensorSpec, check_dims, check_shape, check_text, numpy_dtype

ROLES = ("label", "prediction", "embedding")  # outputs that `predict` answers with

Feeds = dict[str, Array]
Block = tuple[str, tuple[int, ...], Rule]


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a model.

    A dimension name stands for one size wherever it appears, in inputs and outputs alike. `primary`
    names the output that `predict` returns; it is found by itself where an output is called label,
    prediction or embedding, or is the only one. `classes` are the labels of a classifier, in the
    order of the columns of its output `probabilities`. `batch` is the named dimension that leads
    every input and output, or None: then rows cannot be split or joined. `row_dim` is the named
    dimension that counts rows: `batch`, or else the one that every tensor has on some axis, as a
    recurrent network with state, or else the one that leads the first input that any leads. A
    dimension that one tensor has twice counts no rows.

    Raises SignatureError for duplicate names and for a primary output that does not exist.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    primary: str | None = None
    classes: tuple[Any, ...] | None = None

    # Derived once, because every call reads them.
    output_names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    has_probabilities: bool = field(init=False, repr=False, compare=False)
    batch: str | None = field(init=False, repr=False, compare=False)
    row_dim: str | None = field(init=False, repr=False, compare=False)
    block: Block | None = field(init=False, repr=False, compare=False)
    _closed: tuple[Block, list[tuple[int, frozenset[Any]]]] | None = field(
        init=False, repr=False, compare=False
    )
    _plan: list[tuple[str, list[Rule]]] = field(init=False, repr=False, compare=False)
    _singles: list[tuple[str, np.dtype[Any] | None, Rule]] = field(
        init=False, repr=False, compare=False
    )
    _names: list[str] = field(init=False, repr=False, compare=False)
    _seen: tuple[object, list[int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        derive = partial(object.__setattr__, self)
        derive("output_names", tuple(spec.name for spec in self.outputs))
        columns = [column.name for spec in self.inputs for column in spec.columns]
        names = [
            name for spec in self.inputs for name in [c.name for c in spec.columns] or [spec.name]
        ]
        for kind, seen in (
            ("input", [s.name for s in self.inputs]),
            ("output", list(self.output_names)),
            ("column", columns),
        ):
            twice = (
                sorted({name for name in seen if seen.count(name) > 1})
                if len(set(seen)) < len(seen)
                else []
            )
            if twice or (not seen and kind != "column"):
                raise SignatureError(
                    f"a signature needs distinct {kind} names, at least one; got {seen}"
                )
        if self.primary is None:
            role = next((role for role in ROLES if role in self.output_names), None)
            derive("primary", role or (self.output_names[0] if len(self.outputs) == 1 else None))
        elif self.primary not in self.output_names:
            raise SignatureError(
                f"primary output {self.primary!r} is not one of {list(self.output_names)}"
            )
        for label in self.classes or ():
            check_text("class", label)
        derive(
            "has_probabilities", self.classes is not None and "probabilities" in self.output_names
        )
        leading = {spec.shape[0] if spec.shape else 1 for spec in self.inputs + self.outputs}
        row_dim = _row_dim(self.inputs, self.outputs)
        derive("row_dim", row_dim)
        derive("batch", row_dim if leading == {row_dim} else None)
        rules = _rules(self.inputs[0])
        codes = [(j, rule.known) for j, rule in enumerate(rules) if rule.closed]
        block = _block_rule(self.inputs)
        derive("block", None if codes else block)
        derive("_closed", (block, codes) if codes and block is not None else None)
        plan = [(spec.name, _rules(spec)) for spec in self.inputs]
        derive("_plan", plan)
        single = all(
            len(spec.columns) == 1 and isinstance(spec.shape[0], str) for spec in self.inputs
        )
        derive(
            "_singles", [(name, rules[0].as_is, rules[0]) for name, rules in plan] if single else []
        )
        derive("_names", names)
        derive("_seen", (None, []))

    def __reduce__(self) -> tuple[Any, ...]:
        return Signature, (self.inputs, self.outputs, self.primary, self.classes)

    def coerce(self, X: Any) -> Feeds:
        """Turn the caller's rows into tensors by name.

        Args:
            X: a (n, width) array; a dict, frame, Arrow table or list of records whose names are the
                columns, in any order; or a dict of arrays whose names are the tensors.

        Raises:
            SignatureError: listing everything that does not fit.
        """
        kind = type(X)
        if kind is ndarray:
            if self.block is not None:
                name, trailing, rule = self.block
                if X.shape[1:] == trailing:
                    # The usual case of quick_cast, without the price of a call: threads hold the
                    # interpreter lock here.
                    if X.dtype is rule.target and 1 < X.size <= VDOT_ITEMS and isfinite(vdot(X, X)):
                        return {name: X}
                    out = quick_cast(X, rule)
                    if out is not None:
                        return {name: out}
            return self._from_array(X)
        if kind is dict and len(X) == len(self._names):
            try:
                columns = [X[name] for name in self._names]
            except KeyError:
                pass  # named below, together with what else does not fit
            else:
                quick = self._quick_columns(columns) if self._singles else None
                if quick is not None:
                    return quick
                return self._from_dict(X, columns)
        return self._from_anything(X)

    def _from_dict(self, X: dict[str, Any], columns: list[Any]) -> Feeds:
        if any(spec.columns for spec in self.inputs):  # a tensor without columns may be a scalar
            frames.refuse_single(X)
        return self._cast_columns(columns)

    def _from_anything(self, X: Any) -> Feeds:
        if isinstance(X, np.ndarray):  # a memory map, a masked array
            return self._from_array(X)
        if isinstance(X, dict) and X.keys() == {spec.name for spec in self.inputs}:
            return self._from_tensors(X)
        key, columns = frames.read_frame(X)
        if not any(spec.columns for spec in self.inputs):
            expected = "; ".join(map(str, self.inputs))
            raise SignatureError(
                "the inputs have no named columns; pass an array, or a dict of arrays by input "
                f"name ({expected})"
            )
        order = self._order(key)
        return self._from_columns([columns[at] for at in order] if order else columns)

    def _order(self, key: Iterable[object]) -> list[int]:
        """For each column of the signature, its position among the caller's; empty where they are in order."""
        seen_key, seen_order = self._seen
        if key is seen_key:
            return seen_order
        found = [str(name) for name in key]
        if found == self._names:
            order = []
        else:
            _check_names(self._names, found)
            position = {name: i for i, name in enumerate(found)}
            order = [position[name] for name in self._names]
        if not isinstance(key, list):  # an immutable pandas Index, shared by every slice of a frame
            object.__setattr__(self, "_seen", (key, order))
        return order

    def _from_columns(self, columns: list[Any]) -> Feeds:
        """Tensors from one sequence of values for each column, in the signature's order."""
        quick = self._quick_columns(columns) if self._singles else None
        return self._cast_columns(columns) if quick is None else quick

    def _cast_columns(self, columns: list[Any]) -> Feeds:
        values = iter(columns)
        problems: list[str] = []
        cast = {
            name: [_cast(next(values), rule, problems) for rule in rules]
            if spec.columns
            else [next(values)]
            for spec, (name, rules) in zip(self.inputs, self._plan, strict=True)
        }
        lengths = {
            len(column) for spec in self.inputs if spec.columns for column in cast[spec.name]
        }
        if len(lengths) > 1 and not problems:
            problems.append(f"the columns have different lengths: {sorted(lengths)}")
        if problems:
            raise _refused(problems)
        feeds: Feeds = {}
        for spec, (name, rules) in zip(self.inputs, self._plan, strict=True):
            if spec.columns:
                feeds[name] = _block(cast[name], rules[0].target)
                check_shape(feeds[name], spec)
            else:
                feeds[name] = cast_tensor(_whole(cast[name][0], spec), spec, rules)
        check_dims(self.inputs, feeds)
        return feeds

    def _quick_columns(self, columns: list[Any]) -> Feeds | None:
        """The usual case of one tensor a column, with the least work; None where something needs a closer look."""
        feeds: Feeds = {}
        shape: tuple[int, ...] | None = None
        flat = True
        for (name, as_is, rule), values in zip(self._singles, columns, strict=True):
            if type(values) is not np.ndarray:
                try:
                    values = frames.as_column(values)  # noqa: PLW2901 - the same values as an array
                except SignatureError:
                    return None
                if type(values) is not np.ndarray:  # masked
                    return None
            if values.shape != shape:
                if shape is not None:
                    return None
                shape = values.shape
                flat = len(shape) == 1
                if not flat and shape[1:] != (1,):
                    return None
            if values.dtype is not as_is:
                values = quick_cast(values, rule)  # noqa: PLW2901
                if values is None:
                    return None
            feeds[name] = values[:, None] if flat else values
        return feeds

    def _from_array(self, X: Array) -> Feeds:
        if self._closed is not None and type(X) is ndarray:
            (name, trailing, rule), known = self._closed
            if X.shape[1:] == trailing and all(
                codes.issuperset(X[:, j].tolist()) for j, codes in known
            ):
                out = quick_cast(X, rule)
                if out is not None:
                    return {name: out}
        if X.ndim < min(2, len(self.inputs[0].shape)):
            frames.refuse_single(X)
        if len(self.inputs) == 1:
            return self._from_tensors({self.inputs[0].name: X})
        if not all(len(spec.columns) == 1 for spec in self.inputs):
            raise SignatureError(
                f"one array cannot feed {len(self.inputs)} inputs; pass a dict of arrays by name"
            )
        if X.ndim != 2 or X.shape[1] != len(self._names):
            raise SignatureError(
                f"an array of shape {X.shape} cannot feed {len(self._names)} columns: {self._names}"
            )
        return self._from_columns(list(X.T))

    def _from_tensors(self, X: Mapping[str, Any]) -> Feeds:
        feeds = {
            spec.name: cast_tensor(_whole(X[spec.name], spec), spec, rules)
            for spec, (_, rules) in zip(self.inputs, self._plan, strict=True)
        }
        check_dims(self.inputs, feeds)
        return feeds

    def count(self, feeds: Mapping[str, Array]) -> int:
        """The number of rows of `feeds`: the size of `row_dim`, and 1 where there is none."""
        for spec in self.inputs:
            if self.row_dim in spec.shape:
                size: int = feeds[spec.name].shape[spec.shape.index(self.row_dim)]
                return size
        return 1

    def take(self, feeds: Mapping[str, Array], places: Array) -> Feeds:
        """The rows at `places`, from each tensor along the axis of its rows; a tensor without one stays as it is."""
        taken = dict(feeds)
        for spec in self.inputs:
            if self.row_dim in spec.shape:
                taken[spec.name] = feeds[spec.name].take(
                    places, axis=spec.shape.index(self.row_dim)
                )
        return taken

    def columns(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The inverse of `coerce`: columns by name, missing strings as None; a tensor without columns stays whole."""
        out: dict[str, Array] = {}
        for spec in self.inputs:
            if not spec.columns:
                out[spec.name] = feeds[spec.name]
            for j, column in enumerate(spec.columns):
                values = feeds[spec.name][:, j]
                if column.dtype == "string":
                    values = values.copy()
                    values[values == MISSING] = None
                out[column.name] = values
        return out

    def empty(self, outputs: Iterable[str]) -> dict[str, Array]:
        """Outputs of zero rows, in the declared dtype and shape; other named dimensions are zero as well."""
        specs = {spec.name: spec for spec in self.outputs}
        return {
            name: np.empty(
                tuple(0 if isinstance(size, str) else size for size in specs[name].shape),
                numpy_dtype(specs[name].dtype),
            )
            for name in outputs
        }

    def table(self) -> list[tuple[str, str, str, str, str]]:
        """One line a tensor for people: input or output, name, dtype, shape, columns."""
        return [
            (kind, spec.name, spec.dtype, f"({', '.join(map(str, spec.shape))})", _summary(spec))
            for kind, specs in (("input", self.inputs), ("output", self.outputs))
            for spec in specs
        ]

    def __str__(self) -> str:
        return f"({'; '.join(map(str, self.inputs))}) -> ({'; '.join(map(str, self.outputs))})"


def _row_dim(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> str | None:
    """The dimension that counts rows: one that leads an input before others, and one that all share before those."""
    tensors = [spec for spec in inputs + outputs if spec.shape]  # a scalar has no rows
    square = {dim for spec in tensors for dim in spec.shape if spec.shape.count(dim) > 1}
    leading = [spec.shape[0] for spec in inputs if spec.shape]
    named = [dim for dim in leading if isinstance(dim, str) and dim not in square]
    others = [
        dim
        for spec in inputs
        for dim in spec.shape[1:]
        if isinstance(dim, str) and dim not in square
    ]
    shared = [dim for dim in named + others if all(dim in spec.shape for spec in tensors)]
    return next(iter(shared + named), None)


def _summary(spec: TensorSpec) -> str:
    columns = spec.columns
    if not columns:
        return "NaN and infinities are refused" if spec.finite else ""
    shown = ", ".join(column.name for column in columns[:4]) + (", ..." if len(columns) > 4 else "")
    traits = {column.dtype + (", may be missing" if column.nullable else "") for column in columns}
    closed = [f"one of {list(column.categories)}" for column in columns if column.categories]
    about = "; ".join([*sorted(traits), *closed])
    return about if shown == spec.name else f"{shown} ({about})"


def _rules(spec: TensorSpec) -> list[Rule]:
    """How to cast each column of a tensor; one nameless rule for a tensor without columns."""
    target = numpy_dtype(spec.dtype)
    if not spec.columns:
        return [Rule(spec.name, target, target, nullable=not spec.finite)]
    return [
        Rule(c.name, target, numpy_dtype(c.dtype), c.nullable, c.categories) for c in spec.columns
    ]


def _block_rule(inputs: tuple[TensorSpec, ...]) -> tuple[str, tuple[int, ...], Rule] | None:
    """How to take a whole array at once: name, trailing sizes, and the rule that all its columns share.

    Which codes a column may hold is not part of it.
    """
    spec = inputs[0]
    rules = [Rule(rule.name, rule.target, rule.declared, rule.nullable) for rule in _rules(spec)]
    sizes = tuple(size for size in spec.shape[1:] if isinstance(size, int))
    alike = all(rule.kind == rules[0].kind for rule in rules)
    plain = len(spec.shape) > 1 and sizes == spec.shape[1:] and isinstance(spec.shape[0], str)
    return (
        (spec.name, sizes, rules[0])
        if len(inputs) == 1 and plain and alike and spec.dtype != "string"
        else None
    )


def _cast(values: Any, rule: Rule, problems: list[str]) -> Array:
    """One column as an array; what does not fit is added to `problems`."""
    try:
        array = frames.as_column(values)
        quick = quick_cast(array, rule) if type(array) is np.ndarray else None  # not where masked
        return cast_column(array, rule) if quick is None else quick
    except (CastError, SignatureError) as error:
        problems.append(f"column {rule.name!r}: {error}")
        return np.empty(0, rule.target)


def _whole(values: Any, spec: TensorSpec) -> Array:
    """A tensor as it was passed, as an array; a mask is kept."""
    try:
        if isinstance(values, np.ma.MaskedArray):
            return values
        # Left to itself, numpy turns the numbers of a mixed list into strings.
        return np.asarray(
            values, object if spec.dtype == "string" and not hasattr(values, "dtype") else None
        )
    except ValueError as error:
        raise SignatureError(f"input {spec.name!r} is not an array: {error}", spec=spec) from None


def _block(columns: list[Array], target: np.dtype[Any]) -> Array:
    if len(columns) == 1:
        return columns[0].reshape(-1, 1)
    block = np.empty((len(columns[0]), len(columns)), target)
    for j, values in enumerate(columns):
        block[:, j] = values
    return block


def cast_tensor(array: Array, spec: TensorSpec, rules: list[Rule]) -> Array:
    """Cast a whole tensor, as one block where its columns share their rules.

    Raises SignatureError.
    """
    if array.ndim == 1 and len(rules) == 1 and spec.columns:
        array = array.reshape(-1, 1)
    check_shape(array, spec)
    problems = []
    if all(rule.kind == rules[0].kind for rule in rules):
        try:
            return cast_column(array.reshape(-1), rules[0]).reshape(array.shape)
        except CastError as error:
            problems = [
                (
                    f"input {spec.name!r}: "
                    f"{error.in_rows_of(max(1, array.size // max((1, *array.shape[:1]))))}"
                )
            ]
    if spec.columns:
        block, problems = np.empty(array.shape, rules[0].target), []
        for j, rule in enumerate(rules):
            try:
                block[:, j] = cast_column(array[:, j], rule)
            except CastError as error:
                problems.append(f"column {rule.name!r}: {error}")
        if not problems:
            return block
    raise _refused(problems)


def _refused(problems: list[str]) -> SignatureError:
    shown = "\n  ".join(problems[:20]) + (
        f"\n  ... and {len(problems) - 20} more" if len(problems) > 20 else ""
    )
    return SignatureError(
        f"the rows do not fit the signature:\n  {shown}", problems=tuple(problems)
    )


def _check_names(expected: list[str], found: list[str]) -> None:
    import difflib

    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    problems = []
    for name in missing:
        near = difflib.get_close_matches(name, extra, n=1, cutoff=0.6)
        folded = [other for other in extra if other.strip().casefold() == name.strip().casefold()]
        hint = next(iter(folded or near), None)
        problems.append(f"missing column {name!r}" + (f" (is it {hint!r}?)" if hint else ""))
    problems += [f"unexpected column {name!r}" for name in extra]
    problems += [
        f"column {name!r} appears twice"
        for name in sorted({n for n in found if found.count(n) > 1})
    ]
    if problems:
        raise _refused(problems)
