"""The page and the card of an Evaluation: pictures, escapes, and no row."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.evaluated import told

import modelkit as mk


def test_a_page_has_its_pictures_and_escapes_what_comes_from_data(model, held):
    X, y = held
    evil = "<script>alert(1)</script>"
    page = mk.evaluate(model, X, y, slices={evil: np.where(y == "benign", evil, "b&c")}).to_html()
    assert "<script" not in page
    assert "b&amp;c" in page
    assert page.count("<section>") == 3
    assert "http" not in page.replace("http-equiv", "")


def test_a_slice_without_a_figure_says_why(model, held):
    X, y = held
    page = mk.evaluate(model, X, y, slices={"truth": y}).to_html()
    assert "no row is negative" in page
    assert "no row is positive" in page


def test_a_card_holds_the_figures(evaluation):
    card = evaluation._repr_html_()
    assert "roc_auc" in card
    assert "overfitted" in card


def test_no_row_is_kept(model, held):
    X, y = held
    text = mk.evaluate(model, X, y).to_json()
    values = [repr(value) for value in X["mean area"]]
    assert not any(value in text for value in values if len(value) > 4)
    curves = mk.evaluate(model, X, y).curves
    assert all(len(curve.x) <= 512 for curve in curves)


def test_curves_of_many_rows_are_thinned_and_keep_their_shape():
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=20_000)
    high = 1 / (1 + np.exp(-(rng.normal(size=20_000) + truth)))
    model, X = told(np.column_stack([1 - high, high]))
    found = mk.evaluate(model, X, truth)
    roc, precision_recall = found.curves
    assert 300 < len(roc.x) <= 512
    assert (roc.x[0], roc.y[0], roc.x[-1], roc.y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(found["roc_auc"].value, abs=2e-3)
    assert len(precision_recall.x) <= 512
    assert list(precision_recall.x) == sorted(precision_recall.x)
