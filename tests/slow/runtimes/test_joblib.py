"""Estimators of other libraries that train, in joblib packages."""

import numpy as np
import pytest
from helpers.packages import trusted

import modelkit as mk
from modelkit.testing import check_model


@pytest.mark.parametrize("library", ["xgboost", "lightgbm", "catboost"])
def test_estimators_of_other_libraries_name_the_library_they_need(library, penguins, tmp_path):
    training = pytest.importorskip(library)
    X, y = penguins
    X = X.drop(columns="sex").fillna(0).astype({"island": "category"})
    codes = y.astype("category").cat.codes.to_numpy()
    if library == "xgboost":
        estimator = training.XGBClassifier(n_estimators=5, enable_categorical=True).fit(X, codes)
    elif library == "lightgbm":
        estimator = training.LGBMClassifier(n_estimators=5, verbose=-1).fit(X, codes)
    else:
        X["island"] = X["island"].astype(object)
        estimator = training.CatBoostClassifier(
            iterations=5,
            verbose=False,
            cat_features=["island"],
            allow_writing_files=False,
            thread_count=1,
        ).fit(X, codes)
    manifest = mk.save(
        estimator, tmp_path / "m.mk", example=X, name="m", version="1", format="joblib"
    )
    assert any(needed.startswith(library) for needed in manifest.requires), manifest.requires
    with trusted(tmp_path / "m.mk") as model:
        check_model(model, X[:30])
        np.testing.assert_array_equal(model.predict(X), np.ravel(estimator.predict(X)))


def test_rankers_can_be_pickled(tmp_path):
    lightgbm = pytest.importorskip("lightgbm")
    A = np.random.default_rng(0).normal(size=(60, 3))
    ranker = lightgbm.LGBMRanker(n_estimators=3, verbose=-1).fit(
        A, (A[:, 0] > 0).astype(int), group=[20, 20, 20]
    )
    mk.save(ranker, tmp_path / "m.mk", example=A, name="m", version="1", format="joblib")
    np.testing.assert_array_equal(trusted(tmp_path / "m.mk").predict(A), ranker.predict(A))
