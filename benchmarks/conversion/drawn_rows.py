"""Rows drawn at random: tables as people have them, the forms they pass them in, and rows that are made to hurt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

WORDS = (
    ["red", "green", "blue"],
    ["Zürich", "Genève", "Basel", "Bern"],
    ["S", "M", "L", "XL"],
    ["yes", "no"],
    ["Acme & Co", "acme", "北京", "x y", "O'Neil"],
    [f"shop {at}" for at in range(25)],
)
ODD = ("", " ", "nan", "None", "NA", "1", "1.0", "unseen", "é", "x" * 200, "\u200b", "İ", "a\x00")
TINY = (0.0, -0.0, 5e-324, -1e-310, 1e-45, 1e-35)
FAR = 1e4
EDGES = np.array(
    [
        *("1970-01-01", "1969-12-31T23:59:59", "2000-02-29", "1900-03-01", "2100-02-28"),
        *("2024-12-30", "2021-01-03", "2020-12-31T23:59:59", "2023-03-31", "2024-02-29T12:00"),
        "1678-01-01",
    ],
    "datetime64[ns]",
)
HOSTILE_ROWS = 60


class Drawn(NamedTuple):
    """A table: its rows, a score that targets are made of, and the names of its columns by kind."""

    rows: pd.DataFrame
    score: np.ndarray
    numbers: list[str]
    words: list[str]
    sentences: list[str]
    dates: list[str]

    @property
    def others(self) -> list[str]:
        return self.words + self.sentences + self.dates


def draw_table(rng: np.random.Generator, size: int) -> Drawn:
    """A table of numbers alone, or of numbers beside words, sentences and dates."""
    kinds = [str(kind) for kind in rng.choice(list(NUMBERS), rng.integers(2, 7))]
    columns = {f"{kind} {at}": NUMBERS[kind](rng, size) for at, kind in enumerate(kinds)}
    numbers = list(columns)
    score = rng.normal(0, 0.5, size)
    for name in numbers:
        values = columns[name].to_numpy(float, na_value=np.nan)
        score += rng.normal() * np.nan_to_num(_standard(values))
    words = []
    if rng.random() < 0.5:
        for at in range(rng.integers(1, 4)):
            kind = str(rng.choice(list(TEXTS)))
            known = WORDS[rng.integers(len(WORDS))]
            chosen = rng.integers(len(known), size=size)
            name = f"{kind} {at}"
            columns[name] = TEXTS[kind](rng, np.array(known, object)[chosen])
            words.append(name)
            score += rng.normal(0, 1, len(known))[chosen]
    sentences = ["sentence"] if words and rng.random() < 0.25 else []
    for name in sentences:
        known = [word for several in WORDS[:5] for word in several]
        columns[name] = pd.Series(
            [" ".join(rng.choice(known, rng.integers(1, 8))) for _ in range(size)]
        )
    dates = []
    for at in range(rng.integers(1, 3) if rng.random() < 0.25 else 0):
        kind = str(rng.choice(list(DATES)))
        name = f"{kind} {at}"
        columns[name] = DATES[kind](rng, size)
        dates.append(name)
        score += rng.normal() * np.sin(
            columns[name].dt.hour.fillna(0) + columns[name].dt.month.fillna(0)
        )
    return Drawn(pd.DataFrame(columns), score, numbers, words, sentences, dates)


def _standard(values: np.ndarray) -> np.ndarray:
    spread = np.nanstd(values)
    return (values - np.nanmean(values)) / (spread if spread > 0 else 1)


def _gaps(rng: np.random.Generator, values: Any, share: float = 0.1) -> pd.Series:
    return pd.Series(values).mask(rng.random(len(values)) < share)


NUMBERS: dict[str, Callable[[np.random.Generator, int], pd.Series]] = {
    "normal": lambda rng, n: pd.Series(rng.normal(rng.normal(0, 3), rng.choice([0.1, 1, 30]), n)),
    "decimal": lambda rng, n: pd.Series(np.round(rng.normal(10, 4, n), 1)),
    "money": lambda rng, n: pd.Series(np.round(rng.lognormal(3, 1, n), 2)),
    "whole": lambda rng, n: pd.Series(rng.integers(-3, 9, n)),
    "count": lambda rng, n: pd.Series(rng.poisson(40, n)),
    "zeros": lambda rng, n: pd.Series(np.where(rng.random(n) < 0.6, 0, rng.gamma(2, 2, n))),
    "gaps": lambda rng, n: _gaps(rng, np.round(rng.normal(5, 2, n), 2)),
    "float32": lambda rng, n: pd.Series(rng.normal(1, 2, n).astype(np.float32)),
    "int8": lambda rng, n: pd.Series(rng.integers(-90, 90, n).astype(np.int8)),
    "uint8": lambda rng, n: pd.Series(rng.integers(0, 255, n).astype(np.uint8)),
    "int32": lambda rng, n: pd.Series(rng.integers(0, 3000, n).astype(np.int32)),
    "bool": lambda rng, n: pd.Series(rng.random(n) < 0.4),
    "Int64": lambda rng, n: pd.Series(rng.integers(0, 20, n), dtype="Int64"),
    "Float64": lambda rng, n: _gaps(rng, pd.Series(rng.normal(0, 1, n), dtype="Float64")),
}
TEXTS: dict[str, Callable[[np.random.Generator, np.ndarray], pd.Series]] = {
    "text": lambda _, values: pd.Series(values, dtype="str"),
    "object": lambda _, values: pd.Series(values, dtype=object),
    "text with gaps": lambda rng, values: _gaps(rng, pd.Series(values, dtype=object)),
    "category": lambda _, values: pd.Series(values, dtype="category"),
    "category with gaps": lambda rng, values: _gaps(rng, pd.Series(values, dtype="category")),
}


def _moments(rng: np.random.Generator, size: int, unit: str, every: str) -> pd.Series:
    """Moments of the years 2019 to 2025, rounded down."""
    seconds = rng.integers(0, 7 * 365 * 86_400, size) + rng.random(size)
    moments = pd.Timestamp("2019-01-01") + pd.to_timedelta(seconds, unit="s")
    return pd.Series(moments.floor(every)).astype(f"datetime64[{unit}]")


DATES: dict[str, Callable[[np.random.Generator, int], pd.Series]] = {
    "day": lambda rng, n: _moments(rng, n, str(rng.choice(["s", "us", "ns"])), "D"),
    "hour": lambda rng, n: _moments(rng, n, str(rng.choice(["s", "ms", "us", "ns"])), "h"),
    "moment": lambda rng, n: _moments(rng, n, str(rng.choice(["us", "ns"])), "us"),
    "day with gaps": lambda rng, n: _gaps(rng, _moments(rng, n, "ns", "D")),
}


class Form(NamedTuple):
    """How rows are passed: to the source, and to `save` and the package.

    `numbers` is whether it holds no words, and `dates` whether functions of dates can read it.
    """

    source: Callable[[pd.DataFrame], Any]
    package: Callable[[Any], Any] = lambda rows: rows
    numbers: bool = False
    dates: bool = False


def _array(dtype: Any) -> Callable[[pd.DataFrame], np.ndarray]:
    return lambda rows: rows.to_numpy(dtype, na_value=np.nan)


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return rows.astype(object).where(rows.notna(), None).to_dict("records")


def _polars(rows: pd.DataFrame) -> pl.DataFrame:
    """Columns of texts are such where all are missing, too."""
    words = rows.select_dtypes(["object", "str"]).columns
    return pl.from_pandas(rows, schema_overrides=dict.fromkeys(words, pl.String))


FORMS = {
    "frame": Form(lambda rows: rows, dates=True),
    "array": Form(_array(np.float64), numbers=True),
    "float32 array": Form(_array(np.float32), numbers=True),
    "float32 frame": Form(lambda rows: rows.astype(np.float32), numbers=True),
    "lists": Form(_array(np.float64), lambda rows: rows.tolist(), numbers=True),
    "objects": Form(lambda rows: rows.to_numpy(object)),
    "polars": Form(_polars),
    "Arrow": Form(
        lambda rows: rows, lambda rows: pa.Table.from_pandas(rows, preserve_index=False), dates=True
    ),
    "records": Form(lambda rows: rows, _records, dates=True),
}
OFTEN = ("frame", "frame", "frame", "frame", "array", "array", "float32 array", "float32 frame")


def draw_form(rng: np.random.Generator, table: Drawn) -> str:
    forms = [(name, FORMS[name]) for name in (*OFTEN, *FORMS)]
    usual = [
        name
        for name, form in forms
        if not (form.numbers and table.others) and (form.dates or not table.dates)
    ]
    return str(rng.choice(usual))


def hostile(rng: np.random.Generator, seen: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each a name, and rows with the dtypes of those that were seen; categories may be others."""
    for name, change in HOSTILE.items():
        columns = {}
        for at, dtype in seen.dtypes.items():
            values = change(rng, seen[at])
            columns[at] = values if dtype == "category" else values.astype(dtype)
        yield name, pd.DataFrame(columns)


