"""The index is the one that auditors compute from the rows, and a line says which bins it took."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.drift.cells import CELLS
from modelkit.drift.report import LEAST_SHARE, customary_psi


def frame(rng, n, shift=0.0):
    tied = np.where(rng.random(n) < 0.4, 0.0, rng.exponential(size=n)).round(1)
    return pd.DataFrame(
        {
            "number": np.where(rng.random(n) < 0.05, np.nan, rng.normal(shift, 1, n)),
            "tied": tied,
            "class": rng.choice(list("abcd"), n, p=[0.4, 0.3, 0.2, 0.1]),
            "flag": rng.random(n) < 0.3,
            "day": pd.Timestamp("2026-01-01")
            + pd.to_timedelta(rng.integers(0, 10**6, n), unit="s"),
        }
    )


@pytest.fixture(scope="module")
def compared():
    rng = np.random.default_rng(0)
    reference, recent = frame(rng, 5000), frame(rng, 2000, 0.3)
    profile = mk.Profile.fit(frame(rng, 5000), reference=reference)
    return reference, recent, mk.Detector(profile).test(recent)


def lines_of(report):
    return list(csv.DictReader(io.StringIO(report.to_csv())))


def bins_in(line):
    return json.loads(line["bins"])


def line_of(report, name):
    return {line["feature"]: line for line in lines_of(report)}[name]


@pytest.mark.parametrize("name", ["number", "tied"])
def test_the_bins_are_those_of_the_rows(compared, name):
    """Whoever has the rows counts the same in these bins, and gets the same index."""
    reference, recent, report = compared
    line = line_of(report, name)
    bins = bins_in(line)
    ends = np.array([float(end) for end, _, _ in bins], np.float32)
    for rows, place in ((reference, 1), (recent, 2)):
        values = rows[name].dropna().to_numpy(np.float32)
        counts = np.bincount(np.searchsorted(ends, values), minlength=len(ends))
        assert counts.tolist() == [each[place] for each in bins]
    assert int(line["reference_rows"]) == reference[name].notna().sum()
    assert int(line["recent_rows"]) == recent[name].notna().sum()
    assert 2 <= len(bins) <= 10


def test_ten_bins_have_a_tenth_each_and_the_index_is_that_of_the_deciles(compared):
    reference, recent, report = compared
    line = line_of(report, "number")
    bins = bins_in(line)
    old, new = reference["number"].dropna(), recent["number"].dropna()
    assert len(bins) == 10
    assert all(abs(before / len(old) - 0.1) < 0.02 for _, before, _ in bins)
    deciles = np.quantile(old, np.arange(1, 10) / 10)
    q, p = (
        np.bincount(np.searchsorted(deciles, side), minlength=10) / len(side) for side in (old, new)
    )
    assert float(line["psi"]) == pytest.approx(((p - q) * np.log(p / q)).sum(), abs=0.01)


def test_a_line_has_all_that_the_index_is_computed_from(compared):
    *_, report = compared
    for line, drift in zip(lines_of(report), report.ranked(), strict=True):
        bins = bins_in(line)
        assert line["feature"] == drift.feature
        assert bins == [list(each) for each in drift.bins]
        old, new = (np.array([each[place] for each in bins]) for place in (1, 2))
        assert float(line["psi"]) == customary_psi(old, new)
        assert json.loads(line["missing"]) == list(drift.missing)
        assert line["stratum"] == ""
    assert json.loads(line_of(report, "number")["alarms"]) == ["changed"]
    assert mk.DriftReport.from_json(report.to_json()).to_csv() == report.to_csv()


def test_a_side_without_rows_has_no_index():
    rng = np.random.default_rng(1)
    x = {"x": rng.normal(size=400)}
    line = line_of(mk.Detector(mk.Profile.fit(x)).report(), "x")
    assert (line["recent_rows"], line["psi"], line["reference_rows"]) == ("0", "", "200")


counts = st.lists(st.integers(0, 1000), min_size=CELLS, max_size=CELLS).map(np.array)


@settings(max_examples=examples(60))
@given(counts, counts, st.sampled_from(["number", "text", "flag", "time", "category"]))
def test_every_row_that_has_a_value_is_in_one_bin(old, new, kind):
    rng = np.random.default_rng(0)
    column = {
        "number": rng.normal(size=500),
        "text": np.array([("ab" * 40)[: 1 + i % 60] for i in range(500)], object),
        "flag": rng.random(500) < 0.5,
        "time": np.datetime64("2026-01-01") + rng.integers(0, 10**6, 500).astype("m8[s]"),
        "category": rng.choice(list("abcdef"), 500).astype(object),
    }[kind]
    words = ["x"] if kind == "text" else []
    feature = mk.Profile.fit({"x": column}, text=words).features[0]
    assert feature.kind == kind
    bins = feature.bins(old, new)
    assert sum(before for _, before, _ in bins) == old[:-1].sum()
    assert sum(now for _, _, now in bins) == new[:-1].sum()
    assert len(bins) <= 10 or kind == "category"


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=12))
def test_the_index_is_finite_and_zero_only_for_equal_shares(pairs):
    old, new = np.array(pairs).T + 1
    empty = np.append(old, 0), np.append(new, 7)
    assert customary_psi(old, old * 3) == pytest.approx(0, abs=1e-12)
    assert customary_psi(old, new) >= 0
    share = 7 / empty[1].sum()
    assert customary_psi(*empty) >= (share - LEAST_SHARE) * np.log(share / LEAST_SHARE) - 1e-9
