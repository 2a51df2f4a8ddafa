"""Converters of estimators that let several others vote, or that add up what they say.

Sums are made in the order and the precision of the source, and of equal votes the winner is the one
it takes.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.cast import Array
from modelkit.convert.estimators.arithmetic import (
    choose,
    equal,
    greater,
    over,
    plus,
    product,
    times,
)
from modelkit.convert.estimators.forests import is_tree, leaves_of, mean, tree_of
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    alike,
    cast,
    column,
    complement,
    constant,
    doubles,
    dtype_of,
    flat,
    joined,
    largest,
    one_column,
    op,
    rank,
    total,
    upright,
)
from modelkit.convert.estimators.trees import sum_of_leaves
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


def voting(
    estimator: Any,
    columns: Columns,
    at: Converting,
) -> Answer:
    """VotingClassifier and VotingRegressor."""
    weights = estimator._weights_not_none  # noqa: SLF001 - those of estimators that were not dropped
    parts = estimator.estimators_
    if not hasattr(estimator, "voting"):
        said = [at.answer(each, columns).asked("prediction") for each in parts]
        return Answer(prediction=_average(said, weights))
    if estimator.voting == "soft":
        said = [at.answer(each, columns).asked("probabilities") for each in parts]
        likely = _average(said, weights)
        return Answer(
            place=largest(likely),
            probabilities=likely,
        )
    return Answer(place=largest(_votes(estimator, columns, at)))


def _votes(
    estimator: Any,
    columns: Columns,
    at: Converting,
) -> Var:
    """(n, classes): the weights of the estimators that say each class."""
    weights = estimator._weights_not_none  # noqa: SLF001 - as above
    numbers = constant([range(len(estimator.classes_))], np.int64)
    votes = []
    for number, each in enumerate(estimator.estimators_):
        place = at.place(
            each,
            columns,
            np.asarray(each.classes_),
        )
        vote = cast(
            equal(upright(place), numbers),
            np.float64,
        )
        votes.append(vote if weights is None else times(vote, float(weights[number])))
    return total(votes)


def _average(parts: list[Var], weights: Any) -> Var:
    """numpy.average over the parts: in float32 where all of them are and there are no weights."""
    same = alike(parts)
    if weights is None:
        return over(total(same), constant(len(same), dtype_of(same[0])))
    given = np.asarray(weights)
    wide = [cast(part, np.result_type(dtype_of(part), given.dtype)) for part in same]
    dtype = dtype_of(wide[0])
    weighed = [
        times(part, constant(weight, dtype)) for part, weight in zip(wide, given, strict=True)
    ]
    return over(total(weighed), constant(given.sum(dtype=dtype), dtype))


def stacking(
    estimator: Any,
    columns: Columns,
    at: Converting,
) -> Answer:
    """StackingClassifier and StackingRegressor: the last estimator reads what the others say."""
    parts: list[Var] = []
    for each, method in zip(estimator.estimators_, estimator.stack_method_, strict=True):
        said = _said(
            each,
            method,
            at.answer(each, columns),
        )
        two = method == "predict_proba" and len(estimator.classes_) == 2
        parts.append(one_column(said, 1) if two else said)
    if estimator.passthrough:
        parts += columns.parts
    return at.answer(estimator.final_estimator_, Columns(tuple(parts)))


def _said(
    each: Any,
    method: str,
    answer: Answer,
) -> Var:
    """What one estimator says, as a matrix."""
    if method == "predict_proba":
        likely: Var = answer.asked("probabilities")
        return likely
    if method == "decision_function":
        said: Var = answer.asked("decision")
    elif answer.prediction is not None:
        said = answer.prediction
    else:
        classes = np.asarray(each.classes_)
        if classes.dtype.kind not in "biuf":
            raise ConversionError(
                "labels that are no numbers cannot be stacked; use stack_method='predict_proba'"
            )
        said = op.gather(doubles(classes), answer.asked("place"))
    return said if rank(said) == 2 else upright(said)


def bagging(
    estimator: Any,
    columns: Columns,
    at: Converting,
) -> Answer:
    """BaggingClassifier and BaggingRegressor: a mean of estimators over some columns each."""
    parts = estimator.estimators_
    classes = len(estimator.classes_) if hasattr(estimator, "classes_") else 0
    if all(map(is_tree, parts)) and parts[0].n_outputs_ == 1:
        added = _bagged_trees(estimator, columns, classes)
    else:
        said = []
        for each, chosen in zip(parts, estimator.estimators_features_, strict=True):
            given = columns.take([int(place) for place in chosen])
            said.append(_bagged(each, given, classes, at))
        added = total(said)
    middle = mean(
        cast(added, np.float64),
        len(parts),
    )
    if classes:
        return Answer(
            place=largest(middle),
            probabilities=middle,
            decision=_mean_decision(estimator, columns, at),
        )
    return Answer(prediction=flat(middle) if rank(middle) == 2 else middle)


def _mean_decision(
    estimator: Any,
    columns: Columns,
    at: Converting,
) -> Var | None:
    """The mean of the decisions of estimators that have some and saw all classes."""
    parts = estimator.estimators_
    if not hasattr(parts[0], "decision_function"):
        return None
    said = []
    for each, chosen in zip(parts, estimator.estimators_features_, strict=True):
        if len(each.classes_) < len(estimator.classes_):
            return None
        given = columns.take([int(place) for place in chosen])
        said.append(at.answer(each, given).asked("decision"))
    return mean(
        cast(total(said), np.float64),
        len(parts),
    )


def _bagged_trees(
    estimator: Any,
    columns: Columns,
    classes: int,
) -> Var:
    """The sum of what trees say, each of which may see some of the columns."""
    trees = []
    values = []
    for each, chosen in zip(estimator.estimators_, estimator.estimators_features_, strict=True):
        leaves = leaves_of(each)
        if classes:
            leaves = _spread(
                leaves,
                np.asarray(each.classes_, np.int64),
                classes,
            )
        trees.append(tree_of(each, chosen))
        values.append(leaves)
    return sum_of_leaves(
        columns.matrix(np.float32),
        trees,
        values,
    )


def _spread(
    leaves: Array,
    own: Array,
    classes: int,
) -> Array:
    """Probabilities of the classes an estimator saw, among those of all."""
    whole = np.zeros((len(leaves), classes))
    whole[:, own] = leaves
    return whole


def _bagged(
    each: Any,
    columns: Columns,
    classes: int,
    at: Converting,
) -> Var:
    """What one estimator adds: its prediction, probabilities, or a vote where it has none."""
    answer = at.answer(each, columns)
    if not classes:
        prediction: Var = answer.asked("prediction")
        return prediction
    own = np.asarray(each.classes_, np.int64)
    if not hasattr(each, "predict_proba"):
        return _vote(answer, own, classes)
    likely: Var = answer.asked("probabilities")
    if len(own) == classes:
        return likely
    spread = _spread(
        np.eye(len(own)),
        own,
        classes,
    )
    return product(cast(likely, np.float64), spread)


def _vote(
    answer: Answer,
    own: Array,
    classes: int,
) -> Var:
    """(n, classes): 1 for the class that an estimator of its own classes says."""
    vote = op.gather(constant(own, np.int64), answer.asked("place"))
    same = op.equal(upright(vote), constant([range(classes)], np.int64))
    return cast(same, np.float64)


def score_of_two(each: Any, answer: Answer) -> Var:
    """(n,): the decision of a classifier of two classes, or the probability of the second."""
    if answer.prediction is not None:
        return answer.prediction
    if hasattr(each, "decision_function"):
        decision: Var = answer.asked("decision")
        return decision
    return column(answer.asked("probabilities"), 1)


def _bound(each: Any) -> float:
    """Above which score a classifier of two classes says the second."""
    return 0.0 if hasattr(each, "decision_function") else 0.5


def against_rest(
    estimator: Any,
    columns: Columns,
    at: Converting,
) -> Answer:
    """OneVsRestClassifier: the surest class, or all classes that pass a bound."""
    if len(estimator.classes_) == 1:
        raise ConversionError(
            "an OneVsRestClassifier of one class cannot be converted; fit it on rows of several",
            step="OneVsRestClassifier",
        )
    parts = estimator.estimators_
    answers = [at.answer(each, columns) for each in parts]
    pairs = zip(parts, answers, strict=True)
    scores = joined([upright(score_of_two(each, answer)) for each, answer in pairs])
    likely = _against_rest(estimator, answers) if hasattr(estimator, "predict_proba") else None
    if estimator.label_binarizer_.y_type_ == "multiclass":
        last = int(_takes_last(estimator))
        place = op.arg_max(scores, axis=1, keepdims=0, select_last_index=last)
        return Answer(
            place=place,
            probabilities=likely,
            decision=scores,
        )
    passed = _passed(scores, parts[0])
    if not estimator.multilabel_:
        return Answer(
            place=flat(passed),
            probabilities=likely,
            decision=flat(scores),
        )
    return Answer(
        label=passed,
        probabilities=likely,
        decision=scores,
    )


def _passed(scores: Var, like: Any) -> Var:
    """1 where a score passes the bound of classifiers like one of them."""
    bound = constant(
        _bound(like),
        dtype_of(scores),
    )
    return cast(
        greater(scores, bound),
        np.int64,
    )


def _takes_last(estimator: Any) -> bool:
    """Whether the last of equally sure classes wins, as in older scikit-learn: it is asked."""
    from sklearn.dummy import DummyClassifier

    even = DummyClassifier(strategy="prior").fit(
        [[0.0], [0.0]],
        [0, 1],
    )
    asked = copy.copy(estimator)
    asked.estimators_ = [even] * len(estimator.estimators_)
    return bool(asked.predict(np.zeros((1, 1)))[0] != estimator.classes_[0])


def _against_rest(estimator: Any, answers: list[Answer]) -> Var:
    likely = joined([one_column(answer.asked("probabilities"), 1) for answer in answers])
    if len(answers) == 1:
        likely = complement(likely)
    if estimator.multilabel_:
        return likely
    whole = op.reduce_sum(likely, constant([1], np.int64), keepdims=1)
    zero = constant(0.0, dtype_of(likely))
    return choose(equal(whole, zero), likely, over(likely, whole))


def against_one(
    estimator: Any,
    columns: Columns,
    at: Converting,
) -> Answer:
    """OneVsOneClassifier: votes of pairs of classes, and part of a vote for how sure they were."""
    if estimator.pairwise_indices_ is not None:
        raise ConversionError("OneVsOneClassifier over a precomputed kernel cannot be converted")
    parts = estimator.estimators_
    answers = [at.answer(each, columns) for each in parts]
    pairs = zip(parts, answers, strict=True)
    scores = [cast(score_of_two(each, answer), np.float64) for each, answer in pairs]
    sure = joined([upright(score) for score in scores])
    second = joined([upright(answer.asked("place")) for answer in answers])
    decision = _votes_of_pairs(
        cast(second, np.float64),
        sure,
        len(estimator.classes_),
    )
    if len(estimator.classes_) > 2:
        return Answer(
            place=largest(decision),
            decision=decision,
        )
    one = column(decision, 1)
    above = greater(one, _bound(parts[0]))
    return Answer(
        place=cast(above, np.int64),
        decision=one,
    )


def _votes_of_pairs(
    second: Var,
    sure: Var,
    classes: int,
) -> Var:
    """(n, classes): votes, and less than half a vote for how sure the classifiers were.

    `second` is 1 where a pair says its second class.
    """
    toward, first = _pairs_of_classes(classes)
    votes = plus(product(second, toward), first)
    added = product(sure, toward)
    below = times(3.0, plus(op.abs(added), 1.0))
    return plus(votes, over(added, below))


def _pairs_of_classes(classes: int) -> tuple[Array, Array]:
    """(pairs, classes): what a vote for a second class changes, and the votes before.

    Before, each pair votes for its first class.
    """
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    toward = np.zeros((len(pairs), classes))
    first = np.zeros((1, classes))
    for k, (i, j) in enumerate(pairs):
        toward[k, i] = -1.0
        toward[k, j] = 1.0
        first[0, i] += 1.0
    return toward, first


def several(
    estimator: Any,
    columns: Columns,
    at: Converting,
) -> Answer:
    """MultiOutputClassifier and MultiOutputRegressor: an estimator for each target."""
    answers = [at.answer(each, columns) for each in estimator.estimators_]
    if answers[0].prediction is None:
        return Answer(several=tuple(answers))
    return Answer(prediction=joined([upright(answer.asked("prediction")) for answer in answers]))


ESTIMATORS = {
    "sklearn.VotingClassifier": voting,
    "sklearn.VotingRegressor": voting,
    "sklearn.StackingClassifier": stacking,
    "sklearn.StackingRegressor": stacking,
    "sklearn.BaggingClassifier": bagging,
    "sklearn.BaggingRegressor": bagging,
    "sklearn.OneVsRestClassifier": against_rest,
    "sklearn.OneVsOneClassifier": against_one,
    "sklearn.MultiOutputClassifier": several,
    "sklearn.MultiOutputRegressor": several,
}
