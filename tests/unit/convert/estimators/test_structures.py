"""What a conversion says of the sums that it built."""

import numpy as np
import pandas as pd
import pytest
from sklearn import compose, decomposition, ensemble, linear_model, multiclass, preprocessing
from sklearn.pipeline import make_pipeline

import modelkit as mk
from modelkit.model.structure import Structure

rng = np.random.default_rng(0)
X = rng.normal(size=(80, 3))
TWO = (X[:, 0] > 0).astype(int)
THREE = np.digitize(X[:, 0], [-0.4, 0.4])
SMALL = {"n_estimators": 3, "random_state": 0}


def structure(model, y, rows=X):
    manifest = mk.save(model.fit(rows, y), "m.mk", example=rows)
    found = manifest.structures
    assert mk.inspect("m.mk").structures == found
    return next(iter(found.values()), None)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("model", "y", "known"),
    [
        (linear_model.LinearRegression(), X[:, 0], ("identity", 1.0, ())),
        (linear_model.PoissonRegressor(), TWO, ("exp", 1.0, ())),
        (linear_model.LogisticRegression(), TWO, ("softmax", 1.0, ())),
        (linear_model.SGDClassifier(loss="log_loss", random_state=0), THREE, ("share", 1.0, ())),
        (
            multiclass.OneVsRestClassifier(linear_model.LogisticRegression()),
            THREE,
            ("share", 1.0, ()),
        ),
        (
            make_pipeline(decomposition.PCA(2), linear_model.LogisticRegression()),
            TWO,
            ("softmax", 1.0, ()),
        ),
        (ensemble.RandomForestRegressor(**SMALL), X[:, 0], ("identity", 1 / 3, (0, 1, 2))),
        (ensemble.GradientBoostingClassifier(**SMALL), TWO, ("softmax", 1.0, (0, 1, 2))),
        (
            ensemble.GradientBoostingClassifier(loss="exponential", **SMALL),
            TWO,
            ("softmax", 2.0, (0, 1, 2)),
        ),
        (make_pipeline(decomposition.PCA(2), ensemble.RandomForestRegressor(**SMALL)), TWO, None),
        (
            make_pipeline(preprocessing.PolynomialFeatures(2), linear_model.LinearRegression()),
            TWO,
            None,
        ),
    ],
)
def test_the_link_the_factor_and_the_groups_of_a_sum(model, y, known):
    found = structure(model, y)
    if known is None:
        assert found is None
    else:
        link, factor, groups = known
        assert found == Structure(found.tensor, link, factor, found.table, groups)


def test_groups_are_of_the_columns_that_the_package_takes():
    """What nothing reads of times and texts is no input of the graph."""
    rows = pd.DataFrame(X, columns=["a", "b", "c"])
    rows.insert(0, "when", pd.date_range("2026-01-01", periods=80))
    rows.insert(2, "kind", np.where(X[:, 2] > 0, "u", "v"))
    rows.insert(0, "other", np.where(X[:, 2] > 0, "u", "v"))
    parts = compose.make_column_transformer(
        ("passthrough", ["other"]),
        (preprocessing.OneHotEncoder(sparse_output=False), ["kind"]),
        ("passthrough", ["c", "a"]),
    )
    kept = compose.make_column_transformer(("passthrough", [1, 2, 3, 4]))
    model = make_pipeline(parts, kept, ensemble.RandomForestRegressor(**SMALL))
    found = structure(model, X[:, 0], rows)
    names = mk.inspect("m.mk").signature.column_names
    assert "other" not in names
    assert [names[place] for place in found.groups] == ["kind", "kind", "c", "a"]
    explainer = mk.Explainer(mk.load("m.mk"), background=rows[:20])
    assert explainer.plan().method == "trees"
    explainer.explain(rows[20:30])
