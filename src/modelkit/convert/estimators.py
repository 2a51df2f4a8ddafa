"""What an estimator is made of, and the forms of it that the converter takes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from modelkit.cast import is_missing

# Estimators that compare their rows in float32. Networks compute in it too, since that costs no
# accuracy that parity would see and is twice as fast.
NARROW_MODULES = ("sklearn.tree.", "sklearn.ensemble.", "xgboost.", "catboost.")
WIDE_MODULES = ("sklearn.ensemble._hist_gradient_boosting.",)
# Estimators made of others that read the same rows, and where these are.
PARTS = {
    "estimators_": (
        "VotingClassifier", "VotingRegressor", "StackingClassifier", "StackingRegressor", "BaggingClassifier",
        "BaggingRegressor", "AdaBoostClassifier", "AdaBoostRegressor", "OneVsRestClassifier", "OneVsOneClassifier",
        "MultiOutputClassifier", "MultiOutputRegressor",
    ),
    "calibrated_classifiers_": ("CalibratedClassifierCV",),
    "best_estimator_": ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV"),
    "estimator_": ("FixedThresholdClassifier", "TunedThresholdClassifierCV"),
    "estimator": ("FrozenEstimator", "_CalibratedClassifier"),
}  # fmt: skip
# What votes, or splits by thresholds: converted here, and not by a library.
OWN = (
    "sklearn.tree.", "sklearn.ensemble.", "sklearn.multiclass.", "sklearn.multioutput.", "sklearn.calibration.",
    "sklearn.model_selection._classification_threshold.", "sklearn.preprocessing._discretization.", "lightgbm.",
)  # fmt: skip
TREES = (
    "sklearn.tree.", "sklearn.ensemble._forest.", "sklearn.ensemble._gb.", "sklearn.ensemble._iforest.",
    "sklearn.ensemble._hist_gradient_boosting.", "sklearn.preprocessing._discretization.", "lightgbm.",
)  # fmt: skip
# Single estimators that the library's converters compute in float32, or from rounded squares.
OWN_NAMES = (
    "SVC", "NuSVC", "KNeighborsClassifier", "KNeighborsRegressor", "BernoulliNB", "PowerTransformer",
    "PolynomialFeatures",
)  # fmt: skip
THRESHOLDED = ("FixedThresholdClassifier", "TunedThresholdClassifierCV")


def prepared(estimator: Any) -> Any:
    """An estimator that answers the same, in a form that the converter takes."""
    return _with_casts(_unflattened(_by_position(estimator)))


def last_step(estimator: Any) -> Any:
    """The last step of a pipeline; any other estimator itself."""
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


def where_parts(estimator: Any) -> str | None:
    """The attribute that holds the fitted estimators which an estimator is made of; None for any other."""
    name = type(estimator).__name__
    for attribute, names in PARTS.items():
        if name in names and hasattr(estimator, attribute):
            return attribute
    return None


def inner_parts(estimator: Any) -> list[Any]:
    """The fitted estimators that read the same rows inside one that is made of them; empty for any other."""
    attribute = where_parts(estimator)
    if attribute is None:
        return []
    found = getattr(estimator, attribute)
    return list(found) if isinstance(found, list | tuple) else [found]


def is_narrow(estimator: Any) -> bool:
    """Whether an estimator reads its rows as float32; a network does so where it stands alone."""
    if f"{type(estimator).__module__}.".startswith("sklearn.neural_network."):
        return True
    return _reads_float32(estimator)


def _reads_float32(estimator: Any) -> bool:
    parts = inner_parts(estimator)
    if getattr(estimator, "passthrough", False):  # the last estimator of a stacking reads the rows
        parts = [*parts, estimator.final_estimator_]
    if parts:
        return all(_reads_float32(part) for part in parts)
    module = f"{type(estimator).__module__}."
    return module.startswith(NARROW_MODULES) and not module.startswith(WIDE_MODULES)


def is_composed(estimator: Any) -> bool:
    """Whether anything in an estimator votes, is a tree or is otherwise ours to convert."""
    return any(_is_own(step) for step in walk(estimator))


def _is_own(step: Any) -> bool:
    module = f"{type(step).__module__}."
    if module.startswith(OWN):
        return True
    return module.startswith("sklearn.") and type(step).__name__ in OWN_NAMES


def holds_trees(estimator: Any) -> bool:
    """Whether anything in an estimator compares with thresholds of float64."""
    return any(f"{type(step).__module__}.".startswith(TREES) for step in walk(estimator))


def walk(estimator: Any) -> list[Any]:
    """An estimator and everything inside it, depth first."""
    inner = [step for _, step in getattr(estimator, "steps", [])]
    inner += [entry[1] for entry in getattr(estimator, "transformers_", [])]
    inner += [entry[1] for entry in getattr(estimator, "transformer_list", [])]
    inner += inner_parts(estimator)
    inner.append(getattr(estimator, "final_estimator_", None))
    known = [
        step
        for step in inner
        if hasattr(step, "get_params") or type(step).__name__ == "_CalibratedClassifier"
    ]
    return [estimator, *(deep for step in known for deep in walk(step))]


def unthresholded(estimator: Any) -> Any:
    """The estimator with a classifier that moves the threshold replaced by the one whose threshold it moves."""
    last = last_step(estimator)
    if type(last).__name__ not in THRESHOLDED:
        return estimator
    if not hasattr(estimator, "steps"):
        return last.estimator_
    opened = copy.copy(estimator)
    opened.steps = [*estimator.steps[:-1], (estimator.steps[-1][0], last.estimator_)]
    return opened


def _by_position(estimator: Any) -> Any:
    """An estimator whose column transformers choose columns by position, and not by names that a graph may lack."""
    opened = estimator
    for name in ("steps", "transformer_list"):
        if hasattr(estimator, name):
            opened = copy.copy(estimator)
            used = [
                part
                for part in getattr(estimator, name)
                if part[1] not in ("passthrough", "drop", None)
            ]
            setattr(opened, name, [(key, _by_position(step), *more) for key, step, *more in used])
    if hasattr(estimator, "transformers_"):
        opened = copy.copy(estimator)
        places = _places(estimator)
        opened.transformers_ = [
            (name, _by_position(step), places.get(name, chosen))
            for name, step, chosen in estimator.transformers_
        ]
    return opened


def _places(transformer: Any) -> dict[str, list[int]]:
    """The columns of each part of a column transformer, as positions, whether they were named, masked or sliced."""
    indices = transformer._transformer_to_input_indices  # noqa: SLF001 - no public way
    return {name: [int(at) for at in found] for name, found in indices.items()}


def _unflattened(estimator: Any) -> Any:
    """A voting estimator that the converter accepts: `flatten_transform` bears on `transform` alone."""
    last = last_step(estimator)
    if not getattr(last, "flatten_transform", False) and not isinstance(
        getattr(last, "weights", None), list | tuple
    ):
        return estimator
    opened = copy.copy(estimator)
    if hasattr(estimator, "steps"):
        name, last = estimator.steps[-1]
        opened.steps = [*estimator.steps[:-1], (name, _unflattened(last))]
    else:
        if hasattr(opened, "flatten_transform"):
            opened.flatten_transform = False
        if opened.weights is not None:
            opened.weights = np.asarray(opened.weights)
    return opened


def _with_casts(estimator: Any) -> Any:
    """A pipeline that ends in a float32 estimator gets a cast before it, since its preprocessing runs in float64.

    So does each one inside a search or an ensemble.
    """
    if hasattr(estimator, "best_estimator_"):
        return _with_casts(estimator.best_estimator_)
    inner = getattr(estimator, "estimators_", [])
    if isinstance(inner, list) and any(hasattr(part, "steps") for part in inner):
        opened = copy.copy(estimator)
        opened.estimators_ = [_with_casts(part) for part in inner]
        return opened
    if not hasattr(estimator, "steps") or not is_narrow(last_step(estimator)):
        return estimator
    from skl2onnx.sklapi import CastTransformer

    narrowed = copy.copy(estimator)
    *before, last = estimator.steps
    narrowed.steps = [*before, ("modelkit_cast", CastTransformer(dtype=np.float32)), last]
    return narrowed


def text_columns(estimator: Any, columns: list[int]) -> set[int]:
    """Those of the columns, as positions, that only vectorizers of texts read."""
    if hasattr(estimator, "vocabulary_"):
        return set(columns)
    parts = [(step, columns) for _, step in getattr(estimator, "steps", [])[:1]]
    parts += [(part, columns) for _, part, *_ in getattr(estimator, "transformer_list", [])]
    for name, part, _ in getattr(estimator, "transformers_", []):
        parts.append((part, [columns[at] for at in _places(estimator)[name]]))
    inner = getattr(estimator, "estimators_", [])
    whole = [*(inner.flat if isinstance(inner, np.ndarray) else inner)]
    whole += [fold.estimator for fold in getattr(estimator, "calibrated_classifiers_", [])]
    whole += [getattr(estimator, name, None) for name in ("best_estimator_", "estimator_")]
    parts += [(part, columns) for part in whole if part is not None]
    found = [(text_columns(part, its), its) for part, its in parts if not isinstance(part, str)]
    read_otherwise = {at for texts, its in found for at in its if at not in texts}
    return {at for texts, _ in found for at in texts} - read_otherwise


def closed_categories(estimator: Any, names: list[str]) -> dict[str, tuple[Any, ...]]:
    """The categories of encoders that refuse unknown ones, by column, where they are those of the column itself."""
    found: dict[str, tuple[Any, ...]] = {}
    _find_categories(estimator, names, found)
    return found


def _find_categories(step: Any, columns: list[str], found: dict[str, tuple[Any, ...]]) -> None:
    """Add the categories of an encoder, or of the encoders inside a step that reads these columns."""
    for _, inner in getattr(step, "steps", []):
        _find_categories(inner, columns, found)
        if not _leaves_values(inner):
            break  # what follows sees other columns, or others values in them
    for _, part, *_ in getattr(step, "transformer_list", []):
        _find_categories(part, columns, found)
    for name, part, _ in getattr(step, "transformers_", []):
        _find_categories(part, [columns[at] for at in _places(step)[name]], found)
    parts = getattr(
        step, "estimators_", []
    )  # in an array where they are trees; np.ravel would open pipelines
    for part in [
        *(parts.flat if isinstance(parts, np.ndarray) else parts),
        getattr(step, "best_estimator_", None),
    ]:
        if part is not None:
            _find_categories(part, columns, found)
    known = _known(step)
    if len(known) == len(columns):
        for name, values in zip(columns, known, strict=True):
            found.setdefault(name, values)


def _known(step: Any) -> list[tuple[Any, ...]]:
    """For each column that an estimator reads, the values beyond which it refuses; none where it takes any."""
    if hasattr(step, "n_categories_"):  # of CategoricalNB, whose codes are the numbers from 0 on
        return [tuple(range(int(size))) for size in step.n_categories_]
    if getattr(step, "handle_unknown", "") != "error":
        return []
    found = []
    for values in getattr(step, "categories_", []):
        plain = [int(value) if isinstance(value, bool) else value for value in values.tolist()]
        found.append(tuple(value for value in plain if not is_missing(value)))
    return found


def _leaves_values(step: Any) -> bool:
    """Whether a step of a pipeline gives on the columns that it takes, and the values in them but for missing ones.

    Of a transformer of somebody's own nothing is known.
    """
    if step is None or step == "passthrough":
        return True
    kind = f"{type(step).__module__.partition('.')[0]}.{type(step).__name__}"
    if kind == "sklearn.Pipeline":
        return all(_leaves_values(inner) for _, inner in step.steps)
    if kind == "sklearn.FunctionTransformer":
        return step.func is None
    if kind == "sklearn.SimpleImputer":
        dropped = any(is_missing(value) for value in step.statistics_.tolist())
        return not step.add_indicator and not dropped
    return False
