"""Samples converge within the errors that they state."""

import numpy as np
import pytest
from helpers.coalitions import SEED, saved, small
from sklearn import ensemble

import modelkit as mk

pytestmark = pytest.mark.usefixtures("one_thread")


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
