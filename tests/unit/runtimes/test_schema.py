"""The messages of ONNX: their table is that of the onnx library, and protobuf is asked for by name."""

import sys

import onnx
import pytest
from google.protobuf.descriptor import FieldDescriptor

import modelkit as mk
from modelkit.runtimes import schema

# What the schema makes of the types of a descriptor: texts, enumerations, and types of types.
READ_AS = {
    FieldDescriptor.TYPE_STRING: FieldDescriptor.TYPE_BYTES,
    FieldDescriptor.TYPE_ENUM: FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_MESSAGE: FieldDescriptor.TYPE_BYTES,
}


def test_the_schema_is_that_of_onnx():
    """With its numbers, names and lists; what nobody looks into is passed on as it is, or left out."""
    pairs = [(schema.parse(b"").DESCRIPTOR, onnx.ModelProto.DESCRIPTOR)]
    compared, passed_on, left_out = set(), set(), set()
    while pairs:
        ours, theirs = pairs.pop()
        compared.add(ours.name)
        numbers = {field.number: field.name for field in theirs.fields}
        known = {field.number: field.name for field in ours.fields}
        assert known.items() <= numbers.items()
        left_out |= {*numbers.values()} - {*known.values()}
        for field in ours.fields:
            other = theirs.fields_by_number[field.number]
            assert field.is_repeated == other.is_repeated
            assert (field.containing_oneof is None) == (other.containing_oneof is None)
            if field.message_type is None:
                assert field.type == READ_AS.get(other.type, other.type)
                passed_on |= {other.name} if other.message_type else set()
            elif field.message_type.name not in compared:
                pairs.append((field.message_type, other.message_type))
    assert compared == {*schema.MESSAGES}
    types = {"sequence_type", "map_type", "optional_type"}
    sparse = {"sparse_initializer", "sparse_tensor", "sparse_tensors"}
    assert passed_on == types | sparse | {"functions"}
    assert left_out == {"training_info", "ref_attr_name"}


@pytest.mark.parametrize("compiled", ["google._upb", "another"])
def test_a_graph_is_parsed_alike_with_and_without_the_compiled_module(monkeypatch, compiled):
    """Whose names are protobuf's own: where they change, its public functions make the same class."""
    monkeypatch.setitem(sys.modules, compiled, None)
    schema._model_class.cache_clear()
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [], [])
    raw = onnx.helper.make_model(graph).SerializeToString()
    model = schema.parse(raw)
    schema._model_class.cache_clear()
    assert model.graph.node[0].op_type == b"Relu"
    assert schema.write(model) == raw


def test_without_protobuf_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    schema._model_class.cache_clear()
    with pytest.raises(mk.errors.MissingExtraError, match="pip install protobuf") as caught:
        schema.parse(b"")
    assert (caught.value.library, caught.value.extra) == ("protobuf", "cpu")
