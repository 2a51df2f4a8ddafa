"""What every explanation method is asked and what it answers: an Explainer knows none by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import AdditivityError
from modelkit.explain.subject import Subject
from modelkit.signature.signature import Feeds

GAP_TOLERANCE = 1e-5  # of the largest served output, or of 1 where that is smaller


@dataclass(frozen=True)
class Attribution:
    """What a method found for n rows of d features and k outputs.

    `values` is (n, d, k) and `base` (n, k). `gap` (n, k) is the distance between their sum and what
    the model served. `std_error` (n, d, k) is None unless values are sampled. `evaluations` counts
    the rows that the model ran.

    The features are the columns of the model, unless a method names others: the words of a text, as
    `feature_names` and `data` (n, d).
    """

    values: Array
    base: Array
    gap: Array
    evaluations: int
    std_error: Array | None = None
    fidelity: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    feature_names: tuple[str, ...] | None = None
    data: Array | None = None


class Method(Protocol):
    """A way to explain one subject, with everything it needs.

    `kind` is its name, and `exact` says whether its values equal the definition's. `space` and
    `output_names` say what is explained. `rows_per_row` is the largest number of model rows for an
    explained row, and `reason` says why the method fits, for the plan.
    """

    kind: str
    exact: bool
    space: str
    output_names: tuple[str, ...]
    rows_per_row: int
    reason: str

    def explain(self, feeds: Feeds, served: Array, rows: Iterable[int]) -> Attribution:
        """Explain all rows of `feeds`, for which the model served `served` (n, k).

        `rows` counts from 0 to n - 1 and draws the progress bar: a method that works row by row
        takes its numbers from there.

        Raises AdditivityError if values that must add up to what was served do not.
        """


@dataclass(frozen=True)
class ExplainRequest:
    """What an Explainer was asked for: a maker of methods builds one from it."""

    subject: Subject
    method: str  # "auto" or a name
    space: str  # "auto", "raw_score", "probability" or "value"
    budget: int | None
    seed: int


class NoFitError(Exception):
    """A method that does not fit the model. Its text says why, and is empty if that is obvious."""


def gap_between(values: Array, base: Array, served: Array) -> Array:
    """The distance (n, k) between the sum of values and base, and what was served."""
    total = base + values.sum(axis=1)
    return np.asarray(np.abs(total - served))


def check_gap(gap: Array, served: Array) -> None:
    """Raise AdditivityError if values do not add up to what was served."""
    largest = float(np.max(np.abs(served), initial=0))
    allowed = GAP_TOLERANCE * max(1.0, largest)
    worst = float(np.max(gap, initial=0))
    if not worst <= allowed:
        raise AdditivityError(
            f"the sum of the values misses what the model served by {worst:.3g}, where rounding "
            f"explains at most {allowed:.3g}; use method='sampling', and report this model",
            gap=worst,
        )
