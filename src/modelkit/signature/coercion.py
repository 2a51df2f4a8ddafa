"""From the caller's rows to tensors: read the columns, cast each one, lay them out.

Rows take one of three ways: as an array of all columns, as a frame that holds one, and else as
columns, which are read from whatever holds them (frames.py), cast each by its Rule (rule.py), and
laid side by side in their tensors. What a Rule does not cast quickly it casts value by value, or
says everything that is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, islice
from math import isfinite
from typing import Any, NamedTuple, final

import numpy as np
from numpy import ndarray, vdot

from modelkit._internal.arrays import Array, is_a
from modelkit.errors import SignatureError
from modelkit.signature import frames
from modelkit.signature.cast import CastError, exact_bits
from modelkit.signature.column_names import ColumnNames, refused_rows
from modelkit.signature.records import plain_rows
from modelkit.signature.rule import VDOT_ITEMS, Rule
from modelkit.signature.spec import (
    TIMES,
    ZONE,
    TensorSpec,
    check_dims,
    check_shape,
    no_rows,
    numpy_dtype,
)

Feeds = dict[str, Array]
# What a tensor of floats without columns may hold, by its dimensions; four stands for more.
IMAGES = {3: "planes", 4: "images"}
# Rows of a frame from which casting it whole, a copy of all, is slower than by column.
BULK = 16_384
ONE = ((), (1,))  # what follows the first size of one column
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
        "_free",
        "_has_columns",
        "_inputs",
        "_name",
        "_named",
        "_rule",
        "_rules",
        "_singles",
        "_tensors",
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
        # Whether columns of one length are of the right sizes.
        self._free = all(spec.columns and isinstance(spec.shape[0], str) for spec in inputs)
        # The tensors where each has one column, which needs no block of its own.
        self._singles: list[tuple[str, Rule, Any]] = []
        if all(len(spec.columns) == 1 for spec in inputs):
            for spec, (rule,) in zip(inputs, self._rules, strict=True):
                self._singles.append((spec.name, rule, rule.as_is))
        self.names = [rule.name for rules in self._rules for rule in rules]
        tensors = {spec.name for spec in inputs}
        columns = self._has_columns and tensors == {*self.names}
        self._tensors = None if columns else tensors
        self._named = ColumnNames(self.names, ignored, takes_extra=takes_extra)
        # For each column with categories: its position, and the categories.
        self._closed = [(j, rule.known) for j, rule in enumerate(self._rules[0]) if rule.closed]
        shared = _shared_block(inputs, self._rules[0])
        self.block = None if self._closed else shared
        self._name = inputs[0].name
        self._trailing = None if shared is None else shared.trailing  # no shape ends with None
        self._rule = self._rules[0][0] if shared is None else shared.rule
        of_floats = len(inputs) == 1 and self._rule.target.kind == "f"
        bits = min(exact_bits(rule.declared) for rule in self._rules[0])
        self._exact = 1 << bits if of_floats else 0  # below which its floats hold every integer

    def coerce(self, X: Any) -> Feeds:
        """Turn rows into tensors by name. Raises SignatureError; see `Signature.coerce`."""
        kind = type(X)
        if kind is ndarray:
            # As in `_of_array`, without the price of a call: threads hold the interpreter lock here.
            if X.shape[1:] == self._trailing and not self._closed:
                rule = self._rule
                if X.dtype is rule.target and 1 < X.size <= VDOT_ITEMS and isfinite(vdot(X, X)):
                    return {self._name: X}
                out = rule.quick_cast(X)
                if out is not None:
                    return {self._name: out}
        elif kind is dict and len(X) == len(self.names):
            try:
                columns = [X[name] for name in self.names]
            except KeyError:
                return self._read(X)  # which names the missing ones
            return self._of_columns(columns, X)
        elif kind is list and X and type(X[0]) is dict:
            return self._of_records(X)
        return self._read(X)

    def _of_records(self, records: list[Any]) -> Feeds:
        width = len(self.names)
        try:
            rows = [[row[name] for name in self.names] for row in records if len(row) == width]
        except (KeyError, TypeError):
            return self._read(records)
        if len(rows) < len(records) or not self._has_columns:
            return self._read(records)
        array = frames.numbers([*chain.from_iterable(rows)], self._exact) if self._exact else None
        if array is not None:
            return self._of_array(array.reshape(len(rows), width))
        return self._of_columns([*map(list, zip(*rows, strict=True))])

    def _read(self, X: Any) -> Feeds:
        """Rows in any form."""
        X = plain_rows(X)
        read = self._named.without_spare(X) if self._named.lenient else X
        for rows in (X, read):
            if isinstance(rows, dict) and rows.keys() == self._tensors:
                return self._of_tensors(rows)
        X = read
        if self._is_texts(X):
            shape = (-1, *self._inputs[0].shape[1:])
            return self._of_columns([frames.as_column(X).reshape(shape)])
        if isinstance(X, list | tuple):
            if not X and all(isinstance(next(iter(s.shape), None), str) for s in self._inputs):
                return {spec.name: no_rows(spec) for spec in self._inputs}
            if X and all(isinstance(row, list | tuple) for row in X):
                whole = len(self._inputs) == 1 and not self._has_columns
                X = (
                    frames.as_whole(X, self._inputs[0])
                    if whole
                    else frames.array_of_rows(X, self._exact)
                )
        if isinstance(X, ndarray):
            return self._of_array(X)
        return self._of_frame(X)

    def _is_texts(self, X: Any) -> bool:
        """Whether these are the texts of a model that takes one a row."""
        one = len(self.names) == 1 and self._rules[0][0].text
        return one and self._inputs[0].shape[1:] in ONE and frames.is_one_column(X)

    def _of_array(self, X: Array) -> Feeds:
        """One array of all columns, or of an only tensor: a memory map and a masked array, too."""
        places = self._named.in_array(X.shape[1]) if self._named.lenient and X.ndim == 2 else []
        if places:
            X = X[:, places]
        if type(X) is ndarray and X.shape[1:] == self._trailing:
            out = self._rule.quick_cast(X)
            known = self._closed
            if out is not None and all(k.issuperset(X[:, j].tolist()) for j, k in known):
                return {self._name: out}
        if X.ndim < min(2, len(self._inputs[0].shape)):
            frames.refuse_single(X)
        if len(self._inputs) == 1:
            return self._of_tensors({self._name: X})
        if not all(len(spec.columns) == 1 for spec in self._inputs):
            raise SignatureError(
                f"rows without names cannot feed {len(self._inputs)} inputs; pass a frame, or a dict of arrays by name"
            )
        if X.ndim != 2 or X.shape[1] != len(self.names):
            raise SignatureError(
                f"an array of shape {X.shape} cannot feed {len(self.names)} columns: {self.names}"
            )
        return self._of_columns(list(X.T))

    def _of_frame(self, X: Any) -> Feeds:
        """Anything with named columns; a frame of pandas that holds them in one array is cast whole."""
        if self.block is not None and self._inputs[0].columns and is_a(X, "pandas", "DataFrame"):
            values = frames.one_block(X)
            if values is not None and values.shape[1] < BULK and not self._named.order(X.columns):
                out = self._rule.quick_cast(values)
                if out is not None:
                    return {self._name: np.ascontiguousarray(out.T)}
        names, columns = frames.read_frame(X)
        if not self._has_columns:
            expected = "; ".join(map(str, self._inputs))
            raise SignatureError(
                "this model does not name its columns; pass an array, or a dict of arrays by input "
                f"name ({expected})"
            )
        order = self._named.order(names)
        return self._of_columns([columns[at] for at in order] if order else columns)

    def _of_tensors(self, X: Mapping[str, Any]) -> Feeds:
        feeds = {}
        for spec, rules in zip(self._inputs, self._rules, strict=True):
            feeds[spec.name] = _cast_tensor(frames.as_whole(X[spec.name], spec), spec, rules)
        check_dims(self._inputs, feeds)
        return feeds

    def _of_columns(self, columns: list[Any], named: dict[str, Any] | None = None) -> Feeds:
        """Tensors from one sequence of values for each column, in our order.

        `named` is the dict that they come from: where it was one record, the error says so.
        """
        feeds: Feeds = {}
        problems: list[str] = []
        for column, (name, rule, as_is) in zip(columns, self._singles, strict=False):
            values = None
            if type(column) is ndarray and (column.ndim == 1 or column.shape[1:] == (1,)):
                values = column if column.dtype is as_is else rule.quick_cast(column)
            if values is None:
                values = _cast_column(column, rule, problems)
            feeds[name] = values if values.ndim == 2 else values[:, None]
        lengths = {*map(len, feeds.values())}
        if not self._singles:
            given = iter(columns)
            for spec, rules in zip(self._inputs, self._rules, strict=True):
                if not spec.columns:
                    feeds[spec.name] = next(given)
                else:
                    own = [*islice(given, len(rules))]
                    feeds[spec.name] = _side_by_side(own, rules, problems, lengths)
        if len(lengths) > 1 and not problems:
            problems.append(f"the columns have different lengths: {sorted(lengths)}")
        if problems:
            if named is not None:
                frames.refuse_single(named)
            raise refused_rows(problems)
        return feeds if self._free else self._sized(feeds)

    def _sized(self, feeds: dict[str, Any]) -> Feeds:
        """Tensors of columns with their sizes checked, and the others cast."""
        for spec, rules in zip(self._inputs, self._rules, strict=True):
            if spec.columns:
                check_shape(feeds[spec.name], spec)
            else:
                whole = frames.as_whole(feeds[spec.name], spec)
                feeds[spec.name] = _cast_tensor(whole, spec, rules)
        check_dims(self._inputs, feeds)
        return feeds


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


def _cast_column(values: Any, rule: Rule, problems: list[str]) -> Array:
    """One column as an array; what does not fit is added to `problems`."""
    try:
        plain = type(values) is ndarray and values.ndim == 1
        return rule.cast(values if plain else frames.as_column(values))
    except (CastError, SignatureError) as error:
        problems.append(f"column {rule.name!r}: {error}")
        return np.empty(0, rule.target)


def _side_by_side(
    given: list[Any], rules: list[Rule], problems: list[str], lengths: set[int]
) -> Array:
    """Columns as one tensor, each written before the next is cast: a bulk is in memory once less.

    Where those that were given have several lengths, which is refused, no tensor is made.
    """
    columns = map(_cast_column, given, rules, [problems] * len(rules))
    first = next(columns)
    rows = len(first) if len(first) <= FEW or _are_even(given) else 0
    block = np.empty((rows, len(given)), rules[0].target)
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
            return rules[0].cast(array.reshape(-1)).reshape(array.shape)
        except CastError as error:
            rows = max((1, *array.shape[:1]))
            width = max(1, array.size // rows)
            problems = [f"input {spec.name!r}: {error.in_rows_of(width)}"]
    if spec.columns:  # each by itself, which also names the columns at fault
        problems = []
        block = _side_by_side(list(array.T), rules, problems, set())
        if not problems:
            return block
    raise refused_rows(problems)
