"""The decisions of a Batcher: pure functions, with the clock passed in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.serving.batching.planner import Planner
from modelkit.serving.batching.policy import (
    BATCH,
    DIRECT,
    EVERYTHING,
    HANDOFF,
    KNEE,
    LONGEST_AT_ONCE,
    LOOP,
    PARALLEL,
    learn_curve,
    make_plan,
    off_loops,
    opens,
    seconds_of,
    share,
    stable_size,
    straighten,
)

SIZES = tuple(2**i for i in range(11))


def straight(fixed, row, sizes=SIZES):
    return tuple((size, fixed + row * size) for size in sizes)


curves = st.builds(
    straight,
    st.floats(1e-6, 1e-1),
    st.floats(1e-8, 1e-2),
    st.integers(1, 11).map(lambda n: SIZES[:n]),
)
plans = st.builds(make_plan, curves, st.integers(1, 8), st.integers(1, 2048))


def test_a_model_cheaper_than_a_wake_up_runs_at_once():
    assert make_plan(straight(5e-6, 1e-7), 2, 1024).mode == PARALLEL


def test_a_model_whose_rows_are_no_cheaper_in_company_runs_one_by_one():
    plan = make_plan(straight(0, 5e-3), 2, 1024)
    assert (plan.mode, plan.cap, plan.enough) == (DIRECT, 1, 1)


def test_a_model_whose_rows_are_cheaper_in_company_is_batched():
    plan = make_plan(straight(1e-3, 1e-6), 2, 1024)
    assert (plan.mode, plan.cap) == (BATCH, 1024)


def test_without_measurements_batches_are_as_large_as_they_come_and_loops_are_spared():
    plan = make_plan((), 2, 100)
    assert (plan.mode, plan.cap, plan.loop_rows) == (BATCH, 100, 0)
    assert "nothing was measured" in plan.why


@given(plans)
def test_a_plan_keeps_its_bounds(plan):
    assert 1 <= plan.enough <= plan.cap <= plan.piece
    assert 0 <= plan.loop_batch <= min(plan.loop_rows, plan.cap)
    if plan.loop_batch:
        assert seconds_of(plan.curve, plan.loop_batch) <= LOOP
    assert plan.loop_rows in {EVERYTHING, plan.loop_batch}
    assert str(plan.cap).replace(",", "") in str(plan).replace(",", "")


@given(curves, st.integers(1, 8))
def test_the_largest_batch_gives_nearly_the_best_throughput(curve, slots):
    plan = make_plan(curve, slots, 2048)
    best = max(size / seconds for size, seconds in curve)
    assert plan.cap / seconds_of(curve, plan.cap) >= KNEE * best


@given(curves, st.integers(1, 8))
def test_threads_run_at_once_only_where_gathering_would_not_be_faster(curve, slots):
    plan = make_plan(curve, slots, 2048)
    if plan.mode == PARALLEL:
        gathered = 1 / (HANDOFF + seconds_of(curve, plan.cap) / plan.cap / slots)
        assert slots / seconds_of(curve, 1) >= gathered * (1 - 1e-9)
        assert seconds_of(curve, 1) <= LONGEST_AT_ONCE


def test_a_loop_leaves_to_threads_what_they_do_better():
    # One is not worth the way to a thread.
    assert make_plan(straight(0, 2e-4), 2, 1024).loop_rows == 1
    assert make_plan(straight(1e-3, 1e-5), 2, 1024).loop_rows == 32
    assert make_plan(straight(3e-3, 1e-6), 2, 1024).loop_rows == 0
    assert make_plan(straight(5e-6, 1e-6), 2, 1024).loop_rows == EVERYTHING


@given(curves, st.integers(1, 4096))
def test_time_grows_with_size_and_meets_what_was_measured(curve, size):
    assert seconds_of(curve, size + 1) >= seconds_of(curve, size) * (1 - 1e-9)
    for at, seconds in curve:
        assert seconds_of(curve, at) == pytest.approx(seconds)


@given(plans, st.integers(1, 10_000), st.integers(0, 10_000))
def test_a_share_is_never_nothing_and_fits(plan, waiting, running):
    assert 1 <= share(waiting, running, plan) <= plan.cap


@given(plans, st.integers(1, 10_000))
def test_slots_that_are_all_free_share_the_work_out(plan, waiting):
    left, running = waiting, 0
    for _ in range(plan.slots):
        took = min(left, share(left, running, plan))
        left, running = left - took, running + took
    assert left == 0 or running == plan.cap * plan.slots


def test_one_slot_takes_what_would_take_hardly_longer():
    assert share(2, 0, make_plan(straight(1e-2, 1e-4), 2, 1024)) == 2
    assert share(2, 0, make_plan(straight(0, 1e-2), 2, 1024)) == 1


@given(plans, st.integers(1, 10_000), st.integers(1, 10_000), st.integers(0, 9), st.floats(0, 1e4))
def test_a_batch_is_run_at_once_where_nothing_runs_and_never_without_a_slot(
    plan, waiting, running, active, usual
):
    if active == 0:
        assert opens(waiting, 0, 0, usual, plan)
    elif active >= plan.slots:
        assert not opens(waiting, running, active, usual, plan)
    elif waiting >= plan.enough or (waiting * active >= running and waiting * plan.slots >= usual):
        assert opens(waiting, running, active, usual, plan)


@given(curves, st.integers(1, 2000), st.floats(1e-6, 1.0))
def test_learning_keeps_the_curve_in_order_and_meets_the_last_run(curve, size, seconds):
    learned = learn_curve(curve, size, seconds)
    sizes = [at for at, _ in learned]
    assert sizes == sorted(set(sizes))
    near = min(learned, key=lambda point: abs(point[0] - size))
    if near[0] == size:
        assert near[1] == pytest.approx(seconds, rel=1e-6)


def test_the_largest_batch_grows_while_larger_ones_are_better():
    curve = ((1, 2e-3),)
    for cap in (2, 4, 8, 16):
        assert make_plan(curve, 2, 1024).cap == cap
        curve = learn_curve(curve, cap, 2e-3)
    assert make_plan(curve, 2, 20).cap == 20


def test_a_curve_that_is_wrong_by_far_is_begun_anew():
    assert learn_curve(straight(1e-3, 1e-4), 4, 1e-5) == ((4, 1e-5),)


@given(curves, st.lists(st.tuples(st.sampled_from(SIZES), st.floats(0.6, 1.5)), max_size=50))
def test_what_is_learned_of_one_size_does_not_drag_the_others_down(curve, runs):
    learned = curve
    for size, ratio in runs:
        learned = learn_curve(learned, size, seconds_of(curve, size) * ratio)
    for size, seconds in learned:
        assert seconds >= 0.29 * seconds_of(curve, size)


def test_a_fast_run_bounds_what_smaller_and_larger_ones_take():
    curve = learn_curve(((1, 1.0), (4, 1.1), (8, 2.0), (64, 16.0)), 4, 0.6)
    assert curve == ((1, 0.6), (4, 0.6), (8, 1.2), (64, pytest.approx(9.6)))


def test_kernels_that_work_on_four_rows_at_a_time_are_given_four():
    plan = make_plan(((1, 1e-3), (2, 1e-3), (4, 1e-3), (5, 2e-3), (8, 2e-3)), 1, 8)
    assert [share(waiting, 0, plan) for waiting in (1, 3, 4, 5, 6)] == [1, 3, 4, 4, 4]


def test_learning_moves_the_plan():
    curve = straight(1e-3, 1e-6)
    for size in SIZES:
        curve = learn_curve(curve, size, 2e-3 * size)
    assert make_plan(curve, 2, 1024).mode == DIRECT


def test_a_stable_shape_costs_a_lone_call_at_most_twice():
    plan, size = stable_size(make_plan(straight(1e-4, 1e-5), 2, 1024), 1024)
    assert size == 8
    assert np.ptp([seconds for _, seconds in plan.curve]) == 0


@given(curves)
def test_a_straight_curve_stays_as_it_is(curve):
    np.testing.assert_allclose(straighten(curve), curve, rtol=1e-6)


@given(curves.filter(lambda curve: len(curve) > 1), st.data())
def test_a_straightened_curve_rises_and_is_no_further_from_the_points(curve, data):
    """Than the line they were scattered around."""
    noise = data.draw(st.lists(st.floats(0.5, 2), min_size=len(curve), max_size=len(curve)))
    points = tuple(
        (size, seconds * factor) for (size, seconds), factor in zip(curve, noise, strict=True)
    )
    found = straighten(points)
    assert [size for size, _ in found] == [size for size, _ in points]
    if found != points:  # a line that falls is no cost, and such points stay
        seconds = [its for _, its in found]
        assert 0 <= seconds[0] < seconds[-1]
        assert sorted(seconds) == seconds

        def error(line):
            return sum(
                (its / seen - 1) ** 2 for (_, its), (_, seen) in zip(line, points, strict=True)
            )

        assert error(found) <= error(curve) * (1 + 1e-6) + 1e-9


def test_points_of_one_size_or_on_a_falling_line_stay():
    for curve in ((), ((3, 1e-3),), ((3, 1e-3), (3, 2e-3)), ((1, 2e-3), (100, 1e-3))):
        assert straighten(curve) == curve


def test_one_size_tells_how_fast_a_machine_has_become():
    curve = straight(2e-3, 2.5e-4, tuple(2**i for i in range(17)))
    planner = Planner(make_plan(curve, 2, 1 << 17), 1 << 17, declared=True)
    for _ in range(33):
        planner.observe(1024, 3 * seconds_of(curve, 1024))
    for size in (64, 1024, 1 << 16):
        assert seconds_of(planner.plan.curve, size) == pytest.approx(3 * seconds_of(curve, size))


def test_what_costs_take_is_learned_without_a_measurement_too():
    planner = Planner(make_plan((), 2, 1024), 1024, declared=True)
    curve = straight(2e-3, 2.5e-4, (16, 64, 256, 1024))
    for size, seconds in curve * 8:
        planner.observe(size, seconds)
    for size in (16, 100, 1000):
        assert seconds_of(planner.plan.curve, size) == pytest.approx(
            seconds_of(curve, size), rel=0.05
        )


def test_runs_that_borrowed_a_thread_do_not_decide_the_cap():
    """The same cost took half as long while nothing else ran; larger batches are worth as much as before."""
    curve = straight(2e-3, 2.5e-4, (1, 16, 64, 256, 512))
    planner = Planner(make_plan(curve, 2, 1024), 1024, declared=True)
    for _ in range(40):
        planner.observe(64, seconds_of(curve, 64) / 2)
        planner.observe(256, seconds_of(curve, 256))
    assert 128 <= planner.plan.cap <= 1024
    plain = Planner(make_plan(curve, 2, 1024), 1024)
    for _ in range(40):
        plain.observe(64, seconds_of(curve, 64) / 2)
        plain.observe(256, seconds_of(curve, 256))
    assert plain.plan.cap == 64


@given(plans)
def test_an_event_loop_runs_nothing_where_that_is_switched_off(plan):
    off = off_loops(plan)
    assert (off.loop_rows, off.loop_batch, off.lone) == (0, 0, 0)
    assert (off.mode, off.cap, off.piece) == (plan.mode, plan.cap, plan.piece)
