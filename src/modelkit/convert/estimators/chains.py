"""Converters of estimators that hand what one model says to the next, or that read it off as a code."""

from __future__ import annotations

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
    upright,
)
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


@converts("ClassifierChain", "RegressorChain")
def chain(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """ClassifierChain and RegressorChain: each model reads the columns and what those before said."""
    method = getattr(estimator, "chain_method_", "predict")
    links: list[Answer] = []
    features: list[Var] = []
    for each in estimator.estimators_:
        said = Columns(tuple(features))
        answer = at.answer(each, beside([columns, said], sparse=columns.stored is not None))
        links.append(answer)
        features.append(upright(_passed_on(each, answer, method)))
    back = np.argsort(estimator.order_)
    ordered = [links[place] for place in back]
    if ordered[0].prediction is not None:
        return Answer(prediction=_side_by_side([link.asked("prediction") for link in ordered]))
    models = [estimator.estimators_[place] for place in back]
    return _labels(models, ordered)


def _passed_on(each: Any, answer: Answer, method: str) -> Var:
    """(n,): what a model says to those after it."""
    if answer.prediction is not None:
        return flat(answer.prediction)
    if method == "predict":
        return gathered(_numbers(each), answer.asked("place"))
    if len(each.classes_) != 2:
        raise ConversionError(
            "a ClassifierChain with a target of one class or of more than two cannot be converted; "
            "use MultiOutputClassifier, or format='joblib'",
            step="ClassifierChain",
        )
    if method == "decision_function":
        decision: Var = answer.asked("decision")
        return decision
    found = answer.asked("probabilities")[:, 1]
    return np.log(found) if method == "predict_log_proba" else found


def _numbers(each: Any) -> Any:
    return np.asarray(each.classes_, np.float64)


def _side_by_side(vectors: list[Var]) -> Var:
    return joined(
        [(vector if vector.ndim == 2 else upright(vector)).astype(np.float64) for vector in vectors]
    )


def _labels(models: list[Any], links: list[Answer]) -> Answer:
    """What a chain of classifiers answers; the labels are numbers, as float64."""
    labels = []
    for each, link in zip(models, links, strict=True):
        labels.append(gathered(_numbers(each), link.asked("place")))
    likely = None
    if all(link.probabilities is not None for link in links):
        likely = _side_by_side([link.asked("probabilities")[:, 1] for link in links])
    decision = None
    if all(link.decision is not None for link in links):
        decision = _side_by_side([link.asked("decision") for link in links])
    return Answer(label=_side_by_side(labels), probabilities=likely, decision=decision)


@converts("OutputCodeClassifier")
def coded(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """OutputCodeClassifier: the class whose code is nearest to what the classifiers say."""
    said = []
    for each in estimator.estimators_:
        score = score_of_two(each, at.answer(each, columns))
        said.append(upright(score.astype(np.float64)))
    code = joined(said)
    book = np.asarray(estimator.code_book_, np.float64)
    # Of |x - c|^2 the part |x|^2 is the same for all classes.
    apart = affine(code, -2.0 * book.T, (book * book).sum(axis=1))
    return Answer(place=np.argmin(apart, axis=1))


@converts("SelfTrainingClassifier")
def taught(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """SelfTrainingClassifier: the classifier that was fitted last."""
    return at.answer(estimator.estimator_, columns)
