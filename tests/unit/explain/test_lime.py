"""LIME from one pool of rows agrees with the lime library."""

import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.stats import spearmanr

import modelkit as mk
from modelkit.explain.explanation import Explanation

# Those of shap, lime and what they import.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning", "ignore::SyntaxWarning"
)
SHAP = ("shap:kernel", "shap:permutation")


def rms(values):
    return np.sqrt(np.mean(np.square(values)))


def one(text):
    return np.array([[text]], object)


def of_lime(data, predict, rows, *, seed, samples, **options):
    """Coefficients of the second class (n, d), intercepts, and the R2 of each row, as the library has them."""
    from lime.lime_tabular import LimeTabularExplainer

    explainer = LimeTabularExplainer(data, feature_selection="none", random_state=seed, **options)
    values, base, r2 = np.zeros(rows.shape), [], []
    for i, row in enumerate(rows):
        found = explainer.explain_instance(row, predict, num_features=len(row), num_samples=samples)
        for column, value in found.local_exp[1]:
            values[i, column] = value
        base.append(found.intercept[1])
        r2.append(found.score)
    return values, np.array(base), np.array(r2)


@pytest.fixture(scope="module")
def explainer(model, breast_cancer):
    return mk.Explainer(model, background=breast_cancer[0], method="lime", seed=1)


def test_values_are_those_of_the_library_within_sampling_noise(model, cancer, breast_cancer):
    rows, samples = cancer[:3], 12_000
    one, base, r2 = of_lime(cancer, model.predict_proba, rows, seed=1, samples=samples)
    two, base_two, r2_two = of_lime(cancer, model.predict_proba, rows, seed=2, samples=samples)
    made = mk.Explainer(model, background=breast_cancer[0], method="lime", seed=3, budget=samples)
    ours = made.explain(breast_cancer[0][:3])
    values = ours.values[:, :, 1]
    noise = rms(one - two)
    assert noise < 0.2 * rms(one)
    assert max(rms(values - one), rms(values - two)) < 1.5 * noise
    assert spearmanr(values.ravel(), one.ravel())[0] > spearmanr(one.ravel(), two.ravel())[0] - 0.05
    assert np.abs(ours.base_values[:, 1] - base).max() < 4 * np.abs(base - base_two).max()
    assert np.abs(np.array(ours.fidelity["r2"])[:, 1] - r2).max() < max(
        0.02, 4 * np.abs(r2 - r2_two).max()
    )


def test_columns_of_strings_are_kinds_as_in_the_library(penguins_mk, penguins):
    frame = penguins[0].dropna().reset_index(drop=True)
    # A third of the rows are of the first year: a bin of one value, which the library fills with
    # the year 0.
    frame["year"] = 1990 + np.arange(len(frame)) % 40
    strings = {name: sorted(frame[name].unique()) for name in ("island", "sex")}
    coded = frame.copy()
    for name, kinds in strings.items():
        coded[name] = [kinds.index(value) for value in frame[name]]
    data = coded.to_numpy(np.float64)
    at = [list(frame).index(name) for name in strings]
    with mk.load(penguins_mk) as loaded:

        def predict(matrix):
            columns = {name: matrix[:, i] for i, name in enumerate(frame)}
            for name, kinds in strings.items():
                columns[name] = np.array(kinds, object)[columns[name].astype(int)]
            return loaded.predict_proba(columns)

        options = {"categorical_features": at, "samples": 15_000}
        one, two = (
            of_lime(data, predict, data[:150:50], seed=seed, **options)[0] for seed in (1, 2)
        )
        made = mk.Explainer(loaded, background=frame, method="lime", budget=15_000, seed=3)
        ours = made.explain(frame[:150:50]).values[:, :, 1]
    assert rms(ours - one) < 1.5 * rms(one - two)
    assert spearmanr(ours.ravel(), one.ravel())[0] > 0.95


def test_a_row_has_the_same_values_alone_in_a_batch_and_from_any_thread(
    model, explainer, breast_cancer
):
    X = breast_cancer[0]
    batch = explainer.explain(X[:24])
    again = mk.Explainer(model, background=X, method="lime", seed=1)
    with ThreadPoolExecutor(8) as pool:  # the pool of rows is drawn by whichever comes first
        alone = list(pool.map(lambda i: again.explain(X[i : i + 1]), reversed(range(24))))[::-1]
    assert np.array_equal(np.concatenate([one.values for one in alone]), batch.values)
    assert np.array_equal(np.concatenate([one.base_values for one in alone]), batch.base_values)
    turned = explainer.explain(X[:24][::-1])
    assert np.array_equal(turned.values[::-1], batch.values)
    other = mk.Explainer(model, background=X, method="lime", seed=2).explain(X[:24])
    assert not np.array_equal(other.values, batch.values)


