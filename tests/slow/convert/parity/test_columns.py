"""What the parity check learns of hundreds of columns, and how often it asks for that."""

import numpy as np
import pandas as pd
import pytest
from helpers.packages import columns_of, saved
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


class Counting(LogisticRegression):
    """Counts the rows that it is asked about, at a time."""

    asked: list = []  # noqa: RUF012 - shared by copies on purpose

    def predict(self, X):
        self.asked.append(X.shape)
        return super().predict(X)


@pytest.mark.parametrize("width", [8, 160])
def test_saving_asks_as_often_for_many_columns_as_for_few(width, tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(49, width))).add_prefix("c")
    words = pd.DataFrame(rng.choice(["a", "b"], (49, width // 8))).add_prefix("w")
    X = pd.concat([X, words], axis=1)
    parts = (
        (SimpleImputer(), list(X.columns[:width])),
        (OneHotEncoder(handle_unknown="ignore"), list(words.columns)),
    )
    pipeline = make_pipeline(make_column_transformer(*parts), Counting()).fit(X, X["c0"] > 0)
    Counting.asked.clear()
    manifest, model = saved(pipeline, X, tmp_path, format="joblib")
    assert len(Counting.asked) < 90
    assert all(column.nullable for column in columns_of(manifest))
    holes = X.mask(rng.random(X.shape) < 0.2)
    np.testing.assert_array_equal(model.predict_proba(holes), pipeline.predict_proba(holes))


def test_one_column_that_may_not_be_missing_among_many(tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(99, 200))).add_prefix("c")
    rest = [name for name in X if name != "c77"]
    pipeline = make_pipeline(
        make_column_transformer((SimpleImputer(), rest), (StandardScaler(), ["c77"])),
        LogisticRegression(),
    ).fit(X, X["c0"] > 0)
    manifest, model = saved(pipeline, X, tmp_path)
    assert [column.name for column in columns_of(manifest) if not column.nullable] == ["c77"]
    holes = X.mask(rng.random(X.shape) < 0.2).assign(c77=X["c77"])
    np.testing.assert_allclose(model.predict_proba(holes), pipeline.predict_proba(holes), atol=1e-9)
