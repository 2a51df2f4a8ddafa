"""Where converters of several hands meet: libraries inside votes, steps before them, and dtypes between them."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    BaggingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    OneHotEncoder,
    PolynomialFeatures,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import modelkit as mk


def _tenths(rows, columns):
    rng = np.random.default_rng(0)
    X = np.round(rng.normal(0, 3, (rows, columns)), 1)
    return X, (X.sum(axis=1) + rng.normal(0, 1, rows) > 0).astype(int)


def _saved(estimator, example, tmp_path):
    mk.save(estimator, tmp_path / "m.mk", example=example, name="m", version="1")
    return mk.load(tmp_path / "m.mk")


def _beside(X):
    """Each row with its numbers, with the floats above them, and with those below."""
    return np.concatenate([X, np.nextafter(X, np.inf), np.nextafter(X, -np.inf)])


@pytest.mark.parametrize("encode", ["ordinal", "onehot", "onehot-dense"])
def test_bins_are_told_apart_in_double(encode, tmp_path):
    X, y = _tenths(200, 3)
    rows = _beside(X)
    bins = KBinsDiscretizer(4, encode=encode, quantile_method="averaged_inverted_cdf")
    for last in (LogisticRegression(), DecisionTreeClassifier(random_state=0)):
        fitted = make_pipeline(bins, last).fit(X, y)
        with _saved(fitted, X, tmp_path) as model:
            assert (model.predict(rows) == fitted.predict(rows)).all()
            np.testing.assert_allclose(model.predict_proba(rows), fitted.predict_proba(rows), 1e-6)


@pytest.mark.parametrize("options", [{}, {"degree": 3, "include_bias": False}, {"degree": (2, 3)}])
def test_products_are_those_of_the_source_in_double(options, tmp_path):
    X, y = _tenths(300, 3)
    rows = np.round(np.random.default_rng(1).normal(0, 3, (5000, 3)), 1)
    steps = PolynomialFeatures(**options), HistGradientBoostingClassifier(max_iter=10)
    fitted = make_pipeline(*steps).fit(X, y)
    with _saved(fitted, X, tmp_path) as model:
        np.testing.assert_allclose(model.predict_proba(rows), fitted.predict_proba(rows), 1e-6)


def test_columns_of_a_bagging_may_be_one(tmp_path):
    X, y = _tenths(100, 1)
    bag = BaggingClassifier(DecisionTreeClassifier(max_depth=2), max_features=0.6, random_state=0)
    fitted = bag.fit(X, y)
    with _saved(fitted, X, tmp_path) as model:
        assert (model.predict(X) == fitted.predict(X)).all()


@pytest.mark.parametrize("library", ["xgboost", "catboost"])
def test_thresholds_on_scores_of_other_libraries(library, tmp_path):
    found = pytest.importorskip(library)
    X, y = _tenths(200, 2)
    inner = (
        found.XGBClassifier(n_estimators=3, max_depth=2)
        if library == "xgboost"
        else found.CatBoostClassifier(iterations=3, depth=2, verbose=0, allow_writing_files=False)
    )
    score = float(np.median(inner.fit(X, y).predict_proba(X)[:, 1]))
    # A number of Python is compared in the dtype of the scores, one of numpy in its own.
    for threshold in (score, np.float64(score), 0.3):
        fitted = FixedThresholdClassifier(inner, threshold=threshold).fit(X, y)
        with _saved(fitted, X, tmp_path) as model:
            assert (model.predict(X) == fitted.predict(X)).all()


@pytest.mark.parametrize("wide", [0, 1])
def test_stackings_that_pass_their_rows_on_compare_them_in_double(wide, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 6, (150, 1)).astype(float)  # whole numbers, which float32 holds as well
    y = np.sin(X[:, 0]) + rng.normal(0, 0.1, 150)
    kinds = [
        HistGradientBoostingRegressor(max_iter=5, min_samples_leaf=3),
        DecisionTreeRegressor(max_depth=4, random_state=0),
    ]
    stacking = StackingRegressor([("a", kinds[wide])], kinds[1 - wide], cv=2, passthrough=True)
    fitted = stacking.fit(X, y)
    middle = np.unique(X)
    rows = _beside(((middle[1:] + middle[:-1]) / 2)[:, None])
    with _saved(fitted, X, tmp_path) as model:
        assert model.signature.inputs[0].dtype == "float64"
        np.testing.assert_allclose(model.predict(rows), fitted.predict(rows), 1e-6)


def _categories(rows):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "letter": rng.choice(list("abcdefgh"), rows),
            "number": np.where(rng.random(rows) < 0.5, 0, np.round(rng.normal(0, 1, rows), 1)),
        }
    )
    y = frame.letter.isin(list("abc")) ^ (frame.number > 0) ^ (rng.random(rows) < 0.1)
    return frame, y.astype(int)


def _boosted():
    return pytest.importorskip("xgboost").XGBClassifier(n_estimators=8)


@pytest.mark.parametrize(
    "around",
    [
        lambda x: VotingClassifier([("a", x), ("b", LogisticRegression())], voting="soft"),
        lambda x: StackingClassifier([("a", x)], final_estimator=LogisticRegression(), cv=2),
        lambda x: StackingClassifier([("b", LogisticRegression())], x, cv=2, passthrough=True),
        lambda x: BaggingClassifier(x, n_estimators=2, max_features=0.8, random_state=0),
        lambda x: CalibratedClassifierCV(x, cv=2),
        lambda x: GridSearchCV(x, {}, cv=2),
        OneVsRestClassifier,
        lambda x: FixedThresholdClassifier(x, threshold=0.4),
        lambda x: VotingClassifier([("a", make_pipeline(StandardScaler(with_mean=False), x))]),
    ],
)
def test_zeros_of_sparse_rows_are_missing_to_xgboost_inside_anything(around, tmp_path):
    frame, y = _categories(400)
    encoder = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["letter"]),
        remainder="passthrough",
        sparse_threshold=1.0,
    )
    fitted = make_pipeline(encoder, around(_boosted())).fit(frame, y)
    with _saved(fitted, frame, tmp_path) as model:
        assert (model.predict(frame) == fitted.predict(frame)).all()


def test_xgboost_behind_several_steps_rounds_its_rows_as_the_library_does(tmp_path):
    """Behind an encoder the converter takes numbers of float64 for float32, and left out the cast."""
    xgboost = pytest.importorskip("xgboost")
    frame, _ = _categories(300)
    frame["wide"] = np.random.default_rng(1).normal(size=300)
    y = frame.wide * 3 + frame.number
    encoder = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["letter"]), remainder="passthrough"
    )
    inner = make_pipeline(StandardScaler(), xgboost.XGBRegressor(n_estimators=40))
    fitted = make_pipeline(encoder, inner).fit(frame, y)
    scale = inner[0].scale_[-1]
    mean = inner[0].mean_[-1]
    texts = inner[-1].get_booster().trees_to_dataframe()
    splits = texts.Split[texts.Feature == "f9"].to_numpy(np.float64)
    near = np.concatenate([splits + side * np.spacing(np.float32(1)) / 5 for side in (-1, 0, 1)])
    rows = pd.concat([frame.iloc[[0]]] * len(near), ignore_index=True)
    rows["wide"] = near * scale + mean
    with _saved(fitted, frame, tmp_path) as model:
        assert model.signature.inputs[-1].dtype == "float64"
        np.testing.assert_allclose(model.predict(rows), fitted.predict(rows), 1e-4, 1e-5)


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
