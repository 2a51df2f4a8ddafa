"""Everyday models of XGBoost, LightGBM and CatBoost: gaps, categories, booleans, objectives, rankers, stacks, Boosters."""

from __future__ import annotations

import catboost
import lightgbm
import numpy as np
import xgboost
from benchmarks.conversion import rows
from benchmarks.conversion.columns import onehot, ordinals, prepared
from benchmarks.conversion.everyday import Everyday, Native
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import (
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, StandardScaler

ONE = {"n_estimators": 20, "n_jobs": 1}
QUIET = {
    "iterations": 20,
    "verbose": 0,
    "allow_writing_files": False,
    "thread_count": 1,
    "random_seed": 0,
}


def xgb(**options):
    return xgboost.XGBClassifier(**(ONE | options))


def xgbr(**options):
    return xgboost.XGBRegressor(**(ONE | options))


def lgb(**options):
    return lightgbm.LGBMClassifier(verbose=-1, **(ONE | options))


def lgbr(**options):
    return lightgbm.LGBMRegressor(verbose=-1, **(ONE | options))


def cat(**options):
    return catboost.CatBoostClassifier(**(QUIET | options))


def catr(**options):
    return catboost.CatBoostRegressor(**(QUIET | options))


def tens(count):
    """Queries of ten rows, as LightGBM takes them."""
    return {"group": [10] * (count // 10)}


def queries(count):
    return {"qid": np.arange(count) // 10}


def numbered(data):
    """Rows with their classes as numbers, which XGBoost asks for."""
    X, y = data
    return X, LabelEncoder().fit_transform(y)


def train_xgboost(objective, **parameters):
    known = {"objective": objective, "nthread": 1} | parameters
    return Native(
        lambda X, y: xgboost.train(known, xgboost.DMatrix(X, y, enable_categorical=True), 20)
    )


def train_lightgbm(objective, **parameters):
    known = {"objective": objective, "num_threads": 1, "verbose": -1} | parameters
    return Native(lambda X, y: lightgbm.train(known, lightgbm.Dataset(X, y), 20))


def good_wine():
    X, y = rows.wine_frame()
    return X, y.astype(int)


def share():
    """A target between 0 and 1."""
    X, y = rows.cancer()
    return X, 0.2 + 0.6 * y


def penguin_words():
    """Words without gaps, which CatBoost takes as they are."""
    X, y = rows.penguins()
    return X.assign(
        sex=X["sex"].astype(object).where(X["sex"].notna(), "unknown"),
        island=X["island"].astype(object),
    ), y


def counts():
    return rows.doctors()


BOOSTERS = [
    Everyday("XGBoost: tumours", xgb, rows.cancer_frame),
    Everyday("XGBoost: tumours with gaps", xgb, rows.cancer_gaps),
    Everyday("XGBoost: wine, 3 classes", xgb, rows.wine),
    Everyday("XGBoost: columns of booleans", xgb, rows.tips_dummies),
    Everyday("XGBoost: categories of words and integers", lambda: xgb(enable_categorical=True), rows.tips_categories),
    Everyday("XGBoost: categories with gaps", lambda: xgb(enable_categorical=True), lambda: numbered(rows.penguin_categories())),
    Everyday("XGBoost: categories, regression", lambda: xgbr(enable_categorical=True), rows.penguin_mass_categories),
    Everyday("XGBoost: behind ordinals with gaps", lambda: ordinals(xgb()), lambda: numbered(rows.penguins())),
    Everyday("XGBoost: behind sparse indicators", lambda: prepared(xgb()), lambda: numbered(rows.mpg_class())),
    Everyday("XGBoost: expenses, Tweedie", lambda: ordinals(xgbr(objective="reg:tweedie")), rows.med_expenses),
    Everyday("XGBoost: visits, Poisson", lambda: xgbr(objective="count:poisson"), counts),
    Everyday("XGBoost: tips, gamma", lambda: ordinals(xgbr(objective="reg:gamma")), rows.tips),
    Everyday("XGBoost: a share, logistic", lambda: xgbr(objective="reg:logistic"), share),
    Everyday("XGBoost: absolute error", lambda: xgbr(objective="reg:absoluteerror"), rows.diabetes_raw),
    Everyday("XGBoost: two targets", xgbr, rows.diabetes_two),
    Everyday("XGBoost: a model a target", lambda: MultiOutputRegressor(xgbr()), rows.diabetes_two),
    Everyday("XGBoost: forest", lambda: xgboost.XGBRFClassifier(**ONE), rows.cancer),
    Everyday("XGBoost: DART", lambda: xgb(booster="dart", rate_drop=0.1), rows.cancer),
    Everyday("XGBoost: linear booster", lambda: xgb(booster="gblinear"), rows.cancer),
    Everyday("XGBoost: ranker", lambda: xgboost.XGBRanker(**ONE), good_wine, queries),
    Everyday("XGBoost: Booster, two classes", lambda: train_xgboost("binary:logistic"), rows.cancer),
    Everyday("XGBoost: Booster, softmax", lambda: train_xgboost("multi:softmax", num_class=3), rows.wine),
    Everyday("XGBoost: Booster, squared error", lambda: train_xgboost("reg:squarederror"), rows.diabetes),
    Everyday("XGBoost: search", lambda: GridSearchCV(xgb(), {"max_depth": [2, 4]}, cv=3), rows.wine),
    Everyday("XGBoost: isotonic calibration", lambda: CalibratedClassifierCV(xgb(), method="isotonic", cv=3), rows.cancer),
    Everyday("XGBoost: log of the target", lambda: TransformedTargetRegressor(ordinals(xgbr()), func=np.log1p, inverse_func=np.expm1), rows.diamonds),
    Everyday("LightGBM: tumours", lgb, rows.cancer_frame),
    Everyday("LightGBM: tumours of one decimal with gaps", lgb, rows.cancer_gaps),
    Everyday("LightGBM: wine, 3 classes", lgb, rows.wine),
    Everyday("LightGBM: categories of words and integers", lgb, rows.tips_categories),
    Everyday("LightGBM: categories with gaps", lgb, rows.penguin_categories),
    Everyday("LightGBM: categories, many", lgb, rows.males_categories),
    Everyday("LightGBM: categories, regression", lgbr, rows.penguin_mass_categories),
    Everyday("LightGBM: words and categories -> expenses", lambda: ordinals(lgbr()), rows.med_expenses),
    Everyday("LightGBM: behind indicators", lambda: prepared(lgb(), words=onehot(sparse_output=False)), rows.males_union),
    Everyday("LightGBM: columns of booleans", lgb, rows.tips_dummies),
    Everyday("LightGBM: visits, Poisson", lambda: lgbr(objective="poisson"), counts),
    Everyday("LightGBM: expenses, Tweedie", lambda: ordinals(lgbr(objective="tweedie")), rows.med_expenses),
    Everyday("LightGBM: gamma", lambda: lgbr(objective="gamma"), rows.diabetes_raw),
    Everyday("LightGBM: quantile", lambda: lgbr(objective="quantile", alpha=0.9), rows.diabetes_gaps),
    Everyday("LightGBM: mean absolute percentage", lambda: lgbr(objective="mape"), rows.diabetes_raw),
    Everyday("LightGBM: Huber", lambda: lgbr(objective="huber"), rows.carshare),
    Everyday("LightGBM: cross entropy", lambda: lgbr(objective="cross_entropy"), share),
    Everyday("LightGBM: one class against all", lambda: lgb(objective="multiclassova"), rows.wine),
    Everyday("LightGBM: DART", lambda: lgb(boosting_type="dart"), rows.cancer),
    Everyday("LightGBM: forest", lambda: lgb(boosting_type="rf", bagging_freq=1, bagging_fraction=0.7), rows.cancer),
    Everyday("LightGBM: linear trees", lambda: lgbr(linear_tree=True), rows.diabetes_raw),
    Everyday("LightGBM: ranker", lambda: lightgbm.LGBMRanker(verbose=-1, **ONE), good_wine, tens),
    Everyday("LightGBM: Booster, two classes", lambda: train_lightgbm("binary"), rows.cancer),
    Everyday("LightGBM: Booster, 3 classes", lambda: train_lightgbm("multiclass", num_class=3), rows.wine),
    Everyday("LightGBM: search over a pipeline", lambda: GridSearchCV(make_pipeline(SimpleImputer(), lgb()), {"lgbmclassifier__num_leaves": [7, 15]}, cv=3), rows.pima),
    Everyday("LightGBM: sigmoid calibration", lambda: CalibratedClassifierCV(lgb(), method="sigmoid", cv=3), rows.cancer_gaps),
    Everyday("CatBoost: tumours", cat, rows.cancer_frame),
    Everyday("CatBoost: tumours with gaps", cat, rows.cancer_gaps),
    Everyday("CatBoost: wine, 3 classes", cat, rows.wine),
    Everyday("CatBoost: true or false", cat, rows.cancer_true_false),
    Everyday("CatBoost: regression with gaps", catr, rows.diabetes_gaps),
    Everyday("CatBoost: words, cat_features", lambda: cat(cat_features=["island", "sex"]), penguin_words),
    Everyday("CatBoost: words one-hot, cat_features", lambda: cat(cat_features=["island", "sex"], one_hot_max_size=10), penguin_words),
    Everyday("CatBoost: categories, cat_features", lambda: catr(cat_features=["sex", "smoker", "day", "time"]), rows.tips),
    Everyday("CatBoost: visits, Poisson", lambda: catr(loss_function="Poisson"), counts),
    Everyday("CatBoost: Tweedie", lambda: catr(loss_function="Tweedie:variance_power=1.5"), rows.diabetes_raw),
    Everyday("CatBoost: two targets", lambda: catr(loss_function="MultiRMSE"), rows.diabetes_two),
    Everyday("CatBoost: quantile", lambda: catr(loss_function="Quantile:alpha=0.9"), rows.diabetes_raw),
    Everyday("CatBoost: behind ordinals", lambda: ordinals(cat()), rows.penguins),
    Everyday("CatBoost: ranker", lambda: catboost.CatBoostRanker(**QUIET, loss_function="YetiRank"), good_wine, lambda count: {"group_id": np.arange(count) // 10}),
    Everyday("stack of XGBoost, LightGBM and logistic", lambda: StackingClassifier([("x", xgb()), ("l", lgb()), ("r", make_pipeline(StandardScaler(), LogisticRegression()))], LogisticRegression(), cv=3), rows.cancer),
    Everyday("stack of three libraries, regression", lambda: StackingRegressor([("x", xgbr()), ("l", lgbr()), ("c", catr())], RidgeCV(), cv=3), rows.diabetes_raw),
    Everyday("votes of XGBoost, LightGBM and CatBoost", lambda: VotingClassifier([("x", xgb()), ("l", lgb()), ("c", cat())], voting="soft"), rows.wine),
    Everyday("votes of boosters behind a ColumnTransformer", lambda: ordinals(VotingRegressor([("x", xgbr()), ("l", lgbr())])), rows.baseball),
    Everyday("LightGBM behind columns by name and the rest", lambda: make_pipeline(make_column_transformer((SimpleImputer(), ["V6"]), remainder="passthrough"), lgb()), rows.biopsy),
]  # fmt: skip
