"""Alarms of a Detector: how soon they find a change, and when they come again."""

import pickle
from collections import Counter

import numpy as np
import pytest
from helpers.examples import some
from helpers.streams import rng

import modelkit as mk
from modelkit.drift import effects
from modelkit.drift.limits import FIRST_PART
from modelkit.drift.profile import Profile

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
@some("name", AGAIN, 3)
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
            own = [a for a in found if (a.stratum is None) == (strata == 1)]
            said = [a.kind[0].upper() if a.again else a.kind[0] for a in own]
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
    assert "has changed again since its last alarm was acknowledged" in detector.report().to_html()


def test_the_size_of_an_alarm_is_measured_when_somebody_looks_at_it():
    profile = Profile.fit({"x": rng(1).normal(size=400), "y": rng(2).normal(size=400)})
    detector = mk.Detector(profile)
    detector.update({"x": rng(3).normal(2, 1, 500), "y": rng(4).normal(size=500)})
    alarm = detector.alarms[0]
    kept = pickle.loads(pickle.dumps(alarm))
    for own in (alarm, kept):
        assert "value" not in vars(own.effect)
    again = mk.Detector.resume(profile, detector.state())  # which has the size
    counts = np.array(alarm.counts)
    expected = effects.row_effects(counts, profile.counts[0, 0], ordered=True)[0]
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


def test_an_acknowledged_alarm_may_come_again_in_its_own_stratum_alone():
    r = rng(7, 24)

    def rows(n, shift=0.0):
        s = r.choice(["a", "b"], n)
        return {"x": r.normal(np.where(s == "b", shift, 0.0)), "s": s}

    profile = Profile.fit(rows(1000), reference=rows(4000), stratum="s")
    detector = mk.Detector(profile, clock=lambda: 0.0)
    detector.update(rows(3000, 1.0))
    (alarm,) = [own for own in detector.alarms if (own.kind, own.stratum) == ("changed", "b")]
    detector.acknowledge(alarm, "a new supplier in b")
    own = dict(detector._tracker.streams())
    anew = {name: bool(stream.bag.left_out[0]) for name, stream in own.items()}
    assert anew == {"a": False, "b": True}
    assert own["b"].bettors["changed"].open.all()
    assert not detector._tracker.together.bettors["changed"].open.any()
