"""A Detector: its alarms keep their promise, find what changed, and are the same however rows come in."""

import io
import json
import multiprocessing
import threading
import tracemalloc
from collections import Counter
from dataclasses import asdict, replace
from itertools import pairwise
from math import log
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import modelkit as mk
from modelkit.drift import band, martingale
from modelkit.drift.cells import ABSENT, CELLS
from modelkit.drift.evidence import Evidence, stake
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.errors import DriftError


def rng(*seed):
    return np.random.default_rng(seed)


def column(values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


# The arithmetic, against reference values and simulation.

STREAM = [[3, 3, 0, 2], [3, 3, 1, 3]]
DRAWS = [[0.5, 0.25, 0.75, 0.1], [0.9, 0.3, 0.6, 0.8]]


def slots_of(counts, cells, draws):
    """One feature, micro-batches of any length: the slots of `advance`."""
    blocks, _ = martingale.advance(
        counts, np.array([cells], np.uint8)[:, :, None], np.array([draws])[:, :, None]
    )
    return blocks


def plain_p(counts, cells, draws):
    """The definition, row by row."""
    counts = list(counts)
    for cell, draw in zip(cells, draws, strict=True):
        if cell != ABSENT:
            yield (sum(counts[:cell]) + draw * (counts[cell] + 1)) / (sum(counts) + 1)
            counts[cell] += 1


def test_the_conformal_martingale_has_its_reference_values(monkeypatch):
    start = [2, 3, 4, 1]
    p = list(plain_p(start, np.ravel(STREAM), np.ravel(DRAWS)))
    assert p == pytest.approx(
        [10 / 11, 13 / 16, 9 / 52, 13 / 28, 0.97333333, 0.78125, 0.31764706, 0.93333333]
    )
    counts = np.zeros((1, CELLS), np.int64)
    counts[0, :4] = start
    ever, arl = (Evidence(1, martingale.rank_bets()[1], mode) for mode in ("ever", "arl"))
    found, wealth, reached = [], [], []
    for cells, draws in zip(STREAM, DRAWS, strict=True):
        slots = slots_of(counts, cells, draws)
        found.append(np.flatnonzero(slots[0, 0]).tolist())
        logs = martingale.rank_increments(slots)[0]
        for evidence in (ever, arl):
            evidence.step(logs, np.exp(logs), np.array([4]))
        wealth.append(log(ever.value[0]))
        reached.append(log(arl.value[0]))
    assert found == [sorted([58, 52, 11, 29]), sorted([62, 50, 20, 59])]
    assert wealth == pytest.approx([-0.013323672, 0.016738504], abs=1e-8)
    assert reached == pytest.approx([1.359093001, 2.105865494], abs=1e-8)
    assert counts[0, :4].tolist() == [3, 4, 5, 6]


def test_the_band_has_its_reference_values():
    counts = np.full(4, 250)
    limits = band.band(counts, 0.02, 0.005)
    assert limits[:3] == pytest.approx([0.108574, 0.054287, 0.048632], abs=1e-6)
    assert [limits[3], limits[9]] == pytest.approx([0.068101, 0.064168], abs=1e-6)
    assert [limits[4], limits[10]] == pytest.approx([0.073169, 0.073169], abs=1e-6)
    pays, weights = band.band_bets(counts, 0.02, 0.005)
    evidence, wealth = Evidence(1, weights), []
    for _ in range(3):
        logs = (np.array([5.0, 5, 10, 30]) @ pays)[None]
        evidence.step(logs, np.exp(logs), np.array([50]))
        wealth.append(log(evidence.value[0]))
    assert wealth == pytest.approx([3.557817, 11.176886, 19.059497], abs=1e-6)


def test_stakes_sum_to_less_than_one_and_bets_are_fair():
    assert stake(0) == pytest.approx(0.493215, abs=1e-6)
    assert stake(1) == pytest.approx(0.130890, abs=1e-6)
    steps = np.arange(2_000_000.0)
    total = (1 / (2.11 * (steps + 2) * np.log(steps + 2) ** 2)).sum() + 1 / (
        2.11 * log(2e6)
    )  # and the tail
    assert total == pytest.approx(2.10974 / 2.11, abs=1e-5)
    table, weights = martingale.rank_bets()
    assert np.abs(np.exp(table).mean(axis=0) - 1).max() < 1e-12
    assert weights.sum() == pytest.approx(1)
    assert band.band_bets(np.full(16, 9), 0.03, 0.01)[1].sum() == pytest.approx(1)


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 400), min_size=16, max_size=16), st.floats(0, 0.3), st.floats(1e-9, 0.5)
)
def test_bets_of_the_band_gain_nothing_at_the_reference_and_never_lose_all(
    counts, tolerance, delta
):
    counts = np.array(counts)
    pays, _ = band.band_bets(counts, tolerance, delta)
    assert np.isfinite(pays).all()
    if counts.sum() >= 2:
        assert (np.exp(pays).T @ (counts / counts.sum()) <= 1 + 1e-9).all()


