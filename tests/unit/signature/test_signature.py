"""A signature says what fits, and the same rows give the same tensors in whatever form they come."""

import copy
import pickle
import re
import sys
import types
from dataclasses import FrozenInstanceError, dataclass

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers.examples import examples
from helpers.mistakes import tensor_per_column
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit import Column, Signature, TensorSpec
from modelkit.errors import SignatureError
from modelkit.signature import frames
from modelkit.signature.cast import MISSING
from modelkit.signature.coercion import BULK
from modelkit.signature.spec import DTYPES, numpy_dtype

Y = TensorSpec("y", "float32", ("batch",))
TOKENS = Signature(
    (TensorSpec("ids", "int64", ("batch", "seq")), TensorSpec("mask", "int64", ("batch", "seq"))),
    (
        TensorSpec("embedding", "float32", ("batch", 8)),
        TensorSpec("per_token", "float32", ("batch", "seq", 8)),
    ),
)


def one_tensor(*columns, dtype="float32", rows="batch"):
    return Signature((TensorSpec("X", dtype, (rows, len(columns)), columns),), (Y,))


def giving(*names, **keywords):
    """A signature with these outputs."""
    return Signature((TensorSpec("x", "float32", ("batch", 2)),), outputs(*names), **keywords)


def outputs(*names):
    return tuple(TensorSpec(name, "float32", ("batch",)) for name in names)


# What a signature may say.


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_has_a_numpy_dtype(dtype):
    assert Column("c", dtype).dtype == TensorSpec("t", dtype, ("batch",)).dtype == dtype
    plain = dtype.replace(", UTC", "")  # which numpy does not know
    assert numpy_dtype(dtype) == np.dtype(object if dtype == "string" else plain)


@pytest.mark.parametrize(
    "make", [lambda d: Column("c", d), lambda d: TensorSpec("t", d, ("batch",))]
)
@pytest.mark.parametrize(
    "dtype", ["float", "object", "str", "<f4", "complex64", "datetime64[h]", ""]
)
def test_an_unknown_dtype_is_refused_with_the_known_ones(make, dtype):
    with pytest.raises(
        SignatureError, match=re.escape(f"unknown dtype {dtype!r}; use one of float16, float32")
    ):
        make(dtype)


def test_categories_are_of_the_kind_of_their_column():
    assert Column("city", "string", categories=("Rome",)).categories == ("Rome",)
    assert Column("age", "int64", categories=(1, 2)).categories == (1, 2)
    for dtype, value in (
        ("int64", "1"), ("string", 1), ("float64", True), ("bool", True), ("float64", np.inf), ("float64", np.nan),
    ):  # fmt: skip
        with pytest.raises(
            SignatureError, match=f"column 'age' is {dtype}, and its categories are"
        ):
            Column("age", dtype, categories=(value,))


CODES = st.sampled_from([10, 20, 30, 10.0, 20.0])


@given(
    st.lists(CODES, min_size=1, max_size=9), st.sampled_from(["float32", "float64"]), st.booleans()
)
def test_a_closed_set_of_numbers_is_checked_in_every_form(values, dtype, nullable):
    column = Column("shop", "int64", nullable, categories=(10, 20, 30))
    alone = Signature(
        (TensorSpec("shop", dtype, ("batch", 1), (column,)),), (TensorSpec("y", dtype, ("batch",)),)
    )
    beside = Signature(
        (TensorSpec("X", dtype, ("batch", 2), (column, Column("x"))),),
        (TensorSpec("y", dtype, ("batch",)),),
    )
    block = np.array([values, values], np.float64).T
    for signature, rows in ((alone, block[:, :1]), (beside, block)):
        forms = (
            rows,
            rows.astype(np.float32),
            pd.DataFrame(rows, columns=["shop", "x"][: rows.shape[1]]),
        )
        for form in (*forms, forms[2].to_dict("records"), forms[2].astype(int)):
            (feed,) = signature.coerce(form).values()
            np.testing.assert_array_equal(feed, rows)
        for strange in (40, 20.5, 20.0000001):
            odd = rows.copy()
            odd[-1, 0] = strange
            for form in (odd, pd.DataFrame(odd, columns=forms[2].columns)):
                with pytest.raises(
                    SignatureError,
                    match=rf"unknown category {float(strange)} in row {len(odd) - 1}; known",
                ):
                    signature.coerce(form)
        gone = rows.copy()
        gone[0, 0] = np.nan
        if nullable:
            assert np.isnan(signature.coerce(gone)[signature.inputs[0].name][0, 0])
        else:
            with pytest.raises(SignatureError, match="missing value"):
                signature.coerce(gone)


