"""A Profile: every value has one cell, nothing of a row is kept, and what is stored comes back."""

import datetime as dt
import pickle
import warnings
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers.examples import examples
from helpers.streams import column
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.drift import privacy
from modelkit.drift.cells import CELLS, EDGES, GONE, REST, UNKNOWN_CATEGORY, Feature
from modelkit.drift.columns import feature_kind
from modelkit.drift.dependence import rows_apart
from modelkit.drift.edges import choose_edges, fit_feature
from modelkit.drift.encoding import to_cells
from modelkit.drift.profile import Profile
from modelkit.errors import DriftError
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


def rng(seed=0):
    return np.random.default_rng(seed)


def noisy_rows(n, seed=0):
    return {"a": rng(seed).normal(size=n), "c": rng(seed + 1).choice(["u", "v", "w"], n)}


# Cells.


@settings(max_examples=examples(60))
@given(st.lists(numbers, min_size=1, max_size=80), st.lists(numbers, max_size=30))
def test_every_number_has_one_cell_and_counts_are_those_of_cells(train, served):
    feature = fit_feature("x", "number", column(train))
    assert len(feature.edges) <= EDGES
    values = column([*train, *served])
    cells = feature.cells(values)
    assert cells.max() < CELLS
    many = np.resize(values, 2048)  # beyond which they are sorted
    assert np.array_equal(
        feature.cells(many), np.resize(cells, 2048)
    )  # however many are looked up at once
    assert np.array_equal(feature.count(many), np.bincount(feature.cells(many), minlength=CELLS))
    assert np.array_equal(feature.count(values), np.bincount(cells, minlength=CELLS))
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
    assert np.count_nonzero(feature.count(rng(1).normal(size=2000))) > 50


def test_a_value_that_many_rows_have_gets_a_cell_of_its_own():
    values = np.where(rng().random(3000) < 0.3, 0.0, rng(1).normal(size=3000))
    feature = fit_feature("x", "number", values)
    zero = feature.cells(np.array([0.0]))[0]
    assert feature.count(values)[zero] == (values == 0).sum()


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
        assert np.array_equal(profile.features[0].cells(profile.columns(rows)["x"]), expected), (
            type(rows)
        )


def test_strings_and_flags_of_all_containers_have_the_same_cells():
    names, flags = ["u", None, "nowhere"], [True, None, False]
    profile = Profile.fit({"c": ["u", "v"] * 100, "f": [True, False] * 100})
    for rows in (
        {"c": names, "f": flags}, pd.DataFrame({"c": names, "f": pd.array(flags, dtype="boolean")}),
        pd.DataFrame({"c": pd.Categorical(names), "f": flags}), pl.DataFrame({"c": names, "f": flags}),
        pl.DataFrame({"c": names, "f": flags}).with_columns(pl.col("c").cast(pl.Categorical)),
        pa.table({"c": pa.array(names).dictionary_encode(), "f": flags}),
    ):  # fmt: skip
        found = profile.columns(rows)
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
        assert feature.cells(profile.columns({"t": values})["t"]).tolist() == expected, values
    days = profile.columns({"t": [dt.date(2024, 1, 5), dt.date(1, 1, 1)]})["t"]
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
    with pytest.raises(DriftError, match="'x'") as caught:
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
    assert profile.columns(rows)
    category, text = profile.features
    assert sorted(category.cells(column([story, "short", "else"])).tolist()) == [
        0,
        1,
        UNKNOWN_CATEGORY,
    ]
    assert text.kind == "text"
    assert text.cells(column([story, "b", "", None])).tolist()[-1] == GONE


# Embeddings.


def test_an_embedding_is_nineteen_numbers_and_a_shift_or_a_new_topic_moves_them():
    topics = rng(9).normal(size=(10, 24)) * 3

    def draw(n, seed):
        return topics[rng(seed).integers(10, size=n)] + rng(seed + 1).normal(size=(n, 24))

    profile = Profile.fit({"e": draw(1000, 1)}, reference={"e": draw(2000, 3)})
    assert len(profile.features) == 19
    detector = mk.Detector(profile)
    assert detector.update({"e": draw(500, 5)}) == []
    shifted = draw(500, 7) + 1.0
    assert any(alarm.feature.startswith("e: ") for alarm in detector.update({"e": shifted}))


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e30, 1e300])
def test_a_vector_that_is_no_place_is_counted_and_warns_of_nothing(odd):
    vectors = rng().normal(size=(400, 8))
    detector = mk.Detector(Profile.fit({"e": vectors}))
    vectors[0, 3] = odd
    assert detector.update({"e": vectors}) == []
    stream = detector._watch.streams()[0][1]
    assert (stream.totals.sum(axis=1) == 400).all()
    assert stream.totals[:, [0, 65, GONE]].sum() > 0


