"""Converters of calibration: scores of a classifier as probabilities that were fitted to outcomes.

Of two classes, the score stands beside zeros where a sigmoid calibrates it: their softmax is the
sigmoid, with all digits of small probabilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.cast import Array
from modelkit.convert.compositions import interpolated
from modelkit.convert.tensors import (
    Answer,
    Columns,
    Var,
    cast,
    complement,
    constant,
    doubles,
    dtype_of,
    flat,
    joined,
    largest,
    logistic,
    one_column,
    op,
    rank,
    shares,
    total,
    upright,
    width,
)
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.converting import Converting

NEXT_TO_NOTHING = 1e-12  # what scikit-learn adds to probabilities before it takes logarithms


def calibrated(
    estimator: Any,
    columns: Columns,
    at: Converting,
) -> Answer:
    """CalibratedClassifierCV: the mean of what its classifiers say once calibrated."""
    parts = [
        _calibrated(
            each,
            columns,
            at,
        )
        for each in estimator.calibrated_classifiers_
    ]
    likely = total(parts)
    likely = op.div(likely, doubles(len(parts))) if len(parts) > 1 else likely
    return Answer(
        place=largest(likely),
        probabilities=likely,
    )


def _calibrated(
    each: Any,
    columns: Columns,
    at: Converting,
) -> Var:
    """(n, classes): what one classifier says once calibrated."""
    scores = _response(each.estimator, at.answer(each.estimator, columns))
    if each.method == "temperature":
        return _by_temperature(each, scores)
    if each.method not in ("sigmoid", "isotonic"):
        raise ConversionError(
            f"CalibratedClassifierCV(method={each.method!r}) cannot be converted; use 'sigmoid', "
            "'isotonic' or 'temperature'",
            step="CalibratedClassifierCV",
        )
    if each.method == "isotonic":
        return _by_steps(each, scores)
    return _by_sigmoids(each, scores)


def _response(
    estimator: Any,
    inner: Answer,
) -> Var:
    """The scores that are calibrated: decisions where there are any, as (n, 1) or (n, classes)."""
    if hasattr(estimator, "decision_function"):
        decision: Var = inner.asked("decision")
        return upright(decision) if rank(decision) == 1 else decision
    likely: Var = inner.asked("probabilities")
    return one_column(likely, 1) if len(estimator.classes_) == 2 else likely


def _by_temperature(
    each: Any,
    scores: Var,
) -> Var:
    """The softmax of logits times one number."""
    logits = scores
    if not hasattr(each.estimator, "decision_function"):
        likely = complement(scores) if width(scores) == 1 else scores
        tiny = constant(NEXT_TO_NOTHING, dtype_of(likely))
        logits = op.log(op.add(likely, tiny))
    elif width(scores) == 1:
        logits = op.mul(scores, constant([[-1.0, 1.0]], dtype_of(scores)))
    warmed = op.mul(cast(logits, np.float64), doubles(float(each.calibrators[0].beta_)))
    return op.softmax(warmed, axis=1)


def _by_sigmoids(
    each: Any,
    scores: Var,
) -> Var:
    wide = cast(scores, np.float64)
    steep = np.array([[mapping.a_ for mapping in each.calibrators]], np.float64)
    shift = np.array([[mapping.b_ for mapping in each.calibrators]], np.float64)
    if len(each.classes) == 2:
        score = op.add(op.mul(wide, doubles(_beside_zero(-steep))), doubles(_beside_zero(-shift)))
        return op.softmax(score, axis=1)
    mapped = logistic(op.neg(op.add(op.mul(wide, doubles(steep)), doubles(shift))))
    return shares(_among_all(each, mapped))


def _beside_zero(number: Array) -> Array:
    return np.append(
        np.zeros((1, 1)),
        number,
        axis=1,
    )


def _by_steps(
    each: Any,
    scores: Var,
) -> Var:
    mapped = [
        risen(mapping, one_column(scores, number))
        for number, mapping in enumerate(each.calibrators)
    ]
    two = len(each.classes) == 2
    likely = complement(mapped[0]) if two else shares(_among_all(each, joined(mapped)))
    return op.min([likely, doubles(1.0)])


def _among_all(
    each: Any,
    mapped: Var,
) -> Var:
    """(n, classes): 0 for classes that a fold lacks."""
    places = np.searchsorted(
        each.classes,
        each.estimator.classes_,
    )[: width(mapped)]
    if len(places) == len(each.classes):
        return mapped
    spread = np.zeros((len(places), len(each.classes)))
    spread[np.arange(len(places)), places] = 1.0
    return op.matmul(mapped, doubles(spread))


def risen(
    mapping: Any,
    score: Var,
) -> Var:
    """(n, 1) of float64: one column of numbers as an IsotonicRegression maps it, clipped to its ends."""
    places = mapping.X_thresholds_
    dtype = places.dtype  # in which the source takes numbers, and gives what it makes of them
    given = cast(
        cast(score, dtype),
        np.float64,
    )
    found = interpolated(
        given,
        places,
        mapping.y_thresholds_,
    )
    return cast(
        cast(found, dtype),
        np.float64,
    )


def isotonic(
    estimator: Any,
    columns: Columns,
    _: Converting,
) -> Answer:
    """IsotonicRegression: lines between its steps."""
    if estimator.out_of_bounds == "raise":
        raise ConversionError(
            "IsotonicRegression(out_of_bounds='raise') cannot be converted, since a graph raises no "
            "errors; set out_of_bounds to 'clip' or 'nan'",
            step="IsotonicRegression",
        )
    score = columns.matrix(np.float64)
    found = risen(estimator, score)
    if estimator.out_of_bounds == "nan":
        low = op.less(score, doubles(float(estimator.X_min_)))
        high = op.greater(score, doubles(float(estimator.X_max_)))
        found = op.where(
            op.or_(low, high),
            doubles(np.nan),
            found,
        )
    return Answer(
        prediction=flat(found),
        table=Columns((found,)),
    )


ESTIMATORS = {
    "sklearn.CalibratedClassifierCV": calibrated,
    "sklearn.IsotonicRegression": isotonic,
}
