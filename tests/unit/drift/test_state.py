"""A Monitor goes on after a restart: from its state, with nothing lost and nothing judged twice."""

import threading

import numpy as np
import pytest
from helpers.watched import WIDTH, rows

import modelkit as mk
from modelkit.drift import intake
from modelkit.drift.intake import SAMPLE_ROWS
from modelkit.drift.open_unit import MOST_MISSED
from modelkit.errors import PackageError, UsageError

DAY = 86_400
START = 1_764_547_200.0  # the first of December 2025, midnight in UTC
COLUMNS = [f"x{i}" for i in range(WIDTH)]


class Hands:
    """A clock whose time the test sets."""

    def __init__(self, now=START):
        self.now = now

    def __call__(self):
        return self.now


def model():
    signature = mk.Signature(
        inputs=[
            mk.TensorSpec(
                "X",
                "float32",
                ("batch", WIDTH),
                columns=tuple(mk.Column(name, "float32") for name in COLUMNS),
            )
        ],
        outputs=[mk.TensorSpec("prediction", "float32", ("batch",))],
    )
    return mk.FunctionModel(lambda feeds: {"prediction": feeds["X"].sum(axis=1)}, signature)


@pytest.fixture(scope="module")
def profile():
    return mk.Profile.fit(rows(2000, 1), reference=rows(4000, 2), model=model())


@pytest.fixture(scope="module")
def daily():
    days = np.repeat(np.arange(60), 100)
    times = START - 100 * DAY + days * DAY + np.tile(np.arange(100), 60) * 800.0
    past = dict(zip(COLUMNS, rows(6000, 3).T, strict=True)) | {"time": times}
    train = dict(zip(COLUMNS, rows(2000, 4).T, strict=True)) | {"time": times[:2000]}
    return mk.Profile.fit(train, reference=past, unit="day", time="time")


def served(monitor, sizes, seed, shift=0.0):
    for i, n in enumerate(sizes):
        monitor.predict(rows(n, 100 * seed + i, shift))


def test_a_monitor_goes_on_bit_for_bit(profile):
    """Small and large calls, of which 64 rows are drawn, before and after each of three restarts."""
    clock = Hands()
    options = {"budget": 1e9, "clock": clock}
    whole, parts = (mk.Monitor(model(), profile, seed=5, **options) for _ in range(2))
    for part, shift in enumerate((0.0, 0.3, 0.6)):
        for each in (whole, parts):
            served(each, [1, 7, 1000, 60, 300, 2], part, shift)
        state = parts.state()
        assert state == whole.state()
        parts = mk.Monitor.resume(model(), state, profile, **options)
        assert parts.state() == state
        assert (parts.served, parts.shown) == (whole.served, whole.shown)
        clock.now += 3600
    assert parts.served == 3 * 1370
    assert parts.detector.rows == 3 * (1 + 7 + SAMPLE_ROWS + 60 + SAMPLE_ROWS + 2)
    assert parts.failures == 0, parts.last_failure
    assert parts.detector.alarms == whole.detector.alarms != ()
    assert parts.detector.alarms[-1].row > 2 * 1370  # of all that were served


def test_history_notes_and_hooks_go_on(profile):
    clock, told = Hands(), []
    first = mk.Monitor(model(), profile, clock=clock, budget=1e9)
    served(first, [60] * 20, 1, 1.0)
    detector = first.detector
    detector.acknowledge(detector.alarms[0], "a new supplier")
    clock.now += 3 * DAY
    second = mk.Monitor.resume(
        model(), first.state(), profile, clock=clock, budget=1e9, on_alarm=told.append
    )
    served(second, [60] * 5, 2, 1.0)
    again = second.detector
    assert again.report().acknowledged == detector.report().acknowledged != ()
    spans = again.history.to_dataframe()
    assert len(spans.start.unique()) == 2  # the hours before and after
    assert again.history.report().rows == 25 * 60
    # Each is told once in a life.
    assert {alarm.feature for alarm in told}.isdisjoint(
        alarm.feature for alarm in detector.alarms if alarm.kind == "changed"
    )


def test_a_detector_opens_the_state_of_a_monitor(profile):
    watched = mk.Monitor(model(), profile, clock=Hands(), budget=1e9)
    served(watched, [60] * 20, 1, 0.5)
    opened = mk.Detector.resume(profile, watched.state(), clock=Hands())
    assert opened.alarms == watched.detector.alarms
    assert opened.state() == watched.detector.state()
    assert mk.Detector.merge(profile, [watched.state(), watched.state()]).rows == 2 * 1200


def test_what_waits_is_looked_at_before_the_state_is_taken(profile):
    told = []
    watched = mk.Monitor(model(), profile, clock=Hands(), budget=1e9, on_alarm=told.append)
    served(watched, [47] * 6, 1, 6.0)
    assert watched._intake._waiting
    assert told == []
    state = watched.state()
    assert mk.Detector.resume(profile, state).rows == 6 * 47
    assert told == list(watched.alarms) != []  # raised by the rows that waited, and told at once