def _any(rng: np.random.Generator, column: pd.Series) -> pd.Series:
    return pd.Series(column.array[rng.integers(len(column), size=HOSTILE_ROWS)])


def _are_floats(column: pd.Series) -> bool:
    return pd.api.types.is_float_dtype(column.dtype)


def _unit(column: pd.Series) -> str:
    """The dtype of differences of a column of dates."""
    return str(column.dtype).replace("datetime", "timedelta")


def _near(rng: np.random.Generator, column: pd.Series) -> pd.Series:
    """Held values, the numbers next to them, and those halfway between two; of whole ones, one more and one less."""
    if column.dtype.kind == "M":
        return _any(rng, column) + rng.integers(-1, 2, HOSTILE_ROWS).astype(_unit(column))
    if not _are_floats(column):
        return _steps(rng, column)
    kind = np.float32 if column.dtype == np.float32 else np.float64
    held = np.unique(column.dropna().to_numpy(kind))
    between = (held[1:] + held[:-1]) / 2
    found = [held, np.nextafter(held, kind(np.inf)), np.nextafter(held, kind(-np.inf)), between]
    found += [np.nextafter(between, kind(np.inf)), held.astype(np.float32).astype(kind)]
    return pd.Series(rng.choice(np.concatenate(found), HOSTILE_ROWS))


