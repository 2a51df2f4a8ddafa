"""Estimators of scikit-learn as a package has them: dtypes, empty batches, and equal bytes."""

import numpy as np
import pytest
from helpers.packages import saved
from helpers.rows import normal
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modelkit as mk
from modelkit.errors import ClosedError

IRIS = datasets.load_iris(return_X_y=True)


def test_the_input_dtype_follows_the_family(tmp_path):
    for estimator, dtype in (
        (LogisticRegression(max_iter=500), "float64"),
        (RandomForestClassifier(3, random_state=0), "float32"),
        (MLPClassifier((4,), max_iter=5000, random_state=0), "float64"),
        (make_pipeline(StandardScaler(), RandomForestClassifier(3)), "float64"),
    ):
        manifest = mk.save(
            estimator.fit(*IRIS), tmp_path / "m.mk", example=IRIS[0], name="m", version="1"
        )
        assert manifest.signature.inputs[0].dtype == dtype


def test_no_rows_are_refused_by_a_closed_model(tmp_path):
    X = normal(50)
    texts = ["one two", "two three"] * 10
    on_numbers = LogisticRegression().fit(X, X[:, 0] > 0)
    on_texts = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, [0, 1] * 10)
    no_texts = {"text": np.array([], object)}
    for fitted, example, nothing in ((on_numbers, X, X[:0]), (on_texts, texts, no_texts)):
        _, model = saved(fitted, example, tmp_path)
        assert len(model.predict(nothing)) == 0
        model.close()
        with pytest.raises(ClosedError):
            model.predict(nothing)