def test_steps_of_few_rows_give_the_same_state(profile, monkeypatch):
    """As those of a profile with many features do."""
    states = []
    for values in (1, 1 << 20):
        monkeypatch.setattr(intake, "BET_AT_ONCE", values)
        watched = mk.Monitor(model(), profile, clock=Hands(), budget=1e9)
        served(watched, [1, 7, 60, 300] * 20, 1, 0.5)
        assert watched.detector.alarms
        states.append(watched.state())
    assert states[0] == states[1]


def test_after_a_new_reference_the_state_goes_on_with_its_profile(profile):
    later = mk.Profile.fit(rows(2000, 11, 1.0), reference=rows(4000, 12, 1.0), model=model())
    watched = mk.Monitor(model(), profile, clock=Hands(), budget=1e9)
    served(watched, [60] * 20, 1, 1.0)
    watched.detector.rebase(later, "the new rows are right")
    served(watched, [60] * 20, 2, 1.0)
    with pytest.raises(UsageError, match="after a rebase is the new one"):
        mk.Monitor.resume(model(), watched.state(), profile)
    again = mk.Monitor.resume(model(), watched.state(), later, clock=Hands())
    assert again.detector.rows == again.served == 2400
    assert again.detector.alarms == watched.detector.alarms


def test_the_profile_is_that_of_the_package(tmp_path):
    from sklearn.linear_model import LinearRegression

    X = rows(600, 1)
    fitted = LinearRegression().fit(X, X.sum(axis=1))
    past = mk.Profile.fit(X[:300], reference=X[300:])
    mk.save(fitted, tmp_path / "m.mk", example=X, name="m", version="1", profile=past)
    with mk.load(tmp_path / "m.mk") as loaded:
        watched = mk.Monitor(loaded)
        served(watched, [60] * 10, 1)
        again = mk.Monitor.resume(loaded, watched.state())
        assert again.served == again.detector.rows == 600
        with pytest.raises(UsageError, match="another profile"):
            mk.Monitor.resume(loaded, watched.state(), mk.Profile.fit(X[300:], reference=X[:300]))


def broken(state, profile, served=None):
    """A state whose own part of the Monitor lacks a number, or has another."""
    from modelkit.drift import codec
    from modelkit.drift.state import STATE_SCHEMA

    about, arrays = codec.unpack(STATE_SCHEMA, state, "state")
    about["monitor"]["served"] = served
    return codec.pack(STATE_SCHEMA, about, arrays)


def test_other_states_are_refused(profile):
    watched = mk.Monitor(model(), profile, clock=Hands())
    served(watched, [60] * 5, 1)
    state = watched.state()
    for wrong, why in (
        (b"", "not a state"),
        (state[:900], "not a state"),
        (profile.to_bytes(), "not a state"),
        (watched.detector.state(), "pass the bytes of monitor.state"),
        (broken(state, profile), "not a state of a Monitor"),
        (broken(state, profile, float("inf")), "not a state of a Monitor"),
    ):
        with pytest.raises(PackageError, match=why):
            mk.Monitor.resume(model(), wrong, profile)
    with pytest.raises(UsageError, match="budget"):
        mk.Monitor.resume(model(), state, profile, budget=-1)
    with pytest.raises(UsageError, match="lacks a profile"):
        mk.Monitor.resume(model(), state)


# Days.


def watched_days(monitor, clock, days, seed, shift=0.0):
    for day in range(days):
        for call in range(10):
            monitor.predict(rows(10, 1000 * seed + 10 * day + call, shift))
            clock.now += DAY / 10


def stream_of(monitor):
    return monitor.detector._tracker.units


@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_days_go_on_as_if_nobody_had_restarted(daily, shift):
    clock = Hands(START + 100)  # the day in which it is made is left out
    whole, parts = (mk.Monitor(model(), daily, clock=clock) for _ in range(2))
    for _ in range(3):
        for i in range(84):  # ends within a day
            X = rows(10, i, shift)
            whole.predict(X)
            parts.predict(X)
            clock.now += DAY / 10
        parts = mk.Monitor.resume(model(), parts.state(), daily, clock=clock)
    assert parts.detector.state() == whole.detector.state()
    assert parts.detector.alarms == whole.detector.alarms
    assert bool(parts.detector.alarms) == bool(shift)
    assert stream_of(parts).sequence.blocks == 24


