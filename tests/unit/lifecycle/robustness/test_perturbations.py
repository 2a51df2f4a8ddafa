"""Each perturbation does what it says, to the columns that it fits, and gives values that they hold."""

from __future__ import annotations

import numpy as np
import pytest

import modelkit as mk
from modelkit.lifecycle.robustness.perturbations import PERTURBATIONS
from modelkit.lifecycle.robustness.trial import Cells

BY_NAME = {change.name: change for change in PERTURBATIONS}
NUMBER = Cells(mk.Column("x"), np.array([0.0, 9.0]), 2.0)
WHOLE = Cells(mk.Column("x", "int64"), np.arange(9), 2.0)
CLOSED = Cells(mk.Column("c", "string", categories=("a", "b")), np.array(["a", "b"], object), 0.0)
FREE = Cells(mk.Column("t", "string", nullable=True), np.array(["a", "bc"], object), 0.0)
CONSTANT = Cells(mk.Column("x"), np.array([3.0]), 0.0)
COUNT = Cells(mk.Column("n", "int64", nullable=True), np.arange(9), 2.0)  # in a tensor of integers
FLAG = Cells(mk.Column("f", "bool"), np.array([0.0, 1.0]), 0.0)


@pytest.mark.parametrize(
    ("name", "fitting"),
    [
        ("noise", [NUMBER, WHOLE, COUNT]),
        ("rounding", [NUMBER, WHOLE, COUNT]),
        ("unit", [NUMBER, WHOLE, COUNT]),
        ("missing", [FREE]),
        ("typo", [CLOSED, FREE, FLAG]),
    ],
)
def test_a_change_happens_to_the_columns_that_it_fits(name, fitting):
    known = [NUMBER, WHOLE, COUNT, CLOSED, FREE, CONSTANT, FLAG]
    assert [cells for cells in known if BY_NAME[name].fits(cells)] == fitting


def changed(name, cells, values, strength):
    return BY_NAME[name].change(cells, np.asarray(values), strength, np.random.default_rng(0))


def test_noise_is_normal_and_in_spreads():
    moved = changed("noise", NUMBER, np.zeros(20_000), 0.25)
    assert abs(moved.std() - 0.5) < 0.01
    assert abs(moved.mean()) < 0.02
    assert {*changed("noise", WHOLE, np.zeros(500, int), 0.25).tolist()} == {-2, -1, 0, 1, 2}


@pytest.mark.parametrize(
    ("digits", "rounded"),
    [(3, [1230.0, -0.00988, 0.0]), (2, [1200.0, -0.0099, 0.0]), (1, [1000.0, -0.01, 0.0])],
)
def test_rounding_keeps_significant_digits(digits, rounded):
    assert changed("rounding", NUMBER, [1234.0, -0.009876, 0.0], digits).tolist() == rounded


def test_another_unit_is_a_factor():
    assert changed("unit", NUMBER, [1.5, -2.0], 1000).tolist() == [1500.0, -2000.0]
    assert changed("unit", WHOLE, [1500, 4], 0.001).tolist() == [2, 0]


def test_a_typo_is_another_text_or_any_category():
    texts = np.array(["baker", "a", "", "xx"], object)
    assert changed("typo", FREE, texts, 0.05) == ["abker", "a", "", "xx"]
    assert {*changed("typo", CLOSED, np.array(["a"] * 50, object), 0.05)} == {"a", "b"}


def test_each_strength_is_a_figure_of_its_own(forest, held):
    report = mk.robustness(forest, *held, attacks=[])
    assert [figure.name for figure in report.figures] == [
        f"{change.name} {strength:g}" for change in PERTURBATIONS for strength in change.strengths
    ]
    assert report["typo 0.25"].flipped >= report["typo 0.05"].flipped


def test_what_no_column_allows_is_left_out(tree, counts):
    report = mk.robustness(tree, *counts)
    assert {figure.name.split()[0] for figure in report.figures} == {
        "noise", "rounding", "missing", "unit", "greedy",
    }  # fmt: skip
