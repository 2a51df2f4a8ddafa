"""Signs that held-out rows tell more than rows to come will: leaks between training and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.columns import texts_of
from modelkit.signature.signature import Feeds, Signature
from modelkit.stats.calibration import bin_places
from modelkit.stats.influence import Undefined, average_of, r2_of
from modelkit.stats.intervals import special_functions
from modelkit.stats.ranks import area_of

ALONE = 0.98  # of the area under the ROC curve, or of R2, that one column reaches by itself
MOST_ROWS = 20_000  # that a column is tried on
MOST_COLUMNS = 200
VALUE_BINS = 32
MOST_SHOWN_COLUMNS = 5
SURE = 0.01  # how often a random split may look like a leak
TINY = 1e-9


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
    equal = np.isin(held_out, trained)
    found = int(equal.sum())
    both = np.concatenate([trained, held_out])
    sizes = np.bincount(np.unique(both, return_counts=True)[1])
    usual, variance = _equal_at_random(sizes, len(held_out))
    text = (
        f"{found:,} of {len(held_out):,} held-out rows ({found / len(held_out):.2%}) equal a training "
        f"row in every column that the model reads; in a random split of all rows, {usual:,.0f} would"
    )
    return LeakageCheck("equal rows", _tail(found, usual, variance) < SURE, text), equal


def _equal_at_random(sizes: Array, held: int) -> tuple[float, float]:
    """Mean and variance of the number of held-out rows that equal others, in a random split.

    With q the share that is held out, h of the c rows of a set of equal ones are, a binomial number,
    and these have their equals among the others unless h = c. That q of all are held out is known,
    so of the variance is left what the regression on the number of all leaves.

    Args:
        sizes: how many sets there are of 0, 1, 2 ... rows that equal one another.
        held: how many of the rows are held out.
    """
    c = np.arange(len(sizes), dtype=np.float64)
    q = held / float(sizes @ c)
    mean = c * q
    whole = q**c
    squares = mean * (1 - q) + mean**2 - c**2 * whole  # of h where h < c, and times h
    crossing = mean - c * whole
    total = float(sizes @ (squares - mean * crossing))
    spread = float(sizes @ (mean * (1 - q)))
    variance = float(sizes @ (squares - crossing**2)) - (total**2 / spread if spread else 0.0)
    return float(sizes @ crossing), variance


def _tail(found: int, mean: float, variance: float) -> float:
    """The probability of so large a count, or a larger one, by a law of its mean and variance.

    It is a binomial law, which it is where equal rows come in pairs, each with one on either side or
    not; and a gamma law where the variance is larger, since large sets bring many rows at once.
    """
    if variance <= TINY or found <= mean:
        return 1.0
    special = special_functions()
    if variance >= mean:
        return float(special.gammaincc(mean**2 / variance, (found - 0.5) * mean / variance))
    share = 1 - variance / mean
    return float(special.betainc(found, max(mean / share - found, 0.0) + 1, share))


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
    if targets is None or len(task) < 4 * VALUE_BINS:
        return None
    rows = np.arange(len(task))
    if len(rows) > MOST_ROWS:
        rows = np.linspace(0, len(task) - 1, MOST_ROWS).astype(np.int64)
    columns = signature.columns(feeds)
    single = {name: values for name, values in columns.items() if values.ndim == 1}
    telling = []
    for name in list(single)[:MOST_COLUMNS]:
        score = _score_alone(single[name][rows], targets[rows], numbers=task.kind == "regression")
        if score is not None and score >= ALONE:
            telling.append((name, score))
    what = "R2" if task.kind == "regression" else "area under the ROC curve"
    if not telling:
        return LeakageCheck(
            "one column", found=False, text=f"no column alone has an {what} of {ALONE}"
        )
    shown = ", ".join(f"{name!r} ({score:.3f})" for name, score in telling[:MOST_SHOWN_COLUMNS])
    text = f"{shown} alone nearly determines the truth ({what}): is it known before the truth is?"
    return LeakageCheck("one column", found=True, text=text)


def _targets(task: Answered) -> Array | None:
    """What a column is to predict, (n, targets)."""
    if task.kind == "regression":
        return task.truth
    if task.kind == "multilabel":
        return task.truth
    if task.kind in ("binary", "multiclass"):
        own = np.eye(len(task.classes))[task.truth]
        return own[:, 1:] if task.kind == "binary" else own
    return None


def _score_alone(values: Array, targets: Array, *, numbers: bool) -> float | None:
    codes = _bins_of(values)
    if codes.max() == 0:
        return None
    learned = np.arange(len(codes)) % 2 == 0
    size = int(codes.max()) + 1
    rows = np.bincount(codes[learned], minlength=size)
    tried = ~learned
    ones = np.ones(int(tried.sum()))
    parts = []
    for target in targets.T:
        sums = np.bincount(codes[learned], target[learned], size)
        # A bin that was not seen before tells the mean, and one of few rows little else.
        told = ((sums + target[learned].mean()) / (rows + 1))[codes][tried]
        try:
            part = (
                r2_of(target[tried], told, ones)
                if numbers
                else area_of(told, target[tried] == 1, ones)
            )
        except Undefined:
            continue
        parts.append(part)
    binned = average_of(parts).value if parts else None
    if not numbers or binned is None or values.dtype.kind not in "fiu":
        return binned
    return max(binned, _score_of_line(values.astype(np.float64), targets, learned))


def _score_of_line(values: Array, targets: Array, learned: Array) -> float:
    """The R2 of straight lines through half of the rows, on the others; 0 where there is none."""
    known = np.isfinite(values)
    fitted = learned & known
    tried = ~learned & known
    if np.ptp(values[fitted]) == 0 if fitted.any() else True:
        return 0.0
    scale = np.abs(values[known]).max()
    column = np.column_stack([np.ones(len(values)), values / scale])
    slopes = np.linalg.lstsq(column[fitted], targets[fitted], rcond=None)[0]
    told = np.where(known[:, None], column, 0.0) @ slopes
    try:
        parts = [
            r2_of(*pair, np.ones(int(tried.sum())))
            for pair in zip(targets[tried].T, told[tried].T, strict=True)
        ]
    except Undefined:
        return 0.0
    return average_of(parts).value * float(known.mean())


def _bins_of(values: Array) -> Array:
    """The bin of each value of a column, int64 (n,); missing ones have their own."""
    if values.dtype.kind in "fiu":
        doubles = values.astype(np.float64)
        known = ~np.isnan(doubles)
        codes = np.zeros(len(doubles), np.int64)
        if known.any():
            codes[known] = 1 + bin_places(doubles[known], np.ones(int(known.sum())), VALUE_BINS)
        return np.unique(codes, return_inverse=True)[1]
    return np.unique(texts_of("a column", values).astype(str), return_inverse=True)[1]
