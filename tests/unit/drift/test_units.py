"""Whole units, such as days, are judged by their rank among others; the guarantee and its power."""

from dataclasses import replace
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, kstest
from tests.helpers.flights import CHANGES, DAYS, rows_of
from tests.helpers.streams import at_most

import modelkit as mk
from modelkit.drift import archive, unit_martingale
from modelkit.drift.cells import CELLS
from modelkit.drift.unit_martingale import UnitEvidence, tail_bets, unit_bets
from modelkit.drift.unit_permutation import compare_units
from modelkit.drift.unit_scores import last_ranks, place_scores, unit_scores
from modelkit.drift.unit_stream import RECENT_UNITS, TRAIL
from modelkit.drift.units import (
    FULL_SHARE,
    ReferenceUnits,
    group_table,
    most_units,
    of_call,
    shares_of,
    unit_name,
)
from modelkit.drift.watch import STATE_SCHEMA
from modelkit.errors import DriftError

PARTS = {"changed": 2 / 3, "material": 1 / 3}  # of alpha
WHOLE = np.uint16(FULL_SHARE)


def some_units(rng, n, d=2, spread=20.0):
    """Shares of n units that differ from each other, uint16 (n, d, 16)."""
    law = rng.dirichlet(np.full(16, spread), (n, d))
    return np.rint(law * FULL_SHARE).astype(np.uint16)


def kept(shares, strata=None):
    member = np.zeros(len(shares), np.int64) if strata is None else np.asarray(strata)
    return ReferenceUnits(shares, member, len(shares))


def evidence(shares, alpha=0.05, seed=0, strata=None, guarantee="ever"):
    d = shares.shape[1]
    return UnitEvidence(
        kept(shares, strata),
        1 if strata is None else int(max(strata)) + 1,
        {kind: np.full(d, alpha * part / d) for kind, part in PARTS.items()},
        np.full(d, 0.03),
        guarantee,
        np.random.SeedSequence(seed),
    )


small_bags = st.lists(
    st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=2, max_size=5
).map(lambda bag: np.pad(np.array(bag, np.uint16) * 1000, ((0, 0), (0, 12)))[:, None])


# Ranks.


@given(small_bags)
@settings(deadline=None)
def test_over_all_orders_of_a_small_bag_the_rank_of_the_last_is_exactly_uniform(bag):
    """For each score, the intervals that ties spread over cover [0, 1) equally: no order is missing."""
    n = len(bag)
    covered = [dict.fromkeys(range(n), Fraction(0)) for _ in range(3)]
    orders = [*permutations(range(n))]
    full = np.ones((n, 1), bool)
    for order in orders:
        scores = unit_scores(bag[list(order)])
        low = np.rint(last_ranks(scores, full, np.zeros((1, 3)))[0] * n).astype(int)
        high = np.rint(last_ranks(scores, full, np.ones((1, 3)))[0] * n).astype(int)
        for score in range(3):
            for slot in range(low[score], high[score]):
                covered[score][slot] += Fraction(1, int(high[score] - low[score]))
    for slots in covered:
        assert set(slots.values()) == {Fraction(len(orders), n)}


@given(small_bags)
@settings(deadline=None)
def test_over_all_orders_two_ranks_in_a_row_are_exactly_independent(bag):
    """Given the bag, the last rank is uniform whatever the rank before it was."""
    n = len(bag)
    joint = {}
    full = np.ones((n, 1), bool)
    for order in permutations(range(n)):
        sorted_bag = bag[list(order)]
        steps = []
        for last in (n - 1, n):
            scores = unit_scores(sorted_bag[:last])
            ends = [
                np.rint(last_ranks(scores, full[:last], np.full((1, 3), u))[0] * last).astype(int)
                for u in (0, 1)
            ]
            steps.append((ends[0][2], ends[1][2]))
        (a, b), (c, d) = steps
        for one in range(a, b):
            for other in range(c, d):
                weight = Fraction(1, int((b - a) * (d - c)))
                joint[one, other] = joint.get((one, other), 0) + weight
    assert len(joint) == n * (n - 1)
    assert len(set(joint.values())) == 1


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=examples(50))
def test_scores_are_those_of_the_units_whatever_their_order(seed):
    rng = np.random.default_rng(seed)
    bag = some_units(rng, 30, 3)
    bag[7] = bag[2]
    bag[11, 1] = 0  # without values of a feature
    order = rng.permutation(30)
    assert np.array_equal(unit_scores(bag[order]), unit_scores(bag)[order])


