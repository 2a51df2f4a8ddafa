"""What the tests of evaluations share: a model of tumours, rows that were held out, and its Evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modelkit as mk


@pytest.fixture(scope="session")
def tumours():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    return X.filter(like="mean "), y.map({0: "malignant", 1: "benign"})


@pytest.fixture(scope="session")
def package(tumours, tmp_path_factory):
    X, y = tumours
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[::2], y[::2])
    path = tmp_path_factory.mktemp("evaluate") / "tumour.mk"
    mk.save(fitted, path, example=X[::2], name="tumour", version="1.0")
    return path


@pytest.fixture(scope="session")
def model(package):
    with mk.load(package) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def held(tumours):
    X, y = tumours
    return X[1::2].reset_index(drop=True), y[1::2].to_numpy()


@pytest.fixture(scope="session")
def evaluation(model, held, tumours):
    X, y = tumours
    sizes = np.where(held[0]["mean radius"] > 14, "large", "small")
    return mk.evaluate(model, *held, train=(X[::2], y[::2]), slices={"size": sizes})
