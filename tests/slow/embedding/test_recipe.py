"""Encoders in other processes."""

import numpy as np
import pytest
from helpers.encoders import sentences
from helpers.processes import forks, passes_in_a_child

import modelkit as mk

# In other processes.

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@forks
def test_a_child_embeds_as_its_parent(static_mk):
    found = sentences(600, seed=6)
    with mk.load(static_mk) as encoder:
        expected = encoder.embed(found)  # by now the threads of the tokenizer run

        def work():
            np.testing.assert_allclose(encoder.embed(found), expected, atol=1e-6)
            assert encoder.token_count(found[:3]).shape == (3,)

        assert passes_in_a_child(work)
        with (
            encoder.pipeline._lock,
            encoder.pipeline.tokens._lock,
        ):  # as where another thread embeds meanwhile
            assert passes_in_a_child(work)
        with mk.Batcher(encoder) as batcher:
            assert passes_in_a_child(
                lambda: np.testing.assert_allclose(mk.embed(batcher, found), expected, atol=1e-5)
            )
