"""Messages say what was wrong and what to do; a Profile is not rows."""

import pytest
from helpers.streams import APART, SMALL

import modelkit as mk
from modelkit.errors import PackageError, UsageError


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda p: mk.Detector(SMALL), "a Profile, not dict; mk.Profile.fit"),
        (lambda p: mk.Detector(p.to_bytes()), "not bytes; .*Profile.from_bytes"),
        (lambda p: mk.Detector.resume(SMALL, b""), "a Profile, not dict"),
        (lambda p: mk.Detector(p).rebase(APART, "they are the new past"), "a Profile, not dict"),
    ],
)
def test_rows_in_place_of_a_profile_are_refused_with_the_way_to_one(small, act, says):
    with pytest.raises(TypeError, match=says):
        act(small)


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda p: mk.Detector.resume(p, b"abc"), "the bytes are not an npz file"),
        (lambda p: mk.Profile.from_bytes(b""), "the bytes are not an npz file"),
        (lambda p: mk.Detector(p).history.report("last week"), "since is 'last week', which is not a time"),
        (lambda p: mk.Detector(p).history.report(until=["2013"]), "until is one time; got list"),
        (lambda p: mk.Detector(p).acknowledge("x", "known"), "pass an Alarm from `alarms`"),
        (lambda p: mk.Profile.fit(SMALL, reference=APART, text="shop"), r"pass \('shop',\)"),
        (lambda p: mk.Profile.fit(SMALL, reference=APART, unit="month"), "'day', 'week' or 'batch'"),
        (lambda p: mk.Profile.fit(SMALL, reference=APART, stratum="weekday"), "where time= names the column"),
    ],
)  # fmt: skip
def test_a_message_says_what_was_wrong_and_what_to_do(small, act, says):
    with pytest.raises((PackageError, UsageError), match=says) as raised:
        act(small)
    assert "unsafe" not in str(raised.value)
    assert "column 'at'" not in str(raised.value)
