"""Slices of rows have figures of their own."""

from __future__ import annotations

import re

import numpy as np
import pytest

import modelkit as mk
from modelkit.errors import UsageError


def test_slices_have_their_rows_and_missing_values_a_slice(model, held):
    X, y = held
    found = mk.evaluate(model, X, y, slices={"half": [None] * 100 + ["b"] * 184})
    assert [(part.value, part.rows) for part in found.slices] == [("b", 184), ("missing", 100)]
    with pytest.raises(UsageError, match="284 different values"):
        mk.evaluate(model, X, y, slices={"row": np.arange(284)})
    with pytest.raises(UsageError, match="3 values, and there are 284"):
        mk.evaluate(model, X, y, slices={"a": [1, 2, 3]})
    with pytest.raises(UsageError, match="list of names"):
        mk.evaluate(model, X, y, slices=["region", 7])


def test_slices_print_as_a_table(model, held):
    X, y = held
    found = mk.evaluate(model, X, y, slices={"half": [None] * 100 + ["b"] * 184})
    header, first, second = repr(found.slices).splitlines()
    assert header.split() == ["column", "value", "rows", "accuracy"]
    assert re.fullmatch(r"half +b +184 +0\.[\d]+ \[[\d.]+, [\d.]+\]", first)
    assert second.split()[:3] == ["half", "missing", "100"]
    assert "<table" in found.slices._repr_html_()
    assert mk.Evaluation.from_json(found.to_json()).slices == found.slices
    assert repr(mk.evaluate(model, X, y).slices) == "()"


def test_a_slice_of_one_class_says_what_it_cannot_tell(model, held):
    X, y = held
    part = mk.evaluate(model, X, y, slices={"truth": y}).slices[0]
    figures = {figure.name: figure for figure in part.figures}
    assert figures["roc_auc"].value is None
    assert figures["roc_auc"].why == "no row is positive"
    assert figures["accuracy"].value is not None
    few = str(mk.evaluate(model, X[:20], y[:20]))
    assert re.search(r"matthews [\d.]+, no interval: it rests on", few)
