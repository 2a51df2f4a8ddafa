"""What mk.robustness measures, of which models, and what it leaves alone."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from helpers.evaluated import saved
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC

import modelkit as mk
from modelkit.errors import UsageError


@pytest.fixture(scope="session")
def report(forest, held):
    return mk.robustness(forest, *held, slices=["region", "late"])


def test_a_report_says_what_was_measured(report, forest, held):
    X, y = held
    right = int((forest.predict(X) == y).sum())
    assert report.rows == 150
    assert report.model == "model 1"
    assert report.model_digest == forest.manifest.model_digest
    evaluation = mk.evaluate(forest, X, y)
    assert report.data_digest == evaluation.data_digest
    assert report.before == evaluation["accuracy"]
    assert report["greedy"].rows == right
    assert report["greedy"].after.value == pytest.approx(1 - report["greedy"].share)
    assert all(figure.rows == 150 for figure in report.figures[:16] if figure.about)
    asked = report["greedy"].queries / right
    assert 50 < asked < 3 * 8 * 34
    with pytest.raises(KeyError, match="unknown figure 'fgsm'; there are noise"):
        report["fgsm"]


def test_slices_are_parts_of_the_whole(report):
    for name in ("noise 0.25", "unit 1000", "greedy"):
        whole = report[name]
        for column, values in (("region", ("north", "south", "west")), ("late", (0, 1))):
            parts = [report[f"{name} where {column} is {value}"] for value in values]
            assert sum(part.rows for part in parts) == whole.rows
            assert sum(part.flipped for part in parts) == whole.flipped


def test_equal_seeds_give_equal_reports(forest, held, report):
    again = mk.robustness(forest, *held, slices=["region", "late"])
    assert again == report
    other = mk.robustness(forest, *held, slices=["region", "late"], seed=1)
    assert other["noise 0.25"] != report["noise 0.25"]
    assert other["rounding 1"] == report["rounding 1"]
    assert other["greedy"] == report["greedy"]


def test_the_rows_of_the_caller_stay_as_they_are(forest, held):
    X, y = held
    before = X.copy()
    mk.robustness(forest, X, y)
    pd.testing.assert_frame_equal(X, before)


def test_a_path_is_opened(forest, held, tmp_path, report):
    X, y = held
    with pytest.raises(TypeError, match="takes a Model or the path of a package"):
        mk.robustness(RandomForestClassifier(), X, y)
    fitted = LogisticRegression().fit(X[["age"]], y)
    saved(fitted, X[["age"]], tmp_path)
    assert mk.robustness(tmp_path / "model.mk", X[["age"]], y).rows == 150


def test_a_watcher_does_not_see_changed_rows(forest, held):
    X, y = held
    watched = mk.Monitor(forest, mk.Profile.fit(X))
    metered = mk.Meter(watched)
    mk.robustness(metered, X, y)
    assert metered.totals().rows == 0
    assert watched.detector.report().rows == 0


def test_several_classes(tmp_path):
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = saved(RandomForestClassifier(20, random_state=0).fit(X[::2], y[::2]), X, tmp_path)
    report = mk.robustness(model, X[1::2], y[1::2])
    assert 0 < report["greedy"].share < 1
    assert report["unit 1000"].share > report["noise 0.05"].share


def test_several_labels_flip_where_any_of_them_does(tmp_path):
    X, y = load_iris(return_X_y=True, as_frame=True)
    labels = np.column_stack([y == 0, y == 2]).astype(int)
    model = saved(RandomForestClassifier(20, random_state=0).fit(X, labels), X, tmp_path)
    report = mk.robustness(model, X, labels)
    assert report.before.name == "accuracy"
    assert 0 < report["greedy"].share < 1


@pytest.mark.parametrize(
    "estimator",
    [LinearSVC(), IsolationForest(random_state=0)],
    ids=lambda each: type(each).__name__,
)
def test_a_model_without_probabilities_is_attacked_by_its_scores(estimator, tmp_path):
    X, y = load_iris(return_X_y=True, as_frame=True)
    X, y = X[y > 0], np.where(y[y > 0] == 2, 1, -1)
    model = saved(estimator.fit(X, y), X, tmp_path)
    assert mk.robustness(model, X, y)["greedy"].flipped > 0


def test_a_prediction_flips_beyond_the_tolerance(tmp_path):
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    fitted = LinearRegression().fit(X, y)
    model = saved(fitted, X, tmp_path)
    limits = mk.Constraints(
        0.4, most_columns=1, ranges=dict.fromkeys(X.drop(columns="sex"), (-9, 9))
    )
    report = mk.robustness(model, X, y, constraints=limits, tolerance=0.2)
    assert report["greedy"].rows == len(X)
    reach = 0.4 * np.abs(X - X.median()).mean() * np.abs(fitted.coef_)
    reaches = bool(reach.max() > 0.2 * np.std(y))
    assert report["greedy"].share == float(reaches)
    wide = mk.robustness(model, X, y, constraints=limits, tolerance=5.0)
    assert wide["greedy"].flipped == wide["noise 0.25"].flipped == 0


def test_columns_that_cannot_change_are_named(tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"x": rng.normal(size=80), "day": pd.date_range("2026-01-01", periods=80)})
    signature = mk.Signature(
        (
            mk.TensorSpec("x", "float64", ("batch", 1), (mk.Column("x"),)),
            mk.TensorSpec(
                "day", "datetime64[ns]", ("batch", 1), (mk.Column("day", "datetime64[ns]"),)
            ),
        ),
        (mk.TensorSpec("label", "int64", ("batch",)),),
        classes=(0, 1),
    )
    model = mk.FunctionModel(lambda feeds: {"label": (feeds["x"][:, 0] > 0).astype(int)}, signature)
    report = mk.robustness(model, X, (X["x"] > 0).astype(int))
    assert "neither errors nor attacks change these columns: day" in report.notes
    assert report["greedy"].flipped > 0


def test_a_model_that_decides_nothing_is_refused(tiny_mk, forest, held):
    with mk.load(tiny_mk) as encoder, pytest.raises(UsageError, match="decides nothing row by row"):
        mk.robustness(encoder, ["a", "b", "a", "c"], [0, 1, 0, 1])
    X, y = held
    with pytest.raises(TypeError, match=r"constraints is mk.Constraints\(...\), not \{'step'"):
        mk.robustness(forest, X, y, constraints={"step": 1})
    with pytest.raises(UsageError, match="level of an interval"):
        mk.robustness(forest, X, y, level=95)


def reversed_rows(trial, places, seed):
    rows = {name: values[places][::-1] for name, values in trial.rows.items()}
    return rows, 0


def test_an_attack_that_asks_nothing_keeps_to_the_budget_and_is_printed(forest, held):
    report = mk.robustness(forest, *held, attacks=[reversed_rows])
    figure = report["reversed_rows"]
    # Most of its rows have more changed columns than the constraints allow.
    assert figure.flipped < figure.rows * (1 - figure.after.value) / 2
    assert report["reversed_rows of at most 2 columns"].flipped <= figure.flipped
    assert str(figure) in str(report)


def test_the_name_of_an_attack_and_a_report_that_is_none_are_refused(forest, held):
    named = r"attacks are functions of different names, such as \[greedy\], not \["
    for attacks in (["fgsm"], [partial(reversed_rows)], [reversed_rows, reversed_rows]):
        with pytest.raises(UsageError, match=named):
            mk.robustness(forest, *held, attacks=attacks)
    with pytest.raises(TypeError, match=r"robustness is what mk.robustness\(model, X, y\) gives"):
        mk.evaluate(forest, *held, robustness=True)


def rows_alone(trial, places, seed):
    return reversed_rows(trial, places, seed)[0]


def no_number(trial, places, seed):
    return reversed_rows(trial, places, seed)[0], None


def a_column_less(trial, places, seed):
    rows, queries = reversed_rows(trial, places, seed)
    del rows["age"]
    return rows, queries


def all_rows(trial, places, seed):
    return trial.rows, 0


@pytest.mark.parametrize("attack", [rows_alone, no_number, a_column_less, all_rows])
def test_an_attack_that_returns_something_else_is_refused(forest, held, attack):
    asked = (
        rf"the attack {attack.__name__} is to return two things: a dict of the columns income, rate"
    )
    with pytest.raises(UsageError, match=asked):
        mk.robustness(forest, *held, attacks=[attack])


def test_a_partial_attack_with_a_name_and_a_count_of_numpy_are_taken(forest, held):
    def counted(trial, places, seed, more):
        return reversed_rows(trial, places, seed)[0], np.int64(more)

    attack = partial(counted, more=7)
    attack.__name__ = "seven"
    report = mk.robustness(forest, *held, attacks=[attack])
    assert report["seven"].queries == 7 + report["seven"].rows
    assert mk.RobustnessReport.from_json(report.to_json()) == report


@pytest.mark.parametrize("tolerance", [-0.1, np.nan, np.inf, "a", None])
def test_a_tolerance_is_a_number_of_standard_deviations(forest, held, tolerance):
    with pytest.raises(UsageError, match="tolerance is in standard deviations of the truth, 0 or"):
        mk.robustness(forest, *held, tolerance=tolerance)


def test_a_line_says_only_what_its_figure_has(report):
    part = report["greedy of at most 1 column"]
    assert str(part) == f"{part.name} flips {part.text} of {part.rows:,} rows"
    assert "the usual distance" not in str(report["typo 0.25"])
    assert "moved by " in str(report["unit 1000"])
    assert "times the usual distance from the median" in str(report["unit 1000"])


def test_where_no_row_is_right_none_is_attacked(tree, counts):
    X, _ = counts
    wrong = 1 - tree.predict(X)
    report = mk.robustness(tree, X, wrong)
    assert (report["greedy"].rows, report["greedy"].flipped) == (0, 0)
    assert (report["greedy"].low, report["greedy"].high) == (0.0, 1.0)
    assert report.gate_check("greedy", 0.5).outcome == "unclear"


def one_number(dtype="float64"):
    """A Model of whether a column is above 0, beside one that is mostly missing."""
    columns = mk.Column("x", dtype), mk.Column("rare", dtype, nullable=True)
    signature = mk.Signature(
        (mk.TensorSpec("X", dtype, ("batch", 2), columns),),
        (mk.TensorSpec("label", "int64", ("batch",)),),
        classes=(0, 1),
    )
    return mk.FunctionModel(lambda feeds: {"label": (feeds["X"][:, 0] > 0.5) * 1}, signature)


def test_one_number_of_each_row_changes_its_unit_though_others_are_missing():
    X = np.full((200, 2), np.nan)
    X[:, 0] = np.arange(200) % 2
    X[0, 0] = -1
    X[:3, 1] = 1, 2, 3
    report = mk.robustness(one_number(), X, (X[:, 0] > 0.5) * 1)
    assert report["unit 0.1"].flipped >= 98


def test_rows_that_are_all_decided_wrongly_leave_every_figure_without_an_answer():
    X = np.random.default_rng(0).normal(size=(40, 2))
    report = mk.robustness(one_number(), X, (X[:, 0] <= 0.5) * 1)
    for name in ("greedy", "greedy of at most 1 column"):
        assert (report[name].rows, report[name].low, report[name].high) == (0, 0, 1)
        assert report.gate_check(name, 0.9).outcome == "unclear"


def test_an_attack_that_asks_nothing_keeps_to_its_columns_all_the_same():
    def blindly(trial, places, _):
        """Every number changes its sign."""
        return {name: -values[places] for name, values in trial.rows.items()}, 0

    X = np.random.default_rng(0).normal(size=(40, 2))
    y = (X[:, 0] > 0.5) * 1
    for most, expected in ((1, False), (2, True)):
        limits = mk.Constraints(most_columns=most)
        report = mk.robustness(one_number(), X, y, constraints=limits, attacks=[blindly])
        assert (report["blindly"].flipped > 0) is expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinite_and_huge_numbers_are_measured_without_a_warning(dtype):
    X = np.linspace(-1, 1, 80).reshape(40, 2).astype(dtype) * np.finfo(dtype).max
    X[0, 1] = np.inf
    report = mk.robustness(one_number(dtype), X, (X[:, 0] > 0.5) * 1)
    assert report["greedy"].flipped > 0


@pytest.mark.parametrize("seed", [-1, 0.5, "1"])
def test_a_seed_is_a_whole_number(forest, held, seed):
    with pytest.raises(UsageError, match="seed is an integer of at least 0"):
        mk.robustness(forest, *held, seed=seed)
