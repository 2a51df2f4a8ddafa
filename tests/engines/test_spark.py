"""Spark alone: names in any case, and times of another zone than UTC."""

import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers.engines import INPUTS, customers, local

import modelkit as mk
from modelkit.errors import SignatureError, UsageError

sql = pytest.importorskip("pyspark.sql")
pytestmark = [
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.filterwarnings(
        "ignore:Series.values returning an ndarray:pandas.errors.Pandas4Warning"
    ),
    pytest.mark.filterwarnings("ignore:createDataFrame attempted Arrow optimization:UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def session():
    """A local session of Spark whose zone is not UTC."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started = (
            sql.SparkSession.builder.master("local[2]")
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .getOrCreate()
        )
    zone = started.conf.get("spark.sql.session.timeZone")
    started.conf.set("spark.sql.session.timeZone", "America/Lima")
    yield started
    started.conf.set("spark.sql.session.timeZone", zone)
    started.stop()


def test_a_kept_name_that_is_an_output_in_another_case_is_refused(session, packages):
    """Spark could read neither of them."""
    from modelkit.integrations import spark as integration

    table = pa.Table.from_pandas(customers(20, 5)[INPUTS].assign(Label="x"), preserve_index=False)
    rows = session.createDataFrame(table)
    with pytest.raises(SignatureError, match=r"\['Label', 'label'\] of keep and outputs"):
        integration.score(rows, packages.churn, keep=["Label"])
    both = integration.score(rows, packages.churn, keep=["Label"], outputs=["probabilities"])
    assert both.select("label").toArrow()["label"].to_pylist() == ["x"] * 20


def test_columns_that_differ_in_case_alone_are_told_apart(session, packages):
    from modelkit.integrations import spark as integration

    frame = customers(50, 5)[["id", *INPUTS]]
    table = pa.Table.from_pandas(frame.assign(AGE=-1.0, City="x"), preserve_index=False)
    scored = integration.score(session.createDataFrame(table), packages.churn, keep=["id", "AGE"])
    found = scored.toArrow().sort_by("id")
    served = local(packages.churn, frame[INPUTS])["probabilities"]
    assert np.array_equal(np.array(found["probabilities"].to_pylist()), served)
    assert found["AGE"].to_pylist() == [-1.0] * 50


def days(first, count, seed):
    """Sixty rows a day, of which each day has its own mean, at times without a zone."""
    r = np.random.default_rng(seed)
    day = np.repeat(pd.date_range(first, periods=count).to_numpy(), 60)
    at = day + r.integers(0, 86400, len(day)).astype("m8[s]")
    values = np.repeat(r.normal(size=count), 60) + r.normal(size=len(day))
    return pd.DataFrame({"at": at, "value": values})


def test_days_are_those_of_the_reference_or_refused(session):
    from modelkit.integrations import spark as integration

    profile = mk.Profile.fit(
        days("2026-01-01", 12, 1), reference=days("2026-02-01", 20, 2), unit="day", time="at"
    )
    now = days("2026-06-01", 5, 3)
    own = mk.Detector(profile).test(now)
    rows = session.createDataFrame(now)
    with pytest.raises(UsageError, match=r"\['at'\] are timestamps, and the session zone is"):
        integration.drift(rows, profile)
    local_days = rows.withColumn("at", sql.functions.col("at").cast("timestamp_ntz"))
    assert integration.drift(local_days, profile).features == own.features
    with pytest.raises(UsageError, match="lack the column 'at', which has their times"):
        integration.drift(rows.drop("at"), profile)
