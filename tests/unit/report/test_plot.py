"""Plots: places, round ticks, and what a picture has around its marks."""

import re
from xml.etree import ElementTree as ET

import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.report.plot import Axis, Plot, range_of, text_at

numbers = st.floats(-1e6, 1e6).filter(lambda x: abs(x) > 1e-6)


def plot(x=None, y=None, **size):
    return Plot(x or Axis(0, 1, "across"), y or Axis(0, 10, "up"), **size)


@settings(max_examples=examples(50))
@given(numbers, numbers)
def test_ticks_are_round_and_within_the_range(a, b):
    low, high = range_of([a, b])
    ticks = Axis(low, high).ticks()
    assert 2 <= len(ticks) <= 7
    for value, text in ticks:
        assert low - 1e-9 * abs(low) - 1e-9 <= value <= high + 1e-9 * abs(high) + 1e-9
        assert float(text) == pytest.approx(value, rel=1e-5, abs=1e-9 * (high - low))


def test_values_beyond_an_axis_are_at_its_end_and_an_axis_may_run_backwards():
    own = plot()
    assert (own.across(0), own.across(1)) == (50, 330)
    assert own.across(7) == own.across(1)
    assert own.down(0) > own.down(10) == own.down(11)
    down = plot(y=Axis(10, 0))
    assert down.down(0) < down.down(10)


def test_an_axis_of_one_value_is_drawn():
    assert Axis(3, 3, marks=()).share(3) == 0
    low, high = range_of([3.0])
    assert low < 3 < high
    assert range_of([0.0]) == (-1, 1)


def test_a_picture_is_xml_with_its_axes_named_and_its_marks_in_order():
    own = plot(x=Axis(0, 1, "share", [(0, "none"), (1, "all")]))
    drawn = own.picture(
        "shares",
        own.line((0, 1), (0, 10), "curve", "a line"),
        own.box((0.2, 0.4), (0, 5), "old"),
        own.dot(0.5, 5, about="a point"),
        text_at(100, 20, "above"),
        text_at(100, 20, ""),
    )
    root = ET.fromstring(drawn)  # noqa: S314 - it is our own
    assert (root.get("role"), root.get("aria-label"), root.get("class")) == (
        "img",
        "shares",
        "plot",
    )
    assert [text.text for text in root.iter("text")] == [
        "none", "all", "0", "2", "4", "6", "8", "10", "share", "up", "above",
    ]  # fmt: skip
    assert [title.text for title in root.iter("title")] == ["a line", "a point"]
    assert root.find("polyline").get("points") == "50.0,228.0 330.0,12.0"
    assert dict(root.find("rect").items())["width"] == "56.0"


def test_texts_of_ticks_stay_inside_the_picture():
    long = "2026-01-31T12:00:00"
    drawn = plot(x=Axis(0, 1, marks=[(0, long), (1, long)])).picture("times")
    places = [float(x) for x in re.findall(rf'<text x="(\d+)"[^>]*>{long}', drawn)]
    assert min(places) - 3.4 * len(long) >= 0
    assert max(places) + 3.4 * len(long) <= 340
