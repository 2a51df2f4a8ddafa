"""Tallies: counts of parts of some rows add up to those of all, and the test of their sum is the same."""

import pickle
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.errors import PackageError, UsageError

SCORES = "probabilities"


def some_rows(n, seed, shift=0.0):
    """Numbers, categories, times and texts, some missing; strata and units beside them."""
    r = np.random.default_rng(seed)
    day = np.datetime64("2024-01-01T00", "us") + r.integers(0, 20 * 24, n) * np.timedelta64(1, "h")
    age = pd.array(r.integers(18, 80, n), "Int64")
    age[r.random(n) < 0.05] = pd.NA
    return pd.DataFrame(
        {
            "x": np.where(r.random(n) < 0.02, np.inf, r.normal(shift, 1, n)),
            "age": age,
            "city": r.choice(["Oslo", "Bergen", "Lom", None], n),
            "when": day,
            "shop": r.choice(["a", "b", "c"], n),
            "table": [f"t{i:02}" for i in r.integers(0, 20, n)],
        }
    )


def answers(n, seed, shift=0.0):
    p = 1 / (1 + np.exp(-np.random.default_rng(seed).normal(shift, 1, n)))
    return {SCORES: np.column_stack([1 - p, p])}


KINDS = {
    "plain": {},
    "strata": {"stratum": "shop"},
    "days": {"unit": "day", "time": "when"},
    "tables": {"unit": "table"},
    "batch": {"unit": "batch"},
}
NOT_ROWS = {"plain": ["shop", "table"], "strata": ["table"], "days": ["shop", "table"],
            "tables": ["shop", "when"], "batch": ["shop", "table", "when"]}  # fmt: skip


@cache
def profile_of(kind):
    rows = some_rows(6000, 0).drop(columns=NOT_ROWS[kind])
    reference = some_rows(6000, 1).drop(columns=NOT_ROWS[kind])
    options = KINDS[kind]
    if kind == "batch":
        parts = np.array_split(np.arange(6000), 60)
        batches = [reference.iloc[part] for part in parts]
        return mk.Profile.fit(rows, reference=batches, **options)
    return mk.Profile.fit(rows, reference=reference, scores=answers(6000, 2), **options)


def batch_of(kind, n, shift=0.0):
    """Rows in the order of their shops, so that parts have other strata than the whole."""
    rows = some_rows(n, 3, shift).sort_values("shop", ignore_index=True)
    return rows, None if kind == "batch" else answers(n, 4, shift)


def cut(rows, scores, start, stop):
    part = None if scores is None else {SCORES: scores[SCORES][start:stop]}
    return rows.iloc[start:stop], part


@pytest.mark.parametrize("kind", KINDS)
@given(cuts=st.lists(st.integers(0, 900), max_size=5), order=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=examples(10))
def test_parts_add_up_to_the_whole_and_test_alike(kind, cuts, order):
    profile = profile_of(kind)
    rows, scores = batch_of(kind, 900, 0.3)
    ends = [0, *sorted(cuts), len(rows)]
    parts = []
    for start, stop in pairwise(ends):
        parts.append(profile.tally(*cut(rows, scores, start, stop)))
    order.shuffle(parts)
    travelled = [pickle.loads(pickle.dumps(part)) for part in parts]
    total = mk.types.Tally.total(travelled)
    assert total == profile.tally(rows, scores)
    assert total.rows == len(rows)


@pytest.mark.parametrize("shift", [0.0, 0.4])
@pytest.mark.parametrize("kind", KINDS)
def test_a_tally_is_tested_as_its_rows_are(kind, shift):
    detector = mk.Detector(profile_of(kind), alpha=0.05, seed=3)
    rows, scores = batch_of(kind, 2000, shift)
    of_rows = detector.test(rows, scores)
    of_tally = detector.test(detector.profile.tally(rows, scores))
    assert of_tally.features == of_rows.features
    assert of_tally.alarms == of_rows.alarms
    if kind in {"plain", "strata"}:
        assert bool(of_tally.alarms) == bool(shift)
    named = "unseen category"
    assert [c for c in of_tally.checks if c.name != named] == [
        c for c in of_rows.checks if c.name != named
    ]
    assert (of_tally.rows, of_tally.guarantee) == (of_rows.rows, of_rows.guarantee)
    assert "from counts alone" in of_tally.assumptions[-1]
    assert detector.rows == 0


