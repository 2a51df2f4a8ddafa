"""What the parity check learns of the columns of an example, and what it asks for that."""

import numpy as np
import pandas as pd
import pytest
from helpers.kinds import wine, wine_holes
from helpers.packages import columns_of, saved
from helpers.rows import trips
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from modelkit.convert.parity.columns import AGREES, DISAGREES, MOST_QUESTIONS, REFUSED, sort_out
from modelkit.errors import SignatureError


def judge_by(verdicts):
    """Judges groups by the verdicts on their columns, none where one is refused; counts the questions."""
    asked = []

    def judge(group):
        asked.append(group)
        found = {i: verdicts.get(i, AGREES) for i in group}
        return None if REFUSED in found.values() else found

    return judge, asked


@pytest.mark.parametrize(
    ("wrong", "most"),
    [
        ({}, 1),
        ({617: REFUSED}, 25),
        ({0: DISAGREES, 999: REFUSED}, 25),
        (dict.fromkeys(range(0, 1000, 7), DISAGREES), 1),
    ],
    ids=["none", "one", "two", "many rows that differ"],
)
def test_columns_at_fault_are_found_with_few_questions(wrong, most):
    judge, asked = judge_by(wrong)
    verdicts = sort_out(list(range(1000)), judge)
    assert {i: verdict for i, verdict in verdicts.items() if verdict != AGREES} == wrong
    assert len(asked) <= most


@pytest.mark.parametrize("wrong", [range(64), range(0, 64, 2), [5], []])
def test_every_column_of_64_is_known(wrong):
    judge, _ = judge_by(dict.fromkeys(wrong, REFUSED))
    verdicts = sort_out(list(range(64)), judge)
    assert [i for i in range(64) if verdicts[i] == REFUSED] == list(wrong)


def test_where_every_column_is_refused_the_questions_end():
    judge, asked = judge_by(dict.fromkeys(range(1000), REFUSED))
    assert sort_out(list(range(1000)), judge) == dict.fromkeys(range(1000), REFUSED)
    assert len(asked) == MOST_QUESTIONS


class Lower(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return X.assign(sex=X["sex"].str.lower())


class AddColumn(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        X = X.copy()
        X.insert(0, "log", np.log1p(X["fare"]))
        return X


@pytest.mark.parametrize(
    "first", [Lower(), AddColumn(), make_pipeline(Lower(), AddColumn())], ids=str
)
def test_a_transformer_in_front_changes_values_and_columns(first, tmp_path):
    X, y = trips()
    rest = make_column_transformer((StandardScaler(), ["fare"]), (OneHotEncoder(), ["sex"]))
    pipeline = make_pipeline(first, rest, LogisticRegression()).fit(X, y)
    manifest, model = saved(pipeline, X, tmp_path, format="joblib")
    np.testing.assert_array_equal(model.predict_proba(X), pipeline.predict_proba(X))
    assert model.verify() == 0.0
    assert all(column.categories is None for column in columns_of(manifest))
    with pytest.raises(ValueError, match="Found unknown categories"):  # as the pipeline itself says
        model.predict(X.assign(sex="X"))


@pytest.mark.parametrize(
    "steps",
    [
        lambda: [SimpleImputer(strategy="most_frequent"), OneHotEncoder()],
        lambda: [FunctionTransformer(), OneHotEncoder()],
        lambda: ["passthrough", make_pipeline(FunctionTransformer(), FunctionTransformer()), OneHotEncoder()],
    ],
)  # fmt: skip
def test_steps_that_leave_a_column_as_it_is_leave_its_categories(steps, tmp_path):
    X, y = trips()
    X = X[["sex"]]
    pipeline = make_pipeline(*steps(), LogisticRegression()).fit(X, y)
    manifest, model = saved(pipeline, X, tmp_path, format="joblib")
    assert columns_of(manifest)[0].categories == ("F", "M")
    with pytest.raises(SignatureError, match="unknown category 'X' in row 0"):
        model.predict([{"sex": "X"}])


def test_a_scaled_column_does_not_have_the_categories_of_what_became_of_it(tmp_path):
    X, y = trips()
    X = X[["age"]] // 30
    pipeline = make_pipeline(StandardScaler(), OneHotEncoder(), LogisticRegression()).fit(X, y)
    manifest, model = saved(pipeline, X, tmp_path, format="joblib")
    assert columns_of(manifest)[0].categories is None
    np.testing.assert_array_equal(model.predict(X), pipeline.predict(X))


class LoweringPipeline(Pipeline):
    def predict(self, X):
        return super().predict(X.assign(sex=X["sex"].str.lower()))

    def predict_proba(self, X):
        return super().predict_proba(X.assign(sex=X["sex"].str.lower()))

    def decision_function(self, X):
        return super().decision_function(X.assign(sex=X["sex"].str.lower()))


def test_categories_that_the_example_goes_beyond_are_those_of_something_else(tmp_path):
    X, y = trips()
    steps = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["sex"])), LogisticRegression()
    ).steps
    pipeline = LoweringPipeline(steps).fit(X.assign(sex=X["sex"].str.lower()), y)
    manifest, model = saved(pipeline, X, tmp_path, format="joblib")
    assert all(column.categories is None for column in columns_of(manifest))
    np.testing.assert_array_equal(model.predict_proba(X), pipeline.predict_proba(X))


class FewGaps(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        if X.isna().to_numpy().mean() > 0.1:
            raise ValueError("too many gaps")
        return X.fillna(0)


def test_gaps_of_the_example_are_taken_where_the_source_takes_few(tmp_path):
    X, y = trips()
    X = X[["fare"]].mask(X.index.to_numpy()[:, None] == 3)
    pipeline = make_pipeline(FewGaps(), LogisticRegression()).fit(X, y)
    _, model = saved(pipeline, X, tmp_path, format="joblib")
    np.testing.assert_array_equal(model.predict_proba(X), pipeline.predict_proba(X))
    with pytest.raises(ValueError, match="too many gaps"):
        model.predict([{"fare": None}])


def test_codes_beyond_those_of_the_encoder_are_asked_for(tmp_path):
    X = pd.DataFrame({"shop": np.arange(2000) % 100})
    pipeline = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(X, X["shop"] > 50)
    manifest, model = saved(pipeline, X[:50], tmp_path)  # whose next code, 50, is known as well
    assert columns_of(manifest)[0].categories == tuple(range(100))
    np.testing.assert_allclose(model.predict_proba(X), pipeline.predict_proba(X), atol=1e-6)


def test_nullability_does_not_depend_on_the_example(tmp_path):
    X, y = wine_holes()
    forest = RandomForestClassifier(5, random_state=0).fit(X, y)
    whole, _ = saved(forest, wine()[0], tmp_path)
    holed, _ = saved(forest, X, tmp_path)
    assert whole.signature == holed.signature
    assert all(column.nullable for column in whole.signature.inputs[0].columns)
