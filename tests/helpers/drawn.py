"""Rows of a number and a name, drawn from a seed."""

import numpy as np


def rng(seed=0):
    return np.random.default_rng(seed)


def noisy_rows(n, seed=0):
    return {"a": rng(seed).normal(size=n), "c": rng(seed + 1).choice(["u", "v", "w"], n)}
