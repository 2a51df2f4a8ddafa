"""Names for the outputs of a graph, and a label where it gives probabilities alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelkit._internal.arrays import Array
from modelkit.convert.classes import LABEL_OUTPUT
from modelkit.errors import ConversionError
from modelkit.signature.spec import TensorSpec

# Labels in a graph and in a signature, by the kind of their dtype in numpy.
ELEMENTS = {"U": TensorProto.STRING, "b": TensorProto.BOOL, "i": TensorProto.INT64}
DTYPES_BY_KIND = {"U": "string", "b": "bool", "i": "int64"}
KNOWN = "label_classes"  # the tensors inside that give a label
PLACE = "label_place"
SECOND = "probability_of_second"


def rename_outputs(graph: onnx.GraphProto, roles: Mapping[str, str]) -> None:
    """Give outputs of a graph other names, from new to old. Raises ConversionError."""
    given = [value.name for value in graph.output]
    strange = sorted(set(roles.values()) - set(given))
    if strange:
        raise ConversionError(f"outputs= names {strange}, and the outputs are {given}")
    renamed = {old: new for new, old in roles.items()}
    after = [renamed.get(name, name) for name in given]
    if len(renamed) < len(roles) or len(set(after)) < len(after):
        raise ConversionError(
            f"outputs= is from a new name to an output, each once; it would make {after} of {given}"
        )
    _check_own(graph, [name for name in renamed if name != renamed[name]])
    rename_values(graph, renamed)


def _check_own(graph: onnx.GraphProto, outputs: Sequence[str]) -> None:
    """Raise ConversionError for an output that is an input or a constant as well."""
    fixed = {value.name for value in [*graph.input, *graph.initializer]}
    for value in graph.output:
        if value.name in fixed.intersection(outputs):
            raise ConversionError(
                f"output {value.name!r} is an input of the graph as it is, and keeps its name"
            )


def rename_values(graph: onnx.GraphProto, renamed: Mapping[str, str]) -> None:
    """Rename tensors of a graph and of the graphs inside it; one that has a new name gives way."""
    names = _all_names(graph)
    swapped = dict(renamed)
    for new in renamed.values():
        if new in names and new not in renamed:
            other = f"{new}_inside"
            while other in names:
                other += "_"
            swapped[new] = other
    _replace_names(graph, swapped)


def _all_names(graph: onnx.GraphProto) -> set[str]:
    held = [*graph.input, *graph.output, *graph.initializer]
    found = {value.name for value in held}
    for node in graph.node:
        found.update(node.input, node.output)
        for inner in _graphs_in(node):
            found |= _all_names(inner)
    return found


def _replace_names(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    held = [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for value in held:
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for inner in _graphs_in(node):
            _replace_names(inner, names)


def _graphs_in(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    found = []
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            found.append(attribute.g)
        found += attribute.graphs
    return found


def with_both_shares(graph: onnx.GraphProto, shares: TensorSpec) -> TensorSpec:
    """The probabilities of two classes, (n, 2), of a graph that gives that of the second alone."""
    rename_values(graph, {shares.name: SECOND})
    one = f"{SECOND}_one"
    shape = f"{SECOND}_shape"
    column = f"{SECOND}_column"
    rest = f"{SECOND}_rest"
    _add_constant(graph, one, np.ones(1, shares.dtype))
    _add_constant(graph, shape, np.array([-1, 1]))
    nodes = [
        helper.make_node("Reshape", [SECOND, shape], [column]),
        helper.make_node("Sub", [one, column], [rest]),
        helper.make_node("Concat", [rest, column], [shares.name], axis=1),
    ]
    graph.node.extend(nodes)
    both = replace(shares, shape=(shares.shape[0], 2))
    (value,) = (value for value in graph.output if value.name == SECOND)
    kind = value.type.tensor_type.elem_type
    stated = helper.make_tensor_value_info(both.name, kind, both.shape)
    value.CopyFrom(stated)
    return both


def _add_constant(graph: onnx.GraphProto, name: str, array: Array) -> None:
    graph.initializer.append(numpy_helper.from_array(array, name))


def add_label(graph: onnx.GraphProto, shares: TensorSpec, classes: Sequence[Any]) -> TensorSpec:
    """Give a graph the output `label`: of each row, the class whose probability is the largest.

    `shares` are the probabilities, and classes of equal ones go to the first. Raises
    ConversionError.
    """
    free = f"{shares.name}.1"
    if len(shares.shape) != 2 or shares.shape[1] not in (len(classes), free):
        raise ConversionError(
            f"there are {len(classes)} classes, and the probabilities are {shares}: they have one "
            "column for each class"
        )
    _push_aside(graph)
    known = np.asarray(list(classes))
    kind = known.dtype.kind
    if kind == "U":
        known = known.astype(object)
    _add_constant(graph, KNOWN, known)
    nodes = [
        helper.make_node("ArgMax", [shares.name], [PLACE], axis=1, keepdims=0),
        helper.make_node("Gather", [KNOWN, PLACE], [LABEL_OUTPUT]),
    ]
    graph.node.extend(nodes)
    rows = shares.shape[:1]
    stated = helper.make_tensor_value_info(LABEL_OUTPUT, ELEMENTS[kind], rows)
    graph.output.insert(0, stated)
    return TensorSpec(LABEL_OUTPUT, DTYPES_BY_KIND[kind], rows)


def _push_aside(graph: onnx.GraphProto) -> None:
    """Rename what has a name inside that a label needs. Raises ConversionError for an input."""
    inputs = {value.name for value in graph.input}
    taken = sorted({LABEL_OUTPUT, PLACE, KNOWN} & _all_names(graph))
    for name in taken:
        if name in inputs:
            raise ConversionError(f"the graph has an input {name!r}: rename it there")
        rename_values(graph, {name: f"{name}_inside"})
