"""The classes of a classifier that came as an ONNX graph, where the graph tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from modelkit.cast import Array

if TYPE_CHECKING:
    import onnx

LABEL, PROBABILITIES = "label", "probabilities"
CLASSIFIERS = ("LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier")
CLASS_LISTS = ("classlabels_ints", "classlabels_int64s", "classlabels_strings")
SAME_VALUES = (
    "Cast",
    "Identity",
    "Reshape",
    "Squeeze",
    "Flatten",
)  # what stands between the classes and the label
SUM_OFF = 1e-3  # how far the sum of probabilities may be from one


def read_classes(proto: onnx.ModelProto, answers: Mapping[str, Array]) -> tuple[Any, ...] | None:
    """The classes in the order of the probabilities; None where the graph or its answers do not say.

    A label is a class if an operator of ONNX-ML for classifiers gives it, or if it is picked from a
    list of classes: a label that is counted, as clusters are, may mean anything. What is called
    probabilities are scores in some graphs, which `answers` show.
    """
    if LABEL not in answers or answers[LABEL].ndim != 1:
        return None
    classes = _listed(proto.graph)
    label = answers[LABEL]
    if label.dtype.kind in "biu":
        classes = [label.dtype.type(value).item() for value in classes if float(value).is_integer()]
    elif label.dtype.kind != "O":
        return None
    if not classes or len(set(classes)) < len(classes) or not set(label.tolist()) <= set(classes):
        return None
    if PROBABILITIES in answers and not _are_probabilities(answers[PROBABILITIES], len(classes)):
        return None
    return tuple(classes)


def _listed(graph: onnx.GraphProto) -> list[Any]:
    """The values that the label is one of; none where that is not known."""
    makers = {name: node for node in graph.node for name in node.output}
    name = LABEL
    while name in makers and makers[name].op_type in SAME_VALUES:
        name = makers[name].input[0]
    if name not in makers or makers[name].output[0] != name:
        return []
    node = makers[name]
    if node.op_type in CLASSIFIERS:
        lists = [
            helper.get_attribute_value(given)
            for given in node.attribute
            if given.name in CLASS_LISTS
        ]
        found = [value for values in lists for value in values]
    elif node.op_type in ("ArrayFeatureExtractor", "Gather"):
        inside = [
            tensor for tensor in graph.initializer if tensor.data_location != TensorProto.EXTERNAL
        ]
        held = [numpy_helper.to_array(tensor) for tensor in inside if tensor.name == node.input[0]]
        found = [value for array in held for value in array.reshape(-1).tolist()]
    else:
        return []
    return [value.decode() if isinstance(value, bytes) else value for value in found]


def _are_probabilities(array: Array, classes: int) -> bool:
    if array.ndim != 2 or array.shape[1] != classes or array.dtype.kind != "f":
        return False
    sums = array.sum(axis=1, dtype=np.float64)
    return bool((array >= 0).all() and (np.abs(sums - 1) <= SUM_OFF).all())
