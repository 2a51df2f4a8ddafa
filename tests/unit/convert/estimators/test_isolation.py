"""IsolationForest: scores by how deep its trees isolate a row."""

import numpy as np
import pytest
from helpers.answers import check
from helpers.kinds import wine
from helpers.packages import saved
from sklearn.ensemble import IsolationForest


@pytest.mark.parametrize("most", [1, 1.0, 2, 3, 0.7])
def test_isolation_forests_over_some_columns(rows, fresh, tmp_path, most):
    forest = IsolationForest(n_estimators=7, max_features=most, random_state=0).fit(rows)
    check(forest, rows, fresh, tmp_path / "a.mk")


def test_outliers_have_labels_and_scores(tmp_path):
    from sklearn.ensemble import IsolationForest

    X = wine()[0]
    model = IsolationForest(n_estimators=10, random_state=0).fit(X)
    _, packed = saved(model, X, tmp_path)
    np.testing.assert_array_equal(packed.predict(X), model.predict(X))
    np.testing.assert_allclose(packed.run(X)["scores"], model.decision_function(X), atol=1e-5)
