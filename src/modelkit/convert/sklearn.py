"""Convert scikit-learn estimators and pipelines, and those of libraries with its interface."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array, is_a
from modelkit.convert import boosting
from modelkit.convert.asking import check_fitted, place_of_last
from modelkit.convert.dtypes import dtypes_of
from modelkit.convert.example import Example, read_example
from modelkit.convert.notes import Equivalents, Notes
from modelkit.convert.outputs import Role, truth
from modelkit.convert.parity.rows import column_in, spread
from modelkit.convert.parity.ties import choosing, with_ties
from modelkit.convert.source import Prefix, Source
from modelkit.convert.steps import (
    does_nothing,
    found_by_search,
    holds_trees,
    is_narrow,
    jumps,
    last_step,
    with_parts,
)
from modelkit.convert.tables import NONES
from modelkit.signature.signature import Signature
from modelkit.signature.spec import TIMES, Column, TensorSpec

LIBRARIES = {
    "sklearn": "scikit-learn",
    "imblearn": "imbalanced-learn",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
    "catboost": "CatBoost",
}
APART = ("string", *TIMES)  # dtypes of columns that are never one tensor with others
EXAMPLE_ROWS = 8192  # that steps are asked for their own values of
# Names of outputs, which no input can have.
TAKEN = (
    "label",
    "prediction",
    "probability",
    "probabilities",
    "scores",
    "score_samples",
    "transformed",
)


def is_estimator(source: object) -> bool:
    """Whether `source` has scikit-learn's interface, without importing a library to find out."""
    return is_a(source, "sklearn.base", "BaseEstimator") or boosting.is_catboost(source)


def is_known(model: object) -> bool:
    """Whether a model is an estimator, or a Booster that becomes one."""
    return is_estimator(model) or boosting.is_booster(model)


def number_dtypes(estimator: Any) -> tuple[str, ...]:
    """The dtypes to try for numeric inputs: the family's own, then the other.

    Rows that are compared with thresholds of float64 are never rounded.
    """
    if is_narrow(estimator):
        return ("float32", "float64")
    return ("float64",) if holds_trees(estimator) else ("float64", "float32")


def from_sklearn(
    estimator: Any, example: Any, numbers: str, converters: Equivalents = MappingProxyType({})
) -> Source:
    """Convert a fitted estimator to a graph whose numeric inputs have the dtype `numbers`.

    `converters` gives equivalent estimators for some classes.

    Raises ConversionError, naming the step that cannot be converted.
    """
    from modelkit.convert.estimators.compose import composed

    # CatBoost has the interface, but not the attributes by which fitting shows.
    if not boosting.is_catboost(estimator):
        check_fitted(estimator)
    against = f"{library_of(estimator)} {type(last_step(estimator)).__name__}"
    estimator = found_by_search(estimator)
    shown = read_example(estimator, example)
    rows = shown.rows
    coded = boosting.categories(estimator, rows)
    known = coded | boosting.catboost_values(estimator, rows)
    inputs = _inputs(shown.columns, dtypes_of(rows), numbers, known)
    few = spread(rows, 2)
    roles, classes = shown.roles(few)
    told = _told_categories(shown, coded)
    asked = spread(shown.given, EXAMPLE_ROWS)
    made = composed(
        estimator,
        inputs,
        roles,
        asked[:, 0] if shown.texts else asked,
        _by_input(inputs, known),
        _inputs_of_none(rows, inputs),
        closed=told,
        converters=converters,
    )
    # Times and texts that no node reads.
    read = made.read | made.counted
    narrower = shown.without(
        [spec.columns[0].name for spec in inputs if spec.dtype in APART and spec.name not in read]
    )
    inputs = [spec for spec in inputs if spec.columns[0].name not in narrower.ignored]
    proto, structures, texts = made.graph(spec.name for spec in inputs)
    signature = Signature(
        tuple(inputs),
        made.specs,
        classes=classes,
        ignored=narrower.ignored,
        refusals=tuple(reason for _, reason in made.at.refusals),
    )
    return Source(
        proto,
        signature,
        rows=narrower.rows,
        given=example,
        against=against,
        truth=_truth_of(narrower, made.roles),
        form=narrower.form,
        categories=told,
        closed=boosting.miscoded(estimator, coded),
        by_dtype=any(map(boosting.is_catboost, with_parts(estimator))),
        rounds=made.at.narrow,
        structures=structures,
        texts=texts,
        terms=tuple(made.at.terms),
        prefixes=_prefixes(estimator, example, numbers, converters),
        distances=frozenset(role.name for role in made.roles if role.distances),
    )


