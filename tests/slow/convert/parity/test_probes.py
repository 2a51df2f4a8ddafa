"""Whole numbers at the thresholds of trees, which XGBoost compares by less than."""

import numpy as np
import pytest
from helpers.packages import saved
from onnx.numpy_helper import from_array, to_array

from modelkit.convert.parity.check import prove_parity
from modelkit.convert.sklearn import from_sklearn
from modelkit.convert.source import Source
from modelkit.errors import ParityError
from modelkit.explain.nodes import Branch
from modelkit.runtimes.onnx import OnnxModel


@pytest.fixture
def xgboost():
    return pytest.importorskip("xgboost")


def test_whole_numbers_are_tried_at_the_thresholds_of_trees(xgboost, tmp_path):
    """`x < t` read as `x <= t` is right everywhere but where x equals t."""
    X = np.random.default_rng(0).integers(0, 5, (400, 3))
    y = (X.sum(axis=1) > 6).astype(int)
    model = xgboost.XGBClassifier(n_estimators=10).fit(X, y)
    manifest, _ = saved(model, X, tmp_path)
    assert manifest.parity.threshold_rows > 0
    source = from_sklearn(model, X, "float32")
    wrong = type(source.proto)()
    wrong.CopyFrom(source.proto)
    for node in wrong.graph.node:
        for attribute in node.attribute:
            if attribute.name == "nodes_modes":
                modes = to_array(attribute.t)
                less = np.where(modes == Branch.LT, Branch.LEQ, modes)
                attribute.t.CopyFrom(from_array(less.astype(np.uint8)))
    swapped = Source(**{**source.__dict__, "proto": wrong})
    with pytest.raises(ParityError, match="disagrees with XGBoost"):
        prove_parity(
            swapped, lambda signature: OnnxModel(wrong.SerializeToString(), signature), None
        )