def test_the_model_answers_for_the_pool_once(small, background):
    asked = []

    def run(feeds):
        asked.append(len(feeds["X"]))
        return small.run(feeds)

    counted = mk.FunctionModel(run, small.signature)
    made = mk.Explainer(counted, background=background, method="lime", budget=9000)
    plan = made.plan(background[:2])
    assert asked == [150]
    assert (plan.method, plan.exact, plan.rows_per_row) == ("lime", False, 1)
    assert "9000 model rows" in str(plan)
    made.explain(background[:2])
    made.explain(background[:3])
    assert asked == [150, 2, 4096, 4096, 808, 3]


def test_fidelity_comes_with_each_row_and_survives_json(explainer, breast_cancer):
    found = explainer.explain(breast_cancer[0][:4])
    r2, error = (np.array(found.fidelity[name]) for name in ("r2", "local_error"))
    assert r2.shape == error.shape == (4, 2)
    assert np.all(r2 <= 1)
    assert np.array_equal(error, found.additivity_gap)
    assert len(found.fidelity["ess"]) == 4
    assert all(100 < ess < found.fidelity["samples"] for ess in found.fidelity["ess"])
    assert found.fidelity["samples"] == 5000
    assert not found.exact
    assert found.std_error is None
    back = Explanation.from_json(found.to_json())
    assert back.fidelity == found.fidelity
    assert back.warnings == found.warnings
    assert np.array_equal(back.values, found.values)


def test_low_fidelity_is_said_where_it_is_and_nowhere_else(explainer, breast_cancer):
    (text,) = explainer.explain(breast_cancer[0][:4]).warnings
    assert text.startswith("low fidelity in row")

    def stairs(feeds):  # a sum of steps at the quartiles, which LIME fits as it is
        steps = np.searchsorted(np.array([-0.7, 0.0, 0.7]), feeds["X"])
        return {"prediction": steps.sum(axis=1, keepdims=True).astype(np.float64)}

    signature = mk.Signature(
        (mk.TensorSpec("X", "float64", ("batch", 2)),),
        (mk.TensorSpec("prediction", "float64", ("batch", 1)),),
    )
    cut = np.repeat(np.array([-1.0, -0.5, 0.5, 1.0]), 25)
    rows = np.stack([cut, np.random.default_rng(0).permutation(cut)], axis=1)
    flat = mk.FunctionModel(lambda feeds: {"prediction": np.ones((len(feeds["X"]), 1))}, signature)
    constant = mk.Explainer(flat, background=rows, method="lime").explain(rows[:3])
    assert constant.warnings == ()
    assert constant.fidelity["r2"] == [[1.0]] * 3
    assert not constant.values.any()
    steps = mk.Explainer(mk.FunctionModel(stairs, signature), background=rows, method="lime")
    # A step from the mean of the others to the end.
    ends = steps.explain(np.array([[-1.0, -1.0], [-1.0, 1.0]]))
    assert ends.values[:, :, 0] == pytest.approx(np.array([[-2, -2], [-2, 2]]), abs=0.1)
    assert ends.fidelity["r2"] == pytest.approx(np.full((2, 1), 0.65), abs=0.1)
    assert ends.warnings == ()
    middle = steps.explain(np.array([[-1.0, 1.0], [-0.5, 0.5]]))
    assert len(middle.warnings) == 1
    assert "row 1:" in middle.warnings[0]


def test_missing_values_and_unseen_strings_are_explained(penguins_mk, penguins):
    with mk.load(penguins_mk) as loaded:
        made = mk.Explainer(loaded, background=penguins[0], method="lime", budget=1000)
        gaps = penguins[0][penguins[0].isna().any(axis=1)]
        found = made.explain(gaps)
        odd = gaps.assign(island="Atlantis")
        assert np.isfinite(found.values).all()
        assert np.isfinite(made.explain(odd).values).all()


