"""A whole graph from converters of our own, with its outputs by role."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
    argument,
    constant,
    joined,
    model_of,
    op,
    read_inputs,
    upright,
    width,
)
from modelkit.convert.estimators.traced import variable
from modelkit.convert.notes import Equivalents
from modelkit.convert.outputs import Role, class_values
from modelkit.convert.steps import jumps, with_parts
from modelkit.model.structure import Link, Structure
from modelkit.runtimes.terms.terms import Terms
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
    """A whole graph, and what is to be known of it.

    `narrow` is whether a part of it computes in float32 what its source computes in float64;
    `texts` says what is done to texts before it, and `terms` what each vectorizer counts.
    `refusals` are the reasons for which it refuses rows, and `structures` say of outputs what sum
    is behind them.
    """

    proto: onnx.ModelProto
    outputs: tuple[TensorSpec, ...]
    narrow: bool
    texts: Texts | None
    terms: tuple[Terms, ...]
    refusals: tuple[str, ...]
    structures: dict[str, Structure]

    def unread(self) -> set[str]:
        """The inputs that no node reads."""
        read = set(_read_names(self.proto.graph))
        return {value.name for value in self.proto.graph.input} - read

    def without(self, unread: Collection[str]) -> Composed:
        """The same without some of these inputs."""
        proto = type(self.proto)()
        proto.CopyFrom(self.proto)
        given = self.proto.graph.input
        kept = [value for value in given if value.name not in unread]
        gone = [place for place, value in enumerate(given) if value.name in unread]
        del proto.graph.input[:]
        proto.graph.input.extend(kept)
        structures = {
            name: replace(each, groups=tuple(place - bisect(gone, place) for place in each.groups))
            for name, each in self.structures.items()
        }
        texts = self.texts
        if texts is not None:
            passed = tuple(name for name in texts.passed if name not in unread)
            texts = replace(texts, passed=passed)
        return replace(self, proto=proto, texts=texts, structures=structures)


def _read_names(graph: onnx.GraphProto) -> Iterator[str]:
    """The names of the tensors that the nodes of a graph read, in graphs inside it too."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            yield from _read_names(attribute.g)


def composed(
    estimator: Any,
    inputs: list[TensorSpec],
    roles: tuple[Role, ...],
    rows: Any,
    categories: Mapping[str, tuple[Any, ...]] = MappingProxyType({}),
    nones: Collection[str] = (),
    *,
    closed: Mapping[str, Collection[Any]] = MappingProxyType({}),
    converters: Equivalents = MappingProxyType({}),
) -> Composed:
    """The graph of an estimator over inputs, which are the columns of `rows` of the example.

    `categories` are those of inputs that have some, `nones` the inputs of texts whose missing
    values are None, `closed` the values beside which the signature takes no others, by column, and
    `converters` gives equivalent estimators for some classes.

    Raises ConversionError.
    """
    arguments = {spec.name: argument(spec) for spec in inputs}
    find = partial(converter_of_estimator, converters=converters)
    for name, given in arguments.items():
        given.categories = categories.get(name, ())
        given.marks_none = name in nones
    names = [column.name for spec in inputs for column in spec.columns]
    some_jump = any(map(jumps, with_parts(estimator)))
    at = Converting(
        find,
        arguments,
        closed={place: closed[name] for place, name in enumerate(names) if name in closed},
        jumps=some_jump,
    )
    columns = replace(_columns(inputs, rows, arguments), ask=lambda: rows)
    answer = at.answer(estimator, columns)
    roles = tuple(role for role in roles if not role.optional or _has(answer, role))
    with at.inside(estimator):
        outputs = {role.name: _output(answer, role, estimator) for role in roles}
    return _finished(at, arguments, roles, outputs)


