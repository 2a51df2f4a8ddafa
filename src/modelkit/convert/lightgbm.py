"""Converter of LightGBM's estimators in float64, from what `dump_model` tells.

The library itself is not imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from modelkit.convert.categories import Sets, codes_of
from modelkit.convert.forests import mean
from modelkit.convert.lightgbm_trees import (
    LinearLeaves,
    Node,
    codes_in,
    has_linear_leaves,
    is_by_set,
    missing_types,
    nodes_of,
    splits_of,
    tree_over,
)
from modelkit.convert.tensors import (
    STRING,
    Answer,
    Columns,
    Var,
    cast,
    column,
    doubles,
    dtype_of,
    flat,
    joined,
    largest,
    one_column,
    op,
    width,
)
from modelkit.convert.trees import Tree, ensemble
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.converting import Converting

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


def boosted(
    estimator: Any,
    columns: Columns,
    at: Converting,
) -> Answer:
    """LGBMClassifier, LGBMRegressor and LGBMRanker."""
    said = estimator.booster_.dump_model()
    outputs = said["num_tree_per_iteration"]
    nodes = [nodes_of(tree["tree_structure"]) for tree in said["tree_info"]]
    read = _read(columns, nodes, estimator, at)
    trees = [tree_over(each, read.home, read.starts) for each in nodes]
    link = Link(
        said.get("objective", "custom").split(),
        outputs,
    )
    rows = _without_zeros(read, nodes, estimator)
    if has_linear_leaves(nodes):
        added = _sum_of_lines(read, trees, nodes, outputs, link)
    else:
        added = _sum(
            rows,
            trees,
            nodes,
            outputs,
            link,
        )
    averaged = added
    if said.get("average_output"):
        averaged = mean(added, len(trees) // outputs)
    answer = link.after(averaged, estimator)
    if not hasattr(estimator, "classes_"):
        return Answer(prediction=answer if outputs > 1 else flat(answer))
    if link.kind not in PROBABLE:
        raise _refused(f"objective={link.kind!r} of a classifier", estimator)
    # Raw scores of a forest are not averaged in the source.
    decision = column(added, 1) if link.pair else added
    return Answer(
        place=largest(answer),
        probabilities=answer,
        decision=decision,
    )


def _sum(
    rows: Var,
    trees: list[Tree],
    nodes: list[list[Node]],
    outputs: int,
    link: Link,
) -> Var:
    """The sum of the leaves for each output, beside zeros where the link has a pair."""
    targets = []
    weights = []
    for number, each in enumerate(nodes):
        targets.append(np.full(len(each), number % outputs + link.pair))
        weights.append(np.array([node.get("leaf_value", 0.0) for node in each]))
    return ensemble(
        rows,
        trees,
        targets,
        weights,
        outputs + link.pair,
    )


def _sum_of_lines(
    read: Read,
    trees: list[Tree],
    nodes: list[list[Node]],
    outputs: int,
    link: Link,
) -> Var:
    """The same sum, of leaves that are formulas of columns."""
    lines = LinearLeaves(nodes, read.home)
    added = lines.sums(read.rows, trees, outputs)
    return op.concat([op.sub(added, added), added], axis=1) if link.pair else added


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
            return op.mul(op.mul(raw, raw), op.sign(raw))
        if self.kind in EXPONENTIAL:
            return op.exp(raw)
        if self.kind not in IDENTITY:
            raise _refused(f"objective={self.kind!r}", estimator)
        return raw

    def _steep(self, raw: Var) -> Var:
        """The scores times the slope of the sigmoid."""
        slope = float(self.options.get("sigmoid", 1.0))
        return raw if slope == 1.0 else op.mul(raw, doubles(slope))


def _refused(what: str, estimator: Any) -> ConversionError:
    name = type(estimator).__name__
    return ConversionError(
        f"{name} with {what} cannot be converted; use format='joblib'", step=name
    )


class Read(NamedTuple):
    """What trees read: rows of float64, with the place of each feature, and of the first of its sets."""

    rows: Var
    home: dict[int, int]
    starts: dict[int, int]


def _read(
    columns: Columns,
    nodes: list[list[Node]],
    estimator: Any,
    at: Converting,
) -> Read:
    """What the trees read: columns of numbers, codes that have an order, and the sets of others."""
    splits = splits_of(nodes)
    by_set = sorted({node["split_feature"] for node in splits if is_by_set(node)})
    names = _names(columns, estimator, at)
    if not by_set and not names:
        every = range(sum(columns.widths))
        return Read(columns.matrix(np.float64), {place: place for place in every}, {})
    asked = sorted({node["split_feature"] for node in splits} - set(by_set))
    numeric = [feature for feature in asked if feature not in names]
    ordered = [feature for feature in asked if feature in names]
    parts = [columns.take(numeric).matrix(np.float64)] if numeric else []
    parts += [_order(columns, feature, names[feature]) for feature in ordered]
    home = {feature: place for place, feature in enumerate([*numeric, *ordered])}
    starts = {}
    end = len(home)
    for feature in by_set:
        sets = _sets(feature, splits)
        codes = _codes(columns, feature, sets.codes, names.get(feature))
        parts.append(sets.columns(codes))
        starts[feature] = end
        end += len(sets)
    return Read(joined(parts), home, starts)


def _names(
    columns: Columns,
    estimator: Any,
    at: Converting,
) -> dict[int, list[Any]]:
    """The values of each column of pandas categories, in the order of their codes."""
    found = []
    for place in range(sum(columns.widths)):
        (part,) = columns.take([place]).parts
        if dtype_of(part) == STRING or at.categories_of(part):
            found.append(place)
    known = estimator.booster_.pandas_categorical or []
    if len(found) != len(known):
        raise ConversionError(
            f"{type(estimator).__name__} was fitted on {len(known)} columns of pandas categories, "
            f"and is given {len(found)}; pass an example with the dtypes that fit was given",
            step=type(estimator).__name__,
        )
    return dict(zip(found, known, strict=True))


def _sets(feature: int, splits: list[Node]) -> Sets:
    """The sets of codes that the splits of one feature ask for; each split is told the number."""
    asked = [node for node in splits if node["split_feature"] == feature]
    sets = Sets(1 + max(max(codes_in(node)) for node in asked))
    for node in asked:
        left = np.isin(np.arange(sets.codes), codes_in(node))
        node["set"] = sets.number(left, other_left=False)
    return sets


def _codes(
    columns: Columns,
    feature: int,
    codes: int,
    names: list[Any] | None,
) -> Var:
    """(n, 1) codes of a column of categories; `codes` for all that is none of a set."""
    (part,) = columns.take([feature]).parts
    if names is None:
        return _whole(cast(part, np.float64), codes)
    places = np.minimum(np.arange(len(names)), codes)
    return codes_of(part, names, places, codes)


def _order(
    columns: Columns,
    feature: int,
    names: list[Any],
) -> Var:
    """(n, 1) codes of a column whose categories have an order, as numbers; others are missing."""
    (part,) = columns.take([feature]).parts
    places = np.arange(len(names))
    numbers = doubles([*places, np.nan])
    return op.gather(numbers, codes_of(part, names, places, len(names)))


def _whole(part: Var, codes: int) -> Var:
    """Codes as LightGBM reads them: cut off towards zero; below -1, missing and beyond is none."""
    held = op.where(op.greater(part, doubles(-1.0)), op.abs(part), doubles(codes))
    return op.cast(op.where(op.less(held, doubles(codes)), held, doubles(codes)), to=np.int64)


def _without_zeros(
    read: Read,
    nodes: list[list[Node]],
    estimator: Any,
) -> Var:
    """Rows whose zeros are missing in the columns for which LightGBM was told so."""
    kinds = missing_types(splits_of(nodes))
    zeros = [feature for feature, kind in kinds.items() if "Zero" in kind]
    if any(len(kinds[feature]) > 1 for feature in zeros):
        raise _refused("zero_as_missing in some of its trees", estimator)
    if not zeros:
        return read.rows
    if has_linear_leaves(nodes):
        raise _refused("linear_tree and zero_as_missing", estimator)
    bound = np.full(
        (1, width(read.rows)),
        -1.0,
    )
    bound[0, [read.home[feature] for feature in zeros]] = ZERO
    small = op.less_or_equal(op.abs(read.rows), doubles(bound))
    return op.where(small, doubles(np.nan), read.rows)


ESTIMATORS = {
    "lightgbm.LGBMClassifier": boosted,
    "lightgbm.LGBMRegressor": boosted,
    "lightgbm.LGBMRanker": boosted,
}
