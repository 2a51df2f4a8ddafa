"""Numbers that an estimator refuses with an error, as masks: what its graph has to refuse as well.

The signature refuses what no row may hold. These are numbers that a step makes of a row which it
takes, such as the logarithm of 0, and that a step behind it refuses.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.asking import allowed_to_fail
from modelkit.convert.estimators.tensors import Columns, Var, width
from modelkit.convert.outputs import ask
from modelkit.convert.steps import where_parts

CONTAINERS = ("steps", "transformers_", "transformer_list")  # which leave refusals to their parts
LARGE = 1e39  # infinite in float32, in which trees compare
KINDS = (np.nan, np.inf, LARGE)
# Those that make numbers which are not finite, or vast, of ordinary ones; that no row is near, too.
REACHING = (
    "FunctionTransformer",
    "GammaRegressor",
    "PoissonRegressor",
    "PolynomialFeatures",
    "PowerTransformer",
    "RadiusNeighborsRegressor",
    "TransformedTargetRegressor",
    "TweedieRegressor",
)


def reaches_infinity(estimator: Any) -> bool:
    """Whether what a transformer makes of finite numbers may not be finite."""
    unknown = getattr(estimator, "unknown_value", None)  # of an OrdinalEncoder
    beyond = getattr(estimator, "out_of_bounds", None)  # of an IsotonicRegression
    return type(estimator).__name__ in REACHING or "nan" in (str(unknown), beyond)


def not_finite(estimator: Any, part: Var, first: int, count: int) -> tuple[list[Var], bool]:
    """Where an estimator refuses NaN or infinities in a part of its `count` columns.

    The columns of the part are those from the `first` on. Whether each is refused is what the
    fitted estimator itself says to such rows. A mask is 0 for what it takes, False or a number, and
    anything else, NaN too, for what it refuses. Also gives whether the rest is finite throughout.
    """
    found = []
    finite = 0
    for kinds, places in _refused_kinds(estimator, range(first, first + width(part)), count):
        chosen = Columns((part,)).take([place - first for place in places]).parts[0]
        if LARGE in kinds:
            chosen = chosen.astype(np.float32)
        if kinds.issuperset(KINDS[:2]):
            finite += len(places)
            found.append(
                chosen @ np.zeros((len(places), 1), chosen.dtype)
            )  # 0 times infinity is NaN
        elif np.inf in kinds:
            found.append(np.isinf(chosen))
        else:
            found.append(np.isnan(chosen))
    return found, finite == width(part)


def _refused_kinds(
    estimator: Any, places: range, count: int
) -> list[tuple[frozenset[float], list[int]]]:
    """The kinds of numbers that an estimator refuses, each with the columns where it does."""
    usual = _usual(estimator, count)
    if usual is None and _allows_gaps(estimator):
        return []
    together = where_parts(estimator) is None and type(estimator).__name__ != "MissingIndicator"
    by_kinds: dict[frozenset[float], list[int]] = {}
    for group in [list(places)] if together else [[place] for place in places]:
        kinds = frozenset(
            kind for kind in KINDS if usual is None or not _takes(estimator, usual, group, kind)
        )
        if kinds:
            by_kinds.setdefault(kinds, []).extend(group)
    return [*by_kinds.items()]


def _allows_gaps(estimator: Any) -> bool:
    """Whether an estimator that cannot be asked says of itself that it takes missing values."""
    from sklearn.utils import get_tags

    try:
        return bool(get_tags(estimator).input_tags.allow_nan)
    except Exception:  # of a library whose tags are others
        return True


def _usual(estimator: Any, count: int) -> Array | None:
    """Numbers that an estimator takes, (1, count); None where it refuses the likely ones."""
    likely = [np.zeros((1, count)), np.ones((1, count))]
    known = [values[0] for values in getattr(estimator, "categories_", [])]
    if len(known) == count:
        texts = any(isinstance(value, str) for value in known)
        likely.insert(0, np.array([known], object if texts else np.float64))
    return next((each for each in likely if _takes(estimator, each, [], 0.0)), None)


def _takes(estimator: Any, numbers: Array, places: list[int], value: float) -> bool:
    """Whether an estimator answers numbers, with a value put in some columns."""
    given: Any = numbers.copy()
    given[:, places] = value
    names = getattr(estimator, "feature_names_in_", None)
    pandas = sys.modules.get("pandas")
    if names is not None and pandas is not None:
        given = pandas.DataFrame(given, columns=names)
    try:
        with allowed_to_fail(), np.errstate(all="ignore"):
            ask(estimator, "predict" if hasattr(estimator, "predict") else "transform", given)
    except Exception:  # any refusal counts
        return False
    return True
