"""Frames are read as their columns are, whatever shortcut there is."""

import re
import types

import numpy as np
import pandas as pd
import pytest
from helpers.forms import same_feeds, tensor_of

from modelkit import Column
from modelkit.errors import SignatureError
from modelkit.signature import frames
from modelkit.signature.coercion import BULK

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
    signature = tensor_of(*columns, dtype=dtype)
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
    signature = tensor_of(*(Column(name) for name in "abc"))
    frame = pd.DataFrame(VALUES, columns=list("abc"))
    expected = signature.coerce(frame)
    assert frames.one_block(frame).shape == (3, 2)
    assert frames.one_block(pd.DataFrame({"a": [1.0], "b": [1]})) is None
    assert frames.one_block(pd.DataFrame({"a": pd.array([1, None], "Int64")})) is None
    assert frames.one_block(types.SimpleNamespace()) is None  # a pandas without `_mgr`
    monkeypatch.setattr(frames, "one_block", lambda _: None)
    same_feeds(signature.coerce(frame), expected)
