"""Why a graph parts from its source."""

import numpy as np
import pytest
from helpers.messages import check_message
from helpers.packages import saved
from helpers.strangers import Centered
from sklearn.datasets import load_iris
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from modelkit.convert.estimators import table
from modelkit.convert.estimators.tensors import Answer, Columns
from modelkit.errors import ParityError

X, Y = (array[::3] for array in load_iris(return_X_y=True))
GAPS = X.copy()
GAPS[::3, 0] = np.nan


def widening(estimator, columns, at):
    """A converter that is wrong: columns as they are."""
    return Answer(table=columns)


def test_gaps_are_blamed_where_the_two_agree_without_them(tmp_path, monkeypatch):
    def zeros(estimator, columns, at):
        rows = columns.matrix(np.float64)
        return Answer(table=Columns((np.where(np.isnan(rows), 0.0, rows),)))

    monkeypatch.setitem(table.TENSOR_CONVERTERS, "sklearn.SimpleImputer", zeros)
    with pytest.raises(ParityError, match="agree on the rows of the example without") as caught:
        saved(SimpleImputer().fit(GAPS), GAPS, tmp_path)
    check_message(caught.value)


def test_rows_that_depend_on_one_another_are_told(tmp_path, monkeypatch):
    monkeypatch.setitem(table.TENSOR_CONVERTERS, "helpers.Centered", widening)
    model = make_pipeline(Centered(), LogisticRegression()).fit(X, Y)
    with pytest.raises(ParityError, match="depends on the rows that it is asked with") as caught:
        saved(model, X, tmp_path)
    check_message(caught.value)
    assert caught.value.place == "step 'centered' (pipeline step 1 of 2)"
