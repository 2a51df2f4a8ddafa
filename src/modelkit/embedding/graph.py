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


def token_output(signature: Signature) -> str:
    """The name of the output with a vector for each token: a usual name, or the only such output.

    Raises SignatureError.
    """
    found = [
        spec.name
        for spec in signature.outputs
        if spec.dtype in ("float32", "float16") and len(spec.shape) == 3
    ]
    usual = [name for name in USUAL if name in found]
    if not usual and len(found) != 1:
        raise SignatureError(
            f"the graph has {len(found)} outputs that may be a vector for each token, {found}; "
            f"name one by output=: {signature}"
        )
    return (usual or found)[0]
