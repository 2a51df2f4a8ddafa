"""Converters of classifiers made of others of two classes: against the rest, in pairs, by codes and in chains."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    affine,
    column_stack,
    complement,
    converts,
    flat,
    gathered,
    hstack,
    largest,
    linked,
    op,
    refuse,
)
from modelkit.errors import ConversionError


def score_of_two(each: Any, answer: Answer) -> Var:
    """(n,): the decision of a classifier of two classes, or the probability of the second."""
    if answer.prediction is not None:
        return answer.prediction
    if hasattr(each, "decision_function"):
        decision: Var = answer.required("decision")
        return decision
    return answer.required("probabilities")[:, 1]


def _passed(each: Any, scores: Var) -> Var:
    """1 where the scores of classifiers of two classes say the second."""
    return (scores > (0.0 if hasattr(each, "decision_function") else 0.5)).astype(np.int64)


@converts("OneVsRestClassifier")
def against_rest(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """OneVsRestClassifier: the surest class, or all classes that pass a bound."""
    if len(estimator.classes_) == 1:
        refuse(estimator, " of one class cannot be converted; fit it on rows of several")
    parts = estimator.estimators_
    answers = [at.answer(each, columns) for each in parts]
    pairs = zip(parts, answers, strict=True)
    scores = column_stack([score_of_two(each, answer) for each, answer in pairs])
    likely = None
    if hasattr(estimator, "predict_proba"):
        likely = _against_rest(estimator, answers)
        if all(_by_decision(answer) for answer in answers):
            link = "logistic" if estimator.multilabel_ else "share"
            likely = linked(likely, scores, link)
    if estimator.label_binarizer_.y_type_ == "multiclass":
        last = int(_takes_last(estimator))
        place = op.arg_max(scores, axis=1, keepdims=0, select_last_index=last)
        return Answer(place=place, probabilities=likely, decision=scores)
    passed = _passed(parts[0], scores)
    if not estimator.multilabel_:
        return Answer(place=flat(passed), probabilities=likely, decision=flat(scores))
    return Answer(label=passed, probabilities=likely, decision=scores)


def _takes_last(estimator: Any) -> bool:
    """Whether the last of equally sure classes wins, as in older scikit-learn: it is asked."""
    from sklearn.dummy import DummyClassifier

    even = DummyClassifier(strategy="prior").fit([[0.0], [0.0]], [0, 1])
    asked = copy.copy(estimator)
    asked.estimators_ = [even] * len(estimator.estimators_)
    return bool(asked.predict(np.zeros((1, 1)))[0] != estimator.classes_[0])


def _by_decision(answer: Answer) -> bool:
    """Whether the probabilities of a classifier of two classes are the sigmoid of its decision."""
    likely = answer.required("probabilities")
    return (
        answer.decision is not None and likely.margin is not None and likely.margin[1] == "softmax"
    )


def _against_rest(estimator: Any, answers: list[Answer]) -> Var:
    likely = column_stack([answer.required("probabilities")[:, [1]] for answer in answers])
    if len(answers) == 1:
        likely = complement(likely)
    if estimator.multilabel_:
        return likely
    whole = np.sum(likely, axis=1, keepdims=True)
    return np.where(whole == 0.0, likely, likely / whole)


@converts("OneVsOneClassifier")
def against_one(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """OneVsOneClassifier: votes of pairs of classes, and part of a vote for how sure they were."""
    if estimator.pairwise_indices_ is not None:
        refuse(
            estimator,
            " over a precomputed kernel cannot be converted; save the model with format='joblib'",
        )
    parts = estimator.estimators_
    answers = [at.answer(each, columns) for each in parts]
    pairs = zip(parts, answers, strict=True)
    sure = column_stack([score_of_two(each, answer).astype(np.float64) for each, answer in pairs])
    second = column_stack([answer.required("place") for answer in answers])
    decision = scores_of_pairs(second.astype(np.float64), sure, len(estimator.classes_))
    if len(estimator.classes_) > 2:
        return Answer(place=largest(decision), decision=decision)
    one = decision[:, 1]
    return Answer(place=_passed(parts[0], one), decision=one)


def votes_of_pairs(second: Any, classes: int) -> Any:
    """(n, classes): how many pairs each class wins; `second` is 1 where a pair says its second."""
    turned = _turned(classes)
    before = (turned < 0).sum(axis=0)  # each pair votes for its first class, until it is turned
    return affine(second, turned, before)


def scores_of_pairs(second: Any, sure: Any, classes: int) -> Any:
    """(n, classes): votes, and less than half a vote for how `sure` pairs are of their second class."""
    votes = votes_of_pairs(second, classes)
    sums = sure @ _turned(classes)
    return votes + sums / ((np.abs(sums) + 1.0) * 3.0)


def _turned(classes: int) -> Array:
    """(pairs, classes): what a vote for the second class of a pair changes."""
    pairs = list(combinations(range(classes), 2))
    found = np.zeros((len(pairs), classes))
    for number, (first, second) in enumerate(pairs):
        found[number, first] = -1.0
        found[number, second] = 1.0
    return found


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
        link = at.answer(each, hstack([columns, before], sparse=columns.stored is not None))
        if link.prediction is None:
            link = replace(link, label=gathered(np.asarray(each.classes_, float), link.place))
        links.append(link)
        said.append(column_stack([_passed_on(each, link, method)]))

    def ordered(field: str) -> Any:
        found = [getattr(links[place], field) for place in np.argsort(estimator.order_)]
        if any(each is None for each in found):
            return None
        second = field == "probabilities"
        columns = [each[:, 1] if second else each for each in found]
        return column_stack([each.astype(np.float64) for each in columns])

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
        return link.required("decision")
    found = link.required("probabilities")[:, 1]
    return np.log(found) if method == "predict_log_proba" else found


@converts("OutputCodeClassifier")
def coded(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """OutputCodeClassifier: the class whose code is nearest to what the classifiers say."""
    said = [score_of_two(each, at.answer(each, columns)) for each in estimator.estimators_]
    code = column_stack([score.astype(np.float64) for score in said])
    book = np.asarray(estimator.code_book_, np.float64)
    # Of |x - c|^2 the part |x|^2 is the same for all classes.
    apart = affine(code, -2.0 * book.T, (book * book).sum(axis=1))
    return Answer(place=np.argmin(apart, axis=1))