def test_bets_gain_nothing_on_uniform_ranks():
    logs, weights = unit_bets()
    assert np.abs(np.exp(logs).mean(axis=0) - 1).max() < 1e-12
    assert weights.sum() == pytest.approx(1)


def p_values(runs, m, n, limit=None, strata=None):
    found = []
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        shares = some_units(rng, m + n, 1)
        own = None if strata is None else np.arange(m + n) % strata
        one = evidence(shares[:m], seed=seed, strata=None if own is None else own[:m])
        if limit is not None:
            one._most = [limit] * len(one._most)
        stratum = np.zeros(m + n, int) if own is None else own
        found += [one.judge(shares[i], int(stratum[i])) for i in range(m, m + n)]
    return np.array(found).reshape(runs, n, 3)


@pytest.mark.parametrize("options", [{}, {"limit": 12}, {"strata": 3}])
def test_ranks_are_uniform_and_independent(options):
    """Also where a random unit is forgotten with every new one, and where there are strata."""
    p = p_values(100, 12, 30, **options)
    for score in range(3):
        assert kstest(p[:, :, score].ravel(), "uniform").pvalue > 1e-3
    apart = np.abs(np.corrcoef(p[:, :-1, 0].ravel(), p[:, 1:, 0].ravel())[0, 1])
    assert apart < 4 / np.sqrt(100 * 29)


def test_a_unit_that_is_forgotten_may_be_the_newest_as_well_as_any_other():
    rng = np.random.default_rng(0)
    shares = some_units(rng, 9, 1)
    stays = 0
    for seed in range(400):
        one = evidence(shares[:8], seed=seed)
        one._most = [8]
        one.judge(shares[8], 0)
        stays += any((unit == shares[8]).all() for unit in one._bags[0])
    assert abs(stays / 400 - 8 / 9) < 0.06


def test_a_unit_is_ranked_in_parts_as_it_is_at_once(monkeypatch):
    shares = some_units(np.random.default_rng(0), 12, 7)
    whole, parts = evidence(shares[:10]), evidence(shares[:10])
    for unit in shares[10:]:
        at_once = whole.judge(unit, 0)
        monkeypatch.setattr(unit_martingale, "RANKED_AT_ONCE", 2 * len(parts._bags[0]) * 16 + 99)
        parts.begin(unit, 0)
        found = [parts.rank_part() for _ in range(4)]
        assert found[:3] == [None] * 3
        assert np.array_equal(found[3], at_once)
        monkeypatch.undo()
    assert not parts.ranks
    for kind, test in whole.tests.items():
        assert np.array_equal(parts.tests[kind].p(), test.p())


def test_what_is_kept_of_units_is_bounded():
    assert most_units(6) == 400
    assert most_units(500) * 500 * 32 <= 2 << 20
    rng = np.random.default_rng(0)
    one = evidence(some_units(rng, 20, 500))
    more = some_units(rng, 1, 500)[0]
    one._bags[0] = np.repeat(more[None], 2 * most_units(500), axis=0)
    one._order[0] = np.arange(2 * most_units(500))
    one.judge(more, 0)
    assert len(one._bags[0]) == 2 * most_units(500)


def within(moved, true, own):
    """The least centre and slack (1, 6) by which units (n, 1, 16) are moved ones of others."""
    apart = place_scores(moved) - place_scores(true)
    high, low = apart[own:].max(axis=0), apart[own:].min(axis=0)
    return (high + low) / 2, (high - low) / 2 + 1e-9


@given(st.integers(0, 2**32 - 1), st.integers(3, 20), st.integers(1, 10), st.integers(0, 9))
@settings(deadline=None, max_examples=examples(60))
def test_units_that_were_moved_no_further_than_is_allowed_never_rank_higher(seed, m, later, since):
    """The step of the proof of "material": the p-value is at least that of the units as they were."""
    rng = np.random.default_rng(seed)
    since = min(since, later - 1)
    true, other = some_units(rng, m + later, 1), some_units(rng, m + later, 1)
    moved = true.copy()
    moved[m:] = (true[m:] * 0.7 + other[m:] * 0.3).astype(np.uint16)
    order = np.append(np.full(m, -1), np.arange(later))
    kept_units = np.append(np.arange(m), np.arange(m + since, m + later))
    p = []
    for shares in (moved, true):
        one = evidence(true[:m], seed=seed)
        one._since[:] = since
        one.centre[:] = one.slack[:] = 0
        if shares is moved:
            one.centre[:], one.slack[:] = within(moved[kept_units], true[kept_units], m)
        p.append(one._tails(shares, order, np.random.default_rng(seed).random((1, 6))))
    assert (p[0] >= p[1] - 1e-12).all()


