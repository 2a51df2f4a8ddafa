"""Alarms of a Detector: their arithmetic, how rarely they are false, and how soon they find a change."""

import pickle
from collections import Counter
from math import log

import numpy as np
import pytest
from helpers.examples import examples
from helpers.streams import NULLS, ar, at_most, rng
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import modelkit as mk
from modelkit.drift import band, exact, martingale
from modelkit.drift.cells import ABSENT, CELLS
from modelkit.drift.profile import Profile
from modelkit.drift.thresholds import FIRST_PART, LATER_PART
from modelkit.stats.evidence import Evidence, stake

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
    pays, weights = band.band_bets(counts, limits)
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
    assert FIRST_PART + LATER_PART * total <= 1  # all that a feature's alarms may use
    table, weights = martingale.rank_bets()
    assert np.abs(np.exp(table).mean(axis=0) - 1).max() < 1e-12
    assert weights.sum() == pytest.approx(1)
    assert band.band_bets(np.full(16, 9), np.ones(36))[1].sum() == pytest.approx(1)


@settings(max_examples=examples(40))
@given(
    st.lists(st.integers(0, 400), min_size=16, max_size=16), st.floats(0, 0.3), st.floats(1e-9, 0.5)
)
def test_bets_of_the_band_gain_nothing_at_the_reference_and_never_lose_all(
    counts, tolerance, delta
):
    counts = np.array(counts)
    pays, _ = band.band_bets(counts, band.band(counts, tolerance, delta))
    assert np.isfinite(pays).all()
    if counts.sum() >= 2:
        assert (np.exp(pays).T @ (counts / counts.sum()) <= 1 + 1e-9).all()


@given(st.lists(st.integers(1, 400), min_size=16, max_size=16), st.floats(0, 0.3))
def test_the_more_is_allowed_the_less_each_bet_pays_in_each_cell(counts, more):
    """So what an alarm has shown can only take evidence away from those after it."""
    counts = np.array(counts)
    limit = band.band(counts, 0.03, 0.01)
    assert (
        band.band_bets(counts, limit + more)[0] <= band.band_bets(counts, limit)[0] + 1e-12
    ).all()


@settings(max_examples=examples(40))
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
    even = np.full(16, 1000)
    pays, weights = band.band_bets(even, band.band(even, 0.0, 0.01))
    material = Evidence(lanes, weights)
    for _ in range(12):
        logs = draw.multinomial(128, law, lanes) @ pays
        material.step(logs, np.exp(logs), np.array(128))
    assert material.value.mean() <= 1 + 4 * material.value.std() / lanes**0.5


# False alarms.


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


