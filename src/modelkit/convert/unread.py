"""The columns of an example that a fitted estimator does not read, as a ColumnTransformer drops some.

They are no columns of the package: callers may send them or not. What reads columns is told from
the structure of estimators that pass them on as they are; any other reads all it is given.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

UNREAD = ("drop",)
UNTOUCHED = ("passthrough", None)
# Estimators that hand all their columns on to those that an attribute holds.
HOLDERS = {
    "best_estimator_": ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV"),
    "estimators_": (
        "VotingClassifier", "VotingRegressor", "StackingClassifier", "StackingRegressor", "OneVsRestClassifier",
        "MultiOutputClassifier", "MultiOutputRegressor",
    ),
    "calibrated_classifiers_": ("CalibratedClassifierCV",),
    "estimator_": ("FixedThresholdClassifier", "TunedThresholdClassifierCV"),
    "estimator": ("FrozenEstimator", "_CalibratedClassifier"),
    "regressor_": ("TransformedTargetRegressor",),
}  # fmt: skip
Places = list[int]


def read_places(estimator: Any, places: Places) -> set[int]:
    """Those of its columns, which are called by their places, that an estimator reads."""
    parts = _parts(estimator, places)
    if parts is None:
        return set(places)
    found: set[int] = set()
    for part, its in parts:
        found |= read_places(part, its)
    return found


def _parts(estimator: Any, places: Places) -> list[tuple[Any, Places]] | None:
    """What reads the columns inside an estimator, each with its own; None for the estimator itself."""
    kind = _kind(estimator)
    if kind == "Pipeline":
        first = next((step for _, step in estimator.steps if step not in UNTOUCHED), None)
        return None if first is None else [(first, places)]
    if kind == "FeatureUnion":
        return [(part, places) for _, part in estimator.transformer_list if part not in UNREAD]
    if kind == "ColumnTransformer":
        indices = _indices(estimator)
        parts = []
        for name, part, _ in estimator.transformers_:
            if part not in UNREAD:
                parts.append((part, [places[at] for at in indices.get(name, ())]))
        return parts
    attribute = _holder(estimator, kind)
    if attribute is None:
        return None
    return [(part, places) for part in _listed(getattr(estimator, attribute))]


def _kind(estimator: Any) -> str:
    """The name of a class of scikit-learn's own; "" for any other, which may do otherwise."""
    kind = type(estimator)
    return kind.__name__ if kind.__module__.startswith("sklearn.") else ""


def _holder(estimator: Any, kind: str) -> str | None:
    if getattr(estimator, "passthrough", False):  # the last estimator of a stacking reads the rows
        return None
    for attribute, names in HOLDERS.items():
        if kind in names and hasattr(estimator, attribute):
            return attribute
    return None


def _listed(held: Any) -> list[Any]:
    parts = list(held) if isinstance(held, list | tuple) else [held]
    return [part for part in parts if part not in UNREAD]


def _indices(transformer: Any) -> dict[str, Places]:
    """The positions of the columns of each part of a column transformer."""
    found = transformer._transformer_to_input_indices  # noqa: SLF001 - no public way
    return {name: list(map(int, its)) for name, its in found.items()}


def narrowed(estimator: Any, places: Places, kept: set[int]) -> Any:
    """A copy of an estimator that is given the columns that are kept, and no others.

    `kept` holds all that it reads.
    """
    kind = _kind(estimator)
    attribute = _holder(estimator, kind)
    if kind == "ColumnTransformer":
        return _narrowed_transformer(estimator, places, kept)
    if kind == "Pipeline":
        return _narrowed_pipeline(estimator, places, kept)
    made = copy.copy(estimator)
    if kind == "FeatureUnion":
        parts = [(name, narrowed(part, places, kept)) for name, part in estimator.transformer_list]
        made.transformer_list = parts
    elif attribute is not None:
        held = getattr(estimator, attribute)
        several = isinstance(held, list | tuple)
        inner = [narrowed(part, places, kept) for part in _listed(held)]
        setattr(made, attribute, inner if several else inner[0])
    else:
        return estimator
    return made


def _narrowed_pipeline(estimator: Any, places: Places, kept: set[int]) -> Any:
    made = copy.copy(estimator)
    steps = list(estimator.steps)
    first = next((at for at, (_, step) in enumerate(steps) if step not in UNTOUCHED), None)
    if first is not None:
        name, step = steps[first]
        steps[first] = (name, narrowed(step, places, kept))
    made.steps = steps
    return made


def _narrowed_transformer(estimator: Any, places: Places, kept: set[int]) -> Any:
    own = [at for at, place in enumerate(places) if place in kept]
    new = {at: position for position, at in enumerate(own)}
    made = copy.copy(estimator)
    made.transformers_ = []
    indices = {}
    for name, part, chosen in estimator.transformers_:
        its = _indices(estimator).get(name, [])
        if part in UNREAD or not its:
            continue
        indices[name] = [new[at] for at in its if at in new]
        inner = narrowed(part, [places[at] for at in its], kept)
        one = np.isscalar(chosen)  # then the part is given a vector
        made.transformers_.append((name, inner, indices[name][0] if one else indices[name]))
    made._transformer_to_input_indices = indices  # noqa: SLF001 - no public way
    made.n_features_in_ = len(own)
    if hasattr(estimator, "feature_names_in_"):
        made.feature_names_in_ = estimator.feature_names_in_[own]
    return made
