"""What happens after an alarm: hooks, windows, acknowledgements, another reference, own tolerances."""

import logging
import threading

import numpy as np
import pytest
from helpers.streams import rng

import modelkit as mk
from modelkit.errors import UsageError

START = 1_700_006_400.0  # 2023-11-15, midnight in UTC
HOUR = 3600.0
WIDTH = 2
SIGNATURE = mk.Signature(
    inputs=[mk.TensorSpec("X", "float32", ("batch", WIDTH),
    columns=tuple(mk.Column(f"x{i}", "float32") for i in range(WIDTH)))],
    outputs=[mk.TensorSpec("prediction", "float32", ("batch",))],
)  # fmt: skip


class Clock:
    """A clock that the test sets."""

    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now


def answer(feeds):
    return {"prediction": feeds["X"].sum(axis=1)}


def model():
    return mk.FunctionModel(answer, SIGNATURE, batchable=True)


def block(n, seed, shift=0.0):
    return rng(seed, 61).normal(shift, 1, (n, WIDTH)).astype(np.float32)


def rows(n, seed, shift=0.0):
    """Two columns, of which the first is shifted."""
    x = block(n, seed)
    return {"x0": x[:, 0] + shift, "x1": x[:, 1]}


@pytest.fixture(scope="module")
def profile():
    return mk.Profile.fit(rows(1000, 1), reference=rows(4000, 2))


@pytest.fixture(scope="module")
def model_profile():
    return mk.Profile.fit(block(1000, 1), reference=block(4000, 2), model=model())


# Hooks.


def test_the_hook_is_told_of_each_alarm_once(profile):
    told = []
    detector = mk.Detector(profile, on_alarm=told.append)
    for seed in range(3):
        detector.update(rows(500, seed, 1.0))
    assert {alarm.kind for alarm in told} == {"changed", "material"}
    assert tuple(told) == detector.alarms
    detector.report()
    detector.state()
    assert tuple(told) == detector.alarms


def test_the_hook_is_called_while_no_lock_is_held(profile):
    reports = []

    def hook(alarm):
        # Another thread asks the Detector: it would wait for ever if this one held a lock.
        other = threading.Thread(target=lambda: reports.append(detector.report()))
        other.start()
        other.join(30)
        detector.acknowledge(alarm, "seen by the hook")

    detector = mk.Detector(profile, on_alarm=hook)
    detector.update(rows(1000, 3, 1.0))
    assert len(reports) == len(detector.alarms) > 0
    assert len(detector.report().acknowledged) == len(detector.alarms)


@pytest.mark.parametrize("error", [RuntimeError("a pager is down"), KeyError("x")])
def test_an_error_of_the_hook_reaches_no_caller_and_is_logged(model_profile, error, caplog):
    def hook(alarm):
        raise error

    watched = mk.Monitor(model(), model_profile, budget=1e9, on_alarm=hook)
    plain = model()
    with caplog.at_level(logging.WARNING, logger="modelkit"):
        for seed in range(100, 160):
            X = block(40, seed, 1.5)
            assert (watched.predict(X) == plain.predict(X)).all()
        alarms = watched.detector.alarms
    assert alarms
    assert watched.failures == 0
    said = [record for record in caplog.records if "on_alarm raised" in record.getMessage()]
    assert len(said) == len(alarms)
    assert said[0].modelkit_error == type(error).__name__
    assert said[0].exc_info[0].__name__ == type(error).__name__
    assert "pager" not in caplog.text


def test_a_monitor_tells_its_hook(model_profile):
    told = []
    watched = mk.Monitor(model(), model_profile, budget=1e9, on_alarm=told.append)
    for seed in range(100, 160):
        watched.predict(block(40, seed, 1.5))
    assert tuple(told) == watched.detector.alarms
    assert told


def test_a_hook_that_cannot_be_called_is_refused(profile):
    async def later(alarm):
        """Would never be awaited."""

    for hook in (later, "print", 3):
        with pytest.raises(TypeError, match="a plain function of one alarm"):
            mk.Detector(profile, on_alarm=hook)
    with pytest.raises(TypeError, match="a function that gives seconds since 1970; got 5"):
        mk.Detector(profile, clock=5)


def test_the_value_of_a_column_that_is_the_unit_is_in_no_event(caplog):
    def customers(name, n, shift):
        own = np.array([f"{name} {i}" for i in range(n)], object).repeat(10)
        return {"x": rng(n).normal(shift, 1, 10 * n), "customer": own}

    profile = mk.Profile.fit(
        customers("train", 60, 0), reference=customers("past", 61, 0), unit="customer"
    )
    detector = mk.Detector(profile)
    heard = []
    end = mk.events.subscribe(heard.append, mk.events.Alarmed)
    with caplog.at_level(logging.WARNING, logger="modelkit"):
        detector.update(customers("secret", 62, 3))
    end()
    assert {alarm.unit[:16] for alarm in detector.alarms} == {"customer secret "}
    assert {event.unit for event in heard} == {"1 unit by 'customer'"}
    assert "with 1 unit by 'customer'" in caplog.text
    assert "secret" not in caplog.text


