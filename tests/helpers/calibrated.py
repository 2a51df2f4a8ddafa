"""Rows with scores and labels, for the tests of performance without labels and of losses."""

import numpy as np

from modelkit.drift.losses import LOSS_WEIGHTS, loss_increments
from modelkit.stats.evidence import Evidence

CLASSES = ("no", "yes")


def expit(x):
    return 1 / (1 + np.exp(-x))


def binary_rows(rng, n, shift=0.0):
    """Scores that are not calibrated, and labels."""
    x = rng.standard_normal(n) + shift
    return expit(2 * x), (rng.random(n) < expit(1.2 * x - 0.3)).astype(int)


def multiclass_rows(rng, n):
    logits = rng.standard_normal((n, 3)) * [1, 1.5, 2]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    sharper = np.exp(0.7 * logits) / np.exp(0.7 * logits).sum(axis=1, keepdims=True)
    return scores, (rng.random((n, 1)) > np.cumsum(sharper, axis=1)[:, :-1]).sum(axis=1)


def peak_of(risk, u, rng, rows):
    losses = (rng.random(rows) < risk).astype(float).reshape(-1, 10)
    evidence = Evidence(1, LOSS_WEIGHTS)
    for batch in losses:
        logs = loss_increments(batch, u)[None]
        evidence.step(logs, np.exp(logs), np.array(10))
    return evidence.peak[0]
