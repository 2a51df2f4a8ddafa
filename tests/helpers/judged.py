"""Packages whose probability is a column of the rows, so that a test says what two models answer."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.gate.comparison import JudgedAnswers

COLUMNS = ("a", "b")
CHAMPION = "registry:churn@champion"


def save_reading(path, column, version):
    """A classifier of 0 and 1 whose log odds are one of the columns."""
    fitted = LogisticRegression().fit(pd.DataFrame(np.eye(2), columns=COLUMNS), np.array([0, 1]))
    fitted.coef_ = np.array([[1.0 if name == column else 0.0 for name in COLUMNS]])
    fitted.intercept_ = np.zeros(1)
    example = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2)), columns=COLUMNS)
    mk.save(fitted, path, example=example, name="churn", version=version)
    return path


def save_pair(folder):
    """The champion, which goes by the column "a", and the candidate, by "b"."""
    folder.mkdir(exist_ok=True)
    return save_reading(folder / "b.mk", "b", "1.1.0"), save_reading(folder / "a.mk", "a", "1.0.0")


def folder_of(where, packages, rows):
    """The folder, with the packages, and the rows in files, as `modelkit gate` reads them."""
    for package in packages:
        shutil.copy(package, where)
    X, y = rows
    table = X.assign(churned=y, region=np.where(np.arange(len(X)) % 3, "north", "south"))
    table.to_csv(where / "test.csv", index=False)
    table.to_parquet(where / "test.parquet", index=False)
    table.assign(id=np.arange(len(X))).to_csv(where / "more.csv", index=False)
    return where


def arguments(folder, *more, data="test.csv", champion="a.mk"):
    """The arguments of `modelkit gate` for what is in such a folder."""
    files = [str(folder / "b.mk"), "--champion", str(folder / champion)]
    return ["gate", *files, str(folder / data), "--label", "churned", *more]


def median_distance(y, outputs):
    return float(np.median(np.abs(y - outputs["probabilities"][:, 1])))


OWN = mk.GateMetric("median distance", median_distance, higher_is_better=False)
ASKED = {
    "margin": {"accuracy": 0.02, "roc_auc": 0.03, "log_loss": 0.05, "median distance": 0.1},
    "require": ["log_loss", "accuracy >= 0.7", OWN],
    "veto": ["roc_auc"],
    "slices": ["region"],
}


def judged(registry, candidate, rows, **asked):
    """The Verdict on a candidate beside the champion of a registry."""
    return mk.gate(candidate, CHAMPION, *rows, **{"margin": 0.03, "registry": registry, **asked})


def right_or_wrong(champion, candidate, y):
    """Rows on which the two models are right where told, (n,) each."""
    sign = np.where(y == 1, 1.0, -1.0)
    jitter = 1 + np.arange(len(y)) / len(y)
    return pd.DataFrame(
        {
            "a": sign * np.where(champion, 1, -1) * jitter,
            "b": sign * np.where(candidate, 1, -1) * jitter,
        }
    )


def drawn_rows(rng, n, discordant=0.08, gain=0.0, right=0.85):
    """Rows on which both are right equally often, or the candidate by `gain` more, and their truth."""
    better = discordant / 2 + gain / 2
    worse = discordant / 2 - gain / 2
    kind = rng.choice(4, size=n, p=[right - worse, better, worse, 1 - right - better])
    y = rng.integers(0, 2, n)
    return right_or_wrong(np.isin(kind, (0, 2)), np.isin(kind, (0, 1)), y), y


def classified(y, likely, **beside):
    both = np.column_stack([1 - likely, likely])
    label = (likely > 0.5).astype(np.int64)
    answered = Answered("binary", y, label, both, likely, (0, 1), **beside)
    return JudgedAnswers(answered, y, {"label": label, "probabilities": both})


def predicted(errors):
    truth = np.zeros((len(errors), 1))
    answered = Answered("regression", truth, predicted=errors.reshape(-1, 1))
    return JudgedAnswers(answered, truth, {})
