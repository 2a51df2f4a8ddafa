"""A conversion under way: what each converter of an estimator is given beside its columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.asking import place_of_last, placed
from modelkit.convert.estimators.guards import CONTAINERS, not_finite, reaches_infinity
from modelkit.convert.estimators.origins import origins
from modelkit.convert.estimators.rounding import dtypes_if_rounded_once
from modelkit.convert.estimators.selection import is_selector
from modelkit.convert.estimators.tensors import (
    STRING,
    Answer,
    Columns,
    Var,
    affine,
    ancestors,
    answer_of,
    argument,
    constant,
    gathered,
    in_dtypes,
    key_of,
    op,
    refuse,
    total,
)
from modelkit.convert.parity.rows import numbers_in
from modelkit.convert.steps import jumps, parts_of
from modelkit.errors import ConversionError, MissingExtraError
from modelkit.runtimes.terms.terms import Terms
from modelkit.runtimes.terms.vectorizer import counts_of

TensorConverter = Callable[[Any, Columns, "Converting"], Any]  # of what `answer_of` takes


@dataclass(frozen=True)
class NonZeros:
    """Columns of which each row has a few that are not zero, k at most.

    `places` says which columns these are, (n, k) of int64, `numbers` what is in them, of float64,
    and `width` is how many columns there are. A column that is named twice holds the sum.
    """

    places: Var
    numbers: Var
    width: int


@dataclass(frozen=True)
class OneHot:
    """Columns of which each row has a 1 in one, or in none, and zeros in the others.

    `places` are the numbers of the columns with the 1, (n, 1) of int64, and `width` for none.
    """

    places: Var
    width: int


@dataclass(frozen=True)
class Fill:
    """A column of texts that an imputer filled: which one, and the text in place of the marker."""

    column: Var
    marker: str
    text: str


class Converting:
    """The state of a conversion: facts about the example, and notes of the converters.

    `rounds` is whether a part computes in float32 what its source computes in float64. `terms` are
    what vectorizers of texts count, and `filled` the inputs of the graph that are filled with these
    counts. `refusals` are the rows that a part refuses, as masks, (n, k) of booleans or numbers, each
    with the reason.

    Args:
        converter_of: the converter of an estimator.
        arguments: the inputs of the graph, by name.
        closed: the values beside which columns of inputs take no others, by the place of the column.
        jumps: whether anything in the model compares with thresholds.
    """

    def __init__(
        self,
        converter_of: Callable[[Any], TensorConverter],
        arguments: dict[str, Var],
        closed: Mapping[int, Collection[Any]],
        *,
        jumps: bool,
    ) -> None:
        self._converter_of = converter_of
        self.arguments = arguments
        self.jumps = jumps
        self.rounds = False
        self.terms: list[Terms] = []
        self.filled: dict[str, Var] = {}
        self.refusals: list[tuple[Var, str]] = []
        self._closed = closed
        self._reaching: set[Any] = set()  # what may not be finite, by key
        self._checked: set[Any] = set()  # what is finite in all rows but those refused, by key
        self._path: list[Any] = []  # of estimators, each of which is part of the one before it
        self._rounded: list[tuple[Var, str]] = []  # and the step that gives it

    def answer(self, estimator: Any, columns: Columns) -> Answer:
        """What an estimator answers for these columns. Raises ConversionError."""
        with self.inside(estimator):
            if jumps(estimator):
                self.check_exact(columns)
            convert = self._converter_of(estimator)
            parts = parts_of(estimator, [])
            # As functions, what hands its columns on, and what converters= gives may.
            function = type(estimator).__name__ == "FunctionTransformer"
            takes_times = parts or function or isinstance(convert, partial)
            if not takes_times and any(part.times for part in columns.parts):
                refuse(
                    estimator,
                    " gets a column of times, which is not a number in a graph: put "
                    "FunctionTransformer(lambda X: ... .dt.hour ...) before it",
                )
            self.guard(estimator, columns)
            answer = answer_of(convert(estimator, columns, self))
            composite = parts or is_selector(estimator)
            if not composite and not jumps(estimator) and np.float32 in self.dtypes(columns):
                answer = self._as_in_source(answer, estimator, columns)
        if reaches_infinity(estimator):
            made = () if answer.table is None else answer.table.parts
            made += () if answer.prediction is None else (answer.prediction,)
            self._reaching.update({*map(key_of, made)} - {*map(key_of, columns.parts)})
        return answer

    def guard(self, estimator: Any, columns: Columns) -> None:
        """Refuse the rows of which an estimator refuses the numbers that steps before it made."""
        if any(hasattr(estimator, attribute) for attribute in CONTAINERS):
            return
        name = type(estimator).__name__
        if name == "PowerTransformer" and estimator.method == "box-cox":
            refused = columns.matrix(np.float64) <= 0.0
            self.refuse(refused, f"{name} refuses 0 or a negative number")
        for part, its in columns.spans:
            made = part.dtype.kind == "f"
            if made and ancestors([part], self._checked) & self._reaching:
                masks, finite = not_finite(estimator, part, its.start, sum(columns.widths))
                for mask in masks:
                    self.refuse(
                        mask,
                        f"{name} refuses this row: an earlier step made NaN, infinity or too large a "
                        "number of it (such as log(0))",
                    )
                if finite:
                    self._checked.add(key_of(part))

    def refuse(self, where: Var, reason: str) -> None:
        """Refuse the rows in which a mask is not 0, (n, k) of booleans or numbers."""
        place = place_of_last(self._path)
        self.refusals.append((where, f"{place}: {reason}" if place else reason))

    def is_closed(self, column: Var, known: Collection[Any]) -> bool:
        """Whether a column holds the known values alone: an input whose others are refused before."""
        if column.fill is not None:
            known = {*known, column.fill.marker}
            column = column.fill.column
        (origin,) = origins(Columns((column,)), Columns(tuple(self.arguments.values())))
        held = [self._closed.get(place) for place in origin.columns if origin.same]
        return any(each is not None and set(known).issuperset(each) for each in held)

    def is_single(self, columns: Columns) -> bool:
        """Whether scikit-learn makes one array of float32 of columns, and computes in that."""
        dtypes = self.dtypes(columns)
        return STRING not in dtypes and bool(dtypes) and np.result_type(*dtypes) == np.float32

    def dtypes(self, columns: Columns) -> list[np.dtype[Any]]:
        """The dtype of each part of columns in the source."""
        known = [(part.source_dtype, part.dtype) for part in columns.parts]
        return [dtype if source is None else source for source, dtype in known]

    def float_dtype(self, columns: Columns) -> Any:
        """The dtype that scikit-learn computes in with columns."""
        return np.float32 if self.is_single(columns) else np.float64

    def _as_in_source(self, answer: Answer, estimator: Any, columns: Columns) -> Answer:
        """An answer whose floats were computed in float64, and may be of float32 in the source."""
        table = answer.table
        if table is not None:
            table = self._table_as_in_source(table, estimator, columns)
        for each in (
            answer.probabilities,
            answer.decision,
            answer.prediction,
            answer.score_samples,
        ):
            if each is not None and self.is_single(columns):
                self._note_rounded(each, estimator)
        several = [self._as_in_source(each, estimator, columns) for each in answer.several]
        return replace(answer, table=table, several=tuple(several))

    def _table_as_in_source(self, table: Columns, estimator: Any, columns: Columns) -> Columns:
        """The table of a step, in float32 where its source's is; noted where that rounds otherwise."""
        single = self.is_single(columns)
        rows = columns.table()
        known = None if rows is None else dtypes_if_rounded_once(estimator, rows)
        dtypes = known or [np.dtype(np.float32 if single else np.float64)] * sum(table.widths)
        parts: list[Var] = []
        for part, its in table.spans:
            if part.dtype != np.float64 or any(part is given for given in columns.parts):
                parts.append(part)
                continue
            found = in_dtypes(part, dtypes[its])
            parts += found
            if known is None and (single or rows is not None):
                for each in found:
                    self._note_rounded(each, estimator)
        return replace(table, parts=tuple(parts))

    def _note_rounded(self, numbers: Var, estimator: Any) -> None:
        """Remember numbers that a step computes in float32 in the source, and in float64 here."""
        self._rounded.append((numbers, type(estimator).__name__))
        self.rounds = True

    def check_exact(self, columns: Columns) -> None:
        """Raise ConversionError for columns that an estimator compares, and that have other last digits."""
        made_of = ancestors(columns.parts)
        for number, step in self._rounded:
            if key_of(number) in made_of:
                name = type(self._path[-1]).__name__
                raise ConversionError(
                    f"{name} compares with thresholds what {step} computes in float32, whose last "
                    "digits differ in a graph; pass X.astype('float64') to fit and as example, "
                    "or save the model with format='joblib'"
                )

    @contextmanager
    def inside(self, estimator: Any) -> Iterator[None]:
        """Convert a part of a model: what is raised meanwhile says where that stands."""
        self._path.append(estimator)
        try:
            yield
        except MissingExtraError:
            raise
        except Exception as error:
            refusal = placed(error, self._path)
            if refusal is error:
                raise
            raise refusal from error
        finally:
            self._path.pop()

    @staticmethod
    def values_of(columns: Columns, place: int) -> Array | None:
        """The values that the source has in a column of numbers; None if not known."""
        rows = columns.table()
        return None if rows is None else numbers_in(rows, place)

    def counted(self, terms: Terms) -> list[Var]:
        """The two inputs that are filled with what a vectorizer counts: its terms, and how often.

        Raises ConversionError.
        """
        made = {spec.name: argument(spec) for spec in counts_of(len(self.terms))}
        self.terms.append(terms)
        self.filled |= made
        return list(made.values())

    def table_of(self, nonzeros: NonZeros) -> Var:
        """All columns, most of them zero; `product` reads those alone that are not."""
        rows = op.shape(nonzeros.places, start=0, end=1)
        shape = np.concatenate([rows, constant([nonzeros.width], np.int64)], axis=0)
        zeros = op.constant_of_shape(shape, value=np.zeros(1))
        table = op.scatter_elements(
            zeros, nonzeros.places, nonzeros.numbers, axis=1, reduction="add"
        )
        table = table.reshape(-1, nonzeros.width)
        table.nonzeros = nonzeros
        return table

    def product(self, columns: Columns, weights: Array, shift: Array) -> Var:
        """(n, k) of float64: the columns times `weights`, (columns, k), plus `shift`, (k,)."""
        products: list[Var] = []
        others: list[Var] = []
        rows: list[Array] = []
        for part, its in columns.spans:
            own = weights[its]
            if part.nonzeros is not None:
                products.append(_product_of_nonzeros(part.nonzeros, own))
            elif part.one_hots:
                products += _products_of_one_hots(part.one_hots, own)
            else:
                others.append(part)
                rows.append(own)
        if not others:
            return total([*products, constant(shift, np.float64)])
        matrix = Columns(tuple(others)).matrix(np.float64)
        whole = affine(matrix, np.concatenate(rows), shift)
        for added in products:
            whole = whole + added
        return whole


def _product_of_nonzeros(nonzeros: NonZeros, weights: Array) -> Var:
    """(n, k): the columns that are not zero times their weights alone."""
    taken = gathered(weights, nonzeros.places)
    row = nonzeros.numbers[:, None]
    return op.squeeze(row @ taken, constant([1], np.int64))


def _products_of_one_hots(codes: list[OneHot], weights: Array) -> list[Var]:
    """(n, k) each: the weights of the column with the 1; 0 where there is none."""
    found = []
    start = 0
    count = weights.shape[1]
    for each in codes:
        own = weights[start : start + each.width]
        start += each.width
        taken = gathered(np.vstack([own, np.zeros(count)]), each.places)
        found.append(taken.reshape(-1, count))
    return found
