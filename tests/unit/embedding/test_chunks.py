"""Which texts run together, and how the vectors of tokens become one: decisions without a model."""

import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.embedding.chunks import ALONE, RunCosts, choose_runs
from modelkit.embedding.tokens import WINDOW_LETTERS, WINDOW_TEXTS, windows

costs = st.builds(RunCosts, start=st.floats(0, 200), budget=st.integers(1, 600))


def limit(lengths, costs, shares):
    return min(costs.budget, -(-sum(lengths) // shares))


def padded(run, lengths):
    return len(run) * max(lengths[i] for i in run)


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
    assert sorted(i for run in runs for i in run) == [i for i, size in enumerate(lengths) if size]
    for run in runs:
        assert len(run) == 1 or padded(run, lengths) <= limit(lengths, costs, shares)
    widths = [max(lengths[i] for i in run) for run in runs]
    assert widths == sorted(widths, reverse=True)


@given(lengths=st.lists(st.integers(0, 512), max_size=80), shares=st.integers(1, 9))
def test_texts_that_run_alone_do(lengths, shares):
    assert all(len(run) == 1 for run in choose_runs(lengths, ALONE, shares))


@settings(max_examples=examples(100), deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=7),
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