def test_a_hook_goes_on_after_a_pause(profile):
    told = []
    first = mk.Detector(profile, on_alarm=told.append)
    first.update(rows(40, 3, 1.0))
    again = mk.Detector.resume(profile, first.state(), on_alarm=told.append)
    again.update(rows(2000, 4, 1.0))
    assert tuple(told) == again.alarms != ()


# Acknowledgements.


def test_an_acknowledgement_is_in_the_state_and_the_report(profile):
    clock = Clock()
    detector = mk.Detector(profile, clock=clock)
    detector.update(rows(1000, 3, 1.0))
    alarm = detector.alarms[0]
    detector.acknowledge(alarm, "the <new> form asks for it")
    again = mk.Detector.resume(profile, detector.state(), clock=clock)
    assert again.state() == detector.state()
    for each in (detector, again):
        report = each.report()
        (note,) = report.acknowledged
        assert (note.alarm, note.reason, note.at) == (alarm, "the <new> form asks for it", START)
        assert "acknowledged: the <new> form asks for it" in str(report)
        page = report.to_html()
        assert "the &lt;new&gt; form asks for it" in page
        assert "<new>" not in page
        assert mk.DriftReport.from_json(report.to_json()) == report
    detector.acknowledge(alarm, "said again")
    assert [note.reason for note in detector.report().acknowledged] == ["said again"]


def test_an_alarm_whose_size_has_no_interval_is_known_after_a_restart():
    past = mk.Profile.fit(rows(400, 1), reference=rows(400, 2), losses=np.arange(400) % 10 == 0)
    detector = mk.Detector(past, alpha=0.05)
    detector.update_labels(losses=np.arange(600) % 10 == 0)
    (alarm,) = detector.update_labels(losses=np.arange(300) % 3 == 0)
    assert np.isnan(alarm.effect.low)
    detector.acknowledge(alarm, "a known fault")
    again = mk.Detector.resume(past, detector.state())
    assert again.alarms == (alarm,)
    assert {*again.alarms} == {alarm}
    assert [note.reason for note in again.report().acknowledged] == ["a known fault"]
    again.acknowledge(alarm, "mended")  # by whoever kept it


def test_only_alarms_of_the_detector_are_acknowledged_and_with_a_reason(profile):
    detector = mk.Detector(profile)
    detector.update(rows(1000, 3, 1.0))
    other = mk.Detector(profile, alpha=0.02)
    other.update(rows(1000, 3, 1.0))
    with pytest.raises(UsageError, match="did not raise the alarm"):
        detector.acknowledge(other.alarms[0], "whose is it")
    with pytest.raises(UsageError, match="pass a reason"):
        detector.acknowledge(detector.alarms[0], "")


def test_acknowledgements_of_workers_unite(profile):
    workers = [mk.Detector(profile, seed=seed, clock=Clock()) for seed in (1, 2)]
    for seed, worker in enumerate(workers):
        worker.update(rows(1000, seed, 1.0))
        worker.acknowledge(worker.alarms[0], f"of worker {seed}")
    merged = mk.Detector.merge(profile, [worker.state() for worker in workers])
    assert [note.reason for note in merged.acknowledged] == ["of worker 0", "of worker 1"]


# Another reference.


def test_a_new_reference_begins_anew_and_keeps_what_was(profile):
    clock = Clock()
    told = []
    detector = mk.Detector(profile, clock=clock, on_alarm=told.append)
    detector.update(rows(1000, 3, 1.0))
    before = detector.alarms
    detector.acknowledge(before[0], "new customers")
    moved = mk.Profile.fit(rows(1000, 4, 1.0), reference=rows(4000, 5, 1.0))
    detector.rebase(moved, "new customers")
    detector.update(rows(2000, 6, 1.0))
    assert detector.alarms == before
    assert detector.rows == 3000
    report = detector.report()
    assert report.alarms == ()
    assert report.rows == 2000
    assert report.acknowledged == ()
    said = [text for text in report.assumptions if "an alpha of its own" in text]
    assert len(said) == 1
    assert said[0].startswith("the reference was changed once, last at 2023-11-15 00:00 UTC (new")
    assert said[0].endswith("each reference has an alpha of its own, together 0.02 so far")
    detector.update(rows(2000, 7, -1.0))
    new = detector.alarms[len(before) :]
    assert {alarm.kind for alarm in new} == {"changed", "material"}
    assert tuple(told) == detector.alarms
    again = mk.Detector.resume(moved, detector.state(), clock=clock)
    assert again.state() == detector.state()
    assert again.alarms == detector.alarms
    assert again.rows == 5000