@settings(max_examples=40)
@given(st.lists(st.integers(0, 30), min_size=CELLS, max_size=CELLS), st.data())
def test_ranks_in_blocks_are_those_of_the_definition(start, data):
    blocks = data.draw(st.integers(1, 3))
    cells = data.draw(
        st.lists(
            st.sampled_from([0, 1, 5, 64, 66, ABSENT]), min_size=32 * blocks, max_size=32 * blocks
        )
    )
    draws = rng(1).random(32 * blocks)
    counts = np.array([start, start])
    both = np.repeat(np.array(cells, np.uint8).reshape(blocks, 32, 1), 2, axis=2)
    slots, added = martingale.advance(
        counts, both, np.repeat(draws.reshape(blocks, 32, 1), 2, axis=2)
    )
    expected = np.floor(64 * np.array(list(plain_p(start, cells, draws))))
    assert (
        slots.sum(axis=0)[0].astype(int).tolist()
        == np.bincount(expected.astype(int), minlength=64).tolist()
    )
    assert np.array_equal(slots[:, 0], slots[:, 1])
    assert np.array_equal(counts - start, added.sum(axis=0))
    assert np.array_equal(
        counts[0] - start, np.bincount([c for c in cells if c != ABSENT], minlength=CELLS)
    )


@pytest.mark.parametrize("law", [[1.0], [0.99, 0.01], np.full(67, 1 / 67), 1 / np.arange(1, 40)])
@pytest.mark.parametrize("absent", [0.0, 0.3])
def test_p_values_are_uniform_for_any_law_and_a_tiny_reference(law, absent):
    law = np.asarray(law) / np.sum(law)
    draw = rng(len(law), int(10 * absent))
    lanes, blocks = 200, 8
    counts = np.zeros((lanes, CELLS), np.int64)
    counts[:, : len(law)] = draw.multinomial(20, law, lanes)
    cells = draw.choice(len(law), (blocks, 32, lanes), p=law).astype(np.uint8)
    cells[draw.random(cells.shape) < absent] = ABSENT
    slots, _ = martingale.advance(counts, cells, draw.random(cells.shape))
    for some in (slots, slots[:1], slots[-1:]):  # first and last rows of a stream alike
        assert stats.chisquare(some.sum(axis=(0, 1))).pvalue > 1e-4


def test_wealth_does_not_grow_where_nothing_changed():
    """E[wealth] is at most one, for both kinds of evidence, at a stop of one's choice; 4 standard errors allowed."""
    lanes, law = 3000, np.full(16, 1 / 16)
    draw = rng(7)
    counts = np.zeros((lanes, CELLS), np.int64)
    counts[:, :16] = draw.multinomial(200, law, lanes)
    changed = Evidence(lanes, martingale.rank_bets()[1])
    for _ in range(12):
        cells = draw.integers(16, size=(1, 32, lanes)).astype(np.uint8)
        slots, _ = martingale.advance(counts, cells, draw.random(cells.shape))
        logs = martingale.rank_increments(slots)[0]
        changed.step(logs, np.exp(logs), np.array(32))
        stopped = np.where(changed.peak > 2, np.minimum(changed.peak, 50), changed.value)
        assert changed.value.mean() <= 1 + 4 * changed.value.std() / lanes**0.5
    assert (changed.peak >= 20).mean() <= 0.05 + 4 * (0.05 / lanes) ** 0.5
    assert stopped.min() > 0
    pays, weights = band.band_bets(np.full(16, 1000), 0.0, 0.01)
    material = Evidence(lanes, weights)
    for _ in range(12):
        logs = draw.multinomial(128, law, lanes) @ pays
        material.step(logs, np.exp(logs), np.array(128))
    assert material.value.mean() <= 1 + 4 * material.value.std() / lanes**0.5


# False alarms.

ZIPF = 1 / np.arange(1, 51)
NULLS = {
    "normal": lambda n, r: r.normal(size=n),
    "rare": lambda n, r: r.random(n) < 0.01,
    "ties": lambda n, r: np.where(r.random(n) < 0.4, 0, np.round(r.normal(size=n) * 2)),
    "missing": lambda n, r: np.where(r.random(n) < 0.05, np.nan, r.standard_t(3, size=n)),
    "zipf": lambda n, r: np.array([f"c{i}" for i in range(50)], object)[
        r.choice(50, n, p=ZIPF / ZIPF.sum())
    ],
    "wide": lambda n, r: np.exp(3 * r.normal(size=n)),
}


def false_alarms(runs, rows, reference, **options):
    """In how many runs any alarm came, all nulls being columns of one profile of alpha 0.05, and by which column."""
    count, who = 0, Counter()
    for run in range(runs):
        r = rng(run, rows)
        train, held, served = (
            {name: law(n, r) for name, law in NULLS.items()} for n in (400, reference, rows)
        )
        detector = mk.Detector(Profile.fit(train, reference=held), alpha=0.05, seed=run, **options)
        detector.update(served)
        count += bool(detector.alarms)
        who.update({alarm.feature for alarm in detector.alarms})
    return count, who


def at_most(count, runs, alpha):
    """The lower 95 % Clopper-Pearson limit of the rate is at most alpha."""
    return count == 0 or stats.beta.ppf(0.025, count, runs - count + 1) <= alpha


@pytest.mark.parametrize("guarantee", ["ever", "arl"])
def test_false_alarms_are_as_rare_as_promised(guarantee):
    runs = 60  # of six columns each
    count, who = false_alarms(runs, 3000, 500, guarantee=guarantee)
    assert at_most(count, runs, 0.05), (count, who)


def test_one_column_that_has_all_of_alpha_keeps_to_it():
    runs, count = 300, 0
    train = Profile.fit({"x": rng(0).normal(size=400)}, reference={"x": rng(1).normal(size=400)})
    for run in range(runs):
        r = rng(run, 3)
        counts = np.zeros_like(train.counts)
        cells = train.features[0].cells(r.normal(size=3600)).astype(np.uint8)
        counts[0, 0] = np.bincount(cells[:600], minlength=CELLS)  # a fresh reference
        profile = Profile(
            **{f: getattr(train, f) for f in train.__dataclass_fields__}
            | {"counts": counts, "rows": 600}
        )
        detector = mk.Detector(profile, alpha=0.1, seed=run)
        count += bool(detector._watch.push(cells[600:, None], None))
    assert at_most(count, runs, 0.1), count


