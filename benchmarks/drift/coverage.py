"""How often the 95 % interval of an estimated accuracy holds the one that comes out."""

from functools import partial

import numpy as np
from benchmarks.common.measure import judge, log, table
from benchmarks.drift.ours import collect, share

from modelkit.drift.labelfree import Calibration

WIDTH = 6  # columns
LEAST = 0.93  # of the runs
# Classes, rows of the reference and of the batch, and how many deviations these are apart.
CELLS = (
    (2, 500, 500, 0),
    (2, 500, 5000, 0),
    (2, 500, 1000, 1),
    (2, 500, 1000, 2),
    (2, 5000, 1000, 2),
    (3, 500, 5000, 0),
    (5, 500, 3000, 0),
    (5, 500, 3000, 1),
    (5, 1000, 1000, 0),
    (10, 500, 5000, 0),
    (10, 1000, 3000, 0),
    (10, 5000, 3000, 0),
)


def coverage(args) -> str:
    """The 95 % interval of the accuracy without labels"""
    lines = []
    for classes, reference, batch, shift in CELLS:
        name = f"coverage {classes} {reference} {batch} {shift}"
        found = np.array(collect(partial(one, classes, reference, batch, shift), name, args.runs))
        _, error, width = found.mean(axis=0)
        held, low, high = share(int(found[:, 0].sum()), len(found))
        cells = [f"{classes}", f"{reference:,}", f"{batch:,}", f"{shift}", f"{len(found):,}"]
        cells += [f"{held:.1%}", f"{low:.1%} to {high:.1%}", f"{error:+.4f}", f"{width:.3f}"]
        lines.append([*cells, *judge(held, "at least", LEAST)])
        log(f"  {' | '.join(lines[-1])}")
    header = (
        "classes | reference rows | batch rows | shift | runs | held | 95 % interval | mean error"
        " | width"
    )
    return table(header + " | target | reached", lines)


def one(
    classes: int, reference: int, batch: int, shift: float, seed: np.random.SeedSequence
) -> tuple[bool, float, float]:
    """Whether the interval held the accuracy, the error of the estimate, and the interval's width.

    Labels follow a softmax of six columns; the model's weights are others, and its scores too sharp.
    By a shift, the rows of the reference have more of class 1 than those of the batch.
    """
    rng = np.random.default_rng(seed)
    truth = 1.2 * rng.normal(size=(WIDTH, classes))
    model = 1.3 * (truth + 0.35 * rng.normal(size=(WIDTH, classes)))
    toward = model[:, 1] - model[:, 0]
    moved = shift * toward / np.linalg.norm(toward)
    scores, _, labels = draw(rng, reference, truth, model, moved)
    names = tuple(map(str, range(classes)))
    calibration = Calibration.fit(names, scores, labels)
    scores, predicted, labels = draw(rng, batch, truth, model)
    value, low, high = calibration.interval(calibration.estimate(scores, predicted))
    accuracy = (predicted == labels).mean()
    return low <= accuracy <= high, value - accuracy, high - low


def draw(
    rng: np.random.Generator,
    n: int,
    truth: np.ndarray,
    model: np.ndarray,
    moved: np.ndarray | float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    X = rng.normal(size=(n, WIDTH)) + moved
    upto = np.cumsum(softmax(X @ truth), axis=1)[:, :-1]
    labels = (rng.random((n, 1)) > upto).sum(axis=1)
    scores = softmax(X @ model)
    return scores[:, 1] if scores.shape[1] == 2 else scores, scores.argmax(axis=1), labels


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)