def test_a_day_that_was_not_watched_for_long_is_not_judged(daily):
    clock = Hands()
    first = mk.Monitor(model(), daily, clock=clock)
    watched_days(first, clock, 3, 1)
    assert stream_of(first).sequence.blocks == 2  # the first one was left out
    first.predict(rows(10))  # at midnight, and of a day that is not seen to its end
    clock.now += 3600
    state = first.state()
    clock.now += 1.2 * MOST_MISSED * DAY
    late = mk.Monitor.resume(model(), state, daily, clock=clock)
    clock.now -= 0.4 * MOST_MISSED * DAY
    soon = mk.Monitor.resume(model(), state, daily, clock=clock)
    for each, judged, left_out in ((late, 3, 110 + 20), (soon, 4, 100)):
        clock.now = START + 3 * DAY + 7200
        each.predict(rows(20, 5))
        clock.now = START + 4 * DAY + 1
        watched_days(each, clock, 1, 2)
        each.predict(rows(1))
        stream = stream_of(each)
        assert stream.sequence.blocks == judged
        assert stream.partial == left_out
        assert each.detector.rows == each.served == 431
        assert int(stream.sequence.totals[0].sum()) == each.served - left_out
        assert each.failures == 0, each.last_failure


def test_a_day_that_ended_unwatched_is_not_judged_nor_the_one_that_began_so(daily):
    clock = Hands()
    first = mk.Monitor(model(), daily, clock=clock)
    watched_days(first, clock, 3, 1)
    first.predict(rows(10))
    state = first.state()
    clock.now = START + 9.5 * DAY
    again = mk.Monitor.resume(model(), state, daily, clock=clock)
    watched_days(again, clock, 2, 3)
    stream = stream_of(again)
    assert [unit.name for unit in stream.trail] == [
        "day 2025-12-02",
        "day 2025-12-03",
        "day 2025-12-11",
    ]
    assert stream.partial == 100 + 10 + 50
    clock.now = START + 3.9 * DAY  # a clock that goes back, to the day that was dropped
    again.predict(rows(7))
    assert stream_of(again).late == 7
    assert again.detector.rows == again.served


def test_a_day_that_goes_on_after_the_clock_went_back_over_midnight(daily):
    clock = Hands()
    first = mk.Monitor(model(), daily, clock=clock)
    clock.now = START + 2 * DAY + 600
    first.predict(rows(300))
    assert first.detector.rows == 300  # of the day that is open
    clock.now -= 700
    state = first.state()
    clock.now = START + 2 * DAY + 8 * 3600
    again = mk.Monitor.resume(model(), state, daily, clock=clock)
    again.predict(rows(100))
    clock.now += DAY
    again.predict(rows(1))
    stream = stream_of(again)
    assert stream.sequence.blocks == 0
    assert stream.partial == 400


@pytest.mark.parametrize(("restarts", "judged"), [(1, 1), (60, 0)])
def test_what_was_missed_by_many_restarts_adds_up(daily, restarts, judged):
    clock = Hands(START - 100)
    watched = mk.Monitor(model(), daily, clock=clock)
    clock.now = START
    for _ in range(restarts):
        watched.predict(rows(10))
        state = watched.state()
        clock.now += 0.9 * MOST_MISSED * DAY
        watched = mk.Monitor.resume(model(), state, daily, clock=clock)
    clock.now = START + DAY + 1
    watched.predict(rows(1))
    stream = stream_of(watched)
    assert stream.sequence.blocks == judged
    assert stream.partial + stream.rows == watched.served == watched.detector.rows


def test_failures_before_a_restart_are_told_without_their_words(daily):
    clock = Hands()
    first = mk.Monitor(model(), daily, clock=clock)
    clock.now = float("nan")
    for i in range(5):
        first.predict(rows(60, i))
    clock.now = START
    assert "; last UsageError: " in dict(first._facts())["monitoring failed"]
    again = mk.Monitor.resume(model(), first.state(), daily, clock=clock)
    assert dict(again._facts())["monitoring failed"] == f"{first.failures} times"


@pytest.mark.parametrize("what", ["state", "report"])
def test_rows_that_come_in_meanwhile_wait_for_no_state_or_report_and_are_in_none(
    profile, monkeypatch, what
):
    """Arrays go on changing in place, so that what is packed and reported on is a copy of them."""
    from modelkit.drift import codec, findings

    watched, alone = (mk.Monitor(model(), profile, clock=Hands(), budget=1e9) for _ in range(2))
    served(watched, [60] * 5, 1)
    served(alone, [60] * 5, 1)
    meanwhile = []

    def serving(slow):
        def run(*arguments):
            thread = threading.Thread(target=served, args=(watched, [60] * 20, 2, 3.0))
            thread.start()
            thread.join(60)
            meanwhile.append(not thread.is_alive())
            return slow(*arguments)

        return run

    def ask(monitor):
        if what == "state":
            return monitor.state()
        found = monitor.detector.report()
        return found.rows, found.features, found.checks

    expected = ask(alone)
    module, name = {"state": (codec, "pack"), "report": (findings, "all_drifts")}[what]
    monkeypatch.setattr(module, name, serving(getattr(module, name)))
    assert ask(watched) == expected
    assert meanwhile == [True]
    assert watched.served == 1500
    assert [alarm.feature for alarm in watched.detector.alarms] != []