def ar(n, rho, r):
    from scipy.signal import lfilter

    return lfilter([(1 - rho**2) ** 0.5], [1, -rho], r.normal(size=n + 100))[100:]


def test_dependent_rows_and_seasons_raise_no_alarm_where_they_are_told():
    runs, alarms, naive, unstratified = 40, 0, 0, 0
    for run in range(runs):
        r = rng(run, 17)
        train, held, served = ({"x": ar(n, 0.8, r)} for n in (2000, 6000, 4000))
        alarms += bool(
            mk.Detector(Profile.fit(train, reference=held, ordered=True), seed=run).update(served)
        )
        naive += bool(mk.Detector(Profile.fit(train, reference=held), seed=run).update(served))
    assert at_most(alarms, runs, 0.01), alarms
    assert naive > runs / 2  # what the stride is for
    alarms = 0
    for run in range(runs):
        r = rng(run, 18)
        days = [(np.arange(n) // 500 % 2, r) for n in (2000, 6000, 4000)]
        train, held, served = ({"night": night, "x": r.normal(night * 1.0)} for night, r in days)
        alarms += bool(
            mk.Detector(Profile.fit(train, reference=held, stratum="night"), seed=run).update(
                served
            )
        )
        rest = [{"x": side["x"]} for side in (train, held, served)]
        unstratified += bool(
            mk.Detector(Profile.fit(rest[0], reference=rest[1]), seed=run).update(rest[2])
        )
    assert at_most(alarms, runs, 0.01), alarms
    assert unstratified > runs / 2  # what strata are for


# What must be found.

BEFORE = 1500
CHANGES = {
    "mean": (lambda n, r: r.normal(size=n), lambda n, r: r.normal(0.5, 1, n), 800),
    "spread": (lambda n, r: r.normal(size=n), lambda n, r: r.normal(0, 1.5, n), 800),
    "mode": (lambda n, r: r.normal(size=n), lambda n,
    r: np.where(r.random(n) < 0.15, r.normal(5, 0.1, n), r.normal(size=n)), 1000),
    "zeros": (lambda n, r: r.normal(size=n), lambda n, r: np.where(r.random(n) < 0.2, 0.0, r.normal(size=n)), 700),
    "swap": (lambda n, r: r.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1]), lambda n,
    r: r.choice(["a", "b", "c"], n, p=[0.3, 0.6, 0.1]), 600),
    "missing": (lambda n, r: np.where(r.random(n) < 0.01, np.nan, r.normal(size=n)), lambda n,
    r: np.where(r.random(n) < 0.1, np.nan, r.normal(size=n)), 1500),
    "new": (lambda n, r: r.choice(["a", "b"], n), lambda n, r: r.choice(["a", "b", "z"], n, p=[0.45, 0.45, 0.1]), 800),
    "inf": (lambda n, r: r.normal(size=n), lambda n, r: np.where(r.random(n) < 0.1, np.inf, r.normal(size=n)), 800),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_found_soon_and_where_they_began(name):
    law, other, within = CHANGES[name]
    late, began = [], []
    for run in range(3):
        r = rng(run, 24)
        profile = Profile.fit(
            {"x": law(3000, r), "quiet": r.normal(size=3000)},
            reference={"x": law(6000, r), "quiet": r.normal(size=6000)},
        )
        detector = mk.Detector(profile, seed=run)
        assert detector.update({"x": law(BEFORE, r), "quiet": r.normal(size=BEFORE)}) == []
        new = detector.update({"x": other(within, r), "quiet": r.normal(size=within)})
        assert new, (name, run)
        assert {alarm.feature for alarm in new} == {"x"}
        late.append(new[0].row - BEFORE)
        began.append(abs(new[0].began - BEFORE))
        assert new[0].effect.low > 0 or new[0].effect.value > 0
        assert new[0].p <= new[0].level
    assert max(late) <= within
    assert sorted(began)[1] <= 400, began


def test_material_changes_are_beyond_the_tolerance():
    profile = Profile.fit(
        {"x": rng(1).normal(size=8000)}, reference={"x": rng(2).normal(size=20_000)}
    )
    kinds = {}
    for shift in (0.05, 0.6):
        detector = mk.Detector(profile, tolerance=0.05)
        kinds[shift] = {
            alarm.kind for alarm in detector.update({"x": rng(3).normal(shift, 1, 20_000)})
        }
    assert "material" not in kinds[0.05]
    assert kinds[0.6] == {"changed", "material"}


def test_alarms_latch_for_ever_and_recur_for_arl():
    profile = Profile.fit({"x": rng(1).normal(size=4000)})
    found = {}
    for guarantee in ("ever", "arl"):
        detector = mk.Detector(profile, guarantee=guarantee)
        detector.update({"x": rng(2).normal(1, 1, 8000)})
        found[guarantee] = Counter(alarm.kind for alarm in detector.alarms)
        assert guarantee == "arl" or "ever raised" in detector.alarms[0].guarantee
    assert found["ever"] == {"changed": 1, "material": 1}
    assert found["arl"]["material"] > 5
    assert found["arl"]["changed"] > 1
    rows = [alarm.row for alarm in detector.alarms if alarm.kind == "material"]
    assert rows == sorted(rows)
    assert len(set(rows)) == len(rows)


def test_importance_shares_alpha_and_none_means_no_alarms():
    rows = {name: rng(i).normal(size=4000) for i, name in enumerate("abc")}
    profile = Profile.fit(rows, importance={"a": 0, "b": 3})
    new = mk.Detector(profile, alpha=0.04).update(
        {name: values + 1 for name, values in rows.items()}
    )
    levels = {alarm.feature: alarm.level for alarm in new if alarm.kind == "changed"}
    assert levels == {
        "b": pytest.approx(0.04 * 2 / 3 * 0.75),
        "c": pytest.approx(0.04 * 2 / 3 * 0.25),
    }


# However rows come in.


def mixed(n, seed):
    r = rng(seed, 31)
    x = ar(n, 0.7, r)
    return {
        "x": x, "c": column(r.choice(["u", "v", None], n).tolist()), "s": column(r.choice(["n", "m"], n).tolist()),
        "e": r.normal(size=(n, 3)),
    }  # fmt: skip


def scored(n, seed):
    p = rng(seed, 32).random(n)
    return np.c_[1 - p, p]


@pytest.fixture(scope="module")
def profile():
    labels = (rng(2, 33).random(2000) < scored(2000, 2)[:, 1]).astype(int)
    return Profile.fit(
        mixed(600, 1),
        reference=mixed(2000, 2),
        scores=scored(2000, 2),
        labels=labels,
        stratum="s",
        ordered=True,
    )


def cut(rows, start, stop):
    return {name: values[start:stop] for name, values in rows.items()}


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.integers(0, 700), max_size=12),
    st.sampled_from(["ever", "arl"]),
    st.integers(0, 700),
)
def test_any_chunks_and_a_pause_give_the_same_state(profile, cuts, guarantee, pause):
    rows, scores, losses = mixed(700, 3), scored(700, 3), (rng(5).random(700) < 0.4).astype(float)
    at_once = mk.Detector(profile, guarantee=guarantee)
    at_once.update(rows, scores=scores)
    at_once.update_labels(losses=losses)
    parts = mk.Detector(profile, guarantee=guarantee)
    ends = sorted([0, *cuts, pause, 700])
    for start, stop in pairwise(ends):
        if start == pause:
            parts = mk.Detector.resume(profile, parts.state())
        parts.update(cut(rows, start, stop), scores=scores[start:stop])
        parts.update_labels(losses=losses[start:stop])
    mine, theirs = states(at_once), states(parts)
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
        if name.startswith(("earlier", "lately", "2 sequence")) or name == "about":
            continue  # sums of floats in another order
        assert np.array_equal(array, theirs[name], equal_nan=True), name
    mine, theirs = (
        [replace(a, effect=None) if a.kind == "performance" else a for a in d.alarms]
        for d in (at_once, parts)
    )
    assert sorted(mine, key=str) == sorted(theirs, key=str)