def test_bets_on_small_ranks_pay_the_less_the_larger_the_rank_is():
    logs, weights = tail_bets()
    assert (np.diff(logs, axis=0) < 0).all()
    assert np.abs(np.exp(logs).mean(axis=0) - 1).max() < 1e-12
    assert weights.sum() == pytest.approx(1)


# Once a feature has alarmed. Of each part of a stream: its days, their level, and the alarms in it.

AGAIN = {
    "lasts": [(10, 0.0, ""), (120, 0.8, "cm")],
    "grows": [(10, 0.0, ""), (20, 1.0, "cm"), (20, 2.5, "M")],
    "turns": [(20, 1.0, "cm"), (30, -1.5, "M")],
    "goes, and comes again": [(20, 1.0, "cm"), (30, 0.0, ""), (20, 1.0, "m")],
    "small, and then large": [(60, 0.2, "c"), (12, 1.5, "m")],
}


def levelled(rng, n, level):
    return [{"x": rng.normal(level + rng.normal() * 0.2, 1, 60)} for _ in range(n)]


@pytest.mark.parametrize("stratum", [None, "s"])
@pytest.mark.parametrize("name", AGAIN)
def test_a_feature_of_units_alarms_again_where_its_change_grows_or_turns(name, stratum):
    rng = np.random.default_rng(3)

    def units(n, level):
        return [
            unit | ({} if stratum is None else {stratum: np.full(60, i % 2)})
            for i, unit in enumerate(levelled(rng, n, level))
        ]

    training = {"x": rng.normal(size=1000)} | ({} if stratum is None else {stratum: np.zeros(1000)})
    past = units(160, 0.0)
    profile = mk.Profile.fit(training, reference=past, unit="batch", stratum=stratum)
    detector = mk.Detector(profile, history=0, tolerance=0.1)
    for n, level, expected in AGAIN[name]:
        found = [alarm for unit in units(n, level) for alarm in detector.update(unit)]
        said = [a.kind[0].upper() if a.again else a.kind[0] for a in found]
        assert sorted(said) == sorted(expected), (level, said)
        assert all(alarm.p <= alarm.level for alarm in found)
        state = detector.state()
        detector = mk.Detector.resume(profile, state)
        assert detector.state() == state


def test_an_acknowledged_change_of_units_is_told_again_where_they_leave_it():
    rng = np.random.default_rng(4)
    past = levelled(rng, 100, 0.0)
    profile = mk.Profile.fit({"x": rng.normal(size=1000)}, reference=past, unit="batch")
    detector = mk.Detector(profile, history=0)
    for unit in levelled(rng, 60, 0.6):
        for alarm in detector.update(unit):
            detector.acknowledge(alarm, "known")
    assert [alarm.again for alarm in detector.alarms if alarm.kind == "changed"] == [False]
    more = [alarm for unit in levelled(rng, 40, 0.0) for alarm in detector.update(unit)]
    assert [(alarm.kind, alarm.again) for alarm in more] == [("changed", True)]


# Real days.


def shares_of_days(profile, rows, day):
    cells = np.stack([f.cells(column_of(f, rows)) for f in profile.features])
    table = group_table(profile.features)
    counts = np.zeros((DAYS, len(cells), CELLS), np.int64)
    for j, own in enumerate(cells):
        counts[:, j] = np.bincount(day * CELLS + own, minlength=DAYS * CELLS).reshape(DAYS, CELLS)
    return np.array([shares_of(each, table) for each in counts])


def column_of(feature, rows):
    return rows[feature.name].to_numpy(object if feature.kind == "category" else None)


@pytest.fixture(scope="module")
def by_day():
    """The shares of all days, as they were and as they would be after each change."""
    rows = rows_of(range(DAYS))
    day = (rows["when"].dt.normalize() - rows["when"][0].normalize()).dt.days.to_numpy()
    profile = mk.Profile.fit(
        rows[day < 60], reference=rows[(day >= 60) & (day < 120)], unit="day", time="when"
    )
    found = {name: shares_of_days(profile, change(rows), day) for name, change in CHANGES.items()}
    return found | {"": shares_of_days(profile, rows, day)}


def alarms_by_day(shares, seed, m, n, *, change="", at=0, alpha=0.01):
    """The numbers of the days at which a feature alarmed, of n days drawn from the pool."""
    days = np.random.default_rng(seed).permutation(DAYS)
    one = evidence(shares[""][days[:m]], alpha, seed)
    found = []
    for i, day in enumerate(days[m : m + n]):
        one.judge(shares[change if i >= at else ""][day], 0)
        found += [i for _ in one.crossed()]
    return found


