"""Workers that end early are replaced after a pause that grows."""

import pytest

from modelkit.cli import processes
from modelkit.cli.processes import failures_after, pause_after


@pytest.mark.parametrize(
    ("lived", "pauses"),
    [
        ((60.0, 60.0, 60.0), [0, 0, 0]),  # it worked: at once
        ((1.0, 1.0, 1.0, 1.0), [0.5, 1, 2, 4]),  # it begins, and ends at once
        ((60.0, None, None, 60.0, None), [0, 0.5, 1, 0, 0.5]),  # it never begins
        ((None,) * 2000, [0.5, 1, 2, 4, 8, 16] + [30] * 1994),
    ],
)
def test_a_worker_that_ends_early_is_replaced_after_a_pause_that_grows(lived, pauses):
    failures = 0
    found = []
    for seconds in lived:
        failures = failures_after(failures, seconds)
        found.append(pause_after(failures))
    assert found == pauses


def test_a_replacement_is_tried_again_while_the_machine_has_no_room(monkeypatch):
    pauses = []
    started = []

    def start(failures):
        if len(pauses) < 3:
            raise BlockingIOError("Resource temporarily unavailable")
        started.append(failures)

    together = processes.Processes(None, None, None, None)
    monkeypatch.setattr(together, "_start", start)
    monkeypatch.setattr(processes, "sleep", pauses.append)
    together._start_again(2)
    assert (started, pauses) == ([2], [processes.SHORTEST_PAUSE] * 3)
