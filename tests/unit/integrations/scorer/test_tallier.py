"""Tallies of outputs whose names begin alike, of too many rows, and without what tells their times."""

import numpy as np
import pandas as pd
import pytest

import modelkit as mk
from modelkit.drift import archive
from modelkit.drift.tallies import MOST_ROWS, TALLY_SCHEMA
from modelkit.errors import DriftError
from modelkit.integrations.scorer.tallier import Tallier

R = np.random.default_rng(0)
X = pd.DataFrame(R.normal(size=(1200, 2)), columns=["a", "b"])


def chances(n, seed):
    p = np.random.default_rng(seed).beta(2, 5, n)
    return np.column_stack([1 - p, p])


@pytest.mark.parametrize("scores", [["p", "p_raw"], ["p_raw", "p"], ["p"], ["p_raw"]])
def test_outputs_whose_names_begin_alike_are_told_apart(scores):
    both = {"p": chances(600, 0), "p_raw": chances(600, 1)}
    profile = mk.Profile.fit(X[:600], reference=X[600:], scores=both)
    new = {"p": chances(100, 2), "p_raw": chances(100, 3)}
    frame = X[:100].copy()
    for name, values in new.items():
        frame = frame.assign(**{f"{name}_{i}": values[:, i] for i in (1, 0)})
    (found,) = Tallier(profile, scores).frame(frame)
    assert found == profile.tally(X[:100], {name: new[name] for name in scores})


@pytest.fixture(scope="module")
def profile():
    return mk.Profile.fit(X[:600], reference=X[600:])


def large(profile):
    """A tally of as many rows as one may have."""
    tally = profile.tally(X)
    counts = np.zeros_like(tally.counts).astype(np.uint64)
    counts[:, :, 3] = MOST_ROWS
    about = {"profile": profile.digest, "groups": tally.groups}
    return mk.Tally.from_bytes(archive.pack(TALLY_SCHEMA, about, {"counts": counts}))


@pytest.mark.parametrize("times", [2, 1 << 15])
def test_more_rows_than_a_tally_holds_are_told_and_do_not_overflow(profile, times):
    whole = large(profile)
    assert mk.Tally.from_bytes(whole.to_bytes()) == whole
    with pytest.raises(DriftError, match="more than 281,474,976,710,656 rows of one group"):
        mk.Tally.total([whole] * times)
    with pytest.raises(DriftError, match="rows of one group"):
        whole + profile.tally(X)


@pytest.mark.parametrize("wrong", ["profile.npz", b"PK", X])
def test_a_past_that_is_no_profile_is_told(wrong):
    with pytest.raises(TypeError, match="the past is a Profile"):
        Tallier(wrong)


@pytest.mark.parametrize("options", [{"unit": "day"}, {"stratum": "weekday"}])
def test_rows_without_times_are_told_where_the_job_is_built(options):
    at = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(1200), unit="h")
    timed = X.assign(at=at)
    profile = mk.Profile.fit(timed[:600], reference=timed[600:], time="at", **options)
    assert Tallier(profile).columns(["a", "b", "at"]) == ["a", "b", "at"]
    with pytest.raises(DriftError, match=r"lack the column 'at', which tells their times$"):
        Tallier(profile).columns(["a", "b"])