def _steps(rng: np.random.Generator, column: pd.Series) -> pd.Series:
    values = _any(rng, column)
    dtype = column.dtype
    if not pd.api.types.is_integer_dtype(dtype):
        return values
    limits = np.iinfo(getattr(dtype, "numpy_dtype", dtype))
    moved = values.astype("Int64") + rng.integers(-1, 2, HOSTILE_ROWS)
    return moved.clip(limits.min, limits.max)


def _zeros(rng: np.random.Generator, column: pd.Series) -> pd.Series:
    if column.dtype.kind == "M":
        return pd.Series(rng.choice(EDGES, HOSTILE_ROWS))
    values = _any(rng, column)
    lost = rng.random(HOSTILE_ROWS) < 0.4
    if _are_floats(column):
        return values.mask(lost, pd.Series(rng.choice(TINY, HOSTILE_ROWS)).astype(column.dtype))
    whole = pd.api.types.is_integer_dtype(column.dtype)
    return values.mask(lost, 0).astype(column.dtype) if whole else values


def _far(rng: np.random.Generator, column: pd.Series) -> pd.Series:
    if column.dtype.kind == "M":
        return _any(rng, column) + pd.to_timedelta(rng.integers(-80_000, 80_000, HOSTILE_ROWS), "D")
    return _any(rng, column) * FAR if _are_floats(column) else _any(rng, column)


def _missing(rng: np.random.Generator, column: pd.Series) -> pd.Series:
    """A third of the values missing, where the dtype has a place for them."""
    values = _any(rng, column)
    plain = isinstance(column.dtype, np.dtype) and column.dtype.kind in "iub"
    return values if plain else values.mask(rng.random(HOSTILE_ROWS) < 1 / 3)


def _odd(rng: np.random.Generator, column: pd.Series) -> pd.Series:
    """Texts that are odd, and known ones in other letters."""
    values = _any(rng, column)
    if column.dtype == "category":
        return values.cat.add_categories("unseen").mask(rng.random(HOSTILE_ROWS) < 0.2, "unseen")
    if column.dtype not in ("object", "str"):
        return values
    texts = values.map(lambda text: text.upper() if isinstance(text, str) else text)
    odd = pd.Series(rng.choice(ODD, HOSTILE_ROWS), dtype=object)
    draw = rng.random(HOSTILE_ROWS)
    return values.astype(object).mask(draw < 0.3, odd).mask(draw > 0.8, texts)


HOSTILE: dict[str, Callable[[np.random.Generator, pd.Series], pd.Series]] = {
    "near": _near,
    "zeros": _zeros,
    "far": _far,
    "missing": _missing,
    "odd": _odd,
}
