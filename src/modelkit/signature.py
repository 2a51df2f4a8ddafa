"""What a model takes and gives: named tensors with named dimensions, and named, typed columns.

`Signature.coerce` turns the caller's rows into tensors and refuses what does not fit, always for the same
reasons: it looks at names, types and shapes, never at whether the values happen to convert.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from modelkit import frames
from modelkit.cast import MISSING, Array, CastError, is_missing, rows_of, to_dtype
from modelkit.errors import SignatureError

NUMERIC = tuple(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))
DTYPES = ("float16", "float32", "float64", *NUMERIC, "bool", "string")
ROLES = ("label", "prediction", "embedding")  # outputs that `predict` answers with

Feeds = dict[str, Array]


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The numpy dtype of a signature dtype; strings are held as Python objects."""
    if dtype not in DTYPES:
        raise SignatureError(f"unknown dtype {dtype!r}; use one of {', '.join(DTYPES)}")
    return np.dtype(object if dtype == "string" else dtype)


@dataclass(frozen=True)
class Column:
    """One named column of a tensor.

    `dtype` is the type the source was trained on. `nullable` says whether missing values (None, NaN, NA)
    are accepted; where it is false, infinities are refused too, as scikit-learn does. `categories`, where
    given, is the closed set of values a string column may hold.
    """

    name: str
    dtype: str = "float64"
    nullable: bool = False
    categories: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        numpy_dtype(self.dtype)
        if self.categories is not None and self.dtype != "string":
            raise SignatureError(f"column {self.name!r} is {self.dtype}; only string columns have categories")


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor: `shape` mixes sizes and dimension names, such as `("batch", 30)`.

    `columns`, where given, name the last of exactly two dimensions.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    columns: tuple[Column, ...] = ()

    def __post_init__(self) -> None:
        numpy_dtype(self.dtype)
        if self.columns and self.shape[1:] != (len(self.columns),):
            raise SignatureError(f"tensor {self.name!r} has shape {self.shape}, but {len(self.columns)} columns")

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a model.

    A dimension name stands for one size wherever it appears, in inputs and outputs alike. `primary` names
    the output that `predict` returns; it is found by itself where an output is called label, prediction or
    embedding, or is the only one. `classes` are the labels of a classifier, in the order of the columns of
    its output `probabilities`. `batch` is the named dimension that leads every input and output, or None:
    then rows cannot be split or joined.

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
    _fast: tuple[str, np.dtype[Any], tuple[int, ...], bool] | None = field(init=False, repr=False, compare=False)
    _names: list[str] = field(init=False, repr=False, compare=False)
    _seen: tuple[object, list[int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        derive = partial(object.__setattr__, self)
        derive("output_names", tuple(spec.name for spec in self.outputs))
        names = [column.name for spec in self.inputs for column in spec.columns]
        for kind, seen in (("input", [s.name for s in self.inputs]), ("output", list(self.output_names)), ("column", names)):
            twice = sorted({name for name in seen if seen.count(name) > 1}) if len(set(seen)) < len(seen) else []
            if twice or (not seen and kind != "column"):
                raise SignatureError(f"a signature needs distinct {kind} names, at least one; got {seen}")
        if self.primary is None:
            role = next((role for role in ROLES if role in self.output_names), None)
            derive("primary", role or (self.output_names[0] if len(self.outputs) == 1 else None))
        elif self.primary not in self.output_names:
            raise SignatureError(f"primary output {self.primary!r} is not one of {list(self.output_names)}")
        derive("has_probabilities", self.classes is not None and "probabilities" in self.output_names)
        leading = {spec.shape[0] if spec.shape else 1 for spec in self.inputs + self.outputs}
        derive("batch", next((dim for dim in leading if len(leading) == 1 and isinstance(dim, str)), None))
        derive("_fast", _fast_path(self.inputs))
        derive("_names", names)
        derive("_seen", (None, []))

    def coerce(self, X: object) -> Feeds:
        """Turn the caller's rows into tensors by name.

        Args:
            X: a (n, width) array; a dict, frame, Arrow table or list of records whose names are the columns,
                in any order; or a dict of arrays whose names are the tensors.

        Raises:
            SignatureError: listing everything that does not fit.
        """
        fast = self._fast
        if fast is not None and type(X) is np.ndarray:
            name, dtype, trailing, checked = fast
            if X.dtype is dtype and X.shape[1:] == trailing:
                # The dot product of X with itself is finite only if every element is: one pass, no temporary.
                if not checked:
                    return {name: X}
                norm = np.vdot(X, X)
                if norm - norm == 0:
                    return {name: X}
        return self._coerce(X)

    def _coerce(self, X: object) -> Feeds:
        if isinstance(X, np.ndarray):
            frames.refuse_single(X) if X.ndim < min(2, len(self.inputs[0].shape)) else None
            return self._from_array(X)
        if isinstance(X, Mapping) and not self._is_per_column and {*X} == {spec.name for spec in self.inputs}:
            return self._from_tensors(X)
        key, columns = frames.read(X)
        if not self._names:
            expected = "; ".join(map(str, self.inputs))
            raise SignatureError(
                f"the inputs have no named columns; pass an array, or a dict of arrays by input name ({expected})"
            )
        return self._from_columns(columns, self._order(key))

    @property
    def _is_per_column(self) -> bool:
        return all(len(spec.columns) == 1 and spec.columns[0].name == spec.name for spec in self.inputs)

    def _order(self, key: Iterable[object]) -> list[int]:
        """For each column of the signature, its position among the caller's."""
        seen_key, seen_order = self._seen
        if key is seen_key:
            return seen_order
        found = [str(name) for name in key]
        names = self._names
        if found == names:
            order = list(range(len(names)))
        else:
            _check_names(names, found)
            position = {name: i for i, name in enumerate(found)}
            order = [position[name] for name in names]
        if not isinstance(key, list):  # an immutable pandas Index, shared by every slice of a frame
            object.__setattr__(self, "_seen", (key, order))
        return order

    def _from_columns(self, columns: list[Array], order: list[int]) -> Feeds:
        feeds: Feeds = {}
        problems: list[str] = []
        at = 0
        for spec in self.inputs:
            target = numpy_dtype(spec.dtype)
            cast = []
            for column in spec.columns:
                try:
                    cast.append(_cast_column(columns[order[at]], column, target))
                except CastError as error:
                    problems.append(f"column {column.name!r}: {error}")
                at += 1
            if len(cast) == 1:
                feeds[spec.name] = cast[0].reshape(-1, 1)
            elif not problems:
                block = np.empty((len(cast[0]), len(cast)), target)
                for j, values in enumerate(cast):
                    block[:, j] = values
                feeds[spec.name] = block
        if problems:
            raise _refused(problems)
        return feeds

    def _from_array(self, X: Array) -> Feeds:
        if len(self.inputs) == 1:
            return self._bind({self.inputs[0].name: _cast_tensor(X, self.inputs[0])})
        names = self._names
        if not self._is_per_column:
            raise SignatureError(f"one array cannot feed {len(self.inputs)} inputs; pass a dict of arrays by name")
        if X.ndim != 2 or X.shape[1] != len(names):  # noqa: PLR2004
            raise SignatureError(f"an array of shape {X.shape} cannot feed {len(names)} columns: {names}")
        return self._from_columns([X[:, j] for j in range(len(names))], list(range(len(names))))

    def _from_tensors(self, X: Mapping[str, Any]) -> Feeds:
        return self._bind({spec.name: _cast_tensor(np.asarray(X[spec.name]), spec) for spec in self.inputs})

    def _bind(self, feeds: Feeds) -> Feeds:
        check_dims(self.inputs, feeds)
        return feeds

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

    def __str__(self) -> str:
        return f"({'; '.join(map(str, self.inputs))}) -> ({'; '.join(map(str, self.outputs))})"


def _fast_path(inputs: tuple[TensorSpec, ...]) -> tuple[str, np.dtype[Any], tuple[int, ...], bool] | None:
    """How to accept an array as it is: name, dtype, trailing sizes, and whether it must be finite."""
    spec = inputs[0]
    sizes = tuple(size for size in spec.shape[1:] if isinstance(size, int))
    nullable = {column.nullable for column in spec.columns}
    plain = len(spec.shape) > 1 and sizes == spec.shape[1:] and spec.dtype != "string" and isinstance(spec.shape[0], str)
    if len(inputs) > 1 or not plain or len(nullable) > 1:
        return None
    return spec.name, numpy_dtype(spec.dtype), sizes, spec.dtype.startswith("float") and nullable == {False}


def _cast_column(values: Array, column: Column, target: np.dtype[Any]) -> Array:
    if values.dtype is not target or target.kind == "O" or type(values) is not np.ndarray:
        out = to_dtype(values, numpy_dtype(column.dtype), target, nullable=column.nullable)
    elif column.nullable or target.kind != "f":
        out = values
    else:
        norm = np.vdot(values, values)
        out = values if norm - norm == 0 else to_dtype(values, target, target, nullable=False)
    if column.categories is not None:
        _check_categories(out, column)
    return out


def _check_categories(values: Array, column: Column) -> None:
    known = {*(column.categories or ()), MISSING} if column.nullable else {*(column.categories or ())}
    unknown = {*values.tolist()} - known
    if unknown:
        bad = np.fromiter((value in unknown for value in values.tolist()), bool, len(values))
        raise CastError(f"unknown category {min(unknown)!r} in {rows_of(bad)}; known are {sorted(column.categories or ())}")


def _cast_tensor(array: Array, spec: TensorSpec) -> Array:
    """Cast a whole tensor, as one block where its columns share their rules."""
    fits = array.ndim == len(spec.shape) and all(
        isinstance(dim, str) or size == dim for size, dim in zip(array.shape, spec.shape, strict=True)
    )
    if not fits:
        names = f" (columns {', '.join(c.name for c in spec.columns)})" if spec.columns else ""
        raise SignatureError(
            f"input {spec.name!r} must have shape ({', '.join(map(str, spec.shape))}), got {array.shape}{names}",
            spec=spec,
        )
    target = numpy_dtype(spec.dtype)
    rules = {(c.dtype, c.nullable, c.categories) for c in spec.columns} or {(spec.dtype, True, None)}
    if len(rules) == 1:
        dtype, nullable, categories = rules.pop()
        try:
            if categories is None:
                flat = to_dtype(array.reshape(-1), numpy_dtype(dtype), target, nullable=nullable)
                return flat.reshape(array.shape)
        except CastError as error:
            if not spec.columns:
                raise _refused([f"input {spec.name!r}: {error}"]) from None
    block = np.empty(array.shape, target)
    problems = []
    for j, column in enumerate(spec.columns):
        try:
            block[:, j] = _cast_column(array[:, j], column, target)
        except CastError as error:
            problems.append(f"column {column.name!r}: {error}")
    if problems:
        raise _refused(problems)
    return block


def _refused(problems: list[str]) -> SignatureError:
    shown = "\n  ".join(problems[:20]) + (f"\n  ... and {len(problems) - 20} more" if len(problems) > 20 else "")  # noqa: PLR2004
    return SignatureError(f"the rows do not fit the signature:\n  {shown}", problems=tuple(problems))


def _check_names(expected: list[str], found: list[str]) -> None:
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    problems = []
    for name in missing:
        near = difflib.get_close_matches(name, extra, n=1, cutoff=0.6)
        folded = [other for other in extra if other.strip().casefold() == name.strip().casefold()]
        hint = (folded or near or [None])[0]
        problems.append(f"missing column {name!r}" + (f" (is it {hint!r}?)" if hint else ""))
    problems += [f"unexpected column {name!r}" for name in extra]
    problems += [f"column {name!r} appears twice" for name in sorted({n for n in found if found.count(n) > 1})]
    if problems:
        raise _refused(problems)


def check_dims(specs: Iterable[TensorSpec], tensors: Mapping[str, Array], sizes: dict[str, int] | None = None) -> dict[str, int]:
    """The size of every named dimension; raises SignatureError where two tensors disagree on one."""
    sizes = {} if sizes is None else dict(sizes)
    where: dict[str, str] = {}
    for spec in specs:
        for size, dim in zip(tensors[spec.name].shape, spec.shape, strict=False):
            if isinstance(dim, str) and sizes.setdefault(dim, size) != size:
                raise SignatureError(
                    f"dimension {dim!r} is {sizes[dim]} in {where.get(dim, 'the inputs')!r} but {size} in {spec.name!r}",
                    dimension=dim,
                )
            if isinstance(dim, str):
                where.setdefault(dim, spec.name)
    return sizes


__all__ = ["DTYPES", "Column", "Feeds", "Signature", "TensorSpec", "check_dims", "is_missing", "numpy_dtype"]
