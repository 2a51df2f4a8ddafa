"""Cells of CSV, each kind of column with what it takes and what it refuses."""

from datetime import timedelta

import pytest
from numpy import datetime64, timedelta64

import modelkit as mk
from modelkit.errors import SignatureError
from modelkit.signature.cells import parse_record, parsers_of


def parsed(cell, dtype, tensor=None):
    column = mk.Column("a", dtype)
    spec = mk.TensorSpec("X", tensor or dtype, ("batch", 1), (column,))
    parsers = parsers_of(mk.Signature((spec,), (mk.TensorSpec("y", "float64", ("batch",)),)))
    return parse_record(["a"], [cell], [*parsers.values()], 7)["a"]


@pytest.mark.parametrize(
    ("cell", "dtype", "value"),
    [
        ("", "float64", None), ("", "string", None), (" 1.5 ", "float32", 1.5), ("-Infinity", "float64", -float("inf")),
        ("12", "int64", 12), ("255", "uint8", 255), ("TRUE", "bool", True), ("0", "bool", False), (" ", "string", " "),
        ("1_0", "string", "1_0"), ("2026-01-31", "datetime64[s]", datetime64("2026-01-31")),
        ("2026-01-31T12:00:00+01:00", "datetime64[s, UTC]", datetime64("2026-01-31T11:00")),
        ("2026-01-31 12:00:00.123456789", "datetime64[ns]", datetime64("2026-01-31T12:00:00.123456789")),
        ("1.5", "timedelta64[ms]", timedelta(seconds=1.5)), ("1e-9", "timedelta64[ns]", timedelta64(1, "ns")),
        ("\u0661", "string", "\u0661"),
    ],
)  # fmt: skip
def test_what_a_cell_is(cell, dtype, value):
    assert parsed(cell, dtype) == value


def test_a_whole_number_may_be_a_float_where_the_graph_computes_in_floats():
    assert parsed("100.0", "int64", "float64") == 100.0
    assert parsed(str(2**60 + 1), "int64", "float64") == 2**60 + 1
    with pytest.raises(SignatureError, match=r"'100.0' is not int64"):
        parsed("100.0", "int64")


@pytest.mark.parametrize(
    ("cell", "dtype", "what_to_write"),
    [
        ("2026-01-31T12:00:00Z", "datetime64[s]", r"without a time zone, as 2026-01-31T12:30:00$"),
        ("2026-01-31T12:00:00", "datetime64[s, UTC]", r"with a time zone, as 2026-01-31T12:30:00Z$"),
        ("False", "float64", "a boolean as 1 or 0"),
        ("True", "int64", "a boolean as 1 or 0"),
    ],
)  # fmt: skip
def test_an_error_says_what_to_write(cell, dtype, what_to_write):
    with pytest.raises(SignatureError, match=rf"is not .*: write .*{what_to_write}"):
        parsed(cell, dtype)


@pytest.mark.parametrize(
    ("cell", "dtype"),
    [
        ("x", "float64"), ("1_0", "float64"), ("0x1", "int64"), ("9" * 5000, "int64"), ("yes", "bool"),
        ("2026-13-01", "datetime64[s]"), ("1e308", "timedelta64[s]"), ("inf", "timedelta64[s]"),
        ("1e-10", "timedelta64[ns]"), ("1e999", "float64"), ("-1e999", "float32"), ("\uff11\uff12", "float64"), ("\u0661", "int64"),
        ("20260131", "datetime64[s]"), ("1" * 30, "datetime64[us]"), ("2026-01-31", "datetime64[s, UTC]"), ("2026-01-31T12:00Z", "datetime64[s]"),
    ],
)  # fmt: skip
def test_what_is_no_cell_of_a_column_is_named(cell, dtype):
    """Nothing is rounded or guessed: neither 1e999 nor a tenth of a nanosecond, nor thirty ones as a time."""
    with pytest.raises(SignatureError, match=r"row 7, column 'a': '.{1,80}'? is not ") as caught:
        parsed(cell, dtype)
    assert len(str(caught.value)) < 200


def test_a_line_has_a_cell_for_each_name():
    with pytest.raises(SignatureError, match="row 2 has 1 cells, and 3 are expected"):
        parse_record(["a", "b", "c"], ["1"], [("float64", float)] * 3, 2)


def test_a_text_of_a_column_of_anything_may_have_any_letter():
    assert parsed("zürich_1", "mixed", "string") == "zürich_1"
    for cell in ("1", " 1.5", "nan", "True"):
        with pytest.raises(SignatureError, match=f"'{cell}' is not surely a text"):
            parsed(cell, "mixed", "string")
