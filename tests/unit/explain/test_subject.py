"""What is explained: outputs that have numbers, and raw columns."""

import numpy as np
import pytest
from helpers.coalitions import saved, small
from helpers.ensembles import graph
from helpers.rows import shops
from onnx import TensorProto, helper
from sklearn import ensemble
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import modelkit as mk
from modelkit.errors import ExplainError, UsageError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("method", ["auto", "sampling", "lime"])
def test_a_closed_set_of_codes_is_explained_by_every_method(method, tmp_path):
    X, y = shops()
    X = X[["shop"]].assign(other=np.arange(len(X)) % 3).to_numpy()
    pipeline = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(X, y)
    model = saved(pipeline, tmp_path, X)
    explanation = mk.Explainer(model, background=X, method=method, budget=2000).explain(X[:3])
    assert np.abs(explanation.values[:, 0]).max() > np.abs(explanation.values[:, 1]).max()


def test_a_model_of_labels_alone_cannot_be_explained(tmp_path):
    proto = graph([helper.make_node("LinearClassifier", ["x"], ["label", "s"], domain="ai.onnx.ml",
                   coefficients=[1.0, 2, -1, -2], intercepts=[0.0, 0.0], classlabels_ints=[0, 1])],
                  inputs={"x": (np.float32, 2)}, outputs={})  # fmt: skip
    proto.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]))
    with pytest.raises(ExplainError, match="labels alone"):
        mk.Explainer(saved(proto, tmp_path), background=np.zeros((20, 2), np.float32))


def test_what_a_model_does_not_serve_is_refused(tmp_path):
    X, y = small(0)
    regressor = saved(ensemble.GradientBoostingRegressor(n_estimators=3).fit(X, y), tmp_path, X)
    with pytest.raises(UsageError, match="serves a value, not a probability"):
        mk.Explainer(regressor, background=X[:20], output="probability")
    nothing = mk.FunctionModel(
        lambda feeds: {"y": feeds["x"][:, :1] / 0}, two_columns(), batchable=True
    )
    with (
        np.errstate(all="ignore"),
        pytest.raises(ExplainError, match=r"row 0: .* only finite outputs"),
    ):
        mk.Explainer(nothing, background=np.ones((5, 2)), method="sampling", budget=40).explain(
            np.ones((1, 2))
        )


def two_columns():
    return mk.Signature(
        (mk.TensorSpec("x", "float64", ("n", 2)),), (mk.TensorSpec("y", "float64", ("n", 1)),)
    )


@pytest.mark.parametrize("method", ["auto", "sampling", "enumeration"])
def test_a_model_whose_rows_depend_on_their_batch_is_not_explained(method, tmp_path):
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ]
    proto = graph(nodes, inputs={"x": (np.float32, 5)}, outputs={"y": (np.float32, 5)})
    mk.save(proto, tmp_path / "centred.mk", name="centred", version="1")
    centred = mk.load(tmp_path / "centred.mk")
    background = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    with pytest.raises(ExplainError, match="depends on the rows beside it"):
        mk.Explainer(centred, background=background, method=method)
