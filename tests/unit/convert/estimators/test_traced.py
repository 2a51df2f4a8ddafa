"""The array of a graph gives what numpy gives."""

import numpy as np
import pytest
from scipy.special import expit

from modelkit.convert.estimators.tensors import argument, model_of
from modelkit.runtimes.onnx import OnnxModel
from modelkit.runtimes.proto import signature_of
from modelkit.signature.spec import TensorSpec

ROWS = np.random.default_rng(0).normal(size=(7, 4)) * 3
SCALE = np.array([1.0, 2.0, -3.0, 0.5])
EXPRESSIONS = {
    "arithmetic": lambda x: (2.0 * x - SCALE) / (x * x + 1) + -x,
    "single and double": lambda x: x.astype(np.float32) + SCALE,
    "single and a number": lambda x: x.astype(np.float32) * 0.1,
    "whole and a number": lambda x: np.floor(x).astype(np.int64) / 2,
    "whole quotients": lambda x: np.floor(x * 9).astype(np.int64) // np.array([3, -2, 7, -5]),
    "whole rests": lambda x: np.floor(x * 9).astype(np.int64) % np.array([3, -2, 7, -5]),
    "quotients": lambda x: (x + 20) // 0.7 + x % -0.7,
    "truths": lambda x: np.any(x > 1, axis=1) | np.all(x < 1, axis=1),
    "all numbers": lambda x: x + np.sum(x) - np.max(x) * np.linalg.norm(x),
    "order": lambda x: np.sort(x, axis=1)[:, ::-1],
    "margin": lambda x: np.pad(x, ((0, 0), (1, 2)), constant_values=1.0),
    "comparisons": lambda x: (x < 1) & ~(x >= SCALE) | (x == x[:, [0]]),
    "products": lambda x: x @ np.outer(SCALE, [1, 2]) + SCALE[:2],
    "array on the left": lambda x: SCALE - x,
    "list on the left": lambda x: [1, 2, 3, 4] * x,
    "powers": lambda x: np.abs(x) ** [0.0, 1.0, 2.0, 0.5],
    "functions": lambda x: np.log1p(np.exp(x)) + np.expm1(-np.abs(x)) + np.arctan(x) + expit(x),
    "waves": lambda x: np.sin(x) + np.tan(x) * np.cosh(x),
    "choice": lambda x: np.where(x > 0, x, 0),
    "bounds": lambda x: np.clip(np.minimum(x, 2.0), -1.0, 1.0),
    "bounds of each column": lambda x: np.clip(x, SCALE - 1.0, SCALE + 1.0),
    "sums": lambda x: np.sum(x, axis=1, keepdims=True) + np.mean(x, axis=1)[:, None],
    "extremes": lambda x: np.max(x, axis=1) - np.min(x, axis=1) + np.prod(x, axis=1),
    "places": lambda x: np.argmax(x, axis=1) - np.argmin(x, axis=1),
    "columns": lambda x: np.concatenate([x[:, 1:3], x[:, [3, 0]], np.take(x, [2], axis=1)], axis=1),
    "truths of columns": lambda x: (x > 0)[:, [1, 1]],
    "one column": lambda x: x[:, 2],
    "axes": lambda x: np.sum(x[:, None] - x[..., None], axis=2),
    "shapes": lambda x: np.reshape(x.reshape(-1, 2, 2), (-1, 4)).T.T,
    "along": lambda x: np.take_along_axis(x, np.argmax(x, axis=1)[:, None], axis=1),
}


def given(columns=4):
    return argument(TensorSpec("x", "float64", ("batch", columns)))


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_graph_computes_as_numpy_does(name):
    x = given()
    proto, _ = model_of({"x": x}, {"y": EXPRESSIONS[name](x)})
    known = EXPRESSIONS[name](ROWS)
    with OnnxModel(proto.SerializeToString(), signature_of(proto)) as model:
        found = model.run({"x": ROWS})["y"]
    assert found.dtype == known.dtype
    np.testing.assert_allclose(found, known, rtol=1e-6 if found.dtype == np.float32 else 1e-14)


@pytest.mark.parametrize("use", [np.spacing, np.median, np.add.reduce, bool])
def test_what_a_graph_has_not_is_refused(use):
    with pytest.raises(TypeError, match="a graph cannot"):
        use(given())
