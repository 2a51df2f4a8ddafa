"""What attacks on the rebuilt drift part found: units that are not whole, and times that are none."""

import threading

import numpy as np
import pytest
from tests.helpers.streams import at_most

import modelkit as mk
from modelkit.drift.unit_permutation import compare_units
from modelkit.drift.units import FULL_SHARE, ReferenceUnits
from modelkit.errors import DriftError

DAY = 86_400.0
SIGNATURE = mk.Signature(
    inputs=[mk.TensorSpec("X", "float32", ("batch", 1), columns=(mk.Column("x0", "float32"),))],
    outputs=[mk.TensorSpec("prediction", "float32", ("batch",))],
)


def units_of(rng, units, rows, first=0):
    names = np.repeat(np.arange(first, first + units), rows)
    return {"x": rng.normal(size=units * rows), "u": names}


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
        found = compare_units(reference, shares[19:], [0], np.ones(8, bool), alpha=0.1, seed=seed)
        assert found.least == pytest.approx(1 / 15)
        hits += min(found.p) <= 2 / 15
    assert at_most(hits, runs, 2 / 15)


def test_a_monitor_shows_all_rows_of_a_unit_however_large_a_call_is():
    """64 rows of each call would be days of another size than those of the reference."""
    rng = np.random.default_rng(0)
    times = np.repeat(np.arange(40) * DAY, 100)
    reference = {"x0": rng.normal(size=4000).astype(np.float32), "t": times}
    profile = mk.Profile.fit(reference, unit="day", time="t")
    model = mk.FunctionModel(lambda feeds: {"prediction": feeds["X"][:, 0]}, SIGNATURE)
    now = [100 * DAY]
    monitor = mk.Monitor(model, profile, clock=lambda: now[0])
    for day in range(101, 104):
        now[0] = day * DAY
        monitor.run(rng.normal(size=(700, 1)).astype(np.float32))
    now[0] = 104 * DAY
    stream = monitor.detector._watch.units.stream
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
    stream = detector._watch.units.stream
    assert (stream.trail[-1].name, stream.trail[-1].rows) == ("u A", 11)
    assert (stream.open_key, stream.open_rows, stream.late) == ("B", 6, 0)


def test_units_by_a_number_keep_all_digits(by_lot):
    """As strata have them, in float32, the seconds of a minute were one unit."""
    detector = mk.Detector(by_lot)
    seconds = np.repeat(1.7e9 + np.array([0.5, 1.5, 2.5]), 4)
    detector.update({"x": np.zeros(12), "u": seconds})
    assert [unit.rows for unit in detector._watch.units.stream.trail] == [4, 4]


@pytest.mark.parametrize(
    "when",
    [
        np.array(["20000-01-01"], "M8[D]"),
        np.array(["300000-01-01"], "M8[D]"),
        np.array(["0001-01-01T00:00+14:00"], object),
    ],
)
def test_times_that_no_calendar_has_are_refused_before_a_row_is_taken(when):
    """The name of such a day raised an OverflowError when the unit was judged."""
    rng = np.random.default_rng(2)
    past = {"x": rng.normal(size=400), "t": np.repeat(np.arange(40) * DAY, 10)}
    detector = mk.Detector(mk.Profile.fit(past, unit="day", time="t"))
    with pytest.raises(DriftError, match="no number of seconds"):
        detector.update({"x": np.zeros(1), "t": when})
    assert detector.rows == 0


def test_all_segments_of_a_report_are_tested():
    """12 features in 3 columns drew for 20 minutes; then only the first of them were tested."""
    rng = np.random.default_rng(3)

    def rows(n, shift):
        made = {f"x{i}": rng.normal(shift, 1, n) for i in range(4)}
        return made | {f"by{i}": rng.integers(0, 20, n).astype(str) for i in range(2)}

    past = rows(1500, 0)
    profile = mk.Profile.fit(rows(500, 0), reference=past, segments=("by0", "by1"))
    detector = mk.Detector(profile, alpha=0.05)
    detector.update(rows(2500, 1.5))
    segments = detector.report().segments
    assert len({(own.feature, own.by) for own in segments}) == 8
    assert all(own.p is not None for own in segments)
    assert sum(own.p < 0.05 for own in segments) > 100


def test_a_window_for_an_embedding_is_for_all_its_numbers():
    """As `tolerance` has it; the window was refused."""
    rng = np.random.default_rng(4)
    past = rng.normal(size=(300, 4))
    profile = mk.Profile.fit({"e": past}, reference={"e": rng.normal(size=(500, 4))})
    told = []
    detector = mk.Detector(profile, clock=lambda: 1.7e9, on_alarm=told.append)
    detector.suppress("2030-01-01", "a new encoder is rolled out", features=["e"])
    detector.update({"e": rng.normal(3, 1, (2000, 4))})
    assert detector.alarms
    assert not told
    with pytest.raises(DriftError, match="no features"):
        detector.suppress("2030-01-01", "why", features=["f"])


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
        ((_, stream),) = again._watch.streams()
        assert stream.totals[0].sum() == stream.rows
        detector.rebase((first, second)[rounds % 2], "again")
        rounds += 1
    worker.join()
    assert detector.rows == 90_000
