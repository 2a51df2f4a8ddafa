"""Labels as they come: the losses of the model, and the cells of the labels themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from modelkit._internal.arrays import Array
from modelkit.drift.losses import Baseline, as_doubles, check_losses, losses_of
from modelkit.drift.profile import Profile
from modelkit.errors import UsageError


@final
@dataclass(frozen=True, eq=False)
class LabelledCall:
    """Labelled rows: their losses (n,), the cells of their labels, uint8 (n, 1), or both."""

    losses: Array | None
    cells: Array | None

    @property
    def rows(self) -> int:
        """The number of rows."""
        given = self.cells if self.losses is None else self.losses
        return 0 if given is None else len(given)

    @staticmethod
    def read(profile: Profile, y: Any, predicted: Any, losses: Any) -> LabelledCall:
        """The arguments of `Detector.update_labels`. Raises UsageError for those that do not fit."""
        baseline = profile.baseline
        target = profile.target
        if baseline is None:
            raise UsageError(
                "the profile has no losses to compare with: fit it with labels= or losses="
            )
        if (losses is None) == (y is None) or (y is None and predicted is not None):
            raise UsageError("pass labels and what was predicted, labels alone, or losses alone")
        if losses is not None:
            return LabelledCall(check_losses(losses), None)
        cells = None if target is None else target.cells(y)
        if predicted is not None:
            return LabelledCall(_losses(profile, baseline, y, predicted), cells)
        if cells is None:
            raise UsageError(
                "the profile has no labels to compare labels alone with: pass labels and what "
                "was predicted, or fit the profile with labels="
            )
        return LabelledCall(None, cells)


def _losses(profile: Profile, baseline: Baseline, y: Any, predicted: Any) -> Array:
    if _predicts_numbers(profile):
        predicted = as_doubles(predicted, "predictions")
    return losses_of(y, predicted, baseline.scale)


def _predicts_numbers(profile: Profile) -> bool:
    """Whether the losses of the reference are distances of numbers, of whatever type."""
    return any(
        feature.output and feature.name == "prediction" and feature.kind == "number"
        for feature in profile.features
    )
