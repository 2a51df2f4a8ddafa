"""Workers that end early are replaced after a pause that grows."""

import pytest

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
