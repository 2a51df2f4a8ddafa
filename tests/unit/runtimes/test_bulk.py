"""Many rows are run in parts, and answered as one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import modelkit as mk
from modelkit.runtimes.bulk import chunk_bounds


@given(rows=st.integers(0, 10_000), size=st.integers(1, 5_000))
def test_chunks_cover_every_row_once_and_are_even(rows, size):
    bounds = chunk_bounds(rows, size)
    assert [row for start, stop in bounds for row in range(start, stop)] == list(range(rows))
    lengths = [stop - start for start, stop in bounds]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_bulk_run_gives_what_its_rows_give(boosting_mk, breast_cancer, threads):
    X = np.tile(breast_cancer[0].to_numpy(np.float32), (100, 1))
    with mk.load(boosting_mk, threads=threads) as model:
        assert len(X) > 3 * model._chunk
        bulk = model.run(X)
        small = model.run(X[: len(breast_cancer[0])])
        for name, array in bulk.items():
            np.testing.assert_array_equal(array, np.concatenate([small[name]] * 100))


def test_bulk_strings(penguins_mk, penguins):
    import pandas as pd

    X = pd.concat([penguins[0]] * 120, ignore_index=True)
    with mk.load(penguins_mk) as model:
        assert len(X) > model._chunk
        np.testing.assert_array_equal(model.predict(X), np.tile(model.predict(penguins[0]), 120))


def test_a_failure_in_a_bulk_run_reaches_the_caller(boosting_mk):
    with mk.load(boosting_mk) as model:
        real, calls = model._run_graph, []

        def fails_late(*arguments):
            calls.append(1)
            if len(calls) == 3:
                raise MemoryError("no room")
            return real(*arguments)

        model._run_graph = fails_late
        with pytest.raises(MemoryError, match="no room"):
            model.predict(np.zeros((100_000, 30), np.float32))
