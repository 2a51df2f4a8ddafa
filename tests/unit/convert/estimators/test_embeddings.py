"""RandomTreesEmbedding: a column for each leaf."""

import numpy as np
from helpers.packages import opened
from helpers.transformers import FRESH, LABELS, TRAIN, assert_same, assert_serves
from sklearn.ensemble import RandomTreesEmbedding
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

SEED = {"random_state": 0}


def test_leaves_of_random_trees(tmp_path):
    assert_serves(RandomTreesEmbedding(7, **SEED).fit(TRAIN), tmp_path)
    model = make_pipeline(RandomTreesEmbedding(5, max_depth=3, **SEED), LogisticRegression())
    package = opened(model.fit(TRAIN, LABELS), TRAIN, tmp_path)
    answer = package.run(FRESH)
    np.testing.assert_array_equal(answer["label"], model.predict(FRESH))
    assert_same(answer["probabilities"], model.predict_proba(FRESH))
