"""Converters of pipelines and of what else is made of steps, one after the other or side by side, without a vote.

A step in the middle of a pipeline gives its table, whatever else it could answer. Two values of a
sine that are equal but for the last bit are two values to the trees behind it. So what is a function
of one column with few values, such as the hour, gets its source's own values.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.asking import allowed_to_fail, asking
from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.lookup import looked_up
from modelkit.convert.estimators.origins import origins, rounded_columns
from modelkit.convert.estimators.selection import is_selector, kept
from modelkit.convert.estimators.tensors import Answer, Columns, Var, constant, converts, hstack, op
from modelkit.convert.outputs import ask
from modelkit.convert.parity.rows import at as at_places
from modelkit.convert.parity.rows import column_in, dtypes_in, replaced
from modelkit.convert.steps import UNREAD, does_nothing, found_by_search
from modelkit.errors import ConversionError

# What holds an estimator that answers for it, and where.
HELD = {
    "FrozenEstimator": "estimator",
    "GaussianProcessClassifier": "base_estimator_",
    "GridSearchCV": "best_estimator_",
    "HalvingGridSearchCV": "best_estimator_",
    "HalvingRandomSearchCV": "best_estimator_",
    "RANSACRegressor": "estimator_",
    "RandomizedSearchCV": "best_estimator_",
    "SelfTrainingClassifier": "estimator_",
}
FEW_VALUES = 1024  # of a column, at most, for which a table is written
MOST_TABLES = 32  # of the columns of a step: to look up many takes longer than to compute them
MOST_NUMBERS = 2**25  # of the example behind a step, which of texts may have millions of columns
# Steps that give a sparse table of what is not 0, whatever they are given, or where an option says so.
SPARSE = ("CountVectorizer", "HashingVectorizer", "TfidfVectorizer")
SPARSE_WHERE = {
    "KBinsDiscretizer": ("encode", "onehot"),
    "KNeighborsTransformer": ("mode", "connectivity"),
    "MissingIndicator": ("sparse", True),
    "OneHotEncoder": ("sparse_output", True),
    "RadiusNeighborsTransformer": ("mode", "connectivity"),
    "RandomTreesEmbedding": ("sparse_output", True),
}
# Steps that store some zeros, by no rule that a graph follows.
STORES_ZEROS = {
    "HashingVectorizer": ("alternate_sign", True),
    "KNeighborsTransformer": ("mode", "distance"),
    "RadiusNeighborsTransformer": ("mode", "distance"),
    "SplineTransformer": ("sparse_output", True),
}
# Steps that make of a sparse table one of what is not 0, of the same numbers, or of others.
SPARSE_OF_SPARSE = ("Binarizer", "MissingIndicator")
SAME_STORED = ("MaxAbsScaler", "Normalizer", "RobustScaler", "StandardScaler", "TfidfTransformer")
OTHER_STORED = (
    "FunctionTransformer",
    "PolynomialFeatures",
    "QuantileTransformer",
    "SimpleImputer",
    "SparseRandomProjection",
)
CSR_DEGREE = 3  # up to which products are made of the numbers that are stored


@converts("Pipeline", "imblearn.Pipeline")
def pipeline(estimator: Any, columns: Columns, at: Converting) -> Answer | Columns:
    """Pipeline: each step gets what the one before it gives."""
    *before, (_, last) = estimator.steps
    for _, step in before:
        columns = transformed(step, columns, at)
    if does_nothing(last):
        return columns
    return at.answer(last, columns)


@converts("ColumnTransformer")
def columns(estimator: Any, columns: Columns, at: Converting) -> Columns:
    """ColumnTransformer: parts over columns of their own, side by side."""
    places = estimator._transformer_to_input_indices  # no public way
    tables: list[Columns] = []
    for name, step, spec in estimator.transformers_:
        chosen = [int(place) for place in places.get(name, ())]
        if (isinstance(step, str) and step in UNREAD) or not chosen:
            continue
        given = columns.take(chosen)
        if np.isscalar(spec):  # which gives a part a column as a vector
            given = replace(given, ask=partial(_vector, columns, chosen[0]))
        tables.append(_weighted(estimator, name, transformed(step, given, at), at))
    return hstack(tables, sparse=bool(tables) and estimator.sparse_output_)


def _vector(columns: Columns, place: int) -> Any:
    """A column of the rows of the example; None where these are not known."""
    from sklearn.utils import _safe_indexing

    rows = columns.rows()
    return None if rows is None else _safe_indexing(rows, place, axis=1)


@converts("FeatureUnion")
def union(estimator: Any, columns: Columns, at: Converting) -> Columns:
    """FeatureUnion: parts over all columns, side by side."""
    tables = [
        _weighted(estimator, name, transformed(step, columns, at), at)
        for name, step in estimator.transformer_list
        if step not in UNREAD
    ]
    return hstack(tables, sparse=any(table.stored is not None for table in tables))


def _weighted(estimator: Any, name: str, table: Columns, at: Converting) -> Columns:
    weight = (estimator.transformer_weights or {}).get(name)
    if weight is None:
        return table
    wide = np.result_type(at.float_dtype(table), weight)
    return Columns((table.matrix(wide) * constant(weight, wide),), table.stored)


@converts(*HELD)
def held(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """An estimator that hands its rows on to one that it holds."""
    return at.answer(getattr(estimator, HELD[type(estimator).__name__]), columns)


@converts("FixedThresholdClassifier", "TunedThresholdClassifierCV")
def threshold(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """A classifier whose label is the positive class where its score reaches a threshold."""
    inner = at.answer(getattr(estimator, "estimator_", estimator), columns)
    tuned = hasattr(estimator, "best_threshold_")
    # No public way to that of a tuned one.
    named = estimator._curve_scorer._get_pos_label() if tuned else estimator.pos_label
    yes = 1 if named is None else estimator.classes_.tolist().index(named)
    method = estimator.response_method
    bound = estimator.best_threshold_ if tuned else estimator.threshold
    if method == "predict_proba" or (method == "auto" and inner.probabilities is not None):
        score = inner.required("probabilities")[:, yes]
        bound = 0.5 if isinstance(bound, str) else bound
    else:
        decision = inner.required("decision")
        score = decision if yes else -decision
        bound = 0.0 if isinstance(bound, str) else bound
    dtype = np.result_type(score.dtype, bound)  # a number of Python takes that of the scores
    reached = score.astype(dtype) >= constant(bound, dtype)
    place = np.where(reached, yes, 1 - yes)
    return Answer(place=place, probabilities=inner.probabilities, decision=inner.decision)


def transformed(step: Any, columns: Columns, at: Converting) -> Columns:
    """The table that a step makes of columns.

    A selector that predicts as well is not asked to: its prediction may lack a converter.
    """
    if does_nothing(step):
        return columns
    with at.inside(step):
        table = _transformed(step, columns, at)
    if hasattr(step, "steps"):
        return table
    if at.jumps and table.stored is None:
        table = _with_own_values(step, columns, table, at)
    return replace(table, ask=cache(partial(_own_rows, step, columns, sum(table.widths))))


def _own_rows(step: Any, columns: Columns, count: int) -> Any:
    """What a step makes of the rows of the example, `count` columns; None for too many, or if not known."""
    rows = columns.rows()
    if rows is None or len(rows) * count > MOST_NUMBERS:
        return None
    with warnings.catch_warnings(), asking(step, "transform", rows):
        warnings.simplefilter("ignore")
        return step.transform(rows.copy())  # copy=False lets one write into its rows


def _transformed(step: Any, columns: Columns, at: Converting) -> Columns:
    frozen = type(step).__name__ == "FrozenEstimator"
    inner = found_by_search(step.estimator if frozen else step)
    if inner is not step:
        return transformed(inner, columns, at)
    if hasattr(step, "steps"):
        for _, inner in step.steps:
            columns = transformed(inner, columns, at)
        return columns
    if is_selector(step):
        at.guard(step, columns)
        return kept(step, columns)
    table: Columns = at.answer(step, columns).required("table")
    if table is columns or table.stored is not None:
        return table
    return replace(table, stored=_stored(step, columns, table, at))


def _stored(step: Any, columns: Columns, table: Columns, at: Converting) -> Columns | str | None:
    """Which numbers of the table that a step gives are stored in the source: see `Columns.stored`."""
    kind = type(step)
    name = kind.__name__ if kind.__module__.startswith("sklearn.") else ""
    given = columns.stored
    if _has(step, STORES_ZEROS.get(name)):
        return name
    if name in SPARSE or _has(step, SPARSE_WHERE.get(name)):
        return Columns(table.parts)
    if given is None:
        return Columns(columns.parts) if name == "TfidfTransformer" else None
    if name in SPARSE_OF_SPARSE:
        return Columns(table.parts)
    if isinstance(given, str):
        return given if name in (*SAME_STORED, *OTHER_STORED) else None
    if name in SAME_STORED or isinstance(getattr(step, "func", None), np.ufunc):
        return given
    if (
        name == "SimpleImputer"
        and not step.add_indicator
        and sum(table.widths) == sum(columns.widths)
    ):
        return given
    if name == "PolynomialFeatures" and step.powers_.sum(axis=1).max() <= CSR_DEGREE:
        present = ~(given.matrix(np.float64) == 0.0)
        products: Columns = at.answer(step, Columns((present,))).required("table")
        return products
    return name if name in OTHER_STORED else None


def _has(step: Any, option: tuple[str, Any] | None) -> bool:
    """Whether a step has an option with a value; False where its class lacks the option."""
    return option is not None and getattr(step, option[0]) == option[1]


def _with_own_values(step: Any, columns: Columns, table: Columns, at: Converting) -> Columns:
    """The table of a step, with the source's own values where a column is a function of few.

    They are looked up by the values of the one column that it is a function of; for other values
    than the example's, and whole numbers between them, what was computed stays.
    """
    made = origins(table, columns)
    if type(step).__name__ == "QuantileTransformer":  # whose columns share one operator
        made = [replace(origin, columns=frozenset([place])) for place, origin in enumerate(made)]
    single = [next(iter(each.columns)) if len(each.columns) == 1 else -1 for each in made]
    rounded = rounded_columns(columns)
    wanted = {
        source
        for source, origin in zip(single, made, strict=True)
        if source >= 0 and origin.rounded and not rounded[source]
    }
    known = _own_values(step, columns, wanted) if 0 < len(wanted) <= MOST_TABLES else {}
    if not known:
        return table
    parts: list[Var] = []
    for place, (source, origin) in enumerate(zip(single, made, strict=True)):
        (part,) = table.take([place]).parts
        if origin.rounded and source in known:
            number, answers = known[source]
            own = op.gather(constant(np.append(answers[:, place], 0.0), part.dtype), number)
            other = number == len(answers)
            part = np.where(other, part, own)
        parts.append(part)
    return replace(table, parts=tuple(parts))


def _own_values(step: Any, columns: Columns, wanted: set[int]) -> dict[int, tuple[Var, Array]]:
    """By column: the number of each row's value, and what the source makes of each, (values, columns).

    A value without a number gets their count. Columns with too many values are left out, and
    all where the source refuses some.
    """
    from sklearn.utils import _safe_indexing

    rows = columns.table()
    if rows is None:
        return {}
    few = {source: _few_values(rows, source) for source in sorted(wanted)}
    values = {source: each for source, each in few.items() if each is not None}
    if not values:
        return {}
    count = max(map(len, values.values()))
    asked = replaced(
        at_places(rows, np.arange(count) % len(rows)),
        {source: np.resize(each, count) for source, each in values.items()},
    )
    raw = asked if np.ndim(columns.rows()) != 1 else _safe_indexing(asked, 0, axis=1)
    try:
        with allowed_to_fail():
            answers = np.asarray(ask(step, "transform", raw), np.float64)
    except (ConversionError, ValueError):
        return {}
    found = {}
    for source, each in values.items():
        (part,) = columns.take([source]).parts
        number = looked_up(part, each.tolist(), np.arange(len(each)), len(each))
        found[source] = number, answers[: len(each)]
    return found


def _few_values(rows: Any, column: int) -> Array | None:
    """The values of a column, and the whole numbers between them; None for one of many, or of others."""
    dtype = dtypes_in(rows)[column]
    if not isinstance(dtype, np.dtype) or dtype.kind not in "iuf":
        return None
    values = np.unique(column_in(rows, column))
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = values[0], values[-1]
    if (values == np.rint(values)).all() and high - low < FEW_VALUES:
        return np.arange(low, high + 1, dtype=values.dtype)
    return values if len(values) <= FEW_VALUES else None