def states(detector):
    import io

    with np.load(io.BytesIO(detector.state())) as file:
        return dict(file)


def test_a_detector_goes_on_from_its_state_bit_for_bit(profile):
    whole, resumed = (mk.Detector(profile, alpha=0.1, seed=4) for _ in range(2))
    for step in range(4):
        rows, scores = mixed(777, 10 + step), scored(777, 10 + step)
        rows["x"] = rows["x"] + step
        for detector in (whole, resumed):
            detector.update(rows, scores=scores)
            detector.update_labels(
                (scores[:, 1] > 0.3).astype(int), (scores[:, 1] > 0.6).astype(int)
            )
        state = resumed.state()
        assert state == whole.state()
        resumed = mk.Detector.resume(profile, state)
        assert resumed.state() == state
    assert whole.alarms
    assert resumed.alarms == whole.alarms
    assert resumed.report().to_json() == whole.report().to_json()


def test_a_state_does_not_grow_nor_do_alarms_without_end():
    profile = Profile.fit({"x": rng(1).normal(size=1000), "y": rng(2).normal(size=1000)})
    detector = mk.Detector(profile)
    detector.update({"x": rng(3).normal(size=1000), "y": rng(4).normal(size=1000)})
    small = len(detector.state())
    detector.update({"x": rng(5).normal(size=99_000), "y": rng(6).normal(size=99_000)})
    assert abs(len(detector.state()) - small) < 1500  # the pending rows, and digits
    assert detector.rows == 100_000
    many = mk.Detector(profile, guarantee="arl")
    alarm = mk.Detector(profile).update({"x": np.full(500, 9.0), "y": np.zeros(500)})[0]
    for _ in range(3):
        many._watch._keep([alarm] * 700)
    assert len(many.alarms) == 1000


def test_states_of_others_and_no_states_are_refused(profile):
    other = Profile.fit(mixed(600, 9), stratum="s")
    state = mk.Detector(profile).state()
    with pytest.raises(DriftError, match="another profile"):
        mk.Detector.resume(other, state)
    short = states(mk.Detector(profile))
    del short["0 changed money"]
    for wrong in (
        b"",
        b"PK",
        state[:500],
        profile.to_bytes(),
        packed(short),
        packed(states(mk.Detector(other)) | {"about": short["about"]}),
    ):
        with pytest.raises(DriftError, match="no state"):
            mk.Detector.resume(profile, wrong)


