"""Naive Bayes, in double: codes, thresholds and powers."""

import numpy as np
import pandas as pd
import pytest
from helpers.packages import saved
from helpers.rows import normal
from helpers.towns import agree, agree_on_towns, target, towns
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, GaussianNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, PolynomialFeatures

from modelkit.errors import SignatureError


def test_codes_of_naive_bayes_are_looked_up(tmp_path):
    example = towns(400, 1)[["kind", "count", "old"]]
    fitted = make_pipeline(OrdinalEncoder(), CategoricalNB()).fit(example, target(towns(400, 1)))
    agree_on_towns(fitted, example, tmp_path)
    codes = example[["count"]] + 1
    agree(CategoricalNB().fit(codes, target(towns(400, 1))), codes, (codes[:1],), tmp_path)


@pytest.mark.parametrize("form", ["integers", "floats", "frame"])
def test_codes_that_a_naive_bayes_does_not_know(form, tmp_path):
    """Unknown ones ended in an error of the runtime, also where the example held but a few of the known ones."""
    rng = np.random.default_rng(0)
    X = np.stack([rng.integers(0, 4, 300), rng.integers(1, 9, 300)], axis=1)
    few = X[(X[:, 0] < 2) & (X[:, 1] < 5)]
    shaped = {"integers": np.asarray, "floats": lambda rows: rows * 1.0, "frame": pd.DataFrame}[
        form
    ]
    bayes = CategoricalNB().fit(shaped(X), X.sum(axis=1) > 6)
    _, model = saved(bayes, shaped(few), tmp_path)
    assert [c.categories for c in model.signature.inputs[0].columns] == [
        tuple(range(4)),
        tuple(range(9)),
    ]
    np.testing.assert_allclose(
        model.predict_proba(shaped(X)), bayes.predict_proba(shaped(X)), atol=1e-6
    )
    for row in ([4, 2], [0, 9], [-1, 2]):
        with pytest.raises(
            SignatureError, match=r"unknown category (4|9|-1)\.0 in row 0; known are"
        ):
            model.predict(shaped(np.array([row])))


def test_a_threshold_of_bernoulli_sees_products_in_double(tmp_path):
    X = np.round(normal(200, 2))
    rows = np.concatenate([X, np.nextafter(X, np.inf), np.nextafter(X, -np.inf)])
    steps = PolynomialFeatures(), BernoulliNB(binarize=4.0)
    fitted = make_pipeline(*steps).fit(X, X.sum(axis=1) > 0)
    _, model = saved(fitted, X, tmp_path)
    np.testing.assert_allclose(model.predict_proba(rows), fitted.predict_proba(rows), 1e-6)


@pytest.mark.parametrize("bayes", [GaussianNB(), BernoulliNB(), MultinomialNB()])
def test_naive_bayes_behind_powers_is_computed_in_double(bayes, tmp_path):
    X = np.abs(normal(150))
    transformer = PolynomialFeatures()
    fitted = make_pipeline(transformer, bayes).fit(X, X[:, 0] > 2)
    manifest, _ = saved(fitted, X, tmp_path)
    assert manifest.parity.rtol == 1e-6
