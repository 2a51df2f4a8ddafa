"""Convert vectorizers of texts: Python counts the terms, and the graph weighs and uses the counts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelkit.convert.nodes import Nodes
from modelkit.convert.operators import Converter
from modelkit.errors import ConversionError, SignatureError
from modelkit.proto import inferred
from modelkit.spec import TensorSpec
from modelkit.texts.terms import Terms
from modelkit.texts.vectorizer import Texts, Vectorizer, counts_of

COUNTED = "ModelkitTerms"  # stands in the graph, while it is made, for what Python does
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
FUNCTIONS = ("tokenizer", "preprocessor", "analyzer", "strip_accents")  # options that may be code


class TextConverters:
    """The converters of vectorizers.

    What they have met becomes `texts` and `terms`; None and () where that is none.
    """

    def __init__(self) -> None:
        self._found: list[Any] = []
        self.texts: Texts | None = None
        self.terms: tuple[Terms, ...] = ()

    def table(self) -> tuple[dict[type, Converter], dict[type, Callable[[Any], None]]]:
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

    def _count(self, scope: Any, operator: Any, container: Any) -> None:
        """Terms and counts from Python, their weights, and a column of each term."""
        vectorizer = operator.raw_operator
        at = len(self._found)
        self._found.append(vectorizer)
        graph = Nodes(scope, container)
        terms, counts = (spec.name for spec in counts_of(at))
        container.add_node(
            COUNTED,
            [operator.inputs[0].full_name],
            [terms, counts],
            name=f"{COUNTED}_{at}",
            op_version=1,
            at=at,
        )
        weights = counts
        if vectorizer.binary or np.dtype(vectorizer.dtype).kind == "b":
            weights = graph.add("Min", weights, graph.number(1.0), version=13)
        transformer = getattr(vectorizer, "_tfidf", None)
        if transformer is not None:
            weights = _weigh(graph, weights, transformer, terms)
        size = graph.constant(TensorProto.INT64, [len(vectorizer.vocabulary_)])
        rows = graph.add("Shape", terms, version=15, end=1)
        shape = graph.add("Concat", rows, size, version=13, axis=0)
        zero = helper.make_tensor("zero", TensorProto.DOUBLE, [1], [0.0])
        zeros = graph.add("ConstantOfShape", shape, version=9, value=zero)
        container.add_node(
            "ScatterElements", [zeros, terms, weights], [operator.outputs[0].full_name], name=f"{DENSE}_{at}",
            op_version=18, axis=1, reduction="add",
        )  # fmt: skip

    def connect(self, proto: onnx.ModelProto, inputs: list[TensorSpec]) -> None:
        """Give the graph counts for inputs in place of the texts they are made from.

        Raises ConversionError.
        """
        graph = proto.graph
        columns = {}
        for node in [node for node in graph.node if node.op_type == COUNTED]:
            at = node.attribute[0].i
            columns[at] = _column_of(graph, node.input[0], self._found[at])
            graph.node.remove(node)
        if not columns:
            return
        drop_unused(graph)
        read = {name for node in graph.node for name in node.input}
        texts = set(columns.values())
        passed = [spec.name for spec in inputs if spec.name not in texts or spec.name in read]
        kept = [value for value in graph.input if value.name in passed]
        del graph.input[:]
        graph.input.extend(kept)
        for at in range(len(columns)):
            for spec in counts_of(at):
                kind = TensorProto.INT64 if spec.dtype == "int64" else TensorProto.DOUBLE
                graph.input.append(helper.make_tensor_value_info(spec.name, kind, list(spec.shape)))
        self.terms = tuple(terms_of(self._found[at], columns[at]) for at in sorted(columns))
        self.texts = Texts(tuple(each.vectorizer for each in self.terms), tuple(passed))
        _declare_outputs(proto)


def terms_of(vectorizer: Any, column: str) -> Terms:
    """What a fitted vectorizer counts in a column.

    Raises ConversionError for what is code, and no data.
    """
    name = type(vectorizer).__name__
    given = [option for option in FUNCTIONS if callable(getattr(vectorizer, option))]
    if given:
        raise ConversionError(
            f"{name}({given[0]}=...) is a function of yours, and a package holds no code; apply it "
            "to the texts before "
            f"the model, or save with format='joblib'",
            step=name,
        )
    if vectorizer.input != "content":
        raise ConversionError(
            f"{name}(input={vectorizer.input!r}) reads files; pass it texts", step=name
        )
    dtype = np.dtype(vectorizer.dtype)
    if dtype.kind != "b" and dtype.itemsize < 4:
        raise ConversionError(
            f"{name}(dtype={dtype}) counts in few bits, which the graph does not; use float64",
            step=name,
        )
    words = vectorizer.analyzer == "word"
    places = vectorizer.vocabulary_
    if isinstance(places, _Held):
        places = places.vocabulary
    vocabulary = sorted(places, key=places.get)
    stop_words = sorted(vectorizer.get_stop_words() or ()) if words else []
    odd = [
        term
        for term in [*vocabulary, *stop_words]
        if not isinstance(term, str) or not _is_unicode(term)
    ]
    if odd:
        raise ConversionError(f"{name} has the term {odd[0]!r}, which is no valid text", step=name)
    try:
        described = Vectorizer(
            column=column,
            analyzer=vectorizer.analyzer,
            ngrams=tuple(int(size) for size in vectorizer.ngram_range),
            lowercase=bool(vectorizer.lowercase),
            accents=vectorizer.strip_accents or None,
            token_pattern=vectorizer.token_pattern if words else None,
        )
    except SignatureError as error:
        raise ConversionError(f"{name} cannot be converted: {error}", step=name) from error
    return Terms(described, [str(term) for term in vocabulary], [str(word) for word in stop_words])


class _Held:
    """Keeps a vocabulary from the converter, which looks through every list and dict of an estimator several times."""

    __slots__ = ("vocabulary",)

    def __init__(self, vocabulary: dict[str, int]) -> None:
        self.vocabulary = vocabulary

    def __len__(self) -> int:
        return len(self.vocabulary)


def prepared_for_terms(estimator: Any) -> Any:
    """An estimator that answers the same, in a form that the converters of this module take.

    CountVectorizer and the TfidfTransformer after it become one TfidfVectorizer.
    """
    from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer

    if type(estimator) in (CountVectorizer, TfidfVectorizer):
        opened = copy.copy(estimator)
        opened.vocabulary_ = _Held(estimator.vocabulary_)
        return opened
    opened = estimator
    for name in ("steps", "transformer_list", "transformers_"):
        if hasattr(estimator, name):
            opened = copy.copy(estimator) if opened is estimator else opened
            parts = [
                (key, prepared_for_terms(part), *more)
                for key, part, *more in getattr(estimator, name)
            ]
            setattr(opened, name, parts)
    if not hasattr(estimator, "steps"):
        return opened
    steps: list[Any] = []
    for key, step in opened.steps:
        if isinstance(step, TfidfTransformer) and steps and type(steps[-1][1]) is CountVectorizer:
            first, counting = steps[-1]
            joined = TfidfVectorizer(**counting.get_params())
            joined.vocabulary_ = counting.vocabulary_
            joined._tfidf = step  # noqa: SLF001 - where it keeps one itself
            steps[-1] = (first, joined)
        else:
            steps.append((key, step))
    opened.steps = steps
    return opened


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _weigh(graph: Nodes, counts: str, transformer: Any, terms: str | None) -> str:
    """Counts as a TfidfTransformer weighs them; `terms` says of which terms they are, None of all in their order."""
    weights = counts
    if transformer.sublinear_tf:
        none = graph.add("Equal", weights, graph.number(0.0), version=13)
        some = graph.add("Where", none, graph.number(1.0), weights, version=9)
        more = graph.add("Add", graph.add("Log", some, version=13), graph.number(1.0), version=14)
        weights = graph.add("Where", none, graph.number(0.0), more, version=9)
    if transformer.use_idf:
        idf = graph.numbers(np.ravel(transformer.idf_))
        if terms is not None:
            idf = graph.add("Gather", idf, terms, version=13, axis=0)
        weights = graph.add("Mul", weights, idf, version=14)
    if transformer.norm is not None:
        reduce = {"l1": "ReduceL1", "l2": "ReduceL2"}[transformer.norm]
        norm = graph.add(
            reduce, weights, graph.constant(TensorProto.INT64, [1]), version=18, keepdims=1
        )
        empty = graph.add("Equal", norm, graph.number(0.0), version=13)
        weights = graph.add(
            "Div",
            weights,
            graph.add("Where", empty, graph.number(1.0), norm, version=9),
            version=14,
        )
    return weights


def _weigh_columns(scope: Any, operator: Any, container: Any) -> None:
    """A TfidfTransformer on counts that come as columns."""
    graph = Nodes(scope, container)
    counts = graph.add("Cast", operator.inputs[0].full_name, version=13, to=TensorProto.DOUBLE)
    weights = _weigh(graph, counts, operator.raw_operator, None)
    element = _element(operator.outputs[0].type)
    container.add_node(
        "Cast", [weights], [operator.outputs[0].full_name], name=scope.get_unique_operator_name("Cast"), op_version=13,
        to=element,
    )  # fmt: skip


def _element(kind: Any) -> int:
    from skl2onnx.common.data_types import guess_proto_type

    return int(guess_proto_type(kind))


def _terms_shape(operator: Any) -> None:
    from skl2onnx.common.data_types import DoubleTensorType

    operator.outputs[0].type = DoubleTensorType([None, len(operator.raw_operator.vocabulary_)])


def _column_of(graph: onnx.GraphProto, name: str, vectorizer: Any) -> str:
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
    """Give outputs the types they have: the converter guesses them from its inputs, and texts are no numbers."""
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
    """Where columns of terms are only multiplied with weights, take the weights of the terms that are there.

    A text holds a few of many thousand terms.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for dense in [node for node in graph.node if node.name.startswith(DENSE)]:
        users = [node for node in graph.node if dense.output[0] in node.input]
        if not all(_is_product(node, dense.output[0], constants) for node in users):
            continue
        _, terms, weights = dense.input
        row = f"{dense.output[0]}_row"
        lift = helper.make_node("Unsqueeze", [weights, "texts_axis"], [row])
        made = [lift]
        for at, user in enumerate(users):
            taken, product = f"{row}_{at}_taken", f"{row}_{at}_product"
            made.append(helper.make_node("Gather", [user.input[1], terms], [taken], axis=0))
            made.append(helper.make_node("MatMul", [row, taken], [product]))
            made.append(helper.make_node("Squeeze", [product, "texts_axis"], [user.output[0]]))
            graph.node.remove(user)
        place = list(graph.node).index(dense)
        graph.node.remove(dense)
        for node in reversed(made):
            graph.node.insert(place, node)
        if "texts_axis" not in constants:
            constants["texts_axis"] = numpy_helper.from_array(np.array([1]), "texts_axis")
            graph.initializer.append(constants["texts_axis"])
    drop_unused(graph)


def _is_product(node: onnx.NodeProto, left: str, constants: dict[str, Any]) -> bool:
    """Whether a node is the product of `left` with a constant matrix."""
    factor = constants.get(node.input[1]) if len(node.input) == 2 else None
    return (
        node.op_type == "MatMul"
        and node.input[0] == left
        and factor is not None
        and len(factor.dims) == 2
    )
