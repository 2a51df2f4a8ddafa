"""The labels as a column of their own: whether what the model predicts has itself moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import (
    CELLS,
    UNKNOWN_CATEGORY,
    Feature,
    feature_arrays,
    plain_features,
    read_features,
)
from modelkit.drift.columns import ColumnsByName, FeatureKind, fifth
from modelkit.drift.dependence import every, rows_apart
from modelkit.drift.edges import fit_feature
from modelkit.drift.label_forms import as_labels, check_same_forms, label_names
from modelkit.drift.labelfree import Calibration, with_positive
from modelkit.drift.losses import Baseline, as_doubles, baseline_of_labels
from modelkit.drift.outputs import class_numbers, predicted_of, scores_of
from modelkit.errors import PackageError, UsageError

TARGET = "target"  # the name of the labels as a feature


@final
@dataclass(frozen=True, eq=False)
class TargetLabels:
    """The labels of the reference: their cells, and the number of labels in each, int64 (67,).

    The weight of `feature` is the share of alpha that labels have; all others divide the rest.
    """

    feature: Feature
    counts: Array

    @staticmethod
    def fit(labels: Any, *, classes: bool, ordered: bool, share: float, seed: int) -> TargetLabels:
        """The cells from a fifth of the labels (n,) of the reference, the counts from the others.

        `classes` says whether labels are names, and not numbers to be compared by size.
        """
        kind: FeatureKind = "category" if classes else "number"
        blank = Feature(TARGET, kind)
        values = label_values(blank, labels)
        mine, others = fifth(len(values), ordered=ordered, seed=seed)
        feature = fit_feature(TARGET, kind, values[mine])
        cells = feature.cells(values[others])
        stride = rows_apart(cells) if ordered else 1
        kept = cells[every(stride, len(cells), np.random.default_rng([seed, len(cells)]))]
        counts = np.bincount(kept, minlength=CELLS)
        return TargetLabels(replace(feature, stride=stride, weight=share), counts)

    def cells(self, labels: Any) -> Array:
        """The cell of each label, uint8 (n, 1).

        Raises UsageError for labels in another form than those of the reference.
        """
        values = label_values(self.feature, labels)
        found = self.feature.cells(values)
        if self.feature.kind == "category":
            unknown = set(values[found == UNKNOWN_CATEGORY].tolist())
            check_same_forms(
                product(unknown, self.feature.categories), "pass labels as Profile.fit got them"
            )
        return found.astype(np.uint8)[:, None]

    def write(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Plain values and arrays, for `read`."""
        arrays = feature_arrays([self.feature])
        arrays["counts"] = self.counts
        return plain_features([self.feature])[0], arrays

    @staticmethod
    def read(plain: Mapping[str, Any], arrays: Mapping[str, Array]) -> TargetLabels:
        """The inverse of `write`. Raises PackageError for counts of another shape."""
        (feature,) = read_features([plain], arrays)
        counts = arrays["counts"].astype(np.int64)
        if counts.shape != (CELLS,) or counts.min() < 0:
            raise PackageError(f"this is not a profile: its target has counts {counts.shape}")
        return TargetLabels(feature, counts)


def fit_labels(
    served: ColumnsByName,
    labels: Any,
    classes: tuple[Any, ...] | None,
    rows: int,
    *,
    positive: Any,
    share: float,
    ordered: bool,
    seed: int,
) -> tuple[Baseline, Calibration | None, TargetLabels]:
    """What the labels (rows,) of a reference say: its losses, calibrated probabilities, and themselves.

    Args:
        served: the model's answers, by output.
        labels: the true ones.
        classes: those of the probabilities, where they are known.
        rows: of the reference.
        positive: the class that precision, recall and F1 are estimated of; None for the second.
        share: of alpha that labels have.
        ordered: whether rows are in the order of time.
        seed: of the fifth that makes cells, and of the bootstrapped rows.
    """
    baseline, classes = baseline_of_labels(
        served, labels, classes, rows, ordered=ordered, seed=seed
    )
    calibration = None
    if classes is not None:
        calibration = _calibration(served, labels, classes, seed)
    if positive is not None:
        calibration = with_positive(calibration, positive)
    named = predicted_of(served, classes).dtype.kind != "f"
    target = TargetLabels.fit(labels, classes=named, ordered=ordered, share=share, seed=seed)
    return baseline, calibration, target


def _calibration(
    served: ColumnsByName, labels: Any, classes: tuple[Any, ...], seed: int
) -> Calibration:
    """The calibration of the probabilities by the reference's labels."""
    numbers = {str(name): i for i, name in enumerate(classes)}
    names = [str(label) for label in np.asarray(labels).tolist()]
    strange = sorted(set(names) - set(numbers))
    if strange:
        raise UsageError(
            f"the labels {strange[:5]} are not classes of the model; it has {list(numbers)}"
        )
    return Calibration.fit(
        tuple(numbers),
        scores_of(served["probabilities"]),
        np.array([numbers[name] for name in names], np.int64),
        np.random.default_rng(seed),
        class_numbers(served.get("label"), tuple(numbers)),
    )


def label_values(feature: Feature, labels: Any) -> Array:
    """Labels (n,) as the column that is made into cells: numbers, or names.

    A number has one name, whether it comes as an integer, a boolean or a float.
    """
    given = as_labels(labels)
    if given.ndim != 1:
        raise UsageError(f"labels must be (n,); got {given.shape}")
    if feature.kind != "category":
        return as_doubles(given, "labels")
    names = label_names(given, feature.categories)
    named = np.empty(len(names), object)
    named[:] = names
    return named