def test_real_days_of_one_pool_raise_no_more_alarms_than_alpha(by_day):
    """300 runs of 40 days, at alpha .05; benchmarks/drift has longer ones, and other data."""
    runs = 300
    alarms = sum(bool(alarms_by_day(by_day, seed, 60, 40, alpha=0.05)) for seed in range(runs))
    assert binomtest(alarms, runs).proportion_ci(method="exact").low <= 0.05


@pytest.mark.parametrize(("change", "within"), [("dep_delay", 8), ("origin", 8), ("air_time", 30)])
def test_changes_of_real_days_are_found_though_no_single_day_shows_them(by_day, change, within):
    delays = []
    for seed in range(10):
        found = alarms_by_day(by_day, seed, 140, 10 + 60, change=change, at=10)
        assert not [day for day in found if day < 10]
        delays.append(min(found, default=10 + 99) - 9)
    assert np.median(delays) <= within


# A Detector of days.


@pytest.fixture(scope="module")
def profile():
    return mk.Profile.fit(
        rows_of(range(30)), reference=rows_of(range(30, 90)), unit="day", time="when"
    )


def later(days, change=lambda rows: rows):
    return change(rows_of(days))


def test_a_day_is_judged_when_a_row_of_a_later_one_comes(profile):
    detector = mk.Detector(profile)
    rows = later(range(100, 103))
    detector.update(rows)
    assert "2 days judged, the last day 2014-01-02" in detector.report().assumptions
    assert "rows of day 2014-01-03 wait until it is complete" in str(detector.report().assumptions)
    assert detector.update(at="2014-01-03T23:59") == []
    assert "2 days judged" in str(detector.report().assumptions)
    detector.update(at="2014-01-04")
    assert "3 days judged, the last day 2014-01-03" in detector.report().assumptions
    assert detector.rows == len(rows)


def test_how_the_rows_of_a_day_come_makes_no_difference(profile):
    rows = later(range(100, 106))
    whole = mk.Detector(profile)
    whole.update(rows)
    pieces = mk.Detector(profile)
    shuffled = rows.sample(frac=1, random_state=0)
    day = shuffled["when"].dt.normalize()
    for _, part in shuffled.groupby(day):
        for piece in np.array_split(np.arange(len(part)), 5):
            pieces.update(part.iloc[piece])
    assert pieces.state() == whole.state()


def test_a_detector_judges_as_the_evidence_alone_does(profile):
    """So what benchmarks measure of the evidence alone holds for Detectors."""
    rows = later(range(100, 121), CHANGES["origin"])
    day = (rows["when"].dt.normalize() - rows["when"][0].normalize()).dt.days.to_numpy()
    detector = mk.Detector(profile, seed=3)
    detector.update(rows)
    seed = np.random.SeedSequence(3).spawn(4)[0]  # of one stratum, rows, labels and the target
    levels = {kind: np.full(6, 0.01 * part / 6) for kind, part in PARTS.items()}
    alone = UnitEvidence(profile.units, 1, levels, np.full(6, 0.03), "ever", seed)
    for unit in shares_of_days(profile, rows, day)[:20]:
        alone.judge(unit, 0)
    own = detector._watch.units.stream.evidence.tests["changed"]
    assert np.array_equal(alone.tests["changed"].p(), own.p())
    assert np.allclose(alone.tests["changed"].levels, own.levels)


def test_a_state_of_before_units_kept_their_order_is_refused_in_words(profile):
    detector = mk.Detector(profile)
    about, arrays = archive.unpack(STATE_SCHEMA, detector.state(), "state")
    old = {name: array for name, array in arrays.items() if not name.endswith("from")}
    with pytest.raises(DriftError, match="of an earlier modelkit"):
        mk.Detector.resume(profile, archive.pack(STATE_SCHEMA, about, old))


def test_late_rows_are_counted_and_told(profile):
    detector = mk.Detector(profile)
    rows = later(range(100, 104))
    detector.update(rows)
    late = rows[rows["when"] < "2014-01-02"]
    before = detector.report()
    detector.update(late)
    report = detector.report()
    (check,) = (check for check in report.checks if check.name == "late rows")
    assert f"{len(late):,} rows came after" in str(check)
    assert [f.p_changed for f in report.features] == [f.p_changed for f in before.features]


