"""Another reference may come at any time: no row, label or day is lost, and none is compared twice."""

import threading

import numpy as np
import pytest
from helpers.streams import rng, still

import modelkit as mk

SECONDS = 60  # until a thread that hangs fails a test
SIGNATURE = mk.Signature(
    inputs=[mk.TensorSpec("X", "float64", ("batch", 1), columns=(mk.Column("x", "float64"),))],
    outputs=[mk.TensorSpec("label", "int64", ("batch",))],
)


def column(n, seed, shift=0.0):
    return rng(seed).normal(shift, 1, n)


def fitted(shift=0.0):
    """A profile of one column whose labels are the signs of its values."""
    return mk.Profile.fit(
        {"x": column(600, 1, shift)},
        reference={"x": column(2000, 2, shift)},
        scores=(column(2000, 2, shift) > 0).astype(int),
        labels=(column(2000, 2, shift) > 0).astype(int),
    )


def model():
    return mk.FunctionModel(
        lambda feeds: {"label": (feeds["X"][:, 0] > 0).astype(np.int64)}, SIGNATURE
    )


# A Monitor.


@pytest.mark.parametrize("sizes", [[60] * 5, [60] * 4, [64] * 4 + [1], [3], [50] * 11])
def test_rows_that_wait_are_compared_with_the_reference_that_they_were_served_under(sizes):
    """Whether they wait in the buffer or for their steps, and though the detector is held long."""
    watched = mk.Monitor(model(), fitted(), clock=still, budget=1e9)
    direct = mk.Detector(fitted(), clock=still)
    held = watched.detector
    for part, shift in enumerate((0.2, 1.0, 1.0)):
        for i, n in enumerate(sizes):
            X = column(n, 10 * part + i, shift)
            direct.update({"x": X}, scores=watched.predict(X[:, None]))
        if part < 2:
            for each in (held, direct):
                each.rebase(fitted(shift), "it is right so")
            assert not watched._intake._waiting
            assert held.rows == direct.rows == watched.served
    assert watched.failures == 0, watched.last_failure
    assert watched.detector.alarms == direct.alarms
    assert watched.detector.state() == direct.state()


def test_alarms_of_rows_that_waited_are_told_once_and_stand_in_the_old_reference():
    told = []
    watched = mk.Monitor(model(), fitted(), clock=still, budget=1e9, on_alarm=told.append)
    held = watched.detector
    watched.predict(column(60, 3, 9.0)[:, None])
    assert told == []
    held.rebase(fitted(9.0), "moved")
    assert told == list(held.alarms) != []
    assert held.report().alarms == ()


def test_a_monitor_shows_the_alarms_of_all_references_and_the_features_of_this_one():
    watched = mk.Monitor(model(), fitted(), clock=still, budget=300)
    for i in range(40):
        watched.predict(column(64, i, 2.0)[:, None])
    held = watched.detector
    before = watched.alarms
    assert watched.alarmed == {"x", "label"}
    held.rebase(fitted(2.0), "moved for good")
    assert watched.alarms == held.alarms == before != ()
    assert watched.alarmed == frozenset()
    watched.predict(column(1000, 7, 2.0)[:, None])
    assert watched.detector._tracker.counted == watched.served == 40 * 64 + 1000
    again = mk.Monitor.resume(model(), watched.state(), fitted(2.0))
    assert again.detector._tracker.counted == 40 * 64 + 1000


def test_segments_are_of_the_rows_since_the_change_though_a_budget_left_most_out_before():
    r = rng(5)

    def taken(n, shift=0.0):
        return {"x": r.normal(shift, 1, n), "shop": r.choice(["a", "b"], n)}

    def past():
        return mk.Profile.fit(taken(2000), reference=taken(4000), segments=("shop",))

    columns = (mk.Column("x", "float64"), mk.Column("shop", "string"))
    inputs = [mk.TensorSpec(own.name, own.dtype, ("batch", 1), columns=(own,)) for own in columns]
    outputs = [mk.TensorSpec("prediction", "float64", ("batch",))]
    own = mk.FunctionModel(
        lambda feeds: {"prediction": feeds["x"][:, 0]}, mk.Signature(inputs, outputs)
    )
    watched = mk.Monitor(own, past(), clock=still, budget=1e-9)  # which shows the first 320 rows
    watched.predict(taken(10_000))
    held = watched.detector
    held.rebase(past(), "as good as before")
    watched._intake.budget._saved = watched._intake.budget._most = 1e9
    watched.predict(taken(6000))
    for _ in range(40):
        watched.predict(taken(64, 3.0))
    report = watched.detector.report()
    (first, *_) = report.alarms
    assert first.began >= 15_000
    since = sum(drift.rows for drift in report.segments if drift.feature == "x")
    assert since == 6000 + 40 * 64 - 3 * 2048  # the one generation that began after the change


