"""What a Batcher does with more work than it can do: pure decisions, and the real queue on a simulated clock."""

import asyncio
import random
import time
from math import inf
from typing import NamedTuple

import numpy as np
import pytest
from helpers.examples import some
from hypothesis import given
from hypothesis import strategies as st

import modelkit as mk
from modelkit.model.model import PLAIN, Call
from modelkit.serving.batching import scheduler, workers
from modelkit.serving.batching.choice import first_in_time, next_batch, overdue
from modelkit.serving.batching.planner import Planner
from modelkit.serving.batching.policy import make_plan, seconds_of
from modelkit.serving.batching.requests import Request, Turn, joint_call

CURVE = ((1, 6.0), (8, 13.0))  # five seconds and one more for each row


class Offer(NamedTuple):
    size: int
    due: float
    place: int


def chosen(offers, *, room=8, curve=CURVE, caution=1.0):
    """The places of the calls to run and of those to give up, of (size, deadline) at the time 0."""
    offers = [Offer(*offer, place) for place, offer in enumerate(offers)]
    run, late = next_batch(offers, room, 0.0, curve, caution)
    return [offer.place for offer in run], [offer.place for offer in late]


# Which calls are run: (size, deadline) at the time 0, in batches of at most 8.


@pytest.mark.parametrize(
    ("offers", "run", "given_up"),
    [
        ([], [], []),
        ([(1, inf)] * 9, range(8), []),
        ([(1, 20.0)] * 3, range(3), []),
        # What cannot be ready gives way to what can, however old it is.
        ([(1, 5.0), (1, 5.5), (1, 20.0)], [2], [0, 1]),
        ([(1, 5.0), (1, inf)], [1], [0]),
        # What could be ready alone is left out of a batch that takes longer; another slot may be
        # free for it.
        ([(1, 7.0)] + [(1, 20.0)] * 8, range(1, 9), []),
        # Where the batch is not full, it is made smaller if more are in time then.
        ([(1, 7.5), (1, 20.0)], [0, 1], []),
        ([(1, 6.5), (1, 20.0)], [0], []),
        ([(1, 12.5)] * 8, range(7), []),
        # The curve may be wrong: where it says that nobody is in time, the last to be late is
        # tried, and none given up.
        ([(1, 1.0), (1, 3.0), (1, 2.0)], [1], []),
        ([(1, -1.0), (1, 3.0)], [1], [0]),
        ([(1, -1.0)], [], [0]),
        # Calls of several rows.
        ([(5, inf), (4, inf), (3, inf)], [0], []),
        ([(12, inf), (1, inf)], [0], []),
        ([(3, 13.5), (5, 13.5)], [0, 1], []),
        ([(3, 9.5), (5, 12.5)], [1], []),
        ([(3, 10.5), (5, 12.5)], [0], []),
    ],
)
def test_the_next_batch_is_the_oldest_calls_that_can_be_ready_in_time(offers, run, given_up):
    assert chosen(offers) == ([*run], given_up)


def test_calls_that_may_be_late_give_way_to_those_that_will_not():
    tight, easy = (1, 14.0), (1, 30.0)
    assert chosen([tight] * 8 + [easy] * 8, caution=1.5) == ([*range(8, 16)], [])
    assert chosen([tight] * 8, caution=1.5) == ([*range(8)], [])  # but not to an idle model
    assert chosen([tight] * 6 + [easy] * 2, caution=1.5) == ([*range(8)], [])


def test_without_measurements_only_what_is_late_is_given_up():
    assert chosen([(1, -1.0), (1, 1e-9), (1, inf)], curve=()) == ([1, 2], [0])


