"""What the check of a reference says of real days."""

from contextlib import contextmanager

from helpers.flights import rows_of

import modelkit as mk


def advice(rows, reference=None, **options):
    with hearing(mk.events.Advised) as heard:
        profile = mk.Profile.fit(rows, reference=reference, **options)
    assert [event.advice for event in heard] in ([], [profile.advice])
    assert mk.Profile.from_bytes(profile.to_bytes()).advice == profile.advice
    return profile.advice, bool(heard)


@contextmanager
def hearing(kind):
    heard = []
    stop = mk.events.subscribe(heard.append, kind)
    try:
        yield heard
    finally:
        stop()


def test_real_days_differ_and_the_check_says_so_once():
    past, rows = rows_of(range(30)), rows_of(range(30, 100))
    line, heard = advice(past, rows, time="when")
    assert line.startswith("days differ more than chance allows (dep_delay")
    assert "use unit='day'" in line
    assert heard
    line, heard = advice(past, rows, time="when", unit="day", stratum="weekday")
    assert "unit='day' fits" in line
    assert not heard
    assert "\n" not in line
