"""Converters of feature selection: some of the columns, as they are."""

from __future__ import annotations

from typing import Any

from modelkit.convert.estimators.tensors import Answer, Columns
from modelkit.errors import ConversionError


def is_selector(estimator: Any) -> bool:
    """Whether a transformer of scikit-learn passes on some columns and nothing else."""
    kind = type(estimator)
    ours = f"sklearn.{kind.__name__}" in ESTIMATORS
    return ours and kind.__module__.startswith("sklearn.feature_selection.")


def kept(estimator: Any, columns: Columns) -> Columns:
    """The columns that a selector passes on, in their order. Raises ConversionError for none."""
    name = type(estimator).__name__
    places = estimator.get_support(indices=True).tolist()
    if not places:
        raise ConversionError(
            f"{name} passes on no column at all; choose a less strict test, or leave the step out",
            step=name,
        )
    return columns.take(places)


def selected(estimator: Any, columns: Columns, _: Any) -> Answer:
    """A selector that only transforms."""
    return Answer(table=kept(estimator, columns))


def eliminated(estimator: Any, columns: Columns, at: Any) -> Answer:
    """RFE as the last step: what its estimator says of the columns that it kept."""
    answer: Answer = at.answer(estimator.estimator_, kept(estimator, columns))
    return answer


ESTIMATORS = {
    "sklearn.GenericUnivariateSelect": selected,
    "sklearn.SelectFdr": selected,
    "sklearn.SelectFpr": selected,
    "sklearn.SelectFromModel": selected,
    "sklearn.SelectFwe": selected,
    "sklearn.SelectKBest": selected,
    "sklearn.SelectPercentile": selected,
    "sklearn.SequentialFeatureSelector": selected,
    "sklearn.VarianceThreshold": selected,
    "sklearn.RFE": eliminated,
    "sklearn.RFECV": eliminated,
}
