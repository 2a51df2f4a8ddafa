"""The label-free estimate of the rows of a stream: of the last 1,024, and up to as many before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.labelfree import Calibration, Estimate
from modelkit.drift.outputs import class_numbers, scores_of
from modelkit.errors import UsageError

RECENT_ESTIMATED = 1024  # rows after which a new estimate begins


@final
class LabelFree:
    """Estimates of rows as they come; without a calibration there are none.

    Whoever calls it from several threads holds a lock.
    """

    changing = ("_estimates",)
    entries: ClassVar[Mapping[str, Any]] = {"_estimates": Estimate}

    def __init__(self, calibration: Calibration | None) -> None:
        self._calibration = calibration
        self._estimates: list[Estimate | None] = [None, None]

    def of(self, answers: Mapping[str, Array]) -> Estimate | None:
        """The performance that probabilities let one expect, if they can be calibrated.

        Raises UsageError for another number of classes. Rows with NaN are left out.
        """
        calibration = self._calibration
        shares = answers.get("probabilities")
        if calibration is None or shares is None or not len(shares):
            return None
        classes = calibration.classes
        if shares.shape[1:] != (len(classes),):
            raise UsageError(
                f"probabilities have shape {shares.shape}; the profile has {len(classes)} classes"
            )
        whole = np.isfinite(shares).all(axis=1)  # one NaN would make every later estimate NaN
        if not whole.all():
            return self.of({name: array[whole] for name, array in answers.items()})
        predicted = class_numbers(answers.get("label"), classes)
        if predicted is None:
            predicted = shares.argmax(axis=1)
        return calibration.estimate(scores_of(shares), predicted)

    def add(self, estimate: Estimate | None) -> None:
        """Take rows into the estimate."""
        if estimate is None:
            return
        earlier, lately = self._estimates
        if lately is None:
            self._estimates = [earlier, estimate]
        elif lately.rows >= RECENT_ESTIMATED:
            self._estimates = [lately, estimate]
        else:
            self._estimates = [earlier, lately + estimate]

    def recent(self) -> Estimate | None:
        """The estimate of the last 1,024 rows and up to as many before."""
        earlier, lately = self._estimates
        if earlier is None or lately is None:
            return lately
        return earlier + lately