@pytest.mark.parametrize(
    "vectors", [np.zeros((300, 4)), np.eye(8)[np.arange(300) % 8], np.arange(300)[:, None] % 7]
)
def test_few_distinct_vectors_make_a_basis(vectors):
    profile = Profile.fit({"e": vectors})
    assert len(profile.features) == 3 + vectors.shape[1]
    assert mk.Detector(profile).update({"e": vectors}) == []


def test_embeddings_of_another_form_are_refused():
    vectors = rng().normal(size=(400, 8))
    profile = Profile.fit({"e": vectors})
    for wrong, said in (
        (vectors[:, :5], r"knows \(n, 8\)"),
        (vectors.astype(str), "numbers"),
        (vectors[:, 0], "shape"),
    ):
        with pytest.raises(DriftError, match=said):
            profile.columns({"e": wrong})
    with pytest.raises(DriftError, match="64 are needed"):
        Profile.fit({"e": np.where(np.arange(400)[:, None] < 340, np.nan, vectors)}, seed=1)
    with pytest.raises(DriftError, match="as \\(n,\\)"):
        Profile.fit({"e": vectors[:, 0]}).columns({"e": vectors})


def test_two_embeddings_come_back_in_their_order():
    rows = {
        "z": rng(1).normal(size=(200, 4)),
        "a": rng(2).normal(size=(200, 6)),
        "x": rng(3).normal(size=200),
    }
    profile = Profile.fit(rows)
    back = Profile.from_bytes(profile.to_bytes())
    assert [basis.mean.shape for basis in (back.bases["z"], back.bases["a"])] == [(4,), (6,)]
    assert back.to_bytes() == profile.to_bytes()
    for name, values in profile.columns(rows).items():
        assert np.array_equal(
            values, back.columns(rows)[name], equal_nan=values.dtype.kind == "f"
        ), name


# Bytes.


