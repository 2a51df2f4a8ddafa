"""Linear classifiers without probabilities in float64; skl2onnx has float32 alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit.convert.nodes import Nodes, labels_of
from modelkit.convert.operators import OperatorConverter


def score_converters() -> dict[type, OperatorConverter]:
    """Converters by estimator class."""
    from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV
    from sklearn.svm import LinearSVC

    return dict.fromkeys(
        (LinearSVC, RidgeClassifier, RidgeClassifierCV),
        _convert,
    )


def _convert(
    scope: Any,
    operator: Any,
    container: Any,
) -> None:
    """The class of the largest score; of two classes the second where the one score is above 0."""
    from skl2onnx.common._registration import get_converter

    classifier = operator.raw_operator
    if _is_other(operator, container):
        get_converter(operator.type)(scope, operator, container)
        return
    nodes = Nodes(scope, container)
    scores = _scores(
        nodes,
        operator.inputs[0].full_name,
        classifier,
    )
    best = nodes.add("ArgMax", scores, op_version=13, axis=1, keepdims=0)
    label, decision = (variable.full_name for variable in operator.outputs)
    classes = nodes.constant(labels_of(classifier.classes_))
    nodes.give("Gather", label, classes, best, op_version=13, axis=0)
    nodes.give("Identity", decision, scores, op_version=16)


def _scores(
    nodes: Nodes,
    rows: str,
    classifier: Any,
) -> str:
    """(n, classes): the scores of all classes; of two, the score and its opposite."""
    weights = nodes.doubles(np.atleast_2d(classifier.coef_).T)
    shift = nodes.doubles(np.ravel(classifier.intercept_))
    products = nodes.add("MatMul", rows, weights, op_version=13)
    scores = nodes.add("Add", products, shift, op_version=14)
    if len(classifier.classes_) > 2:
        return scores
    opposite = nodes.add("Neg", scores, op_version=13)
    return nodes.add("Concat", opposite, scores, op_version=13, axis=1)


def _is_other(operator: Any, container: Any) -> bool:
    """Whether skl2onnx converts it: for scores alone, several labels or float32."""
    from skl2onnx.common.data_types import DoubleTensorType

    classifier = operator.raw_operator
    if container.get_options(classifier, {"raw_scores": False})["raw_scores"]:
        return True
    binarizer = getattr(classifier, "_label_binarizer", None)  # which its own predict asks
    several = getattr(binarizer, "y_type_", "").startswith("multilabel")
    return several or not isinstance(operator.inputs[0].type, DoubleTensorType)
