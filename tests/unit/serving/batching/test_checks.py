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
