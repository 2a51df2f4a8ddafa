"""What a Signature says of rows that do not fit."""

import numpy as np
import pytest

import modelkit as mk

BOTH = mk.Signature(
    (mk.TensorSpec("X", "float64", ("batch", 2), (mk.Column("a"), mk.Column("b"))),),
    (mk.TensorSpec("sum", "float64", ("batch",)),),
)


def test_a_wide_model_does_not_name_all_of_its_columns():
    columns = tuple(mk.Column(f"x{at}") for at in range(500))
    wide = mk.TensorSpec("X", "float64", ("batch", 500), columns)
    signature = mk.Signature((wide,), BOTH.outputs)
    with pytest.raises(mk.errors.SignatureError, match=r"\(1, 3\) \(columns x0, .*, x19, \.\.\.\)"):
        signature.coerce(np.zeros((1, 3)))
