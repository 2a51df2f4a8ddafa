"""What a Batcher, and other wrappers, refuse to wrap."""

import pytest
from helpers.sums import summed

import modelkit as mk


@pytest.mark.parametrize("wrapper", [mk.Batcher, mk.Monitor, mk.Meter])
def test_a_path_is_no_model(wrapper):
    with pytest.raises(TypeError, match=f"a {wrapper.__name__} takes a Model, not str; mk.load"):
        wrapper("model.mk")


def test_a_meter_inside_a_batcher_is_called_a_meter():
    metered = mk.Meter(summed())
    with pytest.raises(
        mk.errors.UsageError, match=r"a Monitor or Meter inside a Batcher.*mk\.layered"
    ):
        mk.Batcher(metered)


@pytest.mark.parametrize("timeout", [-1, -0.5, float("nan"), float("inf"), 1e12])
def test_a_close_takes_no_time_that_a_lock_does_not(timeout):
    """A lock takes -1 for endless, and raised errors of its own for the others."""
    with mk.Batcher(summed()) as batcher:
        with pytest.raises(mk.errors.UsageError, match="timeout is in seconds and at least 0"):
            batcher.close(timeout=timeout)
        assert not batcher.closed
