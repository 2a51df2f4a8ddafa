"""The rule of a column is the same in every form of its rows."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit import Column, Signature, TensorSpec
from modelkit.errors import SignatureError

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
