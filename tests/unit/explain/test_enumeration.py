"""Values from all coalitions."""

import numpy as np
import pytest
from helpers.coalitions import SEED, agree, saved, small
from helpers.ensembles import graph, old_node, tree_of
from sklearn import ensemble

import modelkit as mk

pytestmark = pytest.mark.usefixtures("one_thread")


def test_enumeration_and_tables_say_the_same(tmp_path):
    X, y = small(0)
    model = saved(ensemble.RandomForestRegressor(10, max_depth=6, **SEED).fit(X, y), tmp_path, X)
    tables = mk.Explainer(model, background=X[:20]).explain(X[50:60])
    everything = mk.Explainer(model, background=X[:20], method="enumeration").explain(X[50:60])
    assert (tables.method, everything.method) == ("trees", "enumeration")
    agree(everything, tables.values, tables.base_values[0])
    assert everything.background_id == tables.background_id


def test_a_column_that_is_not_read_gets_nothing_and_twins_get_the_same(tmp_path):
    """The model is even in two columns, and each is given the same numbers."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4)).astype(np.float32)
    X[:, 1] = X[:, 0]
    both = [(0, 1), (1, 0)]
    trees = [
        ("BRANCH_LEQ", a, 0.3, (), False, tree_of(b, -0.2, 1.0, 5.0), tree_of(2, 0.1))
        for a, b in both
    ]
    proto = graph([old_node(trees, 1, np.float32, tracks=False)], inputs={"x": (np.float32, 4)},
                  outputs={"y": (np.float32, 1)})  # fmt: skip
    model = saved(proto, tmp_path)
    for method in ("trees", "enumeration", "sampling"):
        values = mk.Explainer(model, background=X[:50], method=method).explain(X[100:120]).values
        assert not values[:, 3].any()
        if method != "sampling":
            np.testing.assert_allclose(values[:, 0], values[:, 1], rtol=0, atol=1e-7)
