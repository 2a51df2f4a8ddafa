"""The categories of encoders reach the signature, whatever holds the encoders."""

import numpy as np
import pandas as pd
import pytest
from helpers.examples import some
from helpers.frames import customers
from helpers.packages import opened
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

import modelkit as mk


def strict(last):
    columns = make_column_transformer(
        (StandardScaler(), ["months"]),
        (OneHotEncoder(), ["contract"]),
        (OrdinalEncoder(), ["partner"]),
    )
    return make_pipeline(columns, last)


def of_target(regressor):
    return TransformedTargetRegressor(regressor, func=np.log1p, inverse_func=np.expm1)


HOLDERS = {
    "calibrated": lambda: CalibratedClassifierCV(strict(LogisticRegression()), cv=2),
    "fixed threshold": lambda: FixedThresholdClassifier(
        strict(LogisticRegression()), threshold=0.3
    ),
    "tuned threshold": lambda: TunedThresholdClassifierCV(strict(LogisticRegression()), cv=2),
    "target": lambda: of_target(strict(Ridge())),
    "search of a target": lambda: GridSearchCV(
        of_target(strict(Ridge())), {"regressor__ridge__alpha": [1.0, 2.0]}, cv=2
    ),
}


@some("name", HOLDERS, ["calibrated", "target"])
def test_encoders_inside_what_holds_a_pipeline_tell_their_categories(name, tmp_path):
    frame, paid = customers()
    target = paid if "target" in name else (paid > 120).map({True: "much", False: "little"})
    source = HOLDERS[name]().fit(frame, target)
    model = opened(source, frame, tmp_path)
    answers = model.predict(frame)
    if "target" in name:
        np.testing.assert_allclose(answers, source.predict(frame), rtol=1e-6)
    else:
        np.testing.assert_array_equal(answers, source.predict(frame))
    with pytest.raises(mk.errors.SignatureError, match="contract"):
        model.predict(frame[:1].assign(contract="decade"))


def test_encoders_inside_a_frozen_pipeline_tell_their_categories(tmp_path):
    frame, paid = customers()
    target = paid > 120
    frozen = FrozenEstimator(strict(LogisticRegression()).fit(frame, target))
    source = CalibratedClassifierCV(frozen).fit(frame, target)
    model = opened(source, frame, tmp_path)
    np.testing.assert_array_equal(model.predict(frame), source.predict(frame))


def passengers():
    """Booleans with gaps, as read_csv gives them: objects."""
    rng = np.random.default_rng(0)
    asleep = rng.choice(np.array([True, False, np.nan], object), 300, p=[0.4, 0.5, 0.1])
    frame = pd.DataFrame({"asleep": asleep, "age": rng.integers(0, 80, 300).astype(float)})
    return frame, (frame["asleep"] == True) | (frame["age"] < 20)  # noqa: E712 - of objects


ENCODERS = {
    "filled": lambda: make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
    "a category": lambda: OneHotEncoder(handle_unknown="ignore"),
    "ordinal": lambda: OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_booleans_with_gaps_are_columns(name, tmp_path):
    frame, target = passengers()
    columns = ColumnTransformer([("asleep", ENCODERS[name](), ["asleep"])], remainder="passthrough")
    source = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=5)).fit(frame, target)
    model = opened(source, frame, tmp_path)
    assert model.signature.inputs[0].columns[0].dtype == "bool"
    gaps = frame.assign(asleep=np.array([np.nan] * len(frame), object))
    for rows in (frame, gaps, frame[frame["asleep"].notna()]):
        np.testing.assert_allclose(model.predict_proba(rows), source.predict_proba(rows), rtol=1e-6)
    with pytest.raises(mk.errors.SignatureError, match="asleep"):
        model.predict(frame[:1].assign(asleep=["yes"]))
