"""A Monitor answers as its model does, whatever happens to the watching."""

import asyncio
import gc
import pickle
import threading

import numpy as np
import pytest
from helpers.examples import examples
from helpers.streams import still
from helpers.watched import SIGNATURE, WIDTH, model, rows
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.drift.intake import (
    BUFFER,
    MOST_BUFFERED,
    MOST_WAITING,
    SAMPLE_ROWS,
    Intake,
    RowBudget,
    ServedCall,
)
from modelkit.drift.tracker import Tracker
from modelkit.errors import ClosedError, SignatureError, UsageError
from modelkit.testing import check_model

START = 1_700_006_400.0  # 2023-11-15, midnight in UTC


@pytest.fixture(scope="module")
def profile():
    return mk.Profile.fit(rows(2000, 1), reference=rows(4000, 2), model=model())


def counted(watched):
    """How many rows the detector counted, and how many it ranked."""
    detector = watched.detector
    return sum(
        int(stream.totals[0].sum()) for _, stream in detector._tracker.streams()
    ), detector.rows


@pytest.fixture(scope="module")
def watched_mk(boosting_mk, breast_cancer, once):
    profile = mk.Profile.fit(breast_cancer[0][::2], reference=breast_cancer[0][1::2])
    return once("watched.mk", lambda path: mk.attach(boosting_mk, profile=profile, out=path))


def test_a_monitor_keeps_the_contract(watched_mk, breast_cancer, profile):
    with mk.load(watched_mk) as loaded:
        watched = mk.Monitor(loaded)
        check_model(watched, breast_cancer[0][:40])
        assert watched.failures == 0, watched.last_failure
        assert counted(watched)[0] > 0
    own = mk.Monitor(model(), profile)
    check_model(own, rows(20))
    assert own.failures == 0, own.last_failure


def test_a_monitor_of_strings_and_missing_values_keeps_the_contract(penguins_mk, penguins):
    df, _ = penguins
    with mk.load(penguins_mk) as loaded:
        watched = mk.Monitor(loaded, mk.Profile.fit(df, model=loaded))
        check_model(watched, df[:30])
        watched.predict_proba(df)
        assert watched.failures == 0, watched.last_failure
        plain = mk.Monitor(loaded, mk.Profile.fit(df))
        assert np.array_equal(plain.predict(df), loaded.predict(df))
        names = {f.feature for f in plain.detector.report().features}
        assert {"island", "sex", "year"} <= names
        assert plain.failures == 0, plain.last_failure


@settings(max_examples=examples(40))
@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=12),
    st.sampled_from(["predict", "run", "extra"]),
)
def test_answers_are_bit_equal_and_every_row_is_counted(profile, sizes, verb):
    bare, watched = model(), mk.Monitor(model(), profile)
    for i, n in enumerate(sizes):
        X = rows(n, i)
        if verb == "predict":
            assert watched.predict(X).tobytes() == bare.predict(X).tobytes()
        else:
            one, other = bare.run(X), watched.run(X)
            assert {k: v.tobytes() for k, v in one.items()} == {
                k: v.tobytes() for k, v in other.items()
            }
    assert watched.served == sum(sizes)
    seen = sum(min(n, SAMPLE_ROWS) for n in sizes)
    assert counted(watched) == (sum(sizes), seen)
    assert watched.failures == 0, watched.last_failure


def test_loaded_answers_are_bit_equal(watched_mk, breast_cancer):
    X = breast_cancer[0]
    with mk.load(watched_mk) as bare:
        watched = mk.Monitor(bare)
        for n in (1, 2, 64, 65, 300):
            assert np.array_equal(watched.predict_proba(X[:n]), bare.predict_proba(X[:n]))
            assert np.array_equal(watched.predict(X[:n]), bare.predict(X[:n]))


def test_what_is_watched_is_what_update_sees(profile):
    watched, direct = (
        mk.Monitor(model(), profile, seed=5, clock=still),
        mk.Detector(profile, seed=5, clock=still),
    )
    for i in range(30):
        X = rows(50, i, 0.4)
        direct.update(X={f"x{j}": X[:, j] for j in range(WIDTH)}, scores=watched.predict(X))
    assert watched.detector.alarms == direct.alarms != ()
    assert watched.detector.state() == direct.state()


