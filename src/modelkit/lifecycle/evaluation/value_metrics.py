"""The figures of regressors and rankers, as the table of metrics has them; pure."""

from __future__ import annotations

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.class_metrics import predictions_told, scores_told
from modelkit.stats.influence import Measured, Undefined, average_of, mean_of, r2_of, root_of
from modelkit.stats.ranks import mean_of_queries, ndcg_by_query, precision_by_query, ranked

NDCG_AT = 10


def absolute_errors(answered: Answered) -> Array:
    """The absolute error of each row, (n,), the mean over outputs. Raises Undefined."""
    missed = np.abs(predictions_told(answered) - answered.truth)
    found: Array = missed.mean(axis=1)
    return found


def signed_errors(answered: Answered) -> Array:
    """The prediction of each row less the truth, (n,), the mean over outputs. Raises Undefined."""
    missed: Array = (predictions_told(answered) - answered.truth).mean(axis=1)
    return missed


def root_mean_square(answered: Answered) -> Measured:
    """The square root of the mean squared error, averaged over outputs. Raises Undefined."""
    squares = np.square(predictions_told(answered) - answered.truth)
    return average_of([root_of(mean_of(column, answered.weight)) for column in squares.T])


def r2_over_outputs(answered: Answered) -> Measured:
    """R2, averaged over outputs. Raises Undefined."""
    predicted = predictions_told(answered)
    pairs = zip(answered.truth.T, predicted.T, strict=True)
    return average_of([r2_of(truth, told, answered.weight) for truth, told in pairs])


def ndcg(answered: Answered) -> Measured:
    """The mean over queries of the gain of the first ten rows. Raises Undefined."""
    queries = _queries_of(answered)
    rows = ranked(scores_told(answered), answered.truth, queries)
    return mean_of_queries(ndcg_by_query(rows, NDCG_AT), queries, answered.weight)


def mean_average_precision(answered: Answered) -> Measured:
    """The mean over queries of their average precision. Raises Undefined."""
    queries = _queries_of(answered)
    rows = ranked(scores_told(answered), answered.truth, queries)
    return mean_of_queries(precision_by_query(rows), queries, answered.weight)


def _queries_of(answered: Answered) -> Array:
    if answered.queries is None:
        raise Undefined("nothing says which rows belong to one query")
    return answered.queries
