"""Signs that held-out rows know more than future rows will: leaks between training and test."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.columns import texts_of
from modelkit.signature.signature import Feeds, Signature
from modelkit.stats.calibration import bin_places
from modelkit.stats.influence import Undefined, average_of, r2_of
from modelkit.stats.ranks import area_of
from modelkit.stats.tests import split_test

ALONE = 0.98  # of the area under the ROC curve, or of R2, that one column reaches by itself
MOST_ROWS = 20_000  # that a column is tried on
MOST_COLUMNS = 200
VALUE_BINS = 32
MOST_SHOWN_COLUMNS = 5
SURE = 0.01  # how often a random split may look like a leak


@final
@dataclass(frozen=True)
class LeakageCheck:
    """One check for a leak.

    Attributes:
        name: "equal rows", "one column" or "shared clusters".
        found: whether there is a sign of a leak.
        text: what was found, in a sentence.
    """

    name: str
    found: bool
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


def equal_rows(trained: Array, held_out: Array) -> tuple[LeakageCheck, Array]:
    """Whether held-out rows equal training rows, and which, a mask (m,).

    It is a sign of a leak where more do so than if all rows had been split at random, by a test at 1 %.

    Args:
        trained: a number for each training row, (n,), which equal rows share.
        held_out: the same of the others, (m,).
    """
    equal = np.isin(held_out, trained, kind="sort")  # numpy 2.0 fails by a table of large numbers
    found = int(equal.sum())
    n = len(held_out)
    sizes = np.unique(np.concatenate([trained, held_out]), return_counts=True)[1]
    p, usual = split_test(found, np.bincount(sizes), n)
    text = (
        f"{found:,} of {n:,} held-out rows ({found / n:.2%}) equal a training row in every column "
        f"that the model reads; in a random split of all rows, {usual:,.0f} would"
    )
    return LeakageCheck("equal rows", p < SURE, text), equal


def shared_clusters(trained: Any, held_out: Any) -> LeakageCheck:
    """Whether clusters have rows on both sides of the split."""
    both = np.isin(texts_of("clusters", held_out), texts_of("clusters", trained))
    share = float(both.mean())
    text = f"{share:.1%} of the held-out rows are of a cluster that the model was trained on"
    return LeakageCheck("shared clusters", bool(both.any()), text)


def telling_columns(feeds: Feeds, signature: Signature, task: Answered) -> LeakageCheck | None:
    """Whether one column predicts the truth by itself; None for tasks where that means nothing.

    A column is cut into bins whose mean truth is learned on half of the rows and tried on the
    others; numbers are predicted by a straight line too, since bins blur a copy of the truth.
    """
    targets = _targets(task)
    n = len(task)
    if targets is None or n < 4 * VALUE_BINS:
        return None
    rows = np.linspace(0, n - 1, min(n, MOST_ROWS)).astype(np.int64)
    columns = signature.columns(feeds)
    single = [(name, values) for name, values in columns.items() if values.ndim == 1]
    numbers = task.kind == "regression"
    telling = []
    for name, values in single[:MOST_COLUMNS]:
        score = _score_alone(values[rows], targets[rows], numbers=numbers)
        if score is not None and score >= ALONE:
            telling.append(f"{name!r} ({score:.3f})")
    what = "R2" if numbers else "area under the ROC curve"
    if not telling:
        text = f"no column alone has an {what} of {ALONE}"
        return LeakageCheck("one column", found=False, text=text)
    shown = ", ".join(telling[:MOST_SHOWN_COLUMNS])
    text = f"{shown} alone nearly determines the truth ({what}): is it known before the truth is?"
    return LeakageCheck("one column", found=True, text=text)


def _targets(task: Answered) -> Array | None:
    """What a column is to predict, (n, targets)."""
    if task.kind == "binary":
        return task.truth.reshape(-1, 1)
    if task.kind == "multiclass":
        return np.eye(len(task.classes))[task.truth]
    return task.truth if task.kind in ("regression", "multilabel") else None


def _score_alone(values: Array, targets: Array, *, numbers: bool) -> float | None:
    codes = _bins_of(values)
    if codes.max() == 0:
        return None
    learned = np.arange(len(codes)) % 2 == 0
    size = int(codes.max()) + 1
    rows = np.bincount(codes[learned], minlength=size)
    # A bin that was not seen before gives the mean, and one of few rows little else.
    means = [
        (np.bincount(codes[learned], own, size) + own.mean()) / (rows + 1)
        for own in targets[learned].T
    ]
    predicted = np.column_stack(means)[codes]
    binned = _score(targets[~learned], predicted[~learned], numbers=numbers)
    if not numbers or binned is None or values.dtype.kind not in "fiu":
        return binned
    return max(binned, _score_of_line(values.astype(np.float64), targets, learned))


def _score(truth: Array, predicted: Array, *, numbers: bool) -> float | None:
    """The mean R2, or area under the ROC curve, over targets that have one, (n, targets)."""
    ones = np.ones(len(truth))
    parts = []
    for own, values in zip(truth.T, predicted.T, strict=True):
        with suppress(Undefined):
            parts.append(r2_of(own, values, ones) if numbers else area_of(values, own == 1, ones))
    return average_of(parts).value if parts else None


def _score_of_line(values: Array, targets: Array, learned: Array) -> float:
    """The R2 of straight lines through half of the rows, on the others; 0 where there is none."""
    known = np.isfinite(values)
    fitted = learned & known
    tried = ~learned & known
    if not fitted.any() or np.ptp(values[fitted]) == 0:
        return 0.0
    scale = np.abs(values[known]).max()
    columns = np.column_stack([np.ones(len(values)), values / scale])
    slopes = np.linalg.lstsq(columns[fitted], targets[fitted], rcond=None)[0]
    score = _score(targets[tried], columns[tried] @ slopes, numbers=True)
    return (score or 0.0) * float(known.mean())


def _bins_of(values: Array) -> Array:
    """The bin of each value of a column, int64 (n,); missing ones have their own."""
    if values.dtype.kind not in "fiu":
        return np.unique(texts_of("a column", values).astype(str), return_inverse=True)[1]
    doubles = values.astype(np.float64)
    known = ~np.isnan(doubles)
    codes = np.zeros(len(doubles), np.int64)
    if known.any():
        codes[known] = 1 + bin_places(doubles[known], np.ones(int(known.sum())), VALUE_BINS)
    return np.unique(codes, return_inverse=True)[1]
