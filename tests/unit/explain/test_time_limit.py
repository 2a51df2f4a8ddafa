"""A deadline of an explanation."""

from math import inf

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

import modelkit as mk
from modelkit.errors import DeadlineExceeded
from modelkit.explain import time_limit

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.filterwarnings("ignore")  # of shap, as it is imported
@pytest.mark.parametrize("method", ["sampling", "enumeration", "lime", "shap:kernel"])
def test_no_run_of_the_model_begins_after_the_deadline(method, monkeypatch):
    """By a clock that goes while the model runs; the deadline is far by that of the machine."""
    runs = []

    def answer(feeds):
        runs.append(len(feeds["X"]))
        return {"y": feeds["X"].sum(axis=1)}

    columns = tuple(mk.Column(f"x{j}", "float64") for j in range(4))
    signature = mk.Signature(
        (mk.TensorSpec("X", "float64", ("n", 4), columns),),
        (mk.TensorSpec("y", "float64", ("n",)),),
    )
    rows = np.random.default_rng(0).normal(size=(40, 4))
    explainer = mk.Explainer(
        mk.FunctionModel(answer, signature), background=rows[:20], method=method
    )
    assert len(explainer.explain(rows, deadline=60)) == 40
    runs.clear()
    monkeypatch.setattr(time_limit, "monotonic", lambda: inf if runs else 0.0)
    with pytest.raises(DeadlineExceeded, match="explain fewer rows"):
        explainer.explain(rows, deadline=3600)
    assert len(runs) == 1


@pytest.mark.parametrize("model", [LinearRegression(), RandomForestRegressor(5, n_jobs=1)])
def test_methods_that_read_the_graph_heed_the_deadline(model, tmp_path):
    X = np.random.default_rng(0).normal(size=(50, 3))
    mk.save(model.fit(X, X[:, 0]), tmp_path / "m.mk", example=X, name="m", version="1")
    explainer = mk.Explainer(mk.load(tmp_path / "m.mk"), background=X)
    with pytest.raises(DeadlineExceeded):
        explainer.explain(X, deadline=1e-9)
    assert len(explainer.explain(X, deadline=60)) == 50