@given(
    st.lists(
        st.tuples(st.integers(1, 12), st.one_of(st.just(inf), st.floats(-5, 40))), max_size=30
    ),
    st.integers(1, 16),
    st.floats(1, 2),
)
def test_whatever_waits_the_batch_fits_is_in_time_and_leaves_no_slot_idle(offers, room, caution):
    run, given_up = chosen(offers, room=room, caution=caution)
    assert run == sorted(set(run))
    assert not set(run) & set(given_up)
    assert bool(run) == any(deadline > 0 for _, deadline in offers)
    size = sum(offers[place][0] for place in run)
    assert size <= room or len(run) == 1
    in_time = [deadline > seconds_of(CURVE, its) for its, deadline in offers]
    assert not any(in_time[place] for place in given_up)
    if any(in_time):
        assert all(offers[place][1] > seconds_of(CURVE, size) for place in run)


# Who runs it, and what is not waited for.


@pytest.mark.parametrize(
    ("dues", "ready", "first"),
    [([5.0, 9.0, inf], 7.0, 1), ([inf, 9.0], 7.0, 0), ([5.0, 6.0, 4.0], 7.0, 1)],
)
def test_the_next_batch_is_run_for_the_oldest_call_that_is_surely_in_time(dues, ready, first):
    offers = [Offer(1, due, place) for place, due in enumerate(dues)]
    assert first_in_time(iter(offers), ready).place == first


@pytest.mark.parametrize(
    ("curve", "now", "late"),
    [
        (((1, 3e-3), (8, 4e-3)), 1.5, [5]),  # after a second
        (((1, 3e-3), (8, 4e-3)), 0.5, []),
        (((1, 1.0), (8, 2.0)), 7.9, []),  # or after four of the longest runs
        (((1, 1.0), (8, 2.0)), 8.1, [5]),
    ],
)
def test_a_run_is_overdue_after_a_second_and_four_times_what_the_longest_takes(curve, now, late):
    assert overdue([(5, 0.0), (3, now)], now, make_plan(curve, 2, 8)) == late


# The real queue, with calls that come at random and a clock that only the model moves.


class Simulation:
    """A Scheduler whose model takes 5 ms and 1 ms a row, in batches of at most 8: 615 rows a second.

    Single rows come at `load` times that, for ten seconds. `spread` is that of the logarithm of
    what runs take.
    """

    CAPACITY = 8 / 0.013
    SECONDS = 10.0

    def __init__(self, monkeypatch, load, deadline, *, spread=0.0, curve=((1, 6e-3), (8, 13e-3))):
        self.now = self.next = 0.0
        self.load, self.deadline, self.spread = load, deadline, spread
        self.random = random.Random(0)
        self.asked = self.in_time = self.starts = 0
        for module in (scheduler, workers):
            monkeypatch.setattr(module, "clock", lambda: self.now)
        monkeypatch.setattr(workers, "deliver", self.deliver)
        planner = Planner(make_plan(curve, 1, 8), 8)
        self.workers = workers.Workers(self.run, planner, 8192)
        self.workers.start = self.start
        self.scheduler = self.workers.scheduler
        self.scheduler.start = self.start

    def start(self, runners):
        self.starts += runners

    def run(self, feeds, outputs, call=PLAIN):
        seconds = 5e-3 + 1e-3 * len(feeds["x"])
        end = self.now + seconds * self.random.lognormvariate(0, self.spread)
        while self.next < min(end, self.SECONDS):
            self.arrive()
        self.now = end
        return {"y": feeds["x"]}

    def arrive(self):
        self.now = self.next
        self.next += self.random.expovariate(self.load * self.CAPACITY)
        self.asked += 1
        request = Request({"x": np.zeros((1, 1))}, 1, ("y",), Call(self.now + self.deadline))
        self.scheduler.enqueue([request])

    def deliver(self, requests):
        for request in requests:
            self.in_time += isinstance(request.outcome, dict) and self.now <= request.due

    def goodput(self):
        """The part of what could be answered in time that was."""
        while self.next < self.SECONDS:
            self.arrive()
            if self.starts:
                self.starts -= 1
                turn = Turn()
                turn.has_slot = True
                self.workers.work(turn)
        assert (self.scheduler.active, self.scheduler.running, self.scheduler.queue.waiting) == (
            0,
            0,
            0,
        )
        return self.in_time / min(self.asked, (self.SECONDS + self.deadline) * self.CAPACITY)