def test_callers_may_overwrite_their_arrays(profile):
    kept, spoiled = (mk.Monitor(model(), profile, clock=still) for _ in range(2))
    for i in range(20):
        X = rows(40, i)
        kept.predict(X.copy())
        said = spoiled.predict(X)
        X[:] = 1e9
        said[:] = -1e9
    assert spoiled.detector.state() == kept.detector.state()


def test_large_calls_are_sampled_evenly_and_drift_is_found(profile):
    watched = mk.Monitor(model(), profile)
    for i in range(30):
        watched.predict(rows(5000, i, 1.0))
    assert (watched.served, counted(watched)) == (150_000, (150_000, 30 * SAMPLE_ROWS))
    report = watched.detector.report()
    assert report.skipped == 150_000 - 30 * SAMPLE_ROWS
    assert "64 of each larger call" in report.assumptions[-1]
    assert watched.detector.history.report().rows == watched.detector._tracker.counted == 150_000
    assert {alarm.feature for alarm in watched.detector.alarms} >= {"x0", "x1", "x2", "prediction"}


def test_without_a_budget_rows_are_counted_and_no_more(profile):
    watched = mk.Monitor(model(), profile, budget=0)
    for i in range(40):
        watched.predict(rows(50, i, 3.0))
    assert counted(watched) == (2000, 0)
    assert watched.shown == 0
    assert watched.detector.alarms == ()
    for budget in (-1, float("nan")):
        with pytest.raises(UsageError, match="budget"):
            mk.Monitor(model(), profile, budget=budget)


@pytest.mark.parametrize("budget", [5, 100, 2000])
def test_a_small_budget_shows_some_rows_and_never_more_than_it_allows(profile, budget):
    watched = mk.Monitor(model(), profile, budget=budget)
    watched._intake.budget._since -= 3600  # an hour in which nobody asked
    for i in range(200):
        watched.predict(rows(60, i))
    seen = counted(watched)
    assert seen[0] == 12_000
    assert 0 < watched.shown == seen[1] <= max(2 * budget, BUFFER + SAMPLE_ROWS) + 60 * budget


def test_calls_of_no_rows_take_no_memory(profile):
    watched = mk.Monitor(model(), profile)
    for _ in range(500):
        assert watched.predict(rows(0)).shape == (0,)
    assert not watched._intake._arrived
    assert counted(watched) == (0, 0)


SHARES = mk.Signature(
    inputs=SIGNATURE.inputs,
    outputs=[mk.TensorSpec("label", "int64", ("batch",)), mk.TensorSpec("probabilities", "float32", ("batch", 2))],
    primary="label",
    classes=(0, 1),
)  # fmt: skip


def test_a_budget_that_is_large_enough_shows_every_row_though_each_takes_several_steps():
    def shares(feeds):
        p = 1 / (1 + np.exp(-feeds["X"][:, 0]))
        return {"label": (p > 0.5).astype(np.int64), "probabilities": np.stack([1 - p, p], axis=1)}

    own, reference = mk.FunctionModel(shares, SHARES), rows(2000, 2)
    labels = (reference[:, 0] + rows(2000, 3)[:, 0] > 0).astype(int)
    past = mk.Profile.fit(rows(2000, 1), reference=reference, model=own, labels=labels)
    watched = mk.Monitor(own, past, budget=1e9)
    for i in range(200):
        watched.run(rows(64, i))
        assert len(watched._intake._waiting) < MOST_WAITING + 8
    report = watched.detector.report()
    assert watched.shown == report.rows == watched.served == 200 * 64
    assert (report.skipped, watched.failures) == (0, 0)


@pytest.mark.parametrize(
    ("rate", "asked", "shown"),
    [
        (0, [(1, 0), (1, 1e6)], [False, False]),
        (10, [(20, 0), (1, 0), (10, 1), (21, 9), (20, 9)], [True, False, True, False, True]),
        (1, [(320, 0), (320, 318), (320, 400), (1, 400)], [False, True, False, True]),
    ],
)
def test_what_a_budget_allows_is_a_matter_of_rows_and_seconds(rate, asked, shown):
    budget = RowBudget(rate, 320 if rate == 1 else 1, now=0.0)
    assert [budget.allows(rows, now) for rows, now in asked] == shown


def test_a_budget_goes_by_a_clock_that_is_passed_in(profile):
    tracker = Tracker(profile, alpha=0.01, tolerance=0.03, guarantee="ever", seed=0)
    seconds = [0.0]
    intake = Intake(model(), tracker, 320, monotonic=lambda: seconds[0])
    shown = []
    for now in (0.0, 0.0, 0.0, 0.5, 1.0):
        seconds[0] = now
        for _ in range(8):
            intake.take(ServedCall((), (rows(32),), 32, START))
        shown.append(intake.shown)
    assert shown == [256, 512, 512, 768, 768]


