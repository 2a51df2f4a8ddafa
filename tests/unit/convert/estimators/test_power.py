"""PowerTransformer, in double."""

import numpy as np
import pytest
from helpers.packages import saved
from helpers.rows import normal
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer


@pytest.mark.parametrize("method", ["yeo-johnson", "box-cox"])
@pytest.mark.parametrize("standardize", [True, False])
def test_powers_are_computed_in_double(method, standardize, tmp_path):
    X = normal(200)
    shaped = np.exp if method == "box-cox" else np.positive
    transformer = PowerTransformer(method, standardize=standardize)
    for last in (LogisticRegression(), RandomForestClassifier(3, random_state=0)):
        fitted = make_pipeline(transformer, last).fit(shaped(X / 4), X[:, 0] > 0)
        manifest, model = saved(fitted, shaped(X / 4), tmp_path)
        rows = shaped(np.concatenate([normal(2000), 1e-9 * normal(500)]) / 4)
        assert manifest.parity.rtol == 1e-6
        np.testing.assert_allclose(model.predict_proba(rows), fitted.predict_proba(rows), 1e-9)


def test_numbers_that_a_source_refuses_for_other_reasons_close_nothing(tmp_path):
    X = np.random.default_rng(0).integers(1, 9, (99, 2))
    pipeline = make_pipeline(PowerTransformer("box-cox"), LogisticRegression()).fit(X, X[:, 0] > 4)
    _, model = saved(pipeline, X, tmp_path)
    np.testing.assert_allclose(model.predict_proba(X), pipeline.predict_proba(X), atol=1e-6)
    assert model.signature.inputs[0].columns[0].categories is None
