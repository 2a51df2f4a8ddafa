"""Functions of users over columns of times."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pytest
from helpers.examples import some
from helpers.packages import saved
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import modelkit as mk
from modelkit.errors import ConversionError, SignatureError, UsageError

RNG = np.random.default_rng(0)
ROWS = 160
SECONDS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
# Of the range of nanoseconds, which begins in 1677: hours, ends of months and of years, leap days.
FIRST, LAST = "1677-09-23", "2262-04-10"
FIELDS = (
    *("year", "quarter", "month", "day", "hour", "minute", "second", "microsecond", "nanosecond"),
    *(
        "day_of_week",
        "day_of_year",
        "days_in_month",
        "is_leap_year",
        "is_month_start",
        "is_month_end",
    ),
    *("is_quarter_start", "is_quarter_end", "is_year_start", "is_year_end"),
)
# Up to pandas 3.0, a year of weeks before 0 wraps around.
OF_WEEKS = ["week", "year"] if pd.__version__ >= "3.1" else ["week"]


def adversarial(unit):
    """Times that a calendar may get wrong, and a missing one."""
    days = np.arange(FIRST, LAST, dtype="M8[D]")
    months = np.arange("1678-01", "2262-04", dtype="M8[M]").astype("M8[D]")
    hours = np.arange("2000-02-27", "2000-03-02", dtype="M8[h]")
    times = np.concatenate([part.astype(f"M8[{unit}]") for part in (days[::29], months, hours)])
    tick = np.timedelta64(1, unit)
    found = np.concatenate(
        [times, times - tick, times + tick, np.array(["NaT", "1970-01-01"], f"M8[{unit}]")]
    )
    if unit != "ns":
        far = np.arange("-9999-02", "9999-02", 41, dtype="M8[M]").astype(f"M8[{unit}]")
        found = np.concatenate([found, far, far - tick])
    return found


def frame_of(times, unit="us"):
    """Times of a unit beside others, and numbers."""
    at = pd.Series(times.astype(f"M8[{unit}]"))
    since = at.sample(frac=1, random_state=0, ignore_index=True)
    return pd.DataFrame({"at": at, "since": since, "x": RNG.normal(size=len(at))})


def example(unit="us"):
    return frame_of(RNG.integers(946_684_800, 1_767_225_600, ROWS).astype("M8[s]"), unit)


def assert_same(body, tmp_path, unit="us", fresh=None):
    """A function gives in a package what it gives, to the bit."""
    transformer = FunctionTransformer(body).fit(example(unit))
    _, package = saved(transformer, example(unit), tmp_path)
    fresh = frame_of(adversarial(unit), unit) if fresh is None else fresh
    truth = np.asarray(transformer.transform(fresh), np.float64)
    np.testing.assert_array_equal(package.predict(fresh), truth)
    few = fresh[:64].dropna()
    np.testing.assert_array_equal(
        package.predict(few), np.asarray(transformer.transform(few), np.float64)
    )


def fields(frame):
    made = frame[["x"]].copy()
    for name in FIELDS:
        made[name] = getattr(frame["at"].dt, name)
    week = frame["at"].dt.isocalendar()
    return made.assign(**{name: week[name].astype(float) for name in OF_WEEKS})


@some("unit", ["us", "ns"], 1)
def test_fields_of_every_day_in_every_unit(unit, tmp_path):
    assert_same(fields, tmp_path, unit)


@some("unit", SECONDS, 2)
def test_spans_in_every_unit(unit, tmp_path):
    def ages(frame):
        age = pd.Timestamp("1999-12-31 18:00") - frame["at"]
        apart = frame["at"] - frame["since"]
        return frame[["x"]].assign(
            days=age.dt.days,
            years=age / pd.Timedelta("365.25D"),
            seconds=age.dt.total_seconds(),
            of_day=age.dt.seconds,
            weeks=apart // pd.Timedelta("7D"),
            hours=apart / np.timedelta64(1, "h"),
            long=apart > pd.Timedelta("30D"),
            share=apart / age,
        )

    times = RNG.integers(-1_200_000_000, 4_000_000_000, 2_000).astype("M8[s]").astype(f"M8[{unit}]")
    times = times + RNG.integers(0, SECONDS[unit], len(times)).astype(f"m8[{unit}]")
    times[::50] = np.datetime64("NaT", unit)
    assert_same(ages, tmp_path, unit, frame_of(times, unit))


def hours(number):
    """A span of a unit in which pandas 2 adds it to times far away too."""
    return pd.Timedelta(hours=number).as_unit("s")


def holidays(frame):
    known = [pd.Timestamp("2000-01-01"), pd.Timestamp("2024-12-25")]
    return frame[["x"]].assign(holiday=frame["at"].dt.normalize().isin(known))


def filled(frame):
    frame = frame.copy()
    frame["gone"] = frame["since"].isna().astype(int)
    frame["hour"] = frame["since"].fillna(pd.Timestamp("2020-02-29 13:00")).dt.hour
    return frame.drop(columns=["at", "since"])


WRITTEN = {
    "beside each other": lambda f: np.column_stack(
        [f["x"], f["at"].dt.hour / 24, f["since"].dt.month % 3]
    ),
    "weekend": lambda f: (f["at"].dt.day_of_week >= 5).astype(int).to_frame(),
    "compared": lambda f: f[["x"]].assign(
        a=f["at"] > pd.Timestamp("2000-02-29"),
        b=f["at"] <= "2000-03-01",
        c=f["at"] != f["since"],
        d=f["at"] < f["since"],
    ),
    "finer than the column": lambda f: (
        f["at"] >= pd.Timestamp("2000-01-01 00:00:00.000000001")
    ).to_frame(),
    "between": lambda f: (
        f["at"].between(pd.Timestamp("1999-12-31"), pd.Timestamp("2000-01-31")).to_frame()
    ),
    "floored": lambda f: f[["x"]].assign(
        m=f["at"].dt.floor("15min").dt.minute, d=(f["at"] - f["at"].dt.normalize()).dt.seconds
    ),
    "shifted": lambda f: (f["at"] + hours(36)).dt.day.to_frame(),
    "several shifted": lambda f: f[["x"]].assign(
        **{
            f"{name}{number}": (f[name] + hours(number)).dt.hour
            for number in range(1, 5)
            for name in ("at", "since")
        }
    ),
    "holidays": holidays,
    "filled": filled,
    "of another frame": lambda f: pd.concat(
        [f[["x"]], pd.DataFrame({"m": pd.to_datetime(f["at"]).dt.month})], axis=1
    ),
    "each": lambda f: f["at"].apply(lambda time: time.weekday()).to_frame(),
    "one column of them": lambda f: f[["at"]].apply(lambda times: times.dt.month),
}


@some("name", WRITTEN, 6)
def test_functions_of_times(name, tmp_path):
    assert_same(WRITTEN[name], tmp_path)


REFUSED = {
    "times as numbers": (
        lambda f: f[["x"]].assign(n=np.isfinite(f["at"])),
        "numpy.isfinite of times",
    ),
    "texts of them": (lambda f: f["at"].dt.strftime("%Y").to_frame(), r"dt\.strftime"),
    "a zone": (lambda f: (f["at"].dt.tz_localize("UTC").dt.hour).to_frame(), r"dt\.tz_localize"),
    "another type": (
        lambda f: f["at"].astype("M8[s]").dt.year.to_frame(),
        r"pd\.Timedelta\('1s'\)",
    ),
    "now": (lambda f: (f["at"] < "now").to_frame(), "the time 'now', which would stay"),
    "filled with today": (
        lambda f: f["at"].fillna("today").dt.hour.to_frame(),
        "the time 'today', which would stay",
    ),
    "a time of today": (lambda f: (f["at"] < "12:30").to_frame(), "'12:30', which would stay"),
    "today by name": (
        lambda f: (f["at"] - pd.Timestamp(ts_input="today")).dt.days.to_frame(),
        "the time 'today', which would stay",
    ),
    "a list of times": (
        lambda f: (f["at"] - pd.to_datetime(arg=["now"])[0]).dt.days.to_frame(),
        "the time 'now', which would stay",
    ),
    "neighbours": (lambda f: (f["at"] - f["at"].shift()).dt.days.fillna(0).to_frame(), "shift"),
    "the largest of all": (lambda f: (f["at"].max() - f["at"]).dt.days.to_frame(), "all|max"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_functions_of_times_that_cannot_be_followed_say_why(name, tmp_path):
    body, reason = REFUSED[name]
    model = make_pipeline(FunctionTransformer(body), LinearRegression()).fit(
        example(), RNG.normal(size=ROWS)
    )
    with pytest.raises(ConversionError, match=reason):
        saved(model, example(), tmp_path)


def test_times_that_no_function_reads(tmp_path):
    rows = example()
    y = RNG.normal(size=ROWS)
    dropped = make_pipeline(
        FunctionTransformer(lambda f: f.drop(columns=["at", "since"])), LinearRegression()
    ).fit(rows, y)
    _, package = saved(dropped, rows, tmp_path)
    assert package.signature.ignored == ("at", "since")
    np.testing.assert_allclose(package.predict(rows[["x"]]), dropped.predict(rows))
    encoded = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["at"])), LinearRegression()
    ).fit(rows, y)
    with pytest.raises(ConversionError, match="OneHotEncoder gets a column of times"):
        saved(encoded, rows, tmp_path)


def test_a_model_of_times_everywhere(tmp_path):
    """Rows in every form, golden rows, explanations, drift, CSV and JSON."""
    rows = example()

    def numbers(frame):
        return frame[["x"]].assign(
            hour=frame["at"].dt.hour, age=(frame["at"] - frame["since"]) / pd.Timedelta("1D")
        )

    steps = make_column_transformer(
        (make_pipeline(FunctionTransformer(numbers), StandardScaler()), ["at", "since", "x"])
    )
    model = make_pipeline(steps, LinearRegression()).fit(rows, RNG.normal(size=ROWS))
    profile = mk.Profile.fit(rows)
    manifest, package = saved(model, rows, tmp_path, profile=profile, background=rows[:20])
    truth = model.predict(rows)
    assert [spec.dtype for spec in package.signature.inputs] == [
        "datetime64[us]",
        "datetime64[us]",
        "float64",
    ]
    assert manifest.parity.missing_rows == 0  # LinearRegression takes none
    assert package.verify() == 0
    records = [
        dict(zip(rows, map(_plain, row), strict=True)) for row in rows.itertuples(index=False)
    ]
    for same in (
        rows,
        rows.astype({"at": "M8[s]"}),
        pl.from_pandas(rows),
        pl.from_pandas(rows).to_arrow(),
        records,
    ):
        np.testing.assert_allclose(package.predict(same), truth, rtol=1e-12)
    for wrong, says in (
        (pd.Timestamp(0, tz="UTC"), "without a time zone"),
        ("2020-01-01", "pandas.to_datetime"),
        (1.5, "times"),
    ):
        with pytest.raises(SignatureError, match=says):
            package.predict(rows.assign(at=wrong))
    rows[:5].to_csv(tmp_path / "rows.csv", index=False)
    read = mk.load(tmp_path / "m.mk").predict(rows[:5])
    np.testing.assert_allclose(read, truth[:5])
    found = mk.Explainer(package).explain(rows[:3])
    assert found.feature_names == ("at", "since", "x")


def _plain(value):
    return value.to_pydatetime() if isinstance(value, dt.datetime) else value


class Age(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.last_ = X["at"].max()
        return self

    def transform(self, X):
        return (self.last_ - X["at"]).dt.days.to_frame()


def test_a_part_may_be_given_times_as_a_vector_or_say_by_converters_what_it_takes_of_them(tmp_path):
    hour = FunctionTransformer(lambda times: times.dt.hour.to_frame())
    columns = make_column_transformer((hour, "at"), (Age(), ["at"]), ("passthrough", ["x"]))
    model = make_pipeline(columns, LinearRegression()).fit(example(), RNG.normal(size=ROWS))
    by = {Age: lambda step: FunctionTransformer(step.transform)}
    _, package = saved(model, example(), tmp_path, converters=by)
    fresh = example()
    np.testing.assert_allclose(package.predict(fresh), model.predict(fresh), rtol=1e-9)
    for wrong, reason in (
        ([Age], "converters= is a dict from classes"),
        ({"Age": by[Age]}, "converters= is a dict from classes"),
        ({Age: lambda _: StandardScaler()}, "gives an unfitted StandardScaler"),
        ({Age: lambda step: step}, "gives Age; let it give"),
    ):
        with pytest.raises((ConversionError, UsageError), match=reason):
            saved(model, example(), tmp_path, converters=wrong)
