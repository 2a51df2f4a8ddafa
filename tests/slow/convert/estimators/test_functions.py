"""Functions of very wide tables."""

import numpy as np
from sklearn.preprocessing import FunctionTransformer

from modelkit.convert.sklearn import from_sklearn


def test_thousands_of_columns():
    rows = np.random.default_rng(0).normal(size=(3, 5100))
    assert from_sklearn(FunctionTransformer(np.abs).fit(rows), rows, "float64")