def packed(arrays):
    import io

    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    "options", [{"alpha": 0}, {"alpha": 1}, {"alpha": float("nan")}, {"tolerance": -0.1}, {"tolerance": 1},
    {"guarantee": "often"}], ids=str
)  # fmt: skip
def test_options_out_of_range_are_refused(options, profile):
    with pytest.raises(DriftError):
        mk.Detector(profile, **options)


def test_workers_merge_into_one_report():
    profile = Profile.fit({"x": rng(1).normal(size=4000), "c": rng(2).choice(["a", "b"], 4000)})
    workers = [mk.Detector(profile, seed=w) for w in range(3)]
    for w, worker in enumerate(workers):
        worker.update(
            {
                "x": rng(w, 5).normal(0.4, 1, 3000),
                "c": rng(w, 6).choice(["a", "b", "z"], 3000, p=[0.5, 0.495, 0.005]),
            }
        )
    report = mk.Detector.merge(profile, [worker.state() for worker in workers])
    assert report.rows == 9000
    drift = {f.feature: f for f in report.features}
    assert drift["x"].p_material < 1e-3 < drift["c"].p_material
    assert drift["x"].rows == 3 * 1024
    total = sum(int(w._watch.streams()[0][1].totals[1, 65]) for w in workers)
    assert f"{total} of 9,000 rows" in next(c for c in report.checks if c.feature == "c").found
    assert DriftReport.from_json(report.to_json()) == report
    with pytest.raises(DriftError, match="no states"):
        mk.Detector.merge(profile, [])
    with pytest.raises(DriftError, match="alpha"):
        mk.Detector.merge(profile, [workers[0].state(), mk.Detector(profile, alpha=0.2).state()])


def test_merged_evidence_of_arl_is_no_evidence_where_nothing_changed():
    profile = Profile.fit({"x": rng(1).normal(size=4000)})
    workers = [mk.Detector(profile, seed=w, guarantee="arl") for w in range(2)]
    for w, worker in enumerate(workers):
        worker.update({"x": rng(w, 5).normal(size=5000)})
    assert mk.Detector.merge(profile, [w.state() for w in workers]).features[0].p_material > 0.05


