"""How rarely alarms of units are false and how soon they find a change, in simulation and on real days."""

import numpy as np
import pytest
from helpers.flights import CHANGES, DAYS, rows_of
from helpers.streams import at_most
from helpers.units import evidence, shares_of_days, some_units, units_of
from scipy.stats import binomtest, kstest

import modelkit as mk
from modelkit.drift.batch import permuted
from modelkit.drift.open_unit import TRAIL
from modelkit.drift.unit_ranks import RECENT_UNITS
from modelkit.drift.units import FULL_SHARE, ReferenceUnits, most_units


def p_values(runs, m, n, limit=None, strata=None):
    found = []
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        shares = some_units(rng, m + n, 1)
        own = None if strata is None else np.arange(m + n) % strata
        one = evidence(shares[:m], seed=seed, strata=None if own is None else own[:m])
        if limit is not None:
            one.bag.room = [limit] * len(one.bag.room)
        stratum = np.zeros(m + n, int) if own is None else own
        found += [one.judge(shares[i], int(stratum[i])) for i in range(m, m + n)]
    slots = np.array(found).reshape(runs, n, 3)
    return (slots + np.random.default_rng(0).random(slots.shape)) / 64


@pytest.mark.parametrize("options", [{}, {"limit": 12}, {"strata": 3}])
def test_ranks_are_uniform_and_independent(options):
    """Also where a random unit is forgotten with every new one, and where there are strata."""
    p = p_values(100, 12, 30, **options)
    for score in range(3):
        assert kstest(p[:, :, score].ravel(), "uniform").pvalue > 1e-3
    apart = np.abs(np.corrcoef(p[:, :-1, 0].ravel(), p[:, 1:, 0].ravel())[0, 1])
    assert apart < 4 / np.sqrt(100 * 29)


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
        found += [i for _ in one.crossed]
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


def test_scores_of_a_reference_are_compared_by_whole_units():
    """A fifth of them makes cells. Units that lost a fifth of their rows look like no others."""
    runs = 12
    alarms = 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        profile = mk.Profile.fit(
            units_of(rng, 60, 1, 9000),
            reference=units_of(rng, 150, 20),
            scores=rng.random(150 * 20),
            unit="u",
        )
        answered = profile.units.shares[:, 1].any(axis=1)
        assert answered.sum() == 120
        detector = mk.Detector(profile, alpha=0.05, seed=seed, history=0)
        detector.update(units_of(rng, 250, 20, 1000), rng.random(250 * 20))
        alarms += bool(detector.alarms)
    assert at_most(alarms, runs, 0.05)


def test_a_unit_is_permuted_with_units_that_have_the_same_features():
    """A fifth of the reference has no scores; a unit is none of its like."""
    runs = 400
    hits = 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        law = rng.dirichlet(np.full(16, 20.0), (20, 8))
        shares = np.rint(law * FULL_SHARE).astype(np.uint16)
        shares[:5, 1:] = 0
        reference = ReferenceUnits(shares[:19], np.zeros(19, np.int64), 19)
        p, _, least = permuted(reference, shares[19:], [0], np.ones(8, bool), alpha=0.1, seed=seed)
        assert least == pytest.approx(1 / 15)
        hits += min(p) <= 2 / 15
    assert at_most(hits, runs, 2 / 15)


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
    assert len(detector._tracker.units.sequence.recent()) == RECENT_UNITS
