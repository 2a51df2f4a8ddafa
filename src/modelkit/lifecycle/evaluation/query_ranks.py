"""Figures of how the rows of each query are ranked by a score, with the influence of each; pure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation.intervals import Measured
from modelkit.lifecycle.evaluation.ranks import refuse_nan
from modelkit.lifecycle.evaluation.sums import Undefined, mean_of


class Ranked(NamedTuple):
    """Rows in the order of their queries and, in a query, of falling scores.

    All but `queries` are (n,): `query`; `place`, 0 for the first of a query; `tie`, a number for
    each set of rows of a query with one score; `gain`, how relevant the row is.
    """

    queries: int
    query: Array
    place: Array
    tie: Array
    gain: Array


def ranked(scores: Array, gains: Array, queries: Array) -> Ranked:
    """Sort the rows of all queries, (n,) each. Raises Undefined for a score that is NaN."""
    refuse_nan(scores)
    order = np.lexsort((-scores, queries))
    query = queries[order]
    first = np.ones(len(query), bool)
    first[1:] = query[1:] != query[:-1]
    starts = np.flatnonzero(first)
    place = np.arange(len(query)) - starts[np.cumsum(first) - 1]
    new = first.copy()
    sorted_scores = scores[order]
    new[1:] |= sorted_scores[1:] != sorted_scores[:-1]
    return Ranked(
        queries=int(queries.max()) + 1 if len(queries) else 0,
        query=query,
        place=place,
        tie=np.cumsum(new) - 1,
        gain=gains[order],
    )


def ndcg_by_query(rows: Ranked, k: int) -> Array:
    """The normalised discounted cumulative gain of the first k rows of each query, (queries,).

    Gains are taken as they are, and those of tied rows averaged, as scikit-learn's ndcg_score does.
    NaN for a query of which no row has a gain.
    """
    discount = np.where(rows.place < k, 1 / np.log2(rows.place + 2), 0.0)
    size = np.bincount(rows.tie)
    share = np.bincount(rows.tie, rows.gain) / size
    won = np.bincount(rows.query, share[rows.tie] * discount, rows.queries)
    best = np.lexsort((-rows.gain, rows.query))
    most = np.bincount(rows.query, rows.gain[best] * discount, rows.queries)
    return _ratio_of_queries(won, most)


def precision_by_query(rows: Ranked) -> Array:
    """The average precision of each query, (queries,); a row with a gain above 0 is relevant.

    NaN for a query without such a row. Tied rows are let in together, as in scikit-learn's
    average_precision_score.
    """
    hit = rows.gain > 0
    hits = np.bincount(rows.tie, hit)
    ends = np.cumsum(np.bincount(rows.tie)) - 1
    query = rows.query[ends]
    total = np.bincount(rows.query, hit, rows.queries)
    before = np.concatenate([[0.0], np.cumsum(total)])[query]
    precision = (np.cumsum(hits) - before) / (rows.place[ends] + 1)
    won = np.bincount(query, hits * precision, rows.queries)
    return _ratio_of_queries(won, total)


def _ratio_of_queries(won: Array, most: Array) -> Array:
    """NaN for a query of which nothing could be won."""
    found: Array = np.divide(won, most, out=np.full(len(most), np.nan), where=most > 0)
    return found


def mean_of_queries(by_query: Array, queries: Array, weight: Array) -> Measured:
    """The mean over queries that have the figure; the influence of a query is on its first row.

    Raises Undefined where no query has it.
    """
    used, first = np.unique(queries, return_index=True)
    values = by_query[used]
    known = ~np.isnan(values)
    if not known.any():
        raise Undefined("no query has a row that is relevant")
    part = mean_of(values[known], weight[first][known])
    influence = np.zeros(len(queries))
    influence[first[known]] = part.influence
    return Measured(part.value, influence, part.units)
