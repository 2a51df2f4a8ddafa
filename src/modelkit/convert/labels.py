"""Nodes that take the label of a graph that skl2onnx made from something else than the converter does."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelkit.cast import Array
from modelkit.errors import ConversionError


def label_by_scores(proto: onnx.ModelProto, classifier: Any) -> None:
    """Take the label from linear scores where the converter takes it from the probabilities made of them.

    Sigmoids of several classes all come to 1.0, a little beyond the training rows; the estimator
    compares the scores.
    """
    linear = _linear_scores(classifier)
    if linear is None:
        return
    weights, shift = linear
    graph = proto.graph
    wide = {tensor.name: tensor.dims for tensor in graph.initializer}
    reads = [
        n.input[0]
        for n in graph.node
        if n.op_type == "MatMul" and wide.get(n.input[1], [0])[0] == weights.shape[1]
    ]
    if not reads or any(
        value.type.tensor_type.elem_type == TensorProto.FLOAT for value in graph.input
    ):
        return
    label = graph.output[0]
    text = label.type.tensor_type.elem_type == TensorProto.STRING
    classes = [c.encode() if text else int(c) for c in classifier.classes_.tolist()]
    kind = label.type.tensor_type.elem_type
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.ascontiguousarray(weights.T, np.float64), "score_weights"),
            numpy_helper.from_array(np.asarray(shift, np.float64), "score_shift"),
            helper.make_tensor("score_classes", kind, [len(classes)], classes),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("MatMul", [reads[0], "score_weights"], ["score_products"]),
            helper.make_node("Add", ["score_products", "score_shift"], ["scores_by_class"]),
            helper.make_node("ArgMax", ["scores_by_class"], ["score_best"], axis=1, keepdims=0),
            helper.make_node("Gather", ["score_classes", "score_best"], ["score_label"], axis=0),
        ]
    )
    label.name = "score_label"


def _linear_scores(classifier: Any) -> tuple[Array, Array] | None:
    """Weights (classes, columns) and shifts of a classifier of several classes whose label is the largest score."""
    name = type(classifier).__name__
    if name == "SGDClassifier" and len(classifier.classes_) > 2:
        return classifier.coef_, classifier.intercept_
    if (
        name == "OneVsRestClassifier"
        and len(classifier.classes_) > 2
        and not classifier.multilabel_
    ):
        parts = classifier.estimators_
        if all(
            np.shape(getattr(part, "coef_", ())) == (1, classifier.n_features_in_) for part in parts
        ):
            return np.concatenate([p.coef_ for p in parts]), np.concatenate(
                [np.ravel(p.intercept_) for p in parts]
            )
    return None


def threshold(proto: onnx.ModelProto, classifier: Any) -> None:
    """Decide the label by the classifier's threshold on the probability of its positive class."""
    if (
        not hasattr(classifier, "predict_proba")
        or classifier.response_method == "decision_function"
    ):
        raise ConversionError(
            "a threshold on decision_function cannot be converted; use "
            "response_method='predict_proba'",
            step=type(classifier).__name__,
        )
    tuned = hasattr(classifier, "best_threshold_")
    threshold = classifier.best_threshold_ if tuned else classifier.threshold
    positive = classifier._curve_scorer._get_pos_label() if tuned else classifier.pos_label  # noqa: SLF001 - no other way
    classes = classifier.classes_.tolist()
    at = 1 if positive is None else classes.index(positive)
    graph = proto.graph
    label, probabilities = graph.output[0], graph.output[1]
    wide = probabilities.type.tensor_type.elem_type
    kind = label.type.tensor_type.elem_type
    text = kind == TensorProto.STRING
    yes, no = (c.encode() if text else int(c) for c in (classes[at], classes[1 - at]))
    graph.initializer.extend(
        [
            helper.make_tensor("threshold_at", TensorProto.INT64, [], [at]),
            helper.make_tensor("threshold", wide, [], [0.5 if threshold == "auto" else threshold]),
            helper.make_tensor("threshold_yes", kind, [], [yes]),
            helper.make_tensor("threshold_no", kind, [], [no]),
        ]
    )
    graph.node.extend(
        [
            helper.make_node(
                "Gather", [probabilities.name, "threshold_at"], ["threshold_score"], axis=1
            ),
            helper.make_node(
                "GreaterOrEqual", ["threshold_score", "threshold"], ["threshold_passed"]
            ),
            helper.make_node(
                "Where", ["threshold_passed", "threshold_yes", "threshold_no"], ["threshold_label"]
            ),
        ]
    )
    label.name = "threshold_label"
