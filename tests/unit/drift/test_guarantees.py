"""What the proofs in docs/explanation/drift_proofs.md need of the code, where a plausible shortcut would break one."""

import warnings

import numpy as np
import pytest

import modelkit as mk
from modelkit.drift import limits
from modelkit.drift.columns import fifth
from modelkit.stats.evidence import Evidence

UNEVEN = np.array([4, 900, 30, 0, 50, 1, 15])


def test_what_is_bounded_does_not_depend_on_the_rows_that_bound_it():
    even = np.full(7, 1 / 7)
    for one, other in zip(
        limits.scores(UNEVEN / UNEVEN.sum())[0], limits.scores(even)[0], strict=True
    ):
        assert np.ptp(one - other) < 1e-12  # they differ by the centre alone


def test_the_error_of_the_reference_is_within_its_share_of_alpha():
    """Of a law with one rare group, the mean of any score is beyond its band in at most delta of all references."""
    law = np.array([0.02, 0.4, 0.3, 0.18, 0.1])
    rng, runs, delta = np.random.default_rng(5), 2000, 0.2
    wrong = 0
    for counts in rng.multinomial(120, law, runs):
        table, _ = limits.scores(counts / counts.sum())
        wrong += bool((table @ law > limits.band(counts, 0, delta)).any())
    assert 0 < wrong / runs <= delta * (1 + 6 / (6 + 2 * 4))


def test_rows_within_the_tolerance_are_no_material_change():
    """One score at its limit: where each payment gains nothing on average, so does the wealth."""
    counts = np.array([300, 500, 900, 300])
    limit = limits.band(counts, 0.05, 0.01)
    pays, _ = limits.band_bets(counts, limit)
    table, _ = limits.scores(counts / counts.sum())
    rng = np.random.default_rng(0)
    for law in rng.dirichlet(np.ones(4), 400):
        within = table @ law <= limit
        gains = (law @ np.exp(pays)).reshape(len(table), -1)
        assert (gains[within] <= 1 + 1e-12).all()
        assert (gains[~within] > 1 - 1e-12).any(axis=1).all()


def test_the_scale_of_errors_comes_from_other_rows_than_their_mean():
    rows = {"x": np.arange(1000.0)}
    labels = np.ones(1000)
    labels[fifth(1000, ordered=False, seed=0)[0]] = 3.0
    train = {"x": np.arange(1000.0) + 0.5}
    profile = mk.Profile.fit(train, reference=rows, scores=np.zeros(1000), labels=labels)
    assert (profile.baseline.scale, profile.baseline.n) == (6.0, 800)
    assert profile.baseline.total == pytest.approx(800 / 6)


@pytest.fixture(scope="module")
def two_workers():
    rng = np.random.default_rng(2)
    profile = mk.Profile.fit({"x": rng.normal(size=5000)}, reference={"x": rng.normal(size=20_000)})

    def of(shift, guarantee="ever"):
        detector = mk.Detector(profile, guarantee=guarantee)
        detector.update({"x": np.random.default_rng(3).normal(shift, size=20_000)})
        return detector

    return profile, of


def test_workers_raise_an_alarm_by_the_mean_of_their_evidence(two_workers):
    profile, of = two_workers
    moved, calm = of(0.5), of(0.0)
    report = mk.Detector.merge(profile, [moved.state(), calm.state()])
    wealth = np.mean([d._tracker.streams()[0][1].material_wealth()[0] for d in (moved, calm)])
    assert [alarm.kind for alarm in report.alarms] == ["material"]
    assert report.alarms[0].p == report.features[0].p_material == pytest.approx(1 / wealth)


def test_an_alarm_of_one_worker_alone_is_none_of_all(two_workers):
    """Each of many workers has its own alpha; together they would have that of all."""
    profile, of = two_workers
    slight = of(0.5)
    assert any(alarm.kind == "material" for alarm in slight.alarms)
    stream = slight._tracker.streams()[0][1]
    stream.bettors["material"].won[:] = 0
    stream.bettors["material"].evidence.value[:] = 1.5 / slight.alpha / (1 / 3) / (2 / 3)
    assert stream.bettors["material"].enough(stream.bettors["material"].evidence.value).all()
    report = mk.Detector.merge(profile, [slight.state(), of(0.0).state()])
    assert not report.alarms


def test_merged_evidence_of_recurring_alarms_is_measured_by_the_rows(two_workers):
    """Under no change the wealth of "arl" grows by a unit a row: it is no p-value by itself."""
    profile, of = two_workers
    calm = of(0.0, "arl")
    report = mk.Detector.merge(profile, [calm.state(), calm.state()])
    wealth = calm._tracker.streams()[0][1].bettors["material"].evidence.value[0]
    assert wealth > 100
    assert report.features[0].p_material == pytest.approx(min(1, 20_000 / wealth))
    assert not report.alarms


def test_wealth_beyond_counting_makes_no_noise():
    rng = np.random.default_rng(0)
    profile = mk.Profile.fit(
        {"x": rng.normal(size=5000)}, reference={"x": rng.normal(size=200_000)}
    )
    detector = mk.Detector(profile, tolerance=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector.update({"x": np.full(4000, -9.0)})
    assert {alarm.kind for alarm in detector.alarms} == {"changed", "material"}


def test_stakes_never_pass_one():
    evidence = Evidence(1, np.array([1.0]))
    for _ in range(20_000):
        evidence.step(np.zeros((1, 1)), np.ones((1, 1)), np.array([32]))
    assert evidence.spent < 1
    assert evidence.value[0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("fitted", "served"),
    [(np.int64, np.float32), (np.float64, object), (bool, np.float64), (np.str_, object)],
)
def test_a_stratum_has_one_name_whatever_type_its_number_comes_in(fitted, served):
    hour = np.arange(400) % 2
    rows = {"x": np.linspace(0, 1, 400), "hour": hour.astype(fitted)}
    train = rows | {"x": np.linspace(0, 1, 400) + 0.001}
    detector = mk.Detector(mk.Profile.fit(train, reference=rows, stratum="hour"))
    later = hour.astype(fitted).astype(object if fitted is np.str_ else served)
    detector.update({"x": rows["x"], "hour": later})
    assert detector._tracker.strangers == 0
    assert detector.profile.strata == ("0", "1")
