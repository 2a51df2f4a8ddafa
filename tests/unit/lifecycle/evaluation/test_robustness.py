"""A RobustnessReport is a value: JSON, text, card and page; it goes into an Evaluation and into a gate."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

import modelkit as mk
from modelkit.errors import PackageError, UsageError
from modelkit.lifecycle.evaluation.robustness import RobustnessFigure
from modelkit.stats.intervals import clopper_pearson


@pytest.fixture(scope="module")
def report(model, held):
    sizes = np.where(held[0]["mean radius"] > 14, "large", "small")
    return mk.robustness(model, *held, slices={"size": sizes})


def test_a_report_is_a_value(report):
    text = report.to_json()
    assert text.isascii()
    assert mk.RobustnessReport.from_json(text) == report
    assert json.loads(text)["schema"] == "modelkit.robustness/1"
    with pytest.raises(PackageError, match="not a RobustnessReport in JSON"):
        mk.RobustnessReport.from_json(text.replace('"level"', '"height"'))
    with pytest.raises(PackageError, match="step is a number of spreads above 0"):
        mk.RobustnessReport.from_json(text.replace('"step": 0.5', '"step": -1'))


def test_a_report_prints_figures_and_what_to_know(report):
    lines = str(report).splitlines()
    assert lines[0].startswith(
        "Robustness of tumour 1.0: 284 rows, intervals of 95%, before accuracy"
    )
    assert any(line.startswith("  greedy flips ") and "queries" in line for line in lines)
    assert any("Constraints(step=0.5, most_columns=3" in line for line in lines)
    assert "where size is" not in str(report)
    page = report.to_html()
    assert page.startswith("<!doctype html>")
    for shown in (page, report._repr_html_()):
        assert "greedy" in shown
    assert "greedy where size is large" in page
    assert report.model_digest in page


def test_a_report_holds_no_row(model, held):
    """Ends of ranges are the caller's, and values of slices are named, as in an Evaluation; nothing else is there."""
    X, y = held
    marked = X.assign(**{"mean area": 7654321.0 + np.arange(len(X))})
    report = mk.robustness(model, marked, y)
    for shown in (report.to_json(), str(report), report.to_html(), report._repr_html_()):
        assert "7654" not in shown
        assert "7,654" not in shown


def test_an_evaluation_holds_a_report_of_the_same_model(model, held, report, tumours, tmp_path):
    X, y = held
    evaluation = mk.evaluate(model, X, y, robustness=report)
    assert evaluation.robustness == report
    assert mk.Evaluation.from_json(evaluation.to_json()) == evaluation
    assert str(report["greedy"]) in str(evaluation)
    assert "greedy where size is large" in evaluation.to_html()
    assert "greedy flips" in evaluation._repr_html_()
    from sklearn.linear_model import LogisticRegression

    mk.save(LogisticRegression(C=0.1, max_iter=5000).fit(X, y), tmp_path / "other.mk", example=X)
    with pytest.raises(
        UsageError, match=r"the robustness is of tumour 1\.0 .* measure it on the same"
    ):
        mk.evaluate(tmp_path / "other.mk", X, y, robustness=report)
    folds = [(np.arange(200), np.arange(200, 284))]
    with pytest.raises(UsageError, match="this Evaluation of the training of LogisticRegression"):
        mk.evaluate(LogisticRegression(max_iter=5000), X, y, cv=folds, robustness=report)


def with_counts(report, flipped, rows):
    """The report with one figure, of so many rows that flipped."""
    figure = RobustnessFigure("greedy", rows, flipped, *clopper_pearson(flipped, rows), "tried")
    return replace(report, figures=(figure,))


@pytest.mark.parametrize(
    ("flipped", "outcome"),
    [(0, "pass"), (12, "pass"), (13, "unclear"), (27, "unclear"), (28, "fail")],
)
def test_a_gate_asks_for_a_bound(report, flipped, outcome):
    check = with_counts(report, flipped, 200).gate_check("greedy", 0.1)
    low, high = clopper_pearson(flipped, 200, 0.9)
    assert (check.outcome, check.low, check.high) == (outcome, low, high)
    assert (check.bound, check.estimate, check.level, check.required) == (
        0.1,
        flipped / 200,
        0.9,
        True,
    )
    assert f"{flipped} of 200 rows flipped; tumour 1.0" in check.text


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("bound", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("rows", [20, 150, 1000])
def test_a_pass_is_wrong_with_a_probability_of_at_most_alpha(report, alpha, bound, rows):
    """Summed over all counts of a model that flips just more than the bound: no draws, so no chance."""
    wrong = 0.0
    for flipped in range(int(3 * bound * rows) + 5):
        check = with_counts(report, min(flipped, rows), rows).gate_check(
            "greedy", bound, alpha=alpha
        )
        if check.outcome != "pass":
            break
        wrong += binom.pmf(flipped, rows, bound * (1 + 1e-9))
    assert wrong <= alpha


def test_a_bound_that_is_no_share_is_refused(report):
    texts = ({"at_most": "a"}, {"at_most": 0.1, "alpha": "a"})
    for wrong in ({"at_most": 20}, {"at_most": -0.1}, {"at_most": 0.1, "alpha": 0.9}, *texts):
        with pytest.raises(UsageError, match="at_most is a share of rows from 0 to 1"):
            report.gate_check("greedy", **wrong)


def test_a_gate_takes_the_check(model, package, held, report):
    verdict = mk.gate(
        package, package, *held, margin=0.1, checks=[report.gate_check("noise 0.05", 0.05)]
    )
    assert verdict["noise 0.05 flips at most 0.05"].outcome == "pass"
    blocked = mk.gate(
        package, package, *held, margin=0.1, checks=[report.gate_check("unit 1000", 0.05)]
    )
    assert blocked.decision == "block"


def test_a_gate_refuses_a_check_of_another_model(package, held, report, tmp_path):
    from sklearn.linear_model import LogisticRegression

    X, y = held
    other = tmp_path / "other.mk"
    mk.save(LogisticRegression(C=0.1, max_iter=5000).fit(X, y), other, example=X, name="other")
    check = report.gate_check("noise 0.05", 0.05)
    assert check.model_digest == mk.inspect(package).model_digest
    with pytest.raises(
        UsageError, match=r"'noise 0.05 flips at most 0.05' is of the model .* other 0 is"
    ):
        mk.gate(other, package, X, y, margin=0.1, checks=[check])
    assert mk.gate(package, other, X, y, margin=0.1, checks=[check])[check.name] == check
