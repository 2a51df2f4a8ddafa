"""The steps of code show which path it takes, with every Python."""

from modelkit.convert.estimators.code_steps import watched


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