def test_eight_threads_lose_no_row(profile):
    detector = mk.Detector(profile)
    chunks = [(mixed(53, i), scored(53, i)) for i in range(40)]
    states = []

    def work(mine):
        for rows, scores in mine:
            detector.update(rows, scores=scores)
            detector.update_labels(losses=np.full(5, 0.5))
            states.append(detector.state())
            assert len(detector.alarms) < 1000

    failed = []
    threads = [
        threading.Thread(target=guarded, args=(work, chunks[t::8], failed)) for t in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert detector.rows == 40 * 53
    assert max(mk.Detector.resume(profile, state).rows for state in states[::10]) <= 40 * 53
    assert detector._watch.labelled.rows == 200
    assert sum(stream.totals[0].sum() for _, stream in detector._watch.streams()) == 40 * 53
    ranked = (
        sum(stream._counts.sum(axis=1)[1] for _, stream in detector._watch.streams())
        - profile.counts[:, 1].sum()
    )
    whole = sum(stream.rows // 32 * 32 for _, stream in detector._watch.streams())
    assert ranked <= whole


def guarded(work, mine, failed):
    try:
        work(mine)
    except Exception as error:  # noqa: BLE001 - shown by the test
        failed.append(repr(error))


def test_a_state_is_never_taken_between_ranks_and_bets(profile):
    detector, rows = mk.Detector(profile), mixed(200, 1)
    cells, strata = detector._watch.encode(profile.columns(rows))
    detector._watch.rank(cells, strata)
    resumed = mk.Detector.resume(profile, detector.state())
    detector._watch.settle()
    assert resumed.state() == detector.state()


# Rows that are odd.


def test_what_does_not_fit_is_refused_and_nothing_is_taken(profile):
    detector = mk.Detector(profile)
    rows, scores = mixed(10, 1), scored(10, 1)
    before = detector.state()
    for X, given_scores, match in (
        (
            {k: v for k, v in rows.items() if k != "x"} | {"X": rows["x"]},
            None,
            "lack the columns 'x' \\(is it|lack the columns 'x'",
        ),
        (rows | {"x": column(["1"] * 10)}, None, "holds strings where the profile has numbers"),
        (rows | {"c": np.ones(10)}, None, "holds numbers where the profile has strings"),
        (rows | {"e": rows["e"][:, :2]}, None, "shape"),
        (rows | {"x": rows["x"][:5]}, None, "different lengths"),
        (rows, scores[:5], "different lengths"),
        (rows, np.ones(10), "no scores \\['prediction'\\]"),
        (rows, np.full((10, 3), 1 / 3), "2 classes"),
        (rows, {"probabilities": scores, "odd": np.ones(10)}, "no scores \\['odd'\\]"),
        (None, None, "neither rows nor scores"),
        (None, scores, "tells the stratum"),
    ):
        with pytest.raises(DriftError, match=match):
            detector.update(X, scores=given_scores)
    assert detector.state() == before


def test_a_missing_column_is_named_with_its_neighbour():
    profile = Profile.fit({"amount": rng(1).normal(size=200), "age": rng(2).normal(size=200)})
    with pytest.raises(DriftError, match="'amount' \\(is it 'amuont'\\?\\)") as caught:
        mk.Detector(profile).update({"amuont": [1.0], "age": [1.0]})
    assert caught.value.feature == "amount"


def test_more_columns_are_ignored_and_order_does_not_matter():
    rows = {"a": rng(1).normal(size=300), "b": rng(2).normal(size=300)}
    profile = Profile.fit(rows)
    one, other = mk.Detector(profile), mk.Detector(profile)
    one.update(rows)
    other.update(pd.DataFrame({"z": ["?"] * 300, "b": rows["b"], "a": rows["a"]}))
    assert one.state() == other.state()


def test_no_rows_change_nothing_and_single_rows_may_be_missing():
    vectors = rng(1).normal(size=(400, 4))
    profile = Profile.fit(
        {"x": rng(2).normal(size=200)}, reference={"x": rng(3).normal(size=400)}, scores=vectors
    )
    detector = mk.Detector(profile)
    before = detector.state()
    assert detector.update({"x": []}, scores=np.empty((0, 4))) == []
    assert detector.update({"x": np.empty(0, np.float32)}) == []
    assert detector.state() == before
    detector.update([{"x": None}])
    detector.update([{"x": 1.0}], scores=vectors[:1])
    detector.update(None, scores=vectors[:2])
    detector.update(
        {"x": [1.0]}, scores=np.full((1, 4), 0.25)
    )  # an embedding, though its sum is one
    assert detector.rows == 5


def test_rows_of_an_unknown_stratum_are_counted_apart(profile):
    detector = mk.Detector(profile)
    rows = mixed(64, 1) | {"s": column(["n"] * 32 + ["elsewhere", None] * 16)}
    detector.update(rows)
    assert (detector.rows, detector._watch.strangers) == (64, 32)
    check = next(check for check in detector.report().checks if check.name == "unseen stratum")
    assert "32 of 64" in check.found
    assert mk.Detector.resume(profile, detector.state())._watch.strangers == 32


# Labels.


def labelled_profile(n=5000, rate=0.1):
    rows = rng(1).normal(size=(n, 1))
    return Profile.fit(
        rng(2).normal(size=(200, 1)), reference=rows, losses=(rng(3).random(n) < rate).astype(float)
    )


def test_a_rise_of_the_loss_is_found_and_none_is_not():
    profile, alarms = labelled_profile(), 0
    for run in range(60):
        alarms += bool(
            mk.Detector(profile, alpha=0.05).update_labels(
                losses=(rng(run, 41).random(3000) < 0.1).astype(float)
            )
        )
    assert at_most(alarms, 60, 0.05)
    for guarantee in ("ever", "arl"):
        detector = mk.Detector(profile, guarantee=guarantee)
        assert detector.update_labels(losses=(rng(1, 42).random(1000) < 0.1).astype(float)) == []
        new = detector.update_labels(losses=(rng(2, 42).random(1500) < 0.25).astype(float))
        assert new[0].kind == "performance"
        assert (len(new) > 1) == (guarantee == "arl")
        assert 600 <= new[0].began <= new[0].row <= 2500
        assert detector.report().performance.labelled == 2500
    better = mk.Detector(profile).update_labels(losses=np.zeros(2000))
    assert better == []


def test_labels_and_predictions_are_the_losses_they_make():
    n = 300
    truth, guess = rng(1).integers(3, size=n), rng(2).integers(3, size=n)
    words = np.array(["a", "b", "c"])
    profile = labelled_profile()
    expected = mk.Detector(profile)
    expected.update_labels(losses=(truth != guess).astype(float))
    for y, predicted in (
        (truth, guess), (truth.tolist(), guess.tolist()), (words[truth], words[guess]),
        (column(words[truth].tolist()), words[guess]),
        (truth.astype(float), guess), (pd.Series(words[truth]), pd.Series(words[guess])),
    ):  # fmt: skip
        detector = mk.Detector(profile)
        detector.update_labels(y, predicted)
        assert detector.state() == expected.state()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([1, 2], [1]), "must both be"), (([1], None), "labels and what was predicted"),
        ((None, [1]), "labels and what"), (([None], [1]), "missing"),
        (([np.nan], [1]), "missing"), (([1.0], [np.nan]), "missing"), ((["a"], [0.5]), "not all numbers"),
        (([[1]], [[1]]), "must both"), ((), "pass labels"),
        ((None, None, [1.5]), "0 to 1"), ((None, None, [np.nan]), "0 to 1"), ((None, None, ["a"]), "not all numbers"),
        (([1], [1], [1.0]), "or losses"),
    ],
    ids=range(13),
)  # fmt: skip
def test_labels_that_do_not_fit_are_refused(arguments, match):
    detector = mk.Detector(labelled_profile(200))
    before = detector.state()
    y, predicted, losses = (*arguments, None, None, None)[:3]
    with pytest.raises(DriftError, match=match):
        detector.update_labels(y, predicted, losses=losses)
    assert detector.state() == before
    assert detector.update_labels([], []) == []
    assert detector.update_labels(losses=[]) == []


def test_without_losses_labels_are_refused():
    with pytest.raises(DriftError, match="fit it with labels="):
        mk.Detector(Profile.fit({"x": np.arange(200.0)})).update_labels([1], [1])


def calibrated(n=6000):
    rows, p = rng(1).normal(size=(n, 1)), rng(2).beta(2, 2, n)
    labels = (rng(3).random(n) < p).astype(int)
    return Profile.fit(rows[:500], reference=rows, scores=np.c_[1 - p, p], labels=labels)