@pytest.mark.parametrize(
    "shape", [(), ("batch",), ("batch", 1), ("batch", 3), ("batch", "width"), ("batch", 2, 1)]
)
def test_columns_name_the_last_of_two_dimensions(shape):
    with pytest.raises(SignatureError, match=r"tensor 'X' has shape .*, but 2 columns"):
        TensorSpec("X", "float32", shape, (Column("a"), Column("b")))


@pytest.mark.parametrize(
    ("inputs", "outputs", "kind"),
    [
        ((), (Y,), "input"),
        ((TensorSpec("x", "float32", ("batch",)),), (), "output"),
        ((TensorSpec("x", "float32", ("batch",)),) * 2, (Y,), "input"),
        ((TensorSpec("x", "float32", ("batch",)),), (Y, Y), "output"),
        ((TensorSpec("x", "float32", ("batch", 2), (Column("a"), Column("a"))),), (Y,), "column"),
        (
            tuple(
                TensorSpec(name, "float32", ("batch", 1), (Column("a"),))
                for name in ("left", "right")
            ),
            (Y,),
            "column",
        ),
    ],
)
def test_names_are_distinct_and_there_is_at_least_one(inputs, outputs, kind):
    with pytest.raises(SignatureError, match=f"distinct {kind} names"):
        Signature(inputs, outputs)


@pytest.mark.parametrize(
    ("names", "named", "primary"),
    [
        (["score"], None, "score"),
        (["score", "label"], None, "label"),
        (["score", "prediction"], None, "prediction"),
        (["score", "embedding"], None, "embedding"),
        (["label", "probabilities"], None, "label"),
        (["label", "probabilities"], "probabilities", "probabilities"),
        (["left", "right"], "right", "right"),
        (["left", "right"], None, None),
    ],
)
def test_the_primary_output_is_named_or_found_by_its_role(names, named, primary):
    assert giving(*names, primary=named).primary == primary


def test_a_primary_output_that_does_not_exist_is_refused():
    with pytest.raises(
        SignatureError, match=r"primary output 'scroe' is not one of \['score', 'label'\]"
    ):
        giving("score", "label", primary="scroe")


def test_probabilities_need_classes_and_their_output():
    assert giving("label", "probabilities", classes=(0, 1)).has_probabilities
    assert not giving("label", "probabilities").has_probabilities
    assert not giving("label", classes=(0, 1)).has_probabilities


@pytest.mark.parametrize(
    ("ins", "outs", "batch"),
    [
        ([("batch", 3)], [("batch",)], "batch"),
        ([("n", 3), ("n",)], [("n",), ("n", 4)], "n"),
        ([("batch", 3)], [("rows",)], None),
        ([("batch", 3), ("other", 3)], [("batch",)], None),
        ([(1, 3)], [(1,)], None),
        ([("batch", 3)], [()], None),
        ([("batch", 3)], [(1,)], None),
    ],
)
def test_batch_is_the_named_dimension_that_leads_everything(ins, outs, batch):
    inputs = tuple(TensorSpec(f"in{i}", "float32", shape) for i, shape in enumerate(ins))
    outputs = tuple(TensorSpec(f"out{i}", "float32", shape) for i, shape in enumerate(outs))
    assert Signature(inputs, outputs).batch == batch


