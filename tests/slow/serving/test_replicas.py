"""Replicas in the children of forks: what the parent runs is no work of theirs."""

import os

import numpy as np
from helpers.processes import bounded, forks, passes_in_a_child
from helpers.sums import SIGNATURE, summed

import modelkit as mk
from modelkit.serving.replicas import _Work

ROWS = np.arange(10.0).reshape(5, 2)
SUMS = ROWS.sum(axis=1)


def test_a_child_of_a_fork_has_no_work_of_its_parent():
    replicas = mk.Replicas([summed()])

    def check():
        assert replicas.replicas[0].outstanding == 0
        assert (replicas.predict(ROWS) == SUMS).all()

    with _Work(replicas, {"x": ROWS}), replicas._lock:
        assert passes_in_a_child(check)


@forks
def test_a_run_that_forks_gives_back_what_its_parent_took():
    """In the child the count was below 0, so that this replica was preferred for ever."""
    parent = os.getpid()

    def forking(feeds):
        child = os.fork()
        if child:
            with bounded(child):
                assert os.waitpid(child, 0)[1] == 0
        return {"prediction": feeds["x"].sum(axis=1)}

    def outstanding():
        return [replica.outstanding for replica in replicas.replicas]

    replicas = mk.Replicas([mk.FunctionModel(forking, SIGNATURE, batchable=True), summed()])
    answer = replicas.predict(ROWS)
    if os.getpid() != parent:
        os._exit(0 if outstanding() == [0, 0] and np.array_equal(answer, SUMS) else 1)
    assert outstanding() == [0, 0]
