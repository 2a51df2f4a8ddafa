"""Whoever subscribed hears each event once, and what a listener does reaches nobody else."""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.records import HANDLED, SWAPPED, hearing, own, recording

from modelkit import events
from modelkit._internal.logs import write_record
from modelkit.errors import BatchError, RegistryError, SignatureError

# Listeners.


def test_a_listener_hears_the_kinds_it_asked_for_until_it_stops():
    heard = []
    stop = events.subscribe(heard.append, events.Swapped, events.Loaded)
    with hearing() as everything:
        events.emit(HANDLED)
        events.emit(SWAPPED)
        stop()
        stop()
        events.emit(SWAPPED)
    assert heard == [SWAPPED]
    assert everything == [HANDLED, SWAPPED, SWAPPED]
    events.emit(HANDLED)
    assert len(everything) == 3


def test_a_kind_is_wanted_where_it_is_heard_or_recorded():
    with recording():
        assert events.wanted(events.Loaded)
        logging.getLogger("modelkit").setLevel(logging.WARNING)
        assert not events.wanted(events.Loaded)
        assert events.wanted(events.Refusal)
    assert not events.wanted(events.Handled)
    with hearing(events.Swapped):
        assert not events.wanted(events.Handled)
        with hearing(events.Handled):
            assert events.wanted(events.Handled)
        with hearing():
            assert events.wanted(events.Handled)
    assert not events.wanted(events.Handled)


def test_listeners_may_subscribe_and_stop_while_they_are_called():
    calls = []

    def second(event):
        calls.append("second")
        stop_second()

    def first(event):
        nonlocal stop_second
        calls.append("first")
        stop_first()
        stop_second = events.subscribe(second)

    stop_second = None
    stop_first = events.subscribe(first)
    for _ in range(3):
        events.emit(HANDLED)
    assert calls == ["first", "second"]


def test_a_listener_that_raises_reaches_nobody_and_is_told_of_once(records):
    def fails(event):
        raise ValueError("a text of the application's own")

    def cancels(event):
        raise asyncio.CancelledError

    stops = [events.subscribe(fails), events.subscribe(cancels)]
    try:
        with hearing() as heard:
            for _ in range(3):
                events.emit(HANDLED)
    finally:
        for stop in stops:
            stop()
    assert heard == [HANDLED] * 3
    assert [record.levelname for record in records] == ["WARNING", "WARNING"]
    first, second = map(own, records)
    assert first["event"] == second["event"] == "listener"
    assert first["listener"].endswith("fails")
    assert (first["error"], second["error"]) == ("ValueError", "CancelledError")
    text = logging.Formatter().format(records[0])
    assert text.endswith(
        'in fails\n    raise ValueError("a text of the application\'s own")\nValueError'
    )
    assert "During handling" not in text


def test_a_long_chain_of_errors_is_copied_once_each(records):
    """Each was the cause and the context of the next: 17 of them took 20 seconds."""

    def failing(depth):
        try:
            failing(depth - 1) if depth else int("")
        except ValueError as error:
            raise ValueError(str(depth)) from error

    start = time.process_time()
    with pytest.raises(ValueError, match="18") as found:
        failing(18)
    write_record(logging.ERROR, "it failed", {}, error=found.value)
    assert time.process_time() - start < 2
    assert (
        "\n".join(logging.Formatter().format(records[0]).splitlines()).count("direct cause") == 19
    )


def test_a_traceback_shows_the_texts_of_our_own_errors_alone(records):
    """Those of others may quote rows and addresses; ours say what of them all may read."""
    first = ValueError("row 4711")
    second = BatchError("onnxruntime says: idx=4711", public="its Gather node failed")
    second.__cause__ = first
    third = RegistryError("the bucket at http://user:4711@host/b?sig=4711 cannot be asked")
    third.__context__ = second
    last = SignatureError("column 'a': '4711' in row 0 is not a number")
    last.__cause__ = third
    first.__context__ = last  # a circle
    write_record(logging.ERROR, "it failed", {}, error=last)
    text = logging.Formatter().format(records[0])
    lines = [line for line in text.splitlines() if line and not line.startswith("The above")]
    assert lines[0] == "it failed"
    assert lines[-1] == "modelkit.errors.SignatureError: rows were refused"
    assert "modelkit.errors.BatchError: its Gather node failed" in lines
    assert (
        "modelkit.errors.RegistryError: the bucket at http://...@host/b?... cannot be asked"
        in lines
    )
    assert "ValueError" in lines
    assert "4711" not in text


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_signal_that_arrives_in_a_listener_is_not_lost(kind):
    def interrupted(event):
        raise kind

    stop = events.subscribe(interrupted)
    try:
        with pytest.raises(kind):
            events.emit(HANDLED)
    finally:
        stop()


def test_what_cannot_listen_is_refused():
    async def later(event):
        pass

    for listener in (None, "print", later):
        with pytest.raises(TypeError, match="plain function of one event"):
            events.subscribe(listener)
    for kind in (HANDLED, dict, "Loaded"):
        with pytest.raises(TypeError, match="not a kind of event"):
            events.subscribe(print, kind)


def test_each_listener_of_many_threads_hears_each_event_once():
    def work(number):
        for step in range(50):
            heard = []
            stop = events.subscribe(heard.append, events.Handled)
            mine = events.Handled("/", "GET", number, step, None, "", "")
            events.emit(mine)
            stop()
            assert heard.count(mine) == 1
            size = len(heard)
            events.emit(mine)
            assert len(heard) - size <= 8  # of others that were at it when it stopped
        return True

    with hearing(events.Handled) as everything, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert len(everything) == 8 * 50 * 2
    assert len(set(everything)) == 8 * 50


def test_a_kind_of_ones_own():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Promoted(events.Event):
        log_level = logging.INFO
        name: str

        def __str__(self):
            return f"promoted {self.name}"

    with recording() as records, hearing(Promoted) as heard:
        events.emit(Promoted("m"))
    assert heard == [Promoted("m")]
    assert own(records[0]) == {"event": "promoted", "name": "m", "count": 1}
    assert records[0].getMessage() == "promoted m"