def test_a_signature_is_a_value():
    signature, same = one_tensor(Column("a"), Column("b")), one_tensor(Column("a"), Column("b"))
    signature.coerce(pd.DataFrame({"a": [1.0], "b": [2.0]}))
    assert signature == same
    assert hash(signature) == hash(same)
    assert signature != one_tensor(Column("a"), Column("c"))
    with pytest.raises(FrozenInstanceError):
        signature.primary = "x"


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda signature: pickle.loads(pickle.dumps(signature))]
)
def test_a_copied_signature_coerces_alike(duplicate):
    signature = tensor_per_column(
        Column("a", "float32"), Column("n", "int64"), Column("city", "string")
    )
    rows = pd.DataFrame({"city": ["Rome", "Oslo"], "n": [1, 2], "a": [0.5, 1.5]})
    feeds = signature.coerce(rows)
    twin = duplicate(signature)
    assert twin == signature
    same_feeds(twin.coerce(rows), feeds)


def test_a_signature_reads_as_what_goes_in_and_what_comes_out():
    assert str(TOKENS) == (
        "(ids: int64[batch, seq]; mask: int64[batch, seq]) -> "
        "(embedding: float32[batch, 8]; per_token: float32[batch, seq, 8])"
    )


def test_the_table_names_every_tensor_and_its_columns():
    signature = one_tensor(Column("a", "float64", nullable=True), Column("b", "int64"))
    assert signature.table() == [
        ("input", "X", "float32", "(batch, 2)", "a, b (float64, may be missing; int64)"),
        ("output", "y", "float32", "(batch)", ""),
    ]


# Tensors by name, and their named dimensions.


def test_tensors_are_fed_by_name_in_any_order():
    ids, mask = np.array([[5, 6, 7], [8, 9, 0]]), np.array([[1, 1, 1], [1, 1, 0]])
    same_feeds(TOKENS.coerce({"mask": mask, "ids": ids}), {"ids": ids, "mask": mask})


def test_tensors_are_fed_as_nested_lists_too():
    feeds = TOKENS.coerce({"ids": [[5, 6], [7, 8]], "mask": [[True, True], [True, False]]})
    same_feeds(feeds, {"ids": np.array([[5, 6], [7, 8]]), "mask": np.array([[1, 1], [1, 0]])})


@pytest.mark.parametrize(
    ("ids", "mask", "complaint"),
    [
        ((2, 3), (1, 3), "dimension 'batch' is 2 in 'ids', but 1 in 'mask'"),
        ((2, 3), (2, 4), "dimension 'seq' is 3 in 'ids', but 4 in 'mask'"),
        ((0, 3), (2, 3), "dimension 'batch' is 0 in 'ids', but 2 in 'mask'"),
    ],
)
def test_a_named_dimension_has_one_size_in_all_inputs(ids, mask, complaint):
    with pytest.raises(SignatureError, match=complaint):
        TOKENS.coerce({"ids": np.ones(ids, int), "mask": np.ones(mask, int)})


def test_a_dimension_may_be_named_twice_in_one_tensor():
    square = Signature((TensorSpec("distances", "float32", ("n", "n")),), (Y,))
    assert square.coerce({"distances": np.zeros((3, 3), np.float32)})["distances"].shape == (3, 3)
    with pytest.raises(SignatureError, match="dimension 'n' is 3"):
        square.coerce({"distances": np.zeros((3, 4), np.float32)})


@pytest.mark.parametrize(
    "X",
    [
        np.ones((3, 2), np.float32),
        {"X": np.ones((3, 2), np.float32)},
        {"a": np.ones(3), "b": np.ones(3)},
        pd.DataFrame({"b": np.ones(3), "a": np.ones(3)}),
    ],
    ids=["array", "tensor", "columns", "pandas"],
)
def test_a_fixed_number_of_rows_holds_in_every_form(X):
    with pytest.raises(SignatureError, match=re.escape("must have shape (4, 2), got (3, 2)")):
        one_tensor(Column("a"), Column("b"), rows=4).coerce(X)


