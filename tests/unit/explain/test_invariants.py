"""What holds for explanations by whatever method: sums, batches, samples and their errors."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.coalitions import METHODS, SEED, agree, models_by_method, saved, served, small
from helpers.ensembles import graph, old_node, tree_of
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import ensemble, svm
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

import modelkit as mk
from modelkit.errors import DeadlineExceeded
from modelkit.explain import sampling

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return models_by_method(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("method", METHODS)
def test_values_add_up_to_what_is_served(method, models):
    model, X = models[method]
    explainer = mk.Explainer(model, background=X[:40])
    explanation = explainer.explain(X[50:70])
    assert explanation.method == {"deep": "trees"}.get(method, method)
    total = explanation.base_values + explanation.values.sum(axis=1)
    expected = served(model)(X[50:70])
    if explanation.output_space == "margin":
        total = 1 / (1 + np.exp(-total))
    within = 1e-9 if method == "sampling" else 1e-5
    np.testing.assert_allclose(total, expected[:, -total.shape[1] :], rtol=0, atol=within)
    assert explanation.additivity_gap.max() <= within
    most = 20 * explainer.plan().rows_per_row
    assert (
        explanation.evaluations <= most
        if method == "sampling"
        else explanation.evaluations == pytest.approx(most)
    )


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


def test_enumeration_and_tables_say_the_same(tmp_path):
    X, y = small(0)
    model = saved(ensemble.RandomForestRegressor(10, max_depth=6, **SEED).fit(X, y), tmp_path, X)
    tables = mk.Explainer(model, background=X[:20]).explain(X[50:60])
    everything = mk.Explainer(model, background=X[:20], method="enumeration").explain(X[50:60])
    assert (tables.method, everything.method) == ("trees", "enumeration")
    agree(everything, tables.values, tables.base_values[0])
    assert everything.background_id == tables.background_id


def test_a_column_that_is_not_read_gets_nothing_and_twins_get_the_same(tmp_path):
    """The model is even in two columns, and each is given the same numbers."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4)).astype(np.float32)
    X[:, 1] = X[:, 0]
    both = [(0, 1), (1, 0)]
    trees = [
        ("BRANCH_LEQ", a, 0.3, (), False, tree_of(b, -0.2, 1.0, 5.0), tree_of(2, 0.1))
        for a, b in both
    ]
    proto = graph([old_node(trees, 1, np.float32, tracks=False)], inputs={"x": (np.float32, 4)},
                  outputs={"y": (np.float32, 1)})  # fmt: skip
    model = saved(proto, tmp_path)
    for method in ("trees", "enumeration", "sampling"):
        values = mk.Explainer(model, background=X[:50], method=method).explain(X[100:120]).values
        assert not values[:, 3].any()
        if method != "sampling":
            np.testing.assert_allclose(values[:, 0], values[:, 1], rtol=0, atol=1e-7)


def test_a_background_of_the_row_itself_explains_nothing(models):
    for method in METHODS:
        model, X = models[method]
        one = mk.Explainer(model, background=np.repeat(X[:1], 12, axis=0)).explain(X[:1])
        np.testing.assert_allclose(one.values, 0, atol=1e-6)


def test_samples_converge_within_their_errors_and_telescope(tmp_path):
    X, y = small(0, columns=8)
    model = saved(
        ensemble.GradientBoostingRegressor(n_estimators=40, **SEED).fit(X, y), tmp_path, X
    )
    rows, background = X[100:140], X[:64]
    truth = mk.Explainer(model, background=background).explain(rows).values
    errors = {}
    for passes in (1, 16):
        sampled = mk.Explainer(
            model, background=background, method="sampling", budget=14 * 64 * passes
        ).explain(rows)
        assert not sampled.exact
        assert sampled.additivity_gap.max() <= 1e-9
        off = np.abs(sampled.values - truth)
        inside = off <= 4 * sampled.std_error + 1e-6
        assert inside.mean() >= (
            0.99 if passes > 1 else 0.97
        )  # of 64 orders, some see a rare effect never
        errors[passes] = np.sqrt((off**2).mean())
    assert errors[16] < 0.5 * errors[1]


