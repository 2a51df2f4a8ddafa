"""`modelkit schema`: the columns of rows, and their JSON Schema."""

import json

from helpers.commands import run

import modelkit as mk


def test_each_column_has_a_line(capsys, shell, penguins_mk):
    status, out, _ = run(capsys, "schema", penguins_mk)
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["column", "type", "may", "be", "missing", "values"]
    columns = [
        column for spec in mk.inspect(penguins_mk).signature.inputs for column in spec.columns
    ]
    assert [line[:3] for line in lines[1:]] == [
        [column.name, column.dtype, "yes" if column.nullable else "no"] for column in columns
    ]


def test_the_schema_is_that_of_requests(capsys, penguins_mk, dense_mk):
    status, out, _ = run(capsys, "schema", penguins_mk, "--json")
    assert status == 0
    assert json.loads(out) == mk.inspect(penguins_mk).signature.json_schema()
    status, out, _ = run(capsys, "schema", dense_mk)
    assert status == 0
    assert "float32" in out.splitlines()[1]
    assert "shape, batch, " in out.splitlines()[1]
