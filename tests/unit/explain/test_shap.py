"""shap's own explainers run safely on a Model."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import modelkit as mk

# Those of shap, lime and what they import.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning", "ignore::SyntaxWarning"
)
SHAP = ("shap:kernel", "shap:permutation")


@pytest.mark.parametrize("method", SHAP)
def test_shap_itself_gives_the_exact_values(small, background, method):
    exact = mk.Explainer(small, background=background, method="enumeration").explain(background[:4])
    found = mk.Explainer(small, background=background, method=method).explain(background[:4])
    assert found.background_rows == 150  # all of them: the mean of any 100 would be another
    assert np.allclose(found.values, exact.values, atol=1e-8)
    assert np.allclose(found.base_values, exact.base_values, atol=1e-8)
    assert found.additivity_gap.max() < 1e-8
    assert found.method == method
    assert not found.exact
    assert found.fidelity is None


@pytest.mark.parametrize("method", SHAP)
def test_shap_sees_small_and_missing_values(background, method):
    def run(feeds):
        x = np.nan_to_num(feeds["X"] * [1e10, 1, 1], nan=3.0)
        return {"prediction": (x[:, :1] + 1) * x[:, 1:2] + x[:, 2:]}

    columns = tuple(mk.Column(name, nullable=True) for name in "abc")
    signature = mk.Signature(
        (mk.TensorSpec("X", "float64", ("batch", 3), columns),),
        (mk.TensorSpec("prediction", "float64", ("batch", 1)),),
    )
    rows = background[:40] * [1e-10, 1, 1]  # shap takes two numbers below 1e-8 for equal
    rows[::3, 1] = np.nan
    model = mk.FunctionModel(run, signature)
    asked = np.concatenate([rows[:4], background[50:52] * [1e-10, 1, 1]])
    exact = mk.Explainer(model, background=rows, method="enumeration").explain(asked)
    found = mk.Explainer(model, background=rows, method=method).explain(asked)
    assert np.allclose(found.values, exact.values, atol=1e-8)
    assert np.abs(found.values[:, 0]).min() > 1e-4


@pytest.mark.parametrize("method", SHAP)
def test_a_row_has_the_same_shap_values_in_any_company(model, breast_cancer, method):
    X = breast_cancer[0]
    budget = 20 * 70
    made = mk.Explainer(model, background=X[:20], method=method, budget=budget, seed=5)
    batch = made.explain(X[40:44])
    with ThreadPoolExecutor(8) as pool:
        alone = list(pool.map(lambda i: made.explain(X[i : i + 1]), (43, 42, 41, 40)))[::-1]
    assert np.array_equal(np.concatenate([one.values for one in alone]), batch.values)
    assert (batch.values != 0).sum() > 10 * 4 * 2  # no penalty leaves ten columns
    assert batch.additivity_gap.max() < 1e-6
    assert batch.evaluations <= 4 * made.plan().rows_per_row + 40


@pytest.mark.parametrize("method", SHAP)
def test_shap_budget_is_in_model_rows_and_has_a_least(small, background, method):
    least = {"shap:kernel": 6, "shap:permutation": 7}[method] * 150
    with pytest.raises(mk.errors.ExplainError, match=f"budget={least}"):
        mk.Explainer(small, background=background, method=method, budget=least - 1)
    assert (
        mk.Explainer(small, background=background, method=method, budget=least).plan().rows_per_row
        == least + 1
    )


@pytest.mark.parametrize("method", SHAP)
def test_shap_explains_columns_of_texts(penguins_mk, penguins, method):
    rows = penguins[0]
    with mk.load(penguins_mk) as loaded:
        exact, found = (
            mk.Explainer(loaded, background=rows[:20], method=each, budget=40_000).explain(rows[:3])
            for each in ("enumeration", method)
        )
    largest = 1e-8 if method == "shap:kernel" else 0.1 * np.abs(exact.values).max()
    assert np.abs(found.values - exact.values).max() < largest
    assert found.additivity_gap.max() < 1e-8
