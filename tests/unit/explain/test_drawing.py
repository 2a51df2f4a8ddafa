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
