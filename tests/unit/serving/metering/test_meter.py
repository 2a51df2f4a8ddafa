"""The Meter: what it counts is exact, what it times is fair, and a call never notices."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import signal
import sys
import threading
import weakref
from contextlib import suppress

import numpy as np
import pytest
from helpers.encoders import tiny
from helpers.kinds import wine
from helpers.sums import ROW, SIGNATURE, save_wines, summed
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.errors import ClosedError, DeadlineExceeded, Overloaded, SignatureError, UsageError
from modelkit.model.model import Model
from modelkit.serving.metering import book, ledger, requests
from modelkit.serving.metering.ledger import BLOCK, BLOCKS, TURN, Place, blocks_of_turn
from modelkit.serving.metering.totals import BOUNDS_NS, DURATIONS, OUTCOMES, outcome_of, zeros
from modelkit.testing import check_model


def test_it_is_a_model_alone_and_around_others():
    check_model(mk.Meter(summed()), np.arange(10.0).reshape(5, 2))
    with mk.Batcher(summed()) as batcher:
        check_model(mk.Meter(batcher), np.arange(10.0).reshape(5, 2))


def test_a_batcher_refuses_one_inside():
    with pytest.raises(UsageError):
        mk.Batcher(mk.Meter(summed()))


def test_every_call_and_row_is_counted():
    meter = mk.Meter(summed())
    for rows in range(1000):
        meter.predict(np.ones((rows % 7, 2)))
    totals = meter.totals()
    assert totals.calls == dict.fromkeys(OUTCOMES, 0) | {"ok": 1000}
    assert totals.rows == sum(rows % 7 for rows in range(1000))
    assert totals == meter.totals()
    assert abs(sum(totals.durations) - 1000) < BLOCK
    assert totals.seconds > 0


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (SignatureError("no"), "signature"),
        (Overloaded("full"), "overloaded"),
        (DeadlineExceeded("late"), "deadline"),
        (ClosedError("closed"), "closed"),
        (ValueError("else"), "error"),
        (KeyboardInterrupt(), "cancelled"),
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "cancelled"),
    ],
)
def test_what_raises_is_counted_by_its_outcome_and_raised(error, outcome):
    assert outcome_of(error) == outcome
    meter = mk.Meter(summed(raising=error))
    with pytest.raises(type(error)):
        meter._call(ROW, ("prediction",), mk.types.Call())
    assert meter.totals().calls[outcome] == 1
    assert meter.totals().rows == 0


def test_refused_rows_are_counted_on_both_ways():
    meter = mk.Meter(summed())
    with pytest.raises(SignatureError):
        meter.predict(np.ones((1, 3)))
    with pytest.raises(SignatureError):
        asyncio.run(meter.apredict(np.ones((1, 3))))
    assert meter.totals().calls["signature"] == 2


def test_a_task_that_is_cancelled_is_counted():
    async def leave():
        with mk.Batcher(summed()) as batcher:
            meter = mk.Meter(batcher)
            task = asyncio.ensure_future(meter.apredict(ROW))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await meter.apredict(ROW)
            return meter.totals().calls

    calls = asyncio.run(leave())
    assert calls["cancelled"] == 1
    assert calls["ok"] == 1


def test_threads_lose_nothing_while_others_read():
    meter = mk.Meter(summed())
    seen = []
    done = threading.Event()

    def read():
        while not done.is_set():
            totals = meter.totals()
            seen.append((totals.calls["ok"], totals.rows))

    def call():
        for _ in range(2000):
            meter.predict(ROW)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        reader = threading.Thread(target=read)
        reader.start()
        threads = [threading.Thread(target=call) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        reader.join()
    finally:
        sys.setswitchinterval(before)
    assert meter.totals().calls["ok"] == meter.totals().rows == 32_000
    assert seen == sorted(seen)


def test_each_block_of_a_turn_has_one_timed_call_that_stands_for_all():
    assert sum(map(len, BLOCKS)) == TURN
    for block in BLOCKS:
        timed = [(at, call) for at, call in enumerate(block) if call]
        assert len(timed) == 1
        assert timed[0][1] == (len(block), len(block) - 1 - timed[0][0])
    assert len(BLOCKS[0]) == BLOCK


def place_of(monkeypatch, seed):
    """A place that draws the same at each run of the tests, but for where it begins."""
    monkeypatch.setattr(ledger, "BLOCKS", blocks_of_turn(seed))
    return Place(zeros())


def durations_of(place, took, calls):
    """The estimated number of calls by duration, of calls that take so many nanoseconds."""
    for at in range(calls):
        timed = next(place.pattern)
        if timed:
            place.add_time(took(at), timed)
    return place.slab[DURATIONS:]


@pytest.mark.parametrize("period", [1, 2, 3, 16, 17, 64])
def test_no_rhythm_of_the_caller_deceives_the_durations(monkeypatch, period):
    """One call in so many takes 3 microseconds, the others 0.7."""
    calls = 20 * TURN
    place = place_of(monkeypatch, 0)
    durations = durations_of(place, lambda at: 3000 if at % period == 0 else 700, calls)
    assert abs(sum(durations) - calls) < BLOCK
    slow = durations[BOUNDS_NS.index(5000)]
    share = 1 / period
    within = 3 * (share * (1 - share) * 16 / calls) ** 0.5 * calls
    assert abs(slow - calls * share) <= within + BLOCK


def test_calls_that_are_slow_by_turns_are_not_counted_twice(monkeypatch):
    """All of a slow spell is timed and a part of a fast one, and neither outweighs the other."""
    slow = 0
    for seed in range(20):
        place = place_of(monkeypatch, seed)
        durations = durations_of(place, lambda at: 200_000 if at // 50 % 2 else 5000, 8000)
        slow += sum(durations[BOUNDS_NS.index(50_000) :])
    assert slow == pytest.approx(20 * 4000, rel=0.03)


def test_slow_calls_are_all_timed_until_they_are_fast_again():
    place = Place(zeros())
    for took, every in ((1000, False), (1_000_000, True), (1000, False)):
        for _ in range(100):
            place.add_time(took)
        next(call for call in place.pattern if call)
        assert all(next(place.pattern) for _ in range(100)) == every


def test_the_first_calls_are_all_timed_until_they_are_known_to_be_fast():
    meter = mk.Meter(summed())
    for _ in range(10):
        meter.predict(ROW)
    assert sum(meter.totals().durations) == 10


def test_totals_add_up():
    meter = mk.Meter(summed())
    meter.predict(np.ones((3, 2)))
    with pytest.raises(SignatureError):
        meter.predict("text")
    both = meter.totals() + meter.totals()
    assert both.calls["ok"] == both.calls["signature"] == 2
    assert both.rows == 6
    assert str(both).startswith("2 calls answered, 6 rows, 2 signature")


def test_rows_on_another_axis_and_answers_without_rows():
    signature = mk.Signature(
        (mk.TensorSpec("x", "float64", ("time", "batch")),),
        (mk.TensorSpec("y", "float64", ("time", "batch")), mk.TensorSpec("loss", "float64", ())),
        primary="y",
    )

    def fn(feeds):
        return {"y": feeds["x"], "loss": np.zeros(())}

    meter = mk.Meter(mk.FunctionModel(fn, signature))
    meter.predict(np.ones((4, 3)))
    meter.run(np.ones((4, 5)))
    assert meter.totals().rows == 4 + 4 or meter.totals().rows == 3 + 5
    assert meter.totals().calls["ok"] == 2


def test_it_is_seen_through_and_pickles(tmp_path):
    X, y = wine()
    path = tmp_path / "m.mk"
    mk.save(LogisticRegression(max_iter=5000).fit(X, y), path, example=X, name="wine", version="1")
    meter = mk.Meter(mk.load(path))
    assert meter.unobserved is meter.inner
    meter.predict(X[:5])
    again = pickle.loads(pickle.dumps(meter))
    assert again.totals() == meter.totals()
    np.testing.assert_array_equal(again.predict(X), meter.predict(X))
    assert "calls answered" in repr(dict(meter._facts()))


def test_switches_at_any_place_lose_nothing_while_threads_come_and_go():
    meter = mk.Meter(summed())
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def call():
        for _ in range(50):
            meter.predict(np.ones((3, 2)))
            with suppress(SignatureError):
                meter.predict("text")

    try:
        for _ in range(10):
            threads = [threading.Thread(target=call) for _ in range(8)]
            for thread in threads:
                thread.start()
            meter.totals()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(before)
    totals = meter.totals()
    assert totals.calls["ok"] == totals.calls["signature"] == 4000
    assert totals.rows == 12_000
    assert len(meter._ledger._places) <= 9


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_an_interrupt_at_any_place_counts_a_call_at_most_once():
    meter = mk.Meter(summed())
    answered = interrupted = 0
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        while interrupted < 300:
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 * (20 + interrupted))
                while True:
                    done = meter.predict(ROW)
                    answered += 1
                    del done
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    calls = meter.totals().calls
    assert answered <= calls["ok"] <= answered + interrupted
    assert calls["ok"] + calls["cancelled"] <= answered + interrupted
    assert calls["error"] == 0


def test_a_coroutine_that_changes_its_thread_or_is_never_finished_is_counted():
    class Waits:
        def __await__(self):
            yield

    class Slow(Model):
        signature = SIGNATURE

        def _run(self, feeds, outputs, call):
            raise NotImplementedError

        async def _arun(self, feeds, outputs, call):
            await Waits()
            return {"prediction": feeds["x"].sum(axis=1)}

    meter = mk.Meter(Slow())

    def finish(coroutine):
        with pytest.raises(StopIteration):
            coroutine.send(None)

    moved = meter.apredict(ROW)
    moved.send(None)
    thread = threading.Thread(target=finish, args=(moved,))
    thread.start()
    thread.join()
    left = meter.apredict(ROW)
    left.send(None)
    left.close()
    assert meter.totals().calls == dict.fromkeys(OUTCOMES, 0) | {"ok": 1, "cancelled": 1}


def test_a_second_meter_inside_is_refused():
    for inside in (mk.Meter(summed()), mk.Wrapper(mk.Meter(summed()))):
        with pytest.raises(UsageError, match="has a Meter already"):
            mk.Meter(inside)


def test_around_a_monitor_and_a_text_encoder():
    X = np.random.default_rng(0).normal(size=(500, 2))
    monitored = mk.Monitor(summed(), mk.Profile.fit(X[::2], reference=X[1::2], model=summed()))
    meter = mk.Meter(monitored)
    meter.predict(X[:7])
    assert meter.totals().rows == 7
    assert meter.unobserved is monitored.unobserved
    texts = mk.Meter(tiny())
    texts.predict(["the river", "a model", ""])
    assert texts.totals().rows == 3
    check_model(texts, ["the river", "a model", "music"])


def test_copies_are_the_same_meter():
    meter = mk.Meter(summed())
    assert copy.deepcopy(meter) is copy.copy(meter) is meter


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Packages of one model, by version."""
    folder = save_wines(tmp_path_factory.mktemp("versions"), "wine")
    return [folder / f"{version}.mk" for version in "123456"]


