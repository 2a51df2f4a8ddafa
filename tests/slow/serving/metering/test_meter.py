"""A Meter in the child of a fork."""

from helpers.processes import passes_in_a_child
from helpers.sums import ROW, summed

import modelkit as mk


def test_the_child_of_a_fork_begins_at_nothing():
    meter = mk.Meter(summed())
    meter.predict(ROW)

    def child():
        assert meter.totals().calls["ok"] == 0
        meter.predict(ROW)
        assert meter.totals().calls["ok"] == 1

    assert passes_in_a_child(child)
    assert meter.totals().calls["ok"] == 1
