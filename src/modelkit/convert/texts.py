"""Convert vectorizers of texts: Python counts the terms, and the graph weighs the counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelkit.convert.nodes import Nodes
from modelkit.convert.operators import OperatorConverter
from modelkit.convert.vectorizers import terms_of
from modelkit.errors import ConversionError
from modelkit.proto import inferred
from modelkit.spec import TensorSpec
from modelkit.texts.terms import Terms
from modelkit.texts.vectorizer import Texts, counts_of

COUNTED = "ModelkitTerms"  # stands in the graph, while it is made, for what Python does
AXIS = "texts_axis"  # a constant of the graph
DENSE = "texts_as_columns"  # how the nodes are named that make a column of each term
SELECTS = (
    "Identity",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Cast",
    "ArrayFeatureExtractor",
    "Gather",
)


class TextConverters:
    """The converters of vectorizers.

    What they have met becomes `texts` and `terms`; None and () where they met no vectorizer.
    """

    def __init__(self) -> None:
        self._found: list[Any] = []
        self.texts: Texts | None = None
        self.terms: tuple[Terms, ...] = ()

    def table(self) -> tuple[dict[type, OperatorConverter], dict[type, Callable[[Any], None]]]:
        """Converters and shape calculators by estimator class."""
        from sklearn.feature_extraction.text import (
            CountVectorizer,
            TfidfTransformer,
            TfidfVectorizer,
        )

        counting = (CountVectorizer, TfidfVectorizer)
        return (
            {**dict.fromkeys(counting, self._count), TfidfTransformer: _weigh_columns},
            dict.fromkeys(counting, _terms_shape),
        )

    def restart(self) -> None:
        """Forget what was met: the conversion is tried again."""
        self._found.clear()

    def _count(
        self,
        scope: Any,
        operator: Any,
        container: Any,
    ) -> None:
        """Terms and counts from Python, their weights, and a column of each term."""
        vectorizer = operator.raw_operator
        at = len(self._found)
        self._found.append(vectorizer)
        nodes = Nodes(scope, container)
        texts = operator.inputs[0].full_name
        terms, counts = (spec.name for spec in counts_of(at))
        container.add_node(
            COUNTED, [texts], [terms, counts], name=f"{COUNTED}_{at}", op_version=1, at=at
        )
        weights = counts
        if vectorizer.binary or np.dtype(vectorizer.dtype).kind == "b":
            weights = nodes.add("Min", weights, nodes.doubles(1.0), op_version=13)
        transformer = getattr(vectorizer, "_tfidf", None)
        if transformer is not None:
            weights = _weigh(nodes, weights, transformer, terms)
        zeros = _zeros(
            nodes,
            terms,
            len(vectorizer.vocabulary_),
        )
        container.add_node(
            "ScatterElements",
            [zeros, terms, weights],
            [operator.outputs[0].full_name],
            name=f"{DENSE}_{at}",
            op_version=18,
            axis=1,
            reduction="add",
        )

    def connect(self, proto: onnx.ModelProto, inputs: list[TensorSpec]) -> None:
        """Give the graph counts for inputs in place of the texts they are made from.

        Raises ConversionError.
        """
        graph = proto.graph
        columns = {}
        for node in [node for node in graph.node if node.op_type == COUNTED]:
            at = node.attribute[0].i
            columns[at] = _column_of(
                graph,
                node.input[0],
                self._found[at],
            )
            graph.node.remove(node)
        if not columns:
            return
        drop_unused(graph)
        passed = _passed(
            graph,
            inputs,
            set(columns.values()),
        )
        _set_inputs(graph, passed, len(columns))
        self.terms = tuple(terms_of(self._found[at], columns[at]) for at in sorted(columns))
        self.texts = Texts(
            tuple(each.vectorizer for each in self.terms),
            passed,
        )
        _declare_outputs(proto)


def _passed(
    graph: onnx.GraphProto,
    inputs: list[TensorSpec],
    texts: set[str],
) -> tuple[str, ...]:
    """The inputs that the graph still takes: all but columns of texts that nothing reads."""
    read = {name for node in graph.node for name in node.input}
    return tuple(spec.name for spec in inputs if spec.name not in texts or spec.name in read)


def _set_inputs(
    graph: onnx.GraphProto,
    passed: tuple[str, ...],
    vectorizers: int,
) -> None:
    """Keep the inputs that are passed on, and add the counts of each vectorizer."""
    kept = [value for value in graph.input if value.name in passed]
    del graph.input[:]
    graph.input.extend(kept)
    for at in range(vectorizers):
        for spec in counts_of(at):
            kind = TensorProto.INT64 if spec.dtype == "int64" else TensorProto.DOUBLE
            graph.input.append(helper.make_tensor_value_info(spec.name, kind, list(spec.shape)))


def _zeros(
    nodes: Nodes,
    terms: str,
    width: int,
) -> str:
    """A matrix of zeros, with a row for each text."""
    size = nodes.whole([width])
    rows = nodes.add("Shape", terms, op_version=15, end=1)
    shape = nodes.add("Concat", rows, size, op_version=13, axis=0)
    zero = helper.make_tensor("zero", TensorProto.DOUBLE, [1], [0.0])
    return nodes.add("ConstantOfShape", shape, op_version=9, value=zero)


def _weigh(
    nodes: Nodes,
    counts: str,
    transformer: Any,
    terms: str | None,
) -> str:
    """Counts as a TfidfTransformer weighs them.

    `terms` says of which terms they are; None stands for all terms in their order.
    """
    weights = counts
    if transformer.sublinear_tf:
        weights = _sublinear(nodes, weights)
    if transformer.use_idf:
        idf = nodes.doubles(np.ravel(transformer.idf_))
        if terms is not None:
            idf = nodes.add("Gather", idf, terms, op_version=13, axis=0)
        weights = nodes.add("Mul", weights, idf, op_version=14)
    if transformer.norm is not None:
        weights = _over_norm(nodes, weights, transformer.norm)
    return weights


def _sublinear(nodes: Nodes, counts: str) -> str:
    """1 + log(count) of terms that are there."""
    none = nodes.add("Equal", counts, nodes.doubles(0.0), op_version=13)
    some = nodes.add("Where", none, nodes.doubles(1.0), counts, op_version=9)
    logarithm = nodes.add("Log", some, op_version=13)
    more = nodes.add("Add", logarithm, nodes.doubles(1.0), op_version=14)
    return nodes.add("Where", none, nodes.doubles(0.0), more, op_version=9)


def _over_norm(
    nodes: Nodes,
    weights: str,
    norm: str,
) -> str:
    """Weights over the norm of their row, which counts as 1 where it is 0."""
    reduce = {"l1": "ReduceL1", "l2": "ReduceL2"}[norm]
    size = nodes.add(reduce, weights, nodes.whole([1]), op_version=18, keepdims=1)
    empty = nodes.add("Equal", size, nodes.doubles(0.0), op_version=13)
    divisor = nodes.add("Where", empty, nodes.doubles(1.0), size, op_version=9)
    return nodes.add("Div", weights, divisor, op_version=14)


def _weigh_columns(
    scope: Any,
    operator: Any,
    container: Any,
) -> None:
    """A TfidfTransformer on counts that come as columns."""
    nodes = Nodes(scope, container)
    given = operator.inputs[0].full_name
    output = operator.outputs[0]
    counts = nodes.add("Cast", given, op_version=13, to=TensorProto.DOUBLE)
    weights = _weigh(
        nodes,
        counts,
        operator.raw_operator,
        None,
    )
    nodes.give("Cast", output.full_name, weights, op_version=13, to=_element(output.type))


def _element(kind: Any) -> int:
    from skl2onnx.common.data_types import guess_proto_type

    return int(guess_proto_type(kind))


def _terms_shape(operator: Any) -> None:
    from skl2onnx.common.data_types import DoubleTensorType

    operator.outputs[0].type = DoubleTensorType([None, len(operator.raw_operator.vocabulary_)])


def _column_of(
    graph: onnx.GraphProto,
    name: str,
    vectorizer: Any,
) -> str:
    """The input of the graph that a tensor of texts is, however it was selected and shaped.

    Raises ConversionError.
    """
    makers = {output: node for node in graph.node for output in node.output}
    while name in makers:
        node = makers[name]
        if node.op_type not in SELECTS:
            break
        name = node.input[0]
    if all(value.name != name for value in graph.input):
        what = type(vectorizer).__name__
        raise ConversionError(
            f"{what} must read a column as it is, and something stands before it "
            f"({makers[name].op_type}); apply "
            f"that to the texts before the model",
            step=what,
        )
    return name


def _declare_outputs(proto: onnx.ModelProto) -> None:
    """Give outputs the types they have: skl2onnx guesses them from its inputs."""
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    for value in bare.graph.output:
        value.ClearField("type")
    found = {value.name: value.type.tensor_type for value in inferred(bare).output}
    for value in proto.graph.output:
        if value.type.HasField("tensor_type") and found[value.name].elem_type:
            value.type.tensor_type.elem_type = found[value.name].elem_type


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes whose outputs nothing reads, one after another."""
    wanted = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):  # a node comes after those whose outputs it reads
        if wanted.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            wanted.update(node.input)


