"""A Scorer in another process."""

import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from helpers.scored import save_tumour
from sklearn.datasets import load_breast_cancer

import modelkit as mk

X = load_breast_cancer(as_frame=True).data


@pytest.fixture(scope="module")
def package(once):
    return once("tumour.mk", save_tumour)


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
