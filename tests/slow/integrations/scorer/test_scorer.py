"""A Scorer in another process."""

import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modelkit as mk

X, Y = load_breast_cancer(return_X_y=True, as_frame=True)

LABELS = Y.map({0: "malignant", 1: "benign"})


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    path = tmp_path_factory.mktemp("scorer") / "tumour.mk"
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, LABELS)
    mk.save(model, path, example=X, name="tumour", version="1", background=X[:40])
    return path


@pytest.fixture(scope="module")
def served(package):
    return mk.load(package, threads=1).run(X)


def test_another_process_opens_the_same_package(package, tmp_path, served):
    place = tmp_path / "scorer.pickle"
    place.write_bytes(pickle.dumps(mk.Scorer(package)))
    code = """
        import pickle, sys
        import numpy as np
        from sklearn.datasets import load_breast_cancer
        X = load_breast_cancer(as_frame=True).data
        scorer = pickle.load(open(sys.argv[1], "rb"))
        np.save(sys.argv[2], scorer.frame(X)["probabilities_benign"].to_numpy())
    """
    answers = tmp_path / "answers.npy"
    words = [sys.executable, "-c", textwrap.dedent(code), str(place), str(answers)]
    subprocess.run(words, check=True)
    assert np.array_equal(np.load(answers), served["probabilities"][:, 0])
