"""A whole graph from converters of our own, with its outputs by role."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import groupby, islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.dtypes import dtypes_of
from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.origins import origins
from modelkit.convert.estimators.table import converter_of_estimator
from modelkit.convert.estimators.tensors import (
    STRING,
    Answer,
    Columns,
    Var,
    ancestors,
    argument,
    column_stack,
    constant,
    key_of,
    model_of,
    op,
    upright,
    width,
)
from modelkit.convert.estimators.traced import variable
from modelkit.convert.notes import Equivalents
from modelkit.convert.outputs import Role, class_values
from modelkit.convert.steps import jumps, with_parts
from modelkit.model.structure import Link, Structure
from modelkit.runtimes.terms.vectorizer import Texts
from modelkit.signature.refusing import REFUSED
from modelkit.signature.spec import TensorSpec

if TYPE_CHECKING:
    import onnx

FIELDS = {
    "predict_proba": "probabilities",
    "decision_function": "decision",
    "score_samples": "score_samples",
}


@dataclass(frozen=True)
class Composed:
    """What a conversion gives: its state, and the tensors of outputs by name.

    `roles` are those outputs that a converter has. Behind them are the rows that a part refuses.
    """

    at: Converting
    roles: tuple[Role, ...]
    outputs: dict[str, Var]

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """What the outputs are."""
        dtypes = {name: output.dtype for name, output in self.outputs.items()}
        return tuple(
            TensorSpec(
                role.name,
                "string" if dtypes[role.name] == STRING else str(dtypes[role.name]),
                ("batch", *role.tail),
            )
            for role in self.roles
        )

    @cached_property
    def read(self) -> set[str]:
        """The inputs that something reads, without inputs of texts that only vectorizers read."""
        made_of = ancestors(self.outputs.values())
        return {name for name, given in self.at.arguments.items() if key_of(given) in made_of}

    @property
    def counted(self) -> set[str]:
        """The inputs of texts that vectorizers read."""
        return {each.vectorizer.column for each in self.at.terms}

    def graph(
        self, names: Iterable[str]
    ) -> tuple[onnx.ModelProto, dict[str, Structure], Texts | None]:
        """The graph over some of the inputs, the sums behind outputs, and what is done to texts before it."""
        at = self.at
        passed = [name for name in names if name in self.read or name not in self.counted]
        inputs = {name: at.arguments[name] for name in passed} | at.filled
        proto, structures = self._structured(inputs)
        for value, spec in zip(proto.graph.output, self.specs, strict=False):  # refusals come last
            _set_shape(value, spec)
        if not at.terms:
            return proto, structures, None
        vectorizers = tuple(each.vectorizer for each in at.terms)
        return proto, structures, Texts(vectorizers, tuple(passed), _makes_columns(proto.graph))

    def _structured(self, inputs: dict[str, Var]) -> tuple[onnx.ModelProto, dict[str, Structure]]:
        """The graph of outputs, and the sums that some of them are made of, where they are such."""
        given = Columns(tuple(inputs.values()))
        sums = {}
        for role in self.roles:
            end = self.outputs[role.name]
            found = _sum_behind(end, given) if end.dtype.kind == "f" and not self.at.terms else None
            if found is not None:
                sums[role.name] = found
        inner = [each for _, tensors in sums.values() for each in tensors]
        proto, names = model_of(inputs, self.outputs, inner)
        structures = {}
        for name, (structure, tensors) in sums.items():
            tensor, *table = (names.pop(0) for _ in tensors)
            structures[name] = replace(structure, tensor=tensor, table="".join(table))
        return proto, structures


def composed(
    estimator: Any,
    inputs: list[TensorSpec],
    roles: tuple[Role, ...],
    rows: Any,
    categories: Mapping[str, tuple[Any, ...]] = MappingProxyType({}),
    nones: Collection[str] = (),
    closed: Mapping[str, Collection[Any]] = MappingProxyType({}),
    converters: Equivalents = MappingProxyType({}),
) -> Composed:
    """The conversion of an estimator over inputs, which are columns of `rows` of the example.

    `categories` has the categories of each column that has some, `nones` the columns whose missing
    values are None, `closed` the only values that the signature accepts, by column, and `converters`
    gives equivalent estimators for some classes.

    Raises ConversionError.
    """
    arguments = _arguments(inputs, categories, nones)
    names = [column.name for spec in inputs for column in spec.columns]
    at = Converting(
        partial(converter_of_estimator, converters=converters),
        arguments,
        {place: closed[name] for place, name in enumerate(names) if name in closed},
        jumps=any(map(jumps, with_parts(estimator))),
    )
    columns = replace(_columns(inputs, rows, arguments), ask=lambda: rows)
    answer = at.answer(estimator, columns)
    roles = tuple(
        role
        for role in roles
        if not role.optional or getattr(answer, FIELDS[role.verb]) is not None
    )
    with at.inside(estimator):
        outputs = {role.name: _output(answer, role, estimator) for role in roles}
    if at.refusals:
        outputs[REFUSED] = _refused([mask for mask, _ in at.refusals])
    return Composed(at, roles, outputs)


def _arguments(
    inputs: list[TensorSpec], categories: Mapping[str, tuple[Any, ...]], nones: Collection[str]
) -> dict[str, Var]:
    """The inputs of a graph by name, which remember what is known of their columns."""
    found = {}
    for spec in inputs:
        name = spec.columns[0].name  # the only one where it has categories, or texts
        given = found[spec.name] = argument(spec)
        given.categories = categories.get(name, ())
        given.marks_none = given.dtype == STRING and name in nones
    return found


def _sum_behind(end: Var, given: Columns) -> tuple[Structure, list[Var]] | None:
    """What is known of the sum that an output is made of, and its tensor, and the table of its trees."""
    identity: Link = "identity"
    margin, link = end.margin or (end, identity)
    if margin.trees is None:
        columns = margin if margin.ndim == 2 else upright(margin)
        if not isinstance(columns.shape[1], int):
            return None
        additive = all(origin.additive for origin in origins(Columns((columns,)), given))
        return (Structure("", link), [margin]) if additive else None
    rows, factor, *tensors = margin.trees
    read = [origin.columns for origin in origins(Columns((rows,)), given)]
    if any(len(columns) > 1 for columns in read):
        return None
    groups = tuple(next(iter(columns), 0) for columns in read)
    return Structure("", link, factor, groups=groups), tensors


def _refused(masks: list[Var]) -> Var:
    """(n, masks) of float64: anything but 0 where a mask is true, or NaN, in a row."""
    found = []
    for mask in masks:
        table = mask.astype(np.float64)
        if width(table) > 1:
            table = np.max(table, axis=1, keepdims=True)
        found.append(table)
    return column_stack(found)


def _columns(inputs: list[TensorSpec], rows: Any, arguments: dict[str, Var]) -> Columns:
    """The columns of rows; an input of columns of float32 and others is taken apart.

    In place of those that nobody reads, which are not inputs, stands what no graph can be made of.
    """
    read = {column.name for spec in inputs for column in spec.columns}
    names = [str(name) for name in getattr(rows, "columns", read)]
    dtypes = [dtype for name, dtype in zip(names, dtypes_of(rows), strict=True) if name in read]
    parts: list[Var] = []
    first = 0
    for spec in inputs:
        given = arguments[spec.name]
        own = dtypes[first : first + len(spec.columns)]
        first += len(own)
        if np.float32 in own and spec.dtype == "float64":
            parts += _apart(given, own)
        else:
            given.source_dtype = None if given.dtype == STRING else np.result_type(*own)
            parts.append(given)
    whole = Columns(tuple(parts))
    unread = variable(np.bool_, ("n", 1))
    places = iter(range(len(read)))
    found: list[Var] = []
    for is_read, run in groupby(names, read.__contains__):
        count = len(list(run))
        found += whole.take([*islice(places, count)]).parts if is_read else [unread] * count
    return Columns(tuple(found))


def _apart(given: Var, dtypes: Sequence[np.dtype[Any]]) -> list[Var]:
    """Columns of float32 as such, beside others; each of fewer bits alone, for `take` to find."""

    def kind_of(place: int) -> Any:
        few = np.can_cast(dtypes[place], np.float32)
        return (few, place if few and dtypes[place] != np.float32 else None)

    parts = []
    for _, run in groupby(range(len(dtypes)), kind_of):
        places = list(run)
        dtype = np.result_type(*(dtypes[place] for place in places))
        part = given[:, places] if len(places) < len(dtypes) else given
        part = part.astype(dtype) if dtype == np.float32 else part
        part.source_dtype = dtype
        parts.append(part)
    return parts


def _set_shape(value: onnx.ValueInfoProto, spec: TensorSpec) -> None:
    """Give an output of the graph the shape that is declared."""
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for size in spec.shape:
        dim = shape.dim.add()
        setattr(dim, "dim_param" if isinstance(size, str) else "dim_value", size)


def _makes_columns(graph: onnx.GraphProto) -> bool:
    """Whether a graph makes a column of each term, as `Converting.table_of` does."""
    scatters = (node for node in graph.node if node.op_type == "ScatterElements")
    return any(attribute.s == b"add" for node in scatters for attribute in node.attribute)


def _output(answer: Answer, role: Role, estimator: Any) -> Var:
    """The tensor of one output, in its final rank."""
    if role.verb == "predict":
        found = _label(answer, estimator)
    elif role.part is not None:
        found = answer.several[role.part].required("probabilities")
    elif role.verb == "transform":
        table = answer.required("table")
        found = column_stack(table.parts) if role.strings else table.matrix(np.float64)
    else:
        found = answer.required(FIELDS[role.verb])
    if found.ndim != 1 + len(role.tail):
        found = found.reshape(-1, *role.tail)
    return found


def _label(answer: Answer, estimator: Any) -> Var:
    """What `predict` gives."""
    if answer.prediction is not None:
        return answer.prediction
    if answer.label is not None:
        return answer.label
    if not answer.several:
        return _named(answer, np.asarray(estimator.classes_))
    pairs = zip(answer.several, estimator.classes_, strict=True)
    return column_stack([_named(part, np.asarray(classes)) for part, classes in pairs])


def _named(answer: Answer, classes: Any) -> Var:
    """The class of each row, from its place."""
    place: Var = answer.required("place")
    values = class_values(classes)
    if values.tolist() == [False, True] and values.dtype == bool:
        return place.astype(np.bool_)
    if values.dtype == np.int64 and np.array_equal(values, np.arange(len(values))):
        return place
    return op.gather(constant(values), place)
