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
    "PolynomialFeatures", "KMeans", "MiniBatchKMeans", "BisectingKMeans", "Birch", "MeanShift", "AffinityPropagation",
    "GaussianMixture", "BayesianGaussianMixture", "OneClassSVM", "SGDOneClassSVM", "EllipticEnvelope",
    "LocalOutlierFactor", "LinearSVC", "RidgeClassifier", "SGDClassifier", "Perceptron",
)  # fmt: skip


def prepared(estimator: Any) -> Any:
    """An estimator that answers the same, in a form that the converter takes."""
    return _with_cast(_by_position(estimator))


def last_step(estimator: Any) -> Any:
    """The last step of a pipeline; any other estimator itself."""
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


def where_parts(estimator: Any) -> str | None:
    """The attribute that holds the parts of an estimator; None for one that has none."""
    name = type(estimator).__name__
    for attribute, names in PARTS.items():
        if name in names and hasattr(estimator, attribute):
            return attribute
    return None


def inner_parts(estimator: Any) -> list[Any]:
    """The fitted parts of an estimator, which read the same rows; empty for any other."""
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
    return is_ours_alone(estimator) or any(_is_single_own(step) for step in with_parts(estimator))


def is_ours_alone(estimator: Any) -> bool:
    """Whether anything in an estimator votes or is a tree, for which no other converter is right."""
    return any(f"{type(step).__module__}.".startswith(OWN) for step in with_parts(estimator))


def _is_single_own(step: Any) -> bool:
    return type(step).__module__.startswith("sklearn.") and type(step).__name__ in OWN_NAMES


def holds_trees(estimator: Any) -> bool:
    """Whether anything in an estimator compares with thresholds of float64."""
    return any(f"{type(step).__module__}.".startswith(TREES) for step in with_parts(estimator))


def with_parts(estimator: Any) -> list[Any]:
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
    found = [estimator]
    for step in known:
        found += with_parts(step)
    return found


def _by_position(estimator: Any) -> Any:
    """An estimator whose column transformers choose by position: a graph may lack names."""
    opened = estimator
    for name in ("steps", "transformer_list"):
        if hasattr(estimator, name):
            opened = copy.copy(estimator)
            used = [
                part
                for part in getattr(estimator, name)
                if part[1] not in ("passthrough", "drop", None)
            ]
            setattr(
                opened,
                name,
                [(key, _by_position(step), *more) for key, step, *more in used],
            )
    if hasattr(estimator, "transformers_"):
        opened = copy.copy(estimator)
        places = _places(estimator)
        opened.transformers_ = [
            (name, _by_position(step), places.get(name, chosen))
            for name, step, chosen in estimator.transformers_
        ]
    return opened


def _places(transformer: Any) -> dict[str, list[int]]:
    """The positions of the columns of each part of a column transformer."""
    indices = transformer._transformer_to_input_indices  # noqa: SLF001 - no public way
    return {name: list(map(int, found)) for name, found in indices.items()}


def _with_cast(estimator: Any) -> Any:
    """A pipeline with a cast before a last step of float32: the steps before run in float64."""
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
    texts: set[int] = set()
    others: set[int] = set()
    for part, its in _readers(estimator, columns):
        if not isinstance(part, str):
            found = text_columns(part, its)
            texts |= found
            others |= set(its) - found
    return texts - others


def _readers(estimator: Any, columns: list[int]) -> list[tuple[Any, list[int]]]:
    """The parts of an estimator that read its columns, each with those that it reads."""
    parts = [(step, columns) for _, step in getattr(estimator, "steps", [])[:1]]
    parts += [(part, columns) for _, part, *_ in getattr(estimator, "transformer_list", [])]
    for name, part, _ in getattr(estimator, "transformers_", []):
        parts.append((part, [columns[at] for at in _places(estimator)[name]]))
    if hasattr(estimator, "best_estimator_"):
        parts.append((estimator.best_estimator_, columns))
    return parts


def closed_categories(estimator: Any, names: list[str]) -> dict[str, tuple[Any, ...]]:
    """The categories of encoders that refuse unknown ones, by the column they belong to."""
    found: dict[str, tuple[Any, ...]] = {}
    _find_categories(estimator, names, found)
    return found


def _find_categories(
    step: Any,
    columns: list[str],
    found: dict[str, tuple[Any, ...]],
) -> None:
    """Add the categories of the encoders in a step that reads these columns."""
    for _, inner in getattr(step, "steps", []):
        _find_categories(inner, columns, found)
        if not _leaves_values(inner):
            break  # what follows sees other columns, or others values in them
    for _, part, *_ in getattr(step, "transformer_list", []):
        _find_categories(part, columns, found)
    for name, part, _ in getattr(step, "transformers_", []):
        _find_categories(
            part,
            [columns[at] for at in _places(step)[name]],
            found,
        )
    for part in _fitted_parts(step):
        _find_categories(part, columns, found)
    known = _known(step)
    if len(known) == len(columns):
        found |= dict(zip(columns, known, strict=True)) | found


def _fitted_parts(step: Any) -> list[Any]:
    """The estimators that a step fitted: in a list, in an array where they are trees, or one."""
    parts = getattr(step, "estimators_", [])
    every = list(parts.flat if isinstance(parts, np.ndarray) else parts)
    every.append(getattr(step, "best_estimator_", None))
    return [part for part in every if part is not None]


def _known(step: Any) -> list[tuple[Any, ...]]:
    """The values that an estimator takes, by column; empty where it takes any."""
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
    """Whether a step of a pipeline passes on its columns, and all values but missing ones.

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
