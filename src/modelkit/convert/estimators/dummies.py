"""Converters of DummyClassifier and DummyRegressor: one answer for every row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.tensors import Answer, Columns, converts, refuse, repeated


@converts("DummyClassifier")
def constant_class(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """DummyClassifier: the most frequent class, or a constant one."""
    strategy = estimator.strategy
    if strategy in ("stratified", "uniform"):
        refuse(
            estimator,
            f"(strategy={strategy!r}) answers at random and cannot be converted; use "
            "'prior', 'most_frequent' or 'constant'",
        )
    several = estimator.n_outputs_ > 1
    known = estimator.classes_ if several else [estimator.classes_]
    priors = estimator.class_prior_ if several else [estimator.class_prior_]
    answers = []
    for place, (classes, prior) in enumerate(zip(known, priors, strict=True)):
        chosen = int(np.argmax(prior))
        if strategy == "constant":
            chosen = classes.tolist().index(np.ravel(estimator.constant)[place])
        likely = prior if strategy == "prior" else np.eye(len(classes))[chosen]
        answers.append(_same(columns, chosen, np.asarray(likely, np.float64)))
    return Answer(several=tuple(answers)) if several else answers[0]


def _same(columns: Columns, place: int, likely: Array) -> Answer:
    return Answer(
        place=repeated(place, columns.parts[0]), probabilities=repeated(likely, columns.parts[0])
    )


@converts("_ConstantPredictor")
def the_same_for_all(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """The classifier of a class that all rows of training have, or that none has."""
    said = float(estimator.y_[0])
    likely = np.array([1.0 - said, said])
    return replace(_same(columns, int(said), likely), decision=repeated(said, columns.parts[0]))


@converts("DummyRegressor")
def constant_number(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """DummyRegressor: the mean, the median, a quantile or a constant."""
    values = np.ravel(estimator.constant_).astype(np.float64)
    value = values if len(values) > 1 else values[0]
    return Answer(prediction=repeated(value, columns.parts[0]))