def test_counts_belong_to_the_package(versions):
    X, _ = wine()
    first = mk.Meter(mk.load(versions[0]))
    before = first.totals().rows
    second = mk.Meter(mk.load(versions[0]))
    first.predict(X[:2])
    second.predict(X[:3])
    assert first.totals() == second.totals()
    assert first.totals().rows == before + 5
    assert set(book.meters("wine")) >= {first, second}
    (found,) = (one for one in book.counted("wine") if one.version == "1")
    assert found.totals == first.totals()
    assert found.digest == first.manifest.digest
    assert not found.retired


def test_the_last_three_retired_are_shown_and_go_on(versions):
    X, _ = wine()
    last = mk.Meter(mk.load(versions[5]))
    for version, path in enumerate(versions[:5], 1):
        mk.Meter(mk.load(path)).predict(X[:version])
    gc.collect()
    found = {one.version: one for one in book.counted("wine")}
    assert set(found) == set("3456")
    assert [found[version].retired for version in "3456"] == [True, True, True, False]
    assert found["5"].totals.rows == 5
    again = mk.Meter(mk.load(versions[4]))
    again.predict(X[:1])
    assert again.totals().rows == 6
    found = {one.version: one.retired for one in book.counted("wine")}
    assert found == {"3": True, "4": True, "5": False, "6": False}
    assert last.totals().rows == 0