def test_calls_that_come_meanwhile_are_of_one_reference_and_none_is_lost():
    """Four threads serve while another one takes one reference after the other."""
    watched = mk.Monitor(model(), fitted(), budget=1e9)
    held = watched.detector
    failed = []

    def serve(seed):
        try:
            for i in range(60):
                watched.predict(column(1 + i % 20, 100 * seed + i)[:, None])
        except Exception as error:  # for the test to show
            failed.append(error)

    threads = [threading.Thread(target=serve, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for again in range(12):
        held.rebase(fitted(), f"for the {again}th time")
    for thread in threads:
        thread.join(SECONDS)
    assert failed == []
    assert watched.failures == 0, watched.last_failure
    assert watched.detector.rows == watched.served == watched.shown == 4 * 3 * (20 * 21 // 2)
    assert sum(era.buckets.all()[0].rows for era in held._tracker.eras if era.buckets.all()) == (
        watched.served
    )  # fmt: skip


# A Detector: the order is forced by what is read, or by the lock.


class Rebasing:
    """Labels that let another thread take a new reference while they are read."""

    def __init__(self, labels, detector, profile):
        self.labels = labels
        self.detector = detector
        self.profile = profile
        self.reads = 0

    def __array__(self, dtype=None, copy=None):
        self.reads += 1
        if self.reads == 1:
            other = threading.Thread(target=self.detector.rebase, args=(self.profile, "now"))
            other.start()
            other.join(SECONDS)
        return np.array(self.labels, dtype)


def test_labels_that_are_read_during_a_rebase_go_to_the_new_reference():
    detector, later = mk.Detector(fitted(), clock=still), fitted(1.0)
    labels = Rebasing((column(500, 4, 1.0) > 0).astype(int), detector, later)
    detector.update_labels(labels)
    assert labels.reads > 1  # once by each reference
    assert detector.profile.digest == later.digest
    expected = mk.Detector(fitted(), clock=still)
    expected.rebase(later, "now")
    expected.update_labels(labels.labels)
    assert detector.state() == expected.state()


class Telling:
    """A lock that tells when a thread wants it."""

    def __init__(self, lock):
        self.lock = lock
        self.wanted = threading.Event()
        self.release = lock.release

    def acquire(self, **how):
        self.wanted.set()
        return self.lock.acquire(**how)

    def __enter__(self):
        self.acquire()

    def __exit__(self, *error):
        self.release()


def daily(seed):
    days = np.repeat(np.arange(30), 40)
    past = {"x": column(1200, seed), "t": 1e9 + days * 86_400.0}
    return mk.Profile.fit(
        past, reference=past | {"x": column(1200, seed + 1)}, unit="day", time="t"
    )


def in_turn(detector, call, rebase):
    """Let a thread come to the lock of what is known, take a new reference, and let it go on."""
    current = detector._tracker
    current.lock = telling = Telling(current.lock)
    found = []
    with telling.lock:
        thread = threading.Thread(target=lambda: found.append(call()))
        thread.start()
        assert telling.wanted.wait(SECONDS)
        rebase()
    thread.join(SECONDS)
    return found


def test_the_time_that_is_told_during_a_rebase_is_told_to_the_new_reference():
    detector, later = mk.Detector(daily(1), clock=still), daily(3)
    rows = {"x": column(40, 9), "t": np.full(40, 1.1e9)}
    detector.update(rows)

    def rebase():
        detector.rebase(later, "now")
        detector.update({"x": column(40, 8), "t": np.full(40, 1.1e9 + 86_400)})

    assert in_turn(detector, lambda: detector.update(at=1.1e9 + 2 * 86_400), rebase) == [[]]
    stream = detector._tracker.units
    assert detector.profile.digest == later.digest
    assert (stream.sequence.blocks, stream.open_rows) == (1, 0)


@pytest.mark.parametrize("verb", ["report", "state"])
def test_what_is_asked_during_a_rebase_is_answered_of_the_new_reference(verb):
    detector, later = mk.Detector(fitted(), clock=still), fitted(1.0)
    detector.update({"x": column(300, 5)}, scores=(column(300, 5) > 0).astype(int))
    (found,) = in_turn(detector, getattr(detector, verb), lambda: detector.rebase(later, "now"))
    if verb == "state":
        assert mk.Detector.resume(later, found).rows == 300
    else:
        assert found.rows == 0


# What an alarm says of its place.


def days(first, n, seed, shift=0.0):
    r = rng(seed)
    at = np.repeat(np.arange(first, first + n) * 86400.0, 50)
    return {"t": at, "x": r.normal(size=50 * n) + shift + np.repeat(r.normal(size=n) * 0.2, 50)}


def test_alarms_of_rows_labels_and_units_count_on_from_the_reference_before():
    """`row` and `began` are of all rows or labels, `rows` of those that this reference was beside."""
    detector = mk.Detector(fitted(), clock=still)
    detector.update({"x": column(1500, 3)}, scores=(column(1500, 3) > 0).astype(int))
    detector.update_labels(np.tile([0, 1], 700), np.tile([0, 1], 700))
    detector.rebase(fitted(), "because")
    detector.update({"x": column(2000, 4, 1.0)}, scores=np.ones(2000, int))
    detector.update_labels(np.ones(600, int), np.zeros(600, int))
    at = {(alarm.feature, alarm.kind): alarm for alarm in detector.alarms}
    for feature, before in (("x", 1500), ("label", 1500), ("target", 1400), ("loss", 1400)):
        kind = "performance" if feature == "loss" else "changed"
        alarm = at[feature, kind]
        assert before <= alarm.began < alarm.row <= before + 300
        assert alarm.row == before + alarm.rows
    of_units = {"unit": "day", "time": "t"}
    first, second = (
        mk.Profile.fit(days(0, 30, seed), reference=days(100, 60, seed + 1), **of_units)
        for seed in (1, 7)
    )
    detector = mk.Detector(first)
    detector.update(days(200, 30, 5))
    detector.update(days(210, 1, 5))  # late
    detector.rebase(second, "because")
    detector.update(days(231, 40, 6, shift=2.0))
    alarm = detector.alarms[0]
    assert 1550 <= alarm.began < alarm.row == 1550 + alarm.rows <= detector.rows


def test_an_alarm_of_a_day_is_of_that_day():
    """Spans of the history that are of that day alone have it."""
    profile = mk.Profile.fit(days(0, 30, 1), reference=days(100, 100, 2), unit="day", time="t")
    stream = {name: np.append(days(210, 20, 3)[name], days(230, 10, 4, 3.0)[name]) for name in "tx"}
    first = mk.Detector(profile)
    first.update(stream)
    alarm = first.alarms[0]
    day = np.datetime64(alarm.unit.removeprefix("day ")).astype("M8[s]").astype(float)
    assert day <= alarm.time < day + 86400
    assert alarm in first.history.report(since=day, until=day + 86400).alarms
    assert alarm not in first.history.report(since=day + 86400, until=day + 2 * 86400).alarms


def test_a_new_reference_and_a_state_have_whole_calls():
    """A call under way was counted for the reference that was left, and lost; states were torn."""
    rng = np.random.default_rng(5)
    first = mk.Profile.fit(rng.normal(size=(300, 2)), reference=rng.normal(size=(500, 2)))
    second = mk.Profile.fit(rng.normal(size=(300, 2)), reference=rng.normal(size=(500, 2)))
    detector = mk.Detector(first, history=0)
    calls = [rng.normal(size=(3000, 2)) for _ in range(30)]

    def work():
        for call in calls:
            detector.update(call)

    worker = threading.Thread(target=work)
    worker.start()
    rounds = 0
    while worker.is_alive():
        profile = detector.profile
        again = mk.Detector.resume(profile, detector.state())
        ((_, stream),) = again._tracker.streams()
        assert stream.totals[0].sum() == stream.members
        detector.rebase((first, second)[rounds % 2], "again")
        rounds += 1
    worker.join()
    assert detector.rows == 90_000
