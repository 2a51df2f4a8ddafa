"""Which texts run together, and how the vectors of tokens become one: decisions without a model."""

import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.embedding.chunks import RunCosts, choose_runs, fit_costs
from modelkit.embedding.tokens import WINDOW_LETTERS, WINDOW_TEXTS, windows

costs = st.builds(RunCosts, start=st.floats(0, 200), budget=st.integers(1, 600))


def limit(lengths, costs, shares):
    return min(costs.budget, -(-sum(lengths) // shares))


def padded(run, lengths):
    return len(run) * max(1, *[lengths[i] for i in run])


def price(runs, lengths, costs):
    return sum(padded(run, lengths) + costs.start for run in runs)


def partitions(items):
    """Every way to share items out."""
    if not items:
        yield []
        return
    first, *rest = items
    for shared in partitions(rest):
        yield [[first], *shared]
        for i, part in enumerate(shared):
            yield [*shared[:i], [first, *part], *shared[i + 1 :]]


@settings(max_examples=examples(300), deadline=None)
@given(lengths=st.lists(st.integers(0, 512), max_size=80), costs=costs, shares=st.integers(1, 9))
def test_every_text_runs_once_and_no_run_is_beyond_the_budget(lengths, costs, shares):
    runs = choose_runs(lengths, costs, shares)
    assert sorted(i for run in runs for i in run) == list(range(len(lengths)))
    for run in runs:
        assert len(run) == 1 or padded(run, lengths) <= limit(lengths, costs, shares)
    widths = [max(lengths[i] for i in run) for run in runs]
    assert widths == sorted(widths, reverse=True)


@settings(max_examples=examples(100), deadline=None)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=7),
    costs=costs,
    shares=st.integers(1, 4),
)
def test_no_other_way_to_share_texts_out_costs_less(lengths, costs, shares):
    most = limit(lengths, costs, shares)
    allowed = [
        runs
        for runs in partitions(list(range(len(lengths))))
        if all(len(run) == 1 or padded(run, lengths) <= most for run in runs)
    ]
    least = min(price(runs, lengths, costs) for runs in allowed)
    assert price(choose_runs(lengths, costs, shares), lengths, costs) == pytest.approx(least)


@settings(max_examples=examples(100), deadline=None)
@given(
    start=st.floats(0, 32),
    speed=st.floats(1e2, 1e7),
    knee=st.integers(0, 8),
    more=st.integers(1, 3),
)
def test_costs_are_found_from_runs_that_follow_them(start, speed, knee, more):
    sizes = [32 << i for i in range(knee + 1 + more)]
    # Beyond the knee a token costs so much more that runs are no faster, but the line through both
    # ends is the same.
    found = fit_costs([(tokens, (tokens + start) / speed) for tokens in sizes])
    assert found.start == pytest.approx(start, rel=1e-3, abs=1e-3)
    rates = {tokens: tokens / (tokens + start) for tokens in sizes}
    good = [tokens for tokens in sizes if rates[tokens] >= 0.97 * max(rates.values())]
    knee = min([tokens for tokens in good if tokens >= RunCosts().budget], default=max(good))
    assert found.budget == max(
        knee, int(16 * found.start)
    )  # so that a start is a small part of every full run


def test_of_runs_that_are_as_fast_the_usual_one_is_taken():
    """A few hundredths are chance; smaller runs leave more padding, larger ones take more memory."""
    speeds = {32: 5e3, 64: 6e3, 128: 6.8e3, 256: 6.7e3, 512: 6.9e3}
    assert fit_costs([(tokens, tokens / speed) for tokens, speed in speeds.items()]).budget == 256
    speeds |= {256: 5e3, 512: 5e3}  # where they leave the cache
    assert fit_costs([(tokens, tokens / speed) for tokens, speed in speeds.items()]).budget == 128


@settings(max_examples=examples(100), deadline=None)
@given(
    points=st.lists(st.tuples(st.integers(1, 1 << 14), st.floats(1e-7, 10)), min_size=2, max_size=9)
)
def test_whatever_was_measured_gives_costs_that_can_be_used(points):
    points = sorted(dict(points).items())
    if len(points) > 1:
        found = fit_costs(points)
        assert 0 <= found.start <= points[0][0]
        assert found.budget in {*dict(points), int(16 * found.start)}


@settings(max_examples=examples(100), deadline=None)
@given(
    sizes=st.lists(
        st.sampled_from([0, 1, 1000, WINDOW_LETTERS // 2, WINDOW_LETTERS + 1]),
        max_size=2 * WINDOW_TEXTS,
    )
)
def test_windows_share_texts_out_in_order_and_hold_at_most_one_text_too_many(sizes):
    letters = "x" * (WINDOW_LETTERS + 1)
    texts = [letters[:size] for size in sizes]
    found = [*windows(texts)]
    assert [place for rows in found for place in rows] == [*range(len(texts))]
    for rows in found:
        assert 0 < len(rows) <= WINDOW_TEXTS
        assert sum(len(texts[place]) for place in rows[:-1]) <= WINDOW_LETTERS
