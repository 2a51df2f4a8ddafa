"""The parity check: a graph that answers otherwise than its source is not saved, and the step at fault is named."""

import numpy as np
import pytest
from helpers.messages import check_message
from helpers.packages import saved
from sklearn import datasets
from sklearn.datasets import load_iris
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, MaxAbsScaler, MinMaxScaler, StandardScaler

import modelkit as mk
from modelkit.convert.estimators import table
from modelkit.convert.estimators.table import TENSOR_CONVERTERS
from modelkit.convert.estimators.tensors import Answer, Columns
from modelkit.errors import ParityError

IRIS = datasets.load_iris(return_X_y=True)


def test_a_disagreement_saves_nothing(tmp_path, monkeypatch):
    name = "sklearn.KNeighborsClassifier"
    right = TENSOR_CONVERTERS[name]

    def wrong(estimator, columns, at):
        other = KNeighborsClassifier(estimator.n_neighbors + 4)
        return right(other.fit(estimator._fit_X, estimator._y), columns, at)

    monkeypatch.setitem(TENSOR_CONVERTERS, name, wrong)
    neighbours = KNeighborsClassifier().fit(*IRIS)
    with pytest.raises(
        ParityError, match=r"disagrees with scikit-learn KNeighborsClassifier .* nothing was saved"
    ):
        mk.save(neighbours, tmp_path / "m.mk", example=IRIS[0], name="m", version="1")
    assert list(tmp_path.iterdir()) == []


X, Y = (array[::3] for array in load_iris(return_X_y=True))
GAPS = X.copy()
GAPS[::3, 0] = np.nan


def widening(estimator, columns, at):
    """A converter that is wrong: columns as they are."""
    return Answer(table=columns)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (X, "nothing was saved: use format='joblib'$"),
        (GAPS, "nothing was saved: use format='joblib'$"),  # which are imputed before
    ],
)
def test_a_graph_that_parts_names_the_first_step_that_does(rows, words, tmp_path, monkeypatch):
    monkeypatch.setitem(table.TENSOR_CONVERTERS, "sklearn.MinMaxScaler", widening)
    model = make_pipeline(SimpleImputer(), MinMaxScaler(), LogisticRegression()).fit(rows, Y)
    with pytest.raises(ParityError, match=words) as caught:
        saved(model, rows, tmp_path)
    check_message(caught.value)
    place = "step 'minmaxscaler' (pipeline step 2 of 3)"
    assert str(caught.value).startswith(
        f"{place}: the converted graph disagrees with scikit-learn MinMaxScaler"
    )
    assert (caught.value.step, caught.value.place) == ("MinMaxScaler", place)
    assert caught.value.parity.max_rel > 0.1
    assert list(tmp_path.iterdir()) == []


def test_the_step_before_a_jump_is_named(tmp_path, monkeypatch):
    def nudged(estimator, columns, at):
        return Answer(table=Columns((columns.matrix(np.float64) * (1 - 2.0**-52),)))

    monkeypatch.setitem(table.TENSOR_CONVERTERS, "sklearn.MaxAbsScaler", nudged)
    same = MaxAbsScaler().fit(np.ones((2, X.shape[1])))
    bins = KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf").fit(X)
    model = Pipeline([("scale", same), ("bins", bins), ("last", LogisticRegression())])
    model[-1].fit(model[:-1].transform(X), Y)
    with pytest.raises(ParityError, match=r"'decimals': 9}\) behind step 'scale'") as caught:
        saved(model, X, tmp_path)
    check_message(caught.value)
    assert caught.value.place == "step 'bins' (pipeline step 2 of 3)"


def test_a_last_step_that_parts_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(table.TENSOR_CONVERTERS, "sklearn.MinMaxScaler", widening)
    for model, place in (
        (
            make_pipeline(StandardScaler(), MinMaxScaler()),
            "step 'minmaxscaler' (pipeline step 2 of 2)",
        ),
        (MinMaxScaler(), ""),
    ):
        with pytest.raises(ParityError) as caught:
            saved(model.fit(X), X, tmp_path)
        check_message(caught.value)
        assert (caught.value.step, caught.value.place) == ("MinMaxScaler", place)