def test_performance_without_labels_is_estimated_and_nan_does_not_poison_it():
    detector = mk.Detector(calibrated())
    p = rng(4).beta(2, 2, 1500)
    X = rng(5).normal(size=(1500, 1))
    real = ((rng(6).random(1500) < p) == (p > 0.5)).mean()
    shares = np.c_[1 - p, p]
    for report in (detector.test(X, scores=shares), detector):
        if report is detector:
            detector.update(X, scores=shares)
            detector.update(X[:1], scores=np.full((1, 2), np.nan))
            report = detector.report()  # noqa: PLW2901
        value, low, high = report.performance.estimated["accuracy"]
        assert low <= real <= high
        assert abs(value - real) < 0.05
        assert report.performance.unsupported is None
    only = mk.Detector(calibrated())
    only.update(X[:3], scores=np.full((3, 2), np.nan))
    assert only._watch.estimated() is None
    narrow = np.clip(p, 0.3, 0.7)
    odd = mk.Detector(
        Profile.fit(
            X[:500],
            reference=X,
            scores=np.c_[1 - narrow, narrow],
            labels=(rng(3).random(1500) < narrow).astype(int),
        )
    )
    assert "beyond those of the reference" in odd.test(X, scores=shares).performance.unsupported


# One batch.


def test_a_batch_test_ignores_the_order_of_rows_and_what_came_before():
    rows = {"x": rng(1).normal(size=2000), "c": rng(2).choice(["a", "b"], 2000)}
    detector = mk.Detector(Profile.fit(rows))
    batch = {"x": rng(3).normal(0.1, 1, 500), "c": rng(4).choice(["a", "b"], 500)}
    before = detector.state()
    first = detector.test(batch)
    assert detector.state() == before
    order = rng(5).permutation(500)
    detector.update(batch)
    assert detector.test({k: v[order] for k, v in batch.items()}) == first
    assert first.rows == 500
    assert first.kind == "batch"


def test_a_batch_test_finds_what_changed_and_adjusts_by_holm():
    names = [f"x{i}" for i in range(6)]
    rows = {name: rng(i).normal(size=3000) for i, name in enumerate(names)}
    detector = mk.Detector(Profile.fit(rows))
    batch = {name: rng(i, 2).normal(0.5 * (name == "x3"), 1, 400) for i, name in enumerate(names)}
    report = detector.test(batch)
    assert [alarm.feature for alarm in report.alarms] == ["x3"]
    assert report.alarms[0].p <= 0.01
    assert all(
        f.p_changed >= 6 / (5999 + 1) for f in report.features
    )  # six features, 999 draws at least
    assert DriftReport.from_json(report.to_json()) == report


def test_batch_false_alarms_are_as_rare_as_promised():
    count, runs = 0, 40
    for run in range(runs):
        r = rng(run, 51)
        train, held, batch = (
            {name: law(n, r) for name, law in NULLS.items()} for n in (300, 600, 200)
        )
        report = mk.Detector(Profile.fit(train, reference=held), alpha=0.1, seed=run).test(batch)
        count += bool(report.alarms)
    assert at_most(count, runs, 0.1), count


def test_columns_that_are_empty_constant_or_missing_have_a_report():
    rows = {
        "k": np.full(400, 3.0),
        "gone": np.full(400, np.nan),
        "none": column([None] * 400),
        "x": rng(1).normal(size=400),
        "i": np.full(400, np.inf),
    }
    detector = mk.Detector(Profile.fit(rows))
    assert detector.test(rows).alarms == ()
    assert detector.update(rows) == []
    new = rows | {
        "k": np.full(400, 3.1),
        "gone": np.arange(400.0),
        "x": np.full(400, np.nan),
        "i": np.zeros(400),
    }
    assert {alarm.feature for alarm in detector.test(new).alarms} == {"k", "gone", "x", "i"}
    assert {alarm.feature for alarm in detector.update(new)} == {"k", "gone", "x", "i"}
    json.loads(detector.report().to_json())
    assert "</html>" in detector.report().to_html()
    with pytest.raises(DriftError, match="no rows"):
        detector.test({name: values[:0] for name, values in rows.items()})


def test_checks_say_what_is_plainly_wrong():
    n = 2000
    train = {
        "x": rng(1).normal(size=n),
        "y": rng(2).normal(size=n),
        "c": rng(3).choice(["a", "b"], n),
        "z": rng(4).normal(size=n),
    }
    detector = mk.Detector(Profile.fit(train))
    m = 400
    batch = {
        "x": np.where(np.arange(m) % 5 == 0, np.nan, 50.0 + np.arange(m)),
        "y": np.where(np.arange(m) % 4 == 0, np.inf, rng(5).normal(size=m)),
        "c": np.where(np.arange(m) % 10 == 0, "<new>", "a"), "z": np.full(m, 0.25),
    }  # fmt: skip
    found = {(check.name, check.feature): check for check in detector.test(batch).checks}
    assert {
        ("unseen category", "c"), ("missing rate", "x"), ("above the usual range", "x"), ("infinite", "y"),
        ("constant", "z"),
    } <= set(found)  # fmt: skip
    assert "40 of 400 rows, such as '<new>'" in found["unseen category", "c"].found
    assert found["missing rate", "x"].p < 1e-6
    assert "20.00%" in found["missing rate", "x"].found
    twice = {name: np.repeat(values[:100], 4) for name, values in train.items()}
    assert "duplicate rows" in {check.name for check in detector.test(twice).checks}
    fresh = {
        "x": rng(6).normal(size=m),
        "y": rng(7).normal(size=m),
        "c": rng(8).choice(["a", "b"], m),
        "z": rng(9).normal(size=m),
    }
    assert detector.test(fresh).checks == ()


