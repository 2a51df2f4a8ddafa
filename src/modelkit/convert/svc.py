"""Labels of `SVC(break_ties=True)`: the class with the largest score, and not with most votes."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from modelkit.cast import Array
from modelkit.convert.nodes import Nodes, labels_of
from modelkit.errors import ConversionError


def breaks_ties(classifier: Any) -> bool:
    """Whether a support vector classifier chooses labels by its scores."""
    several = len(classifier.classes_) > 2
    return bool(classifier.break_ties and several and classifier.decision_function_shape == "ovr")


def convert_labels(
    scope: Any,
    operator: Any,
    container: Any,
    convert: Any,
) -> None:
    """Convert by `convert`, all but the label, which is made of scores in double precision."""
    classifier = operator.raw_operator
    label = str(operator.outputs[0].full_name)
    nodes = Nodes(scope, container)
    convert(
        scope,
        operator,
        _Renaming(container, label, nodes.new_name("votes")),
    )
    best = _best_class(
        nodes,
        str(operator.inputs[0].full_name),
        classifier,
    )
    classes = nodes.constant(labels_of(classifier.classes_))
    nodes.put(nodes.add("Gather", classes, best, axis=0), operator.outputs[0])


def _best_class(
    nodes: Nodes,
    given: str,
    classifier: Any,
) -> str:
    """The place of the class with the largest score."""
    rows = nodes.add("Cast", given, to=TensorProto.DOUBLE)
    decisions = _decisions(nodes, rows, classifier)
    scores = _scores(
        nodes,
        decisions,
        len(classifier.classes_),
    )
    return nodes.add("ArgMax", scores, axis=1, keepdims=0)


class _Renaming:
    """A container in which one tensor that a converter makes gets another name."""

    def __init__(
        self,
        container: Any,
        name: str,
        other: str,
    ) -> None:
        self._container = container
        self._name = name
        self._other = other

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(
        self,
        op_type: str,
        inputs: Any,
        outputs: Any,
        **attributes: Any,
    ) -> None:
        """Add a node whose outputs have the names that they get here."""
        listed = [outputs] if isinstance(outputs, str) else outputs
        renamed = [self._other if name == self._name else name for name in listed]
        self._container.add_node(
            op_type,
            inputs,
            renamed,
            **attributes,
        )


def _decisions(
    nodes: Nodes,
    rows: str,
    classifier: Any,
) -> str:
    """(n, pairs): what each pair decides, a sum of kernels by the support vectors of the two."""
    bounds = np.cumsum([0, *classifier.n_support_])
    coefficients = _dense(classifier.dual_coef_)
    pairs = _pairs(len(classifier.classes_))
    weights = np.zeros((bounds[-1], len(pairs)))
    for number, (first, second) in enumerate(pairs):
        of_first = slice(
            bounds[first],
            bounds[first + 1],
        )
        of_second = slice(
            bounds[second],
            bounds[second + 1],
        )
        weights[of_first, number] = coefficients[second - 1, of_first]
        weights[of_second, number] = coefficients[first, of_second]
    summed = nodes.add("MatMul", _kernel(nodes, rows, classifier), nodes.doubles(weights))
    return nodes.add("Add", summed, nodes.doubles(classifier.intercept_))


def _pairs(classes: int) -> list[tuple[int, int]]:
    return [(first, second) for first in range(classes) for second in range(first + 1, classes)]


def _kernel(
    nodes: Nodes,
    rows: str,
    classifier: Any,
) -> str:
    """The kernel of each row and each support vector."""
    vectors = _dense(classifier.support_vectors_)
    gamma = nodes.doubles(classifier._gamma)  # noqa: SLF001 - "scale" as a number, no public way
    product = nodes.add("MatMul", rows, nodes.doubles(np.ascontiguousarray(vectors.T)))
    if classifier.kernel == "linear":
        return product
    if classifier.kernel == "rbf":
        return nodes.add("Exp", _negative_distances(nodes, rows, product, vectors, gamma))
    if classifier.kernel not in ("poly", "sigmoid"):
        raise ConversionError(
            f"SVC with kernel={classifier.kernel!r} and break_ties=True cannot be converted",
            step="SVC",
        )
    return _of_product(nodes, nodes.add("Mul", product, gamma), classifier)


def _of_product(nodes: Nodes, scaled: str, classifier: Any) -> str:
    """A kernel of products alone: a polynomial or a sigmoid."""
    shifted = nodes.add("Add", scaled, nodes.doubles(classifier.coef0))
    if classifier.kernel == "sigmoid":
        return nodes.add("Tanh", shifted)
    return nodes.add("Pow", shifted, nodes.doubles(classifier.degree))


def _negative_distances(
    nodes: Nodes,
    rows: str,
    product: str,
    vectors: Array,
    gamma: str,
) -> str:
    """-gamma times the squared distance of each row from each vector."""
    lengths = nodes.doubles((vectors**2).sum(axis=1))
    squares = nodes.add("ReduceSumSquare", rows, nodes.whole([1]), keepdims=1)
    both = nodes.add("Add", squares, lengths)
    twice = nodes.add("Mul", product, nodes.doubles(2.0))
    apart = nodes.add("Sub", both, twice)
    return nodes.add("Neg", nodes.add("Mul", apart, gamma))


def _dense(matrix: Any) -> Array:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix)


def _scores(
    nodes: Nodes,
    decisions: str,
    classes: int,
) -> str:
    """(n, classes): votes, and less than half a vote for how clear they were, as scikit-learn."""
    winners = np.eye(classes)[[first for first, _ in _pairs(classes)]]
    losers = np.eye(classes)[[second for _, second in _pairs(classes)]]
    below = nodes.add("Less", decisions, nodes.doubles(0.0))
    against = nodes.add("Cast", below, to=TensorProto.DOUBLE)
    moved = nodes.add("MatMul", against, nodes.doubles(losers - winners))
    votes = nodes.add("Add", moved, nodes.doubles(winners.sum(axis=0)))
    confidence = nodes.add("MatMul", decisions, nodes.doubles(winners - losers))
    size = nodes.add("Add", nodes.add("Abs", confidence), nodes.doubles(1.0))
    bound = nodes.add("Mul", size, nodes.doubles(3.0))
    return nodes.add("Add", votes, nodes.add("Div", confidence, bound))
