"""Streams without drift, and streams that change at a known row. Everything is drawn afresh for each run.

Rows are a dict of columns; a column of two dimensions is an embedding.
"""

import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import NamedTuple

import numpy as np

Rows = dict[str, np.ndarray]
Generator = np.random.Generator

ZIPF = 1 / np.arange(1, 51)
NAMES = np.array([f"c{rank:02}" for rank in range(1, 51)])
TOPICS, WIDTH = 10, 64
HALF_DAY = 100  # rows
TRAIN = 10_000  # more training rows move no edge


class Null(NamedTuple):
    """`make(rng, n)` gives n rows in the order of time; `wide` ones are an embedding."""

    name: str
    make: Callable[[Generator, int], Rows]
    ordered: bool = False
    wide: bool = False
    stratum: str | None = None


class Change(NamedTuple):
    """`alter(rng, rows)` gives the rows after the change as they then are."""

    name: str
    null: Null
    alter: Callable[[Generator, Rows], Rows]


class Run(NamedTuple):
    """What one run sees.

    The training rows set edges, the reference is held out, the rest arrives later.
    """

    train: Rows
    reference: Rows
    live: Rows


def seeds(name: str) -> Iterator[np.random.SeedSequence]:
    """Independent seeds without end, the same for the same name."""
    root = np.random.SeedSequence(zlib.crc32(name.encode()))
    while True:
        yield root.spawn(1)[0]


def draw(null: Null, n_ref: int, horizon: int, seed: np.random.SeedSequence) -> Run:
    n_train = min(n_ref, TRAIN)
    rows = null.make(np.random.default_rng(seed), n_train + n_ref + horizon)
    return Run(
        part(rows, 0, n_train),
        part(rows, n_train, n_train + n_ref),
        part(rows, n_train + n_ref, None),
    )


def draw_change(
    change: Change, n_ref: int, at: int, after: int, seed: np.random.SeedSequence
) -> Run:
    """A run that changes after `at` live rows."""
    run = draw(change.null, n_ref, at + after, seed)
    changed = change.alter(np.random.default_rng(seed.spawn(1)[0]), part(run.live, at, None))
    live = {name: np.concatenate([column[:at], changed[name]]) for name, column in run.live.items()}
    return run._replace(live=live)


def part(rows: Rows, start: int, stop: int | None) -> Rows:
    return {name: column[start:stop] for name, column in rows.items()}


def size(rows: Rows) -> int:
    return len(next(iter(rows.values())))


# --- nulls ---


def normal(rng: Generator, n: int, scale: float = 1) -> Rows:
    return {"x": rng.normal(0, scale, n)}


def lognormal(rng: Generator, n: int) -> Rows:
    return {"x": rng.lognormal(size=n)}


def heavy(rng: Generator, n: int) -> Rows:
    return {"x": rng.standard_t(3, n)}


def bernoulli(rng: Generator, n: int, rate: float) -> Rows:
    return {"x": (rng.random(n) < rate).astype(float)}


def zipf(rng: Generator, n: int) -> Rows:
    return {"x": rng.choice(NAMES, n, p=ZIPF / ZIPF.sum())}


def ties(rng: Generator, n: int) -> Rows:
    """Half of it zero, the rest with one decimal."""
    return {"x": np.where(rng.random(n) < 0.5, 0, rng.exponential(size=n).round(1))}


def missing(rng: Generator, n: int, rate: float) -> Rows:
    return {"x": np.where(rng.random(n) < rate, np.nan, rng.normal(size=n))}


def embedding(rng: Generator, n: int) -> Rows:
    centres = rng.normal(size=(TOPICS, WIDTH))
    return {"x": about(rng, centres[rng.integers(TOPICS, size=n)])}


def about(rng: Generator, centres: np.ndarray) -> np.ndarray:
    return (centres + 0.5 * rng.normal(size=centres.shape)).astype(np.float32)


def together(rng: Generator, n: int) -> Rows:
    return {"x": rng.normal(size=(n, 8)).astype(np.float32)}


def autoregression(rng: Generator, n: int, rho: float) -> Rows:
    from scipy.signal import lfilter

    shocks = rng.normal(0, np.sqrt(1 - rho**2), n)
    shocks[0] = rng.normal()  # so that the first row is stationary
    return {"x": lfilter([1], [1, -rho], shocks)}


def season(rng: Generator, n: int) -> Rows:
    night = np.arange(n) // HALF_DAY % 2
    return {"x": rng.normal(2 * night, 1 + night), "night": np.where(night, "night", "day")}


NORMAL = Null("N(0, 1)", normal)
RARE = Null("Bernoulli .01", partial(bernoulli, rate=0.01))
OFTEN = Null("Bernoulli .1", partial(bernoulli, rate=0.1))
CATEGORIES = Null("Zipf, 50 categories", zipf)
EMBEDDING = Null("embeddings, 64-d, 10 topics", embedding, wide=True)
EXCHANGEABLE = (
    NORMAL,
    Null("N(0, 10²)", partial(normal, scale=10)),
    Null("lognormal", lognormal),
    Null("t, 3 degrees", heavy),
    RARE,
    OFTEN,
    CATEGORIES,
    Null("half zeros, ties", ties),
    Null("5 % missing", partial(missing, rate=0.05)),
    EMBEDDING,
)
DEPENDENT = tuple(
    Null(f"AR(1), {rho}", partial(autoregression, rho=rho), ordered=True) for rho in (0.3, 0.6, 0.9)
)  # fmt: skip
NULLS = (*EXCHANGEABLE, *DEPENDENT, Null("day and night", season, stratum="night"))


