"""What an estimator is made of, and what it reads."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from typing import Any

from modelkit._internal.arrays import is_a
from modelkit.errors import ConversionError
from modelkit.signature.cast import MISSING, is_missing

# Estimators that compare their rows in float32.
NARROW_MODULES = ("sklearn.tree.", "sklearn.ensemble.", "xgboost.", "catboost.")
WIDE_MODULES = ("sklearn.ensemble._hist_gradient_boosting.",)
# Estimators made of others that read the same rows, and where these are.
PARTS = {
    "AdaBoostClassifier": "estimators_",
    "AdaBoostRegressor": "estimators_",
    "BaggingClassifier": "estimators_",
    "BalancedBaggingClassifier": "estimators_",
    "BaggingRegressor": "estimators_",
    "CalibratedClassifierCV": "calibrated_classifiers_",
    "ClassifierChain": "estimators_",
    "EasyEnsembleClassifier": "estimators_",
    "FixedThresholdClassifier": "estimator_",
    "FrozenEstimator": "estimator",
    "GridSearchCV": "best_estimator_",
    "HalvingGridSearchCV": "best_estimator_",
    "HalvingRandomSearchCV": "best_estimator_",
    "MultiOutputClassifier": "estimators_",
    "MultiOutputRegressor": "estimators_",
    "OneVsOneClassifier": "estimators_",
    "OneVsRestClassifier": "estimators_",
    "OutputCodeClassifier": "estimators_",
    "RANSACRegressor": "estimator_",
    "RUSBoostClassifier": "estimators_",
    "RandomizedSearchCV": "best_estimator_",
    "RegressorChain": "estimators_",
    "SelfTrainingClassifier": "estimator_",
    "StackingClassifier": "estimators_",
    "StackingRegressor": "estimators_",
    "TransformedTargetRegressor": "regressor_",
    "TunedThresholdClassifierCV": "estimator_",
    "VotingClassifier": "estimators_",
    "VotingRegressor": "estimators_",
    "_CalibratedClassifier": "estimator",
}
TREES = (
    "sklearn.tree.",
    "sklearn.ensemble._forest.",
    "sklearn.ensemble._gb.",
    "sklearn.ensemble._iforest.",
    "sklearn.ensemble._hist_gradient_boosting.",
    "sklearn.preprocessing._discretization.",
    "imblearn.ensemble._forest.",
    "lightgbm.",
)
# Estimators whose answers jump at some values: trees, bins, encoders of values.
JUMPING = (
    *TREES,
    "xgboost.",
    "catboost.",
    "sklearn.preprocessing._data.Binarizer",
    "sklearn.preprocessing._encoders.",
    "sklearn.preprocessing._target_encoder.",
)
OWN_VERBS = ("sklearn.", "imblearn.")  # libraries whose methods are known
# The methods by which an estimator answers rows.
VERBS = ("predict", "predict_proba", "decision_function", "transform", "score_samples")


def does_nothing(step: Any) -> bool:
    """Whether a step of a pipeline passes on rows as they are: a sampler of imbalanced-learn does."""
    return step in (None, "passthrough") or hasattr(step, "fit_resample")


def last_step(estimator: Any) -> Any:
    """The last step of a pipeline; any other estimator itself."""
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


def replaced_verb(estimator: Any) -> str | None:
    """The method that was put into an estimator itself, in place of its class's; None for none."""
    own = getattr(estimator, "__dict__", {})
    return next((verb for verb in VERBS if verb in own), None)


def overridden_verb(estimator: Any) -> str | None:
    """The method that an estimator answers by and no known library defines; None for none."""
    replaced = replaced_verb(estimator)
    if replaced is not None:
        return replaced
    for kind in type(estimator).__mro__:
        if kind.__module__.startswith(OWN_VERBS):
            return None
        for verb in VERBS:
            if verb in vars(kind):
                return verb
    return None


def found_by_search(estimator: Any) -> Any:
    """What a search of scikit-learn hands its rows to; any other estimator itself.

    So is a search of somebody's own that answers otherwise than its best estimator.
    """
    search = is_a(estimator, "sklearn.model_selection._search", "BaseSearchCV")
    if search and overridden_verb(estimator) is None:
        if not hasattr(estimator, "best_estimator_"):
            kind = type(estimator).__name__
            raise ConversionError(
                f"{kind}(refit=False) fits no estimator that could answer rows: search with "
                "refit=True, or fit the estimator with best_params_ and save that",
                step=kind,
            )
        return estimator.best_estimator_
    return estimator


def where_parts(estimator: Any) -> str | None:
    """The attribute that holds the parts of an estimator; None for one that has none."""
    attribute = PARTS.get(type(estimator).__name__)
    if attribute is None or not hasattr(estimator, attribute):
        return None
    return attribute


def inner_parts(estimator: Any) -> list[Any]:
    """The fitted parts of an estimator, which read the same rows; empty for any other."""
    attribute = where_parts(estimator)
    if attribute is None:
        return []
    found = getattr(estimator, attribute)
    return list(found) if isinstance(found, list | tuple) else [found]


def is_narrow(estimator: Any) -> bool:
    """Whether an estimator reads its rows as float32."""
    parts = inner_parts(estimator)
    if getattr(estimator, "passthrough", False):  # the last estimator of a stacking reads the rows
        parts = [*parts, estimator.final_estimator_]
    if parts:
        return all(is_narrow(part) for part in parts)
    module = f"{type(estimator).__module__}."
    return module.startswith(NARROW_MODULES) and not module.startswith(WIDE_MODULES)


def holds_trees(estimator: Any) -> bool:
    """Whether anything in an estimator compares with thresholds of float64."""
    return any(f"{type(step).__module__}.".startswith(TREES) for step in with_parts(estimator))


