"""What a converter takes and gives: columns of a table as typed tensors, and what a model answers.

The tensors are the ones of `traced`, with what is written with them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np

from modelkit._internal.arrays import is_a
from modelkit.convert.asking import allowed_to_fail
from modelkit.convert.estimators import elementary  # noqa: F401 - it fills the table of ufuncs
from modelkit.convert.estimators.traced import (
    Traced,
    affine,
    alike,
    build,
    constant,
    cos,
    gathered,
    linked,
    log_sum_exp,
    ml,
    norms,
    op,
    relu,
    repeated,
    row_sums,
    sigmoid,
    sin,
    smallest,
    softmax,
    squares,
    total,
    traced,
    variable,
)
from modelkit.errors import ConversionError
from modelkit.signature.frames import whole_array
from modelkit.signature.spec import TIMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    import onnx

    from modelkit.signature.spec import TensorSpec

    Var = Any  # numpy's types know nothing of it
else:
    Var = Traced
IR_VERSION = 10  # the oldest that has TreeEnsemble
STRING = np.dtype(np.str_)

__all__ = [
    "Traced",
    "Var",
    "affine",
    "alike",
    "constant",
    "cos",
    "gathered",
    "linked",
    "log_sum_exp",
    "ml",
    "norms",
    "op",
    "relu",
    "repeated",
    "row_sums",
    "sigmoid",
    "sin",
    "smallest",
    "softmax",
    "squares",
    "total",
    "traced",
]

# The converter of each class, by its library and name, such as "sklearn.Ridge".
TENSOR_CONVERTERS: dict[str, Callable[..., Any]] = {}
Function = TypeVar("Function", bound=Callable[..., Any])


def converts(*classes: str) -> Callable[[Function], Function]:
    """Make a function the converter of classes; a name without a library is of scikit-learn."""

    def register(converter: Function) -> Function:
        for name in classes:
            key = name if "." in name else f"sklearn.{name}"
            assert key not in TENSOR_CONVERTERS, key
            TENSOR_CONVERTERS[key] = converter
        return converter

    return register


def refuse(estimator: Any, why: str) -> NoReturn:
    """Raise ConversionError for an estimator, with what its class is followed by in the message."""
    name = type(estimator).__name__
    raise ConversionError(f"{name}{why}", step=name)


@dataclass(frozen=True)
class Columns:
    """The columns of a table: matrices side by side, each of one dtype.

    `stored` is None for a table that is dense in the source. For a sparse one it is a table like it
    that is 0 exactly where the source stores no number; or the name of a step that stores some
    zeros, where no rule says which. `ask` gives the rows of the example as the source has them in
    these columns; None where that is not known.
    """

    parts: tuple[Var, ...]
    stored: Columns | str | None = None
    ask: Callable[[], Any] | None = field(default=None, compare=False)

    def rows(self) -> Any:
        """The rows of the example as the source has them in these columns; None if not known."""
        if self.ask is None:
            return None
        with suppress(ConversionError), allowed_to_fail():
            return self.ask()
        return None

    def table(self) -> Any:
        """These rows as a frame of pandas or an array, of a sparse matrix with its zeros."""
        rows = self.rows()
        if np.ndim(rows) == 1 and hasattr(rows, "to_frame"):
            rows = rows.to_frame()
        if is_a(rows, "pandas", "DataFrame"):
            return rows
        array = whole_array(rows)
        return array[:, None] if np.ndim(array) == 1 else array

    def array(self) -> Any:
        """These rows as most estimators pass them on: an array; None if not known."""
        rows = self.rows()
        return rows.to_numpy() if is_a(rows, "pandas", "DataFrame") else rows

    def _rows_of(self, places: Sequence[int]) -> Any:
        from sklearn.utils import _safe_indexing

        rows = self.rows()
        return None if rows is None else _safe_indexing(rows, list(places), axis=1)

    @property
    def widths(self) -> list[int]:
        """How many columns each part has."""
        return [width(part) for part in self.parts]

    @property
    def spans(self) -> list[tuple[Var, slice]]:
        """Each part, and where its columns are among all."""
        ends = np.cumsum(self.widths).tolist()
        return [
            (part, slice(end - width(part), end))
            for part, end in zip(self.parts, ends, strict=True)
        ]

    def take(self, places: Sequence[int]) -> Columns:
        """Some of the columns, in the order asked for; neighbours from one part stay one part."""
        homes = [(number, at) for number, wide in enumerate(self.widths) for at in range(wide)]
        parts: list[Var] = []
        for number, run in groupby((homes[place] for place in places), itemgetter(0)):
            part = self.parts[number]
            own = [at for _, at in run]
            parts.append(part if own == list(range(width(part))) else part[:, own])
        stored = self.stored.take(places) if isinstance(self.stored, Columns) else self.stored
        ask = None if self.ask is None else partial(self._rows_of, places)
        return Columns(tuple(parts), stored, ask)

    def matrix(self, dtype: Any) -> Var:
        """All columns as one matrix of numbers.

        Raises ConversionError where one holds strings, or where there is none.
        """
        if not self.parts:
            raise ConversionError(
                "a step gives zero columns, such as a MissingIndicator fitted without missing values, "
                "or a ColumnTransformer that drops all; leave it out"
            )
        if any(part.dtype == STRING for part in self.parts):
            raise ConversionError(
                "it takes numbers, but gets columns of strings; put OneHotEncoder or "
                "OrdinalEncoder before it"
            )
        return column_stack([part.astype(dtype) for part in self.parts])


def hstack(tables: Sequence[Columns], *, sparse: bool) -> Columns:
    """Tables side by side; `sparse` is whether they are one sparse table in the source.

    The source then stores what is not 0 of those that are dense.
    """
    parts = tuple(part for table in tables for part in table.parts)
    if not sparse:
        return Columns(parts)
    unknown = next((table.stored for table in tables if isinstance(table.stored, str)), None)
    if unknown is not None:
        return Columns(parts, unknown)
    stored = [table.stored if isinstance(table.stored, Columns) else table for table in tables]
    return Columns(parts, hstack(stored, sparse=False))


@dataclass(frozen=True)
class Answer:
    """What a model answers for n rows; None for what it has not.

    `place` is the number of the class that is the label, (n,) of int64; a model without classes has
    its `label` as it is. `probabilities` are (n, classes), `decision` (n,) or (n, classes),
    `prediction` (n,) or (n, targets), `score_samples` (n,). `several` are the answers to each
    target of a classifier with several, and `table` is what a transformer gives.
    """

    place: Var | None = None
    label: Var | None = None
    probabilities: Var | None = None
    decision: Var | None = None
    prediction: Var | None = None
    score_samples: Var | None = None
    table: Columns | None = None
    several: tuple[Answer, ...] = ()

    def required(self, what: str) -> Any:
        """One of the fields, by name. Raises ConversionError where the model has none of it."""
        found = getattr(self, what)
        if found is None:
            raise ConversionError(
                f"it needs {what.replace('_', ' ')} from a part that cannot give it; save the model "
                "with format='joblib'"
            )
        return found


def answer_of(found: Any) -> Answer:
    """What a converter gives: an Answer, or the table of a transformer."""
    answer = found if isinstance(found, Answer) else Answer(table=found)
    table: Any = answer.table
    if not isinstance(table, Traced):
        return answer
    return replace(answer, table=Columns((getattr(table, "matrix", table),)))


def argument(spec: TensorSpec) -> Var:
    """An input of the graph."""
    times = spec.dtype in TIMES
    dtype = np.int64 if times else STRING if spec.dtype == "string" else spec.dtype
    made = variable(dtype, spec.shape)
    made.input = spec.name
    made.times = spec.dtype if times else None
    return made


def model_of(
    inputs: dict[str, Var], outputs: dict[str, Var], inner: Sequence[Var] = ()
) -> tuple[onnx.ModelProto, list[str]]:
    """The graph from inputs to outputs, and the names that tensors inside have there."""
    marks = [f"inner/{place}" for place in range(len(inner))]
    proto = build(inputs, outputs | dict(zip(marks, inner, strict=True)))
    proto.ir_version = IR_VERSION
    del proto.graph.output[len(outputs) :]
    _name_outputs(proto.graph)
    nodes = []
    names = dict.fromkeys(marks, "")
    for node in proto.graph.node:
        if node.output[0] in names:
            names[node.output[0]] = node.input[0]
        elif node.op_type == "Constant" and node.attribute[0].HasField("t"):
            tensor = proto.graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
        else:
            nodes.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto, list(names.values())


def _name_outputs(graph: onnx.GraphProto) -> None:
    """Call tensors as the outputs that they are, without a node in between for each."""
    makers = {name: node for node in graph.node for name in node.output}
    given = {value.name for value in graph.output}
    renamed: dict[str, str] = {}
    for node in list(graph.node):
        if node.op_type != "Identity" or node.output[0] not in given:
            continue
        made = node.input[0]
        free = made not in renamed and made not in given
        if free and made in makers and makers[made].op_type != "Constant":
            renamed[made] = node.output[0]
            graph.node.remove(node)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]


def key_of(tensor: Var) -> Any:
    """The identity of a tensor: Vars with one key are one tensor."""
    return tensor._var_info  # no public way


def ancestors(tensors: Iterable[Var], left_out: AbstractSet[Any] = frozenset()) -> set[Any]:
    """The keys of tensors, and of all that they are made of by others than those left out."""
    todo = [key for key in map(key_of, tensors) if key not in left_out]
    seen = set(todo)
    for each in todo:
        new = {*each._op.dependencies} - seen - left_out  # no public way
        todo += new
        seen |= new
    return seen


def width(tensor: Var) -> int:
    """How many columns a matrix has. Raises ConversionError where that is not known."""
    shape = tensor.unwrap_tensor().shape
    if shape is None or len(shape) != 2 or not isinstance(shape[1], int):
        raise ConversionError(
            f"it gets a tensor of the shape {shape} instead of a matrix of a known width; save "
            "the model with format='joblib'"
        )
    return shape[1]


def in_dtypes(matrix: Var, dtypes: Sequence[np.dtype[Any]]) -> list[Var]:
    """A matrix as matrices side by side: its columns of float32, and the others."""
    parts = []
    for single, run in groupby(range(len(dtypes)), lambda place: dtypes[place] == np.float32):
        (part,) = Columns((matrix,)).take(list(run)).parts
        parts.append(part.astype(np.float32 if single else matrix.dtype))
    return parts


def column_stack(tensors: Sequence[Var]) -> Var:
    """Tensors side by side, of which a vector is one column."""
    return np.concatenate([upright(each) if each.ndim == 1 else each for each in tensors], axis=1)


def upright(vector: Var) -> Var:
    """A vector as a matrix of one column."""
    return np.reshape(vector, (-1, 1))


def flat(matrix: Var) -> Var:
    """A matrix of one column as a vector."""
    return np.reshape(matrix, -1)


def logistic(scores: Var) -> Var:
    """1 / (1 + exp(-x)) of float64; onnxruntime's Sigmoid gives 0 below -37."""
    return linked(1.0 / (1.0 + np.exp(-scores)), scores, "logistic")


