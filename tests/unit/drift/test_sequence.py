"""Where and when alarms are: rows of the Detector or of what a Monitor served, and times, in strata too."""

import numpy as np
import pytest
from helpers import watched
from helpers.examples import examples
from helpers.streams import rng
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.drift.intake import ServedCall
from modelkit.drift.report import DriftReport
from modelkit.drift.sequence import MOST_PLACES, Trail

START = 1.7e9
SECOND = 60.0  # between two rows


class Ticking:
    """A clock that goes on by a minute whenever it is asked."""

    def __init__(self):
        self.now = START - SECOND

    def __call__(self):
        self.now += SECOND
        return self.now


def by_day(n, r, shift=0.0):
    return {"x": r.normal(shift, 1, n), "day": np.arange(n) % 7}


def test_an_alarm_in_a_stratum_counts_the_rows_of_the_detector():
    r = rng(1)
    profile = mk.Profile.fit(by_day(3500, r), reference=by_day(7000, r), stratum="day")
    detector = mk.Detector(profile)
    assert detector.update(by_day(7000, r), order="time") == []
    alarms = detector.update(by_day(3500, r, shift=1.0), order="time")
    assert {alarm.stratum for alarm in alarms} == {None, *(str(day) for day in range(7))}
    for alarm in alarms:
        assert 7000 < alarm.row <= 10_500
        assert abs(alarm.began - 7000) <= 1800
        assert alarm.began < alarm.row
        if alarm.stratum is not None:
            assert alarm.rows == (alarm.row - int(alarm.stratum) + 6) // 7  # of its stratum


def changed(alarms):
    return [(alarm.stratum, alarm.row) for alarm in alarms if alarm.kind == "changed"]


def test_a_change_in_all_strata_is_seen_by_their_rows_together():
    r = rng(3)
    profile = mk.Profile.fit(by_day(3500, r), reference=by_day(7000, r), stratum="day")
    live = [by_day(3500, r), by_day(7000, r, shift=0.4)]
    found = []
    for calls in (1, 10):
        detector = mk.Detector(profile)
        for part in live:
            for at in np.array_split(np.arange(len(part["x"])), calls):
                rows = {name: column[at] for name, column in part.items()}
                detector.update(rows, order="time")
                detector = mk.Detector.resume(profile, detector.state())
        found.append(changed(detector.alarms))
        (first, row), *others = sorted(found[-1], key=lambda alarm: alarm[1])
        assert first is None
        assert row - 3500 < 600
        assert len(others) == 7
        assert min(row for _, row in others) - 3500 > 700
        sides = [drift for drift in detector.report().features if drift.stratum is None]
        assert [side.p_material for side in sides] == [None]
        assert sides[0].p_changed <= detector.alarms[0].level
    assert sorted(found[0], key=str) == sorted(found[1], key=str)


def test_a_change_in_one_stratum_is_an_alarm_of_that_one():
    r = rng(4)
    profile = mk.Profile.fit(by_day(3500, r), reference=by_day(7000, r), stratum="day")
    detector = mk.Detector(profile)
    rows = by_day(14_000, r)
    rows["x"][rows["day"] == 3] += 0.6
    assert {stratum for stratum, _ in changed(detector.update(rows, order="time"))} == {"3"}


def test_rows_of_all_strata_raise_no_alarm_once_those_of_one_are_ranked_among_themselves():
    r = rng(5)
    profile = mk.Profile.fit(by_day(3500, r), reference=by_day(7000, r), stratum="day")
    detector = mk.Detector(profile)
    rows = by_day(2800, r)
    rows["x"][rows["day"] == 3] += 0.8
    (alarm,) = [alarm for alarm in detector.update(rows) if alarm.kind == "changed"]
    detector.acknowledge(alarm, "known")
    later = changed(detector.update(by_day(14_000, r, shift=0.5)))
    assert None not in {stratum for stratum, _ in later}
    assert len(later) >= 6


def test_an_alarm_of_a_monitor_counts_the_rows_that_were_served():
    signature = mk.Signature(
        inputs=[mk.TensorSpec("X", "float32", ("n", 1), columns=(mk.Column("x", "float32"),))],
        outputs=[mk.TensorSpec("prediction", "float32", ("n",))],
    )
    r = rng(2)
    model = mk.FunctionModel(lambda feeds: {"prediction": feeds["X"][:, 0]}, signature)
    profile = mk.Profile.fit({"x": r.normal(size=2000)}, reference={"x": r.normal(size=5000)})
    clock = Ticking()
    watched = mk.Monitor(model, profile, budget=1e9, clock=clock)
    for _ in range(40):  # 64 rows of each are shown
        watched.predict(r.normal(size=(500, 1)).astype(np.float32))
    changed = clock.now
    for _ in range(40):
        watched.predict(r.normal(1, 1, size=(500, 1)).astype(np.float32))
    alarm = watched.detector.alarms[0]
    assert watched.failures == 0, watched.last_failure
    assert watched.served == 40_000
    assert 20_000 < alarm.row < 24_000
    assert abs(alarm.began - 20_000) <= 1000
    assert abs(alarm.began_time - changed) <= 3 * SECOND
    assert changed < alarm.time < changed + 8 * SECOND
    assert alarm.rows < 3000  # those that were shown


