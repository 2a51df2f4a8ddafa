"""Bars of what columns add."""

import numpy as np
import pandas as pd
import pytest
from sklearn import linear_model

import modelkit as mk

pytestmark = pytest.mark.usefixtures("one_thread")


def test_names_are_drawn_as_they_are(tmp_path):
    """matplotlib would read what stands between two dollars as mathematics."""
    pytest.importorskip("matplotlib").use("Agg")
    X = pd.DataFrame(
        {"a$b_$": np.arange(9.0), "a": np.arange(9.0) % 2, "a = 1": np.arange(9.0) % 3}
    )
    mk.save(
        linear_model.LinearRegression().fit(X, X["a"]),
        tmp_path / "m.mk",
        example=X,
        name="m",
        version="1",
    )
    axes = mk.Explainer(mk.load(tmp_path / "m.mk"), background=X).explain(X[:2]).plot()
    axes.figure.savefig(tmp_path / "p.png")
    assert len(axes.patches) == 3
    assert any("a$b_$" in label.get_text() for label in axes.get_yticklabels())


def test_large_numbers_are_drawn_in_full(tmp_path):
    """A price of 1,360 dollars was drawn as +1.36e+03, above a sum of 6986."""
    pytest.importorskip("matplotlib").use("Agg")
    X = np.stack([np.arange(20.0), np.arange(20.0) % 2], axis=1)
    model = linear_model.LinearRegression().fit(X, X @ [1000, 0.25])
    mk.save(model, tmp_path / "m.mk", example=X, name="m", version="1")
    axes = mk.Explainer(mk.load(tmp_path / "m.mk"), background=X[:10]).explain(X[19:]).plot()
    assert {"+14,500", "+0.125"} == {text.get_text() for text in axes.texts}
