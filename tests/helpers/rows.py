"""Rows that several tests of conversion fit on."""

import numpy as np
import pandas as pd


def normal(rows, columns=3):
    return np.random.default_rng(rows).normal(0, 3, (rows, columns))


def tenths(rows, columns):
    rng = np.random.default_rng(0)
    X = np.round(rng.normal(0, 3, (rows, columns)), 1)
    return X, (X.sum(axis=1) + rng.normal(0, 1, rows) > 0).astype(int)


def beside(X):
    """Each row with its numbers, with the floats above them, and with those below."""
    return np.concatenate([X, np.nextafter(X, np.inf), np.nextafter(X, -np.inf)])


def trips(n=120):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "fare": rng.gamma(2, 10, n),
            "sex": rng.choice(["M", "F"], n),
            "age": rng.integers(1, 90, n),
        }
    )
    return X, (X["fare"] > 20).astype(int)


def shops(n=300):
    """Codes of shops and a letter, and whether the shop is number 20."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"shop": rng.choice([10, 20, 30], n), "sex": rng.choice(["u", "v"], n)})
    return X, (X["shop"] == 20).astype(int) ^ (rng.random(n) < 0.1)


def ties(seed):
    """Halves of whole numbers, which scaled lie on the thresholds of trees."""
    rng = np.random.default_rng(seed)
    X = np.rint(rng.normal(size=(300, 4)) * [1, 3, 0.5, 4])
    return X, np.digitize(X[:, 0] + 0.3 * X[:, 1], [-0.5, 0.8])
