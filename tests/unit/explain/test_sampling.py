"""Samples: their seeds, their orders, and how many are drawn."""

import itertools

import numpy as np
import pytest
from helpers.coalitions import saved, small
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import svm

import modelkit as mk
from modelkit.explain import sampling

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_a_background_of_one_row_has_errors_from_the_second_pass_on():
    """The error after one pass was 0 / 0, with a warning of numpy's."""
    columns = tuple(mk.Column(f"x{i}") for i in range(12))
    signature = mk.Signature(
        (mk.TensorSpec("X", "float64", ("batch", 12), columns),),
        (mk.TensorSpec("prediction", "float64", ("batch",)),),
    )
    model = mk.FunctionModel(
        lambda feeds: {"prediction": feeds["X"].prod(axis=1) + feeds["X"][:, 0]},
        signature,
        batchable=True,
    )
    explainer = mk.Explainer(model, background=np.zeros((1, 12)), method="sampling", budget=2200)
    found = explainer.explain(np.ones((1, 12)))
    assert np.isfinite(found.std_error).all()
    assert (found.std_error > 0).any()
    np.testing.assert_allclose(found.values.sum(), 2)
