"""What an estimator is made of, and what it reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
# Those that read some columns each, or more than these.
READING = (
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
UNREAD = ("drop", None)
# Columns by name, each with the markers of missing values that imputers on the way filled.
Named = list[tuple[Any, ...]]
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
                f"{kind}(refit=False) does not fit an estimator that could answer rows: search "
                "with refit=True, or fit the estimator with best_params_ and save that",
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


@dataclass(frozen=True)
class Part:
    """A part of an estimator.

    `place` is what it is called there, empty for a part without a name; `columns` are the columns
    of the whole that it reads, none where it reads others.
    """

    place: str
    estimator: Any
    columns: Named


def parts_of(whole: Any, columns: Named) -> list[Part]:
    """The parts that an estimator asks, some of which are words; those in them are theirs."""
    found = []
    passed = columns
    steps = getattr(whole, "steps", [])
    for number, (name, step) in enumerate(steps, 1):
        if not does_nothing(step):
            found.append(
                Part(f"step {name!r} (pipeline step {number} of {len(steps)})", step, passed)
            )
            passed = _passed_on(step, passed)
    united = [(name, part, columns) for name, part in getattr(whole, "transformer_list", [])]
    places = getattr(whole, "_transformer_to_input_indices", {})  # no public way
    united += [
        (name, part, _taken(columns, places.get(name, ())))
        for name, part, _ in getattr(whole, "transformers_", [])
    ]
    found += [
        Part(f"transformer {name!r} of the {type(whole).__name__}", part, its)
        for name, part, its in united
        if part not in UNREAD
    ]
    names = {id(part): name for name, part in getattr(whole, "named_estimators_", {}).items()}
    subsets = getattr(whole, "estimators_features_", repeat(None))
    for part, chosen in zip(inner_parts(whole), subsets, strict=False):
        its = columns if chosen is None else _taken(columns, chosen)
        named = f"estimator {names.get(id(part))!r} of the {type(whole).__name__}"
        place = named if id(part) in names else ""
        found.append(Part(place, part, its))
    if hasattr(whole, "final_estimator_"):
        found.append(Part("", whole.final_estimator_, []))
    return found


def _taken(columns: Named, places: Iterable[int]) -> Named:
    return [columns[int(place)] for place in places] if columns else []


def _walk(whole: Any, columns: Named) -> Iterator[tuple[Any, Named]]:
    """An estimator and everything inside it, depth first, each with the columns that it reads."""
    yield whole, columns
    for part in parts_of(whole, columns):
        yield from _walk(part.estimator, part.columns)


def with_parts(estimator: Any) -> list[Any]:
    """An estimator and everything inside it, depth first."""
    return [part for part, _ in _walk(estimator, []) if not isinstance(part, str)]


def read_columns(estimator: Any, columns: Named) -> set[str]:
    """The names of those columns that an estimator reads, as a ColumnTransformer drops some.

    This is told from what passes columns on as they are; any other reads all it is given.
    """
    kind = type(estimator)
    known = kind.__module__.startswith(("sklearn.", "imblearn.pipeline"))
    # The last estimator of a stacking that passes columns through reads them.
    if not known or kind.__name__ in READING or getattr(estimator, "passthrough", False):
        return {name for name, *_ in columns}
    found = set[str]()
    for part in parts_of(estimator, columns):
        found |= read_columns(part.estimator, part.columns)
    return found or {name for name, *_ in columns}


def closed_categories(estimator: Any, names: list[str]) -> dict[str, tuple[Any, ...]]:
    """The categories of encoders, by the column they belong to; first of those that refuse others.

    An encoder that takes unknown ones may stand before a step that refuses what becomes of them.
    """
    known: dict[str, tuple[Any, ...]] = {}
    refusing: dict[str, tuple[Any, ...]] = {}
    for step, columns in _walk(estimator, [(name,) for name in names]):
        values = _values(step)
        if len(values) != len(columns):
            continue
        refuses = hasattr(step, "n_categories_") or getattr(step, "handle_unknown", "") == "error"
        for (name, *markers), each in zip(columns, values, strict=True):
            texts = any(isinstance(value, str) for value in each)
            filled = [mark for mark in markers if isinstance(mark, str) == texts]
            closed = tuple(
                value for value in dict.fromkeys([*each, *filled]) if not is_missing(value)
            )
            known.setdefault(name, closed)
            if refuses:
                refusing.setdefault(name, closed)
    return known | refusing


def _values(step: Any) -> list[list[Any]]:
    """The values that an encoder knows, by column; none for any other estimator."""
    if hasattr(step, "n_categories_"):  # of CategoricalNB, whose codes are the numbers from 0 on
        return [[*range(int(size))] for size in step.n_categories_]
    return [
        [int(value) if isinstance(value, bool) else value for value in values.tolist()]
        for values in getattr(step, "categories_", [])
    ]


def _passed_on(step: Any, columns: Named) -> Named:
    """The columns that a step of a pipeline passes on with all values but missing ones.

    None where it passes on others. Of a transformer of somebody's own nothing is known.
    """
    kind = f"{type(step).__module__.partition('.')[0]}.{type(step).__name__}"
    if not columns or (kind == "sklearn.FunctionTransformer" and step.func is None):
        return columns
    if kind in ("sklearn.Pipeline", "imblearn.Pipeline"):
        for _, inner in step.steps:
            columns = columns if does_nothing(inner) else _passed_on(inner, columns)
        return columns
    if kind != "sklearn.SimpleImputer":
        return []
    # Behind what an imputer keeps are its indicators, which are no such columns.
    indicators = len(step.indicator_.features_) if step.add_indicator else 0
    kept = [
        (*column, step.missing_values)
        for column, value in zip(columns, step.statistics_.tolist(), strict=True)
        if step.keep_empty_features or value == value  # NaN, of an empty column
    ]
    return [*kept, *[(MISSING,)] * indicators]
