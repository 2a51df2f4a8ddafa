"""What is explained: raw columns, also those whose values are a closed set."""

import numpy as np
import pytest
from helpers.packages import saved
from helpers.rows import shops
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import modelkit as mk


@pytest.mark.parametrize("method", ["auto", "sampling", "lime"])
def test_a_closed_set_of_codes_is_explained_by_every_method(method, tmp_path):
    X, y = shops()
    X = X[["shop"]].assign(other=np.arange(len(X)) % 3).to_numpy()
    pipeline = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(X, y)
    _, model = saved(pipeline, X, tmp_path)
    explanation = mk.Explainer(model, background=X, method=method, budget=2000).explain(X[:3])
    assert np.abs(explanation.values[:, 0]).max() > np.abs(explanation.values[:, 1]).max()