def test_a_fixed_number_of_rows_holds_with_a_tensor_a_column():
    signature = Signature(
        tuple(TensorSpec(n, "float64", (2, 1), (Column(n),)) for n in ("a", "b")), (Y,)
    )
    assert signature.coerce({"a": [1.0, 2.0], "b": [3.0, 4.0]})["b"].tolist() == [[3], [4]]
    with pytest.raises(SignatureError, match=re.escape("must have shape (2, 1), got (3, 1)")):
        signature.coerce({"a": [1.0, 2.0, 3.0], "b": [4.0, 5.0, 6.0]})


def test_a_tensor_with_columns_and_one_without_are_fed_together():
    signature = Signature(
        (
            TensorSpec("X", "float32", ("batch", 2), (Column("a"), Column("b"))),
            TensorSpec("image", "float32", ("batch", 3)),
        ),
        (Y,),
    )
    feeds = signature.coerce({"X": np.ones((2, 2)), "image": np.zeros((2, 3))})
    same_feeds(signature.coerce(signature.columns(feeds)), feeds)


@pytest.mark.parametrize(
    "X", [{"a": [1.0], "b": [2.0]}, pd.DataFrame({"a": [1.0], "b": [2.0]}), np.ones((1, 2))]
)
def test_columns_alone_do_not_feed_a_tensor_without_columns(X):
    signature = Signature(
        (
            TensorSpec("X", "float32", ("batch", 2), (Column("a"), Column("b"))),
            TensorSpec("image", "float32", ("batch", 3)),
        ),
        (Y,),
    )
    with pytest.raises(SignatureError):
        signature.coerce(X)


def test_texts_are_a_tensor_of_one_dimension():
    signature = Signature((TensorSpec("text", "string", ("batch",)),), (Y,))
    for X in (np.array(["a", "b"]), np.array(["a", "b"], object), {"text": ["a", "b"]}):
        same_feeds(signature.coerce(X), {"text": np.array(["a", "b"], object)})


# Zero rows.


def test_empty_outputs_have_the_declared_dtype_and_shape():
    signature = Signature(
        (TensorSpec("ids", "int64", ("batch", "seq")),),
        (
            TensorSpec("label", "string", ("batch",)),
            TensorSpec("probabilities", "float32", ("batch", 3)),
            TensorSpec("per_token", "float64", ("batch", "seq", 8)),
        ),
    )
    got = signature.empty(signature.output_names)
    assert {name: (array.shape, array.dtype) for name, array in got.items()} == {
        "label": ((0,), np.dtype(object)),
        "probabilities": ((0, 3), np.dtype(np.float32)),
        "per_token": ((0, 0, 8), np.dtype(np.float64)),
    }
    assert list(signature.empty(["probabilities"])) == ["probabilities"]


@pytest.mark.parametrize(
    "X",
    [
        {"a": [], "city": []},
        {"a": np.empty(0), "city": np.empty(0, object)},
        pd.DataFrame({"a": np.empty(0), "city": pd.Series([], dtype="str")}),
        pl.DataFrame(schema={"a": pl.Float64, "city": pl.String}),
        pa.table({"a": pa.array([], pa.float64()), "city": pa.array([], pa.string())}),
        np.empty((0, 2), object),
    ],
    ids=["lists", "arrays", "pandas", "polars", "arrow", "array"],
)
def test_zero_rows_give_tensors_of_zero_rows(X):
    feeds = tensor_per_column(Column("a", "float32"), Column("city", "string")).coerce(X)
    same_feeds(feeds, {"a": np.empty((0, 1), np.float32), "city": np.empty((0, 1), object)})


# The same rows in every form, over random signatures.


@dataclass
class Table:
    """A random signature, and rows that fit it; None is a missing value."""

    signature: Signature
    columns: tuple[Column, ...]
    rows: list[dict[str, object]]

    def values(self, column):
        return [row[column.name] for row in self.rows]