@pytest.mark.usefixtures("own_counts")
def test_a_version_in_use_is_shown_though_its_counts_in_a_folder_were_retired_long_ago(
    versions, tmp_path
):
    pytest.importorskip("fcntl")
    X, _ = wine()
    in_use = mk.Meter(mk.load(versions[0]))
    in_use.predict(X[:2])
    for path in versions[:5]:
        mk.Meter(mk.load(path), shared=tmp_path)
    gc.collect()
    found = {one.version: one for one in book.counted("wine")}
    assert not found["1"].retired
    assert found["1"].totals.rows == in_use.totals().rows == 2
    assert [found[version].retired for version in "345"] == [True] * 3


@pytest.mark.usefixtures("own_counts")
def test_a_model_without_a_package_has_counts_of_its_own():
    gc.collect()
    first = mk.Meter(summed())
    second = mk.Meter(summed())
    first.predict(ROW)
    assert second.totals().calls["ok"] == 0
    (found,) = book.counted("FunctionModel")
    assert (found.version, found.digest, found.retired) == ("", "", False)
    assert found.totals.calls["ok"] >= 1
    before = found.totals.calls["ok"]
    del first
    gc.collect()
    (found,) = book.counted("FunctionModel")
    assert found.totals.calls["ok"] == before - 1


@pytest.mark.usefixtures("own_counts")
def test_requests_are_counted_by_route_and_status():
    before = requests.totals()
    requests.begun()
    requests.begun()
    requests.ended("/v2/models/{name}/infer", 200, 3e-5)
    found = requests.totals()
    assert found.requests["/v2/models/{name}/infer", 200] == 1
    assert found.seconds["/v2/models/{name}/infer"] == pytest.approx(3e-5)
    durations = found.durations["/v2/models/{name}/infer"]
    assert durations[BOUNDS_NS.index(50_000)] == sum(durations) == 1
    assert found.in_flight == before.in_flight + 1
    requests.ended("unmatched", 404, 2.0)
    found = requests.totals()
    assert found.in_flight == before.in_flight
    assert found.requests["unmatched", 404] == before.requests.get(("unmatched", 404), 0) + 1


def test_a_meter_with_spans_goes_when_it_is_dropped():
    """Or a model that was replaced stays in memory until the garbage collector comes by."""
    pytest.importorskip("opentelemetry")
    gc.collect()
    gc.disable()
    try:
        inner = summed()
        seen = weakref.ref(mk.Meter(inner, spans=True))
        assert seen() is None
    finally:
        gc.enable()
