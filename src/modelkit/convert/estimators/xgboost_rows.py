"""What trees of XGBoost read: numbers in float32, and behind them the sets of categories."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.arithmetic import equal
from modelkit.convert.estimators.categories import Beside
from modelkit.convert.estimators.lookup import looked_up
from modelkit.convert.estimators.tensors import STRING, Columns, Var, constant, dtype_of, op
from modelkit.convert.estimators.trees import Tree
from modelkit.convert.estimators.xgboost_trees import Codes
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


def given_numbers(columns: Columns, estimator: Any) -> Var:
    """Numbers in float32, with NaN for a missing value.

    Missing is the number that stands for it, and in sparse rows what is not stored. Raises
    ConversionError where a step stores zeros by no rule.
    """
    rows = columns.matrix(np.float32)
    stored = columns.stored
    if isinstance(stored, str):
        raise ConversionError(
            f"XGBoost takes what a sparse matrix does not store for missing, and {stored} stores some "
            "zeros and others not; make its rows dense, as sparse_output=False or "
            "ColumnTransformer(sparse_threshold=0) do, and fit again"
        )
    gone = []
    if stored is not None:
        gone.append(equal(stored.matrix(np.float64), 0.0))
    missing = estimator.missing
    if missing is not None and not np.isnan(missing):
        gone.append(op.equal(rows, constant(missing, np.float32)))
    for each in gone:
        rows = op.where(each, constant(np.nan, np.float32), rows)
    return rows


def names_of(learner: dict[str, Any]) -> dict[int, list[Any]]:
    """The categories of each column that was one of pandas categories, as the model writes them.

    Those with letters beyond ASCII are left out: XGBoost counts their letters where it cuts bytes.
    """
    booster = learner["gradient_booster"]
    model = booster.get("gbtree", booster)["model"]
    found: dict[int, list[Any]] = {}
    for column, known in enumerate(model.get("cats", {}).get("enc", [])):
        if "type" in known:
            found[column] = known["values"]
            continue
        text = bytes(value % 256 for value in known["values"])
        names = [text[start:end] for start, end in pairwise(known["offsets"])]
        if names and text.isascii():
            found[column] = [name.decode() for name in names]
    return found


def beside_sets(
    estimator: Any,
    columns: Columns,
    trees: list[Tree],
    codes: Codes,
    names: dict[int, list[Any]],
    at: Converting,
) -> Beside:
    """What the trees read: columns of numbers, and behind them the sets of categories."""
    found = Beside(np.float32)
    every = range(sum(columns.widths))
    if not codes.sets and not _texts(columns):
        found.add_numbers(every, given_numbers(columns, estimator))
        return found
    numeric = sorted(
        {int(place) for tree in trees for place in tree.column[~tree.leaf] if place >= 0}
    )
    if numeric:
        found.add_numbers(numeric, given_numbers(columns.take(numeric), estimator))
    for column, sets in codes.sets.items():
        taken = columns.take([column])
        (part,) = taken.parts
        known = names.get(column) or at.categories_of(part)
        if known:
            places = np.minimum(np.arange(len(known)), sets.codes - 1)
            number = looked_up(part, known, places, sets.codes, at)
        else:
            number = _codes(taken, sets.codes - 1, estimator)
        found.add_sets(column, sets, number)
    return found


def _texts(columns: Columns) -> bool:
    """Whether any column is one of texts."""
    return any(dtype_of(part) == STRING for part in columns.parts)


def _codes(column: Columns, codes: int, estimator: Any) -> Var:
    """(n, 1) codes: `codes` for one that no split asks for, and one more for a missing value."""
    number = given_numbers(column, estimator)
    beyond = constant(codes, np.float32)
    held = op.where(op.less(number, constant(0.0, np.float32)), beyond, op.min([number, beyond]))
    told = op.where(op.isnan(number), constant(codes + 1, np.float32), held)
    return op.cast(told, to=np.int64)
