"""Tallies of the rows of engines: names that begin alike or come twice, encodings, nulls, times, too many rows."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers.tallied import make_past

import modelkit as mk
from modelkit.drift import codec
from modelkit.drift.counts import MOST_ROWS, TALLY_SCHEMA
from modelkit.errors import SignatureError, UsageError
from modelkit.integrations.scorer.tallier import TALLY, Tallier

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
    return mk.types.Tally.from_bytes(codec.pack(TALLY_SCHEMA, about, {"counts": counts}))


@pytest.mark.parametrize("times", [2, 1 << 15])
def test_more_rows_than_a_tally_holds_are_told_and_do_not_overflow(profile, times):
    whole = large(profile)
    assert mk.types.Tally.from_bytes(whole.to_bytes()) == whole
    with pytest.raises(UsageError, match="more than 281,474,976,710,656 rows of one group"):
        mk.types.Tally.total([whole] * times)
    with pytest.raises(UsageError, match="rows of one group"):
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
    with pytest.raises(UsageError, match=r"lack the column 'at', which has their times$"):
        Tallier(profile).columns(["a", "b"])


# Columns and scores in other forms.


@pytest.fixture(scope="module")
def past():
    return make_past()


@pytest.mark.parametrize("kind", ["dictionary", "large_string", "string_view", "chunks"])
def test_columns_are_counted_however_arrow_encodes_them(past, kind):
    """A column of categories, as Ray and Parquet have them, was taken for one of lists."""
    city = pa.chunked_array([pa.array(past.rows["city"])])
    if kind == "dictionary":
        city = city.dictionary_encode()
    elif kind == "chunks":
        city = pa.chunked_array([city.chunk(0)[:7], city.chunk(0)[7:7], city.chunk(0)[7:]])
    else:
        city = city.cast(getattr(pa, kind)())
    lists = list(past.scores["probabilities"])
    table = pa.table({"x": past.rows["x"], "city": city, "probabilities": lists})
    found = Tallier(past.profile, ["probabilities"]).arrow(table)[TALLY].to_pylist()
    assert [mk.types.Tally.from_bytes(data) for data in found] == [past.tally]


def test_missing_embeddings_of_a_frame_are_told():
    def vectors(n, seed):
        return {"e": np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)}

    profile = mk.Profile.fit(vectors(600, 0), reference=vectors(600, 1))
    rows = vectors(3, 2)["e"]
    found = Tallier(profile).frame(pd.DataFrame({"e": list(rows)}))
    assert found == [profile.tally({"e": rows})]
    with pytest.raises(SignatureError, match="column 'e' has arrays of the shapes"):
        Tallier(profile).frame(pd.DataFrame({"e": [rows[0], None, rows[2]]}))


def test_scores_that_are_a_text_are_told(past):
    with pytest.raises(UsageError, match="scores is a list of names"):
        Tallier(past.profile, "probabilities")


def test_a_tally_of_two_columns_of_one_name_is_refused():
    pairs = pd.DataFrame(R.normal(size=(600, 2)), columns=["a", "b"])
    tallier = Tallier(mk.Profile.fit(pairs[:300], reference=pairs[300:]))
    odd = pa.table([pairs.a, pairs.b, pairs.a], names=["a", "b", "a"])
    for count, rows in ((tallier.frame, odd.to_pandas()), (tallier.arrow, odd)):
        with pytest.raises(UsageError, match="several columns of the names"):
            count(rows)


def test_a_tally_is_not_watched_as_rows(profile):
    detector = mk.Detector(profile)
    tally = profile.tally(X)
    with pytest.raises(UsageError, match=r"Detector.test\(tally\)"):
        detector.update(tally)
    assert detector.test(tally).rows == len(X)


@pytest.mark.parametrize("kind", [pa.float32(), pa.int64()])
def test_a_null_in_an_embedding_is_a_missing_vector(kind):
    vectors = R.integers(-50, 50, size=(600, 4)).astype(np.float32)
    profile = mk.Profile.fit({"e": vectors[:300]}, reference={"e": vectors[300:]})
    rows = vectors[:3].astype(int).tolist()
    rows[1][2] = None
    (data,) = Tallier(profile).arrow(pa.table({"e": pa.array(rows, pa.list_(kind))}))[TALLY]
    vectors[1, 2] = np.nan
    assert mk.types.Tally.from_bytes(data.as_py()) == profile.tally({"e": vectors[:3]})