def test_samples_are_those_of_their_seed(models):
    model, X = models["sampling"]

    def values(**options):
        return mk.Explainer(model, background=X[:20], **options).explain(X[30:33]).values

    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the global one must be left alone
    np.testing.assert_array_equal(values(), values(seed=0))
    np.testing.assert_array_equal(values(seed=7), values(seed=7))
    assert (values(seed=7) != values(seed=8)).any()
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@settings(max_examples=examples(30), deadline=None)
@given(players=st.integers(2, 5), background=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_every_order_once_is_exact(players, background, seed):
    """With all orders on all background rows, the sampler gives the values of the definition."""
    rng = np.random.default_rng(seed)
    worth = rng.normal(size=(1 << players, background, 2))

    def ask(masks, rows):
        return worth[masks @ (1 << np.arange(players)), rows]

    orders = np.array(list(itertools.permutations(range(players))))
    ranks = np.repeat(np.argsort(orders, axis=1), background, axis=0)
    rows = np.tile(np.arange(background), len(orders))
    full = (1 << players) - 1
    worth[full] = worth[full, :1]  # the explained row itself, on whatever background
    inner = ask(sampling.coalitions(ranks), np.repeat(rows, 2 * (players - 1)))
    values = sampling.gains(inner, ranks, worth[0][rows], worth[full, 0]).mean(axis=0)
    base = worth[0][rows].mean(axis=0)
    expected, expected_base = sampling.enumerate_all(ask, players, background)
    np.testing.assert_allclose(values, expected, atol=1e-12)
    np.testing.assert_allclose(base, expected_base, atol=1e-12)
    truth = np.zeros((players, 2))
    for order in orders:
        at = 0
        for player in order:
            truth[player] += worth[at | 1 << player].mean(axis=0) - worth[at].mean(axis=0)
            at |= 1 << player
    np.testing.assert_allclose(values, truth / len(orders), atol=1e-12)


def test_a_pass_draws_each_background_row_once_and_orders_of_its_own():
    seen = set()
    for number in range(4):
        ranks, rows = sampling.draw_orders(6, 25, number, 3)
        assert (np.sort(ranks, axis=1) == np.arange(6)).all()
        np.testing.assert_array_equal(np.sort(rows), np.arange(25))
        seen.add(ranks.tobytes())
    assert len(seen) == 4


def test_without_a_budget_passes_are_made_until_the_error_is_small(tmp_path):
    X, y = small(0, columns=8)
    easy = saved(svm.SVR().fit(X, y), tmp_path, X)
    rough = mk.FunctionModel(
        lambda feeds: {"y": np.sin(40 * feeds["x"]).prod(axis=1, keepdims=True)}, eight_columns()
    )
    found = {}
    for name, model in (("easy", easy), ("rough", rough)):
        explainer = mk.Explainer(model, background=X[:40], method="sampling")
        found[name] = explainer.explain(X[100:103])
        assert explainer.plan().rows_per_row == 32 * 40 * 14 + 2
        for i in range(3):  # alone, a row takes what it takes beside others
            alone = explainer.explain(X[100 + i : 101 + i])
            np.testing.assert_allclose(alone.values[0], found[name].values[i], rtol=0, atol=1e-6)
            np.testing.assert_array_equal(alone.std_error[0], found[name].std_error[i])
    size = {name: np.sqrt((one.values**2).mean(axis=(1, 2))) for name, one in found.items()}
    error = {name: np.sqrt((one.std_error**2).mean(axis=(1, 2))) for name, one in found.items()}
    assert (error["easy"] <= 0.03 * size["easy"]).all()
    assert not found["easy"].warnings
    assert found["easy"].evaluations < found["rough"].evaluations / 3
    assert found["rough"].evaluations == 3 * (32 * 40 * 14 + 2)
    assert (error["rough"] > 0.03 * size["rough"]).any()
    assert "after 32 passes" in found["rough"].warnings[0]


def eight_columns():
    spec = mk.TensorSpec("x", "float64", ("batch", 8))
    return mk.Signature((spec,), (mk.TensorSpec("y", "float64", ("batch", 1)),))


def test_standard_errors_of_several_passes_cover_what_they_should(tmp_path):
    X, y = small(0, columns=8)
    model = saved(
        ensemble.GradientBoostingRegressor(n_estimators=40, max_depth=5, **SEED).fit(X, y),
        tmp_path,
        X,
    )
    truth = mk.Explainer(model, background=X[:64]).explain(X[100:130]).values
    inside = []
    for seed in range(5):
        options = {"background": X[:64], "method": "sampling", "budget": 14 * 64 * 4, "seed": seed}
        sampled = mk.Explainer(model, **options).explain(X[100:130])
        inside.append(np.abs(sampled.values - truth) <= 1.96 * sampled.std_error + 1e-7)
    assert 0.92 <= np.mean(inside) <= 0.99


@pytest.mark.filterwarnings("ignore")  # of shap, as it is imported
@pytest.mark.parametrize("method", ["sampling", "enumeration", "lime", "shap:kernel"])
def test_no_run_of_the_model_begins_after_the_deadline(method):
    late = 0.0
    runs = []

    def answer(feeds):
        while time.monotonic() < late:  # the run in which the time goes over
            pass
        runs.append(time.monotonic())
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
    late = time.monotonic() + 0.05
    with pytest.raises(DeadlineExceeded, match="explain fewer rows"):
        explainer.explain(rows, deadline=0.04)
    assert len(runs) == 1


@pytest.mark.parametrize("model", [LinearRegression(), RandomForestRegressor(5, n_jobs=1)])
def test_methods_that_read_the_graph_heed_the_deadline(model, tmp_path):
    X = np.random.default_rng(0).normal(size=(50, 3))
    mk.save(model.fit(X, X[:, 0]), tmp_path / "m.mk", example=X, name="m", version="1")
    explainer = mk.Explainer(mk.load(tmp_path / "m.mk"), background=X)
    with pytest.raises(DeadlineExceeded):
        explainer.explain(X, deadline=1e-9)
    assert len(explainer.explain(X, deadline=60)) == 50
