"""A package that is made without pandas, which serving does not need either."""

import json

import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modelkit as mk

ASK = """
import sys
from urllib.request import Request, urlopen
headers = {"Content-Type": "application/json"}
print(urlopen(Request("http://127.0.0.1:8000/invocations", sys.argv[1].encode(), headers)).read().decode())
"""


@pytest.fixture(scope="session")
def tumour_mk(once):
    """Three numbers, and a label that is a text."""
    X, y = load_breast_cancer(return_X_y=True)
    labels = load_breast_cancer().target_names[y].astype(object)
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[:, :3], labels)
    return once(
        "tumour-of-clouds.mk",  # others have one of that name
        lambda path: mk.save(estimator, path, example=X[:, :3], name="tumour", version="1.0.0"),
    )


@pytest.fixture(scope="session")
def rows():
    """Rows of the package above."""
    return load_breast_cancer().data[:2, :3]


@pytest.fixture(scope="session")
def expected(tumour_mk, rows):
    """What the package answers to them."""
    with mk.load(tumour_mk) as model:
        return {name: values.tolist() for name, values in model.run(rows).items()}


@pytest.fixture(scope="session")
def question(rows):
    """Arguments for any Python that ask port 8000 of wherever it is for these rows."""
    return ["-c", ASK, json.dumps({"inputs": {"X": rows.tolist()}})]
