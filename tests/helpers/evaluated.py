"""Models for the tests of evaluations, and what every Evaluation keeps to."""

from __future__ import annotations

import numpy as np

import modelkit as mk
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.stats.influence import Clusters


def saved(fitted, X, tmp_path):
    path = tmp_path / "model.mk"
    mk.save(fitted, path, example=X, name="model", version="1")
    return mk.load(path)


def checked(found):
    """An Evaluation that is the same after JSON, and has a page and a card."""
    assert mk.Evaluation.from_json(found.to_json()) == found
    assert found.to_html().startswith("<!doctype html>")
    assert found.model in found._repr_html_()
    return found


def told(probabilities):
    """A Model of the classes 0 and 1 that answers the probabilities in its rows, and these rows."""
    columns = tuple(mk.Column(name, "float64", nullable=True) for name in ("p0", "p1"))
    signature = mk.Signature(
        (mk.TensorSpec("X", "float64", ("batch", 2), columns),),
        (
            mk.TensorSpec("label", "int64", ("batch",)),
            mk.TensorSpec("probabilities", "float64", ("batch", 2)),
        ),
        classes=(0, 1),
    )

    def answer(feeds):
        label = np.nan_to_num(feeds["X"], nan=-1).argmax(axis=1)
        return {"label": label, "probabilities": feeds["X"]}

    return mk.FunctionModel(answer, signature), np.asarray(probabilities, np.float64)


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def binary(n=200, seed=0, *, weighted=True):
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < 0.3).astype(np.int64)
    told = np.round(1 / (1 + np.exp(-(rng.normal(size=n) + 2.0 * truth - 1))), 2).clip(0.01, 0.99)
    return Answered(
        "binary",
        truth,
        (told > 0.5).astype(np.int64),
        np.column_stack([1 - told, told]),
        told,
        (0, 1),
        rng.uniform(0.2, 3, n) if weighted else None,
    )


def multiclass(n=200, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=n)
    told = softmax(rng.normal(size=(n, 3)) + 1.3 * np.eye(3)[truth])
    return Answered(
        "multiclass", truth, told.argmax(1), told, told, (0, 1, 2), rng.uniform(0.2, 3, n)
    )


def multilabel(n=200, seed=0):
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, 4)) < [0.5, 0.3, 0.2, 0.6]).astype(np.float64)
    told = 1 / (1 + np.exp(-(rng.normal(size=(n, 4)) + 2 * truth - 1)))
    return Answered("multilabel", truth, (told > 0.5) * 1.0, told, told, (), rng.uniform(0.2, 3, n))


def regression(n=200, seed=0, outputs=1):
    rng = np.random.default_rng(seed)
    truth = rng.normal(3, 2, size=(n, outputs))
    return Answered(
        "regression",
        truth,
        truth + rng.normal(0.1, 0.7, (n, outputs)),
        weights=rng.uniform(0.2, 3, n),
    )


def ranking(n=240, seed=0):
    rng = np.random.default_rng(seed)
    queries = np.sort(rng.integers(30, size=n))
    truth = rng.integers(0, 4, size=n).astype(np.float64)
    scores = np.round(truth + rng.normal(0, 2, n), 1)
    return Answered("ranking", truth, scores=scores, queries=queries, clusters=queries)


def clustering(n=200, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(4, size=n)
    return Answered(
        "clustering", truth, np.where(rng.random(n) < 0.7, truth, rng.integers(5, size=n))
    )


def value(answered, name):
    return METRICS[answered.kind][name].measure(answered).value


def rare_classes(n, seed):
    """Four classes, of which the rarer two are often taken for the commonest."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(4, n, p=[0.6, 0.3, 0.08, 0.02])
    right = rng.random(n) < np.array([0.95, 0.9, 0.6, 0.5])[truth]
    return Answered("multiclass", truth, np.where(right, truth, 0), classes=(0, 1, 2, 3))


def clusters(sizes):
    sizes = np.asarray(sizes)
    return Clusters(np.repeat(np.arange(len(sizes)), sizes), sizes.astype(float))


def together(which):
    return Clusters(which, np.bincount(which).astype(float))
