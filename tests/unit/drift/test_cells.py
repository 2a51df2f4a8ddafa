"""Every value has one cell, whatever it comes in, and nothing of a row is kept."""

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers.drawn import rng
from helpers.examples import examples
from helpers.streams import column
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.drift.cells import (
    CELLS,
    EDGES,
    GONE,
    REST,
    UNKNOWN_CATEGORY,
    Feature,
    choose_edges,
    fit_feature,
)
from modelkit.drift.columns import feature_kind
from modelkit.drift.profile import Profile
from modelkit.errors import UsageError
from modelkit.signature.cast import MISSING

DAY = np.datetime64("2024-01-01", "us")


numbers = st.one_of(
    st.floats(width=64), st.integers(-(10**400), 10**400), st.booleans(), st.none(),
    st.sampled_from([-0.0, 1e300, -1e300, np.inf, -np.inf, np.nan, 3.4e38, -3.4e38, 1e-45, np.float32(0.1)]),
)  # fmt: skip


words = (
    st.none()
    | st.text(max_size=40)
    | st.sampled_from(["", MISSING, "\ud800", "a" * 100, "#", "\x00"])
)


@settings(max_examples=examples(60))
@given(st.lists(numbers, min_size=1, max_size=80), st.lists(numbers, max_size=30))
def test_every_number_has_one_cell_and_many_are_looked_up_as_few_are(train, served):
    feature = fit_feature("x", "number", column(train))
    assert len(feature.edges) <= EDGES
    values = column([*train, *served])
    cells = feature.cells(values)
    assert cells.max() < CELLS
    many = np.resize(values, 2048)
    # However many are looked up at once.
    assert np.array_equal(feature.cells(many), np.resize(cells, 2048))
    for item, cell in zip(values.tolist(), cells.tolist(), strict=True):
        gone = item is None or (isinstance(item, float | np.floating) and np.isnan(item))
        assert (cell == GONE) == gone
        if not gone and isinstance(item, float):
            assert feature.cells(np.array([item]))[0] == cell


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("draw", ["normal", "lognormal", "standard_cauchy", "exponential"])
@pytest.mark.parametrize(
    ("scale", "offset"), [(1, 0), (1, 1e6), (1e30, 0), (1e-40, 0), (1e38, -1e38)]
)
def test_a_number_at_an_edge_has_the_cell_of_a_search_among_all_edges(draw, seed, scale, offset):
    with np.errstate(over="ignore"):
        values = (getattr(rng(seed), draw)(size=3000) * scale + offset).astype(np.float32)
        feature = fit_feature("x", "number", values)
        edges = np.array(feature.edges, np.float32)
        beside = [np.nextafter(edges, np.float32(to)) for to in (np.inf, -np.inf)]
        extremes = np.array([np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 0, -0.0, 1e-45], np.float32)
        values = np.concatenate([values, edges, *beside, extremes])
    one_by_one = np.concatenate([feature.cells(values[i : i + 1]) for i in range(len(values))])
    assert np.array_equal(feature.cells(values), one_by_one)


@settings(max_examples=examples(60))
@given(
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=200),
    st.lists(st.floats(allow_nan=False), min_size=2),
)
def test_cells_rise_with_the_values(train, served):
    feature = fit_feature("x", "number", np.array(train))
    assert (np.diff(feature.cells(np.sort(np.array(served))).astype(int)) >= 0).all()
    assert len(set(feature.labels()) - {""}) <= CELLS


@settings(max_examples=examples(60))
@given(st.lists(words, min_size=1, max_size=120), st.lists(words, max_size=30))
def test_every_string_has_one_cell(train, served):
    feature = fit_feature("x", "category", column(train))
    cells = feature.cells(column([*train, *served]))
    assert all(cell != UNKNOWN_CATEGORY for cell in cells[: len(train)])
    for item, cell in zip([*train, *served], cells.tolist(), strict=True):
        assert (cell == GONE) == (item is None or item == MISSING)
        assert cell != UNKNOWN_CATEGORY or item not in train
    text = fit_feature("x", "text", column(train))
    assert text.cells(column(served)).max(initial=0) < CELLS


@settings(max_examples=examples(50))
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=300))
def test_edges_separate_training_values_and_equal_none(values):
    distinct = np.unique(np.array(values, np.float32))
    edges = np.array(choose_edges(np.sort(np.array(values, np.float32))))
    assert len(edges) <= EDGES
    for edge in edges:
        if edge in distinct:  # only where no float is between it and the next value
            assert np.nextafter(np.float32(edge), np.float32(np.inf)) in distinct
    if 1 < len(distinct) <= EDGES + 1:
        assert len(np.unique(np.searchsorted(edges, distinct))) == len(distinct)


