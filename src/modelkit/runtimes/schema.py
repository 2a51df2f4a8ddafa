"""ONNX's messages as protobuf parses and writes them. The only module that imports protobuf.

What is written is what was parsed, once: a field that the schema does not know, a second value of a
field, or a number in more bytes than it needs is not in it. So whatever is checked of a message and then
written is what the next parser reads.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from modelkit.errors import GraphError, importing

MAX_GRAPH = (1 << 31) - 1  # bytes that protobuf can parse
# The fields of onnx.proto, the release of IR version 13, by number, name and type: * is a list, and of
# those with ? a message has one. Where it differs: texts are bytes, since those of a hostile graph may be
# no UTF-8, and so are types of types, which would nest as deep as a graph says, functions and sparse
# tensors: nobody here looks into them. What a run does not need is left out: graphs of a training, and
# attributes that are arguments of a function.
MESSAGES = {
    "Model": (
        "1 ir_version int64, 2 producer_name bytes, 3 producer_version bytes, 4 domain bytes, "
        "5 model_version int64, 6 doc_string bytes, 7 graph Graph, 8 opset_import Opset*, "
        "14 metadata_props Entry*, 25 functions bytes*, "
        "26 configuration Devices*"
    ),
    "Graph": (
        "1 node Node*, 2 name bytes, 5 initializer Tensor*, 10 doc_string bytes, 11 input Value*, "
        "12 output Value*, 13 value_info Value*, 14 quantization_annotation Annotation*, "
        "15 sparse_initializer bytes*, 16 metadata_props Entry*"
    ),
    "Node": (
        "1 input bytes*, 2 output bytes*, 3 name bytes, 4 op_type bytes, 5 attribute Attribute*, "
        "6 doc_string bytes, 7 domain bytes, 8 overload bytes, 9 metadata_props Entry*, "
        "10 device_configurations NodeDevices*"
    ),
    "Attribute": (
        "1 name bytes, 2 f float, 3 i int64, 4 s bytes, 5 t Tensor, 6 g Graph, 7 floats float*, "
        "8 ints int64*, 9 strings bytes*, 10 tensors Tensor*, 11 graphs Graph*, 13 doc_string bytes, "
        "14 tp Type, 15 type_protos Type*, 20 type int32, "
        "22 sparse_tensor bytes, 23 sparse_tensors bytes*"
    ),
    "Tensor": (
        "1 dims int64*, 2 data_type int32, 3 segment Segment, 4 float_data float*, "
        "5 int32_data int32*, 6 string_data bytes*, 7 int64_data int64*, 8 name bytes, "
        "9 raw_data bytes, 10 double_data double*, 11 uint64_data uint64*, 12 doc_string bytes, "
        "13 external_data Entry*, 14 data_location int32, 16 metadata_props Entry*"
    ),
    "Segment": "1 begin int64, 2 end int64",
    "Value": "1 name bytes, 2 type Type, 3 doc_string bytes, 4 metadata_props Entry*",
    "Type": (
        "1 tensor_type TensorType?, 4 sequence_type bytes?, 5 map_type bytes?, 6 denotation bytes, "
        "7 opaque_type OpaqueType?, 8 sparse_tensor_type TensorType?, 9 optional_type bytes?"
    ),
    "TensorType": "1 elem_type int32, 2 shape Shape",
    "OpaqueType": "1 domain bytes, 2 name bytes",
    "Shape": "1 dim Dim*",
    "Dim": "1 dim_value int64?, 2 dim_param bytes?, 3 denotation bytes",
    "Opset": "1 domain bytes, 2 version int64",
    "Entry": "1 key bytes, 2 value bytes",
    "Annotation": "1 tensor_name bytes, 2 quant_parameter_tensor_names Entry*",
    "Devices": "1 name bytes, 2 num_devices int32, 3 device bytes*",
    "NodeDevices": "1 configuration_id bytes, 2 sharding_spec Sharding*, 3 pipeline_stage int32",
    "Sharding": (
        "1 tensor_name bytes, 2 device int64*, 3 index_to_device_group_map Group*, "
        "4 sharded_dim Sharded*"
    ),
    "Group": "1 key int64, 2 value int64*",
    "Sharded": "1 axis int64, 2 simple_sharding Simple*",
    "Simple": "1 dim_value int64?, 2 dim_param bytes?, 3 num_shards int64",
}
# As descriptor.proto has them.
TYPES = {"double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "bytes": 12}
MESSAGE = 11
OPTIONAL, REPEATED = 1, 3


def parse(graph: bytes | memoryview) -> Any:
    """A serialised ModelProto as a message of this schema. Raises GraphError."""
    if len(graph) > MAX_GRAPH:
        raise GraphError(f"the graph has {len(graph)} bytes; at most {MAX_GRAPH} are read")
    kind = _model_class()
    try:
        model = kind.FromString(bytes(graph))
    except Exception as error:  # of several classes, by which form of protobuf is installed
        raise GraphError(f"the graph is not a well-formed ONNX model: {error}") from None
    model.DiscardUnknownFields()
    return model


def write(model: Any) -> bytes:
    """The bytes of a message that `parse` gave. Raises GraphError."""
    try:
        return bytes(model.SerializeToString())
    except Exception as error:  # negative numbers may take more bytes than they took
        raise GraphError(f"the graph is too large to be written anew: {error}") from None


@cache
def _model_class() -> Any:
    """The class of models, in a pool of its own. Raises MissingExtraError."""
    with importing("protobuf", "reading an ONNX graph", "cpu"):
        from google.protobuf import message
    # A file of the name and with the messages, as protobuf itself writes it.
    file = _field(1, b"modelkit") + b"".join(map(_message, MESSAGES))
    try:  # the compiled module alone, for protobuf in Python takes 7 ms more to import
        from google._upb import _message as upb

        pool = upb.DescriptorPool()
        pool.AddSerializedFile(file)
        about = {"DESCRIPTOR": pool.FindMessageTypeByName("Model"), "__module__": None}
        return upb.MessageMeta("Model", (message.Message,), about)
    except (ImportError, AttributeError, TypeError, SystemError):
        from google.protobuf import descriptor_pool, message_factory
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Model"))


def _message(name: str) -> bytes:
    """The descriptor of a message: its name, its fields, and what those have of which one is there."""
    fields = [_described(*field.split()) for field in MESSAGES[name].split(", ")]
    one_of = _field(8, _field(1, b"value")) if "?" in MESSAGES[name] else b""
    return _field(4, _field(1, name.encode()) + b"".join(fields) + one_of)


def _described(number: str, name: str, kind: str) -> bytes:
    """The descriptor of a field. A list of numbers is written packed: a forest is a quarter smaller."""
    plain = kind.rstrip("*?")
    found = _field(1, name.encode()) + _field(3, int(number))
    found += _field(4, REPEATED if kind.endswith("*") else OPTIONAL)
    found += _field(5, TYPES.get(plain, MESSAGE))
    if plain in MESSAGES:
        found += _field(6, f".{plain}".encode())
    elif kind.endswith("*") and plain != "bytes":
        found += _field(8, _field(2, True))
    return _field(2, found + (_field(9, 0) if kind.endswith("?") else b""))


def _field(number: int, value: int | bytes) -> bytes:
    """A field as protobuf writes it, of a number below 128 or of less than 16 KiB."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    size = len(value)
    length = [size] if size < 128 else [size & 127 | 128, size >> 7]
    return bytes([number << 3 | 2, *length]) + value
