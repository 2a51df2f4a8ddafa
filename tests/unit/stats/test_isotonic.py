"""Isotonic fits: those of scikit-learn, and few steps that stay close."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from modelkit.stats.isotonic import calibrate, fit_isotonic

labelled = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 1), st.integers(1, 3)), min_size=1, max_size=80
)


@given(labelled)
def test_an_isotonic_fit_is_that_of_scikit_learn(rows):
    scores, labels, weights = (np.array(column, float) for column in zip(*rows, strict=True))
    expected = IsotonicRegression(out_of_bounds="clip").fit(scores, labels, weights)
    at = np.linspace(-1, 31, 97)
    repeated = (np.repeat(column, weights.astype(int)) for column in (scores, labels))
    assert calibrate(at, fit_isotonic(*repeated)) == pytest.approx(expected.predict(at))


@given(labelled)
def test_the_order_of_rows_does_not_matter_and_the_fit_rises(rows):
    scores, labels, _ = (np.array(column, float) for column in zip(*rows, strict=True))
    steps = fit_isotonic(scores, labels)
    assert (np.diff(steps[0]) > 0).all()
    assert (steps[0] <= steps[1]).all()
    assert (steps[1, :-1] < steps[0, 1:]).all()
    assert (np.diff(steps[2]) > 0).all()
    assert (steps[3] > 0).all()
    assert steps == pytest.approx(fit_isotonic(scores[::-1], labels[::-1]))


def test_a_step_has_the_variance_of_its_share_with_one_more_row_of_each_label():
    steps = fit_isotonic(np.arange(6.0), np.array([0, 0, 0, 1, 0, 1]))
    assert steps[:3].T.tolist() == [[0, 2, 0], [3, 4, 0.5], [5, 5, 1]]
    assert steps[3] == pytest.approx([0.2 * 0.8 / 3, 0.5 * 0.5 / 2, 2 / 3 * 1 / 3])


def test_many_steps_become_32_that_keep_the_mean_and_stay_close():
    rng = np.random.default_rng(0)
    scores = np.sort(rng.random(20_000))
    labels = (rng.random(20_000) < scores).astype(float)
    steps = fit_isotonic(scores, labels)
    full = IsotonicRegression(out_of_bounds="clip").fit(scores, labels)
    assert len(full.X_thresholds_) > 64
    assert steps.shape == (4, 32)
    p = calibrate(scores, steps)
    assert p.mean() == pytest.approx(labels.mean(), abs=2e-3)
    assert np.abs(p - full.predict(scores)).mean() < 0.01
