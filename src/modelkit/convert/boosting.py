"""Models of boosting libraries as estimators, and their columns of categories.

The only module that imports lightgbm and xgboost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modelkit._internal.arrays import is_a
from modelkit.convert.dtypes import categories_of
from modelkit.convert.steps import with_parts

LIBRARIES = ("xgboost", "lightgbm")
CLASSIFYING = (
    "binary",
    "multiclass",
    "multiclassova",
)  # objectives of LightGBM whose answers are probabilities
SHARES = ("binary:logistic", "multi:softprob")  # those of XGBoost


def is_catboost(source: object) -> bool:
    """Whether `source` is a CatBoost model, without importing catboost."""
    return is_a(source, "catboost", "CatBoost")


def trained_names(estimator: Any) -> list[str]:
    """The names of the columns that fit was given; empty where it was given none.

    CatBoost numbers the columns of an array.
    """
    names = [str(name) for name in getattr(estimator, "feature_names_in_", [])]
    if is_catboost(estimator):
        names = [str(name) for name in estimator.feature_names_ or []]
        return [] if names == [str(place) for place in range(len(names))] else names
    return names


def is_booster(source: object) -> bool:
    """Whether `source` is a Booster of XGBoost or LightGBM, without importing them."""
    return is_a(source, "xgboost", "Booster") or is_a(source, "lightgbm", "Booster")


def as_estimator(source: Any) -> Any:
    """A Booster inside a regressor that answers as it does; anything else as it is."""
    if is_a(source, "xgboost", "Booster"):
        return _xgboost_regressor(source)
    if is_a(source, "lightgbm", "Booster"):
        return _lightgbm_regressor(source)
    return source


def gives_probabilities(regressor: Any) -> bool:
    """Whether a regressor answers with probabilities, which its trees were trained for."""
    if is_a(regressor, "xgboost", "XGBRegressor"):
        config = json.loads(regressor.get_booster().save_config())
        objective = config["learner"]["objective"]
        return objective["name"] in SHARES
    if is_a(regressor, "lightgbm", "LGBMRegressor"):
        return _objective(regressor.booster_) in CLASSIFYING
    return False


def _xgboost_regressor(booster: Any) -> Any:
    """The regressor that answers as a Booster: by all trees, whichever iteration was the best."""
    from xgboost import XGBRegressor

    whole = booster.copy()
    whole.set_attr(best_iteration=None, best_score=None, scikit_learn=None)
    estimator = XGBRegressor()
    estimator.load_model(bytearray(whole.save_raw("ubj")))
    return estimator


def _objective(booster: Any) -> str:
    """The objective of a Booster of LightGBM; "custom" for one of its user's."""
    said = booster.dump_model(num_iteration=1).get("objective", "")
    return str((said.split() or ["custom"])[0])


def _lightgbm_regressor(booster: Any) -> Any:
    """The regressor that answers as a Booster: up to the best iteration, if there is one."""
    from lightgbm import Booster, LGBMRegressor

    best = booster.best_iteration
    if 0 < best < booster.current_iteration():
        booster = Booster(model_str=booster.model_to_string(num_iteration=best))
    said = booster.dump_model(num_iteration=1)
    estimator = LGBMRegressor(
        boosting_type="rf" if said.get("average_output", False) else "gbdt",
        n_jobs=0,  # as many threads as a Booster takes
    )
    if said["num_class"] > 1:
        estimator.set_params(num_class=said["num_class"])
    # What fit would have set; there is no public way, and the parity check shows whether it holds.
    columns = booster.num_feature()
    estimator.__dict__.update(
        _Booster=booster,
        _objective=_objective(booster),
        _n_features=columns,
        _n_features_in=columns,
        fitted_=True,
    )
    return estimator


def catboost_values(model: Any, rows: Any) -> dict[str, tuple[Any, ...]]:
    """The values of the columns that a CatBoost model may take as categories, by column.

    It knows them by their hashes only.
    """
    parts = [part for part in with_parts(model) if is_catboost(part)]
    by_category = any(part.get_cat_feature_indices() for part in parts)
    if not by_category or not is_a(rows, "pandas", "DataFrame"):
        return {}
    return {
        str(name): tuple(column.dropna().unique().tolist())
        for name, column in rows.items()
        if getattr(column.dtype, "kind", "O") != "f"
    }


def miscoded(model: Any, known: Mapping[str, tuple[Any, ...]]) -> frozenset[str]:
    """The columns of categories with letters beyond ASCII that XGBoost reads as categories.

    It counts letters where it cuts bytes, so that its answers to other categories are chance.
    """
    beyond = {name for name, values in known.items() if not "".join(map(str, values)).isascii()}
    found = set[str]()
    for part in with_parts(model):
        if is_a(part, "xgboost", "XGBModel"):
            booster = part.get_booster()
            kinds = zip(booster.feature_names or [], booster.feature_types or [], strict=False)
            found |= {name for name, kind in kinds if kind == "c"}
    return frozenset(beyond & found)


def categories(model: Any, rows: Any) -> dict[str, tuple[Any, ...]]:
    """The categories of the columns that a model takes as pandas categories, by column."""
    libraries = {type(part).__module__.partition(".")[0] for part in with_parts(model)}
    return categories_of(rows) if libraries.intersection(LIBRARIES) else {}
