"""Linear classifiers without probabilities, in double: the converter has an operator for them in float32 alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from modelkit.convert.nodes import Nodes
from modelkit.convert.operators import Converter


def score_converters() -> dict[type, Converter]:
    """Converters by estimator class."""
    from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV
    from sklearn.svm import LinearSVC

    return dict.fromkeys((LinearSVC, RidgeClassifier, RidgeClassifierCV), _convert)


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """The class of the largest score; of two classes the second where the one score is above 0."""
    from skl2onnx.common._registration import get_converter
    from skl2onnx.common.data_types import DoubleTensorType, StringTensorType

    classifier = operator.raw_operator
    scores_alone = container.get_options(classifier, {"raw_scores": False})["raw_scores"]
    kind = getattr(
        getattr(classifier, "_label_binarizer", None), "y_type_", ""
    )  # which its own predict asks for
    several = kind.startswith("multilabel")
    if scores_alone or several or not isinstance(operator.inputs[0].type, DoubleTensorType):
        get_converter(operator.type)(scope, operator, container)
        return
    nodes = Nodes(scope, container)
    weights = nodes.matrix(np.atleast_2d(classifier.coef_).T)
    products = nodes.add("MatMul", operator.inputs[0].full_name, weights, version=13)
    scores = nodes.add("Add", products, nodes.numbers(np.ravel(classifier.intercept_)), version=14)
    if len(classifier.classes_) == 2:
        scores = nodes.add(
            "Concat", nodes.add("Neg", scores, version=13), scores, version=13, axis=1
        )
    best = nodes.add("ArgMax", scores, version=13, axis=1, keepdims=0)
    if isinstance(operator.outputs[0].type, StringTensorType):
        classes = nodes.constant(
            TensorProto.STRING, [str(name).encode() for name in classifier.classes_]
        )
    else:
        classes = nodes.constant(TensorProto.INT64, [int(label) for label in classifier.classes_])
    nodes.name("Gather", operator.outputs[0].full_name, classes, best, version=13, axis=0)
    nodes.name("Identity", operator.outputs[1].full_name, scores, version=16)
