"""What a column and a tensor may say of themselves."""

import re

import numpy as np
import pytest

from modelkit import Column, TensorSpec
from modelkit.errors import SignatureError
from modelkit.signature.spec import DTYPES, numpy_dtype

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


def test_a_tensor_of_one_column_is_shown_by_the_name_that_rows_have():
    """A graph calls it x0 where the name has a space."""
    for column in ("petal length (cm)", "x"):
        assert (
            str(TensorSpec("x0", "float64", ("n", 1), (Column(column),)))
            == f"{column}: float64[n, 1]"
        )
    both = (Column("a b"), Column("c"))
    assert str(TensorSpec("X", "float64", ("n", 2), both)) == "X: float64[n, 2]"


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


@pytest.mark.parametrize(
    "shape", [(), ("batch",), ("batch", 1), ("batch", 3), ("batch", "width"), ("batch", 2, 1)]
)
def test_columns_name_the_last_of_two_dimensions(shape):
    with pytest.raises(SignatureError, match=r"tensor 'X' has shape .*, but 2 columns"):
        TensorSpec("X", "float32", shape, (Column("a"), Column("b")))


@pytest.mark.parametrize(
    "spec", [{"dtype": "int64"}, {"dtype": "float32", "columns": (Column("a"), Column("b"))}]
)
def test_only_floats_without_columns_are_said_to_be_finite(spec):
    with pytest.raises(SignatureError, match="is finite"):
        TensorSpec("x", shape=("batch", 2), finite=True, **spec)
