"""The steps of code show which path it takes, with every Python."""

import sys
from contextlib import ExitStack

import pytest

from modelkit.convert.estimators.code_steps import watched
from modelkit.errors import ConversionError


def twice(x):
    return other(x) if x > 0 else -x


def other(x):
    return x * 2


def steps_of(x, *functions):
    with watched({function.__code__ for function in functions}) as ran:
        twice(x)
    return {(code.co_name, place) for code, place in ran}


def test_another_path_has_other_steps_each_time():
    first, second, again = (steps_of(x, twice) for x in (1, -1, 2))
    assert first == again
    assert first - second
    assert second - first


def test_only_code_that_is_asked_for_is_watched():
    assert {name for name, _ in steps_of(1, twice)} == {"twice"}
    assert {name for name, _ in steps_of(1, twice, other)} == {"twice", "other"}
    assert steps_of(-1, other) == set()


def test_one_watch_may_run_within_another():
    with watched({other.__code__}) as outer:
        inner = steps_of(1, twice)
        other(1)
    assert inner == steps_of(1, twice)
    assert outer


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with Python 3.12")
def test_a_watch_that_finds_no_free_tool_says_who_has_them():
    with ExitStack() as taken:
        for tool in range(6):
            if sys.monitoring.get_tool(tool) is None:
                sys.monitoring.use_tool_id(tool, f"tool {tool}")
                taken.callback(sys.monitoring.free_tool_id, tool)
        with pytest.raises(ConversionError, match=r"six tools, and .*tool 5 are in use: end one"):
            steps_of(1, twice)
    assert steps_of(1, twice)
