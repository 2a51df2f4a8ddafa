"""The classes of a classifier that came as an ONNX graph, where the graph names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from modelkit._internal.arrays import Array
from modelkit.errors import ConversionError, UsageError

if TYPE_CHECKING:
    import onnx

LABEL_OUTPUT = "label"
PROBABILITIES = "probabilities"
CLASSIFIERS = ("LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier")
CLASS_LISTS = ("classlabels_ints", "classlabels_int64s", "classlabels_strings")
# What may stand between the classes and the label.
SAME_VALUES = ("Cast", "Identity", "Reshape", "Squeeze", "Flatten")
SUM_OFF = 1e-3  # how far the sum of probabilities may be from one


def read_classes(proto: onnx.ModelProto, answers: Mapping[str, Array]) -> tuple[Any, ...] | None:
    """The classes in the order of the probabilities; None where the graph does not say.

    A label is a class if an operator of ONNX-ML for classifiers gives it, or if it is picked from a
    list of classes: a label that is counted, as clusters are, may mean anything. What is called
    probabilities are scores in some graphs, which `answers` show.
    """
    label = answers.get(LABEL_OUTPUT)
    if label is None or label.ndim != 1:
        return None
    classes = _in_dtype_of(label, _listed(proto.graph))
    shares = answers.get(PROBABILITIES)
    if not classes or len(set(classes)) < len(classes) or set(label.tolist()).difference(classes):
        return None
    if shares is not None and not _are_probabilities(shares, len(classes)):
        return None
    return tuple(classes)


def _in_dtype_of(label: Array, classes: list[Any]) -> list[Any]:
    """Classes as labels have them; none for labels that are neither whole numbers nor texts."""
    if label.dtype.kind in "biu":
        whole = [value for value in classes if float(value).is_integer()]
        return [label.dtype.type(value).item() for value in whole]
    return classes if label.dtype.kind == "O" else []


def as_classes(classes: Iterable[Any]) -> tuple[Any, ...]:
    """Classes as they were named: strings, integers or booleans of Python. Raises UsageError."""
    found = [label.item() if isinstance(label, np.generic) else label for label in classes]
    kinds = {type(label) for label in found}
    alike = kinds in ({str}, {int}, {bool})
    several = len(set(found)) > 1
    if isinstance(classes, str) or not alike or not several:
        raise UsageError(
            "classes= is a list of two labels or more, all strings, integers or booleans; got "
            f"{classes!r:.80}"
        )
    if len(set(found)) < len(found):
        raise UsageError(f"classes= names a label twice: {found}")
    return tuple(found)


def check_classes(classes: tuple[Any, ...], answers: Mapping[str, Array]) -> None:
    """Raise ConversionError where the answers to some rows cannot be a classifier's."""
    shares = answers[PROBABILITIES]
    if not _are_probabilities(shares, len(classes)):
        raise ConversionError(
            f"the output {PROBABILITIES!r} is not an (n, {len(classes)}) matrix of probabilities: "
            f"it has the shape {shares.shape}, and values from {shares.min()} to {shares.max()}; "
            "end the model with a softmax, or give its scores another name"
        )
    strange = set(answers[LABEL_OUTPUT].reshape(-1).tolist()).difference(classes)
    if strange:
        raise ConversionError(
            f"the output {LABEL_OUTPUT!r} gave {min(strange)!r}, which is not one of the classes "
            f"{list(classes)}"
        )


def _listed(graph: onnx.GraphProto) -> list[Any]:
    """The values that the label is one of; none where that is not known."""
    makers = {name: node for node in graph.node for name in node.output}
    name = LABEL_OUTPUT
    while name in makers and makers[name].op_type in SAME_VALUES:
        name = makers[name].input[0]
    node = makers.get(name)
    if node is None or node.output[0] != name:
        return []
    if node.op_type in CLASSIFIERS:
        return listed_classes(node)
    if node.op_type not in ("ArrayFeatureExtractor", "Gather"):
        return []
    for tensor in graph.initializer:  # none where it is no constant, or lies outside the graph
        if tensor.name == node.input[0] and tensor.data_location != TensorProto.EXTERNAL:
            return _texts(numpy_helper.to_array(tensor).reshape(-1).tolist())
    return []


def listed_classes(node: onnx.NodeProto) -> list[Any]:
    """The classes that an operator of ONNX-ML lists."""
    lists = [
        helper.get_attribute_value(each) for each in node.attribute if each.name in CLASS_LISTS
    ]
    return _texts(value for values in lists for value in values)


def _texts(values: Iterable[Any]) -> list[Any]:
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def _are_probabilities(array: Array, classes: int) -> bool:
    if array.ndim != 2 or array.shape[1] != classes or array.dtype.kind != "f":
        return False
    sums = array.sum(axis=1, dtype=np.float64)
    return bool((array >= 0).all() and (np.abs(sums - 1) <= SUM_OFF).all())
