"""Ensembles of trees in graphs of others."""

import subprocess
import sys

SAVING = """
import numpy as np
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer

import modelkit as mk

X = np.round(np.random.default_rng(0).normal(0, 3, (100, 2)), 1)
forest = RandomForestClassifier(3, random_state=0)
fitted = make_pipeline(PowerTransformer(), forest).fit(X, X.sum(axis=1) > 0)
mk.save(fitted, "m.mk", example=X, name="m", version="1")

def numbers(values, dtype):
    return numpy_helper.from_array(np.array(values, dtype))

domain = {"domain": "ai.onnx.ml"}
tree = {
    "tree_roots": [0], "n_targets": 1, "nodes_featureids": [0], "leaf_targetids": [0, 0],
    "nodes_truenodeids": [0], "nodes_falsenodeids": [1],
    "nodes_trueleafs": [1], "nodes_falseleafs": [1],
    "nodes_modes": numbers([0], np.uint8), "nodes_splits": numbers([0], np.float32),
    "leaf_weights": numbers([1, 2], np.float32),
}
nodes = [
    helper.make_node("Imputer", ["x"], ["full"], imputed_value_floats=[0.0], **domain),
    helper.make_node("TreeEnsemble", ["full"], ["prediction"], **tree, **domain),
]
taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
given = helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["batch", 1])
graph = helper.make_graph(nodes, "g", [taken], [given])
sets = [helper.make_opsetid("", 19), helper.make_opsetid("ai.onnx.ml", 5)]
proto = helper.make_model(graph, opset_imports=sets, ir_version=10)
manifest = mk.save(proto, "m.mk", name="m", version="1")
assert manifest.row_bytes > 0
"""


def test_trees_behind_a_step_without_a_shape_do_not_end_the_process(tmp_path):
    """onnx infers the shapes of an ensemble from those of its rows, and takes for granted that they are known."""
    done = subprocess.run([sys.executable, "-c", SAVING], cwd=tmp_path, check=False)
    assert done.returncode == 0
