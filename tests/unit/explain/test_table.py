"""Every kind of table of leaves agrees with all coalitions."""

import numpy as np
import pytest
from helpers.coalitions import SEED, agree, brute, margin, saved, small
from helpers.examples import some
from sklearn import ensemble

import modelkit as mk
from modelkit.explain import table

pytestmark = pytest.mark.usefixtures("one_thread")


@some("classes", [0, 2, 3], 1)
@pytest.mark.parametrize("kind", [table._Spread, table._Potential, table.PatternPairs])
def test_every_kind_of_table_agrees_with_all_coalitions(kind, classes, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "MOST_SPREAD", 16 if kind is table._Spread else -1)
    monkeypatch.setattr(table, "MOST_PLAYERS", -1 if kind is table.PatternPairs else 16)
    X, y = small(classes, columns=8)
    kinds = {
        0: ensemble.ExtraTreesRegressor,
        2: ensemble.RandomForestClassifier,
        3: ensemble.GradientBoostingClassifier,
    }
    estimator = kinds[classes](n_estimators=6, max_depth=7, max_features=2, **SEED).fit(X, y)
    background = np.concatenate(
        [X[:12], X[:5], X[:5]]
    )  # rows that are there several times weigh as much
    explainer = mk.Explainer(saved(estimator, tmp_path, X), background=background)
    groups = explainer_tables(explainer)
    assert {type(group) for group in groups} == {kind}
    explanation = explainer.explain(X[100:104])
    assert explanation.method == "trees"
    f = (
        estimator.predict
        if not classes
        else margin(estimator)
        if classes == 3
        else estimator.predict_proba
    )
    agree(explanation, *brute(f, X[100:104], background))


def explainer_tables(explainer):
    cells = [cell.cell_contents for cell in explainer._method._run.__closure__]
    return next(cell for cell in cells if isinstance(cell, table.LeafTable))._groups


def test_potentials_of_many_players_are_those_of_their_definition(monkeypatch, tmp_path):
    """Leaves of up to sixteen players, beside the pairs, which follow the definition word by word."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 16)).astype(np.float32)
    estimator = ensemble.ExtraTreesRegressor(1, max_features=1, **SEED).fit(
        X, np.sin(3 * X).sum(axis=1)
    )
    model = saved(estimator, tmp_path, X)
    whole = mk.Explainer(model, background=X[:200])
    assert (
        max(group._d for group in explainer_tables(whole) if isinstance(group, table._Potential))
        >= 12
    )
    monkeypatch.setattr(table, "MOST_PLAYERS", -1)
    parts = mk.Explainer(model, background=X[:200])
    assert {type(group) for group in explainer_tables(parts)} == {table.PatternPairs}
    np.testing.assert_allclose(
        whole.explain(X[:50]).values, parts.explain(X[:50]).values, rtol=0, atol=2e-6
    )
    np.testing.assert_allclose(
        whole.explain(X[:1]).base_values, parts.explain(X[:1]).base_values, rtol=1e-12
    )


def test_tables_that_do_not_fit_become_pairs(tmp_path, monkeypatch):
    X, y = small(2)
    estimator = ensemble.RandomForestClassifier(5, max_depth=6, **SEED).fit(X, y)
    model = saved(estimator, tmp_path, X)
    whole = mk.Explainer(model, background=X[:40])
    monkeypatch.setattr(table, "MOST_BYTES", 2000)
    parts = mk.Explainer(model, background=X[:40])
    assert {type(group) for group in explainer_tables(parts)} == {table._Spread, table.PatternPairs}
    np.testing.assert_allclose(parts.explain(X).values, whole.explain(X).values, rtol=0, atol=1e-6)
    monkeypatch.setattr(table, "MOST_PAIRS", 10)
    refused = mk.Explainer(model, background=X[:40])
    assert refused.plan().method == "enumeration"
    assert "background patterns" in str(refused.plan())