def jumps(estimator: Any) -> bool:
    """Whether an estimator, or a part that reads the same rows, answers otherwise past some value."""
    name = f"{type(estimator).__module__}.{type(estimator).__name__}"
    return name.startswith(JUMPING) or any(map(jumps, inner_parts(estimator)))


def with_parts(estimator: Any) -> list[Any]:
    """An estimator and everything inside it, depth first."""
    inner = []
    for attribute in ("steps", "transformers_", "transformer_list"):
        inner += [entry[1] for entry in getattr(estimator, attribute, [])]
    inner += inner_parts(estimator)
    inner.append(getattr(estimator, "final_estimator_", None))
    found = [estimator]
    for step in inner:
        if hasattr(step, "get_params") or type(step).__name__ == "_CalibratedClassifier":
            found += with_parts(step)
    return found


def places_of_parts(transformer: Any) -> dict[str, list[int]]:
    """The places of the columns of each part of a column transformer."""
    indices = transformer._transformer_to_input_indices  # no public way
    return {name: list(map(int, found)) for name, found in indices.items()}


def closed_categories(estimator: Any, names: list[str]) -> dict[str, tuple[Any, ...]]:
    """The categories of encoders, by the column they belong to; first of those that refuse others.

    An encoder that takes unknown ones may stand before a step that refuses what becomes of them.
    """
    known: dict[str, tuple[Any, ...]] = {}
    refusing: dict[str, tuple[Any, ...]] = {}
    _find_categories(estimator, names, known, _categories)
    _find_categories(estimator, names, refusing, _only_values)
    return known | refusing


def _find_categories(
    step: Any,
    columns: list[str],
    found: dict[str, tuple[Any, ...]],
    read: Callable[[Any], list[tuple[Any, ...]]],
) -> None:
    """Add the categories of the encoders in a step that reads these columns."""
    _find_in_steps(step, columns, found, read)
    for _, part, *_ in getattr(step, "transformer_list", []):
        _find_categories(part, columns, found, read)
    for name, part, _ in getattr(step, "transformers_", []):
        places = places_of_parts(step)[name]
        its = [columns[place] for place in places]
        _find_categories(part, its, found, read)
    of_parts = getattr(step, "estimators_features_", repeat(range(len(columns))))
    for part, places in zip(inner_parts(step), of_parts, strict=False):
        _find_categories(part, [columns[place] for place in places], found, read)
    known = read(step)
    if len(known) == len(columns):
        found |= dict(zip(columns, known, strict=True)) | found


def _find_in_steps(
    step: Any,
    columns: list[str],
    found: dict[str, tuple[Any, ...]],
    read: Callable[[Any], list[tuple[Any, ...]]],
) -> None:
    """Add the categories of the encoders in a pipeline, as far as its steps pass columns on."""
    passed: list[str] | None = columns
    markers: list[Any] = []  # of missing values, which imputers take beside the categories
    for _, inner in getattr(step, "steps", []):
        if passed is None:
            return  # what follows sees other columns, or other values in them
        told: dict[str, tuple[Any, ...]] = {}
        _find_categories(inner, passed, told, read)
        marked = {name: _with_markers(values, markers) for name, values in told.items()}
        found |= marked | found
        passed = _passed_on(inner, passed)
        markers.append(getattr(inner, "missing_values", None))


def _with_markers(values: tuple[Any, ...], markers: list[Any]) -> tuple[Any, ...]:
    """The values of a column, and the markers among them that stand for a missing one."""
    texts = any(isinstance(value, str) for value in values)
    added = [mark for mark in markers if not is_missing(mark) and isinstance(mark, str) == texts]
    return tuple(dict.fromkeys([*values, *added]))


def _only_values(step: Any) -> list[tuple[Any, ...]]:
    """The values, by column, beside which an estimator takes no others; empty where it does."""
    if hasattr(step, "n_categories_"):  # of CategoricalNB, whose codes are the numbers from 0 on
        return [tuple(range(int(size))) for size in step.n_categories_]
    return _categories(step) if getattr(step, "handle_unknown", "") == "error" else []


def _categories(step: Any) -> list[tuple[Any, ...]]:
    """The categories of an encoder, by column; empty for any other estimator."""
    found = []
    for values in getattr(step, "categories_", []):
        plain = [int(value) if isinstance(value, bool) else value for value in values.tolist()]
        found.append(tuple(value for value in plain if not is_missing(value)))
    return found


def _passed_on(step: Any, columns: list[str]) -> list[str] | None:
    """The columns that a step of a pipeline passes on with all values but missing ones.

    None where it passes on others. Of a transformer of somebody's own nothing is known.
    """
    if does_nothing(step):
        return columns
    kind = f"{type(step).__module__.partition('.')[0]}.{type(step).__name__}"
    if kind in ("sklearn.Pipeline", "imblearn.Pipeline"):
        passed: list[str] | None = columns
        for _, inner in step.steps:
            passed = None if passed is None else _passed_on(inner, passed)
        return passed
    if kind == "sklearn.FunctionTransformer":
        return columns if step.func is None else None
    if kind == "sklearn.SimpleImputer":
        return _passed_by_imputer(step, columns)
    return None


def _passed_by_imputer(imputer: Any, columns: list[str]) -> list[str]:
    """The columns that an imputer keeps; behind them its indicators, which are no such columns."""
    indicators = len(imputer.indicator_.features_) if imputer.add_indicator else 0
    kept = [
        name
        for name, value in zip(columns, imputer.statistics_.tolist(), strict=True)
        if imputer.keep_empty_features or value == value  # NaN, of an empty column
    ]
    return [*kept, *[MISSING] * indicators]
