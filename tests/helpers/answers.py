"""What a package answers, compared with its source."""

import warnings
from functools import cache

import numpy as np
import pytest
from sklearn import datasets

import modelkit as mk
from modelkit.errors import ConversionError

NAMES = np.array(["red", "blue", "green"])


def _standard(data):
    X, y = data
    return (X - X.mean(axis=0)) / X.std(axis=0), y


@cache
def wine():
    return _standard(datasets.load_wine(return_X_y=True))


@cache
def cancer():
    return _standard(datasets.load_breast_cancer(return_X_y=True))


@cache
def diabetes():
    X, y = datasets.load_diabetes(return_X_y=True)
    return 20 * X, y


def names():
    return wine()[0], NAMES[wine()[1]]


def one_column():
    X, y = diabetes()
    return X[:, 2:3], y


def differences(estimator, data, path, extreme=1e4):
    """The largest difference of each output, over the size of its numbers, on rows that were not fitted."""
    X, y = data()
    rows = np.vstack([X[1::2], extreme * X[:3], -extreme * X[:3]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(X[::2], y[::2])
        mk.save(estimator, path, example=X[::2], name="m", version="1")
        model = mk.load(path)
        got = model.run(rows)
        one = model.run(rows[:1])
        expected = {"label": estimator.predict(rows)}
        for verb, name in (("predict_proba", "probabilities"), ("decision_function", "scores")):
            if hasattr(estimator, verb):
                expected[name] = getattr(estimator, verb)(rows)
    found = {}
    for name, array in got.items():
        key = "label" if name == "prediction" else name
        part = None
        if name.startswith("probabilities_"):
            key, _, part = name.partition("_")
        if key not in expected:
            continue
        truth = expected[key] if part is None else expected[key][int(part)]
        assert array.shape == truth.shape, name
        np.testing.assert_allclose(one[name].shape[1:], array.shape[1:])
        if name == "label":
            np.testing.assert_array_equal(array, truth)
        else:
            gap = np.abs(array - truth)[np.isfinite(truth)]
            np.testing.assert_array_equal(np.isnan(array), np.isnan(truth))
            found[name] = float(gap.max(initial=0) / max(1e-300, np.nanmax(np.abs(truth))))
    return found


VERBS = {
    "label": "predict",
    "prediction": "predict",
    "probabilities": "predict_proba",
    "scores": "decision_function",
    "score_samples": "score_samples",
    "transformed": "transform",
}


def check(estimator, example, fresh, path):
    """The package answers fresh rows as its source does, to the rounding of their dtype."""
    tolerance = 1e-4 if fresh.dtype == np.float32 else 1e-12
    mk.save(estimator, path, example=example, name="attacked", version="1.0.0")
    with mk.load(path, threads=1) as model:
        answers = model.run(fresh)
    for name, got in answers.items():
        expected = getattr(estimator, VERBS[name])(fresh)
        if got.dtype.kind == "f":
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(got, expected)


def check_refused(estimator, example, path, said):
    with pytest.raises(ConversionError, match=said):
        mk.save(estimator, path, example=example, name="attacked", version="1.0.0")
