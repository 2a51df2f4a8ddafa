"""The tables of operators, beside those of the onnx library."""

import onnx
from onnx import helper

from modelkit.package import integers, operators

# The tables, beside those of the onnx library


def attributes(kinds):
    """Operator, attribute and default of every schema of ONNX, of attributes of these kinds."""
    from onnx import defs

    for schema in defs.get_all_schemas_with_history():
        for name, attribute in schema.attributes.items():
            if schema.domain in ("", "ai.onnx.ml") and attribute.type in kinds:
                default = attribute.default_value
                yield (
                    schema.name,
                    name,
                    helper.get_attribute_value(default) if default.type else None,
                )


def test_flags_are_flags_in_every_operator():
    whole = onnx.defs.OpSchema.AttrType.INT
    found = {name: set() for name in map(bytes.decode, operators.FLAGS)}
    for _, name, default in attributes([whole]):
        if name in found:
            found[name].add(default)
    assert all(found.values()), [name for name, defaults in found.items() if not defaults]
    assert all(defaults <= {0, 1, None} for defaults in found.values()), found


def test_every_text_that_is_chosen_from_a_list_is_known():
    free = {"default_string", "delimiter", "locale", "pattern", "pixel_format", "value_string", "equation",
            "activation", "update_rule", "to"}  # fmt: skip
    known = {
        (operator.decode(), name.decode()): values
        for (operator, name), values in operators.ALLOWED_TEXTS.items()
    }
    seen = set()
    for operator, name, default in attributes([onnx.defs.OpSchema.AttrType.STRING]):
        key = (operator, name)
        if name in free or key == ("TensorScatter", "mode"):
            continue
        assert key in known, f"{key} is new: add what it may be"
        assert default in known[key] | {None, b"foward"}, (key, default)  # as onnx 1.0 has it
        seen.add(key)
    late = {
        ("SpaceToDepth", "mode"),
        ("Cast", "round_mode"),
        ("CastLike", "round_mode"),
    }  # which older releases lack
    assert set(known) - seen <= late


def test_operators_of_any_number_of_inputs_are_known():
    from onnx import defs

    variadic = {
        schema.name.encode()
        for schema in defs.get_all_schemas()
        if schema.domain in ("", "ai.onnx.ml")
        and any(
            formal.option == defs.OpSchema.FormalParameterOption.Variadic
            for formal in schema.inputs
        )
    }
    assert variadic - {b"Loop", b"Scan", b"SequenceMap"} <= operators.VARIADIC


WHOLE = {"tensor(int32)", "tensor(int64)"}


def schemas():
    from onnx import defs

    found = defs.get_all_schemas_with_history()
    return [schema for schema in found if schema.domain in ("", "ai.onnx.ml")]


def test_operators_that_give_no_whole_numbers():
    seen = set()
    for schema in schemas():
        if schema.name.encode() in integers.FLOATING:
            seen.add(schema.name.encode())
            for output in schema.outputs:
                assert not WHOLE & set(output.types), (schema.name, output.name)
    assert integers.FLOATING - seen <= {b"RMSNormalization", b"Swish"}  # which older releases lack


def test_operators_that_give_the_type_of_what_they_take():
    seen = set()
    tables = integers.ALIKE | integers.MOVING | integers.LAST
    for schema in schemas():
        name = schema.name.encode()
        if name in tables:
            seen.add(name)
            at = -1 if name in integers.LAST else 0
            kind = schema.inputs[at].type_str
            outputs = schema.outputs if name in integers.MOVING else schema.outputs[:1]
            assert all(output.type_str == kind for output in outputs), name
    assert tables - seen <= {b"FusedGemm", b"TensorScatter"}  # onnxruntime's, and a late one


def test_operators_of_onnxruntime_that_give_no_whole_numbers():
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

    for schema in get_all_operator_schema():
        name = schema.name.encode()
        if schema.domain == "com.microsoft" and name in operators.CONTRIB - integers.WHOLE:
            for output in schema.outputs:
                assert not WHOLE & set(output.types), (schema.name, output.name)