def values_of(column, target):
    """Values that a column of a tensor of dtype `target` accepts without doubt."""
    if column.dtype == "string":
        return st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters=[MISSING, "\0"]), max_size=4
        )
    if column.dtype == "bool":
        return st.booleans()
    if column.dtype == "int64":
        bits = 53 if target.startswith("float") else 63
        return st.integers(-(2**bits), 2**bits - 1)
    if "float32" in (column.dtype, target):
        return st.floats(width=32, allow_nan=False, allow_infinity=False)
    return st.floats(allow_nan=False, allow_infinity=False)


NAMES = st.text(st.characters(categories=["L", "Nd", "Pd", "Zs"]), min_size=1, max_size=4)


@st.composite
def tables(draw):
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    family = draw(
        st.sampled_from(
            ["numbers in one", "int64 in one", "bool in one", "string in one", "one a column"]
        )
    )
    if family == "one a column":
        dtypes = [
            draw(st.sampled_from(["float32", "float64", "int64", "bool", "string"])) for _ in names
        ]
        targets = [
            dtype if dtype == "string" else draw(st.sampled_from([dtype, "float32", "float64"]))
            for dtype in dtypes
        ]
    elif family == "numbers in one":
        dtypes = [draw(st.sampled_from(["float32", "float64", "int64", "bool"])) for _ in names]
        targets = [draw(st.sampled_from(["float32", "float64"]))] * len(names)
    else:
        dtypes = targets = [family.split()[0]] * len(names)
    columns = tuple(
        Column(
            name, dtype, nullable=target in ("float32", "float64", "string") and draw(st.booleans())
        )
        for name, dtype, target in zip(names, dtypes, targets, strict=True)
    )
    if family == "one a column":
        inputs = tuple(
            TensorSpec(c.name, t, ("batch", 1), (c,)) for c, t in zip(columns, targets, strict=True)
        )
    else:
        inputs = (TensorSpec("all of them", targets[0], ("batch", len(columns)), columns),)
    row = st.fixed_dictionaries(
        {
            c.name: st.none() | values_of(c, target) if c.nullable else values_of(c, target)
            for c, target in zip(columns, targets, strict=True)
        }
    )
    return Table(Signature(inputs, (Y,)), columns, draw(st.lists(row, max_size=6)))


def as_array_of(column, values):
    """A numpy array, of objects where numpy's own dtype cannot say that a value is missing."""
    if column.dtype.startswith("float"):
        return np.array([np.nan if value is None else value for value in values], column.dtype)
    plain = column.dtype != "string" and None not in values
    return np.array(values, column.dtype if plain else object)


def as_pandas_of(column, values):
    """A pandas column in the dtype a user would have: nullable ones where a value is missing."""
    nullable = {
        "int64": "Int64",
        "bool": "boolean",
        "float32": "Float32",
        "float64": "Float64",
        "string": "string",
    }
    if None in values or column.dtype == "string":
        return pd.array(values, nullable[column.dtype])
    return pd.Series(values, dtype=column.dtype)


def as_records(table, columns):
    return [{column.name: row[column.name] for column in columns} for row in table.rows]


def as_object_array(table, _):
    X = np.empty((len(table.rows), len(table.columns)), object)
    for j, column in enumerate(table.columns):  # an array has no names, so its columns are in order
        X[:, j] = table.values(column)
    return X


def as_typed_array(table, columns):
    """One array of the dtype that all columns share, where there is one."""
    if len({column.dtype for column in columns}) > 1 or columns[0].dtype == "string":
        return as_object_array(table, columns)
    return np.column_stack([as_array_of(column, table.values(column)) for column in table.columns])


POLARS = {
    "int64": pl.Int64,
    "bool": pl.Boolean,
    "float32": pl.Float32,
    "float64": pl.Float64,
    "string": pl.String,
}
ARROW = {"int64": pa.int64(), "bool": pa.bool_(), "float32": pa.float32(), "float64": pa.float64()}


