"""Compare what the golden rows of a package give here with what they gave when it was saved."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import IntegrityError


def largest_difference(
    expected: Mapping[str, Array], got: Mapping[str, Array], tolerance: float
) -> float:
    """The largest relative difference between two answers to the same rows.

    It is relative to the expected number where that is above 1, and absolute below.

    Raises:
        IntegrityError: if the difference of an output is above `tolerance`.
    """
    largest = 0.0
    for name, array in expected.items():
        difference = _difference(array, got[name])
        if not difference <= tolerance:
            raise IntegrityError(
                f"output {name!r} of the golden rows differs by {difference:.2g} from what it was "
                "at save time; compare the versions in the manifest with `modelkit doctor`",
                output=name,
                difference=difference,
            )
        largest = max(largest, difference)
    return largest


def _difference(expected: Array, got: Array) -> float:
    """Infinity for another shape, and for anything but floats that is not equal."""
    if expected.shape != got.shape:
        return np.inf
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(expected, got) else np.inf
    same = (expected == got) | (np.isnan(expected) & np.isnan(got))
    with np.errstate(invalid="ignore"):
        differences = np.abs(got - expected) / np.maximum(1.0, np.abs(expected))
    return float(np.where(same, 0, differences).max(initial=0))
