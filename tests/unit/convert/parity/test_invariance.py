"""Whether rows depend on their batch."""

import numpy as np
import pytest
from helpers.packages import saved
from helpers.rows import trips
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.errors import BatchError


@pytest.mark.parametrize("kind", ["onnx", "joblib"])
def test_an_example_of_one_row_measures_no_batches(kind, tmp_path):
    X, y = trips()
    X = X[["fare", "age"]]
    manifest, model = saved(LogisticRegression().fit(X, y), X[:1], tmp_path, format=kind)
    assert manifest.parity.batch_sizes == (1,)
    assert not manifest.parity.batch_measured
    for text in (str(manifest.parity), manifest._repr_html_(), model._repr_html_()):
        assert "whether rows depend on their batch was not measured" in text
        assert "DIFFER" not in text
    with pytest.raises(
        BatchError,
        match=r"may depend on their batch: .*was not measured, which takes an example of two",
    ):
        mk.Batcher(model)
    manifest, model = saved(LogisticRegression().fit(X, y), X[:2], tmp_path, format=kind)
    assert manifest.parity.batch_sizes == (1, 2)
    assert "rows agree in 2 batch sizes" in str(manifest.parity)
    with mk.Batcher(model) as batcher:
        np.testing.assert_array_equal(batcher.predict(X), model.predict(X))
