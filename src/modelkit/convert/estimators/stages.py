"""Trees that are added to a first value, and what a classifier answers by its scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.tensors import Answer, Var, column, largest, op
from modelkit.convert.estimators.trees import LEQ, Tree, ensemble, stump

Stage = tuple[int, Tree, Array]  # the output that a tree adds to, the tree, and its leaves by node


def from_start(
    rows: Var, start: Array, stages: Sequence[Stage], outputs: int, skip: int = 0
) -> Var:
    """(n, skip + outputs): the first value of each output, and its trees in their order.

    The first value is a tree of one leaf: it comes first in the sum, as it does in the source.
    """
    mode = int(stages[0][1].modes[0]) if stages else LEQ
    begun = [k for k in range(outputs) if start[k]]
    first = [(k, stump(mode), np.full(1, start[k])) for k in begun]
    whole = [*first, *stages] or [(0, stump(), np.zeros(1))]
    return ensemble(
        rows,
        [tree for _, tree, _ in whole],
        [np.full(len(tree.left), skip + k) for k, tree, _ in whole],
        [leaves for _, _, leaves in whole],
        skip + outputs,
    )


def by_scores(raw: Var, *, two: bool) -> Answer:
    """Label, probabilities and decision from the scores of classes.

    The one score of `two` classes stands beside zeros: the softmax of both is its sigmoid.
    """
    return Answer(
        place=largest(raw),
        probabilities=op.softmax(raw, axis=1),
        decision=column(raw, 1) if two else raw,
    )
