"""Feature selection: some of the columns, as they are."""

import numpy as np
import pytest
from helpers.packages import opened
from helpers.transformers import FRESH, LABELS, TRAIN, assert_same, assert_serves
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import (
    RFE,
    RFECV,
    GenericUnivariateSelect,
    SelectFdr,
    SelectFpr,
    SelectFromModel,
    SelectFwe,
    SelectKBest,
    SelectPercentile,
    SequentialFeatureSelector,
    VarianceThreshold,
)
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelkit.errors import ConversionError

SEED = {"random_state": 0}
SELECTORS = {
    "best": SelectKBest(k=3),
    "share": SelectPercentile(percentile=40),
    "false positives": SelectFpr(alpha=1e-3),
    "false discoveries": SelectFdr(alpha=1e-3),
    "family-wise": SelectFwe(alpha=1e-3),
    "any test": GenericUnivariateSelect(mode="k_best", param=2),
    "variance": VarianceThreshold(1.0),
    "of a model": SelectFromModel(Lasso(0.01)),
    "of a forest": SelectFromModel(RandomForestClassifier(5, **SEED), threshold="median"),
    "eliminated": RFE(RandomForestClassifier(3, **SEED), n_features_to_select=3),
    "eliminated in folds": RFECV(Ridge(), cv=2),
    "one by one": SequentialFeatureSelector(Ridge(), n_features_to_select=2, cv=2),
}


@pytest.mark.parametrize("name", SELECTORS)
def test_selected_columns(name, tmp_path):
    model = make_pipeline(SELECTORS[name], StandardScaler())
    assert_serves(model.fit(TRAIN, LABELS), tmp_path)


@pytest.mark.parametrize("kind", [RFE, RFECV])
def test_what_eliminates_columns_predicts_too(kind, tmp_path):
    model = kind(LogisticRegression(max_iter=5000)).fit(TRAIN / 100, LABELS)
    package = opened(model, TRAIN / 100, tmp_path)
    answer = package.run(FRESH / 100)
    np.testing.assert_array_equal(answer["label"], model.predict(FRESH / 100))
    assert_same(answer["probabilities"], model.predict_proba(FRESH / 100))


def test_a_selector_that_keeps_nothing_says_so(tmp_path):
    model = SelectFpr(alpha=1e-300).fit(TRAIN[:, :1], LABELS)
    with pytest.raises(ConversionError, match="passes on no column"):
        opened(model, TRAIN[:, :1], tmp_path)
