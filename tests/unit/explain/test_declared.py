"""Contributions that a model gives itself."""

import numpy as np
import pytest

import modelkit as mk
from modelkit.errors import ExplainError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("link", ["identity", "logistic"])
def test_contributions_that_a_model_gives_itself_are_taken_where_they_add_up(link):
    weights = np.array([1.0, -2.0, 0.5])
    classes = ("no", "yes") if link == "logistic" else None
    name, shape = ("probabilities", ("n", 2)) if classes else ("prediction", ("n",))
    outputs = (
        mk.TensorSpec(name, "float64", shape),
        mk.TensorSpec("contributions", "float64", ("n", 3)),
    )
    signature = mk.Signature((mk.TensorSpec("x", "float64", ("n", 3)),), outputs, name, classes)

    def answer(feeds, off=0.0):
        parts = feeds["x"] ** 2 * weights
        margin = 0.25 + parts.sum(axis=1) + off * feeds["x"][:, 0]
        likely = 1 / (1 + np.exp(-margin))
        served = np.stack([1 - likely, likely], axis=1) if classes else margin
        return {name: served, "contributions": parts}

    X = np.random.default_rng(0).normal(size=(60, 3))
    explanation = mk.Explainer(
        mk.FunctionModel(answer, signature, batchable=True), background=X[:40]
    ).explain(X[40:])
    assert (explanation.method, explanation.exact) == ("contributions", False)
    assert "contributions, the model's own" in repr(explanation)
    np.testing.assert_allclose(explanation.values[:, :, 0], X[40:] ** 2 * weights, atol=1e-9)
    np.testing.assert_allclose(explanation.base_values, 0.25, atol=1e-9)
    wrong = mk.FunctionModel(lambda feeds: answer(feeds, 0.1), signature, batchable=True)
    plan = mk.Explainer(wrong, background=X[:40]).plan()
    assert plan.method == "enumeration"
    assert "no one base add up" in str(plan)
    with pytest.raises(ExplainError, match="'contributions' does not fit"):
        mk.Explainer(wrong, background=X[:40], method="contributions")