@some("deadline", [0.05, 0.1, 0.5], [0.1])
@pytest.mark.parametrize(
    ("load", "least"), [(0.8, 0.99), (1.2, 0.97), (1.5, 0.99), (3.0, 0.99), (10.0, 0.99)]
)
def test_under_overload_nearly_all_that_can_be_answered_in_time_is(
    monkeypatch, load, deadline, least
):
    assert Simulation(monkeypatch, load, deadline).goodput() >= least


@pytest.mark.parametrize(("load", "least"), [(0.8, 0.97), (1.2, 0.9), (1.5, 0.9), (3.0, 0.9)])
def test_runs_that_take_longer_now_and_then_make_few_calls_late(monkeypatch, load, least):
    assert Simulation(monkeypatch, load, 0.05, spread=0.2).goodput() >= least


@pytest.mark.parametrize("load", [0.8, 1.2, 3.0])
def test_what_was_learned_in_a_bad_moment_is_found_out(monkeypatch, load):
    """That two rows take twice as long as one: then one row at a time would be best, for ever."""
    simulation = Simulation(monkeypatch, load, 0.05, curve=((1, 6e-3), (2, 12e-3)))
    assert simulation.scheduler.planner.plan.cap == 1
    assert simulation.goodput() >= 0.85
    assert simulation.scheduler.planner.plan.cap == 8


# How a batch is run: as the most urgent of its calls.


PATIENT = Call(priority=-1)


@pytest.mark.parametrize(
    ("calls", "joint"),
    [
        ([PLAIN, PLAIN], PLAIN),
        ([PATIENT], PATIENT),
        ([PATIENT, PLAIN], PLAIN),
        ([Call(3.0), Call(5.0), Call(4.0)], Call(5.0)),
        ([Call(3.0), PLAIN], PLAIN),
        ([Call(3.0, -1), Call(5.0, 0)], Call(5.0, 0)),
        ([Call(key="a"), Call(3.0, key="a")], Call(key="a")),
        ([Call(key="a"), Call(key="b")], PLAIN),
    ],
)
def test_a_batch_runs_with_the_latest_deadline_and_the_highest_priority(calls, joint):
    assert joint_call(calls) == joint


def test_a_batch_of_plain_calls_is_plain():
    assert joint_call([PLAIN] * 3) is PLAIN


class Seen(mk.Model):
    """A model that keeps the Call of each run."""

    signature = mk.Signature(
        (mk.TensorSpec("x", "float32", ("n", 2)),),
        (mk.TensorSpec("y", "float32", ("n", 2)),),
        primary="y",
    )
    batchable = True

    def __init__(self):
        self.calls = []

    def _run(self, feeds, outputs, call):
        self.calls.append((len(feeds["x"]), call))
        return {"y": feeds["x"]}


@pytest.mark.parametrize("curve", [((1, 5e-6), (64, 1e-5)), ((1, 3e-3), (64, 4e-3))])
def test_the_model_is_told_the_deadline_of_the_batch(curve):
    """On an event loop and on threads, whose batches are made in other places."""

    async def main():
        before = time.monotonic()
        rows = np.zeros((1, 2), np.float32)
        await asyncio.gather(
            batcher.apredict(rows, deadline=50, priority=-1), batcher.apredict(rows, deadline=70)
        )
        return before

    model = Seen()
    with mk.Batcher(model, plan=make_plan(curve, 1, 64)) as batcher:
        before = asyncio.run(main())
        batcher.predict(np.zeros((1, 2), np.float32))
    assert [rows for rows, _ in model.calls] == [2, 1]
    assert before + 70 <= model.calls[0][1].deadline <= time.monotonic() + 70
    assert model.calls[0][1].priority == 0
    assert model.calls[1][1] is PLAIN
