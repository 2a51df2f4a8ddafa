"""Dask: rows of its own, and columns that are known where the job is built."""

import pandas as pd
import pytest
from helpers.scored import X

import modelkit as mk
from modelkit.errors import SignatureError


def test_dask_is_given_rows_of_its_own(package):
    frames = pytest.importorskip("dask.dataframe")
    from modelkit.integrations import dask as integration

    column = frames.from_pandas(X, npartitions=2)["a"]
    profile = mk.Profile.fit(X[:100], reference=X[100:])
    for wrong in (X, column):
        with pytest.raises(TypeError, match=r"a dask DataFrame, .* mk.Scorer\(package\)"):
            integration.score(wrong, package)
        with pytest.raises(TypeError, match="a dask DataFrame"):
            integration.drift(wrong, profile)


def test_dask_is_told_of_a_width_that_only_rows_know_where_the_job_is_built(wide):
    frames = pytest.importorskip("dask.dataframe")
    from modelkit.integrations import dask as integration

    rows = frames.from_map(lambda i: pd.DataFrame({"x": [[1.0, 2.0 + i]]}), [0, 1])
    with pytest.raises(SignatureError, match="and Dask needs to know the columns"):
        integration.score(rows, wide)
