"""Law 5. Nothing is converted, cast, reordered, dropped or rounded silently."""

import copy

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers.columns import (
    BOOLEAN,
    BYTE,
    INTEGER,
    MAYBE,
    MAYBE_SINGLE,
    NUMBER,
    SINGLE,
    TEXT,
    one_tensor,
    tensor_per_column,
)
from helpers.examples import examples
from helpers.forms import (
    CONTAINERS,
    every_container,
    expected_feeds,
    moderately,
    same_feeds,
    tables,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import modelkit as mk
from modelkit.errors import SignatureError


@every_container
@moderately
@given(data=st.data())
def test_the_same_rows_give_the_same_bits_in_every_container_and_column_order(container, data):
    table = data.draw(tables())
    shuffled = data.draw(st.permutations(table.columns))
    if container == "records" and not table.rows:
        return  # no records have no names
    same_feeds(
        table.signature.coerce(CONTAINERS[container](table, shuffled)), expected_feeds(table)
    )


@moderately
@given(tables())
def test_columns_is_the_inverse_of_coerce(table):
    feeds = table.signature.coerce(CONTAINERS["dict of lists"](table, table.columns))
    columns = table.signature.columns(feeds)
    assert list(columns) == [column.name for column in table.columns]
    for column in table.columns:
        if column.dtype == "string":
            assert columns[column.name].tolist() == table.values(column)
    same_feeds(table.signature.coerce(columns), feeds)


@moderately
@given(tables())
def test_feeds_are_coerced_to_themselves(table):
    feeds = table.signature.coerce(CONTAINERS["dict of lists"](table, table.columns))
    if all(
        column.dtype != "string" or None not in table.values(column) for column in table.columns
    ):
        same_feeds(table.signature.coerce(feeds), feeds)


@moderately
@given(tables(), st.data())
def test_a_frame_seen_before_is_read_as_one_seen_for_the_first_time(table, data):
    frame = CONTAINERS["pandas"](table, data.draw(st.permutations(table.columns)))
    for _ in range(2):
        same_feeds(table.signature.coerce(frame), expected_feeds(table))
    other = CONTAINERS["pandas"](table, data.draw(st.permutations(table.columns)))
    same_feeds(table.signature.coerce(other), expected_feeds(table))


@given(st.data())
@moderately
def test_coerce_leaves_the_callers_rows_alone(data):
    table = data.draw(tables())
    rows = CONTAINERS["dict of arrays"](table, table.columns)
    before = copy.deepcopy(rows)
    table.signature.columns(table.signature.coerce(rows))
    for name, array in rows.items():
        assert array.tolist() == before[name].tolist() or array.tobytes() == before[name].tobytes()


# Whether a column is accepted depends on its type, never on its values.

NULLABLE = {"f": "Float64", "i": "Int64", "b": "boolean", "U": "string"}
FORMS = {
    "list": lambda array: {"n": array.tolist()},
    "records": lambda array: [{"n": value} for value in array.tolist()],
    "numpy": lambda array: {"n": array},
    "array": lambda array: array[:, None],
    "array of objects": lambda array: array.astype(object)[:, None],
    "pandas": lambda array: pd.DataFrame({"n": array}),
    "pandas, nullable": lambda array: pd.DataFrame(
        {"n": pd.array(array, NULLABLE[array.dtype.kind])}
    ),
    "polars": lambda array: pl.DataFrame({"n": array}),
    "arrow": lambda array: pa.table({"n": array}),
}
FLOATS, INTEGERS = (
    st.sampled_from([0.0, 1.0, -0.0]) | st.floats(),
    st.sampled_from([0, 1]) | st.integers(-99, 99),
)
WRONG = {
    "floats for integers": (INTEGER, np.float64, FLOATS),
    "floats for booleans": (BOOLEAN, np.float64, FLOATS),
    "floats for strings": (
        TEXT,
        np.float64,
        FLOATS.filter(lambda value: value == value),
    ),  # not NaN
    "integers for booleans": (BOOLEAN, np.int64, INTEGERS),
    "integers for strings": (TEXT, np.int64, INTEGERS),
    "booleans for strings": (TEXT, np.bool_, st.booleans()),
    "strings for floats": (NUMBER, np.str_, INTEGERS.map(str)),
    "strings for integers": (INTEGER, np.str_, INTEGERS.map(str)),
    "strings for booleans": (BOOLEAN, np.str_, st.sampled_from(["True", "False", "1", "0"])),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", [one_tensor, tensor_per_column])
@pytest.mark.parametrize("wrong", WRONG)
@settings(deadline=None, max_examples=examples(20))
@given(data=st.data())
def test_a_column_of_another_type_is_refused_whatever_its_values(wrong, layout, form, data):
    column, dtype, values = WRONG[wrong]
    array = np.array(data.draw(st.lists(values, min_size=1, max_size=5)), dtype)
    with pytest.raises(SignatureError):
        layout(column).coerce(FORMS[form](array))


@pytest.mark.parametrize("layout", [one_tensor, tensor_per_column])
@settings(deadline=None, max_examples=examples(100))
@given(
    array=npst.arrays(np.float64, st.integers(1, 5)),
    column=st.sampled_from([NUMBER, SINGLE, MAYBE, MAYBE_SINGLE]),
)
def test_floats_are_refused_exactly_where_one_of_them_does_not_fit(layout, array, column):
    with np.errstate(over="ignore"):
        narrow = array.astype(column.dtype)
    too_large = np.isinf(narrow) & np.isfinite(array)
    refused = too_large if column.nullable else too_large | ~np.isfinite(array)
    for form in FORMS.values():
        if refused.any():
            with pytest.raises(SignatureError):
                layout(column).coerce(form(array))
        else:
            (feed,) = layout(column).coerce(form(array)).values()
            np.testing.assert_array_equal(feed, narrow[:, None])


@pytest.mark.parametrize("layout", [one_tensor, tensor_per_column])
@settings(deadline=None, max_examples=examples(100))
@given(
    array=npst.arrays(
        st.sampled_from([np.int64, np.longlong, np.int32, np.uint64, np.uint8]), st.integers(1, 5)
    ),
    column=st.sampled_from([NUMBER, SINGLE, INTEGER, BYTE]),
)
def test_integers_are_refused_exactly_where_one_of_them_does_not_fit(layout, array, column):
    low, high = {
        "float64": (-(2**53), 2**53),
        "float32": (-(2**24), 2**24),
        "int64": (-(2**63), 2**63 - 1),
        "uint8": (0, 255),
    }[column.dtype]
    fits = all(low <= value <= high for value in array.tolist())
    for name in ("list", "numpy", "array", "array of objects", "pandas", "arrow"):
        if fits:
            (feed,) = layout(column).coerce(FORMS[name](array)).values()
            assert feed[:, 0].tolist() == array.tolist()
        else:
            with pytest.raises(SignatureError):
                layout(column).coerce(FORMS[name](array))


def test_the_answers_are_the_same_to_the_bit_in_every_form_of_the_rows(subject):
    if isinstance(subject.model, mk.Rollout):
        return  # which Model answers is drawn; its two are in the table by themselves
    forms = subject.forms()
    expected = {name: array.tolist() for name, array in subject.model.run(subject.rows).items()}
    for name, rows in forms.items():
        got = {key: array.tolist() for key, array in subject.model.run(rows).items()}
        assert got == expected, name


def test_a_conversion_is_proven_by_parity_which_is_recorded(loaded):
    """So is the answer of a row in batches of several sizes, of which law 1 speaks."""
    parity = loaded.model.manifest.parity
    assert parity.label_flips == 0
    assert parity.max_rel <= parity.rtol + parity.atol
    assert parity.batch_invariant
    assert len(parity.batch_sizes) > 1
    assert parity.rows > 0
