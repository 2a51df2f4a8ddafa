"""A signature says what fits, and the same rows give the same tensors in whatever form they come."""

import copy
import pickle
import sys
import types
from dataclasses import FrozenInstanceError

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers.columns import tensor_per_column
from helpers.forms import Y, same_feeds, tensor_of

from modelkit import Column, Signature, TensorSpec
from modelkit.errors import SignatureError

TOKENS = Signature(
    (TensorSpec("ids", "int64", ("batch", "seq")), TensorSpec("mask", "int64", ("batch", "seq"))),
    (
        TensorSpec("embedding", "float32", ("batch", 8)),
        TensorSpec("per_token", "float32", ("batch", "seq", 8)),
    ),
)


def giving(*names, **keywords):
    """A signature with these outputs."""
    return Signature((TensorSpec("x", "float32", ("batch", 2)),), outputs(*names), **keywords)


def outputs(*names):
    return tuple(TensorSpec(name, "float32", ("batch",)) for name in names)


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


def test_the_columns_of_all_inputs_have_names_in_their_order():
    inputs = [
        TensorSpec("left", "float32", ("batch", 2), (Column("b"), Column("a"))),
        TensorSpec("ids", "int64", ("batch",)),
        TensorSpec("right", "float32", ("batch", 1), (Column("c"),)),
    ]
    assert Signature(inputs, (Y,)).column_names == ("b", "a", "c")
    assert TOKENS.column_names == ()


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
    signature, same = tensor_of(Column("a"), Column("b")), tensor_of(Column("a"), Column("b"))
    signature.coerce(pd.DataFrame({"a": [1.0], "b": [2.0]}))
    assert signature == same
    assert hash(signature) == hash(same)
    assert signature != tensor_of(Column("a"), Column("c"))
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
    signature = tensor_of(Column("a", "float64", nullable=True), Column("b", "int64"))
    assert signature.table() == [
        ("input", "X", "float32", "(batch, 2)", "a, b (float64, may be missing; int64)"),
        ("output", "y", "float32", "(batch)", ""),
    ]


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
