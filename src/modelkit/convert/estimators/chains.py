"""Converters of estimators that hand what one model says to the next, or that read it off as a code."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.binary import score_of_two
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    affine,
    beside,
    converts,
    flat,
    gathered,
    joined,
)
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


@converts("ClassifierChain", "RegressorChain")
def chain(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """ClassifierChain and RegressorChain: each model reads the columns and what those before said.

    The labels of a chain of classifiers are numbers, as float64.
    """
    method = getattr(estimator, "chain_method_", "predict")
    links: list[Answer] = []
    said: list[Var] = []
    for each in estimator.estimators_:
        before = Columns(tuple(said))
        link = at.answer(each, beside([columns, before], sparse=columns.stored is not None))
        if link.prediction is None:
            link = replace(link, label=gathered(np.asarray(each.classes_, float), link.place))
        links.append(link)
        said.append(joined([_passed_on(each, link, method)]))

    def ordered(field: str) -> Any:
        found = [getattr(links[place], field) for place in np.argsort(estimator.order_)]
        if any(each is None for each in found):
            return None
        second = field == "probabilities"
        columns = [each[:, 1] if second else each for each in found]
        return joined([each.astype(np.float64) for each in columns])

    return Answer(
        prediction=ordered("prediction"),
        label=ordered("label"),
        probabilities=ordered("probabilities"),
        decision=ordered("decision"),
    )


def _passed_on(each: Any, link: Answer, method: str) -> Var:
    """What a model says to those after it."""
    if link.prediction is not None:
        return flat(link.prediction)
    if method == "predict":
        return link.label
    if len(each.classes_) != 2:
        raise ConversionError(
            "a ClassifierChain with a target of one class or of more than two cannot be converted; "
            "use MultiOutputClassifier, or format='joblib'",
            step="ClassifierChain",
        )
    if method == "decision_function":
        return link.asked("decision")
    found = link.asked("probabilities")[:, 1]
    return np.log(found) if method == "predict_log_proba" else found


@converts("OutputCodeClassifier")
def coded(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """OutputCodeClassifier: the class whose code is nearest to what the classifiers say."""
    said = [score_of_two(each, at.answer(each, columns)) for each in estimator.estimators_]
    code = joined([score.astype(np.float64) for score in said])
    book = np.asarray(estimator.code_book_, np.float64)
    # Of |x - c|^2 the part |x|^2 is the same for all classes.
    apart = affine(code, -2.0 * book.T, (book * book).sum(axis=1))
    return Answer(place=np.argmin(apart, axis=1))