def test_an_alarm_names_the_day_and_the_one_it_began_with(profile):
    detector = mk.Detector(profile)
    assert detector.update(later(range(100, 105))) == []
    more = later(range(105, 125), CHANGES["dep_delay"])
    more["when"] += np.timedelta64(5, "D")
    alarms = detector.update(more)
    alarm, larger = (alarm for alarm in alarms if alarm.feature == "dep_delay")
    assert (alarm.kind, larger.kind) == ("changed", "material")
    assert alarm.unit.startswith("day 2014-01-")
    assert f"changed with {alarm.unit}" in str(alarm)
    assert abs(alarm.began_time - 1388880000 - 86400) <= 2 * 86400  # 2014-01-06
    assert alarm.effect.low > 0.2
    assert mk.DriftReport.from_json(detector.report().to_json()).alarms == detector.alarms
    assert "day 2014" in detector.report().to_html()


@pytest.mark.parametrize("guarantee", ["ever", "arl"])
def test_a_state_resumes_bit_for_bit_in_the_middle_of_a_day(profile, guarantee):
    rows = later(range(100, 130), CHANGES["origin"])
    whole = mk.Detector(profile, guarantee=guarantee, clock=lambda: 0.0)
    whole.update(rows)
    first = mk.Detector(profile, guarantee=guarantee, clock=lambda: 0.0)
    cut = len(rows) // 2 + 100
    first.update(rows.iloc[:cut])
    second = mk.Detector.resume(profile, first.state(), clock=lambda: 0.0)
    second.update(rows.iloc[cut:])
    assert second.state() == whole.state()
    assert second.alarms == whole.alarms != ()


def test_a_state_does_not_grow_with_the_units():
    rng = np.random.default_rng(0)
    past = [{"x": rng.normal(size=30)} for _ in range(20)]
    profile = mk.Profile.fit({"x": rng.normal(size=200)}, reference=past, unit="batch")
    detector = mk.Detector(profile, history=0)
    sizes = []
    for _ in range(2):
        for _ in range(max(TRAIL, 2 * most_units(1)) + 20):
            detector.update({"x": rng.normal(size=5)})
        sizes.append(len(detector.state()))
    assert abs(sizes[1] - sizes[0]) < 2000  # numbers have more digits
    assert len(detector._watch.units.stream.recent()[0]) == RECENT_UNITS


def test_workers_add_up_the_counts_of_the_open_day(profile):
    rows = later([100], CHANGES["dep_delay"])
    alone = mk.Detector(profile, alpha=0.05)
    workers = [mk.Detector(profile, alpha=0.05) for _ in range(3)]
    for i, worker in enumerate(workers):
        worker.update(rows.iloc[i::3])
    merged = mk.Detector.merge(profile, [worker.state() for worker in workers])
    tested = alone.test(rows)
    assert [f.p_changed for f in merged.features] == [f.p_changed for f in tested.features]
    assert merged.rows == tested.rows == len(rows)
    workers[0].update(later([100, 101]).query("when >= '2014-01-02'"))
    with pytest.raises(DriftError, match=r"day 2014-01-01.*day 2014-01-02"):
        mk.Detector.merge(profile, [worker.state() for worker in workers])


# The units of one call.


def test_a_test_of_one_day_is_its_rank_among_the_days_of_the_reference(profile):
    rows = later([100])
    rows["dep_delay"] += 90
    detector = mk.Detector(profile, alpha=0.02)
    report = detector.test(rows)
    (alarm,) = report.alarms
    assert (alarm.feature, alarm.unit, alarm.p) == ("dep_delay", "day 2014-01-01", 1 / 61)
    assert detector.rows == 0
    few = mk.Detector(profile, alpha=0.01).test(rows)
    assert few.alarms == ()
    assert "no alarm is possible at alpha 0.01" in str(few.assumptions)


@pytest.mark.parametrize("k", [1, 3])
def test_p_values_of_a_call_are_exact_for_all_features_together(k):
    rng = np.random.default_rng(k)
    smallest = []
    for seed in range(400):
        shares = some_units(rng, 19 + k, 4)
        used = np.ones(4, bool)
        p = compare_units(kept(shares[:19]), shares[19:], [0] * k, used, alpha=0.05, seed=seed).p
        smallest.append(min(p))
    for level in (0.05, 0.2):
        found = np.mean(np.array(smallest) <= level)
        assert found <= level + 4 * np.sqrt(level / 400)
        assert found >= level / 2


def test_several_days_together_show_what_none_of_them_does(profile):
    detector = mk.Detector(profile, alpha=0.01)
    report = detector.test(later(range(100, 115), CHANGES["origin"]))
    assert "origin" in {alarm.feature for alarm in report.alarms}
    assert "15 days, day 2014-01-01 to day 2014-01-15" in str(report.alarms[0])


