"""A Detector and a Monitor of days: when one is judged, by what rows, and what its state holds."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.flights import CHANGES
from helpers.units import PARTS, Judge, batches, later, shares_of_days, units_of

import modelkit as mk
from modelkit.errors import UsageError

DAY_SECONDS = 86_400.0
ONE_COLUMN = mk.Signature(
    inputs=[mk.TensorSpec("X", "float32", ("batch", 1), columns=(mk.Column("x0", "float32"),))],
    outputs=[mk.TensorSpec("prediction", "float32", ("batch",))],
)


@pytest.fixture
def profile(of_days):
    return of_days


def test_a_day_is_judged_when_a_row_of_a_later_one_comes(profile):
    detector = mk.Detector(profile)
    rows = later(range(100, 103))
    detector.update(rows)
    assert "2 days judged, the last day 2014-01-02" in detector.report().assumptions
    assert "day 2014-01-03 is open, with" in str(detector.report().assumptions)
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
    alone = Judge(profile.units, 1, levels, np.full(6, 0.03), "ever", seed)
    for unit in shares_of_days(profile, rows, day)[:20]:
        alone.judge(unit, 0)
    own = detector._tracker.units.sequence
    assert np.array_equal(alone.sequence.lane_p("changed"), own.lane_p("changed"))
    for j in range(6):
        levels = [each.bettors["changed"].levels[j] for each in (alone.sequence, own)]
        assert levels[0] == pytest.approx(levels[1])


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


def test_a_monitor_judges_one_day_a_step_as_a_detector_does():
    monitor, direct, clock, columns = many_columns(6)
    rng = np.random.default_rng(1)
    for day in range(12):
        for _ in range(8):
            X = rng.normal(0.0 if day < 6 else 1.5, 1, (60, 6))
            stream = monitor._intake.tracker.units
            judged = stream.sequence.blocks
            monitor.predict(X)
            assert stream.sequence.blocks <= judged + 1
            assert not stream.waits or monitor._intake._waiting
            if day:  # the first one is not whole
                direct.update(columns(X), at=clock.now)
            clock.now += DAY_SECONDS / 8
    told = monitor.alarms
    direct.update(at=clock.now)
    # The rows of the day that was not shown to both.
    whole = monitor._intake.tracker.units.partial
    found = tuple(
        replace(alarm, row=alarm.row - whole, began=alarm.began - whole)
        for alarm in monitor.detector.alarms
    )
    assert found == direct.alarms != ()
    assert not stream.waits
    assert stream.sequence.blocks == direct._tracker.units.sequence.blocks == 11
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
    with pytest.raises(UsageError, match="parts of a batch"):
        mk.Monitor(watched[0].inner, profile)


def test_a_monitor_shows_all_rows_of_a_unit_however_large_a_call_is():
    """64 rows of each call would be days of another size than those of the reference."""
    rng = np.random.default_rng(0)
    times = np.repeat(np.arange(40) * DAY_SECONDS, 100)
    reference = {"x0": rng.normal(size=4000).astype(np.float32), "t": times}
    profile = mk.Profile.fit(reference, unit="day", time="t")
    model = mk.FunctionModel(lambda feeds: {"prediction": feeds["X"][:, 0]}, ONE_COLUMN)
    now = [100 * DAY_SECONDS]
    monitor = mk.Monitor(model, profile, clock=lambda: now[0])
    for day in range(101, 104):
        now[0] = day * DAY_SECONDS
        monitor.run(rng.normal(size=(700, 1)).astype(np.float32))
    now[0] = 104 * DAY_SECONDS
    stream = monitor.detector._tracker.units
    assert [unit.rows for unit in stream.trail] == [700, 700, 700]
    assert (monitor.shown, monitor.failures) == (2100, 0)


@pytest.fixture(scope="module")
def by_lot():
    rng = np.random.default_rng(1)
    return mk.Profile.fit(units_of(rng, 60, 1), reference=units_of(rng, 40, 10), unit="u")


def test_the_open_unit_goes_on_wherever_its_rows_are_in_a_call(by_lot):
    """It was judged as soon as the first row of the call was of another unit."""
    detector = mk.Detector(by_lot)
    detector.update({"x": np.zeros(5), "u": ["A"] * 5})
    detector.update({"x": np.zeros(12), "u": ["B", "A"] * 6})
    stream = detector._tracker.units
    assert (stream.trail[-1].name, stream.trail[-1].rows) == ("u A", 11)
    assert (stream.open_key, stream.open_rows, stream.late) == ("B", 6, 0)


def test_units_by_a_number_keep_all_digits(by_lot):
    """As strata have them, in float32, the seconds of a minute were one unit."""
    detector = mk.Detector(by_lot)
    seconds = np.repeat(1.7e9 + np.array([0.5, 1.5, 2.5]), 4)
    detector.update({"x": np.zeros(12), "u": seconds})
    assert [unit.rows for unit in detector._tracker.units.trail] == [4, 4]
