"""Forks while a package is being opened."""

import os

import pytest

import modelkit as mk
from modelkit.integrations.scorer import scorer as module


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_child_forked_while_the_package_is_being_opened_opens_its_own(package):
    scorer = mk.Scorer(package)
    module._held._values.clear()
    place = (os.getpid(), scorer.digest, ("model", *scorer._way))
    status = []

    def fork():
        child = os.fork()
        if not child:
            with_lock_free = module._held._lock.acquire(blocking=False)
            os._exit(0 if with_lock_free and place not in module._held._values else 3)
        status.append(os.waitpid(child, 0)[1])
        return scorer._open()

    module._held.get("other", 1, fork)
    assert status == [0]
