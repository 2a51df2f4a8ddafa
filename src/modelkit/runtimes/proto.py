"""ONNX protos: read them, derive their signature, and write them so that they load fast."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import ConversionError, importing
from modelkit.model.manifest import WEIGHTS_REF
from modelkit.runtimes import schema
from modelkit.signature.signature import Signature
from modelkit.signature.spec import TensorSpec, numpy_dtype

with importing("onnx", "reading an ONNX graph", "save"):
    import onnx
    from onnx import TensorProto, helper, inliner, numpy_helper, shape_inference

# Smaller tensors stay inside the graph: those that a runtime does not repack (biases, scales) would
# otherwise sit between the large ones and keep their pages in memory.
EXTERNAL_BYTES = 16 << 10
ALIGNMENT = 64
TREES = "TreeEnsemble"
# What exporters write for a dimension without a name; TensorFlow's and PaddlePaddle's count them.
MADE_UP = re.compile(r"|\?|-1|None|unk__\d+|p2o\.DynamicDimension\.\d+")

ELEMENT_DTYPES: dict[int, str] = {
    TensorProto.DataType.Value(element): dtype
    for element, dtype in {
        "FLOAT16": "float16", "FLOAT": "float32", "DOUBLE": "float64",
        "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
        "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
        "BOOL": "bool", "STRING": "string",
    }.items()
}  # fmt: skip


def read_proto(source: object) -> onnx.ModelProto | None:
    """A private copy of an ONNX model given as path, bytes or proto; None for anything else.

    Calls of functions of the model's own are written out, operator by operator.
    """
    proto = onnx.ModelProto()
    try:
        if isinstance(source, onnx.ModelProto):
            proto.CopyFrom(source)
        elif isinstance(source, bytes | bytearray | memoryview):
            proto = onnx.load_from_string(bytes(source))
        elif isinstance(source, str | os.PathLike):
            proto = onnx.load(source)
        else:
            return None
        return inliner.inline_local_functions(proto) if proto.functions else proto
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        raise ConversionError(
            f"{_given(source)} is not a readable ONNX model: pass the path or the bytes of one; "
            "a folder of weights for texts is for mk.TextEncoder.from_directory"
        ) from error


def _given(source: object) -> str:
    return f"{os.fspath(source)!r}" if isinstance(source, str | os.PathLike) else "this"


def signature_of(proto: onnx.ModelProto) -> Signature:
    """The signature that a graph declares. Raises ConversionError."""
    initialised = {tensor.name for tensor in proto.graph.initializer}
    graph = proto.graph
    if any(not _is_shaped(value) for value in graph.output):
        graph = inferred(proto)
    inputs = tuple(tensor_spec(value) for value in graph.input if value.name not in initialised)
    return Signature(inputs, tuple(tensor_spec(value) for value in graph.output))


def inferred(proto: onnx.ModelProto) -> onnx.GraphProto:
    """The graph with the types and shapes that onnx infers.

    Its rule for TreeEnsemble ends the process where the shape before one is unknown. So the rule is
    kept from it, and what it would say of the output is stated.
    """
    stated = onnx.ModelProto()
    stated.CopyFrom(proto)
    _state_ensembles(stated.graph)
    return shape_inference.infer_shapes(stated).graph


def _state_ensembles(graph: onnx.GraphProto) -> None:
    stated = {value.name for value in [*graph.value_info, *graph.output]}
    for node in _rename_ensembles(graph.node):
        output = _output_of_ensemble(node)
        if output is not None and output.name not in stated:
            graph.value_info.append(output)


def _rename_ensembles(nodes: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Give the ensembles among these nodes, and in their subgraphs, a name without a rule; returns those among them."""
    found = []
    for node in nodes:
        if node.op_type == TREES:
            node.op_type = f"Modelkit{TREES}"
            found.append(node)
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                _state_ensembles(inner)
    return found


