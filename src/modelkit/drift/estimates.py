"""Label-free estimates as rows come: which rows count, and the sums of the latest ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from modelkit.cast import Array
from modelkit.drift.labelfree import Calibration, Estimate
from modelkit.drift.outputs import class_numbers, scores_of
from modelkit.errors import DriftError

RECENT_ESTIMATED = 1024  # rows after which a new label-free estimate begins


def estimate_of(
    calibration: Calibration | None,
    answers: Mapping[str, Array],
) -> Estimate | None:
    """The performance that probabilities let one expect, if the profile can calibrate them.

    Raises DriftError for another number of classes. Rows with NaN are left out.
    """
    shares = answers.get("probabilities")
    if calibration is None or shares is None or not len(shares):
        return None
    classes = calibration.classes
    if shares.shape[1:] != (len(classes),):
        raise DriftError(
            f"probabilities have shape {shares.shape}; the profile has {len(classes)} classes"
        )
    whole = np.isfinite(shares).all(axis=1)  # one NaN would make every later estimate NaN
    if not whole.all():
        kept = {name: array[whole] for name, array in answers.items()}
        return estimate_of(calibration, kept)
    predicted = class_numbers(answers.get("label"), classes)
    if predicted is None:
        predicted = shares.argmax(axis=1)
    return calibration.estimate(scores_of(shares), predicted)


@final
class Estimates:
    """The estimate of the last 1,024 rows, and that of up to as many before."""

    def __init__(self) -> None:
        self._earlier: Estimate | None = None
        self._lately: Estimate | None = None

    def add(self, estimate: Estimate) -> None:
        """Take rows in."""
        if self._lately is None:
            self._lately = estimate
        elif self._lately.rows >= RECENT_ESTIMATED:
            self._earlier = self._lately
            self._lately = estimate
        else:
            self._lately = self._lately + estimate

    def latest(self) -> Estimate | None:
        """The estimate of both together."""
        if self._earlier is None or self._lately is None:
            return self._lately
        return self._earlier + self._lately

    def state(self) -> dict[str, Array]:
        """Both as arrays."""
        return _arrays("earlier", self._earlier) | _arrays("lately", self._lately)

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """The inverse of `state`."""
        self._earlier = _read(arrays, "earlier")
        self._lately = _read(arrays, "lately")


def _arrays(
    name: str,
    estimate: Estimate | None,
) -> dict[str, Array]:
    if estimate is None:
        return {}
    return {f"{name} {field}": np.asarray(value) for field, value in vars(estimate).items()}


def _read(
    arrays: Mapping[str, Array],
    name: str,
) -> Estimate | None:
    if f"{name} rows" not in arrays:
        return None
    found: dict[str, Any] = {}
    for field in Estimate.__dataclass_fields__:
        array = arrays[f"{name} {field}"]
        found[field] = array.item() if array.ndim == 0 else array
    return Estimate(**found)
