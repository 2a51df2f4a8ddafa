"""Performance without labels: isotonic calibration, expected confusion counts, intervals, and where it must fail."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.calibrated import CLASSES, binary_rows, multiclass_rows
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from modelkit._internal.fields import read_object
from modelkit.drift.codec import freeze, thaw
from modelkit.drift.labelfree import Calibration
from modelkit.stats.isotonic import calibrate
from modelkit.stats.ranks import expected_area

P = np.array([0.9, 0.8, 0.3, 0.6, 0.2, 0.55, 0.05, 0.7])


def exactly():
    """A calibration whose probabilities are the scores."""
    steps = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    return Calibration(CLASSES, (steps,), 0.0, 0.0)


def test_expected_performance_has_its_reference_values():
    got = exactly().estimate(P, (P >= 0.5).astype(int))
    assert got.accuracy == pytest.approx(0.75)
    rates = {"precision": 0.71, "recall": 0.86585366, "f1": 0.78021978}
    assert got.rates() == pytest.approx(rates)
    assert got.variance**0.5 / len(P) == pytest.approx(0.14604151)
    assert expected_area(P, P) == pytest.approx(0.81894934)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40))
def test_where_labels_are_known_the_area_is_that_of_scikit_learn(rows):
    labels, scores = (np.array(column, float) for column in zip(*rows, strict=True))
    area = expected_area(scores, labels)
    if 0 < labels.sum() < len(labels):
        assert area == pytest.approx(roc_auc_score(labels, scores))
    else:
        assert np.isnan(area)


def test_what_cannot_be_divided_is_nan():
    got = exactly().estimate(np.zeros(3), np.zeros(3, int))
    area = expected_area(np.arange(3.0), np.zeros(3))
    assert np.isnan([*got.rates().values(), area]).all()
    assert (got.accuracy, got.variance) == (1, 0)


def test_an_estimate_is_the_expected_confusion_of_calibrated_scores():
    rng = np.random.default_rng(1)
    calibration = Calibration.fit(CLASSES, *binary_rows(rng, 2000))
    scores, _ = binary_rows(rng, 500)
    positive = scores >= 0.5
    estimate = calibration.estimate(scores, positive.astype(int))
    p = calibrate(scores, calibration.steps[0])
    tp, tn = p[positive].sum(), (1 - p)[~positive].sum()
    assert estimate.accuracy == pytest.approx((tp + tn) / 500)
    precision, recall = tp / positive.sum(), tp / p.sum()
    f1 = 2 * tp / (positive.sum() + p.sum())
    assert [*estimate.rates().values()] == pytest.approx([precision, recall, f1])
    assert estimate.variance == pytest.approx((p * (1 - p)).sum())


@given(st.integers(0, 300))
@settings(max_examples=examples(20))
def test_estimates_of_parts_add_up_to_that_of_the_whole(cut):
    rng = np.random.default_rng(2)
    for rows in (binary_rows, multiclass_rows):
        calibration = Calibration.fit(CLASSES, *rows(rng, 300))
        scores, predicted = rows(rng, 300)
        parts = calibration.estimate(scores[:cut], predicted[:cut]) + calibration.estimate(
            scores[cut:], predicted[cut:]
        )
        whole = calibration.estimate(scores, predicted)
        for name in whole.__dataclass_fields__:
            assert np.asarray(getattr(parts, name)) == pytest.approx(
                np.asarray(getattr(whole, name)), abs=1e-9
            )
        assert calibration.interval(parts) == pytest.approx(calibration.interval(whole))


@pytest.mark.parametrize("rows", [binary_rows, multiclass_rows])
def test_hits_lean_on_each_step_by_their_derivative(rows):
    rng = np.random.default_rng(10)
    scores, labels = rows(rng, 200)
    calibration = Calibration.fit(CLASSES, scores, labels)
    predicted = rng.integers(2, size=200)
    estimate = calibration.estimate(scores, predicted)
    slopes = []
    for k, own in enumerate(calibration.steps):
        for step in range(own.shape[1]):
            moved = [each.copy() for each in calibration.steps]
            moved[k][2, step] += 1e-7
            other = replace(calibration, steps=tuple(moved)).estimate(scores, predicted)
            slopes.append((other.hits.sum() - estimate.hits.sum()) / 1e-7)
    assert estimate.leaning == pytest.approx(slopes, abs=1e-4)


def test_the_interval_adds_the_noise_of_labels_and_of_the_steps():
    steps = np.array([[0.0, 0.7], [0.2, 1.0], [0.4, 0.8], [0.01, 0.02]])
    calibration = Calibration(CLASSES, (steps,), 0.0, 0.001)
    scores = np.repeat([0.1, 0.3, 0.9], [20, 10, 70])  # 0.3 is between the steps
    estimate = calibration.estimate(scores, (scores > 0.5).astype(int))
    assert estimate.leaning.tolist() == [-30, 70]
    value, low, high = calibration.interval(estimate)
    deviation = (estimate.variance / 100**2 + 0.3**2 * 0.01 + 0.7**2 * 0.02) ** 0.5
    assert (high - value, value - low) == pytest.approx((1.959964 * deviation,) * 2)
    few = replace(calibration, variance=0.5).interval(estimate)
    assert few[2] - few[0] == pytest.approx(min(1.96 * 0.5**0.5, 1 - few[0]))


def test_rows_that_are_harder_are_seen_without_labels():
    rng = np.random.default_rng(4)
    calibration = Calibration.fit(CLASSES, *binary_rows(rng, 20_000, shift=1))
    scores, labels = binary_rows(rng, 20_000)
    predicted = (scores >= 0.5).astype(int)
    estimate = calibration.estimate(scores, predicted)
    assert estimate.accuracy == pytest.approx((predicted == labels).mean(), abs=0.02)


def test_a_change_of_what_labels_mean_is_not_seen():
    rng = np.random.default_rng(5)
    calibration = Calibration.fit(CLASSES, *binary_rows(rng, 5000))
    scores, labels = binary_rows(rng, 5000)
    predicted = (scores >= 0.5).astype(int)
    estimate = calibration.estimate(scores, predicted)
    assert calibration.interval(estimate)[1] > (predicted == 1 - labels).mean() + 0.2


def test_probabilities_sum_to_1_and_unseen_scores_are_counted():
    rng = np.random.default_rng(6)
    for rows in (binary_rows, multiclass_rows):
        scores, labels = rows(rng, 400)
        calibration = Calibration.fit(CLASSES, scores, labels)
        assert calibration.probabilities(scores).sum(axis=1) == pytest.approx(np.ones(400))
        assert calibration.estimate(scores, labels).outside == 0
        assert calibration.estimate(scores - 2, labels).outside == 400


def test_classes_that_were_never_right_are_equally_likely():
    scores, labels = np.array([[0.0, 1, 0.5], [0, 0, 1], [1, 0, 0]] * 5), np.array([1, 2, 0] * 5)
    calibration = Calibration.fit(CLASSES, scores, labels)
    assert calibration.probabilities(np.zeros((1, 3))) == pytest.approx(np.full((1, 3), 1 / 3))


def test_no_rows_estimate_nothing():
    rng = np.random.default_rng(7)
    calibration = Calibration.fit(CLASSES, *binary_rows(rng, 100))
    estimate = calibration.estimate(np.array([]), np.array([], int))
    assert estimate.rows == 0
    assert np.isnan(estimate.accuracy)


def test_a_calibration_survives_the_round_trip():
    rng = np.random.default_rng(8)
    calibration = Calibration.fit(CLASSES, *multiclass_rows(rng, 500))
    arrays = {}
    plain = freeze(calibration, arrays)
    back = read_object(Calibration, thaw(None, plain, arrays), "it")
    estimate = calibration.estimate(*multiclass_rows(rng, 300))
    assert back.interval(estimate) == calibration.interval(estimate)