# --- changes ---


def shift(_rng: Generator, rows: Rows, by: float) -> Rows:
    return {"x": rows["x"] + by}


def stretch(_rng: Generator, rows: Rows, by: float) -> Rows:
    return {"x": rows["x"] * by}


def mode(rng: Generator, rows: Rows) -> Rows:
    new = rng.random(len(rows["x"])) < 0.05
    return {"x": np.where(new, rng.normal(3, 0.1, len(new)), rows["x"])}


def zeros(rng: Generator, rows: Rows) -> Rows:
    return {"x": np.where(rng.random(len(rows["x"])) < 0.2, 0, rows["x"])}


def ramp(_rng: Generator, rows: Rows) -> Rows:
    return {"x": rows["x"] + 0.5 * np.minimum(1, np.arange(1, len(rows["x"]) + 1) / 2000)}


def swap(_rng: Generator, rows: Rows) -> Rows:
    """The third and the tenth most frequent category, 7.4 % and 2.2 %, change places."""
    third, tenth = NAMES[[2, 9]]
    x = rows["x"]
    return {"x": np.where(x == third, tenth, np.where(x == tenth, third, x))}


def lose(rng: Generator, rows: Rows) -> Rows:
    """1 % is missing before, 5 % after."""
    return {"x": np.where(rng.random(len(rows["x"])) < 4 / 99, np.nan, rows["x"])}


def correlate(rng: Generator, rows: Rows) -> Rows:
    """Each pair of the eight has correlation .3; each alone is as it was."""
    x = rows["x"]
    common = rng.normal(size=(len(x), 1))
    return {"x": (np.sqrt(0.7) * x + np.sqrt(0.3) * common).astype(np.float32)}


def topic(rng: Generator, rows: Rows, share: float) -> Rows:
    x = rows["x"]
    new = rng.random(len(x)) < share
    centre = np.broadcast_to(rng.normal(size=WIDTH), x.shape)
    return {"x": np.where(new[:, None], about(rng, centre), x)}


TOGETHER = Null("8 columns", together, wide=True)
LOSSY = Null("1 % missing", partial(missing, rate=0.01))
CHANGES = (
    *(Change(f"mean +{by:g} sd", NORMAL, partial(shift, by=by)) for by in (0.1, 0.25, 0.5, 1)),
    Change("mean +.5 sd over 2,000 rows", NORMAL, ramp),
    *(Change(f"sd x {by:g}", NORMAL, partial(stretch, by=by)) for by in (1.25, 1.5)),
    Change("5 % in a new mode", NORMAL, mode),
    Change("20 % zeros", NORMAL, zeros),
    Change("two categories swap", CATEGORIES, swap),
    Change("missing, 1 to 5 %", LOSSY, lose),
    Change("correlation only, 8 columns", TOGETHER, correlate),
    *(
        Change(f"{share:.0%} a new topic", EMBEDDING, partial(topic, share=share))
        for share in (0.1, 0.03)
    ),
)


# --- labels ---


class Labelled(NamedTuple):
    """Labels and what a model predicted for them."""

    y: np.ndarray
    predicted: np.ndarray
    score: np.ndarray  # of the predicted class

    @property
    def errors(self) -> np.ndarray:
        return (self.y != self.predicted).astype(float)


class Concept(NamedTuple):
    """A concept that changes: `before` and `after` are rows of a pool that a model never saw."""

    name: str
    before: Labelled
    after: Labelled


@cache
def concepts() -> tuple[Concept, ...]:
    """Real data: labels that change their meaning, and two columns that change places."""
    from sklearn.datasets import load_breast_cancer, load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def fitted(load):
        X, y = load(return_X_y=True)
        train, pool, y_train, y_pool = train_test_split(
            X, y, test_size=0.6, random_state=0, stratify=y
        )
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(
            train, y_train
        )
        return model, pool, y_pool

    def asked(model, X, y):
        chances = model.predict_proba(X)
        return Labelled(y, model.classes_[chances.argmax(1)], chances.max(1))

    model, X, y = fitted(load_digits)
    before = asked(model, X, y)
    renamed = np.arange(10)
    renamed[[3, 8]] = 8, 3
    labels = Concept("digits: 3 and 8 change their labels", before, before._replace(y=renamed[y]))
    model, X, y = fitted(load_breast_cancer)
    swapped = X.copy()
    swapped[:, [24, 28]] = X[:, [28, 24]]
    columns = Concept(
        "breast cancer: two columns change places", asked(model, X, y), asked(model, swapped, y)
    )
    return labels, columns


def draw_concept(
    concept: Concept, n_ref: int, at: int, after: int, seed: np.random.SeedSequence
) -> list[Labelled]:
    """Reference and live rows, drawn from the pool with replacement."""
    rng = np.random.default_rng(seed)

    def some(source: Labelled, n: int) -> Labelled:
        rows = rng.integers(len(source.y), size=n)
        return Labelled(*(column[rows] for column in source))

    parts = some(concept.before, at), some(concept.after, after)
    return [some(concept.before, n_ref), Labelled(*map(np.concatenate, zip(*parts, strict=True)))]
