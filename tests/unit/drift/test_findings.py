"""A batch of rows is tested by itself."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from helpers.streams import column, fit_profile, mixed, rng, scored

import modelkit as mk
from modelkit.drift.findings import Compared
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.errors import UsageError


@pytest.fixture(scope="module")
def profile():
    return fit_profile()


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
    # Six features, 999 draws at least.
    least = 6 / (999 + 1)
    assert all(f.p_changed >= least for f in report.features)
    assert report.guarantee.endswith(
        "; with 999 permutations a p of 0.006 stands for 0.006 or less"
    )
    shifted = {name: values + 1 + i for i, (name, values) in enumerate(batch.items())}
    assert {f.p_changed for f in detector.test(shifted).features} == {least}
    assert DriftReport.from_json(report.to_json()) == report


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
    with pytest.raises(UsageError, match="X is empty"):
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
    fresh = {
        "x": rng(6).normal(size=m),
        "y": rng(7).normal(size=m),
        "c": rng(8).choice(["a", "b"], m),
        "z": rng(9).normal(size=m),
    }
    assert detector.test(fresh).checks == ()


@pytest.mark.parametrize("p", [0.0, 0.04, None])
def test_a_p_value_of_zero_is_one(profile, p):
    counts = profile.counts[0]
    width = len(profile.features)
    side = Compared(None, profile.features, counts, counts, changed=[p] * width)
    for drift in side.drifts():
        assert (drift.p_changed, drift.p_material) == (p, None)
        assert all(effect.low == 0 for effect in drift.effects)


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
