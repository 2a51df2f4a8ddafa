"""Rows on which two models answer as a simulation wants, and packages that answer what is in the rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.check import GateCheck
from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.lifecycle.gate.claims import Levels, no_worse
from modelkit.lifecycle.gate.comparison import Comparison, JudgedAnswers, compare_by

RIGHT = 0.85
DISCORDANT = 0.08


def save_reading(folder: Path, columns: list[str], column: str, version: str) -> Path:
    """A package of a classifier of 0 and 1 whose log odds are one of the columns."""
    fitted = LogisticRegression().fit(
        pd.DataFrame(np.eye(2, len(columns)), columns=columns), np.array([0, 1])
    )
    fitted.coef_ = np.array([[1.0 if name == column else 0.0 for name in columns]])
    fitted.intercept_ = np.zeros(1)
    rng = np.random.default_rng(0)
    example = pd.DataFrame(rng.normal(size=(40, len(columns))), columns=columns)
    path = folder / f"{version}.mk"
    mk.save(fitted, path, example=example, name="churn", version=version)
    return path


def open_pair(folder: Path) -> tuple[mk.Model, mk.Model]:
    """The candidate, which goes by the column "b", and the champion, by "a"."""
    columns = ["a", "b"]
    paths = (
        save_reading(folder, columns, "b", "1.1.0"),
        save_reading(folder, columns, "a", "1.0.0"),
    )
    return mk.load(paths[0], threads=1), mk.load(paths[1], threads=1)


def right_rows(rng, n: int, gain: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Whether candidate and champion are right: they differ on 8 % of the rows, (n,) each."""
    better = (DISCORDANT + gain) / 2
    worse = (DISCORDANT - gain) / 2
    both = RIGHT - worse
    kind = rng.choice(4, size=n, p=[both, better, worse, 1 - both - better - worse])
    return np.isin(kind, (0, 1)), np.isin(kind, (0, 2))


def right_or_wrong(rng, n: int, gain: float = 0.0) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of the two models that are right or wrong as told, and their truth."""
    candidate, champion = right_rows(rng, n, gain)
    y = rng.integers(0, 2, n)
    sign = np.where(y == 1, 1.0, -1.0)
    sizes = rng.uniform(0.5, 2, n)
    told = {"a": sign * np.where(champion, 1, -1) * sizes}
    told["b"] = sign * np.where(candidate, 1, -1) * sizes
    return pd.DataFrame(told), y


def scored(rng, n: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of two equally good models, 10 % positive, whose log odds correlate with .9."""
    y = (rng.random(n) < 0.1).astype(int)
    common = rng.normal(size=n)
    told = {}
    for name in ("a", "b"):
        noise = np.sqrt(0.9) * common + np.sqrt(0.1) * rng.normal(size=n)
        told[name] = 1.5 * (noise + 1.5 * y - 0.75) + np.log(0.1 / 0.9)
    return pd.DataFrame(told), y


def answers(odds, y) -> JudgedAnswers:
    """What a package that reads these log odds answers."""
    positive = 1 / (1 + np.exp(-np.asarray(odds)))
    both = np.column_stack([1 - positive, positive])
    label = (positive > 0.5).astype(np.int64)
    answered = Answered("binary", y, label, both, positive, (0, 1))
    return JudgedAnswers(answered, y, {"label": label, "probabilities": both})


def figure_check(
    metric: str, ours: JudgedAnswers, theirs: JudgedAnswers, margin: float, levels: Levels
) -> GateCheck:
    """The check of one metric, as a gate makes it once both have answered: 80 times as fast."""

    def compared() -> Comparison:
        return compare_by(METRICS["binary"][metric], ours, theirs, seed=0)

    return no_worse(metric, compared, margin, levels)
