"""Converter of LightGBM's estimators in float64, from what `dump_model` tells.

The library itself is not imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.arithmetic import at_most, choose, minus, times
from modelkit.convert.estimators.categories import Beside
from modelkit.convert.estimators.elementary import log1p
from modelkit.convert.estimators.forests import mean
from modelkit.convert.estimators.lightgbm_rows import read_by
from modelkit.convert.estimators.lightgbm_trees import (
    Dumped,
    LinearLeaves,
    has_linear_leaves,
    missing_types,
    nodes_of,
    splits_of,
    tree_of_nodes,
)
from modelkit.convert.estimators.scaling import within
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    column,
    flat,
    largest,
    one_column,
    op,
    width,
)
from modelkit.convert.estimators.trees import ensemble
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting

FURTHEST = 1e300  # of a sum of linear leaves: the sigmoid of any number as large is 0 or 1

# Up to here a number counts as zero, and zero as missing where a column says so.
ZERO = float(np.float32(1e-35))
IDENTITY = (
    "regression",
    "regression_l1",
    "huber",
    "fair",
    "quantile",
    "mape",
    "custom",
    "lambdarank",
    "rank_xendcg",
)
EXPONENTIAL = ("poisson", "gamma", "tweedie")
PROBABLE = ("binary", "cross_entropy", "multiclass", "multiclassova")


def boosted(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """LGBMClassifier, LGBMRegressor and LGBMRanker."""
    said = estimator.booster_.dump_model()
    outputs = said["num_tree_per_iteration"]
    nodes = [nodes_of(tree["tree_structure"]) for tree in said["tree_info"]]
    read = read_by(columns, nodes, estimator, at)
    link = Link(said.get("objective", "custom").split(), outputs)
    added = _sum(read, nodes, outputs, link, estimator)
    averaged = added
    if said.get("average_output"):
        averaged = mean(added, len(nodes) // outputs)
    answer = link.after(averaged, estimator)
    if not hasattr(estimator, "classes_"):
        return Answer(prediction=answer if outputs > 1 else flat(answer))
    # Raw scores of a forest are not averaged in the source.
    return _classified(answer, added, link, estimator)


def _classified(likely: Var, added: Var, link: Link, estimator: Any) -> Answer:
    """What a classifier answers, from its probabilities and the sum of its leaves."""
    if link.kind not in PROBABLE:
        raise _refused(f"objective={link.kind!r} of a classifier", estimator)
    return Answer(
        place=largest(likely),
        probabilities=likely,
        decision=column(added, 1) if link.pair else added,
    )


def _sum(read: Beside, nodes: list[list[Dumped]], outputs: int, link: Link, estimator: Any) -> Var:
    """The sum of the leaves for each output, beside zeros where the link has a pair."""
    rows = _without_zeros(read, nodes, estimator)
    trees = [read.placed(tree_of_nodes(each)) for each in nodes]
    if has_linear_leaves(nodes):
        lines = LinearLeaves(nodes, read.home)
        return _paired(lines.sums(rows, trees, outputs), link)
    targets = []
    weights = []
    for number, each in enumerate(nodes):
        targets.append(np.full(len(each), number % outputs + link.pair))
        weights.append(np.array([node.get("leaf_value", 0.0) for node in each]))
    return ensemble(rows, trees, targets, weights, outputs + link.pair)


def _paired(added: Var, link: Link) -> Var:
    """A sum beside zeros, where the link has a pair: finite, for an infinite row has a sigmoid too."""
    if not link.pair:
        return added
    bounded = within(added, -FURTHEST, FURTHEST)
    return op.concat([minus(bounded, bounded), bounded], axis=1)


class Link:
    """What an objective makes of the scores.

    Where two classes have one score, it stands beside zeros (`pair`): the softmax of both is its
    sigmoid.
    """

    def __init__(self, objective: list[str], outputs: int) -> None:
        self.kind = objective[0]
        self.options = dict(word.partition(":")[::2] for word in objective[1:])
        self.pair = outputs == 1 and self.kind in ("binary", "cross_entropy")

    def after(self, raw: Var, estimator: Any) -> Var:
        """(n, outputs) of what is predicted; for a classifier of two classes, (n, 2)."""
        if self.pair:
            likely = op.softmax(self._steep(raw), axis=1)
            return likely if hasattr(estimator, "classes_") else one_column(likely, 1)
        if self.kind == "multiclass":
            return op.softmax(raw, axis=1)
        if self.kind == "multiclassova":
            return op.sigmoid(self._steep(raw))
        if self.kind == "regression" and "sqrt" in self.options:
            return times(times(raw, raw), op.sign(raw))
        if self.kind in EXPONENTIAL:
            return op.exp(raw)
        if self.kind == "cross_entropy_lambda":
            return log1p(op.exp(raw))
        if self.kind not in IDENTITY:
            raise _refused(f"objective={self.kind!r}", estimator)
        return raw

    def _steep(self, raw: Var) -> Var:
        """The scores times the slope of the sigmoid."""
        slope = float(self.options.get("sigmoid", 1.0))
        return raw if slope == 1.0 else times(raw, slope)


def _refused(what: str, estimator: Any) -> ConversionError:
    name = type(estimator).__name__
    return ConversionError(
        f"{name} with {what} cannot be converted; use format='joblib'", step=name
    )


def _zeros_missing(nodes: list[list[Dumped]], estimator: Any) -> list[int]:
    """The features whose zeros count as missing. Raises ConversionError where only some trees say so."""
    kinds = missing_types(splits_of(nodes))
    zeros = [feature for feature, kind in kinds.items() if "Zero" in kind]
    if any(len(kinds[feature]) > 1 for feature in zeros):
        raise _refused("zero_as_missing in some of its trees", estimator)
    if zeros and has_linear_leaves(nodes):
        raise _refused("linear_tree and zero_as_missing", estimator)
    return zeros


def _without_zeros(read: Beside, nodes: list[list[Dumped]], estimator: Any) -> Var:
    """Rows whose zeros are missing in the columns for which LightGBM was told so."""
    zeros = _zeros_missing(nodes, estimator)
    if not zeros:
        return read.rows
    bound = np.full((1, width(read.rows)), -1.0)
    bound[0, [read.home[feature] for feature in zeros]] = ZERO
    small = at_most(op.abs(read.rows), bound)
    return choose(small, np.nan, read.rows)


ESTIMATORS = {
    "lightgbm.LGBMClassifier": boosted,
    "lightgbm.LGBMRegressor": boosted,
    "lightgbm.LGBMRanker": boosted,
}