# Batches, columns and strata.


def batches(rng, n, shift=0.0):
    return [{"x": rng.normal(rng.normal(shift), 1, 200)} for _ in range(n)]


def test_every_call_is_a_batch():
    rng = np.random.default_rng(0)
    profile = mk.Profile.fit(batches(rng, 1)[0], reference=batches(rng, 60), unit="batch")
    detector = mk.Detector(profile)
    for batch in batches(rng, 40):
        assert detector.update(batch) == []
    alarms = []
    for batch in batches(rng, 30, 2.0):
        alarms += detector.update(batch)
    assert alarms[0].unit.startswith("batch ")
    assert 41 <= int(alarms[0].unit.split()[1]) <= 60


def test_a_unit_without_values_of_a_feature_says_nothing_of_it():
    rng = np.random.default_rng(3)
    past = batches(rng, 40)
    scores = rng.normal(size=200 * 40)
    profile = mk.Profile.fit(batches(rng, 1)[0], reference=past, unit="batch", scores=scores)
    detector = mk.Detector(profile)
    detector.update(batches(rng, 1)[0])
    detector.update(scores=rng.normal(size=200))
    report = {drift.feature: drift for drift in detector.report().features}
    assert report["prediction"].effects[0].low < 0.05
    assert report["prediction"].effects[0].value < 0.2
    assert detector._watch.units.stream.evidence.judged == 2


def test_a_column_may_tell_the_unit_and_is_no_feature():
    rng = np.random.default_rng(1)
    rows = {"x": rng.normal(size=4000), "lot": np.repeat(np.arange(40), 100)}
    profile = mk.Profile.fit(rows, unit="lot")
    assert [feature.name for feature in profile.features] == ["x"]
    assert profile.units.found == 20
    detector = mk.Detector(profile)
    detector.update(rows, order="time")
    report = detector.report()
    assert "39 units by 'lot' judged, the last lot 38" in report.assumptions
    detector.update({"x": np.zeros(3), "lot": [5, 5, 5]})
    assert "3 rows came after" in str(detector.report().checks)