def _finished(
    at: Converting, arguments: dict[str, Var], roles: tuple[Role, ...], outputs: dict[str, Var]
) -> Composed:
    """The graph of outputs, with one more where a part refuses rows."""
    if at.refusals:
        outputs[REFUSED] = _refused([mask for mask, _ in at.refusals])
    texts = _texts(at, outputs)
    if texts is not None:
        arguments = {name: arguments[name] for name in texts.passed}
    ends = [] if texts else [role.name for role in roles if outputs[role.name].dtype.kind == "f"]
    proto, structures = _structured(arguments | at.filled, outputs, ends)
    if texts is not None:
        texts = replace(texts, dense=_makes_columns(proto.graph))
    specs = tuple(_spec_of(role, outputs[role.name]) for role in roles)
    for value, spec in zip(proto.graph.output, specs, strict=False):  # refusals come last
        _set_shape(value, spec)
    reasons = tuple(reason for _, reason in at.refusals)
    return Composed(proto, specs, at.narrow, texts, tuple(at.terms), reasons, structures)


def _structured(
    inputs: dict[str, Var], outputs: dict[str, Var], ends: Sequence[str]
) -> tuple[onnx.ModelProto, dict[str, Structure]]:
    """The graph of outputs, and the sums that some of them are made of, where they are such."""
    given = Columns(tuple(inputs.values()))
    sums = {name: found for name in ends if (found := _sum_behind(outputs[name], given))}
    proto, names = model_of(
        inputs, outputs, [each for _, tensors in sums.values() for each in tensors]
    )
    structures = {}
    for name, (structure, tensors) in sums.items():
        tensor, *table = (names.pop(0) for _ in tensors)
        structures[name] = replace(structure, tensor=tensor, table="".join(table))
    return proto, structures


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
    return joined(found)


def _columns(inputs: list[TensorSpec], rows: Any, arguments: dict[str, Var]) -> Columns:
    """The columns of rows; an input of columns of float32 and others is taken apart.

    In place of those that nobody reads, which are no inputs, is what no graph can be made of.
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


def _spec_of(role: Role, tensor: Var) -> TensorSpec:
    return TensorSpec(role.name, _dtype(tensor), ("batch", *role.tail))


def _set_shape(value: onnx.ValueInfoProto, spec: TensorSpec) -> None:
    """Give an output of the graph the shape that is declared."""
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for size in spec.shape:
        dim = shape.dim.add()
        setattr(dim, "dim_param" if isinstance(size, str) else "dim_value", size)


def _texts(at: Converting, outputs: dict[str, Var]) -> Texts | None:
    """The vectorizers that were met; columns that only they read are no inputs of the graph."""
    if not at.terms:
        return None
    read = read_inputs(at.arguments | at.filled, outputs)
    texts = {each.vectorizer.column for each in at.terms}
    passed = [name for name in at.arguments if name not in texts or name in read]
    return Texts(tuple(each.vectorizer for each in at.terms), tuple(passed))


def _makes_columns(graph: onnx.GraphProto) -> bool:
    """Whether a graph makes a column of each term, as `Converting.table_of` does."""
    scatters = (node for node in graph.node if node.op_type == "ScatterElements")
    return any(attribute.s == b"add" for node in scatters for attribute in node.attribute)


def _dtype(tensor: Var) -> str:
    return "string" if tensor.dtype == STRING else str(tensor.dtype)


def _has(answer: Answer, role: Role) -> bool:
    """Whether a converter gave what an output is made of."""
    return getattr(answer, FIELDS[role.verb]) is not None


def _output(answer: Answer, role: Role, estimator: Any) -> Var:
    """The tensor of one output, in its final rank."""
    if role.verb == "predict":
        found = _label(answer, estimator)
    elif role.part is not None:
        found = answer.several[role.part].asked("probabilities")
    elif role.verb == "transform":
        table = answer.asked("table")
        found = joined(table.parts) if role.strings else table.matrix(np.float64)
    else:
        found = answer.asked(FIELDS[role.verb])
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
    labels = []
    for part, classes in zip(answer.several, estimator.classes_, strict=True):
        labels.append(upright(_named(part, np.asarray(classes))))
    return joined(labels)


def _named(answer: Answer, classes: Any) -> Var:
    """The class of each row, from its place."""
    place: Var = answer.asked("place")
    values = class_values(classes)
    if values.tolist() == [False, True] and values.dtype == bool:
        return place.astype(np.bool_)
    if values.dtype == np.int64 and np.array_equal(values, np.arange(len(values))):
        return place
    return op.gather(constant(values), place)
