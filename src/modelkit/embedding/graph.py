"""The graph of an encoder: read it, or write one, and which of its outputs holds vectors."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import SignatureError, importing
from modelkit.runtimes.onnx import OnnxModel
from modelkit.runtimes.proto import read_proto, serialize, signature_of, split_weights
from modelkit.signature.signature import Signature

with importing("onnx", "reading an ONNX graph", "save"):
    import onnx
    from onnx import compose, numpy_helper, parser

# What exporters call the vectors that a graph adds to tokens by their places.
POSITIONS = re.compile(r"(.*[./])?position_embeddings?\.weight(_quantized)?")
USUAL = ("last_hidden_state", "token_embeddings")  # what exporters call the vectors of tokens
FINISHED = "sentence_embedding"  # and of texts
# What stands behind a graph over tokens. Reshape, unlike Unsqueeze and ReduceSum, has one form in all
# versions of ONNX, and so fits behind a graph of any.
HEAD = """
behind (float[batch, tokens, n] hidden, int64[batch, tokens] attention_mask) => (float[batch, d] sentence_embedding)
<int64[3] row = {0, 1, -1}, int64[3] column = {0, -1, 1}, int64[2] flat = {0, -1}, int64 first = {0}>
"""
POOLED = {
    "mean": """
        held = Cast <to = 1> (attention_mask)
        across = Reshape (held, row)
        down = Reshape (held, column)
        total = MatMul (across, tokens)
        count = MatMul (across, down)
        mean = Div (total, count)
        x0 = Reshape (mean, flat)
    """,
    "cls": "x0 = Gather <axis = 1> (tokens, first)",
}
ACTIVATIONS = {"Identity": "Identity", "Tanh": "Tanh", "ReLU": "Relu", "Sigmoid": "Sigmoid"}
TABLES = ("embeddings", "embedding.weight")  # as model2vec and sentence-transformers name it
# A token without a weight does not count either.
STATIC = """<ir_version: 9, opset_import: ["" : 18]>
static (int64[batch, tokens] input_ids, int64[batch, tokens] attention_mask) => (float[batch, d] sentence_embedding)
<int64[3] row = {0, 1, -1}, int64[3] column = {0, -1, 1}, int64[2] flat = {0, -1}, float one = {1.0}>
{
    held = Cast <to = 1> (attention_mask)
    across = Reshape (held, row)
    counted = Gather (counts, input_ids)
    down = Reshape (counted, column)
    count = MatMul (across, down)
    some = Max (count, one)
    weight = Gather (weights, input_ids)
    weighted = Mul (weight, held)
    factors = Reshape (weighted, row)
    places = Gather (mapping, input_ids)
    rows = Gather (table, places)
    vectors = Cast <to = 1> (rows)
    total = MatMul (factors, vectors)
    mean = Div (total, some)
    sentence_embedding = Reshape (mean, flat)
}"""


def open_graph(onnx: Any) -> tuple[OnnxModel, int | None]:
    """A Model over tokens from an ONNX model, and the number of positions it has vectors for.

    The number is None where the graph does not say it. Raises SignatureError and ConversionError.
    """
    proto = read_proto(onnx)
    if proto is None:
        raise SignatureError(
            "an encoder is made from an ONNX model as path, bytes or ModelProto, or from a Model "
            f"over tokens; got {type(onnx).__name__}"
        )
    tables = [tensor for tensor in proto.graph.initializer if POSITIONS.fullmatch(tensor.name)]
    positions = [tensor.dims[0] for tensor in tables if len(tensor.dims) == 2]
    signature = signature_of(proto)
    weights = split_weights(proto)
    held = memoryview(weights) if weights else None
    model = OnnxModel(serialize(proto), signature, weights=held, side_by_side=True)
    return model, min(positions, default=None)


def choose_output(signature: Signature, output: str | None, pooling: str | None) -> tuple[str, str]:
    """The output with vectors, and how they are pooled; None for what the graph says itself.

    A graph with an output of the usual name for the vectors of texts, or with no other vectors, is
    not pooled. Raises SignatureError.
    """
    floats = [spec for spec in signature.outputs if spec.dtype in ("float32", "float16")]
    tokens, texts = ([s.name for s in floats if len(s.shape) == rank] for rank in (3, 2))
    if pooling is None:
        finished = output in texts if output else FINISHED in texts or (texts and not tokens)
        pooling = "none" if finished else "mean"
    if output is not None:
        return output, pooling
    found, names, each, fix = (
        (texts, (FINISHED,), "text", "make a TextEncoder of it, with another pooling=")
        if pooling == "none"
        else (tokens, USUAL, "token", "pass pooling='none', or make a Reranker if it scores pairs")
    )
    usual = [name for name in names if name in found]
    if not usual and len(found) != 1:
        fix = "name one by output=" if found else fix
        raise SignatureError(
            f"the graph has {len(found)} outputs that may be a vector or score for each {each}, {found}; "
            f"{fix}: {signature}"
        )
    return (usual or found)[0], pooling


def gives_finished(onnx_file: str | os.PathLike[str]) -> bool:
    """Whether a graph has an output of the usual name for the vectors of texts."""
    outputs = onnx.load(onnx_file, load_external_data=False).graph.output
    return any(value.name == FINISHED for value in outputs)


def with_layers(source: Any, pooling: str, layers: Sequence[tuple[Array, Array, str]]) -> Any:
    """A graph over tokens with pooling and dense layers behind it: it gives finished vectors.

    Args:
        source: as for `open_graph`.
        pooling: "mean" or "cls".
        layers: of each its weights, (d in, d out), its bias, (d out,), and its activation.

    Returns:
        A ModelProto.
    """
    proto: Any = read_proto(source)
    output, _ = choose_output(signature_of(proto), None, pooling)
    steps = f"tokens = Cast <to = 1> (hidden)\n{POOLED[pooling]}\n"
    weights: dict[str, Array] = {}
    for at, (matrix, bias, activation) in enumerate(layers):
        weights |= {f"w{at}": matrix, f"b{at}": bias}
        steps += f"m{at} = MatMul (x{at}, w{at})\na{at} = Add (m{at}, b{at})\n"
        steps += f"x{at + 1} = {ACTIVATIONS[activation]} (a{at})\n"
    steps += f"{FINISHED} = Identity (x{len(layers)})"
    behind = parser.parse_graph(f"{HEAD} {{ {steps} }}")
    _add_arrays(behind, weights)
    compose.add_prefix_graph(
        behind, "modelkit.", rename_inputs=False, rename_outputs=False, inplace=True
    )
    behind.node[0].input[0] = output
    graph = proto.graph
    graph.node.extend(behind.node)
    graph.initializer.extend(behind.initializer)
    del graph.output[:]
    graph.output.extend(behind.output)
    return proto


def static_graph(tensors: Mapping[str, Array], unknown: int | None, largest: int) -> Any:
    """The graph of a static model, which gives the mean of the vectors of a text's tokens.

    Args:
        tensors: a table of vectors, (n, d), with one of the names of `TABLES`; and perhaps
            `weights`, a factor for each token, and `mapping`, the place of each in the table.
        unknown: the token that is left out, if there is one.
        largest: the largest token that a text may have.

    Returns:
        A ModelProto. The vector of a text without a token is zero.

    Raises SignatureError for arrays that do not fit together or the tokens, or are not finite.
    """
    table = next(tensors[name] for name in TABLES if name in tensors)
    mapping = tensors.get("mapping", np.arange(sum(table.shape[:1])))
    factors = tensors.get("weights", np.ones(mapping.shape, np.float32))
    if table.ndim != 2 or mapping.ndim != 1 or factors.shape != mapping.shape:
        raise SignatureError(
            "the vectors are (n, d), mapping and weights have one number for each token; got "
            f"{table.shape}, {mapping.shape} and {factors.shape}"
        )
    if largest >= len(mapping):
        raise SignatureError(f"token {largest:,} has no vector, for there are {len(mapping):,}")
    if not np.isin(mapping, np.arange(len(table))).all():
        raise SignatureError(f"mapping names other rows than the {len(table):,} of the vectors")
    if not (np.isfinite(table).all() and np.isfinite(factors).all()):
        raise SignatureError("vectors or weights are not finite")
    counts = np.ones(len(mapping), np.float32)
    if unknown is not None:
        counts[unknown] = 0
    weights = counts * factors
    proto = parser.parse_model(STATIC)
    found = {"table": table, "mapping": mapping.astype(np.int64), "counts": counts}
    _add_arrays(proto.graph, found | {"weights": weights.astype(np.float32)})
    return proto


def _add_arrays(graph: Any, arrays: Mapping[str, Array]) -> None:
    named = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph.initializer.extend(named)