def _output_of_ensemble(node: onnx.NodeProto) -> onnx.ValueInfoProto | None:
    """The sums of an ensemble, (n, n_targets) in the dtype of its leaves; None where the node does not say."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if not node.output or not {"leaf_weights", "n_targets"} <= attributes.keys():
        return None
    element = attributes["leaf_weights"].t.data_type
    shape = [None, attributes["n_targets"].i]
    return helper.make_tensor_value_info(node.output[0], element, shape)


def _is_shaped(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"))


def tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    """The TensorSpec of a graph input or output. An unnamed leading dimension is called batch."""
    kind = value.type.WhichOneof("value") or "value of no declared type"
    if kind != "tensor_type":
        raise ConversionError(
            f"{value.name!r} is a {kind.removesuffix('_type').replace('_', ' ')}, but a package "
            "takes and gives tensors; a classifier gives one with skl2onnx's "
            "options={'zipmap': False}"
        )
    tensor = value.type.tensor_type
    if tensor.elem_type not in ELEMENT_DTYPES:
        kind = TensorProto.DataType.Name(tensor.elem_type)
        raise ConversionError(
            f"{value.name!r} holds elements of type {kind}; cast them to a numpy type in the graph"
        )
    if not tensor.HasField("shape"):
        raise ConversionError(
            f"{value.name!r} lacks a shape, and it cannot be inferred; declare it in the graph"
        )
    shape: list[int | str] = []
    for axis, dim in enumerate(tensor.shape.dim):
        unnamed = "batch" if axis == 0 else f"{value.name}.{axis}"
        named = unnamed if MADE_UP.fullmatch(dim.dim_param) else dim.dim_param
        shape.append(dim.dim_value if _is_fixed(dim) else named)
    return TensorSpec(value.name, ELEMENT_DTYPES[tensor.elem_type], tuple(shape))


def _is_fixed(dim: Any) -> bool:
    """Whether a dimension has a size; some exporters write -1 for one without."""
    return bool(dim.HasField("dim_value") and dim.dim_value >= 0)


def row_bytes(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> int:
    """The most bytes of one row in the inputs and outputs of any one node; 0 if unknown.

    Free sizes are taken from `feeds`, by input, where these are given.
    """
    try:
        graph = inferred(_of_sizes(proto, feeds))
    except Exception:  # unknown operators, huge graphs: the size is a hint
        return 0
    sizes: dict[str, int] = {}
    for value in [*graph.value_info, *graph.input, *graph.output]:
        tensor = value.type.tensor_type
        dims = tensor.shape.dim[1:]
        if tensor.elem_type in ELEMENT_DTYPES and all(_is_fixed(dim) for dim in dims):
            item = numpy_dtype(ELEMENT_DTYPES[tensor.elem_type]).itemsize
            shape = [dim.dim_value for dim in dims]
            sizes[value.name] = item * int(np.prod(shape, initial=1))
    most = 0
    for node in graph.node:
        tensors = [*node.input, *node.output]
        most = max(most, sum(sizes.get(name, 0) for name in tensors))
    return most


def _of_sizes(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> onnx.ModelProto:
    """A graph whose inputs have sizes, but for the first of each; itself where all have one."""
    free = [
        value
        for value in proto.graph.input
        if value.name in feeds and not all(map(_is_fixed, value.type.tensor_type.shape.dim[1:]))
    ]
    if not free:
        return proto
    sized = onnx.ModelProto()
    sized.CopyFrom(proto)
    del sized.graph.value_info[:]  # which has names for sizes
    for value in sized.graph.input:
        dims = value.type.tensor_type.shape.dim
        shape = feeds[value.name].shape if value.name in feeds else ()
        if len(shape) == len(dims):
            for dim, size in zip(dims[1:], shape[1:], strict=True):
                dim.dim_value = size
    return sized


def forget_ranks(proto: onnx.ModelProto, signature: Signature) -> None:
    """Clear the shape of outputs that state another rank than the signature."""
    for value, spec in zip(proto.graph.output, signature.outputs, strict=True):
        if len(value.type.tensor_type.shape.dim) != len(spec.shape):
            value.type.tensor_type.ClearField("shape")


def opsets(proto: onnx.ModelProto) -> dict[str, int]:
    """The operator set versions of a model, by domain."""
    return {entry.domain: entry.version for entry in proto.opset_import}


def split_weights(proto: onnx.ModelProto) -> bytes:
    """Move the large initialisers of `proto` into external data; returns the data."""
    weights = bytearray()
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.STRING or tensor.data_location == TensorProto.EXTERNAL:
            continue
        array = numpy_helper.to_array(tensor)
        if array.nbytes < EXTERNAL_BYTES:
            continue
        data = numpy_helper.from_array(array).raw_data
        weights += bytes(-len(weights) % ALIGNMENT)
        external = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        external.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", WEIGHTS_REF),
            ("offset", len(weights)),
            ("length", len(data)),
        ):
            external.external_data.add(key=key, value=str(value))
        weights += data
        tensor.CopyFrom(external)
    return bytes(weights)


def serialize(proto: onnx.ModelProto) -> bytes:
    """Serialise a model for a runtime, without attributes of trees that change nothing."""
    model = schema.parse(proto.SerializeToString())
    for node in model.graph.node:
        for at in reversed(range(len(node.attribute))):
            if _is_idle(node.attribute[at]):
                del node.attribute[at]
    return schema.write(model)


def _is_idle(attribute: Any) -> bool:
    """Whether an attribute of trees changes nothing.

    These are the hit counts of the nodes, and the branch of missing values where all of them take
    the default one: two of the thirteen lists of a forest, with one number a node each, which a
    runtime would parse and copy.
    """
    if attribute.name == b"nodes_missing_value_tracks_true":
        return not any(attribute.ints)
    return bool(attribute.name == b"nodes_hitrates")
