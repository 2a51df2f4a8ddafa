"""Values are of raw columns, whatever encodes them."""

import warnings

import numpy as np
import pytest
from helpers.coalitions import (
    LIBRARIES,
    SEED,
    agree,
    brute_by_codes,
    margin,
    penguin_pipeline,
    saved,
)
from helpers.examples import some
from helpers.kinds import penguins
from sklearn import decomposition, ensemble, linear_model
from sklearn.pipeline import make_pipeline

import modelkit as mk

pytestmark = pytest.mark.usefixtures("one_thread")


def by_name(value):
    return value if isinstance(value, str) else ""


def raw_models():
    yield "boosting", "trees", lambda: ensemble.GradientBoostingClassifier(n_estimators=15, **SEED)
    yield "forest", "trees", lambda: ensemble.RandomForestClassifier(10, max_depth=6, **SEED)
    yield "linear", "additive", lambda: linear_model.LogisticRegression(max_iter=1000)
    yield (
        "rotated",
        "enumeration",
        lambda: make_pipeline(
            decomposition.PCA(4, **SEED),
            ensemble.GradientBoostingClassifier(n_estimators=10, **SEED),
        ),
    )
    if LIBRARIES:
        import lightgbm
        import xgboost

        yield "xgboost", "trees", lambda: xgboost.XGBClassifier(n_estimators=15, n_jobs=1)
        yield (
            "lightgbm",
            "trees",
            lambda: lightgbm.LGBMClassifier(n_estimators=15, n_jobs=1, verbose=-1),
        )


@some(("name", "method", "make"), list(raw_models()), 2, ids=by_name)
def test_values_are_of_raw_columns_whatever_encodes_them(name, method, make, tmp_path):
    X, y = penguins()
    y = (
        (y == "Adelie").astype(int)
        if name in ("rotated", "lightgbm")
        else y.astype("category").cat.codes.to_numpy()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = penguin_pipeline(make()).fit(X, y)
        model = saved(estimator, tmp_path, X)
        rows, background = X.iloc[[0, 3, 8, 150, 271, 320]], X.iloc[::23]
        explainer = mk.Explainer(model, background=background)
        explanation = explainer.explain(rows)
        assert explanation.method == method, explainer.plan()
        assert explanation.exact
        assert explanation.feature_names == tuple(X.columns)
        # The row with gaps.
        assert explanation.data[1, 1] is None or np.isnan(explanation.data[1, 1])
        if name == "rotated":
            assert "depend on several raw columns" in str(explainer.plan())
        in_margins = explanation.output_space == "raw_score"

        def f(mixed):
            if not in_margins:
                return model.predict_proba(mixed)
            prepared = estimator[:-1].transform(mixed)
            return margin(estimator[-1])(prepared)

        agree(explanation, *brute_by_codes(f, rows, background, in_margins))
