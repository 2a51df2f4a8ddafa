"""Tensors without columns are held to the same rules as columns."""

import numpy as np
import pandas as pd
import pytest
from helpers.mistakes import (
    AGE,
    INCOME,
    NOT_TO_NUMBERS,
    TRUNCATES,
    Y,
    one_tensor,
    tensor_per_column,
)

from modelkit import Column, Signature, TensorSpec
from modelkit.errors import SignatureError

PIXELS = Signature((TensorSpec("pixels", "float32", ("batch", 2, 2)),), (Y,))
TOKENS = Signature(
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
            TOKENS, {"ids": MASK}, "ids: int64[batch, seq]; mask: int64[batch, seq]", id="missing"
        ),
        pytest.param(
            TOKENS,
            {"ids": MASK, "mask": MASK, "types": MASK},
            "mask: int64[batch, seq]",
            id="extra",
        ),
        pytest.param(
            TOKENS,
            MASK,
            "one array cannot feed 2 inputs; pass a dict of arrays by name",
            id="one array for two",
        ),
        pytest.param(
            TOKENS, {"ids": MASK, "mask": MASK * 1.0}, TRUNCATES, id="floats for integers"
        ),
        pytest.param(TOKENS, {"ids": [[1, 2], [3]], "mask": [[1, 1], [1]]}, "'ids'", id="ragged"),
        pytest.param(
            TOKENS, {"ids": [[1, 2.0]], "mask": [[1, 1]]}, "integer", id="one float among integers"
        ),
        pytest.param(TEXTS, {"text": ["a", 1]}, "1 in row 1 is a", id="a number among strings"),
        pytest.param(TEXTS, {"text": "a"}, "must have shape (batch), got ()", id="one text"),
        pytest.param(
            TEXTS, ["a", "b"], "or np.asarray(X) for a tensor without columns", id="a list of texts"
        ),
        pytest.param(
            PAIRS,
            {"X": [["a", 1]]},
            "1 in row 0 is a",
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
        (TOKENS, {"ids": MASK, "mask": MASK[:1]}, 1),
        (TOKENS, {"ids": MASK}, 1),
        (TOKENS, MASK, 1),
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