def test_no_training_value_is_an_edge_in_the_bytes():
    values = np.round(rng().normal(size=3000) * 100, 4).astype(np.float32)
    found = Profile.from_bytes(
        Profile.fit({"x": values[:1500]}, reference={"x": values[1500:]}).to_bytes()
    )
    assert len(found.features[0].edges) > 50
    assert not set(found.features[0].edges) & set(values[:1500].tolist())


@pytest.mark.parametrize("value", [0.0, 7.0, -1e30, 3.4028235e38, -3.4028235e38, 0.1])
def test_a_constant_has_a_cell_of_its_own(value):
    feature = fit_feature("x", "number", np.full(100, value))
    below, at, above = feature.cells(
        np.array([value - (abs(value) or 1) * 0.01, value, value + (abs(value) or 1) * 0.01])
    )
    assert below < at < above
    assert feature.cells(np.array([value], np.float32))[0] == at


def test_one_huge_outlier_does_not_blur_the_others():
    values = np.append(rng().normal(size=2000), [1e6, 1e300, -3e38, 3e38])
    feature = fit_feature("x", "number", values)
    assert np.count_nonzero(np.bincount(feature.cells(rng(1).normal(size=2000)))) > 50


def test_a_value_that_many_rows_have_gets_a_cell_of_its_own():
    values = np.where(rng().random(3000) < 0.3, 0.0, rng(1).normal(size=3000))
    feature = fit_feature("x", "number", values)
    zero = feature.cells(np.array([0.0]))[0]
    assert np.bincount(feature.cells(values))[zero] == (values == 0).sum()


def test_containers_of_one_column_have_the_same_cells():
    values = [1.0, None, 3.0, 2.0, None, 8.0]
    profile = Profile.fit({"x": rng().normal(3, 2, 400)})
    expected = profile.features[0].cells(column(values))
    nulls = pd.array([1, None, 3, 2, None, 8], dtype="Int64")
    for rows in (
        {"x": values}, [{"x": v} for v in values], pd.DataFrame({"x": values}), pd.DataFrame({"x": nulls}),
        pd.DataFrame({"x": pd.array(values, dtype="Float64")}), pl.DataFrame({"x": values}),
        pl.DataFrame({"x": [1, None, 3, 2, None, 8]}), pa.table({"x": values}),
        pa.table({"x": [1, None, 3, 2, None, 8]}),
    ):  # fmt: skip
        assert np.array_equal(
            profile.features[0].cells(profile.layout.columns(rows)["x"]), expected
        ), type(rows)


def test_strings_and_flags_of_all_containers_have_the_same_cells():
    names, flags = ["u", None, "nowhere"], [True, None, False]
    profile = Profile.fit({"c": ["u", "v"] * 100, "f": [True, False] * 100})
    for rows in (
        {"c": names, "f": flags}, pd.DataFrame({"c": names, "f": pd.array(flags, dtype="boolean")}),
        pd.DataFrame({"c": pd.Categorical(names), "f": flags}), pl.DataFrame({"c": names, "f": flags}),
        pl.DataFrame({"c": names, "f": flags}).with_columns(pl.col("c").cast(pl.Categorical)),
        pa.table({"c": pa.array(names).dictionary_encode(), "f": flags}),
    ):  # fmt: skip
        found = profile.layout.columns(rows)
        assert [f.cells(found[f.name]).tolist() for f in profile.features] == [
            [0, GONE, UNKNOWN_CATEGORY],
            [2, GONE, 1],
        ], type(rows)


def test_times_are_microseconds_in_utc_whatever_they_come_in():
    hours = DAY + np.arange(400) * np.timedelta64(1, "h")
    profile = Profile.fit({"t": hours})
    feature = profile.features[0]
    assert feature.kind == "time"
    moment = dt.datetime(2024, 1, 5, 7, tzinfo=dt.UTC)
    expected = feature.cells(np.array([moment.replace(tzinfo=None), "NaT"], "M8[s]")).tolist()
    assert expected[1] == GONE
    berlin = moment.astimezone(ZoneInfo("Europe/Berlin"))
    for values in (
        [berlin, None], [moment.replace(tzinfo=None), None], [pd.Timestamp(berlin), pd.NaT],
        [np.datetime64("2024-01-05T07"), None],
        pd.Series([berlin, None]), pd.Series(pd.to_datetime([berlin, None])),
        pl.Series([moment.replace(tzinfo=None), None]),
        pa.array([berlin, None]), [moment.replace(tzinfo=None), float("nan")],
    ):  # fmt: skip
        assert feature.cells(profile.layout.columns({"t": values})["t"]).tolist() == expected, (
            values
        )
    days = profile.layout.columns({"t": [dt.date(2024, 1, 5), dt.date(1, 1, 1)]})["t"]
    assert (feature.cells(days) < GONE).all()
    assert feature.cells(np.array([2**62], "M8[D]")).tolist() != [GONE]


