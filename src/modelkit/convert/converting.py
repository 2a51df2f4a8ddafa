"""A conversion under way: what each converter of an estimator is given beside its columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from modelkit.convert.tensors import Answer, Columns, Var, argument, constant, op
from modelkit.convert.texts import TextConverters
from modelkit.errors import ConversionError
from modelkit.spec import TensorSpec
from modelkit.texts.terms import Terms
from modelkit.texts.vectorizer import counts_of

TensorConverter = Callable[[Any, Columns, "Converting"], Answer]
Leaf = Callable[[Any, list[TensorSpec]], tuple[onnx.ModelProto, TextConverters]]


@dataclass(frozen=True)
class Fill:
    """A column of texts that an imputer filled: which one, and the text in place of the marker."""

    filled: Var
    column: Var
    marker: str
    text: str


class Converting:
    """A conversion under way: what it was told, and what it found out.

    `narrow` is whether a part computes in float32 what its source computes in float64. `terms` are
    what vectorizers of texts count, and `filled` the inputs of the graph that are filled with these
    counts. `fills` are the columns of texts that imputers filled, by their `id`.

    Args:
        converter_of: the converter of an estimator.
        leaf: converts one estimator alone, over inputs of these names and dtypes.
        arguments: the inputs of the graph, by name.
        nones: the inputs of texts whose missing values are None, and not NaN.
    """

    def __init__(
        self,
        converter_of: Callable[[Any], TensorConverter],
        leaf: Leaf,
        arguments: dict[str, Var],
        nones: frozenset[str] = frozenset(),
    ) -> None:
        self._converter_of = converter_of
        self.leaf = leaf
        self.arguments = arguments
        self.nones = nones
        self.narrow = False
        self.terms: list[Terms] = []
        self.filled: dict[str, Var] = {}
        self.fills: dict[int, Fill] = {}

    def name_of(self, tensor: Var) -> str | None:
        """The name of the input that a tensor is; None for a tensor that was made."""
        return next(
            (name for name, given in self.arguments.items() if given is tensor),
            None,
        )

    def counted(self, terms: tuple[Terms, ...]) -> list[Var]:
        """The inputs that are filled with the counts of some vectorizers, in their order.

        Raises ConversionError.
        """
        made = {}
        for each in terms:
            column = each.vectorizer.column
            if column not in self.arguments:
                raise ConversionError(
                    "a vectorizer must read a column as it is; apply the step before it to the "
                    "texts"
                )
            for spec in counts_of(len(self.terms)):
                made[spec.name] = argument(spec)
            self.terms.append(each)
        self.filled |= made
        return list(made.values())

    def answer(self, estimator: Any, columns: Columns) -> Answer:
        """What an estimator answers for these columns. Raises ConversionError."""
        convert = self._converter_of(estimator)
        return convert(estimator, columns, self)

    def place(
        self,
        estimator: Any,
        columns: Columns,
        places: Any,
    ) -> Var:
        """The label of each row, as a place in a list of places by class."""
        said: Var = self.answer(estimator, columns).asked("place")
        if np.array_equal(places, np.arange(len(places))):
            return said
        return op.gather(constant(places, np.int64), said)

    @staticmethod
    def place_of(label: Var, classes: Any) -> Var:
        """The number of the class that each label, (n,), is."""
        known = classes.astype(np.str_) if classes.dtype.kind in "OU" else classes.astype(np.int64)
        if np.array_equal(known, np.arange(len(known))):
            return label
        rows = op.reshape(label, constant([-1, 1], np.int64))
        same = op.equal(rows, constant(known[None]))
        return op.arg_max(op.cast(same, to=np.int32), axis=1, keepdims=0)
