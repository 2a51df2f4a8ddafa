"""Each class that converts is in a table of kinds, which the docs show, and whose columns say what a package does."""

import warnings

import numpy as np
import pytest
from helpers.kinds import KINDS
from helpers.more_kinds import ALL_KINDS, MORE_KINDS, class_of, table
from helpers.places import ROOT

import modelkit as mk
from modelkit.convert.estimators import refused
from modelkit.convert.estimators.table import TENSOR_CONVERTERS

DOCS = ROOT / "docs" / "converting.md"
ROWS = 120  # of the example
NEAR = 2e-4  # relative and absolute, for XGBoost and what else adds up in float32
# Classes that other kinds hold inside: scikit-learn's own, and those around a model.
INSIDE = {
    "Pipeline",
    "ColumnTransformer",
    "FeatureUnion",
    "FrozenEstimator",
    "KernelCenterer",
    "CatBoost",
    # of imbalanced-learn: see test_convert_models.py
    "BalancedBaggingClassifier",
    "BalancedRandomForestClassifier",
    "EasyEnsembleClassifier",
    "RUSBoostClassifier",
}


@pytest.mark.parametrize("kind", MORE_KINDS, ids=lambda kind: kind.id)
def test_a_package_computes_in_these_numbers_and_takes_these_gaps(kind, tmp_path, one_thread):
    estimator, X = kind.fit()
    example = X[:ROWS]
    manifest = mk.save(estimator, tmp_path / "m.mk", example=example, name="m", version="1")
    columns = [column for spec in manifest.signature.inputs for column in spec.columns]
    assert kind.numbers in {spec.dtype for spec in manifest.signature.inputs}
    assert all(column.nullable for column in columns) == kind.missing
    assert manifest.parity.label_flips == 0
    with mk.load(tmp_path / "m.mk") as model, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verb = "predict" if hasattr(estimator, "predict") else "transform"
        expected = getattr(estimator, verb)(X[-ROWS:])
        expected = expected.toarray() if hasattr(expected, "toarray") else np.asarray(expected)
        got = model.predict(X[-ROWS:]).reshape(expected.shape)
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(got, expected, rtol=NEAR, atol=NEAR)
        else:
            np.testing.assert_array_equal(got, expected)


@pytest.mark.skipif(KINDS[-1].library == "sklearn", reason="needs the boosting libraries")
def test_each_class_that_converts_is_in_the_tables():
    public = {name.partition(".")[2] for name in TENSOR_CONVERTERS}
    public = {name for name in public if not name.startswith("_")}
    assert public - {class_of(kind) for kind in ALL_KINDS} - set(refused.REASONS) <= INSIDE


@pytest.mark.skipif(KINDS[-1].library == "sklearn", reason="needs the boosting libraries")
def test_the_docs_list_what_is_tested():
    assert table() in DOCS.read_text(encoding="utf-8"), (
        "put the output of `PYTHONPATH=tests python -m helpers.more_kinds` into docs/converting.md"
    )
