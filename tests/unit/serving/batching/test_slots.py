"""The counters of a lane, without the lane."""

import pytest

from modelkit.serving.batching.policy import make_plan
from modelkit.serving.batching.slots import Slots

PLAN = make_plan(((1, 3e-3), (8, 4e-3)), 2, 8)


def test_a_slot_that_is_given_back_leaves_nothing_behind():
    slots = Slots()
    slots.take(3)
    slots.take()
    assert (slots.active, slots.running) == (2, 3)
    slots.give(3)
    slots.give(0)
    assert (slots.active, slots.running) == (0, 0)


@pytest.mark.parametrize(
    ("running", "waiting", "opens"),
    [
        ([], 1, True),  # nothing runs
        ([2], 1, False),  # a batch beside another is as large as that one
        ([2], 2, True),
        ([8], 7, False),
        ([8], 8, True),  # or large enough
        ([1, 1], 8, False),  # every slot is taken
    ],
)
def test_a_slot_opens_for_a_batch_that_is_large_enough(running, waiting, opens):
    slots = Slots()
    for size in running:
        slots.take(size)
    assert slots.opens(waiting, PLAN) == opens


def test_nothing_waits_for_a_run_that_is_overdue():
    slots = Slots()
    slots.take(5)
    assert not slots.opens(1, PLAN)
    slots.wait_no_longer()
    assert slots.opens(1, PLAN)
    slots.take(1)
    assert not slots.opens(8, PLAN)  # but every slot is taken
    slots.give(1)
    assert slots.opens(1, PLAN)
    slots.give(5)
    slots.take(5)
    assert not slots.opens(1, PLAN)


def test_the_usual_size_follows_what_waits_and_runs():
    slots = Slots()
    slots.take(4)
    for _ in range(100):
        slots.note(4)
    assert slots.usual == pytest.approx(8, rel=1e-4)
