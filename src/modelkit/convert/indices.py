"""Indices of torch modules: what torch refuses beyond a table, a graph has to refuse too.

torch takes no index below 0 for an Embedding, and ONNX counts such from the end.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from modelkit.convert.roles import written
from modelkit.signature.refusing import REFUSED

FX_NODE = "pkg.torch.onnx.fx_node"  # what the exporter notes of each node: the call it comes from
LOOKED_UP = re.compile(r"aten\.(embedding|embedding_bag|index_select|gather)\.")
Shapes = dict[str, list[Any]]  # of tensors: sizes, and names of open dimensions


def refuse_beyond(graph: onnx.GraphProto, batch: str) -> tuple[str, ...]:
    """Let a graph say in which rows it looks up an index that a table lacks; gives the reasons.

    It looks up the nearest one there is. `batch` is the dimension of the rows: indices that belong
    to no row are left as they are.
    """
    shapes: Shapes = {tensor.name: [*tensor.dims] for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info]:
        dims = value.type.tensor_type.shape.dim
        shapes[value.name] = [dim.dim_param or dim.dim_value for dim in dims]
    inputs = {value.name for value in graph.input}
    reasons: list[str] = []
    apart: list[str] = []
    for node in list(graph.node):
        call = next((each.value for each in node.metadata_props if each.key == FX_NODE), "")
        found = LOOKED_UP.search(call)
        if found is None or node.op_type not in ("Gather", "GatherElements"):
            continue
        axis = next((each.i for each in node.attribute if each.name == "axis"), 0)
        size = shapes.get(node.input[0], [""])[axis]
        rows = _of_rows(graph, node.input[1], shapes, batch)
        if not isinstance(size, int) or rows is None:
            continue
        apart.append(_limited(graph, node, size, rows, f"{REFUSED}.{len(apart)}"))
        of = f" of input {rows!r}" if rows in inputs else ""
        reasons.append(f"torch's {found[1]}{of} takes indices from 0 to {size - 1}")
    if reasons:
        graph.node.append(helper.make_node("Concat", apart, [REFUSED], axis=1))
        shape: list[str | int | None] = [batch, len(apart)]
        graph.output.append(helper.make_tensor_value_info(REFUSED, TensorProto.DOUBLE, shape))
    return tuple(reasons)


def _of_rows(graph: onnx.GraphProto, name: str, shapes: Shapes, batch: str) -> str | None:
    """The tensor with an axis of rows that a tensor has the numbers of, in other dimensions."""
    makers = {output: node for node in graph.node for output in node.output}
    while shapes.get(name, [])[:1] != [batch]:
        if name not in makers or makers[name].op_type not in ("Cast", "Reshape", "Unsqueeze"):
            return None
        name = makers[name].input[0]
    return name


def _limited(graph: onnx.GraphProto, node: onnx.NodeProto, size: int, rows: str, name: str) -> str:
    """Limit the indices that a node looks up to those that a table has.

    Gives (rows, 1) of float64: how far those of each row lie beyond, in sum.
    """
    from modelkit.convert.estimators.tensors import constant, op
    from modelkit.convert.estimators.traced import norms, variable

    # Nodes alone are kept of these: the indices may be of int32, and have more dimensions.
    given = {each: variable(np.int64, (None,)) for each in (rows, node.input[1])}
    whole = op.cast(given[node.input[1]], to=np.int64)
    within = np.clip(whole, 0, size - 1)
    shape = np.concatenate([op.shape(given[rows], start=0, end=1), constant([-1])])
    apart = op.reshape((whole - within).astype(np.float64), shape)
    found = {f"{name}.within": within, f"{name}.sum": norms(apart, "l1")}
    made = written(name, given, found)
    graph.initializer.extend(made.initializer)
    at = list(graph.node).index(node)
    for each in reversed(made.node):
        graph.node.insert(at, each)
    graph.node[at + len(made.node)].input[1] = f"{name}.within"
    return f"{name}.sum"
