"""The columns of an example that a fitted estimator does not read, as a ColumnTransformer drops some.

They are no columns of the package: callers may send them or not. What reads columns is told from
the structure of estimators that pass them on as they are; any other reads all it is given.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from modelkit.convert.steps import PARTS, does_nothing, places_of_parts

UNREAD = ("drop",)
# Estimators made of others that may read some columns each, or more than these.
OTHERWISE = (
    "AdaBoostClassifier",
    "AdaBoostRegressor",
    "BaggingClassifier",
    "BaggingRegressor",
    "ClassifierChain",
    "OneVsOneClassifier",
    "OutputCodeClassifier",
    "RANSACRegressor",
    "RegressorChain",
    "SelfTrainingClassifier",
)
# Estimators that hand all their columns on to those that an attribute holds.
HOLDERS = {name: attribute for name, attribute in PARTS.items() if name not in OTHERWISE}
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
        first = next((step for _, step in estimator.steps if not does_nothing(step)), None)
        return None if first is None else [(first, places)]
    if kind == "FeatureUnion":
        return [(part, places) for _, part in estimator.transformer_list if part not in UNREAD]
    if kind == "ColumnTransformer":
        return _parts_of_transformer(estimator, places)
    attribute = _holder(estimator, kind)
    if attribute is None:
        return None
    return [(part, places) for part in _listed(getattr(estimator, attribute))]


def _parts_of_transformer(estimator: Any, places: Places) -> list[tuple[Any, Places]]:
    its_places = places_of_parts(estimator)
    parts = []
    for name, part, _ in estimator.transformers_:
        if part in UNREAD:
            continue
        own = [places[at] for at in its_places.get(name, ())]
        parts.append((part, own))
    return parts


def _kind(estimator: Any) -> str:
    """The name of a class of scikit-learn's own, or of imbalanced-learn's pipeline; "" for any other."""
    kind = type(estimator)
    own = kind.__module__.startswith(("sklearn.", "imblearn.pipeline"))
    return kind.__name__ if own else ""


def _holder(estimator: Any, kind: str) -> str | None:
    if getattr(estimator, "passthrough", False):  # the last estimator of a stacking reads the rows
        return None
    attribute = HOLDERS.get(kind)
    if attribute is None or not hasattr(estimator, attribute):
        return None
    return attribute


def _listed(held: Any) -> list[Any]:
    parts = list(held) if isinstance(held, list | tuple) else [held]
    return [part for part in parts if part not in UNREAD]


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
        made.transformer_list = []
        for name, part in estimator.transformer_list:
            made.transformer_list.append((name, narrowed(part, places, kept)))
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
    made.steps = list(estimator.steps)
    for at, (name, step) in enumerate(estimator.steps):
        if not does_nothing(step):
            made.steps[at] = (name, narrowed(step, places, kept))
            break  # those behind it read what it gives
    return made


def _narrowed_transformer(estimator: Any, places: Places, kept: set[int]) -> Any:
    own = [at for at, place in enumerate(places) if place in kept]
    new = {at: position for position, at in enumerate(own)}
    its_places = places_of_parts(estimator)
    made = copy.copy(estimator)
    made.transformers_ = []
    made_places: dict[str, Places] = {}
    for name, part, chosen in estimator.transformers_:
        its = its_places.get(name, [])
        if part in UNREAD or not its:
            continue
        left = [new[at] for at in its if at in new]
        inner = narrowed(part, [places[at] for at in its], kept)
        one = np.isscalar(chosen)  # then the part is given a vector
        made.transformers_.append((name, inner, left[0] if one else left))
        made_places[name] = left
    made._transformer_to_input_indices = made_places  # no public way
    made.n_features_in_ = len(own)
    if hasattr(estimator, "feature_names_in_"):
        made.feature_names_in_ = estimator.feature_names_in_[own]
    return made