def test_words_of_a_text_are_its_features(texts):
    text = "the film was good good, not bad"
    found = mk.Explainer(texts, method="lime", seed=1, budget=2000).explain(one(text))
    assert found.feature_names == ("the", "film", "was", "good", "not", "bad")
    assert found.values.shape == (1, 6, 2)
    assert found.data.tolist() == [[1, 1, 1, 2, 1, 1]]
    assert found.top(1)[0][0] == "good"
    by_word = dict(zip(found.feature_names, found.values[0, :, 1], strict=True))
    assert by_word["good"] > 0 > by_word["bad"]
    assert by_word["not"] == pytest.approx(0, abs=0.02)  # the model does not know it
    assert np.allclose(found.values[0, :, 0], -found.values[0, :, 1])
    assert np.array(found.fidelity["r2"]).shape == (1, 2)
    assert found.fidelity["samples"] == 2000
    assert found.evaluations == 2001
    assert np.array_equal(
        found.values,
        mk.Explainer(texts, method="lime", seed=1, budget=2000).explain(one(text)).values,
    )
    assert np.array_equal(Explanation.from_json(found.to_json()).values, found.values)


def test_a_text_gets_what_the_library_says(texts):
    from lime.lime_text import LimeTextExplainer

    text = "the film was fine"

    def predict(strings):
        return texts.predict_proba(np.array(strings, object)[:, None])

    library = LimeTextExplainer(random_state=4, feature_selection="none")
    expected = library.explain_instance(text, predict, num_samples=1001, num_features=10)
    found = mk.Explainer(texts, method="lime", seed=4, budget=1000).explain(one(text))
    assert dict(expected.local_exp[1]) == pytest.approx(dict(enumerate(found.values[0, :, 1])))
    assert expected.score == pytest.approx(found.fidelity["r2"][0][1])


def test_of_a_model_of_texts_the_fitting_method_is_named(texts):
    with pytest.raises(mk.errors.ExplainError, match="method='lime', without a background"):
        mk.Explainer(texts)


def test_texts_come_one_at_a_time_and_have_words(texts):
    made = mk.Explainer(texts, method="lime", budget=200)
    assert made.plan(one("a")).rows_per_row == 201
    with pytest.raises(mk.errors.ExplainError, match="one at a time"):
        made.explain(np.array([["a"], ["b"]], object))
    with pytest.raises(mk.errors.ExplainError, match="does not contain a word"):
        made.explain(one("..."))


@pytest.mark.parametrize("method", ["lime", *SHAP])
def test_the_global_random_state_stays_as_it_is(small, texts, background, method):
    import shap.utils  # noqa: F401 - an import may draw, and is not what is tested

    before = np.random.get_state()  # noqa: NPY002
    mk.Explainer(small, background=background[:20], method=method).explain(background[:2])
    if method == "lime":
        mk.Explainer(texts, method="lime", budget=200).explain(one("good film"))
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("method", ["lime", *SHAP])
def test_what_is_served_is_explained_and_no_margin(small, background, method):
    with pytest.raises(mk.errors.ExplainError, match="raw score"):
        mk.Explainer(small, background=background, method=method, output="raw_score")


def test_lime_needs_a_budget_and_finite_answers(small, background):
    with pytest.raises(mk.errors.ExplainError, match="budget=100"):
        mk.Explainer(small, background=background, method="lime", budget=99)

    def run(feeds):
        return {"prediction": np.log(np.maximum(feeds["X"][:, :1] - feeds["X"].min(), 0)) + 0.0}

    signature = mk.Signature(
        small.signature.inputs, (mk.TensorSpec("prediction", "float64", ("batch", 1)),)
    )
    with np.errstate(divide="ignore"):
        made = mk.Explainer(mk.FunctionModel(run, signature), background=background, method="lime")
        with pytest.raises(mk.errors.ExplainError, match="no finite number"):
            made.explain(background[:1])


def test_a_missing_library_is_named_with_its_extra(small, texts, background, monkeypatch):
    for name in ("shap", "lime"):
        monkeypatch.setitem(sys.modules, name, None)
    for method in SHAP:
        with pytest.raises(
            mk.errors.MissingExtraError, match=r"pip install shap.*\[explain-extra\]"
        ):
            mk.Explainer(small, background=background, method=method)
    mk.Explainer(texts, method="lime", budget=200).explain(one("good film"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Columns of numbers need neither.
        mk.Explainer(small, background=background, method="lime", budget=200).explain(
            background[:1]
        )
