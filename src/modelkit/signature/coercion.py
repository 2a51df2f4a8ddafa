"""From the caller's rows to tensors: read the columns, cast each one, lay them out.

    read      columns from whatever holds them, in the order of the signature   (frames.py)
    cast      each column to the dtype of its tensor, by its Rule               (cast.py)
    lay out   the columns side by side in their tensors                         (here)

Rows in a usual form that plainly fit take a shortcut through all three. A shortcut gives None where
something needs a closer look; the long way then casts the rows, or says everything that is wrong
with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from math import isfinite
from typing import Any, NamedTuple, final

import numpy as np
from numpy import ndarray, vdot

from modelkit._internal.arrays import Array, is_a
from modelkit.errors import SignatureError
from modelkit.signature import frames
from modelkit.signature.cast import VDOT_ITEMS, CastError, Rule, cast_column, quick_cast
from modelkit.signature.column_names import ColumnNames, refused_rows
from modelkit.signature.records import plain_rows
from modelkit.signature.rule import exact_bits
from modelkit.signature.spec import TIMES, ZONE, TensorSpec, check_dims, check_shape, numpy_dtype

Feeds = dict[str, Array]
# What a tensor of floats without columns may hold, by its dimensions; four stands for more.
IMAGES = {3: "planes", 4: "images"}
# Rows of a frame from which casting it whole, a copy of all, is slower than by column.
BULK = 16_384

FEW = 64  # rows whose columns need no look at their lengths before they are cast


class Block(NamedTuple):
    """An only input that one Rule casts: its name, its sizes after the first, the Rule."""

    name: str
    trailing: tuple[int, ...]
    rule: Rule


@final
class Coercion:
    """Turns rows into the tensors of `inputs`.

    `names` are the columns of all inputs, in order; a tensor without columns counts as one of its
    own name. `block` says how to take a whole array at once, or is None. Rows may have the columns
    `ignored` beside these, and any others too where `takes_extra`.
    """

    __slots__ = (
        "_closed",
        "_exact",
        "_has_columns",
        "_inputs",
        "_name",
        "_named",
        "_open",
        "_rule",
        "_rules",
        "_singles",
        "_trailing",
        "block",
        "names",
    )

    def __init__(
        self,
        inputs: tuple[TensorSpec, ...],
        ignored: Iterable[str] = (),
        *,
        takes_extra: bool = False,
    ) -> None:
        self._inputs = inputs
        self._rules = [column_rules(spec) for spec in inputs]
        self._has_columns = any(spec.columns for spec in inputs)
        self.names = [rule.name for rules in self._rules for rule in rules]
        self._named = ColumnNames(self.names, ignored, takes_extra=takes_extra)
        # For each column with categories: its position, and the categories.
        self._closed = [(j, rule.known) for j, rule in enumerate(self._rules[0]) if rule.closed]
        shared = _shared_block(inputs, self._rules[0])
        self.block = None if self._closed else shared
        # What the shortcuts read; no shape ends with None.
        self._name = inputs[0].name
        self._trailing = None if shared is None else shared.trailing
        self._rule = self._rules[0][0] if shared is None else shared.rule
        self._singles = _single_rules(inputs, self._rules)
        of_floats = len(inputs) == 1 and self._rule.target.kind == "f"
        bits = min(exact_bits(rule.declared) for rule in self._rules[0])
        self._exact = 1 << bits if of_floats else 0  # below which its floats hold every integer
        self._open = self._rules[0][0].as_is if len(inputs) == 1 and inputs[0].is_plain else None

    def coerce(self, X: Any) -> Feeds:
        """Turn rows into tensors by name. Raises SignatureError; see `Signature.coerce`."""
        kind = type(X)
        if kind is ndarray:
            # `whole_array`, without the price of a call: threads hold the interpreter lock here.
            if X.shape[1:] == self._trailing and not self._closed:
                rule = self._rule
                if X.dtype is rule.target and 1 < X.size <= VDOT_ITEMS and isfinite(vdot(X, X)):
                    return {self._name: X}
                out = quick_cast(X, rule)
                if out is not None:
                    return {self._name: out}
            return self._from_anything(X)
        if kind is dict and len(X) == len(self.names):
            try:
                columns = [X[name] for name in self.names]
            except KeyError:
                return self._from_anything(X)  # which names the missing ones
            return self.one_tensor_a_column(columns) or self._from_dict(X, columns)
        return self._from_anything(X)

    # Shortcuts.

    def whole_array(self, X: Array) -> Feeds | None:
        """The shortcut for one array of all columns, cast as one block."""
        if X.shape[1:] != self._trailing:
            return None
        out = quick_cast(X, self._rule)
        if out is None or not all(known.issuperset(X[:, j].tolist()) for j, known in self._closed):
            return None
        return {self._name: out}

    def whole_frame(self, X: Any) -> Feeds | None:
        """The shortcut for a pandas frame whose columns lie in one array, in our order."""
        if self.block is None or not self._inputs[0].columns:
            return None
        values = frames.one_block(X)
        if values is None or values.shape[1] >= BULK or self._named.order(X.columns):
            return None
        out = quick_cast(values, self._rule)
        return None if out is None else {self._name: np.ascontiguousarray(out.T)}

    def one_tensor_a_column(self, columns: list[Any]) -> Feeds | None:
        """The shortcut for tensors of one column each, from one sequence of values for each."""
        if not self._singles:
            return None
        feeds: Feeds = {}
        shape: tuple[int, ...] | None = None
        flat = True
        for (name, as_is, rule), column in zip(self._singles, columns, strict=True):
            values = column if type(column) is ndarray else _plain_array(column)
            if values is None:
                return None
            if values.shape != shape:
                if shape is not None:
                    return None
                shape = values.shape
                flat = len(shape) == 1
                if not flat and shape[1:] != (1,):
                    return None
            if values.dtype is not as_is:
                values = quick_cast(values, rule)
                if values is None:
                    return None
            feeds[name] = values[:, None] if flat else values
        return feeds

    # The long way: read.

    def _from_anything(self, X: Any) -> Feeds:
        if isinstance(X, np.ndarray) and not self._is_texts(X):  # a memory map, a masked array
            return self._from_array(X)
        if isinstance(X, dict) and X.keys() == {spec.name for spec in self._inputs}:
            return self._from_tensors(X)
        feeds = self.whole_frame(X) if is_a(X, "pandas", "DataFrame") else self._from_objects(X)
        if feeds is not None:
            return feeds
        names, columns = frames.read_frame(X)
        if not self._has_columns:
            expected = "; ".join(map(str, self._inputs))
            raise SignatureError(
                "the inputs have no named columns; pass an array, or a dict of arrays by input "
                f"name ({expected})"
            )
        order = self._named.order(names)
        return self._from_columns([columns[at] for at in order] if order else columns)

    def _from_objects(self, X: Any) -> Feeds | None:
        """Rows in forms of Python, or with names that are not read; None for any others."""
        plain = plain_rows(X)
        if self._named.lenient:
            plain = self._named.without_spare(plain)
        if plain is not X:
            return self.coerce(plain)
        if self._is_texts(X):
            return self._from_columns([frames.as_column(X).reshape(-1, *self._inputs[0].shape[1:])])
        if not isinstance(X, list | tuple):
            return None
        if not X:
            return self._no_rows()
        if not all(isinstance(row, list | tuple) for row in X):
            return None
        if len(self._inputs) == 1 and not self._has_columns:
            return self._from_tensors({self._name: X})
        return self.coerce(frames.array_of_rows(X, self._exact))

    def _is_texts(self, X: Any) -> bool:
        """Whether these are the texts of a model that takes one a row."""
        one = len(self.names) == 1 and self._rules[0][0].text
        return one and self._inputs[0].shape[1:] in ((), (1,)) and frames.is_one_column(X)

    def _no_rows(self) -> Feeds | None:
        """Tensors of no rows; None where their number is fixed."""
        feeds = {}
        for spec in self._inputs:
            if not isinstance(next(iter(spec.shape), None), str):
                return None
            sizes = [0 if isinstance(size, str) else size for size in spec.shape]
            feeds[spec.name] = np.empty(sizes, numpy_dtype(spec.dtype))
        return feeds

    def _from_array(self, X: Array) -> Feeds:
        if self._closed and type(X) is ndarray:
            feeds = self.whole_array(X)
            if feeds is not None:
                return feeds
        if X.dtype is self._open and self._inputs[0].fits(X.shape):
            return {self._name: X}
        if X.ndim < min(2, len(self._inputs[0].shape)):
            frames.refuse_single(X)
        places = self._named.in_array(X.shape[1]) if X.ndim == 2 else []
        if places:
            return self.coerce(X[:, places])
        if len(self._inputs) == 1:
            return self._from_tensors({self._name: X})
        if not all(len(spec.columns) == 1 for spec in self._inputs):
            raise SignatureError(
                f"rows without names cannot feed {len(self._inputs)} inputs; pass a frame, or a dict of arrays by name"
            )
        if X.ndim != 2 or X.shape[1] != len(self.names):
            raise SignatureError(
                f"an array of shape {X.shape} cannot feed {len(self.names)} columns: {self.names}"
            )
        return self._from_columns(list(X.T))

    def _from_dict(self, X: dict[str, Any], columns: list[Any]) -> Feeds:
        if self._has_columns:  # a tensor without columns may be a scalar
            frames.refuse_single(X)
        return self._cast_and_lay_out(columns)

    def _from_columns(self, columns: list[Any]) -> Feeds:
        return self.one_tensor_a_column(columns) or self._cast_and_lay_out(columns)

    def _from_tensors(self, X: Mapping[str, Any]) -> Feeds:
        feeds = {}
        for spec, rules in zip(self._inputs, self._rules, strict=True):
            feeds[spec.name] = _cast_tensor(frames.as_whole(X[spec.name], spec), spec, rules)
        check_dims(self._inputs, feeds)
        return feeds

    # The long way: cast, and lay out.

    def _cast_and_lay_out(self, columns: list[Any]) -> Feeds:
        """Tensors from one sequence of values for each column, in our order."""
        feeds: Feeds = {}
        for spec, rules, values in zip(self._inputs, self._rules, self._cast(columns), strict=True):
            if spec.columns:
                feeds[spec.name] = values
                check_shape(values, spec)
            else:
                feeds[spec.name] = _cast_tensor(frames.as_whole(values, spec), spec, rules)
        check_dims(self._inputs, feeds)
        return feeds

    def _cast(self, columns: list[Any]) -> list[Any]:
        """The tensors of columns; a tensor without columns stays as it is."""
        values = iter(columns)
        problems: list[str] = []
        lengths: set[int] = set()
        tensors = []
        for spec, rules in zip(self._inputs, self._rules, strict=True):
            if not spec.columns:
                tensors.append(next(values))
                continue
            own = [next(values) for _ in rules]
            cast = map(partial(_cast_or_note, problems=problems), own, rules)
            tensors.append(_side_by_side(cast, own, rules[0].target, lengths))
        if len(lengths) > 1 and not problems:
            problems.append(f"the columns have different lengths: {sorted(lengths)}")
        if problems:
            raise refused_rows(problems)
        return tensors


def column_rules(spec: TensorSpec) -> list[Rule]:
    """How to cast each column of a tensor; one Rule with its name for a tensor without columns."""
    target = numpy_dtype(spec.dtype)
    if not spec.columns:
        form = IMAGES.get(min(len(spec.shape), 4), "") if target.kind == "f" else ""
        return [Rule(spec.name, target, target, nullable=not spec.finite, form=form)]
    zoned = "zoned" if spec.dtype.endswith(f"{ZONE}]") else ""
    return [
        Rule(
            column.name,
            target,
            numpy_dtype(column.dtype),
            column.nullable,
            column.categories,
            form=column.form or zoned,
        )
        for column in spec.columns
    ]


def _shared_block(inputs: tuple[TensorSpec, ...], rules: list[Rule]) -> Block | None:
    """How to take a whole array at once, apart from the categories that its columns may hold."""
    spec = inputs[0]
    if len(inputs) > 1 or spec.dtype in ("string", *TIMES) or len(spec.shape) < 2:
        return None
    sizes = tuple(size for size in spec.shape[1:] if isinstance(size, int))
    if sizes != spec.shape[1:] or not isinstance(spec.shape[0], str):
        return None
    opened = [rule.opened() for rule in rules]
    if any(rule.kind != opened[0].kind for rule in opened):
        return None
    return Block(spec.name, sizes, opened[0])


def _single_rules(
    inputs: tuple[TensorSpec, ...], rules: list[list[Rule]]
) -> list[tuple[str, np.dtype[Any] | None, Rule]]:
    """Name, dtype that needs no cast, and Rule of each tensor; empty unless each has one column."""
    if not all(len(spec.columns) == 1 and isinstance(spec.shape[0], str) for spec in inputs):
        return []
    firsts = [each[0] for each in rules]
    return [(spec.name, rule.as_is, rule) for spec, rule in zip(inputs, firsts, strict=True)]


def _plain_array(values: object) -> Array | None:
    """One column as an array; None where it is not a column, and where values are masked."""
    try:
        array = frames.as_column(values)
    except SignatureError:
        return None
    return array if type(array) is ndarray else None


def _cast_or_note(values: Any, rule: Rule, problems: list[str]) -> Array:
    """One column as an array; what does not fit is added to `problems`."""
    try:
        array = frames.as_column(values)
        quick = quick_cast(array, rule) if type(array) is ndarray else None  # not where masked
        return cast_column(array, rule) if quick is None else quick
    except (CastError, SignatureError) as error:
        problems.append(f"column {rule.name!r}: {error}")
        return np.empty(0, rule.target)


def _side_by_side(
    columns: Iterator[Array], given: list[Any], target: np.dtype[Any], lengths: set[int]
) -> Array:
    """Columns as one tensor, each written before the next is cast: a bulk is in memory once less.

    Where those that were given have several lengths, which is refused, no tensor is made.
    """
    first = next(columns)
    if len(given) == 1:
        lengths.add(len(first))
        return first.reshape(-1, 1)
    rows = len(first) if len(first) <= FEW or _are_even(given) else 0
    block = np.empty((rows, len(given)), target)
    for j, values in enumerate(chain([first], columns)):
        lengths.add(len(values))
        if len(values) == len(block):
            block[:, j] = values
    return block


def _are_even(columns: list[Any]) -> bool:
    return len({len(values) for values in columns if hasattr(values, "__len__")}) == 1


def _cast_tensor(array: Array, spec: TensorSpec, rules: list[Rule]) -> Array:
    """Cast a whole tensor, as one block where its columns share their rules.

    Raises SignatureError.
    """
    if array.ndim == 1 and len(rules) == 1 and spec.columns:
        array = array.reshape(-1, 1)
    problems = []
    try:
        rules[0].check_pixels(array.dtype)
    except CastError as error:
        raise refused_rows([f"input {spec.name!r}: {error}"]) from None
    check_shape(array, spec)
    if all(rule.kind == rules[0].kind for rule in rules):
        try:
            return cast_column(array.reshape(-1), rules[0]).reshape(array.shape)
        except CastError as error:
            rows = max((1, *array.shape[:1]))
            width = max(1, array.size // rows)
            problems = [f"input {spec.name!r}: {error.in_rows_of(width)}"]
    if spec.columns:  # each by itself, which also names the columns at fault
        problems = []
        columns = list(array.T)
        cast = map(partial(_cast_or_note, problems=problems), columns, rules)
        block = _side_by_side(cast, columns, rules[0].target, set())
        if not problems:
            return block
    raise refused_rows(problems)