def as_arrow(table, columns):
    return pa.table(
        {c.name: pa.array(table.values(c), ARROW.get(c.dtype, pa.string())) for c in columns}
    )


CONTAINERS = {
    "dict of arrays": lambda t, cs: {c.name: as_array_of(c, t.values(c)) for c in cs},
    "dict of lists": lambda t, cs: {c.name: t.values(c) for c in cs},
    "records": as_records,
    "pandas": lambda t, cs: pd.DataFrame({c.name: as_pandas_of(c, t.values(c)) for c in cs}),
    "pandas of numpy": lambda t, cs: pd.DataFrame(
        {c.name: as_array_of(c, t.values(c)) for c in cs}
    ),
    "pandas of arrow": lambda t, cs: as_arrow(t, cs).to_pandas(types_mapper=pd.ArrowDtype),
    "polars": lambda t, cs: pl.DataFrame(
        [pl.Series(c.name, t.values(c), POLARS[c.dtype]) for c in cs]
    ),
    "arrow": as_arrow,
    "object array": as_object_array,
    "typed array": as_typed_array,
}


def expected_feeds(table):
    """What `coerce` should give, built cell by cell."""
    feeds = {}
    for spec in table.signature.inputs:
        gone = MISSING if spec.dtype == "string" else np.nan
        cells = [
            [gone if row[c.name] is None else row[c.name] for c in spec.columns]
            for row in table.rows
        ]
        feeds[spec.name] = np.array(cells, numpy_dtype(spec.dtype)).reshape(
            len(cells), len(spec.columns)
        )
    return feeds


def same_feeds(got, expected):
    """Bit by bit: -0.0 is not 0.0, a mask or another dtype is a difference."""
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert type(got[name]) is np.ndarray, name
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape), name
        if array.dtype == object:
            assert got[name].tolist() == array.tolist(), name
        else:
            assert got[name].tobytes() == array.tobytes(), (
                f"{name}: {got[name].tolist()} for {array.tolist()}"
            )


every_container = pytest.mark.parametrize("container", CONTAINERS)
moderately = settings(deadline=None, max_examples=examples(100))


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


@every_container
@moderately
@given(data=st.data())
def test_a_row_gives_the_same_bits_alone_and_in_any_place(container, data):
    table = data.draw(tables())
    order = data.draw(st.permutations(range(len(table.rows))))
    whole = expected_feeds(table)
    for i in order[:2]:
        alone = Table(table.signature, table.columns, [table.rows[i]])
        got = table.signature.coerce(CONTAINERS[container](alone, table.columns))
        same_feeds(got, {name: feed[i : i + 1] for name, feed in whole.items()})
    if order:
        moved = Table(table.signature, table.columns, [table.rows[i] for i in order])
        got = table.signature.coerce(CONTAINERS[container](moved, table.columns))
        same_feeds(got, {name: feed[list(order)] for name, feed in whole.items()})


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


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_rows_are_read_while_another_thread_imports_a_library(library, monkeypatch):
    """A module is in sys.modules before it has its names."""
    monkeypatch.setitem(sys.modules, library, types.ModuleType(library))
    column = Column("age", "float64")
    signature = Signature(
        (TensorSpec("age", "float64", ("batch", 1), (column,)),),
        (TensorSpec("y", "float64", ("b",)),),
    )
    for rows in ([{"age": 1.0}], {"age": [1.0]}):
        np.testing.assert_array_equal(signature.coerce(rows)["age"], [[1.0]])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_finite_tensor_takes_no_other_numbers(value, dtype):
    spec = TensorSpec("x", dtype, ("batch", 3, 2), finite=True)
    finite = Signature((spec,), (Y,))
    rows = np.arange(24, dtype=dtype).reshape(4, 3, 2)
    assert finite.coerce(rows)["x"].tolist() == rows.tolist()
    rows[2, 1, 1] = value
    for given_rows in (rows, rows.astype(np.float64), {"x": rows}, {"x": rows.tolist()}, rows[2:3]):
        row = 0 if len(given_rows) == 1 and not isinstance(given_rows, dict) else 2
        with pytest.raises(SignatureError, match=f"row {row}"):
            finite.coerce(given_rows)
    loose = Signature((TensorSpec("x", dtype, ("batch", 3, 2)),), (Y,))
    np.testing.assert_array_equal(loose.coerce(rows)["x"], rows)
    assert "refused" in str(finite.table())


