"""A Detector in the child of a fork, and the memory that a small alpha takes."""

import multiprocessing
import threading
import tracemalloc

import pytest
from helpers.streams import rng

import modelkit as mk
from modelkit.drift.profile import Profile


def test_a_small_alpha_takes_no_more_memory():
    reference = {f"x{i}": rng(i).normal(size=2000) for i in range(6)}
    later = {name: values[:200] + (name == "x0") for name, values in reference.items()}
    detector = mk.Detector(Profile.fit(reference), alpha=1e-5)
    tracemalloc.start()
    assert detector.test(later).alarms != ()
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()


def updated(detector, queue):
    detector.update({"x": rng(9).normal(size=100)})
    queue.put(detector.rows)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_detector_goes_on_in_the_child_of_a_fork_though_its_lock_was_held():
    detector = mk.Detector(Profile.fit({"x": rng(1).normal(size=400)}))
    detector.update({"x": rng(2).normal(size=50)})
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    held = threading.Event()
    release = threading.Event()

    def hold():
        with detector._tracker.turn():
            held.set()
            release.wait(280)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(280)
    process = context.Process(target=updated, args=(detector, queue))
    process.start()
    process.join(280)
    release.set()
    holder.join()
    assert process.exitcode == 0
    assert queue.get() == 150