def test_alarms_and_reports_are_values(profile):
    detector = mk.Detector(profile)
    detector.update(mixed(900, 1) | {"x": np.full(900, 9.0)}, scores=scored(900, 1))
    report = detector.report()
    assert report.alarms == detector.alarms != ()
    assert (
        report.to_json()
        == detector.report().to_json()
        == DriftReport.from_json(report.to_json()).to_json()
    )
    alarm = report.alarms[0]
    plain = json.loads(json.dumps(asdict(alarm)))
    assert plain["feature"] == alarm.feature in str(alarm)
    assert "stratum" in str(alarm)
    assert hash(alarm) == hash(detector.alarms[0])
    with pytest.raises(AttributeError):
        alarm.p = 0.0


# The same values in another form.


@pytest.mark.parametrize(
    "form", [lambda p: p, lambda p: np.array(p.tolist(), object), lambda p: np.round(p).astype(int)]
)
def test_what_a_loss_is_does_not_depend_on_the_type_of_predictions(form):
    truth, r = rng(0).normal(50, 20, 4000), rng(1)
    guess = truth + r.normal(0, 5, len(truth))
    profile = Profile.fit(
        {"x": guess[:500]}, reference={"x": guess[500:]}, scores=guess[500:], labels=truth[500:]
    )
    detector = mk.Detector(profile)
    assert detector.update_labels(truth[:500], form(guess[:500])) == []
    assert detector._watch.labelled.interval()[1] < 0.6


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "D"])
def test_strata_of_times_are_the_same_in_every_unit(unit):
    days = np.array(["2024-01-01", "2024-01-02"], "M8[D]")
    reference = {"x": rng(0).normal(size=600), "day": days[rng(1).integers(0, 2, 600)]}
    detector = mk.Detector(Profile.fit(reference, stratum="day"))
    detector.update(
        {"x": rng(2).normal(size=99), "day": days[rng(3).integers(0, 2, 99)].astype(f"M8[{unit}]")}
    )
    assert detector._watch.strangers == 0


def test_a_column_of_no_weight_is_not_tested():
    reference = {"a": rng(0).normal(size=2000), "b": rng(1).normal(size=2000)}
    detector = mk.Detector(Profile.fit(reference, importance={"a": 0}))
    later = {"a": rng(2).normal(3, 1, 300), "b": rng(3).normal(size=300)}
    assert detector.test(later).alarms == ()
    assert mk.Detector(Profile.fit(reference)).test(later).alarms != ()


@pytest.mark.parametrize("values", [["u", "v"], np.array(["2024-01-01", "2024-02-01"], "M8[us]")])
def test_a_column_that_became_empty_is_missing_and_not_of_another_kind(values):
    """A reader of CSV makes floats of it."""
    column = np.asarray(values, object if isinstance(values, list) else None)[
        rng(0).integers(0, 2, 3000)
    ]
    detector = mk.Detector(Profile.fit({"x": rng(1).normal(size=3000), "s": column}))
    alarms = detector.update({"x": rng(2).normal(size=300), "s": np.full(300, np.nan)})
    assert {alarm.feature for alarm in alarms} == {"s"}


def test_a_small_alpha_takes_no_more_memory():
    reference = {f"x{i}": rng(i).normal(size=2000) for i in range(6)}
    later = {name: values[:200] + (name == "x0") for name, values in reference.items()}
    detector = mk.Detector(Profile.fit(reference), alpha=1e-5)
    tracemalloc.start()
    assert detector.test(later).alarms != ()
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()


# What was written by versions before, and the face that this one shows.

GOLDEN = Path(__file__).parent / "golden"


def test_a_profile_and_a_state_of_an_earlier_version_are_read_and_written_unchanged():
    """Written at commit 263a568, before Watch was taken out of Detector."""
    for name in ("drift-profile1.npz", "drift-watched1.npz"):
        stored = (GOLDEN / name).read_bytes()
        profile = Profile.from_bytes(stored)
        assert unpacked(profile.to_bytes()) == unpacked(stored)
    state = (GOLDEN / "drift-state1.npz").read_bytes()
    report = (GOLDEN / "drift-report1.json").read_text().strip()
    detector = mk.Detector.resume(profile, state)
    assert unpacked(detector.state()) == unpacked(state)
    read = DriftReport.from_json(report)
    assert read.to_json() == report
    assert detector.alarms == read.alarms
    assert [drift.cells for drift in detector.report().features] == [
        drift.cells for drift in read.features
    ]


def unpacked(data):
    with np.load(io.BytesIO(data)) as file:
        return [
            (name, file[name].dtype.str, file[name].shape, file[name].tobytes()) for name in file
        ]


def test_a_detector_shows_its_api_and_nothing_else():
    shown = {name for name in dir(mk.Detector) if not name.startswith("_")}
    arguments = {"alpha", "guarantee", "profile", "seed", "tolerance"}
    answers = {"alarms", "merge", "report", "resume", "rows", "state", "test"}
    assert shown == arguments | answers | {"update", "update_labels"}


def updated(detector, queue):
    detector.update({"x": rng(9).normal(size=100)})
    queue.put(detector.rows)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_detector_goes_on_in_the_child_of_a_fork_though_its_lock_was_held():
    detector = mk.Detector(Profile.fit({"x": rng(1).normal(size=400)}))
    detector.update({"x": rng(2).normal(size=50)})
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    held = threading.Event()
    release = threading.Event()

    def hold():
        with detector._watch.lock:
            held.set()
            release.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    process = context.Process(target=updated, args=(detector, queue))
    process.start()
    process.join(60)
    release.set()
    holder.join()
    assert process.exitcode == 0
    assert queue.get() == 150
