"""What holds for explanations by whatever method: sums, batches, the background, and misuse."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.coalitions import METHODS, agree, brute, saved, served, small
from sklearn import ensemble, linear_model, svm

import modelkit as mk
from modelkit.errors import ExplainError, SignatureError, UsageError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("method", METHODS)
def test_values_add_up_to_what_is_served(method, models):
    model, X = models[method]
    explainer = mk.Explainer(model, background=X[:40])
    explanation = explainer.explain(X[50:70])
    assert explanation.method == {"deep": "trees"}.get(method, method)
    total = explanation.base_values + explanation.values.sum(axis=1)
    expected = served(model)(X[50:70])
    if explanation.output_space == "raw_score":
        total = 1 / (1 + np.exp(-total))
    within = 1e-9 if method == "sampling" else 1e-5
    np.testing.assert_allclose(total, expected[:, -total.shape[1] :], rtol=0, atol=within)
    assert explanation.additivity_gap.max() <= within
    most = 20 * explainer.plan().rows_per_row
    if method == "sampling":
        assert explanation.evaluations <= most
    else:  # and those on which an exact method is proven
        assert most <= explanation.evaluations <= 2 * most


@pytest.mark.parametrize("method", METHODS)
def test_a_row_has_the_same_values_alone_in_any_batch_and_from_any_thread(method, models):
    model, X = models[method]
    explainer = mk.Explainer(model, background=X[:20])
    rows = X[100:116]
    whole = explainer.explain(rows)
    # Products of float64 differ in their last bit between one row and several.
    within = {"rtol": 0, "atol": 1e-12 if method == "sampling" else 0}
    alone = [explainer.explain(rows[i : i + 1]) for i in range(len(rows))]
    np.testing.assert_allclose(np.concatenate([e.values for e in alone]), whole.values, **within)
    np.testing.assert_allclose(
        np.concatenate([e.base_values for e in alone]), whole.base_values, **within
    )
    order = np.random.default_rng(0).permutation(len(rows))
    np.testing.assert_allclose(explainer.explain(rows[order]).values, whole.values[order], **within)
    with ThreadPoolExecutor(8) as pool:
        for i, e in enumerate(
            pool.map(lambda i: explainer.explain(rows[i : i + 1]), range(len(rows)))
        ):
            np.testing.assert_allclose(e.values, whole.values[i : i + 1], **within)
    again = mk.Explainer(model, background=X[:20])
    np.testing.assert_allclose(again.explain(rows).values, whole.values, **within)
    with mk.Batcher(model) as batcher:
        through = mk.Explainer(batcher, background=X[:20])
        assert through.plan() == explainer.plan()
        np.testing.assert_allclose(through.explain(rows).values, whole.values, **within)


@pytest.mark.parametrize("method", ["trees", "deep", "additive"])
def test_one_row_is_as_good_as_thousands(method, models):
    model, X = models[method]
    explainer = mk.Explainer(model, background=X[:20])
    many = np.tile(X, (8, 1))[:3000]
    whole = explainer.explain(many).values
    np.testing.assert_array_equal(whole[:400], whole[400:800])
    np.testing.assert_array_equal(explainer.explain(X[7:8]).values, whole[7:8])
    np.testing.assert_array_equal(explainer.explain(X[:37]).values, whole[:37])


def test_a_background_of_the_row_itself_explains_nothing(models):
    for method in METHODS:
        model, X = models[method]
        one = mk.Explainer(model, background=np.repeat(X[:1], 12, axis=0)).explain(X[:1])
        np.testing.assert_allclose(one.values, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("fitted", "method"),
    [
        (linear_model.LogisticRegression(), "auto"),
        (svm.LinearSVC(), "auto"),
        (linear_model.LogisticRegression(), "sampling"),
        (linear_model.LogisticRegression(), "lime"),
    ],
)
def test_either_of_two_classes_is_explained(fitted, method, tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = np.where(X[:, 0] > 0.3, "late", "on time")
    model = saved(fitted.fit(X, y), tmp_path, X)
    of = {
        name: mk.Explainer(model, background=X[:20], method=method, positive=name, seed=0).explain(
            X[:5]
        )
        for name in ("late", "on time", None)
    }
    for name in ("late", "on time"):
        assert of[name].output_names[-1] == name
        assert mk.Explanation.from_json(of[name].to_json()).output_names == of[name].output_names
        assert of[name].card(output=name) == of[name].card()
        total = of[name].base_values[:, -1] + of[name].values[:, :, -1].sum(axis=1)
        if method == "auto":  # a raw score, or a score: above 0 speaks for the class
            np.testing.assert_array_equal(total > 0, fitted.predict(X[:5]) == name)
        else:
            assert {*of[name].output_names} == {"late", "on time"}
    np.testing.assert_array_equal(of["on time"].values, of[None].values)
    one = of["late"].values[:, :, -1]
    other = of["on time"].values[:, :, -1 if method == "auto" else 0]
    np.testing.assert_array_equal(one, -other if method == "auto" else other)
    if method == "lime":
        told = [of[name].fidelity["r2"][0] for name in ("late", "on time")]
        assert told[0] == told[1][::-1]
    if of[None].output_space == "raw_score":
        with pytest.raises(UsageError, match=r"unknown output 'late'.*other sign.*positive="):
            of[None].plot(output="late")
    with pytest.raises(UsageError, match=r"positive='x' is not a class of this model"):
        mk.Explainer(model, background=X[:20], positive="x")


def test_positive_is_of_two_classes(mixed):
    model, X, _ = mixed
    with pytest.raises(UsageError, match="positive= is for what a model of two classes gives"):
        mk.Explainer(model, background=X.iloc[::7], positive="Adelie")


@pytest.mark.parametrize("method", METHODS)
def test_no_rows(method, models):
    model, X = models[method]
    nothing = mk.Explainer(model, background=X[:20]).explain(X[:0])
    assert nothing.values.shape == (0, X.shape[1], len(nothing.output_names))
    assert (
        nothing.base_values.shape == nothing.additivity_gap.shape == (0, len(nothing.output_names))
    )


def test_one_column(tmp_path):
    X, y = small(0)
    single = saved(svm.SVR().fit(X[:, :1], y), tmp_path, X[:, :1])
    explanation = mk.Explainer(single, background=X[:30, :1]).explain(X[40:50, :1])
    agree(explanation, *brute(single.predict, X[40:50, :1], X[:30, :1]))


def test_a_constant_model_explains_nothing(tmp_path):
    X, _ = small(0)
    for estimator in (ensemble.GradientBoostingRegressor(n_estimators=2), linear_model.Ridge()):
        model = saved(estimator.fit(X, np.full(len(X), 2.5)), tmp_path, X)
        explanation = mk.Explainer(model, background=X[:30]).explain(X[:5])
        assert explanation.values.shape == (5, 6, 1)
        np.testing.assert_allclose(explanation.values, 0, atol=1e-6)
        np.testing.assert_allclose(explanation.base_values, 2.5)


def test_the_background_of_the_package_is_that_which_was_passed(mixed):
    model, X, passed = mixed
    stored = mk.Explainer(model).explain(X.iloc[:9])
    np.testing.assert_array_equal(stored.values, passed.values)
    assert stored.background_id == passed.background_id
    assert stored.background_rows == len(X.iloc[::7])
    assert stored.model_digest == model.manifest.model_digest
    other = mk.Explainer(model, background=X.iloc[::8]).explain(X.iloc[:9])
    assert other.background_id != stored.background_id


def test_misuse_is_told_apart(models, mixed):
    model, X = models["sampling"]
    penguin, frame, _ = mixed
    for options, text in (
        ({}, "background"),
        ({"background": X[:0]}, "background is empty"),
        ({"background": X[:20], "method": "magic"}, "unknown"),
        ({"background": X[:20], "output": "logits"}, "unknown"),
        ({"background": X[:20], "budget": 100}, "budget=260"),
        ({"background": X[:20], "budget": 0}, "budget"),
        ({"background": X[:5]}, "larger background"),
        ({"background": X[:20], "method": "trees"}, "does not fit"),
        ({"background": X[:20], "method": "additive"}, "does not fit"),
        ({"background": X[:20], "method": "enumeration"}, "smaller background"),
        ({"background": X[:20], "output": "raw_score"}, "raw score"),
    ):
        with pytest.raises((ExplainError, UsageError), match=text):
            mk.Explainer(model, **options)
    line, wide = models["additive"]
    with pytest.raises(ExplainError, match="additive"):
        mk.Explainer(line, background=wide[:20], method="trees")
    with pytest.raises(ExplainError, match="structure for 'trees'"):
        mk.Explainer(models["trees"][0], background=models["trees"][1][:20], method="additive")
    with pytest.raises(SignatureError):
        mk.Explainer(model, background=X[:20, :5])
    with pytest.raises(SignatureError, match="sex"):
        mk.Explainer(penguin, background=frame.drop(columns="sex"))
    with pytest.raises(SignatureError):
        mk.Explainer(model, background=X[:20]).explain(X[:2, :5])
    with pytest.raises(SignatureError):
        mk.Explainer(model, background=X[:20]).plan(X[:2, :5])
    holes = np.where(np.arange(14) == 3, np.nan, X[:20])
    with pytest.raises(SignatureError, match=r"(?i)missing|nan"):
        mk.Explainer(model, background=holes)
    with pytest.raises(SignatureError, match=r"(?i)missing|nan"):
        mk.Explainer(model, background=X[:20]).explain(holes)


def test_probabilities_of_trees_are_enumerated_on_request(models):
    model, X = models["trees"]
    explainer = mk.Explainer(model, background=X[:20], output="probability")
    explanation = explainer.explain(X[50:54])
    assert explanation.output_space == "probability"
    assert explanation.method == "enumeration"
    agree(explanation, *brute(model.predict_proba, X[50:54], X[:20]))


@pytest.mark.parametrize(
    "wrong", [{"budget": 1e4}, {"budget": np.nan}, {"budget": 0}, {"seed": -1}, {"seed": 1.5}]
)
def test_a_budget_and_a_seed_are_whole_numbers(mixed, wrong):
    with pytest.raises(UsageError, match="is an integer of at least"):
        mk.Explainer(mixed[0], background=mixed[1][:50], **wrong)
