"""Converters of calibration: scores of a classifier as probabilities that were fitted to outcomes.

Of two classes, the score stands beside zeros where a sigmoid calibrates it: their softmax is the
sigmoid, with all digits of small probabilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.interpolation import along, located
from modelkit.convert.estimators.rows import of_doubles
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    complement,
    converts,
    flat,
    joined,
    largest,
    logistic,
    shares,
    softmax,
    total,
    upright,
    width,
)
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting

NEXT_TO_NOTHING = 1e-12  # what scikit-learn adds to probabilities before it takes logarithms


@converts("CalibratedClassifierCV")
def calibrated(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """CalibratedClassifierCV: the mean of what its classifiers say once calibrated."""
    folds = estimator.calibrated_classifiers_
    scores = [_response(each.estimator, at.answer(each.estimator, columns)) for each in folds]
    parts = _calibrated(folds, scores)
    likely = total(parts)
    likely = likely / len(parts) if len(parts) > 1 else likely
    return Answer(place=largest(likely), probabilities=likely)


def _calibrated(folds: list[Any], scores: list[Var]) -> list[Var]:
    """(n, classes) each: what the classifiers say once calibrated."""
    method = folds[0].method
    if method == "isotonic":
        return _by_steps(folds, scores)
    ways = {"sigmoid": _by_sigmoids, "temperature": _by_temperature}
    if method not in ways:
        raise ConversionError(
            f"CalibratedClassifierCV(method={method!r}) cannot be converted; use 'sigmoid', "
            "'isotonic' or 'temperature'",
            step="CalibratedClassifierCV",
        )
    return [ways[method](each, score) for each, score in zip(folds, scores, strict=True)]


def _response(estimator: Any, inner: Answer) -> Var:
    """The scores that are calibrated: decisions where there are any, as (n, 1) or (n, classes)."""
    if hasattr(estimator, "decision_function"):
        decision: Var = inner.asked("decision")
        return upright(decision) if decision.ndim == 1 else decision
    likely: Var = inner.asked("probabilities")
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
        score = wide * np.append(0.0, -steep) + np.append(0.0, -shift)
        return softmax(score)
    mapped = logistic(-(wide * steep + shift))
    return shares(_among_all(each, mapped))


def _by_steps(folds: list[Any], scores: list[Var]) -> list[Var]:
    mappings = [mapping for each in folds for mapping in each.calibrators]
    mapped = risen(mappings, joined([score.astype(np.float64) for score in scores]))
    found = []
    start = 0
    for each in folds:
        end = start + len(each.calibrators)
        own = mapped[:, start:end]
        if len(each.classes) == 2:
            found.append(np.minimum(complement(own), 1.0))
        else:
            found.append(shares(_among_all(each, own)))
        start = end
    return found


def _among_all(each: Any, mapped: Var) -> Var:
    """(n, classes): 0 for classes that a fold lacks."""
    places = np.searchsorted(each.classes, each.estimator.classes_)[: width(mapped)]
    if len(places) == len(each.classes):
        return mapped
    spread = np.zeros((len(places), len(each.classes)))
    spread[np.arange(len(places)), places] = 1.0
    return mapped @ spread


def risen(mappings: list[Any], scores: Var) -> Var:
    """(n, mappings) of float64: each column as an IsotonicRegression maps it, clipped to its ends."""
    places = [np.asarray(each.X_thresholds_, np.float64) for each in mappings]
    heights = [np.asarray(each.y_thresholds_, np.float64) for each in mappings]
    # In which the source takes numbers, and gives what it makes of them.
    dtype = mappings[0].X_thresholds_.dtype
    given = scores.astype(dtype).astype(np.float64)
    inside = np.minimum(given, [each[-1] for each in places])
    inside = np.maximum(inside, [each[0] for each in places])
    piece = located(inside, [each[1:-1] for each in places])
    table = [
        np.concatenate([_slopes(*each) for each in zip(places, heights, strict=True)]),
        np.concatenate([_starts(each) for each in heights]),
    ]
    found = along(
        inside, piece, np.concatenate([_starts(each) for each in places]), np.stack(table)
    )
    return found.astype(dtype).astype(np.float64)


def _starts(values: Array) -> Array:
    """Those at which a piece starts: all but the last, unless it is alone."""
    return values[:-1] if len(values) > 1 else values


def _slopes(places: Array, heights: Array) -> Array:
    return np.diff(heights) / np.diff(places) if len(places) > 1 else np.zeros(1)


@of_doubles("IsotonicRegression")
def isotonic(estimator: Any, x: Any) -> Answer:
    """IsotonicRegression: lines between its steps."""
    if estimator.out_of_bounds == "raise":
        raise ConversionError(
            "IsotonicRegression(out_of_bounds='raise') cannot be converted, since a graph raises no "
            "errors; set out_of_bounds to 'clip' or 'nan'",
            step="IsotonicRegression",
        )
    found = risen([estimator], x)
    if estimator.out_of_bounds == "nan":
        beyond = (x < float(estimator.X_min_)) | (x > float(estimator.X_max_))
        found = np.where(beyond, np.nan, found)
    return Answer(prediction=flat(found), table=found)