def test_dependent_rows_and_seasons_raise_no_alarm_where_they_are_told():
    runs, alarms, naive, unstratified = 40, 0, 0, 0
    for run in range(runs):
        r = rng(run, 17)
        train, held, served = ({"x": ar(n, 0.8, r)} for n in (2000, 6000, 4000))
        alarms += bool(
            mk.Detector(Profile.fit(train, reference=held, ordered=True), seed=run).update(
                served, order="time"
            )
        )
        naive += bool(
            mk.Detector(Profile.fit(train, reference=held), seed=run).update(served, order="time")
        )
    assert at_most(alarms, runs, 0.01), alarms
    assert naive > runs / 2  # what the stride is for
    alarms = 0
    for run in range(runs):
        r = rng(run, 18)
        days = [(np.arange(n) // 500 % 2, r) for n in (2000, 6000, 4000)]
        train, held, served = ({"night": night, "x": r.normal(night * 1.0)} for night, r in days)
        alarms += bool(
            mk.Detector(Profile.fit(train, reference=held, stratum="night"), seed=run).update(
                served, order="time"
            )
        )
        rest = [{"x": side["x"]} for side in (train, held, served)]
        unstratified += bool(
            mk.Detector(Profile.fit(rest[0], reference=rest[1]), seed=run).update(
                rest[2], order="time"
            )
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


# Once a feature has alarmed. Of each part of a stream: its rows, their mean, and the alarms in it.

AGAIN = {
    "lasts": [(1500, 0.0, ""), (12_000, 0.6, "cm")],
    "grows": [(1500, 0.0, ""), (4000, 0.4, "cm"), (3000, 1.2, "M")],
    "grows at once": [(1500, 0.0, ""), (900, 0.5, "cm"), (3000, 2.0, "M")],
    "turns": [(1500, 0.0, ""), (4000, 0.6, "cm"), (3000, -0.6, "M")],
    "goes, and comes again": [(4000, 0.6, "cm"), (4000, 0.0, ""), (4000, 0.6, "m")],
    "small, and then large": [(8000, 0.15, "c"), (2000, 1.0, "m")],
}


@pytest.mark.parametrize("strata", [1, 2])
@pytest.mark.parametrize("name", AGAIN)
def test_a_feature_alarms_again_where_its_change_grows_or_turns(name, strata):
    """ "M" is an alarm that goes beyond the one before it; every change is told once."""
    for seed in range(3 - strata):
        r = rng(seed, 77)

        def rows(n, mean, r=r):
            return {"x": r.normal(mean, 1, n * strata)} | (
                {"s": np.arange(n * strata) % strata} if strata > 1 else {}
            )

        stratum = {"stratum": "s"} if strata > 1 else {}
        profile = Profile.fit(rows(2000, 0), reference=rows(8000, 0), **stratum)
        detector = mk.Detector(profile, seed=seed, tolerance=0.05)
        for n, mean, expected in AGAIN[name]:
            found = []
            for start in range(0, n, 500):
                found += detector.update(rows(min(500, n - start), mean))
                detector = mk.Detector.resume(profile, detector.state())
            said = [a.kind[0].upper() if a.again else a.kind[0] for a in found]
            assert sorted(said) == sorted(expected * strata), (seed, mean, said)
            assert all(alarm.p <= alarm.level for alarm in found)


def test_an_acknowledged_change_is_told_again_where_rows_leave_it():
    """While it lasts it is not, however often it is acknowledged, by whomever."""
    profile = Profile.fit(
        {"x": rng(1).normal(size=2000)}, reference={"x": rng(2).normal(size=8000)}
    )
    detector = mk.Detector(profile, on_alarm=lambda alarm: detector.acknowledge(alarm, "known"))
    detector.update({"x": rng(3).normal(0.3, 1, 5000)})
    first = detector.alarms
    assert [alarm.kind for alarm in first] == ["changed", "material"]
    for seed in range(4, 8):
        detector.acknowledge(first[0], "still known")
        detector.update({"x": rng(seed).normal(0.3, 1, 2000)})
    assert detector.alarms == first
    (more,) = detector.update({"x": rng(9).normal(0.0, 1, 3000)})
    assert (more.kind, more.again) == ("changed", True)
    assert str(more).startswith("x: changed again at row ")
    assert more.level < first[0].level
    assert "like its rows since the alarm before was acknowledged" in detector.report().to_html()


def test_the_size_of_an_alarm_is_measured_when_somebody_looks_at_it():
    profile = Profile.fit({"x": rng(1).normal(size=400), "y": rng(2).normal(size=400)})
    detector = mk.Detector(profile)
    detector.update({"x": rng(3).normal(2, 1, 500), "y": rng(4).normal(size=500)})
    alarm = detector.alarms[0]
    again = mk.Detector.resume(profile, detector.state())
    kept = pickle.loads(pickle.dumps(alarm))
    for own in (alarm, again.alarms[0], kept):
        assert "value" not in vars(own.effect)
    counts = np.array(alarm.counts)
    expected = exact.all_effects(counts, profile.counts[0, 0], ordered=True)[0]
    for own in (alarm, again.alarms[0], kept, pickle.loads(pickle.dumps(alarm))):
        assert own.effect == expected
        assert (hash(own.effect), str(own.effect)) == (hash(expected), str(expected))
        assert own == alarm
    assert alarm.effect.value == expected.value > 0.5
    assert again.state() == detector.state()
    with pytest.raises(AttributeError, match="no 'size'"):
        alarm.effect.size  # noqa: B018
    with pytest.raises(AttributeError):
        alarm.effect.value = 1.0


def test_importance_shares_alpha_and_none_means_no_alarms():
    rows = {name: rng(i).normal(size=4000) for i, name in enumerate("abc")}
    profile = Profile.fit(rows, importance={"a": 0, "b": 3})
    new = mk.Detector(profile, alpha=0.04).update(
        {name: values + 1 for name, values in rows.items()}
    )
    levels = {alarm.feature: alarm.level for alarm in new if alarm.kind == "changed"}
    assert levels == {
        "b": pytest.approx(0.04 * 2 / 3 * 0.75 * FIRST_PART),
        "c": pytest.approx(0.04 * 2 / 3 * 0.25 * FIRST_PART),
    }
