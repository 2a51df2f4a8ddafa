"""Convert estimators and pipelines of scikit-learn, and of libraries with its interface."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array, is_a
from modelkit.convert import boosting
from modelkit.convert.asking import check_fitted, place_of_last
from modelkit.convert.dtypes import dtypes_of
from modelkit.convert.example import Example, read_example
from modelkit.convert.notes import Equivalents, Notes
from modelkit.convert.outputs import Role, truth
from modelkit.convert.parity.rows import spread
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
from modelkit.convert.ties import choosing, with_ties
from modelkit.signature.signature import Signature
from modelkit.signature.spec import TIMES, Column, TensorSpec

if TYPE_CHECKING:
    from modelkit.convert.estimators.compose import Composed

LIBRARIES = {
    "sklearn": "scikit-learn",
    "imblearn": "imbalanced-learn",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
    "catboost": "CatBoost",
}
Categories = dict[str, tuple[Any, ...]]  # values by column
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


def number_dtypes(estimator: Any) -> tuple[str, ...]:
    """The dtypes to try for numeric inputs: the family's own, then the other.

    Rows that are compared with thresholds of float64 are never rounded.
    """
    if is_narrow(estimator):
        return ("float32", "float64")
    return ("float64",) if holds_trees(estimator) else ("float64", "float32")


def from_sklearn(
    estimator: Any, given: Any, numbers: str, converters: Equivalents = MappingProxyType({})
) -> Source:
    """Convert a fitted estimator to a graph whose numeric inputs have the dtype `numbers`.

    `given` are the example rows as they came, and `converters` gives equivalent estimators for some
    classes.

    Raises ConversionError, naming the step that cannot be converted.
    """
    # CatBoost has the interface, but not the attributes by which fitting shows.
    if not boosting.is_catboost(estimator):
        check_fitted(estimator)
    against = f"{library_of(estimator)} {type(last_step(estimator)).__name__}"
    estimator = found_by_search(estimator)
    example = read_example(estimator, given)
    trained = boosting.categories(estimator, example.rows)
    others = {name: values for name, values in trained.items() if bool not in map(type, values)}
    closed = example.closed_categories() | others
    example, signature, conversion = _converted(example, numbers, trained, closed, converters)
    proto, structures, texts = conversion.graph(spec.name for spec in signature.inputs)
    return Source(
        proto,
        signature,
        rows=example.rows,
        given=given,
        against=against,
        truth=_truth_of(example, conversion.roles),
        form=example.form,
        categories=closed,
        miscoded=boosting.miscoded(estimator, trained),
        by_dtype=any(map(boosting.is_catboost, with_parts(estimator))),
        rounds=conversion.at.rounds,
        structures=structures,
        texts=texts,
        terms=tuple(conversion.at.terms),
        prefixes=_prefixes(estimator, given, numbers, converters),
        distances=frozenset(role.name for role in conversion.roles if role.distances),
    )


def _converted(
    example: Example, numbers: str, trained: Categories, closed: Categories, converters: Equivalents
) -> tuple[Example, Signature, Composed]:
    """The conversion of an estimator, its signature, and the example without columns that no node reads."""
    from modelkit.convert.estimators.compose import composed

    categories = trained | boosting.catboost_values(example.estimator, example.rows)
    inputs = _inputs(example.columns, dtypes_of(example.rows), numbers, categories)
    roles, classes = example.roles(spread(example.rows, 2))
    rows = spread(example.given, EXAMPLE_ROWS)
    conversion = composed(
        example.estimator,
        inputs,
        roles,
        rows[:, 0] if example.texts else rows,
        categories,
        _with_none_alone(example),
        closed,
        converters,
    )
    read = conversion.read | conversion.counted
    example = example.without(
        [spec.columns[0].name for spec in inputs if spec.dtype in APART and spec.name not in read]
    )
    signature = Signature(
        tuple(spec for spec in inputs if spec.columns[0].name not in example.ignored),
        conversion.specs,
        classes=classes,
        ignored=example.ignored,
        refusals=tuple(reason for _, reason in conversion.at.refusals),
    )
    return example, signature, conversion


def _with_none_alone(example: Example) -> set[str]:
    """The columns of objects whose missing values are None: scikit-learn keeps it apart from NaN."""
    nones = example.empty[1]
    return {
        str(name)
        for name, column in (example.rows.items() if nones else ())
        if str(name) in nones and all(value is None for value in column[column.isna()].array)
    }


def _prefixes(
    estimator: Any, given: Any, numbers: str, converters: Equivalents
) -> tuple[Prefix, ...]:
    """The steps of a pipeline; the estimator itself where it is none."""
    steps = [step for _, step in getattr(estimator, "steps", [])]
    prefixes = []
    for number, step in enumerate(steps or [estimator], 1):
        if does_nothing(step):
            continue
        whole = estimator[:number] if steps else estimator
        convert = partial(from_sklearn, whole, given, numbers, converters)
        jumping = any(map(jumps, with_parts(step)))
        place = place_of_last([estimator, step])
        prefixes.append(Prefix(place, type(step).__name__, convert, jumping))
    return tuple(prefixes)


def _truth_of(example: Example, roles: tuple[Role, ...]) -> Callable[[Any], dict[str, Array]]:
    """What an estimator answers to rows, and where it has a choice of equally near neighbours."""
    ask = partial(truth, roles=roles)
    answers = partial(example.answer, ask)
    chooser = choosing(example.estimator)
    if chooser is None:
        return answers
    return with_ties(answers, partial(replace(example, estimator=chooser).answer, ask))


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
    columns: list[Column],
    dtypes: list[np.dtype[Any]],
    numbers: str,
    categories: Container[str] = (),
) -> list[TensorSpec]:
    """One tensor for columns of numbers alone; one a column if there are strings, times or categories.

    What is float32 in the example is float32 in the graph. Numbers that are categories are never
    rounded. A tensor of one column is called as that is, where a graph may call it so.
    """
    if all(column.dtype not in APART and column.name not in categories for column in columns):
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
        elif column.name in categories:
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