def test_the_order_of_units_does_not_matter():
    profile = profile_of("tables")
    rows, scores = batch_of("tables", 2000, 0.1)
    order = np.random.default_rng(5).permutation(len(rows))
    mixed = rows.iloc[order], {SCORES: scores[SCORES][order]}
    detector = mk.Detector(profile)
    assert detector.test(*mixed).features == detector.test(rows, scores).features


def test_scores_or_rows_alone_and_strange_strata_are_counted():
    profile = profile_of("strata")
    rows, _ = batch_of("strata", 500)
    rows.loc[:99, "shop"] = "new"
    tally = profile.tally(rows)
    report = mk.Detector(profile).test(tally)
    of_rows = mk.Detector(profile).test(rows)
    assert (tally.rows, tally.strangers) == (500, 100)
    assert report.features == of_rows.features
    assert [c for c in report.checks if c.name == "unseen stratum"] == [
        c for c in of_rows.checks if c.name == "unseen stratum"
    ]
    plain = profile_of("plain")
    assert plain.tally(scores=answers(50, 1)).rows == 50


def test_new_categories_are_counted_without_their_names():
    profile = profile_of("plain")
    rows, _ = batch_of("plain", 500)
    rows.loc[:9, "city"] = "Atlantis"
    (check,) = [
        c
        for c in mk.Detector(profile).test(profile.tally(rows)).checks
        if c.name == "unseen category"
    ]
    assert check.found.startswith("10 of 500 rows")
    assert "Atlantis" not in str(check)


def test_a_tally_is_small_and_no_rows_are_none():
    rng = np.random.default_rng(0)
    profile = mk.Profile.fit(rng.normal(size=(2000, 20)))
    batch = rng.normal(size=(100_000, 20))
    tally = profile.tally(batch)
    data = tally.to_bytes()
    assert len(data) < 4096
    assert mk.types.Tally.from_bytes(data).to_bytes() == data
    assert len(pickle.dumps(tally)) < 4200
    none = profile.tally(batch[:0])
    assert none.rows == 0
    assert none + tally == tally
    assert repr(profile.tally(batch[:1])) == "<Tally of 1 row in 1 group>"
    with pytest.raises(UsageError, match="X is empty"):
        mk.Detector(profile).test(none)


def test_what_does_not_add_up_is_refused():
    plain = profile_of("plain")
    rows, scores = batch_of("plain", 300)
    tally = plain.tally(rows, scores)
    other = profile_of("days").tally(rows, scores)
    with pytest.raises(UsageError, match="of 2 profiles"):
        tally + other
    with pytest.raises(UsageError, match="of another profile"):
        mk.Detector(plain).test(other)
    with pytest.raises(UsageError, match="scores that others lack"):
        tally + plain.tally(rows)
    with pytest.raises(UsageError, match="list of tallies is empty"):
        mk.types.Tally.total([])
    with pytest.raises(UsageError, match="has its scores"):
        mk.Detector(plain).test(tally, scores)
    with pytest.raises(TypeError):
        tally + 1


def test_a_dependent_reference_is_refused():
    r = np.random.default_rng(0)
    slow = {"x": np.cumsum(r.normal(size=8000)) / 20}
    dependent = mk.Profile.fit(slow, ordered=True)
    with pytest.raises(UsageError, match='unit="day"'):
        dependent.tally(slow)


def test_a_unit_of_several_strata_is_refused():
    sides = []
    for seed in range(2):
        rows = some_rows(3000, seed)[["x", "table"]]
        sides.append(rows.assign(shop=np.where(rows["table"] < "t10", "a", "b")))
    profile = mk.Profile.fit(sides[0], reference=sides[1], unit="table", stratum="shop")
    batch = sides[0].iloc[:400]
    detector = mk.Detector(profile)
    assert detector.test(profile.tally(batch)).features == detector.test(batch).features
    halves = [batch.assign(shop=shop) for shop in ("a", "b")]
    tally = mk.types.Tally.total([profile.tally(half) for half in halves])
    with pytest.raises(UsageError, match="rows of several strata"):
        detector.test(tally)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tally: replace(tally, counts=tally.counts[:, :, :5]),
        lambda tally: replace(tally, counts=tally.counts[:0]),
        lambda tally: replace(tally, groups=((None, "a"),)),
    ],
)
def test_bytes_that_are_no_tally_are_refused(spoil):
    tally = profile_of("plain").tally(batch_of("plain", 50)[0])
    data = spoil(tally).to_bytes()
    with pytest.raises(PackageError, match="this is not a tally"):
        mk.types.Tally.from_bytes(data)
    with pytest.raises(PackageError, match="this is not a tally"):
        mk.types.Tally.from_bytes(profile_of("plain").to_bytes())