def _prefixes(
    estimator: Any, example: Any, numbers: str, converters: Equivalents
) -> tuple[Prefix, ...]:
    """The steps of a pipeline; the estimator itself where it is none."""
    steps = [step for _, step in getattr(estimator, "steps", [])]
    if not steps:
        step = type(estimator).__name__
        return (Prefix("", step, partial(from_sklearn, estimator, example, numbers, converters)),)
    prefixes = []
    for number, step in enumerate(steps, 1):
        if does_nothing(step):
            continue
        place = place_of_last([estimator, step])
        convert = partial(from_sklearn, estimator[:number], example, numbers, converters)
        prefixes.append(
            Prefix(place, type(step).__name__, convert, any(map(jumps, with_parts(step))))
        )
    return tuple(prefixes)


def _told_categories(
    shown: Example, coded: dict[str, tuple[Any, ...]]
) -> dict[str, tuple[Any, ...]]:
    """The values that encoders and columns of categories are bound to, by column."""
    told = shown.closed_categories()
    for name, values in coded.items():
        if bool not in map(type, values):
            told[name] = values
    return told


def _truth_of(shown: Example, roles: tuple[Role, ...]) -> Callable[[Any], dict[str, Array]]:
    """What an estimator answers to rows, and where it has a choice of equally near neighbours."""
    ask = partial(truth, roles=roles)
    answers = partial(shown.answer, ask)
    chooser = choosing(shown.estimator)
    if chooser is None:
        return answers
    return with_ties(answers, partial(replace(shown, estimator=chooser).answer, ask))


def conversions(model: Any, example: Any, notes: Notes) -> list[Callable[[], Source]]:
    """By each dtype of numbers. Raises ConversionError for notes that are of graphs."""
    notes.refuse("an estimator")
    estimator = boosting.as_estimator(model)
    return [
        partial(from_sklearn, estimator, example, numbers, notes.converters or {})
        for numbers in number_dtypes(estimator)
    ]


def library_of(estimator: Any) -> str:
    """The library that trained an estimator, as people write it."""
    package = package_of(estimator)
    return LIBRARIES.get(package, package)


def package_of(estimator: Any) -> str:
    """The package that the class of an estimator, or of its last step, is defined in."""
    return type(last_step(estimator)).__module__.partition(".")[0]


def _inputs(
    columns: list[Column], dtypes: list[np.dtype[Any]], numbers: str, coded: Container[str] = ()
) -> list[TensorSpec]:
    """One tensor for columns of numbers alone; one a column if there are strings, times or categories.

    What is float32 in the example is float32 in the graph. Numbers that are categories are never
    rounded. Such a tensor is called as its column is, where a
    graph may call it so.
    """
    if all(column.dtype not in APART and column.name not in coded for column in columns):
        dtype = "float32" if set(dtypes) == {np.dtype(np.float32)} else numbers
        return [TensorSpec("X", dtype, ("batch", len(columns)), tuple(columns))]
    specs: list[TensorSpec] = []
    for place, column in enumerate(columns):
        taken = {spec.name for spec in specs}
        taken |= {other.name for other in columns if other is not column}
        name = _input_name(column, place, taken)
        dtype = "float32" if dtypes[place] == np.float32 else numbers
        if column.dtype in APART:
            dtype = column.dtype
        elif column.name in coded:
            dtype = "float64"
        specs.append(TensorSpec(name, dtype, ("batch", 1), (column,)))
    return specs


def _input_name(column: Column, place: int, taken: set[str]) -> str:
    """The name of the input that is one column: the column's own where a graph may have it."""
    usual = column.name.isidentifier() and column.name not in TAKEN
    name = column.name if usual else f"x{place}"
    while name in taken:
        name += "_"
    return name


def _by_input(
    inputs: list[TensorSpec], categories: Mapping[str, tuple[Any, ...]]
) -> dict[str, tuple[Any, ...]]:
    """The categories of columns by the names of their inputs: each such column is one of its own."""
    by_input = {}
    for spec in inputs:
        name = spec.columns[0].name
        if name in categories:
            by_input[spec.name] = categories[name]
    return by_input


def _inputs_of_none(rows: Any, inputs: list[TensorSpec]) -> list[str]:
    """The inputs of texts whose missing values are None throughout: scikit-learn keeps it apart."""
    if isinstance(rows, np.ndarray):
        return []
    texts = [place for place, spec in enumerate(inputs) if spec.dtype == "string"]
    # Each is one column.
    return [inputs[place].name for place in texts if _has_only_none(rows, place)]


def _has_only_none(rows: Any, place: int) -> bool:
    """Whether a column of objects is missing as None alone, by its values or in its form."""
    column = column_in(rows, place)
    missing = column[column.isna()].array
    if not len(missing):
        return NONES in rows.attrs and column.dtype == object
    return all(value is None for value in missing)