@pytest.mark.parametrize(
    "spec", [{"dtype": "int64"}, {"dtype": "float32", "columns": (Column("a"), Column("b"))}]
)
def test_only_floats_without_columns_are_said_to_be_finite(spec):
    with pytest.raises(SignatureError, match="is finite"):
        TensorSpec("x", shape=("batch", 2), finite=True, **spec)


# A frame whose columns lie in one array takes a shortcut, and nobody can tell.

VALUES = np.array([[0.5, -2.0, 3e9], [1.25, 7.0, 1e-30]])
BLOCKS = {
    "by rows": VALUES,
    "by columns": np.asfortranarray(VALUES),
    "float32": VALUES.astype("f4"),
    "integers": np.array([[1, -2, 3], [4, 5, 1 << 40]]),
    "with NaN": np.array([[np.nan, 1.0, 2.0]]),
    "with infinity": np.array([[1.0, np.inf, 2.0]]),
    "beyond float32": np.array([[1.0, 1e39, 2.0]]),
    "integers beyond": np.array([[1, 1 << 60, 3]]),
    "booleans": np.array([[True, False, True]]),
    "no rows": np.empty((0, 3)),
    "one row of more": VALUES[:1],
    "every second row": np.repeat(VALUES, 4, axis=0)[::2],
    "many": np.random.default_rng(0).normal(size=(5000, 3)),
    "more than are cast as a whole": np.random.default_rng(0).normal(size=(BULK + 1, 3)),
    "the last beyond": np.vstack([np.zeros((BULK, 3)), [1.0, 1e39, np.nan]]),
}


@pytest.mark.parametrize("values", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("order", ["abc", "cab", "abx"])
def test_a_frame_of_one_block_is_taken_as_its_columns_are(values, nullable, dtype, order):
    columns = [Column(name, dtype, nullable and dtype != "int64") for name in "abc"]
    signature = one_tensor(*columns, dtype=dtype)
    frame = pd.DataFrame(values, columns=list(order))
    apart = {name: frame[name].to_numpy().copy() for name in order}
    try:
        expected = signature.coerce(apart)
    except SignatureError as error:
        with pytest.raises(SignatureError, match=f"^{re.escape(str(error))}$"):
            signature.coerce(frame)
        return
    same_feeds(signature.coerce(frame), expected)
    assert signature.coerce(frame)["X"].flags.c_contiguous


def test_a_frame_is_read_by_columns_where_pandas_has_no_blocks(monkeypatch):
    signature = one_tensor(*(Column(name) for name in "abc"))
    frame = pd.DataFrame(VALUES, columns=list("abc"))
    expected = signature.coerce(frame)
    assert frames.one_block(frame).shape == (3, 2)
    assert frames.one_block(pd.DataFrame({"a": [1.0], "b": [1]})) is None
    assert frames.one_block(pd.DataFrame({"a": pd.array([1, None], "Int64")})) is None
    assert frames.one_block(types.SimpleNamespace()) is None  # a pandas without `_mgr`
    monkeypatch.setattr(frames, "one_block", lambda _: None)
    same_feeds(signature.coerce(frame), expected)


def test_many_small_numbers_of_a_wider_column_are_cast_without_a_warning():
    """More than a BLAS would take in one thread, so that the sum of squares stays a float32."""
    inputs = (TensorSpec("x", "float64", ("n", 30), finite=True),)
    signature = Signature(inputs, (TensorSpec("y", "float64", ("n", 1)),))
    rows = np.ones((2000, 30), np.float32)
    assert signature.coerce(rows)["x"].dtype == np.float64
