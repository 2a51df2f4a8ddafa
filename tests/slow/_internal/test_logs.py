"""Log records in the child of a fork."""

from helpers.processes import forks, passes_in_a_child
from helpers.records import OVERLOAD

from modelkit import events
from modelkit._internal import logs


@forks
def test_a_child_records_although_a_thread_held_the_lock_at_the_fork(records):
    events.emit(OVERLOAD)
    (matter,) = logs._matters._all.values()

    def work():
        events.emit(OVERLOAD)
        assert len(records) == 2

    with matter._lock:
        assert passes_in_a_child(work)