def test_the_sum_of_alphas_may_stay_below_a_bound(profile):
    detector = mk.Detector(profile, alpha=0.01 / 2)
    for k in range(1, 5):
        detector.rebase(profile, f"number {k}", alpha=0.01 / 2 ** (k + 1))
    assert detector.alpha == 0.01 / 32
    assert "together 0.00969 so far" in " ".join(detector.report().assumptions)


def test_a_reference_of_other_columns_is_refused(profile):
    detector = mk.Detector(profile)
    other = mk.Profile.fit({"x0": rows(200, 1)["x0"]}, reference={"x0": rows(200, 2)["x0"]})
    with pytest.raises(UsageError, match=r"it lacks \['x1'\]"):
        detector.rebase(other, "smaller")
    with pytest.raises(UsageError, match="pass a reason"):
        detector.rebase(profile, "")
    with pytest.raises(UsageError, match="alpha is between 0 and 1"):
        detector.rebase(profile, "why not", alpha=2)
    with pytest.raises(UsageError, match="alpha is at least 1e-09; got 5e-324"):
        detector.rebase(profile, "why not", alpha=5e-324)
    assert detector.profile is profile
    detector.update(rows(10, 3))
    assert detector.rows == 10


def test_a_monitor_goes_on_with_another_reference(model_profile):
    told = []
    watched = mk.Monitor(model(), model_profile, budget=1e9, on_alarm=told.append)
    for seed in range(100, 130):
        watched.predict(block(40, seed, 1.5))
    assert watched.detector.alarms
    moved = mk.Profile.fit(block(1000, 8, 1.5), reference=block(4000, 9, 1.5), model=model())
    watched.detector.rebase(moved, "as the business wants it")
    known = len(told)
    for seed in range(200, 230):
        watched.predict(block(40, seed, 1.5))
    assert watched.detector.report().alarms == ()
    assert watched.profile is moved
    for seed in range(300, 330):
        watched.predict(block(40, seed, -1.5))
    assert len(told) > known
    assert watched.failures == 0
    assert watched.detector.rows == 90 * 40


# Tolerances.


def test_a_feature_may_have_a_tolerance_of_its_own(profile):
    shifted = rows(20_000, 3, 0.3)
    both = {"x0": shifted["x0"], "x1": shifted["x1"] + 0.3}
    detector = mk.Detector(profile, tolerance={"x0": 0.3})
    detector.update(both)
    material = {alarm.feature for alarm in detector.alarms if alarm.kind == "material"}
    assert material == {"x1"}
    again = mk.Detector.resume(profile, detector.state())
    assert again.tolerance == {"x0": 0.3}
    assert again.state() == detector.state()


def test_a_tolerance_of_an_embedding_is_for_all_its_numbers():
    vectors = {"e": rng(1, 63).normal(size=(400, 8))}
    profile = mk.Profile.fit(vectors, reference={"e": rng(2, 63).normal(size=(400, 8))})
    detector = mk.Detector(profile, tolerance={"e": 0.99})
    detector.update({"e": rng(3, 63).normal(1, 1, (4000, 8))})
    kinds = {alarm.kind for alarm in detector.alarms}
    assert kinds == {"changed"}


@pytest.mark.parametrize(
    ("tolerance", "says"),
    [
        ({"y": 0.1}, r"tolerance names \['y'\]"),
        ({"target": 0.1}, r"tolerance names \['target'\]"),
        ({"x0": 1.5}, "got 1.5"),
        (-0.1, "got -0.1"),
        (1.0, "got 1.0"),
    ],
)
def test_tolerances_that_make_no_sense_are_refused(profile, tolerance, says):
    with pytest.raises(UsageError, match=says):
        mk.Detector(profile, tolerance=tolerance)


def test_a_status_page_shows_the_last_alarms_with_dates_and_what_was_said_of_them(model_profile):
    from modelkit.web.about import status_page

    clock = Clock()
    watched = mk.Monitor(model(), model_profile, clock=clock, budget=1e9)
    for i in range(72):
        watched.predict(block(40, i, 1.2 * (i >= 24)))
        clock.now += HOUR
    alarms = watched.detector.alarms
    assert len(alarms) == 6  # one more than is shown
    watched.detector.acknowledge(alarms[-1], "a <new> scale")
    page = status_page({"m": mk.Meter(watched)}, ready=True).body.decode()
    assert "from 2023-11-15 00:00 to 2023-11-18 00:00 UTC" in page
    assert page.count("The change began at about 2023-11-1") == 5
    latest = f"{alarms[-1].feature} differs from the reference by more than the tolerance"
    assert page.index(latest) < page.index(f"{alarms[1].feature} is no longer like the reference")
    assert page.count("the alarm came at 2023-11-16 ") == 5
    assert "Acknowledged: a &lt;new&gt; scale" in page
    assert f"{alarms[0].feature} is no longer" not in page
    assert ">alarms before<" in page
