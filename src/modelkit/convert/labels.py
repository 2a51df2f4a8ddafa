"""Nodes that take the label from something else than skl2onnx does."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def label_by_scores(proto: onnx.ModelProto, classifier: Any) -> None:
    """Take the label of an SGDClassifier of several classes from its scores.

    The converter takes it from the probabilities made of them. Sigmoids of several classes all come
    to 1.0, a little beyond the training rows; the estimator compares the scores.
    """
    if type(classifier).__name__ != "SGDClassifier" or len(classifier.classes_) <= 2:
        return
    graph = proto.graph
    weights = np.ascontiguousarray(
        classifier.coef_.T,
        np.float64,
    )
    rows = _multiplied(graph, len(weights))
    if rows is None or any(_element(value) == TensorProto.FLOAT for value in graph.input):
        return
    label = graph.output[0]
    shift = np.asarray(
        classifier.intercept_,
        np.float64,
    )
    graph.initializer.extend(
        [
            numpy_helper.from_array(weights, "score_weights"),
            numpy_helper.from_array(shift, "score_shift"),
            _class_list(classifier, _element(label)),
        ]
    )
    graph.node.extend(_label_nodes(rows))
    label.name = "score_label"


def _label_nodes(rows: str) -> list[onnx.NodeProto]:
    """Nodes from rows to the label of the largest score."""
    return [
        helper.make_node("MatMul", [rows, "score_weights"], ["score_products"]),
        helper.make_node("Add", ["score_products", "score_shift"], ["scores_by_class"]),
        helper.make_node("ArgMax", ["scores_by_class"], ["score_best"], axis=1, keepdims=0),
        helper.make_node("Gather", ["score_classes", "score_best"], ["score_label"], axis=0),
    ]


def _multiplied(graph: onnx.GraphProto, columns: int) -> str | None:
    """The tensor that is first multiplied with weights for this number of columns."""
    sizes = {tensor.name: tensor.dims for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "MatMul":
            continue
        size = sizes.get(
            node.input[1],
            [0],
        )
        if size[0] == columns:
            return str(node.input[0])
    return None


def _element(value: onnx.ValueInfoProto) -> int:
    return int(value.type.tensor_type.elem_type)


def _class_list(classifier: Any, element: int) -> onnx.TensorProto:
    classes = classifier.classes_.tolist()
    if element == TensorProto.STRING:
        values = [label.encode() for label in classes]
    else:
        values = [int(label) for label in classes]
    return helper.make_tensor("score_classes", element, [len(values)], values)
