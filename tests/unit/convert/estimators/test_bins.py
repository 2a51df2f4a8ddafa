"""Numbers that are compared with edges: KBinsDiscretizer and Binarizer."""

import numpy as np
import pytest
from helpers.kinds import wine
from helpers.packages import opened, saved
from helpers.rows import beside, tenths
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, KBinsDiscretizer
from sklearn.tree import DecisionTreeClassifier


@pytest.mark.parametrize("encode", ["ordinal", "onehot", "onehot-dense"])
def test_bins_are_told_apart_in_double(encode, tmp_path):
    X, y = tenths(200, 3)
    rows = beside(X)
    bins = KBinsDiscretizer(4, encode=encode, quantile_method="averaged_inverted_cdf")
    for last in (LogisticRegression(), DecisionTreeClassifier(random_state=0)):
        fitted = make_pipeline(bins, last).fit(X, y)
        with opened(fitted, X, tmp_path) as model:
            assert (model.predict(rows) == fitted.predict(rows)).all()
            np.testing.assert_allclose(model.predict_proba(rows), fitted.predict_proba(rows), 1e-6)


def test_a_value_equal_to_the_threshold_of_a_binarizer(tmp_path):
    X, y = wine()
    pipeline = make_pipeline(Binarizer(threshold=2.0), LogisticRegression()).fit(X, y)
    _, model = saved(pipeline, X, tmp_path)
    for value in (2.0, np.nextafter(2.0, 3), np.nextafter(2.0, 1)):
        rows = np.full_like(X[:1], value)
        np.testing.assert_allclose(model.predict_proba(rows), pipeline.predict_proba(rows))
