"""Converters of feature selection: some of the columns, as they are."""

from __future__ import annotations

from typing import Any

from modelkit.convert.estimators.tensors import TENSOR_CONVERTERS, Answer, Columns, converts, refuse


def is_selector(estimator: Any) -> bool:
    """Whether a transformer of scikit-learn passes on some columns and nothing else."""
    kind = type(estimator)
    ours = f"sklearn.{kind.__name__}" in TENSOR_CONVERTERS
    return ours and kind.__module__.startswith("sklearn.feature_selection.")


def kept(estimator: Any, columns: Columns) -> Columns:
    """The columns that a selector passes on, in their order. Raises ConversionError for none."""
    places = estimator.get_support(indices=True).tolist()
    if not places:
        refuse(
            estimator,
            " passes on no column at all; choose a less strict test, or leave the step out",
        )
    return columns.take(places)


@converts(
    "GenericUnivariateSelect",
    "SelectFdr",
    "SelectFpr",
    "SelectFromModel",
    "SelectFwe",
    "SelectKBest",
    "SelectPercentile",
    "SequentialFeatureSelector",
    "VarianceThreshold",
)
def selected(estimator: Any, columns: Columns, _: Any) -> Columns:
    """A selector that only transforms."""
    return kept(estimator, columns)


@converts("RFE", "RFECV")
def eliminated(estimator: Any, columns: Columns, at: Any) -> Answer:
    """RFE as the last step: what its estimator says of the columns that it kept."""
    answer: Answer = at.answer(estimator.estimator_, kept(estimator, columns))
    return answer
