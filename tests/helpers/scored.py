"""Rows of two numbers with labels, as Scorers and what is built on them are tested with."""

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modelkit as mk

_random = np.random.default_rng(0)
X = pd.DataFrame({"a": _random.normal(size=200), "b": _random.normal(size=200)})
LABELS = np.where(X["a"] > 0, "yes", "no")
TABLE = pa.Table.from_pandas(X, preserve_index=False)


def save_graph(graph, path, **example):
    mk.save(graph, path, example=example, name="m", version="1")
    return path


def save_tumour(path):
    """A pipeline over the thirty columns of real rows, whose labels are texts."""
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    labels = y.map({0: "malignant", 1: "benign"})
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, labels)
    mk.save(model, path, example=X, name="tumour", version="1", background=X[:40])


def save_package(path):
    mk.save(
        LogisticRegression().fit(X, LABELS),
        path,
        example=X,
        name="p",
        version="1",
        background=X[:20],
    )
    return path
