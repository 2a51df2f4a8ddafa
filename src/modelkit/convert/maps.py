"""ZipMap, which makes a dict of each row's probabilities: taken out of graphs, with the classes it knows."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import helper

from modelkit.convert.classes import CLASS_LISTS, LABEL_OUTPUT, PROBABILITIES
from modelkit.convert.roles import rename_outputs

ZIPMAP = "ZipMap"


def without_maps(proto: onnx.ModelProto) -> list[Any] | None:
    """Let a graph give the probabilities that it would make dicts of; gives their classes.

    The output is then called probabilities, and the only other one label. None where the graph has
    no such output, or several, which are left as they are.
    """
    graph = proto.graph
    names = [value.name for value in graph.output]
    found = [node for node in graph.node if node.op_type == ZIPMAP and node.output[0] in names]
    if len(found) != 1 or found[0].input[0] in names:
        return None
    (zipmap,) = found
    classes = _classes_of(zipmap)
    shares = zipmap.input[0]
    at = names.index(zipmap.output[0])
    graph.node.remove(zipmap)
    shape = [None, len(classes)]
    matrix = helper.make_tensor_value_info(shares, onnx.TensorProto.FLOAT, shape)
    graph.output[at].CopyFrom(matrix)
    roles = {PROBABILITIES: shares}
    if len(names) == 2:
        roles[LABEL_OUTPUT] = names[1 - at]
    rename_outputs(graph, roles)
    return classes


def _classes_of(zipmap: onnx.NodeProto) -> list[Any]:
    """The keys of the dicts."""
    for attribute in zipmap.attribute:
        values = helper.get_attribute_value(attribute)
        if attribute.name in CLASS_LISTS and values:
            return [value.decode() if isinstance(value, bytes) else value for value in values]
    return []