def multiply_few(graph: onnx.GraphProto) -> None:
    """Where columns of terms are only multiplied with weights, take the weights of a text's terms.

    A text holds a few of many thousand terms.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for dense in [node for node in graph.node if node.name.startswith(DENSE)]:
        users = [node for node in graph.node if dense.output[0] in node.input]
        if not all(_is_product(node, dense.output[0], constants) for node in users):
            continue
        made = _products_of_few(dense, users)
        for user in users:
            graph.node.remove(user)
        place = list(graph.node).index(dense)
        graph.node.remove(dense)
        for node in reversed(made):
            graph.node.insert(place, node)
        if AXIS not in constants:
            constants[AXIS] = numpy_helper.from_array(
                np.array([1]),
                AXIS,
            )
            graph.initializer.append(constants[AXIS])
    drop_unused(graph)


def _products_of_few(dense: onnx.NodeProto, users: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Nodes that multiply the weights of a text's terms, in place of products with all columns."""
    _, terms, weights = dense.input
    row = f"{dense.output[0]}_row"
    made = [helper.make_node("Unsqueeze", [weights, AXIS], [row])]
    for at, user in enumerate(users):
        taken = f"{row}_{at}_taken"
        product = f"{row}_{at}_product"
        made.append(helper.make_node("Gather", [user.input[1], terms], [taken], axis=0))
        made.append(helper.make_node("MatMul", [row, taken], [product]))
        made.append(helper.make_node("Squeeze", [product, AXIS], [user.output[0]]))
    return made


def _is_product(
    node: onnx.NodeProto,
    left: str,
    constants: dict[str, Any],
) -> bool:
    """Whether a node is the product of `left` with a constant matrix."""
    factor = constants.get(node.input[1]) if len(node.input) == 2 else None
    return (
        node.op_type == "MatMul"
        and node.input[0] == left
        and factor is not None
        and len(factor.dims) == 2
    )