def test_one_callers_failure_loses_no_rows_of_others(profile):
    """Though they were made into cells together, and whether or not the call is a large one."""
    times = iter(range(1000))
    watched = mk.Monitor(
        model(), profile, clock=lambda: float("nan") if next(times) % 10 == 3 else START
    )
    sizes = [60, 1, 64, 300, 7] * 20
    for i, n in enumerate(sizes):
        watched.predict(rows(n, i))
    lost = sum(sizes[3::10])
    assert watched.served == watched.detector._tracker.counted == sum(sizes)
    assert counted(watched)[0] == sum(sizes) - lost
    assert watched.detector.history.report().rows == sum(sizes) - lost
    assert "UsageError" in watched.last_failure
    assert watched.failures == 2 * 10  # once for all its rows, and once for those that were drawn


def in_time(work):
    """What a thread gives that might never come to an end."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    thread.join(60)
    return found


def test_a_handler_that_interrupts_a_step_waits_for_nobody_and_loses_no_row(profile):
    """It holds the lock that its own thread took: as below a signal or a finalizer."""
    watched = mk.Monitor(model(), profile, budget=1e9)
    for i in range(3):
        watched.predict(rows(60, i))
    detector = watched.detector
    refused = []

    def interrupted():
        with watched._intake.tracker.turn():
            for i in range(400):
                watched.predict(rows(60, i))
            watched.predict(rows(10_000, 7))
            seen = (watched.served, watched.failures, watched.detector.report().rows)
            watched._repr_html_()
            for change in (
                watched.state,
                lambda: detector.update(feeds(rows(5))),
                lambda: detector.rebase(profile, "why"),
            ):
                try:
                    change()
                except UsageError as error:
                    refused.append(str(error))
            return seen

    assert in_time(interrupted) == [(180, 0, 180)]
    assert len(refused) == 3
    assert all("signal handler" in why for why in refused)
    sent = 180 + 400 * 60 + 10_000
    assert counted(watched) == (sent, 180 + 400 * 60 + SAMPLE_ROWS)
    assert (watched.served, watched.failures) == (sent, 0)


def feeds(X):
    return {f"x{i}": X[:, i] for i in range(WIDTH)}


class Telling:
    """A lock that tells when a thread is going to wait for it."""

    def __init__(self, lock):
        self.lock = lock
        self.release = lock.release
        self.wanted = threading.Event()

    def acquire(self, *, blocking=True):
        if blocking:
            self.wanted.set()
        return self.lock.acquire(blocking)


def test_calls_wait_for_no_step_of_another_thread_until_very_many_rows_wait(profile):
    watched = mk.Monitor(model(), profile, budget=1e9)
    current = watched._intake.tracker
    with current.turn():
        current.lock = telling = Telling(current.lock)

        def serve():
            for i in range(400):
                watched.predict(rows(64, i))

        thread = threading.Thread(target=serve)
        thread.start()
        assert telling.wanted.wait(60)  # so that memory is bounded
        buffered = sum(call.rows for call in watched._intake._arrived.copy())
        assert buffered == watched._intake._filled == MOST_BUFFERED
    thread.join(60)
    assert not thread.is_alive()
    assert watched._intake._filled < MOST_BUFFERED
    current.lock = telling.lock
    assert counted(watched) == (400 * 64, 400 * 64)


@pytest.mark.parametrize("where", ["count", "parts", "bet", "settle"])
def test_an_error_in_the_watching_reaches_no_caller_and_is_counted(profile, monkeypatch, where):
    from modelkit.drift.tracker import Tracker

    def fail(*arguments, **keywords):
        raise RuntimeError("<broken>")

    watched, bare = mk.Monitor(model(), profile), model()
    with monkeypatch.context() as patch:
        patch.setattr(Tracker, where, fail)
        for i in range(20):
            assert np.array_equal(watched.predict(rows(60, i)), bare.predict(rows(60, i)))
            assert np.array_equal(
                asyncio.run(watched.apredict(rows(1, i))), bare.predict(rows(1, i))
            )
        assert watched.detector is not None
        assert watched.failures > 0
        assert watched.last_failure == "RuntimeError"  # its text may quote rows
        card = watched._repr_html_()
        assert "monitoring failed" in card
        assert "broken" not in card
    failures = watched.failures
    watched.predict(rows(60))
    assert counted(watched)[0] >= 60
    assert watched.failures == failures


def test_errors_of_the_model_are_the_callers(profile):
    def fail(feeds):
        raise ZeroDivisionError("of the model")

    watched = mk.Monitor(mk.FunctionModel(fail, SIGNATURE), profile)
    with pytest.raises(ZeroDivisionError):
        watched.predict(rows(3))
    with pytest.raises(SignatureError):
        watched.predict(rows(3)[:, :2])
    assert (watched.served, watched.failures) == (0, 0)
    closed = model()
    outer = mk.Monitor(closed, profile)
    outer.close()
    assert outer.predict(rows(2)).shape == (2,)  # a wrapper does not close what it wraps
    closed.close()
    with pytest.raises(ClosedError):
        outer.predict(rows(2))


def test_eight_threads_lose_no_row(profile):
    watched, bare, failed = mk.Monitor(model(), profile), model(), []

    def work(seed):
        for i in range(60):
            X = rows(1 + (seed * 7 + i) % 40, seed * 100 + i)
            if not np.array_equal(watched.predict(X), bare.predict(X)):
                failed.append((seed, i))
            if i % 20 == 0:
                watched.detector.report()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent = sum(1 + (seed * 7 + i) % 40 for seed in range(8) for i in range(60))
    assert failed == []
    assert (watched.failures, watched.served) == (0, sent)
    assert counted(watched)[0] == sent


def test_a_monitor_around_a_batcher_watches_threads_and_tasks(profile):
    bare = model()
    with mk.Batcher(bare) as batcher:
        watched = mk.Monitor(batcher, profile)
        results = {}

        def work(seed):
            results[seed] = [watched.predict(rows(1, seed * 50 + i)) for i in range(25)]

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        async def many():
            return await asyncio.gather(*(watched.apredict(rows(1, 900 + i)) for i in range(50)))

        later = asyncio.run(many())
        assert watched.failures == 0, watched.last_failure
        assert counted(watched)[0] == watched.served == 150
    for seed, answers in results.items():
        for i, got in enumerate(answers):
            np.testing.assert_allclose(got, bare.predict(rows(1, seed * 50 + i)), rtol=1e-6)
    for i, got in enumerate(later):
        np.testing.assert_allclose(got, bare.predict(rows(1, 900 + i)), rtol=1e-6)


def test_a_batcher_around_a_monitor_is_refused(profile):
    with pytest.raises(UsageError, match="Monitor"):
        mk.Batcher(mk.Monitor(model(), profile))


def test_explanations_are_not_watched(watched_mk, breast_cancer):
    X = breast_cancer[0]
    with mk.load(watched_mk) as loaded:
        watched = mk.Monitor(loaded)
        assert watched.unobserved is loaded
        mk.Explainer(watched, background=X[:50]).explain(X[:3])
        assert watched.served == 0
        assert counted(watched) == (0, 0)
        outer = mk.Monitor(watched)
        assert outer.unobserved is loaded


@pytest.mark.parametrize("options", [{}, {"unit": "day"}, {"stratum": "hour"}])
def test_a_column_of_times_that_the_model_takes_may_say_when_rows_were(options):
    """It was refused, as a column that the profile lacks; and compared, every later row differed."""
    columns = (mk.Column("at", "datetime64[s]", nullable=True), mk.Column("x"))
    inputs = tuple(mk.TensorSpec(each.name, each.dtype, ("batch", 1), (each,)) for each in columns)
    signature = mk.Signature(inputs, (mk.TensorSpec("y", "float64", ("batch", 1)),))
    timed = mk.FunctionModel(lambda feeds: {"y": feeds["x"]}, signature)
    at = np.datetime64("2023-10-01", "s") + np.arange(0, 30 * 86_400, 360)
    past = {"at": at, "x": np.random.default_rng(0).normal(size=len(at))}
    fitted = mk.Profile.fit(past, time="at", **options)
    now = [START]
    watched = mk.Monitor(timed, fitted, clock=lambda: now[0])
    for _ in range(4):
        for part in range(0, 200, 50):
            x = past["x"][part : part + 50]
            watched.predict({"at": np.full(50, np.datetime64("NaT", "s")), "x": x})
            now[0] += 21_600  # the clock dates the rows: their own times may be missing
    assert (watched.detector.alarms, watched.failures, watched.shown) == ((), 0, 800)


def test_the_profile_is_that_of_the_package(watched_mk, boosting_mk, profile):
    with mk.load(watched_mk) as loaded:
        assert mk.Monitor(loaded, alpha=0.2).detector.alpha == 0.2
        with pytest.raises(UsageError, match="differ in the columns"):
            mk.Monitor(loaded, profile)
    with mk.load(boosting_mk) as loaded, pytest.raises(UsageError, match="lacks a profile"):
        mk.Monitor(loaded)
    with pytest.raises(UsageError, match="lacks a profile"):
        mk.Monitor(model())
    with pytest.raises(UsageError, match="alpha"):
        mk.Monitor(model(), profile, alpha=2)


def test_what_the_model_is_shows_through(watched_mk):
    with mk.load(watched_mk) as loaded:
        watched = mk.Monitor(loaded)
        assert watched.inner is watched.base is loaded
        assert watched.manifest is loaded.manifest
        assert watched.placement == loaded.placement
        assert watched.attachments == loaded.attachments
        assert watched.signature is loaded.signature
        assert watched.batchable == loaded.batchable
        assert watched.classes_.tolist() == loaded.classes_.tolist()
        watched.warmup()
        assert watched.verify() == 0.0
        assert watched.manifest.name in watched._repr_html_()


def test_a_monitor_pickles_as_a_new_one(watched_mk, breast_cancer):
    X = breast_cancer[0][:20]
    with mk.load(watched_mk) as loaded:
        watched = mk.Monitor(
            loaded, alpha=0.2, guarantee="arl", seed=3, budget=7, clock=lambda: START
        )
        watched.predict(X)
        with pickle.loads(pickle.dumps(watched)).inner as other:
            again = mk.Monitor(other)
            assert np.array_equal(again.predict(X), loaded.predict(X))
        back = pickle.loads(pickle.dumps(watched))
        assert (back.served, back.detector.alpha, back.detector.guarantee) == (0, 0.2, "arl")
        assert back.__reduce__()[0].keywords == watched.__reduce__()[0].keywords
        assert back.detector.profile.digest == watched.detector.profile.digest
        back.inner.close()


def test_monitors_are_not_kept_alive(profile):
    from modelkit._internal import process

    gc.collect()
    before = len(process._forked)
    watched = mk.Monitor(model(), profile)
    assert len(process._forked) == before + 1  # what has its lock
    del watched
    gc.collect()
    assert len(process._forked) == before


def test_the_card_escapes_names():
    hostile = "<script>alert(1)</script>"
    signature = mk.Signature(
        inputs=[
            mk.TensorSpec("X", "float32", ("batch", 1), columns=(mk.Column(hostile, "float32"),))
        ],
        outputs=[mk.TensorSpec("prediction", "float32", ("batch",))],
    )
    own = mk.FunctionModel(lambda feeds: {"prediction": feeds["X"][:, 0]}, signature)
    watched = mk.Monitor(own, mk.Profile.fit({hostile: rows(2000)[:, 0]}))
    for i in range(10):
        watched.predict(rows(60, i, 5.0)[:, :1])
    card = watched._repr_html_()
    assert watched.detector.alarms[0].feature == hostile
    assert "&lt;script&gt;" in card
    assert "<script>" not in card
    assert "600 rows served" in card


def test_calls_that_ask_for_different_outputs_are_watched_as_those_that_do_not(profile):
    """Every row is shown, whatever the calls before and after it asked for."""
    seen = {}
    for how in ("alike", "in turn"):
        watched = mk.Monitor(model(), profile, budget=1e9)
        for i, row in enumerate(rows(2048, 5, shift=0.6)):
            if how == "in turn" and i % 2:
                watched.run(row[None])
            else:
                watched.predict(row[None])
        assert counted(watched) == (2048, 2048)
        assert watched.failures == 0
        seen[how] = [
            (alarm.feature, alarm.row)
            for alarm in watched.detector.alarms
            if alarm.feature.startswith("x")
        ]
    assert seen["alike"] == seen["in turn"] != []


def test_rows_that_a_budget_leaves_out_are_reported(profile):
    watched = mk.Monitor(model(), profile, budget=1e-9)
    for start in range(0, 640, 64):
        watched.predict(rows(640, 6)[start : start + 64])
    report = watched.detector.report()
    assert report.rows + report.skipped == watched.served == 640
    assert report.skipped > 0
    assert f"compared {report.rows} of 640 rows:" in report.assumptions[-1]
