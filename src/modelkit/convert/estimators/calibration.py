"""Converters of calibration: scores of a classifier as probabilities that were fitted to outcomes.

Of two classes, the score stands beside zeros where a sigmoid calibrates it: their softmax is the
sigmoid, with all digits of small probabilities.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.interpolation import interpolated
from modelkit.convert.estimators.rows import of_doubles
from modelkit.convert.estimators.scaling import within
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    column_stack,
    complement,
    converts,
    flat,
    likeliest,
    logistic,
    refuse,
    shares,
    softmax,
    total,
    width,
)

NEXT_TO_NOTHING = 1e-12  # what scikit-learn adds to probabilities before it takes logarithms


@converts("CalibratedClassifierCV")
def calibrated(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """CalibratedClassifierCV: the mean of what its classifiers say once calibrated."""
    if estimator.method not in WAYS:
        refuse(
            estimator,
            f"(method={estimator.method!r}) cannot be converted; use 'sigmoid', "
            "'isotonic' or 'temperature'",
        )
    parts = []
    for each in estimator.calibrated_classifiers_:
        score = _response(each.estimator, at.answer(each.estimator, columns))
        parts.append(WAYS[estimator.method](each, score))
    likely = total(parts)
    likely = likely / len(parts) if len(parts) > 1 else likely
    return likeliest(likely)


def _response(estimator: Any, inner: Answer) -> Var:
    """The scores that are calibrated: decisions where there are any, as (n, 1) or (n, classes)."""
    if hasattr(estimator, "decision_function"):
        return column_stack([inner.required("decision")])
    likely: Var = inner.required("probabilities")
    return likely[:, [1]] if len(estimator.classes_) == 2 else likely


def _by_temperature(each: Any, scores: Var) -> Var:
    """The softmax of logits times one number."""
    logits = scores
    if not hasattr(each.estimator, "decision_function"):
        likely = complement(scores) if width(scores) == 1 else scores
        logits = np.log(likely + NEXT_TO_NOTHING)
    elif width(scores) == 1:
        logits = scores * np.array([-1.0, 1.0], scores.dtype)
    warmed = logits.astype(np.float64) * float(each.calibrators[0].beta_)
    return softmax(warmed)


def _by_sigmoids(each: Any, scores: Var) -> Var:
    wide = scores.astype(np.float64)
    steep = np.array([mapping.a_ for mapping in each.calibrators], np.float64)
    shift = np.array([mapping.b_ for mapping in each.calibrators], np.float64)
    if len(each.classes) == 2:
        return softmax(wide * np.append(0.0, -steep) + np.append(0.0, -shift))
    return shares(_among_all(each, logistic(-(wide * steep + shift))))


def _by_steps(each: Any, scores: Var) -> Var:
    mapped = by_steps(each.calibrators, scores.astype(np.float64))
    if len(each.classes) == 2:
        return np.minimum(complement(mapped), 1.0)
    return shares(_among_all(each, mapped))


def _among_all(each: Any, mapped: Var) -> Var:
    """(n, classes): 0 for classes that a fold lacks."""
    places = np.searchsorted(each.classes, each.estimator.classes_)[: width(mapped)]
    if len(places) == len(each.classes):
        return mapped
    spread = np.zeros((len(places), len(each.classes)))
    spread[np.arange(len(places)), places] = 1.0
    return mapped @ spread


WAYS = {"isotonic": _by_steps, "sigmoid": _by_sigmoids, "temperature": _by_temperature}


def by_steps(mappings: list[Any], scores: Var) -> Var:
    """(n, mappings) of float64: each column as an IsotonicRegression maps it, clipped to its ends."""
    places = [each.X_thresholds_.astype(np.float64) for each in mappings]
    heights = [each.y_thresholds_.astype(np.float64) for each in mappings]
    # In which the source takes numbers, and gives what it makes of them.
    dtype = mappings[0].X_thresholds_.dtype
    given = scores.astype(dtype).astype(np.float64)
    inside = within(given, [each[0] for each in places], [each[-1] for each in places])
    return interpolated(inside, places, heights).astype(dtype).astype(np.float64)


@of_doubles("IsotonicRegression")
def isotonic(estimator: Any, x: Any) -> Answer:
    """IsotonicRegression: lines between its steps."""
    if estimator.out_of_bounds == "raise":
        refuse(
            estimator,
            "(out_of_bounds='raise') cannot be converted, since a graph cannot raise "
            "errors; set out_of_bounds to 'clip' or 'nan'",
        )
    found = by_steps([estimator], x)
    if estimator.out_of_bounds == "nan":
        beyond = (x < float(estimator.X_min_)) | (x > float(estimator.X_max_))
        found = np.where(beyond, np.nan, found)
    return Answer(prediction=flat(found), table=found)