def rich():
    n = 1200
    rows = {
        "a": rng(1).normal(size=n), "b": column([None if i % 7 else True for i in range(n)]),
        "c": column(["\ud800", "é"] * (n // 2)),
        "t": DAY + np.arange(n), "k": np.full(n, 3), "e": rng(2).normal(size=(n, 5)),
        "s": column(["x", "y"] * (n // 2)),
    }  # fmt: skip
    p = rng(3).random(n)
    labels = (rng(4).random(n) < p).astype(int)
    train = rows | {"a": rng(5).normal(size=n), "e": rng(6).normal(size=(n, 5))}
    return Profile.fit(
        train,
        reference=rows,
        scores=np.c_[1 - p, p],
        labels=labels,
        stratum="s",
        importance={"a": 3},
    )


def test_a_profile_comes_back_from_its_bytes_byte_for_byte():
    profile = rich()
    data = profile.to_bytes()
    back = Profile.from_bytes(memoryview(data))
    assert back.to_bytes() == data
    assert back.digest == profile.digest == rich().digest
    assert back.features == profile.features
    assert np.array_equal(back.counts, profile.counts)
    assert (back.baseline, back.strata, back.rows) == (profile.baseline, ("x", "y"), 1200)
    assert pickle.loads(pickle.dumps(profile)).digest == profile.digest
    assert "8 features" not in repr(back)
    assert "2 strata by s" in repr(back)
    assert sum(feature.weight for feature in back.features) == pytest.approx(1)


def changed(profile, **arrays):
    import io

    with np.load(io.BytesIO(profile.to_bytes())) as file:
        whole = dict(file) | arrays
    out = io.BytesIO()
    np.savez(out, **{name: array for name, array in whole.items() if array is not None})
    return out.getvalue()


def about(profile, edit):
    import io
    import json

    with np.load(io.BytesIO(profile.to_bytes())) as file:
        plain = json.loads(file["about"].tobytes())
    edit(plain)
    return np.frombuffer(json.dumps(plain).encode(), np.uint8)


def test_bytes_that_are_no_profile_are_refused():
    profile = Profile.fit(noisy_rows(400))
    data = profile.to_bytes()
    objects = np.array([{"a": 1}], object)
    edits = [
        lambda a: a.update(schema="modelkit.profile/2"), lambda a: a.pop("schema"), lambda a: a.pop("rows"),
        lambda a: a["features"].pop(), lambda a: a["features"][0].update(kind="numbers"),
        lambda a: a["features"][0].update(stride=0),
        lambda a: a["features"][0].update(edges=99), lambda a: a["features"][0].update(weight=float("nan")),
        lambda a: a["features"][1].update(categories=[f"{i}" for i in range(65)]),
        lambda a: a["features"][0].update(more=1),
        lambda a: a["strata"].append("b"), lambda a: a.update(rows="many"), lambda a: a.update(ordered=1),
        lambda a: a.update(strata=[1]), lambda a: a["features"][0].update(stride="2"),
        lambda a: a.update(baseline={"n": 1, "total": 0.0, "squares": 0.0, "binary": "yes"}),
    ]  # fmt: skip
    hostile = [
        b"", b"PK\x03\x04", data[:100], data[: len(data) // 2], pickle.dumps(1), rng().bytes(500),
        changed(profile, counts=objects), changed(profile, counts=None), changed(profile, counts=-profile.counts),
        changed(profile, counts=profile.counts[:, :, :60]), changed(profile, edges=np.arange(200.0)),
        changed(profile, edges=np.zeros(0)),
        changed(profile, coarse=np.full(2 * CELLS, 99, np.uint8)), changed(profile, edges=np.linspace(1, 0, 63)),
        changed(profile, edges=np.full(63, np.nan)),
        *[changed(profile, about=about(profile, edit)) for edit in edits],
    ]  # fmt: skip
    for i, wrong in enumerate(hostile):
        with pytest.raises(DriftError):
            print(i, Profile.from_bytes(wrong))  # noqa: T201 - shown where it is accepted


@settings(max_examples=examples(60))
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=3))
def test_flipped_bytes_are_refused_or_harmless(at, patch):
    data = bytearray(Profile.fit(noisy_rows(200)).to_bytes())
    at %= len(data)
    data[at : at + len(patch)] = patch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, of headers written by another version
        try:
            assert isinstance(Profile.from_bytes(bytes(data)), Profile)
        except DriftError as error:
            assert "profile" in str(error)  # noqa: PT017 - either outcome is right


def test_nothing_is_unpickled(monkeypatch):
    data = rich().to_bytes()
    monkeypatch.setattr(pickle, "loads", None)
    monkeypatch.setattr(pickle, "load", None)
    assert Profile.from_bytes(data).rows == 1200


def test_a_feature_takes_two_and_a_half_kilobytes_at_most():
    n = 6000
    plain = {f"x{i}": rng(i).normal(size=n) for i in range(20)}
    named = {f"c{i}": rng(i).choice([f"category {j}" for j in range(64)], n) for i in range(20)}
    for rows in (plain, named, plain | named):
        assert len(Profile.fit(rows).to_bytes()) <= 2500 * len(rows)


# Merging.


@settings(max_examples=examples(20))
@given(st.integers(50, 200), st.integers(50, 200), st.integers(0, 9))
def test_merged_counts_are_those_of_both(n, m, seed):
    train, both = noisy_rows(300, 50), noisy_rows(n + m, seed)
    parts = [{k: v[part] for k, v in both.items()} for part in (slice(n), slice(n, None))]
    one, other = (Profile.fit(train, reference=part) for part in parts)
    whole = Profile.fit(train, reference=both)
    assert np.array_equal(one.merge(other).counts, whole.counts)
    assert one.merge(other).rows == n + m
    assert one.merge(other).digest == other.merge(one).digest


def test_what_does_not_merge_says_why():
    train, rows = noisy_rows(300, 5), noisy_rows(200, 6)
    base = Profile.fit(train, reference=rows)
    vectors = {"e": rng(3).normal(size=(200, 4))}
    losses = rng(4).random(200)
    p = np.c_[1 - losses, losses]
    calibrated = Profile.fit(train, reference=rows, scores=p, labels=(losses > 0.5).astype(int))
    private = Profile.fit(train, reference=rows, epsilon=5.0)
    for one, other, why in (
        (base, Profile.fit(noisy_rows(300, 7), reference=rows), "features"),
        (base, Profile.fit(train, reference=rows, ordered=True), "ordered"),
        (base, private, "epsilon"),
        (private, private, "private"),
        (base, Profile.fit(train, reference=rows, losses=losses), "labels"),
        (Profile.fit(vectors), Profile.fit(vectors, seed=1), "features|embeddings"),
        (Profile.fit(train, reference=rows, stratum="c"), base, "features|strata"),
        (calibrated, calibrated, "calibrations"),
    ):
        with pytest.raises(DriftError, match=why):
            one.merge(other)
    both = Profile.fit(train, reference=rows, losses=losses)
    assert both.merge(both).baseline.n == 400


# Rounding.


def test_data_with_one_decimal_served_as_float32_raises_no_alarm():
    for run in range(20):
        law = lambda n, run=run: np.round(rng(run * 7919 + n).normal(50, 3, (n, 3)), 1)  # noqa: E731
        profile = Profile.fit(law(2000), reference=law(2001))
        detector = mk.Detector(profile, seed=run)
        assert detector.update(law(3000).astype(np.float32)) == [], run
    assert Profile.fit(law(2000)).digest == Profile.fit(law(2000).astype(np.float32)).digest


# Privacy.


def test_private_counts_are_noisy_and_never_negative():
    train, rows = noisy_rows(2000), noisy_rows(2000, 1)
    profile = Profile.fit(train, reference=rows, epsilon=0.5)
    plain = Profile.fit(train, reference=rows)
    assert profile.epsilon == 0.5
    assert Profile.from_bytes(profile.to_bytes()).epsilon == 0.5
    assert (profile.counts >= 0).all()
    assert not np.array_equal(profile.counts, plain.counts)
    assert profile.duplicates == 0
    detector = mk.Detector(profile)
    assert "changed" not in detector._watch.streams()[0][1].evidence
    assert any("private" in said for said in detector.profile.assumptions())


def test_one_row_more_changes_the_odds_of_a_count_by_at_most_its_share_of_epsilon():
    epsilon, features, runs = 2.0, 2, 40_000
    cells = runs // features

    def released(count):
        return privacy.noisy(np.full((1, features, cells), count), epsilon).ravel()

    here, there = (np.bincount(np.minimum(released(count), 40), minlength=41) for count in (10, 11))
    for a, b in zip(here, there, strict=True):
        if min(a, b) < 100:
            continue
        error = (
            4 * (1 / a + 1 / b) ** 0.5
        )  # of the logarithm of the ratio, four standard deviations
        assert abs(np.log(a / b)) <= epsilon / features + error
    law = np.exp(-epsilon / features * np.abs(np.arange(41) - 10.0))
    law /= (1 + np.exp(-1)) / (1 - np.exp(-1))
    assert stats.chisquare(here[5:16], law[5:16] / law[5:16].sum() * here[5:16].sum()).pvalue > 1e-4


@pytest.mark.parametrize(
    "arguments", [{"ordered": True}, {"reference": None}, {"scores": np.ones(200)}, {"losses": np.ones(200)},
    {"epsilon": 0.0},
                  {"epsilon": -1.0}, {"epsilon": float("nan")}],
    ids=str,
)  # fmt: skip
def test_what_would_not_be_private_is_refused(arguments):
    rows = noisy_rows(200)
    with pytest.raises(DriftError, match="epsilon"):
        Profile.fit(rows, **({"reference": rows, "epsilon": 1.0} | arguments))


# Dependence and strata.


def ar(n, rho, seed=0):
    steps = rng(seed).normal(size=n)
    for i in range(1, n):
        steps[i] = rho * steps[i - 1] + (1 - rho**2) ** 0.5 * steps[i]
    return steps


def test_strides_are_for_dependent_rows_only():
    n = 6000
    rows = {
        "iid": rng(1).normal(size=n),
        "ar": ar(n, 0.9),
        "flag": rng(2).random(n) < 0.5,
        "k": np.ones(n),
    }
    profile = Profile.fit(rows, ordered=True)
    strides = {f.name: f.stride for f in profile.features}
    assert strides["ar"] > 20
    assert strides["iid"] == strides["flag"] == strides["k"] == 1
    assert profile.counts[0, 1].sum() == -(-n // 2 // strides["ar"])
    assert {f.stride for f in Profile.fit(rows).features} == {1}
    assert rows_apart(np.zeros(0, np.uint8)) == 1
    assert rows_apart(np.arange(300) % 250) <= 200


def test_strata_have_counts_of_their_own():
    hour = np.arange(3000) % 24
    profile = Profile.fit({"h": hour, "x": rng().normal(hour)}, stratum="h")
    assert profile.strata == tuple(sorted(str(h) for h in range(24)))
    assert [f.name for f in profile.features] == ["x"]
    assert profile.counts.shape == (24, 1, CELLS)
    assert profile.counts.sum() == 1500
    for served in (
        np.array([5.0], np.float32),
        np.array([5], np.uint8),
        column([5]),
        column([5.0]),
    ):
        detector = mk.Detector(profile)
        detector.update({"h": served, "x": [0.0]})
        assert detector._watch.strangers == 0
        assert dict(detector._watch.streams())["5"].rows == 1
    flags = Profile.fit({"f": [True, False] * 100, "x": np.arange(200.0)}, stratum="f")
    _, strata = to_cells(flags, {"f": np.array([1, 0], np.float32), "x": np.zeros(2)})
    assert strata.tolist() == [1, 0]


# Scores, labels, models.

N = 1000
ROWS = rng(11).normal(size=(N, 2))
TRAIN = rng(13).normal(size=(N, 2))
P = 1 / (1 + np.exp(-ROWS[:, 0]))
BOTH = np.c_[1 - P, P]
LABELS = (rng(12).random(N) < P).astype(int)


@pytest.mark.parametrize(
    ("scores", "labels", "feature"),
    [
        (BOTH, LABELS, "confidence"), (BOTH, LABELS.astype(bool), "confidence"),
        (BOTH, np.array(["no", "yes"])[LABELS], "confidence"),
        (LABELS, LABELS, "label"), (np.array(["no", "yes"])[LABELS], None, "label"), (P, ROWS[:, 1], "prediction"),
        (P.astype(np.float32), None, "prediction"), (ROWS, None, "embedding: centroid"),
        ({"odd": ROWS}, None, "odd[0]"),
        ({"label": LABELS, "probabilities": BOTH}, LABELS, "label"),
    ],
    ids=range(10),
)  # fmt: skip
def test_scores_become_features_and_labels_losses(scores, labels, feature):
    profile = Profile.fit(TRAIN, reference=ROWS, scores=scores, labels=labels)
    found = [f for f in profile.features if f.output]
    assert feature in [f.name for f in found]
    j = profile.features.index(found[0])
    assert profile.counts[0, j].sum() == N - N // 5  # the others made the cells
    assert profile.counts[0, 0].sum() == N
    assert (profile.baseline is None) == (labels is None)
    if labels is not None:
        assert profile.baseline.n == (
            N - N // 5 if feature == "prediction" else N
        )  # the others made the scale
    assert (profile.calibration is None) == (
        (feature != "confidence" and not isinstance(scores, dict)) or labels is None
    )
    assert mk.Detector(profile).update(ROWS, scores=scores) == []


def test_the_loss_of_the_reference_is_that_of_the_model():
    profile = Profile.fit(TRAIN, reference=ROWS, scores=BOTH, labels=LABELS)
    assert profile.baseline.total == ((P > 0.5) != LABELS).sum()
    assert profile.baseline.binary
    given = Profile.fit(TRAIN, reference=ROWS, losses=np.linspace(0, 1, N)).baseline
    assert (given.total, given.binary) == (pytest.approx(N / 2), False)


def bad(match, **arguments):
    return pytest.param(arguments, match, id=match)


GOOD = {"X": TRAIN, "reference": ROWS}


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        bad("reference=", reference=None, scores=P), bad("pass reference", reference=None, losses=P),
        bad("needs 50", X=TRAIN[:10]),
        bad("reference has 49", reference=ROWS[:49]), bad("no columns", X=TRAIN[:, :0], reference=ROWS[:, :0]),
        bad("lacks the columns \\['x1'\\]", reference=ROWS[:, :1]), bad("no column 'h'", stratum="h"),
        bad("at most 64", stratum="x0"),
        bad("text or importance", importance={"z": 1}), bad("no feature", text=["z"]),
        bad("number from 0", importance={"x0": -1}),
        bad("got {'x0': nan}", importance={"x0": float("nan")}), bad("above zero", importance={"x0": 0, "x1": 0}),
        bad("holds numbers where the profile has texts", text=["x0"]), bad("one entry", scores=P[:5]),
        bad("scores are", scores=[["a"]]),
        bad("1000 reference rows and 5", losses=P[:5]), bad("rows and 5 labels", scores=P, labels=P[:5]),
        bad("from 0 to 1", losses=P + 1),
        bad("from 0 to 1:", losses=np.where(P > 0.5, np.nan, P)), bad("losses are not all numbers", losses=["a"] * N),
        bad("labels are not all", scores=P, labels=["a"] * N),
        bad("a label is missing", scores=BOTH, labels=[None] * N),
        bad("is missing", scores=P, labels=np.full(N, np.nan)), bad("1 classes", scores=BOTH, labels=np.zeros(N)),
        bad("labels need", labels=LABELS), bad("different lengths", X={"x0": P, "x1": P[:5]}),
        bad("two columns have one name", X=pd.DataFrame(TRAIN, columns=["a", "a"])),
        bad("share the names", X={"prediction": P / 2}, reference={"prediction": P}, scores=P),
    ],
)  # fmt: skip
def test_arguments_that_do_not_go_together_are_refused(arguments, match):
    with pytest.raises(DriftError, match=match):
        Profile.fit(**(GOOD | arguments))


def classifier():
    signature = mk.Signature(
        inputs=[mk.TensorSpec("X", "float32", ("batch", 2),
        columns=(mk.Column("a", "float32"), mk.Column("b", "float32")))],
        outputs=[mk.TensorSpec("label", "int64", ("batch",)), mk.TensorSpec("probabilities", "float32", ("batch", 2))],
        classes=(0, 1),
    )  # fmt: skip

    def answer(feeds):
        p = 1 / (1 + np.exp(-feeds["X"][:, 0].astype(np.float64)))
        return {
            "label": (p > 0.5).astype(np.int64),
            "probabilities": np.c_[1 - p, p].astype(np.float32),
        }

    return mk.FunctionModel(answer, signature, batchable=True)


def test_a_model_is_asked_and_names_the_columns():
    profile = Profile.fit(TRAIN, reference=ROWS, model=classifier(), labels=LABELS)
    outputs = ["label", "confidence", "probabilities[1]"]
    assert [f.name for f in profile.features] == ["a", "b", *outputs]
    assert (profile.counts.sum(axis=2) == N).all()
    assert profile.calibration.classes == ("0", "1")
    assert Profile.fit(ROWS, model=classifier()).rows == N // 2
    with pytest.raises(DriftError, match="not both"):
        Profile.fit(TRAIN, reference=ROWS, model=classifier(), scores=P)
    with pytest.raises(DriftError, match=r"\['7'\] are no classes"):
        Profile.fit(TRAIN, reference=ROWS, model=classifier(), labels=np.where(LABELS == 1, 7, 0))


# In a package.


def test_a_package_carries_its_profile(breast_cancer, tmp_path):
    X, y = breast_cancer
    fitted = LogisticRegression(solver="liblinear").fit(X, y)
    plain, path = tmp_path / "plain.mk", tmp_path / "with.mk"
    mk.save(fitted, plain, example=X, name="b", version="1")
    with mk.load(plain) as model:
        profile = Profile.fit(X[:300], reference=X[300:], model=model, labels=y[300:])
    mk.save(fitted, path, example=X, name="b", version="1", profile=profile)
    with mk.load(path) as model:
        assert Profile.from_bytes(model.attachments["profile"]).digest == profile.digest
        assert mk.Monitor(model).detector.profile.digest == profile.digest
    assert path.stat().st_size - plain.stat().st_size < 2500 * len(profile.features) + 10_000
    for odd in (
        Profile.fit(X.rename(columns={"mean radius": "radius"})),
        Profile.fit(X.iloc[:, :5]),
    ):
        with pytest.raises(DriftError, match="differ in the columns") as caught:
            mk.save(fitted, tmp_path / "odd.mk", example=X, name="b", version="1", profile=odd)
        assert "mean radius" in caught.value.columns or len(caught.value.columns) == 25
    bare = Profile.fit(X.to_numpy())
    with pytest.raises(
        DriftError, match=r"lacks \['mean radius'.*and 24 more.*has \['x0'.*and 24 more.*not take"
    ):
        mk.save(fitted, tmp_path / "odd.mk", example=X, name="b", version="1", profile=bare)
    with pytest.raises(DriftError, match="scores"):
        mk.save(fitted, tmp_path / "odd.mk", example=X, name="b", version="1",
                profile=Profile.fit(X[:300], reference=X[300:], scores=np.ones(len(X) - 300)))  # fmt: skip
    assert not (tmp_path / "odd.mk").exists()


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
