"""The kinds of estimators that are met most: their packages answer as they do. test_more_kinds.py has the others."""

import warnings

import numpy as np
import pytest
from helpers.kinds import KINDS

import modelkit as mk
from modelkit.testing import check_model


def rows_for(model, X):
    """Rows as a Model takes them: texts as a column."""
    return {model.signature.inputs[0].name: list(X)} if isinstance(X, list) else X


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.id)
def test_a_package_answers_as_the_estimator(kind, tmp_path):
    estimator, X = kind.fit()
    manifest = mk.save(estimator, tmp_path / "m.mk", example=X, name="m", version="1")
    parity = manifest.parity
    assert parity.label_flips == 0
    assert parity.batch_invariant
    assert kind.numbers in {spec.dtype for spec in manifest.signature.inputs}
    columns = [column for spec in manifest.signature.inputs for column in spec.columns]
    assert all(column.nullable for column in columns) == kind.missing
    with mk.load(tmp_path / "m.mk") as model, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = rows_for(model, X)
        check_model(model, rows_for(model, X[:20]))
        assert model.verify() == 0.0
        verb = "predict" if hasattr(estimator, "predict") else "transform"
        expected, got = np.asarray(getattr(estimator, verb)(X)), model.predict(rows)
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(got, expected.reshape(got.shape), rtol=2e-4, atol=2e-4)
        else:
            np.testing.assert_array_equal(got, expected.reshape(got.shape))
        if model.signature.has_probabilities:
            np.testing.assert_allclose(
                model.predict_proba(rows), estimator.predict_proba(X), atol=1e-4
            )
            if hasattr(estimator, "classes_"):  # a mixture has components
                np.testing.assert_array_equal(model.classes_, estimator.classes_)
