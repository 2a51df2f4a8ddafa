"""Rows for drift detectors: streams of columns, drawn from a seed."""

import numpy as np
from scipy import stats
from scipy.signal import lfilter

from modelkit.drift.profile import Profile


def rng(*seed):
    return np.random.default_rng(seed)


def still():
    """A clock that stands still, so that states are equal whenever they are made."""
    return 1.7e9


def column(values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


ZIPF = 1 / np.arange(1, 51)
NULLS = {
    "normal": lambda n, r: r.normal(size=n),
    "rare": lambda n, r: r.random(n) < 0.01,
    "ties": lambda n, r: np.where(r.random(n) < 0.4, 0, np.round(r.normal(size=n) * 2)),
    "missing": lambda n, r: np.where(r.random(n) < 0.05, np.nan, r.standard_t(3, size=n)),
    "zipf": lambda n, r: np.array([f"c{i}" for i in range(50)], object)[
        r.choice(50, n, p=ZIPF / ZIPF.sum())
    ],
    "wide": lambda n, r: np.exp(3 * r.normal(size=n)),
}


def at_most(count, runs, alpha):
    """The lower 95 % Clopper-Pearson limit of the rate is at most alpha."""
    return count == 0 or stats.beta.ppf(0.025, count, runs - count + 1) <= alpha


def ar(n, rho, r):
    """An autoregressive series of n numbers of unit variance, whose neighbours correlate by rho."""
    return lfilter([(1 - rho**2) ** 0.5], [1, -rho], r.normal(size=n + 100))[100:]


def mixed(n, seed):
    r = rng(seed, 31)
    x = ar(n, 0.7, r)
    return {
        "x": x, "c": column(r.choice(["u", "v", None], n).tolist()), "s": column(r.choice(["n", "m"], n).tolist()),
        "e": r.normal(size=(n, 3)),
    }  # fmt: skip


def scored(n, seed):
    p = rng(seed, 32).random(n)
    return np.c_[1 - p, p]


def fit_profile():
    """A profile of all that may be watched: columns, an embedding, scores, labels and strata."""
    labels = (rng(2, 33).random(2000) < scored(2000, 2)[:, 1]).astype(int)
    return Profile.fit(
        mixed(600, 1),
        reference=mixed(2000, 2),
        scores=scored(2000, 2),
        labels=labels,
        stratum="s",
        ordered=True,
    )


SMALL = {"x": np.arange(400.0) % 97, "shop": np.array(["a", "b"] * 200, object)}
APART = {"x": np.arange(400.0) % 89 + 0.5, "shop": np.array(["a", "b"] * 200, object)}


def sparse(n, columns, rate, r):
    return {f"c{j}": np.where(r.random(n) < rate, np.nan, 1.0) for j in range(columns)}


def two_columns(n, r):
    return {"a": r.normal(size=n), "b": np.round(r.gamma(2, 2, n), 1)}


def labelled_profile(n=5000, rate=0.1):
    rows = rng(1).normal(size=(n, 1))
    return Profile.fit(
        rng(2).normal(size=(200, 1)), reference=rows, losses=(rng(3).random(n) < rate).astype(float)
    )


def inputs(n, seed):
    return {"x": rng(seed, 81).normal(size=n)}


def classes(n, seed, shares=(0.5, 0.3, 0.2)):
    return rng(seed, 82).choice(3, n, p=shares)
