"""The customary figures are those that auditors compute from the rows, and say which bins they took."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import modelkit as mk
from modelkit.drift.audit import LEAST_SHARE, bins_of, customary_psi
from modelkit.drift.cells import CELLS


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


def row_of(report, name):
    return {row.feature: row for row in report.audit_table().rows}[name]


@pytest.mark.parametrize("name", ["number", "tied"])
def test_the_bins_are_those_of_the_rows(compared, name):
    """Whoever has the rows counts the same in these bins, and gets the same index."""
    reference, recent, report = compared
    row = row_of(report, name)
    ends = np.array([float(end) for end, _, _ in row.bins], np.float32)
    for rows, place in ((reference, 1), (recent, 2)):
        values = rows[name].dropna().to_numpy(np.float32)
        counts = np.bincount(np.searchsorted(ends, values), minlength=len(ends))
        assert counts.tolist() == [each[place] for each in row.bins]
    assert row.reference_rows == reference[name].notna().sum()
    assert 2 <= len(row.bins) <= 10


def test_ten_bins_have_a_tenth_each_and_the_index_is_that_of_the_deciles(compared):
    reference, recent, report = compared
    row = row_of(report, "number")
    old, new = reference["number"].dropna(), recent["number"].dropna()
    assert len(row.bins) == 10
    assert all(abs(before / len(old) - 0.1) < 0.02 for _, before, _ in row.bins)
    deciles = np.quantile(old, np.arange(1, 10) / 10)
    q, p = (
        np.bincount(np.searchsorted(deciles, side), minlength=10) / len(side) for side in (old, new)
    )
    assert row.psi == pytest.approx(((p - q) * np.log(p / q)).sum(), abs=0.01)
    assert row.says == "stable" if row.psi < 0.1 else "moderate"


def test_the_test_is_that_of_scipy_on_cells(compared):
    reference, recent, report = compared
    for name in ("number", "tied"):
        row = row_of(report, name)
        plain = stats.ks_2samp(reference[name].dropna(), recent[name].dropna(), method="asymp")
        assert row.test == "ks"
        assert plain.statistic - 0.02 <= row.statistic <= plain.statistic + 1e-12
        if row.statistic == pytest.approx(plain.statistic, abs=1e-12):
            assert row.p == pytest.approx(plain.pvalue, rel=1e-6)
    table = np.array([[b, n] for _, b, n in row_of(report, "class").bins]).T
    plain = stats.chi2_contingency(table, correction=False)
    row = row_of(report, "class")
    assert (row.statistic, row.p) == pytest.approx((plain.statistic, plain.pvalue))


def test_ties_are_told_to_scipys_last_digit(compared):
    reference, recent, report = compared
    plain = stats.ks_2samp(reference["tied"], recent["tied"], method="asymp")
    row = row_of(report, "tied")
    assert row.statistic == pytest.approx(plain.statistic, abs=1e-12)
    assert row.p == pytest.approx(plain.pvalue, rel=1e-9)


def test_csv_and_json_hold_the_table(compared):
    *_, report = compared
    table = report.audit_table()
    lines = list(csv.DictReader(io.StringIO(table.to_csv())))
    plain = json.loads(table.to_json())
    assert plain["schema"] == "modelkit.audit/1"
    assert [line["feature"] for line in lines] == [row.feature for row in table.rows]
    for line, own, row in zip(lines, plain["rows"], table.rows, strict=True):
        assert float(line["psi"]) == own["psi"] == row.psi
        assert json.loads(line["bins"]) == own["bins"] == [list(each) for each in row.bins]
        assert line["stratum"] == ""
    assert row_of(report, "number").alarms == ("changed",)
    again = mk.DriftReport.from_json(report.to_json())
    assert again.audit_table() == table


def test_a_side_without_rows_has_no_figures():
    rng = np.random.default_rng(1)
    x = {"x": rng.normal(size=400)}
    row = mk.Detector(mk.Profile.fit(x)).report().audit_table().rows[0]
    assert (row.recent_rows, row.psi, row.says, row.statistic, row.p) == (0, None, None, None, None)
    assert row.reference_rows == 200


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
    bins = bins_of(feature, old, new)
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
