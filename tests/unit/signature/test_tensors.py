"""Tensors without columns are held to the same rules as columns."""

import re

import numpy as np
import pandas as pd
import pytest
from helpers.columns import AGE, INCOME, NOT_TO_NUMBERS, TRUNCATES, Y, one_tensor, tensor_per_column
from helpers.forms import same_feeds, tensor_of

from modelkit import Column, Signature, TensorSpec
from modelkit.errors import SignatureError

PIXELS = Signature((TensorSpec("pixels", "float32", ("batch", 2, 2)),), (Y,))
PAIR = Signature(
    tuple(TensorSpec(name, "int64", ("batch", "seq")) for name in ("ids", "mask")), (Y,)
)
TEXTS = Signature((TensorSpec("text", "string", ("batch",)),), (Y,))
PAIRS = Signature(
    (TensorSpec("X", "string", ("batch", 2), (Column("a", "string"), Column("b", "string"))),), (Y,)
)
MASK = np.ones((2, 3), int)


@pytest.mark.parametrize(
    ("signature", "X", "expected"),
    [
        pytest.param(
            PIXELS,
            np.ones((3, 2, 3)),
            "input 'pixels' must have shape (batch, 2, 2), got (3, 2, 3)",
            id="size",
        ),
        pytest.param(
            PIXELS,
            np.ones((3, 4)),
            "input 'pixels' must have shape (batch, 2, 2), got (3, 4)",
            id="rank",
        ),
        pytest.param(PIXELS, np.ones(4), "pass X.reshape(1, -1) for one row", id="one dimension"),
        pytest.param(PIXELS, np.full((1, 2, 2), "1"), NOT_TO_NUMBERS, id="strings"),
        pytest.param(
            PIXELS,
            np.array([[[0, 0]] * 2, [[0, 1e39]] * 2]),
            "range of float32 in row 1",
            id="its row is named",
        ),
        pytest.param(PIXELS, {}, "pixels", id="nothing"),
        pytest.param(
            PIXELS, {"pixel": np.ones((3, 2, 2))}, "pixels: float32[batch, 2, 2]", id="renamed"
        ),
        pytest.param(
            PIXELS, pd.DataFrame({"a": [1.0]}), "pixels: float32[batch, 2, 2]", id="frame"
        ),
        pytest.param(
            PAIR, {"ids": MASK}, "ids: int64[batch, seq]; mask: int64[batch, seq]", id="missing"
        ),
        pytest.param(
            PAIR, {"ids": MASK, "mask": MASK, "types": MASK}, "mask: int64[batch, seq]", id="extra"
        ),
        pytest.param(
            PAIR,
            MASK,
            "rows without names cannot feed 2 inputs; pass a frame",
            id="one array for two",
        ),
        pytest.param(PAIR, {"ids": MASK, "mask": MASK * 1.0}, TRUNCATES, id="floats for integers"),
        pytest.param(PAIR, {"ids": [[1, 2], [3]], "mask": [[1, 1], [1]]}, "'ids'", id="ragged"),
        pytest.param(
            PAIR, {"ids": [[1, 2.0]], "mask": [[1, 1]]}, "integer", id="one float among integers"
        ),
        pytest.param(
            TEXTS, {"text": ["a", 1]}, "1 in row 1 is of type", id="a number among strings"
        ),
        pytest.param(TEXTS, {"text": "a"}, "must have shape (batch), got ()", id="one text"),
        pytest.param(
            PAIRS,
            {"X": [["a", 1]]},
            "1 in row 0 is of type",
            id="a number among strings in a tensor with columns",
        ),
        pytest.param(
            one_tensor(AGE, INCOME),
            {"X": np.ma.MaskedArray([[1.0, 2.0]], [[False, True]])},
            "missing value",
            id="a mask is not dropped",
        ),
        pytest.param(
            one_tensor(AGE, INCOME),
            np.ma.MaskedArray([[1.0, 2.0]], [[False, True]]),
            "",
            id="a mask is not dropped from an array",
        ),
        pytest.param(
            Signature((TensorSpec("h", "float16", ("batch", 1), (Column("n", "float64"),)),), (Y,)),
            {"n": [1, 70_000]},
            "float16 in row 1",
            id="integers beyond float16",
        ),
    ],
)
def test_a_mistake_with_tensors_is_refused_and_named(signature, X, expected):
    with pytest.raises(SignatureError) as error:
        signature.coerce(X)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("signature", "X", "count"),
    [
        (tensor_per_column(AGE, INCOME), {"Age": [1.0], "zip": [1.0]}, 4),
        (tensor_per_column(AGE, INCOME), {"age": ["x"], "income": ["y"]}, 2),
        (one_tensor(AGE, INCOME), np.array([[np.nan, np.inf]]), 2),
        (one_tensor(AGE, INCOME), np.ones((2, 3)), 1),
        (one_tensor(AGE, INCOME), np.ones(2), 1),
        (one_tensor(AGE, INCOME), None, 1),
        (tensor_per_column(AGE, INCOME), np.ones((2, 3)), 1),
        (tensor_per_column(AGE, INCOME), {"age": [1.0], "income": [1.0, 2.0]}, 1),
        (PAIR, {"ids": MASK, "mask": MASK[:1]}, 1),
        (PAIR, {"ids": MASK}, 1),
        (PAIR, MASK, 1),
    ],
)
def test_a_refusal_lists_its_problems(signature, X, count):
    with pytest.raises(SignatureError) as error:
        signature.coerce(X)
    assert len(error.value.problems) == count


