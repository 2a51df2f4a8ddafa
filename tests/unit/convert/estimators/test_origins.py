"""What the columns of a traced table are made of."""

import numpy as np
import pytest

from modelkit.convert.estimators.origins import Origin, origins
from modelkit.convert.estimators.tensors import Columns
from modelkit.convert.estimators.traced import affine, variable

CASES = {
    "taken": (lambda x: x[:, [2, 0]], [Origin(frozenset([2])), Origin(frozenset([0]))]),
    "cast": (lambda x: x[:, [1]].astype(np.float32), [Origin(frozenset([1]))]),
    "scaled": (lambda x: (x[:, [1]] - 1.0) / 2.0, [Origin(frozenset([1]), same=False)]),
    "rounded": (lambda x: np.exp(x[:, [1]]), [Origin(frozenset([1]), rounded=True, same=False)]),
    "sum": (lambda x: x[:, [0]] + x[:, [1]] * 2.0, [Origin(frozenset([0, 1]), same=False)]),
    "product": (
        lambda x: affine(np.where(x > 0.0, x, 1.0), np.ones((3, 1)), np.zeros(1)),
        [Origin(frozenset([0, 1, 2]), rounded=True, same=False)],
    ),
    "ratio": (
        lambda x: x[:, [0]] / x[:, [1]],
        [Origin(frozenset([0, 1]), additive=False, same=False)],
    ),
    "inverse": (
        lambda x: 1.0 / (x[:, [0]] + x[:, [1]]),
        [Origin(frozenset([0, 1]), additive=False, same=False)],
    ),
    "beside": (
        lambda x: np.concatenate([x[:, [2]], abs(x[:, [0]])], axis=1),
        [Origin(frozenset([2])), Origin(frozenset([0]), same=False)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_column_remembers_what_it_is_made_of(name):
    make, expected = CASES[name]
    x = variable(np.float64, ("n", 3))

    assert origins(Columns((make(x),)), Columns((x,))) == expected


def test_a_long_chain_of_operators_is_followed_to_its_end():
    x = variable(np.float64, ("n", 3))
    made = x
    for _ in range(2000):
        made = made + 1.0

    assert [origin.columns for origin in origins(Columns((made,)), Columns((x,)))] == [
        {0},
        {1},
        {2},
    ]
