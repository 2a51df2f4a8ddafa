"""Errors of data, which need no attacker: noise, rounding, missing values, other units and typos; a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.robustness.trial import Cells

Rng = np.random.Generator


class Perturbation(NamedTuple):
    """One kind of error in rows.

    Attributes:
        name: such as "noise".
        where: which values change: in "all" columns that it fits, in "one" of each row, or "some", each
            value with a probability equal to the strength.
        strengths: each gives a figure of its own.
        about: a sentence that says what it does, with a hole for the strength.
        fits: whether a column can have this error.
        change: gives the new values (n,) for some values (n,) of a column, by a strength and draws.
    """

    name: str
    where: str
    strengths: tuple[float, ...]
    about: str
    fits: Callable[[Cells], bool]
    change: Callable[[Cells, Array, float, Rng], Any]


def _is_number(cells: Cells) -> bool:
    return cells.spread > 0


def _rounded(cells: Cells, values: Array, digits: float, _: Rng) -> Array:
    texts = [f"{value:.{digits - 1:.0f}e}" for value in values.tolist()]
    return cells.fitted(np.array(texts, float), values)


def _mistyped(cells: Cells, values: Array, _: float, rng: Rng) -> Any:
    """Free texts with their first two letters swapped; in place of categories, any that is known."""
    if cells.column.categories is None and values.dtype == object:
        return [text[1::-1] + text[2:] for text in values]
    return rng.choice(cells.known, len(values))


PERTURBATIONS = (
    Perturbation(
        "noise",
        "all",
        (0.05, 0.1, 0.25),
        "every number with normal noise of {:g} spreads",
        _is_number,
        lambda cells, values, strength, rng: cells.fitted(
            values + rng.normal(size=len(values)) * strength * cells.spread, values
        ),
    ),
    Perturbation(
        "rounding",
        "all",
        (3, 2, 1),
        "every number rounded to {:g} significant digits",
        _is_number,
        _rounded,
    ),
    Perturbation(
        "missing",
        "some",
        (0.05, 0.25),
        "{:.0%} of the values that may be missing, missing",
        lambda cells: cells.column.nullable and cells.known.dtype.kind in "fO",
        lambda *_: None,
    ),
    Perturbation(
        "unit",
        "one",
        (0.001, 0.01, 0.1, 10, 100, 1000),
        "one number of each row times {:g}, as in another unit",
        _is_number,
        lambda cells, values, factor, _: cells.fitted(values.astype(float) * factor, values),
    ),
    Perturbation(
        "typo",
        "some",
        (0.05, 0.25),
        "{:.0%} of the texts with two letters swapped, and of the categories drawn anew",
        lambda cells: not cells.spread and len(cells.known) > 1,
        _mistyped,
    ),
)
