"""Read the graph of an encoder: the Model over its tokens, and which output holds their vectors."""

from __future__ import annotations

import re
from typing import Any

from modelkit.errors import SignatureError
from modelkit.model.manifest import WEIGHTS_REF
from modelkit.runtimes.onnx import OnnxModel
from modelkit.runtimes.proto import read_proto, serialize, signature_of, split_weights
from modelkit.signature.signature import Signature

# What exporters call the vectors that a graph adds to tokens by their places.
POSITIONS = re.compile(r"(.*[./])?position_embeddings?\.weight(_quantized)?")
USUAL = ("last_hidden_state", "token_embeddings")  # what exporters call the vectors of tokens
FINISHED = "sentence_embedding"  # and of texts


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
    weights = split_weights(proto, WEIGHTS_REF)
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
    found, names, each = (
        (texts, (FINISHED,), "text") if pooling == "none" else (tokens, USUAL, "token")
    )
    usual = [name for name in names if name in found]
    if not usual and len(found) != 1:
        raise SignatureError(
            f"the graph has {len(found)} outputs that may be a vector for each {each}, {found}; "
            f"name one by output=, or pass pooling='none' for one vector a text: {signature}"
        )
    return (usual or found)[0], pooling
