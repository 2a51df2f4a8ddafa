"""What a newcomer met with models of XGBoost and CatBoost."""

import numpy as np
import pytest
from helpers.frames import customers
from helpers.packages import loaded


def test_margins_of_xgboost_start_from_the_librarys_intercept_to_the_last_bit(tmp_path):
    xgboost = pytest.importorskip("xgboost")
    rng = np.random.default_rng(0)
    rows = rng.random((400, 3)).astype(np.float32)
    flips = 0
    for count in (104, 105, 106, 107, 108, 110, 111, 113):
        labels = np.zeros(400, int)
        labels[np.argsort(rows[:, 0] + rng.random(400))[:count]] = 1
        source = xgboost.XGBClassifier(n_estimators=5).fit(rows, labels)
        model = loaded(source, rows, tmp_path / "model.mk")
        flips += np.count_nonzero(model.predict_proba(rows) != source.predict_proba(rows))
    assert flips == 0


def test_categories_of_polars_do_not_end_the_process_that_saves_catboost(tmp_path):
    pl = pytest.importorskip("polars")
    catboost = pytest.importorskip("catboost")
    frame, paid = customers()
    source = catboost.CatBoostRegressor(
        iterations=5, verbose=0, cat_features=["contract", "partner"], allow_writing_files=False
    ).fit(frame, paid)
    coded = pl.from_pandas(frame).with_columns(
        pl.col("contract").cast(pl.Categorical), pl.col("partner").cast(pl.Enum(["no", "yes"]))
    )
    model = loaded(source, coded, tmp_path / "model.mk")
    np.testing.assert_allclose(model.predict(coded), source.predict(frame), rtol=1e-6)
