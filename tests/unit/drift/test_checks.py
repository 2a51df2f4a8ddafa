"""Checks of a batch keep to an alpha of their own, and a reference that shares rows with X is refused."""

from math import comb

import numpy as np
import pandas as pd
import pytest
from helpers.examples import examples
from helpers.flights import flights_file
from helpers.streams import column, rng
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_iris

import modelkit as mk
from modelkit.drift.repeats import row_hashes
from modelkit.errors import UsageError
from modelkit.stats.exact import constant_test


def test_checks_find_what_went_up_and_what_is_constant():
    r = rng(52)
    train, held, served = (
        {"x": r.normal(size=n), "y": r.normal(size=n), "z": r.normal(size=n)}
        for n in (500, 5000, 200)
    )
    served["x"][:20] = np.nan
    served["y"][:] = 0.5
    found = {
        (c.name, c.feature): c
        for c in mk.Detector(mk.Profile.fit(train, reference=held)).test(served).checks
    }
    assert found["missing rate", "x"].p < 1e-6
    assert found["constant", "y"].p < 1e-6
    assert not any(feature == "z" for _, feature in found)


@settings(max_examples=examples(60))
@given(
    st.lists(st.integers(0, 12), min_size=2, max_size=4).filter(lambda counts: sum(counts) > 0),
    st.integers(1, 6),
)
def test_the_probability_of_a_constant_batch_is_exact(reference, n):
    batch = np.zeros(len(reference), int)
    batch[0] = n
    pooled = np.array(reference) + batch
    expected = sum(comb(int(rows), n) for rows in pooled) / comb(int(pooled.sum()), n)
    assert constant_test(batch, np.array(reference)) == pytest.approx(expected)


# Rows on both sides.


def table(n, r):
    return {
        "a": r.normal(size=n),
        "b": r.integers(0, 5, n),
        "c": column(r.choice(["u", None], n).tolist()),
    }


@pytest.mark.parametrize("shared", [1.0, 0.2, 0.05])
def test_a_reference_that_has_training_rows_is_refused(shared):
    r = rng(54)
    train, held = table(2000, r), table(1000, r)
    k = int(1000 * shared)
    held = {name: np.concatenate([train[name][:k], values[k:]]) for name, values in held.items()}
    mixed = r.permutation(1000)
    held = {name: values[mixed] for name, values in held.items()}
    with pytest.raises(UsageError, match=f"^{k:,} of 1,000 rows of the reference equal training"):
        mk.Profile.fit(train, reference=held)


def test_vectors_and_frames_are_compared_too():
    r = rng(55)
    vectors = r.normal(size=(300, 16)).astype(np.float32)
    with pytest.raises(UsageError, match="300 of 300 rows"):
        mk.Profile.fit({"v": vectors}, reference={"v": vectors})
    X, _ = load_breast_cancer(return_X_y=True, as_frame=True)
    with pytest.raises(UsageError, match="200 of 369 rows"):
        mk.Profile.fit(X[:400], reference=X[200:])
    served = X[200:][X.columns[::-1]].astype(np.float32)  # in another order, and rounded
    with pytest.raises(UsageError, match="200 of 369 rows"):
        mk.Profile.fit(X[:400], reference=served)
    assert mk.Profile.fit(X[:200], reference=X[200:]).rows == 369


@pytest.mark.parametrize("values", [2, 40, 3000])
def test_values_that_many_rows_have_are_no_shared_rows(values):
    """Equal rows cannot be avoided where there are few values, and happen where there are more."""
    for run in range(20):
        r = rng(run, 56)
        sides = [{"x": r.integers(0, values, n)} for n in (2000, 1000)]
        assert mk.Profile.fit(sides[0], reference=sides[1]).rows == 1000


def test_rows_of_few_decimals_and_rows_drawn_again_are_no_shared_rows():
    flowers = load_iris().data  # one decimal: some rows occur twice
    assert mk.Profile.fit(flowers[::2], reference=flowers[1::2]).rows == 75
    r = rng(57)
    pool = r.normal(size=(284, 3))
    draws = [pool[r.integers(0, 284, 2000)] for _ in range(2)]
    assert mk.Profile.fit(draws[0], reference=draws[1]).rows == 2000


TIMETABLE = ["carrier", "flight", "origin", "dest", "sched_dep_time", "distance"]


def test_a_timetable_that_comes_again_is_no_shared_row():
    """Most flights leave each week at the same time, and a calendar repeats: neither is chance."""
    frame = pd.read_csv(flights_file()).query("month == 1")
    first, again = (frame.loc[frame["day"] == day, TIMETABLE] for day in (1, 8))
    assert len(first.merge(again)) > 250
    assert mk.Profile.fit(first, reference=again).rows == len(again)
    hours = pd.date_range("2024-01-01", periods=4368, freq="h")
    month = hours.month.to_numpy()
    calendar = pd.DataFrame(
        {"hour": hours.hour, "weekday": hours.day_of_week, "of_month": hours.day}
    )
    sides = (calendar[month <= 3], calendar[month > 3])
    assert mk.Profile.fit(sides[0], reference=sides[1]).rows == 2184


@pytest.mark.parametrize("part", [1.0, 0.3])
def test_integers_that_are_all_training_rows_are_refused(part):
    r = rng(60)
    digits = pd.DataFrame(r.integers(0, 17, (800, 6)))
    with pytest.raises(UsageError, match="rows of the reference equal training rows"):
        mk.Profile.fit(digits, reference=digits.sample(frac=part, random_state=0))


def test_rows_that_come_twice_are_no_shared_rows():
    """A sender that sends some rows twice, on whichever side."""
    for run in range(20):
        r = rng(run, 58)
        rows = r.normal(size=(2000, 2))
        rows = np.concatenate([rows, rows[r.random(2000) < 0.1]])
        rows = rows[r.permutation(len(rows))]
        assert mk.Profile.fit(rows[:1500], reference=rows[1500:]).train_rows == 1500


def test_hashes_are_equal_where_rows_are_and_differ_elsewhere():
    r = rng(59)
    rows = table(5000, r)
    again = {
        "a": rows["a"].astype(object),
        "b": rows["b"].astype(float),
        "c": np.array(rows["c"].tolist(), object),
    }
    assert (row_hashes(rows) == row_hashes(again)).all()
    assert len(np.unique(row_hashes(rows))) == 5000
    assert len(np.unique(row_hashes({"x": np.array([0.0, -0.0, np.nan, np.nan, 1.0])}))) == 3
    swapped = {"p": np.array([1.0, 2.0]), "q": np.array([2.0, 1.0])}
    assert len(np.unique(row_hashes(swapped))) == 2