def largest(scores: Var) -> Var:
    """The place of the largest number of each row, of equals the first."""
    return np.argmax(scores, axis=1)


def likeliest(likely: Var, decision: Var | None = None) -> Answer:
    """What a classifier answers whose label has the largest probability."""
    return Answer(place=largest(likely), probabilities=likely, decision=decision)


def beyond_bound(above: Var, likely: Var, *, several: bool) -> Answer:
    """What a classifier answers whose second class, or each of `several` labels, is above a bound."""
    label = above.astype(np.int64)
    if several:
        return Answer(label=label, probabilities=likely)
    return Answer(place=flat(label), probabilities=complement(likely))


def complement(likely: Var) -> Var:
    """(n, 2) from the probability of the second class, (n, 1)."""
    pair = np.concatenate([1.0 - likely, likely], axis=1)
    margin = getattr(likely, "margin", None)
    return linked(pair, *margin) if margin else pair


def shares(scores: Var) -> Var:
    """Scores of each row over their sum; equal shares where that is 0."""
    whole = np.sum(scores, axis=1, keepdims=True)
    found = np.where(whole == 0.0, 1 / scores.shape[1], scores / whole)
    margin, link = getattr(scores, "margin", None) or (scores, "")
    return linked(found, margin, "share") if link == "logistic" else found
