"""The history: bounded counts by hour and day, as reports and frames; kept, and merged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.examples import examples
from helpers.frozen import thawed
from helpers.streams import column, rng
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.drift.buckets import MOST_DAYS, MOST_HOURS, Buckets, reach
from modelkit.drift.counts import count_by
from modelkit.errors import Conflict, UsageError

HOUR = 3600
DAY = 24 * HOUR
START = 1_700_006_400  # 2023-11-15, midnight in UTC


class Clock:
    """A clock that the test sets."""

    def __init__(self, now=START):
        self.now = float(now)

    def __call__(self):
        return self.now


def rows(n, seed, shift=0.0):
    r = rng(seed, 51)
    return {"x": r.normal(shift, 1, n), "shop": column(r.choice(["a", "b", "c"], n).tolist())}


@pytest.fixture(scope="module")
def profile():
    return mk.Profile.fit(rows(2000, 1), reference=rows(6000, 2))


def month(profile, changed=(), days=20, rows_an_hour=20):
    """A Detector after days of 24 hours; the column x is shifted on the days `changed`."""
    clock = Clock()
    detector = mk.Detector(profile, clock=clock)
    for day in range(days):
        for hour in range(24):
            clock.now = START + day * DAY + hour * HOUR
            shift = 1.0 if day in changed else 0.0
            detector.update(rows(rows_an_hour, 1000 + 24 * day + hour, shift))
    return detector


@pytest.fixture(scope="module")
def watched(profile):
    return month(profile, changed=(10, 11, 12))


# The buckets.

CALLS = st.lists(
    st.tuples(st.integers(1, 40), st.floats(0, 90 * DAY), st.integers(0, 2 * DAY)), max_size=12
)


@given(CALLS, st.integers(0, 2**31), st.sampled_from([0, 40_000, 1 << 25]))
@settings(max_examples=examples(60), deadline=None)
def test_no_row_is_lost_nor_counted_twice_and_the_size_is_bounded(calls, seed, most_bytes):
    r = rng(seed, 52)
    buckets = Buckets(2, 3, most_bytes)
    whole = np.zeros((3, 67), np.int64)
    taken = 0
    for n, start, spread in calls:
        cells = r.integers(0, 67, (n, 3), dtype=np.uint8)
        times = START + start + r.random(n) * spread
        strata = r.integers(0, 2, n)
        counts = buckets.count(cells, strata, times)
        assert (counts == count_by(cells, strata, 2)).all()
        whole += counts.sum(axis=0)
        taken += n
    kept = buckets.all()
    assert len(buckets.spans(HOUR)) <= MOST_HOURS
    assert len(buckets.spans(DAY)) <= MOST_DAYS
    assert sum(bucket.counts.nbytes for bucket in kept) <= max(most_bytes, 8 * 4 * 2 * 3 * 67)
    if not most_bytes:
        assert kept == []
        return
    assert sum(bucket.rows for bucket in kept) <= taken
    if len(buckets.spans(DAY)) < buckets.most_days:  # none was forgotten
        assert sum(bucket.rows for bucket in kept) == taken
        total = np.zeros((2, 3, 67), np.int64)
        for bucket in kept:
            total += bucket.counts
        assert (total.sum(axis=0) == whole).all()
    again = thawed(buckets, Buckets(2, 3, most_bytes))
    assert [vars(bucket) | {"counts": None} for bucket in again.all()] == [
        vars(bucket) | {"counts": None} for bucket in kept
    ]
    for mine, theirs in zip(again.all(), kept, strict=True):
        assert (mine.counts == theirs.counts).all()


@given(st.integers(1, 400), st.integers(0, 2**31))
@settings(max_examples=examples(40), deadline=None)
def test_rows_are_in_the_bucket_of_their_time_however_they_come(n, seed):
    r = rng(seed, 53)
    cells = r.integers(0, 67, (n, 2), dtype=np.uint8)
    times = START + r.random(n) * 30 * HOUR
    at_once = Buckets(1, 2, 1 << 25)
    at_once.count(cells, None, times)
    one_by_one = Buckets(1, 2, 1 << 25)
    for i in r.permutation(n).tolist():
        one_by_one.count(cells[i : i + 1], None, float(times[i]))
    halves = Buckets(1, 2, 1 << 25), Buckets(1, 2, 1 << 25)
    for k in (0, 1):
        halves[k].count(cells[k::2], None, times[k::2])
    halves[0].join(halves[1])
    for other in (one_by_one, halves[0]):
        for mine, theirs in zip(at_once.all(), other.all(), strict=True):
            assert (mine.start, mine.rows) == (theirs.start, theirs.rows)
            assert (mine.counts == theirs.counts).all()
    for bucket in at_once.all():
        inside = (times >= bucket.start) & (times < bucket.end)
        assert (bucket.counts == count_by(cells[inside])).all()


def test_a_bucket_of_more_rows_than_32_bits_hold_counts_on():
    buckets = Buckets(1, 1, 1 << 20)
    buckets.count(np.zeros((1, 1), np.uint8), None, float(START))
    (bucket,) = buckets.all()
    for _ in range(2):
        buckets._add(replace(bucket, counts=np.full((1, 1, 67), 2**31), rows=2**31))
    (bucket,) = buckets.all()
    assert bucket.counts[0, 0, 0] == 2**32 + 1
    other = thawed(buckets, Buckets(1, 1, 1 << 20))
    assert other.all()[0].counts[0, 0, 0] == 2**32 + 1


def test_fewer_hours_and_days_are_kept_where_they_are_large():
    assert reach((1, 20, 67), 1 << 25) == (48, 366)
    hours, days = reach((1, 500, 67), 1 << 25)
    assert hours == 48
    assert 180 < days < 366
    assert reach((64, 500, 67), 1 << 25) == (4, 4)
    assert reach((1, 1, 67), 0) == (0, 0)


# What happened last week.


def test_the_report_of_a_span_is_about_its_rows_alone(watched):
    history = watched.history
    before = history.report("2023-11-18", "2023-11-22")
    assert before.kind == "span"
    assert before.rows == 4 * 24 * 20
    assert before.alarms == ()
    assert min(drift.p_changed for drift in before.features) > 0.01
    during = history.report("2023-11-25", "2023-11-28")
    found = {drift.feature: drift for drift in during.features}
    assert found["x"].p_changed < 0.01 < found["shop"].p_changed
    assert found["x"].effects[0].low > 0.2
    assert during.times == (START + 10 * DAY, START + 13 * DAY)
    assert [alarm.feature for alarm in during.alarms] == ["x", "x"]
    assert "apart from the alpha of the stream" in str(during)
    assert mk.DriftReport.from_json(during.to_json()) == during
    assert "2023-11-25" in during.to_html()


def test_a_span_grows_to_whole_buckets_and_an_empty_one_is_refused(watched):
    history = watched.history
    within = history.report(START + 3 * DAY + 5, START + 3 * DAY + 6)
    assert within.times == (START + 3 * DAY, START + 4 * DAY)
    last = START + 19 * DAY + 23 * HOUR
    assert history.report(since=last).rows == 20
    assert history.report().rows == 20 * 24 * 20
    assert history.span == (START, START + 20 * DAY)
    with pytest.raises(UsageError, match="no rows from 2020-01-01 00:00"):
        history.report("2020-01-01", "2020-02-01")
    with pytest.raises(UsageError, match="ends after it starts"):
        history.report("2023-12-02", "2023-12-01")


def test_rows_that_depend_on_one_another_are_described_and_not_tested():
    level = np.cumsum(rng(3, 55).normal(size=3000))
    profile = mk.Profile.fit({"x": level - np.linspace(level[0], level[-1], 3000)}, ordered=True)
    detector = mk.Detector(profile, clock=Clock())
    detector.update({"x": rng(4, 55).normal(0, 30, 500)}, order="time")
    report = detector.history.report()
    assert [drift.p_changed for drift in report.features] == [None]
    assert report.features[0].effects
    assert "without tests, for neighbouring rows are dependent" in report.guarantee


def test_losses_and_labels_are_in_the_history():
    r = rng(5, 55)
    p = r.random(3000)
    profile = mk.Profile.fit(
        rows(600, 1),
        reference=rows(3000, 2),
        scores=np.c_[1 - p, p],
        labels=(r.random(3000) < p).astype(int),
    )
    clock = Clock()
    detector = mk.Detector(profile, clock=clock)
    for day in range(3):
        clock.now = START + day * DAY
        wrong = (rng(day, 56).random(400) < 0.1 + 0.2 * day).astype(int)
        detector.update_labels(np.ones(400, int), 1 - wrong)
    losses = [
        detector.history.report(START + day * DAY, START + day * DAY + HOUR).performance.loss[0]
        for day in range(3)
    ]
    assert losses == sorted(losses)
    assert 0.05 < losses[0] < 0.15 < losses[1] < 0.35 < losses[2]
    report = detector.history.report(START, START + HOUR)
    assert report.performance.labelled == 400
    assert report.features[-1].feature == "target"
    assert report.features[-1].rows == 400
    frame = detector.history.to_dataframe()
    assert frame.query("feature == 'target'").loss.tolist() == pytest.approx(losses)


def test_labels_may_come_with_their_own_times():
    labels = np.arange(100) % 2
    profile = mk.Profile.fit(
        rows(100, 1), reference=rows(100, 2), scores=labels.astype(str), labels=labels.astype(str)
    )
    detector = mk.Detector(profile, clock=Clock())
    times = START + np.arange(100) % 2 * DAY
    detector.update_labels(labels.astype(str), labels.astype(str), at=times)
    assert detector.history.report(START, START + 1).performance.labelled == 50
    with pytest.raises(UsageError, match="at has 3 times for 100 rows"):
        detector.update_labels(labels, labels, at=times[:3])


def test_the_time_of_rows_is_that_of_their_column_or_of_the_call():
    timed = [rows(600, seed) | {"when": np.datetime64(START, "s") + np.arange(600)} for seed in (1, 2)]  # fmt: skip
    profile = mk.Profile.fit(timed[0], reference=timed[1], time="when")
    detector = mk.Detector(profile, clock=Clock(START + 100 * DAY))
    hours = np.datetime64(START, "s") + np.arange(50) * np.timedelta64(1, "h")
    detector.update(rows(50, 3) | {"when": hours})
    assert detector.history.span == (START, START + 50 * HOUR)
    assert detector.history.report(START + 30 * HOUR, START + 31 * HOUR).rows == 1
    detector.update(rows(7, 4), at="2023-11-20T10:30")
    assert detector.history.report("2023-11-20T10:00", "2023-11-20T11:00").rows == 7
    detector.update(rows(9, 5))
    assert detector.history.report(since=START + 100 * DAY).rows == 9


# Over time.


def test_a_frame_has_a_line_for_each_bucket_feature_and_stratum(watched):
    frame = watched.history.to_dataframe()
    buckets = 18 + 48
    assert len(frame) == buckets * 2
    assert str(frame.start.dt.tz) == "UTC"
    assert frame.query("feature == 'x'").rows.sum() == 20 * 24 * 20
    worst = frame.query("feature == 'x'").nlargest(3, "distance").start.dt.day.tolist()
    assert sorted(worst) == [25, 26, 27]


def test_strata_are_kept_apart():
    def sides(seed):
        half = np.arange(1000) % 2
        return {"x": rng(seed, 57).normal(half * 3.0), "half": half}

    profile = mk.Profile.fit(sides(1), reference=sides(2), stratum="half")
    detector = mk.Detector(profile, clock=Clock())
    nights = sides(3)
    night = {name: values[nights["half"] == 1] for name, values in nights.items()}
    detector.update(night)
    report = detector.history.report()
    assert [(drift.stratum, drift.rows) for drift in report.features] == [("0", 0), ("1", 500)]
    assert report.features[1].p_changed > 0.01


# Kept, gone on from, and merged.


def test_states_come_back_bit_identical_from_a_registry(
    watched, profile, boosting, breast_cancer, tmp_path
):
    X, _ = breast_cancer
    mk.save(boosting, tmp_path / "m.mk", example=X, name="tumour", version="1.0.0")
    registry = mk.Registry(tmp_path / "models")
    registry.register(tmp_path / "m.mk")
    state = watched.state()
    registry.keep("tumour", "1.0.0", "drift-2023-12-05", state)
    kept = mk.Registry(Path(tmp_path) / "models").kept("tumour", "1.0.0", "drift-2023-12-05")
    assert kept == state
    again = mk.Detector.resume(profile, kept)
    assert again.state() == state
    with pytest.raises(Conflict):
        registry.keep("tumour", "1.0.0", "drift-2023-12-05", state + b"0")


def test_workers_add_up(profile):
    clock = Clock()
    workers = [mk.Detector(profile, clock=clock, seed=k) for k in (1, 2, 3)]
    for hour in range(60):
        clock.now = START + hour * HOUR
        for k, worker in enumerate(workers):
            worker.update(rows(10 * (k + 1), 100 * hour + k))
    first, *others = [worker.history for worker in workers]
    together = first.merge(*others)
    assert together.report().rows == 60 * 60
    for side in (slice(0, 1), slice(1, 2), slice(2, 3)):
        assert workers[side][0].history.report().rows == 600 * (side.start + 1)
    start = START + 30 * HOUR
    assert together.report(start, start + HOUR).rows == 60
    frames = [worker.history.to_dataframe() for worker in workers]
    assert together.to_dataframe().rows.sum() == sum(frame.rows.sum() for frame in frames)


def test_a_new_reference_keeps_the_history_of_the_old_one(profile):
    clock = Clock()
    detector = mk.Detector(profile, clock=clock)
    detector.update(rows(500, 5))
    clock.now += 5 * DAY
    moved = mk.Profile.fit(rows(2000, 6, 1.0), reference=rows(6000, 7, 1.0))
    detector.rebase(moved, "new customers")
    clock.now += HOUR
    detector.update(rows(500, 8, 1.0))
    history = detector.history
    assert history.report(until="2023-11-18").features[0].p_changed > 0.01
    assert history.report(since="2023-11-19").features[0].p_changed > 0.01
    with pytest.raises(UsageError, match="the reference changed at 2023-11-20 00:00"):
        history.report()
    assert history.to_dataframe().distance.max() < 0.15
    state = detector.state()
    again = mk.Detector.resume(moved, state, clock=clock)
    assert again.state() == state
    assert again.history.report(until="2023-11-18").rows == 500
    both = history.merge(again.history)
    assert both.report(until="2023-11-18").rows == 1000
    assert both.report(since="2023-11-19").rows == 1000


def test_a_span_is_judged_at_the_alpha_of_its_own_reference(profile):
    clock = Clock()
    detector = mk.Detector(profile, alpha=0.05, clock=clock)
    detector.update(rows(500, 1))
    clock.now += 3 * DAY
    later = mk.Profile.fit(rows(500, 6), reference=rows(500, 7))
    detector.rebase(later, "a year later", alpha=1e-4)
    detector.update(rows(500, 2))
    again = mk.Detector.resume(later, detector.state(), clock=clock)
    for history in (detector.history, again.history, detector.history.merge(again.history)):
        assert history.report(until=START + DAY).alpha == 0.05
        assert history.report(since=START + 2 * DAY).alpha == 1e-4


def test_many_references_stay_within_the_bytes(profile):
    clock = Clock()
    detector = mk.Detector(profile, clock=clock, history=40_000)
    for run in range(30):
        detector.update(rows(60, run))
        clock.now += 3 * DAY
        detector.rebase(profile, f"run {run}")
        detector.update(rows(60, run))
        assert detector.history.bytes <= 40_000
    assert len(detector.history.eras) <= 16
    assert len(detector.state()) < 250_000


def test_there_may_be_no_history(profile):
    detector = mk.Detector(profile, history=0, clock=Clock())
    detector.update(rows(100, 1))
    assert repr(detector.history) == "<History without rows>"
    assert detector.history.span is None
    with pytest.raises(UsageError, match="no rows from the start to now"):
        detector.history.report()
    assert detector.history.to_dataframe().empty
    with pytest.raises(UsageError, match="history is in bytes"):
        mk.Detector(profile, history=-1)


def test_a_history_does_not_change_with_later_rows(profile):
    detector = mk.Detector(profile, clock=Clock())
    detector.update(rows(100, 1))
    history = detector.history
    detector.update(rows(100, 2))
    assert history.report().rows == 100
    assert detector.history.report().rows == 200


def test_a_history_and_a_state_are_of_the_time_when_they_were_taken(profile):
    """They share the counts of hours and days with the Detector until it counts on."""
    clock = Clock()
    detector = mk.Detector(profile, clock=clock)
    detector.update(rows(300, 1))
    taken, state = detector.history, detector.state()
    before = taken.to_dataframe()
    clock.now += DAY
    detector.update(rows(200, 2), at=START)
    detector.update(rows(100, 3))
    assert taken.to_dataframe().equals(before)
    assert taken.report().rows == 300
    assert detector.history.report().rows == 600
    again = mk.Detector.resume(profile, state, clock=clock)
    assert again.history.to_dataframe().equals(before)
    again.update(rows(200, 2), at=START)
    assert taken.report().rows == 300
