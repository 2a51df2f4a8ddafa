"""Law 1. A row's result does not depend on who called it, when, or with whom it was batched, beyond a stated tolerance.

Under cancellation and overload: `tests/slow/serving/batching/test_stress.py`.
"""

import numpy as np
import pytest
from helpers.examples import examples
from helpers.forms import (
    CONTAINERS,
    Table,
    every_container,
    expected_feeds,
    moderately,
    same_feeds,
    tables,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.errors import BatchError
from modelkit.testing import check_model

of_models = settings(
    max_examples=examples(60),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def check_close(got, expected, subject):
    """Numbers within the tolerance; labels equal, for no row of the table is near a tie."""
    for name, array in expected.items():
        if array.dtype.kind in "fc":
            np.testing.assert_allclose(
                got[name], array, rtol=subject.rtol, atol=subject.atol, err_msg=name
            )
        else:
            np.testing.assert_array_equal(got[name], array, err_msg=name)


def test_a_loaded_model_keeps_the_contract(subject):
    """And so does every other Model; the last check of the contract is this law."""
    check_model(subject.model, subject.rows, rtol=subject.rtol, atol=subject.atol)


@of_models
@given(data=st.data())
def test_a_row_is_answered_alike_in_any_company(subject, data):
    count = len(subject.rows)
    whole = subject.model.run(subject.rows)
    places = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=2 * count))
    got = subject.model.run(subject.take(places))
    check_close(got, {name: array[places] for name, array in whole.items()}, subject)


@every_container
@moderately
@given(data=st.data())
def test_a_row_gives_the_same_bits_alone_and_in_any_place(container, data):
    table = data.draw(tables())
    order = data.draw(st.permutations(range(len(table.rows))))
    whole = expected_feeds(table)
    for i in order[:2]:
        alone = Table(table.signature, table.columns, [table.rows[i]])
        got = table.signature.coerce(CONTAINERS[container](alone, table.columns))
        same_feeds(got, {name: feed[i : i + 1] for name, feed in whole.items()})
    if order:
        moved = Table(table.signature, table.columns, [table.rows[i] for i in order])
        got = table.signature.coerce(CONTAINERS[container](moved, table.columns))
        same_feeds(got, {name: feed[list(order)] for name, feed in whole.items()})


def test_a_batcher_refuses_what_was_not_shown_to_answer_each_row_by_itself():
    unknown = mk.FunctionModel(
        lambda feeds: {"y": feeds["x"] - feeds["x"].mean()},
        mk.Signature(
            (mk.TensorSpec("x", "float64", ("n",)),), (mk.TensorSpec("y", "float64", ("n",)),)
        ),
    )
    with pytest.raises(BatchError):
        mk.Batcher(unknown)
