"""Labels of `SVC(break_ties=True)`: the class with the largest score, which the converter takes from the votes."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from modelkit.convert.nodes import Nodes, labels_of
from modelkit.errors import ConversionError


def breaks_ties(classifier: Any) -> bool:
    """Whether a support vector classifier chooses labels by its scores."""
    several = len(classifier.classes_) > 2
    return bool(classifier.break_ties and several and classifier.decision_function_shape == "ovr")


def convert_labels(scope: Any, operator: Any, container: Any, convert: Any) -> None:
    """Convert by `convert`, all but the label, which is made of scores in double precision."""
    classifier = operator.raw_operator
    label = str(operator.outputs[0].full_name)
    convert(
        scope, operator, _Renaming(container, label, str(scope.get_unique_variable_name("votes")))
    )
    nodes = Nodes(scope, container)
    rows = nodes.add("Cast", str(operator.inputs[0].full_name), to=TensorProto.DOUBLE)
    decisions = _decisions(nodes, rows, classifier)
    best = nodes.add(
        "ArgMax", _scores(nodes, decisions, len(classifier.classes_)), axis=1, keepdims=0
    )
    nodes.put(
        nodes.add("Gather", nodes.constant(labels_of(classifier.classes_)), best, axis=0),
        operator.outputs[0],
    )


class _Renaming:
    """A container in which one tensor that a converter makes gets another name."""

    def __init__(self, container: Any, name: str, other: str) -> None:
        self._container = container
        self._name = name
        self._other = other

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, op_type: str, inputs: Any, outputs: Any, **attributes: Any) -> None:
        """Add a node whose outputs have the names that they get here."""
        listed = [outputs] if isinstance(outputs, str) else outputs
        renamed = [self._other if name == self._name else name for name in listed]
        self._container.add_node(op_type, inputs, renamed, **attributes)


def _decisions(nodes: Nodes, rows: str, classifier: Any) -> str:
    """What each pair of classes decides, (n, pairs): a sum of kernels by the support vectors of the two."""
    bounds = np.cumsum([0, *classifier.n_support_])
    coefficients = classifier.dual_coef_
    coefficients = coefficients.toarray() if hasattr(coefficients, "toarray") else coefficients
    pairs = _pairs(len(classifier.classes_))
    weights = np.zeros((bounds[-1], len(pairs)))
    for number, (first, second) in enumerate(pairs):
        of_first = slice(bounds[first], bounds[first + 1])
        of_second = slice(bounds[second], bounds[second + 1])
        weights[of_first, number] = coefficients[second - 1, of_first]
        weights[of_second, number] = coefficients[first, of_second]
    summed = nodes.add("MatMul", _kernel(nodes, rows, classifier), nodes.constant(weights))
    return nodes.add("Add", summed, nodes.constant(classifier.intercept_.astype(np.float64)))


def _pairs(classes: int) -> list[tuple[int, int]]:
    return [(first, second) for first in range(classes) for second in range(first + 1, classes)]


def _kernel(nodes: Nodes, rows: str, classifier: Any) -> str:
    """The kernel of each row and each support vector."""
    vectors = classifier.support_vectors_
    vectors = vectors.toarray() if hasattr(vectors, "toarray") else vectors
    gamma = nodes.constant(np.array(classifier._gamma))  # noqa: SLF001 - "scale" as a number, no public way
    product = nodes.add("MatMul", rows, nodes.constant(np.ascontiguousarray(vectors.T, np.float64)))
    if classifier.kernel == "linear":
        return product
    if classifier.kernel == "rbf":
        two = nodes.constant(np.array(2.0))
        lengths = nodes.constant((vectors**2).sum(axis=1))
        squares = nodes.add("ReduceSumSquare", rows, nodes.constant(np.array([1])), keepdims=1)
        apart = nodes.add("Sub", nodes.add("Add", squares, lengths), nodes.add("Mul", product, two))
        return nodes.add("Exp", nodes.add("Neg", nodes.add("Mul", apart, gamma)))
    if classifier.kernel not in ("poly", "sigmoid"):
        raise ConversionError(
            f"SVC with kernel={classifier.kernel!r} and break_ties=True cannot be converted",
            step="SVC",
        )
    shifted = nodes.add(
        "Add", nodes.add("Mul", product, gamma), nodes.constant(np.array(float(classifier.coef0)))
    )
    if classifier.kernel == "sigmoid":
        return nodes.add("Tanh", shifted)
    return nodes.add("Pow", shifted, nodes.constant(np.array(float(classifier.degree))))


def _scores(nodes: Nodes, decisions: str, classes: int) -> str:
    """The votes for each class, and less than half a vote for what was decided in its favour, as in scikit-learn."""
    pairs = _pairs(classes)
    winners, losers = np.zeros((len(pairs), classes)), np.zeros((len(pairs), classes))
    for number, (first, second) in enumerate(pairs):
        winners[number, first] = 1
        losers[number, second] = 1
    zero, one, three = (nodes.constant(np.array(value)) for value in (0.0, 1.0, 3.0))
    against = nodes.add("Cast", nodes.add("Less", decisions, zero), to=TensorProto.DOUBLE)
    moved = nodes.add("MatMul", against, nodes.constant(losers - winners))
    votes = nodes.add("Add", moved, nodes.constant(winners.sum(axis=0)))
    confidence = nodes.add("MatMul", decisions, nodes.constant(winners - losers))
    size = nodes.add("Add", nodes.add("Abs", confidence), one)
    return nodes.add("Add", votes, nodes.add("Div", confidence, nodes.add("Mul", size, three)))