@pytest.mark.parametrize("order", ["any", "time"])
def test_alarms_say_when_by_the_hosts_clock(order):
    r = rng(3)
    profile = mk.Profile.fit({"x": r.normal(size=2000)}, reference={"x": r.normal(size=5000)})
    detector = mk.Detector(profile, clock=Ticking())
    detectors = [detector]
    for _ in range(100):
        detector.update({"x": r.normal(size=20)}, order=order)
    resumed = mk.Detector.resume(profile, detector.state(), clock=Ticking())
    detectors.append(resumed)
    for each in detectors:
        each._tracker.clock.now = START + 99 * SECOND
        for _ in range(40):
            each.update({"x": rng(4).normal(1, 1, 20)}, order=order)
    assert resumed.alarms == detector.alarms != ()
    for alarm in detector.alarms:
        asked = (alarm.row - 1) // 20  # calls of 20 rows before its own
        assert alarm.time == START + asked * SECOND
        assert alarm.began_time == pytest.approx(START + alarm.began // 20 * SECOND, abs=2 * SECOND)
        assert alarm.rows == alarm.row
    report = detector.report()
    assert DriftReport.from_json(report.to_json()).alarms == report.alarms


def test_alarms_of_labels_say_when_and_count_labels():
    r = rng(5)
    losses = (r.random(3000) < 0.1).astype(float)
    profile = mk.Profile.fit(
        {"x": r.normal(size=500)}, reference={"x": r.normal(size=3000)}, losses=losses
    )
    detector = mk.Detector(profile, clock=Ticking())
    for _ in range(50):
        detector.update_labels(losses=(r.random(20) < 0.1).astype(float))
    for _ in range(50):
        detector.update_labels(losses=(r.random(20) < 0.4).astype(float))
    (alarm,) = detector.alarms
    assert 1000 < alarm.row <= 1500
    assert alarm.rows == alarm.row
    assert alarm.time == START + (alarm.row - 1) // 20 * SECOND
    assert abs(alarm.began - 1000) <= 100
    assert abs(alarm.began_time - (START + 50 * SECOND)) <= 5 * SECOND


def test_a_batch_says_how_many_rows_each_figure_rests_on():
    r = rng(6)
    profile = mk.Profile.fit({"x": r.normal(size=2000)}, reference={"x": r.normal(size=5000)})
    report = mk.Detector(profile).test({"x": r.normal(2, 1, 300)})
    assert [(alarm.row, alarm.rows, alarm.time) for alarm in report.alarms] == [(300, 300, None)]


@settings(max_examples=examples(30), deadline=None)
@given(
    st.integers(1, 1000), st.integers(1, 64), st.lists(st.floats(0, 0.999), min_size=1, max_size=9)
)
def test_places_of_blocks_are_exact_lately_and_close_before(blocks, size, parts):
    trail, uneven = Trail(), Trail()
    for block in range(blocks):
        trail.add((block + 1) * size, START + block, START + block)
        uneven.add((block + 1) ** 2, START + block, START + block)
    asked = (np.array(parts) * blocks).astype(int)
    rows, times = trail.at(asked)
    assert (rows == asked * size).all()  # of blocks of one size
    assert times == pytest.approx(START + asked)
    assert len(trail.kept) <= MOST_PLACES
    lately = np.arange(max(blocks - MOST_PLACES // 2, 0), blocks)
    assert (uneven.at(lately)[0] == lately**2).all()
    again = Trail()
    again.kept = uneven.kept
    assert np.array_equal(again.at(asked), uneven.at(asked))


CALLS = st.lists(
    st.tuples(st.sampled_from(["", "prediction"]), st.integers(1, 4)), min_size=1, max_size=12
)


@given(CALLS)
@settings(max_examples=examples(40), deadline=None)
def test_calls_that_are_read_together_are_as_each_by_itself(calls):
    """Whatever outputs they asked for, each row has the place at which it came."""
    past = mk.Profile.fit(
        watched.rows(400, 1), reference=watched.rows(400, 2), model=watched.model()
    )
    intake = mk.Monitor(watched.model(), past)._intake
    buffer = []
    for i, (name, size) in enumerate(calls):
        X = watched.rows(size, i)
        arrays = (X, X.sum(axis=1)) if name else (X,)
        buffer.append(ServedCall((name,) if name else (), arrays, size, START + i))
    together = intake._encode(buffer, 7)
    before, alone = 7, []
    for call in buffer:
        alone.append(intake._encode([call], before))
        before += call.rows
    assert np.array_equal(together.cells, np.concatenate([own.cells for own in alone]))
    assert np.array_equal(together.places, np.concatenate([own.places for own in alone]))
    assert together.places[:, 0].tolist() == list(range(8, before + 1))
