"""The JSON Schema of a signature accepts what the signature accepts."""

import json

import modelkit as mk


def accepts(schema, value):
    """Whether a value fits a schema, of the keywords that `json_schema` uses."""
    kinds = schema.get("type", [])
    names = [kinds] if isinstance(kinds, str) else kinds
    if names and not any(_is(value, name) for name in names):
        return False
    if "enum" in schema:
        return any(type(value) is type(known) and value == known for known in schema["enum"])
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        if not set(schema["required"]) <= set(value):
            return False
        if not schema["additionalProperties"] and set(value) - set(known):
            return False
        return all(accepts(known[name], item) for name, item in value.items() if name in known)
    if isinstance(value, list) and "items" in schema:
        sizes = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 1 << 30)
        return sizes and all(accepts(schema["items"], item) for item in value)
    if isinstance(value, int) and "minimum" in schema:
        return schema["minimum"] <= value <= schema["maximum"]
    return True


def _is(value, name):
    kinds = {"array": list, "object": dict, "string": str, "boolean": bool, "null": type(None)}
    if name in kinds:
        return isinstance(value, kinds[name])
    number = isinstance(value, int if name == "integer" else int | float)
    return number and not isinstance(value, bool)


COLUMNS = (
    (mk.Column("size"), "float64"),
    (mk.Column("rooms", "int64", nullable=True), "float64"),
    (mk.Column("floor", "int8"), "int8"),
    (mk.Column("lift", "bool"), "float64"),
    (mk.Column("flag", "bool"), "bool"),
    (mk.Column("town", "string", nullable=True, categories=("Ulm", "Bonn")), "string"),
    (mk.Column("note", "string"), "string"),
)
ROW = {"size": 1.5, "rooms": None, "floor": 3, "lift": True, "flag": False, "town": "Ulm", "note": ""}  # fmt: skip


def signature(**options):
    inputs = tuple(
        mk.TensorSpec(column.name, dtype, ("batch", 1), (column,)) for column, dtype in COLUMNS
    )
    return mk.Signature(inputs, (mk.TensorSpec("y", "float64", ("batch",)),), **options)


def test_a_schema_accepts_what_the_signature_accepts():
    taken = signature(ignored=("id",))
    schema = taken.json_schema()
    json.dumps(schema)
    changes = [
        {}, {"rooms": 4}, {"town": None}, {"id": "any"}, {"size": 2},
        {"size": None}, {"size": "2"}, {"floor": 300}, {"floor": 1.5}, {"flag": 1}, {"town": "Rome"},
        {"note": None}, {"note": 3}, {"stranger": 1},
    ]  # fmt: skip
    outcomes = []
    for change in changes:
        rows = [ROW | change]
        try:
            taken.coerce(rows)
            took = True
        except mk.errors.SignatureError:
            took = False
        outcomes.append(took)
        assert accepts(schema, rows) is took, change
    assert outcomes == [True] * 5 + [False] * 9
    assert not accepts(schema, [{}])
    assert accepts(schema, [])
    assert accepts(signature(extra="ignore").json_schema(), [ROW | {"stranger": 1}])
    assert schema["items"]["properties"]["id"] == {"description": "not read"}


def test_the_schema_of_tensors_is_one_of_arrays_by_name():
    inputs = (mk.TensorSpec("image", "uint8", ("batch", 2, 2)), mk.TensorSpec("rate", "int64", ()))
    schema = mk.Signature(inputs, (mk.TensorSpec("y", "float32", ("batch",)),)).json_schema()
    assert accepts(schema, {"image": [[[1, 2], [3, 255]]], "rate": 3})
    assert not accepts(schema, {"image": [[[1, 2], [3, 256]]], "rate": 3})
    assert not accepts(schema, {"image": [[[1, 2, 3]]], "rate": 3})
    assert not accepts(schema, {"image": []})