@pytest.mark.parametrize("kind", ["number", "flag", "time", "text", "category"])
def test_a_batch_of_nothing_but_missing_values_fits_every_kind(kind):
    train = {
        "number": rng().normal(size=200), "flag": rng().random(200) < 0.5, "time": DAY + np.arange(200),
        "text": column(["a" * (i % 9) for i in range(200)]), "category": column(["a", "b"] * 100),
    }[kind]  # fmt: skip
    feature = fit_feature("x", kind, train)
    assert feature.cells(column([None, None])).tolist() == [GONE, GONE]
    assert feature.cells(column([])).tolist() == []


WRONG = [
    ("number", column(["1"])), ("number", np.array([1j])), ("number", column([dt.date(2024, 1, 1)])),
    ("category", np.array([1.0])),
    ("category", column([1, "a"])), ("category", column([True])), ("category", np.array([b"a"])),
    ("time", np.array([1.0])),
    ("time", column([dt.time(1)])), ("time", np.array(["a"])), ("text", np.array([1.0])), ("flag", np.array(["a"])),
    ("number", np.array([1], "m8[s]")), ("number", column([1.0, "a"])), ("number", column([object()])),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "values"), WRONG, ids=range(len(WRONG)))
def test_values_of_another_kind_are_refused(kind, values):
    with pytest.raises(UsageError, match="'x'") as caught:
        Feature("x", kind, edges=(1.0,)).cells(values)
    assert caught.value.feature == "x"


def test_categories_beyond_the_top_are_known_by_hash_and_too_many_are_open():
    ranked = [f"name {i:03}" for i in range(100)]
    train = column([name for i, name in enumerate(ranked) for _ in range(200 - i)])
    feature = fit_feature("x", "category", train)
    assert feature.categories == tuple(ranked[:64])
    assert feature.cells(column(["name 000", "name 063", "name 064", "name 099", "name 100", ""])).tolist() == [
        0, 63, REST, REST, UNKNOWN_CATEGORY, UNKNOWN_CATEGORY,
    ]  # fmt: skip
    many = fit_feature("x", "category", column([f"{i}" for i in range(1000)]))
    assert many.open
    assert many.cells(column(["nowhere"])).tolist() == [REST]


def test_long_names_are_hashed_and_text_columns_hold_no_words():
    story = "the whole story of a customer, which is nobody's business"
    rows = {"c": [story, "short"] * 100, "t": [story, "b"] * 100}
    profile = Profile.fit(rows, text=["t"])
    assert story.encode() not in profile.to_bytes()
    assert profile.layout.columns(rows)
    category, text = profile.features
    assert sorted(category.cells(column([story, "short", "else"])).tolist()) == [
        0,
        1,
        UNKNOWN_CATEGORY,
    ]
    assert text.kind == "text"
    assert text.cells(column([story, "b", "", None])).tolist()[-1] == GONE


def test_data_with_one_decimal_served_as_float32_raises_no_alarm():
    for run in range(20):
        law = lambda n, run=run: np.round(rng(run * 7919 + n).normal(50, 3, (n, 3)), 1)  # noqa: E731
        profile = Profile.fit(law(2000), reference=law(2001))
        detector = mk.Detector(profile, seed=run)
        assert detector.update(law(3000).astype(np.float32)) == [], run
    assert Profile.fit(law(2000)).digest == Profile.fit(law(2000).astype(np.float32)).digest


def test_the_kind_of_a_column_is_told_by_its_type():
    assert feature_kind("x", np.array(["1", "2"])) == "category"
    assert feature_kind("x", column([1, 2.5, None])) == "number"
    assert feature_kind("x", column([True, None])) == "flag"
    assert feature_kind("x", column([None]), "time") == "time"


@pytest.mark.parametrize(
    "blank",
    [
        np.full(60, np.nan),
        pd.array([pd.NA] * 60, "Int64"),
        pd.array([pd.NaT] * 60, "datetime64[ns]"),
        pl.Series([None] * 60, dtype=pl.Int64),
    ],
    ids=["floats", "Int64", "timestamps", "polars, integers"],
)
def test_a_column_without_any_value_is_missing_whatever_its_dtype(blank):
    towns = np.array(["Rome", "Oslo", None] * 100, object)
    detector = mk.Detector(mk.Profile.fit({"town": towns}))
    report = detector.test({"town": blank})
    assert report.features[0].missing[1] == 1