def test_a_long_refusal_shows_twenty_problems_and_lists_them_all():
    columns = [Column(f"c{i}") for i in range(30)]
    with pytest.raises(SignatureError, match=r"\.\.\. and 10 more") as error:
        one_tensor(*columns).coerce({column.name: ["x"] for column in columns})
    assert len(error.value.problems) == 30
    assert str(error.value).count("\n") == 21


TOKENS = Signature(
    (TensorSpec("ids", "int64", ("batch", "seq")), TensorSpec("mask", "int64", ("batch", "seq"))),
    (
        TensorSpec("embedding", "float32", ("batch", 8)),
        TensorSpec("per_token", "float32", ("batch", "seq", 8)),
    ),
)


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
        tensor_of(Column("a"), Column("b"), rows=4).coerce(X)


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


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_lists_of_floats_are_not_judged_one_by_one(value, monkeypatch):
    """A list with one NaN took thirty times as long: no integer can hide where all others are small."""
    signature = Signature((TensorSpec("x", "float32", ("batch", 2)),), (Y,))
    monkeypatch.setattr("modelkit.signature.rule.Rule._judge", None)
    for X in ([[1.0, value]], {"x": [[1.0, value]]}):
        np.testing.assert_array_equal(signature.coerce(X)["x"], [[1.0, value]])
    with pytest.raises(TypeError):  # that it was replaced
        signature.coerce([[1.0, 2**60 + 1]])


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


def test_many_small_numbers_of_a_wider_column_are_cast_without_a_warning():
    """More than a BLAS would take in one thread, so that the sum of squares stays a float32."""
    inputs = (TensorSpec("x", "float64", ("n", 30), finite=True),)
    signature = Signature(inputs, (TensorSpec("y", "float64", ("n", 1)),))
    rows = np.ones((2000, 30), np.float32)
    assert signature.coerce(rows)["x"].dtype == np.float64


def test_a_masked_tensor_is_one_with_missing_values():
    """The graph got what lay under the mask."""
    masked = np.ma.MaskedArray([[1, 2], [3, 4]], [[False, True], [False, False]])
    whole = Signature((TensorSpec("x", "int64", ("batch", "width")),), (Y,))
    with pytest.raises(SignatureError, match="missing value in row 0; int64 has none"):
        whole.coerce(masked)
    floats = Signature((TensorSpec("x", "float64", ("batch", "width")),), (Y,))
    given = floats.coerce(masked.astype(np.float64))["x"]
    assert type(given) is np.ndarray
    np.testing.assert_array_equal(given, [[1, np.nan], [3, 4]])