@pytest.mark.parametrize("units", [2, 5, 40])
def test_a_table_that_is_sorted_raises_no_alarm_of_units(units):
    """Units of one call are judged in a random order, as its rows are taken."""
    runs, alarms, found = 20, 0, 0
    for run in range(runs):
        r = np.random.default_rng(run)

        def lots(n, first, r=r):
            level = np.sort(r.normal(size=n))
            x = np.repeat(level, 5) + r.normal(size=5 * n)
            return {"x": x, "lot": np.repeat(np.arange(first, first + n), 5)}

        profile = mk.Profile.fit(lots(20, 0), reference=lots(60, 100), unit="lot")
        both = [mk.Detector(profile, alpha=0.05, seed=run, history=0) for _ in range(2)]
        for call in range(120 // units):
            rows = lots(units, 1000 + units * call)
            both[0].update(rows)
            both[1].update(rows, order="time")
        alarms += bool(both[0].alarms)
        found += bool(both[1].alarms)
    assert at_most(alarms, runs, 0.05), alarms
    assert units < 40 or found > runs / 2  # in the order of time it is a change


def test_scores_of_days_are_decided_by_a_random_fifth_of_the_days():
    """Every fifth business day is a Monday."""
    runs, alarms = 10, 0
    for run in range(runs):
        r = np.random.default_rng(run)

        def business_days(weeks, first, r=r):
            day = (np.arange(weeks)[:, None] * 7 + np.arange(5) + 4 + 7 * first).ravel()
            level = r.normal(size=len(day)) * 0.3 + 1.5 * (np.arange(len(day)) % 5 == 0)
            times = np.repeat(day * 86_400.0, 20)
            return {"t": times, "x": r.normal(size=len(times))}, np.repeat(level, 20)

        past, scores = business_days(40, 100)
        profile = mk.Profile.fit(
            business_days(20, 0)[0], reference=past, scores=scores, unit="day", time="t"
        )
        detector = mk.Detector(profile, alpha=0.05, seed=run, history=0)
        detector.update(*business_days(12, 200))
        alarms += bool(detector.alarms)
    assert at_most(alarms, runs, 0.05), alarms


def test_units_are_ranked_among_units_of_their_weekday():
    """Weekends are unlike other days; with strata a weekend is compared with weekends."""
    reference = rows_of(range(120))
    profile = mk.Profile.fit(
        rows_of(range(200, 230)), reference=reference, unit="day", time="when", stratum="weekday"
    )
    assert profile.strata == tuple(sorted(profile.strata))
    assert len(profile.strata) == 7
    assert len(mk.Profile.from_bytes(profile.to_bytes()).units.strata) == 120
    detector = mk.Detector(profile)
    detector.update(rows_of(range(120)))
    assert [alarm for alarm in detector.alarms if alarm.stratum] == []
    assert "of the same weekday" in detector.report().guarantee


def test_a_stratum_that_differs_within_a_unit_is_refused():
    with pytest.raises(DriftError, match="rows of several strata"):
        mk.Profile.fit(rows_of(range(20)), unit="day", time="when", stratum="hour")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unit": "day"}, "needs time="),
        ({"unit": "when", "time": "when"}, "both name"),
        ({"unit": "day", "time": "when", "ordered": True}, "pass one of them"),
        ({"unit": "batch"}, "list of batches"),
        ({"unit": "month", "time": "when"}, "no column 'month'"),
        ({"time": "where"}, "no column 'where'"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(options, words):
    with pytest.raises(DriftError, match=words):
        mk.Profile.fit(rows_of(range(20)), **options)


def test_a_column_named_like_a_period_is_ambiguous():
    rows = rows_of(range(20)).assign(day=1.0)
    with pytest.raises(DriftError, match="may mean the column 'day'"):
        mk.Profile.fit(rows, unit="day", time="when")


def test_fewer_than_eight_units_are_refused():
    with pytest.raises(DriftError, match="has 5 days"):
        mk.Profile.fit(rows_of(range(10)), unit="day", time="when")


def test_rows_without_their_times_are_refused(profile):
    rows = later([100]).drop(columns="when")
    detector = mk.Detector(profile)
    with pytest.raises(DriftError, match="pass at="):
        detector.update(rows)
    assert detector.rows == 0
    detector.update(rows, at="2014-05-01")
    assert detector.rows == len(rows)
    with pytest.raises(DriftError, match="leave out at="):
        detector.update(later([100]), at=0)


def test_a_profile_of_units_keeps_its_bytes_and_merges(profile):
    data = profile.to_bytes()
    again = mk.Profile.from_bytes(data)
    assert again.to_bytes() == data
    assert (again.unit, again.time, again.units.found) == ("day", "when", 60)
    assert "60 days" in repr(again)
    more = mk.Profile.fit(
        rows_of(range(30)), reference=rows_of(range(90, 110)), unit="day", time="when"
    )
    both = profile.merge(more)
    assert both.units.found == len(both.units.shares) == 80
    assert both.rows == profile.rows + more.rows


def test_of_more_units_than_are_kept_a_random_part_is():
    rng = np.random.default_rng(0)
    training = {"x": rng.normal(size=500)}
    rows = {"x": rng.normal(size=5000), "lot": np.repeat(np.arange(500), 10)}
    one, same, other = (
        mk.Profile.fit(training, reference=rows, unit="lot", seed=seed) for seed in (0, 0, 1)
    )
    assert len(one.units.shares) == 400
    assert one.units.found == 500
    assert one.to_bytes() == same.to_bytes() != other.to_bytes()
    assert "a random 400 of them kept" in str(one.assumptions())


# Names.


@given(st.integers(-300_000, 2_000_000))
def test_a_day_and_a_week_contain_their_times(day):
    second = day * 86400.0 + 3600
    (part,) = of_call("day", None, np.array([second]), 1)
    assert part.key == day
    (week,) = of_call("week", None, np.array([second]), 1)
    monday = np.datetime64(unit_name("week", week.key).split()[1])
    assert monday <= np.datetime64(day, "D") < monday + 7
    assert (monday - np.datetime64("1969-12-29")).astype(int) % 7 == 0


# A Monitor, whose clock tells the day.

DAY_SECONDS = 86_400.0


class Clock:
    now = 1.5e9 // DAY_SECONDS * DAY_SECONDS + 3600 * 15.0

    def __call__(self):
        return self.now


def served_days(monitor, clock, rng, days, shift=0.0):
    """Twelve calls a day, of 80 rows each, until the next day has begun."""
    for _ in range(days):
        level = rng.normal(shift)
        for _ in range(12):
            monitor.predict(rng.normal(level, 1, (80, 1)))
            clock.now += DAY_SECONDS / 12


@pytest.fixture
def watched():
    rng = np.random.default_rng(0)
    seconds = np.arange(60 * 200) * (DAY_SECONDS / 200)
    level = np.repeat(rng.normal(size=60), 200)
    training = {"x0": rng.normal(size=1000)}
    past = {"x0": rng.normal(level), "t": seconds}
    profile = mk.Profile.fit(training, reference=past, unit="day", time="t")
    spec = mk.TensorSpec("x", "float64", ("batch", 1), columns=(mk.Column("x0", "float64"),))
    signature = mk.Signature([spec], [mk.TensorSpec("prediction", "float64", ("batch",))])
    model = mk.FunctionModel(lambda feeds: {"prediction": feeds["x"][:, 0]}, signature)
    clock = Clock()
    return mk.Monitor(model, profile, clock=clock), clock, rng


def test_a_monitor_judges_days_by_its_clock_and_leaves_out_the_one_in_which_it_began(watched):
    monitor, clock, rng = watched
    monitor.predict(rng.normal(size=(10, 1)))
    served_days(monitor, clock, rng, 20)
    report = monitor.detector.report()
    assert monitor.failures == 0, monitor.last_failure
    assert "unit not whole" in {check.name for check in report.checks}
    assert "19 days judged" in str(report.assumptions)
    assert report.alarms == ()
    served_days(monitor, clock, rng, 25, 2.5)
    assert monitor.failures == 0, monitor.last_failure
    assert [alarm.kind for alarm in monitor.detector.alarms] == ["changed", "material"]
    alarm = monitor.detector.alarms[0]
    assert alarm.unit.startswith("day 2017-0")
    assert 20 <= (alarm.time - 1.5e9) / DAY_SECONDS <= 42


def test_a_monitor_judges_a_day_that_is_over_though_no_call_comes(watched):
    monitor, clock, rng = watched
    served_days(monitor, clock, rng, 2)
    assert "1 day judged" in str(monitor.detector.report().assumptions)
    clock.now += DAY_SECONDS
    assert "2 days judged" in str(monitor.detector.report().assumptions)
    assert monitor.failures == 0, monitor.last_failure


def test_the_call_that_closes_a_day_ranks_it_by_a_part_of_the_features(monkeypatch):
    monkeypatch.setattr(unit_martingale, "RANKED_AT_ONCE", 1)  # one feature at a time
    monitor, direct, clock, columns = many_columns(6)
    rng = np.random.default_rng(1)
    for day in range(12):
        for _ in range(8):
            X = rng.normal(0.0 if day < 6 else 1.5, 1, (60, 6))
            stream = monitor._intake.watch.units.stream
            judged = stream.evidence.judged
            monitor.predict(X)
            assert stream.evidence.judged <= judged + 1
            assert not stream.waits or monitor._intake._waiting
            if day:  # the first one is not whole
                direct.update(columns(X), at=clock.now)
            clock.now += DAY_SECONDS / 8
    told = monitor.alarms
    direct.update(at=clock.now)
    whole = (
        monitor._intake.watch.units.stream.partial
    )  # rows, of the day that was not shown to both
    found = tuple(
        replace(alarm, row=alarm.row - whole, began=alarm.began - whole)
        for alarm in monitor.detector.alarms
    )
    assert found == direct.alarms != ()
    assert not stream.waits
    assert stream.evidence.judged == direct._watch.units.stream.evidence.judged == 11
    assert told == monitor.detector.alarms[: len(told)]
    assert monitor.failures == 0, monitor.last_failure


def many_columns(width):
    rng = np.random.default_rng(0)

    def columns(X):
        return {f"x{j}": X[:, j] for j in range(width)}

    seconds = np.arange(60 * 200) * (DAY_SECONDS / 200)
    past = columns(rng.normal(size=(60 * 200, width)))
    profile = mk.Profile.fit(
        columns(rng.normal(size=(1000, width))),
        reference=past | {"t": seconds},
        unit="day",
        time="t",
    )
    names = tuple(mk.Column(f"x{j}", "float64") for j in range(width))
    spec = mk.TensorSpec("x", "float64", ("batch", width), columns=names)
    signature = mk.Signature([spec], [mk.TensorSpec("prediction", "float64", ("batch",))])
    model = mk.FunctionModel(lambda feeds: {"prediction": feeds["x"][:, 0]}, signature)
    clock = Clock()
    clock.now -= clock.now % DAY_SECONDS  # a day begins
    monitor = mk.Monitor(model, profile, clock=clock)
    return monitor, mk.Detector(profile, clock=clock), clock, columns


def test_a_monitor_refuses_batches(watched):
    rng = np.random.default_rng(0)
    past = [{"x0": rng.normal(size=50)} for _ in range(10)]
    profile = mk.Profile.fit(past[0], reference=past[1:], unit="batch")
    with pytest.raises(DriftError, match="parts of a batch"):
        mk.Monitor(watched[0].inner, profile)
