"""Batchers whose models can be held up, and the plans that they follow."""

import threading
import time

import numpy as np

import modelkit as mk
from modelkit.serving.batching.policy import BATCH, DIRECT, PARALLEL, make_plan

SIGNATURE = mk.Signature(
    (mk.TensorSpec("x", "float32", ("n", 2)),),
    (mk.TensorSpec("y", "float32", ("n", 1)), mk.TensorSpec("size", "int64", ("n",))),
    primary="y",
)

ROOM = 100  # seconds after which something hangs; nothing here takes one on a quiet machine
PLANS = {
    # A model that costs next to nothing: threads run at once, loops gather.
    PARALLEL: make_plan(((1, 5e-6), (64, 1e-5)), 2, 64),
    # One that is worth gathering, too slow for an event loop.
    BATCH: make_plan(((1, 3e-3), (8, 4e-3)), 2, 8),
    # One whose rows are no cheaper in company.
    DIRECT: make_plan(((1, 3e-3), (2, 6e-3), (4, 12e-3)), 2, 64),
    # One that an event loop runs by itself, but threads wait for.
    "on the loop": make_plan(((1, 1e-4), (16, 1.4e-4)), 2, 16),
}


def double(feeds):
    x = feeds["x"]
    return {"y": 2 * x[:, :1], "size": np.full(len(x), len(x))}


def row(value):
    return np.array([[value, -value]], np.float32)


class Gate:
    """A model that can be held up: it says when a run began, and goes on when it is let."""

    def __init__(self, fn=double):
        self.fn = fn
        self.began = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.sizes = []

    def __call__(self, feeds):
        self.began.release()
        assert self.go.acquire(timeout=ROOM)
        self.sizes.append(len(feeds["x"]))
        return self.fn(feeds)

    def open(self):
        for _ in range(1000):
            self.go.release()

    def began_one(self):
        assert self.began.acquire(timeout=ROOM)


def model_of(fn=double):
    return mk.FunctionModel(fn, SIGNATURE, batchable=True)


def one_slot(fn, **options):
    return steady(mk.Batcher(model_of(fn), plan=make_plan(((1, 3e-3), (8, 4e-3)), 1, 8), **options))


def steady(batcher):
    """A Batcher that keeps the plan it was given; the functions here take no time, which it would soon find out."""
    batcher._scheduler.planner.observe = lambda *_: False
    return batcher


def wait_until(condition):
    end = time.monotonic() + ROOM
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0)


def waiting(batcher, size):
    wait_until(lambda: batcher.stats().queued == size)


def poisoned(feeds):
    x = feeds["x"]
    if (x[:, 0] == 666).any():
        raise ArithmeticError("a poisoned row")
    return double(feeds)
