"""mk.evaluate from labelled rows to figures: every kind of task, what rows may be, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers.evaluated import checked, saved, told
from sklearn import metrics
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import IsolationForest, RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import LinearSVC

import modelkit as mk
from modelkit.errors import MissingExtraError, SignatureError, UsageError
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.metrics import METRICS


def test_infinite_predictions_are_told():
    signature = mk.Signature(
        (mk.TensorSpec("X", "float64", ("batch", 1)),),
        (mk.TensorSpec("prediction", "float64", ("batch",)),),
    )
    model = mk.FunctionModel(
        lambda feeds: {"prediction": np.where(feeds["X"][:, 0], feeds["X"][:, 0], np.inf)},
        signature,
    )
    X = np.full((100, 1), 0.5)
    X[3] = 0
    found = checked(mk.evaluate(model, X, np.linspace(1, 2, 100)))
    assert found["mae"].why == "1 of 100 errors are NaN or infinite"
    assert found["r2"].why == "1 of 100 predictions are NaN or infinite"
    assert found.residuals == ()


def test_the_same_rows_give_the_same_evaluation_in_any_form(model, held):
    X, y = held
    first = mk.evaluate(model, X, y)
    assert mk.evaluate(model, pl.from_pandas(X), pl.Series(y)) == first
    assert mk.evaluate(model, X.to_numpy(), y.tolist()) == first
    assert mk.evaluate(model, X, pd.Series(y).astype("category")) == first


def test_the_order_of_rows_changes_nothing(model, held):
    X, y = held
    order = np.random.default_rng(0).permutation(len(X))
    first = mk.evaluate(model, X, y)
    other = mk.evaluate(model, X.iloc[order], y[order])
    for a, b in zip(first.figures, other.figures, strict=True):
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), rel=1e-9)
    assert first.data_digest == other.data_digest


def test_weights_are_as_good_as_copies(model, held):
    X, y = held
    times = np.random.default_rng(0).integers(0, 4, len(X))
    rows = np.repeat(np.arange(len(X)), times)
    weighted = mk.evaluate(model, X, y, sample_weight=times)
    copied = mk.evaluate(model, X.iloc[rows], y[rows])
    assert weighted.weighted
    for a, b in zip(weighted.figures, copied.figures, strict=True):
        if a.name != "calibration_error":  # what chance adds depends on how many rows there are
            assert a.value == pytest.approx(b.value, rel=1e-6), a.name
    assert np.array(weighted.confusion.counts) == pytest.approx(np.array(copied.confusion.counts))


def test_clusters_widen_the_intervals(model, held):
    X, y = held
    alone = mk.evaluate(model, X, y)
    order = np.argsort(model.predict_proba(X)[:, 1] - (y == "malignant"))
    clusters = np.empty(len(X), int)
    clusters[order] = np.arange(len(X)) // 8  # rows of a cluster err alike
    together = mk.evaluate(model, X, y, clusters=clusters)
    assert together.independent == 36
    for name in ("accuracy", "roc_auc", "log_loss"):
        widths = [own[name].high - own[name].low for own in (alone, together)]
        assert widths[1] > 1.3 * widths[0]
        assert alone[name].value == together[name].value


def test_columns_are_named_and_need_not_be_the_models(model, held):
    X, y = held
    more = X.assign(
        customer=np.arange(len(X)) // 3, region=np.where(np.arange(len(X)) % 5, "north", "south")
    )
    named = mk.evaluate(model, more, y, clusters="customer", slices=["region"])
    given = mk.evaluate(model, X, y, clusters=more["customer"], slices={"region": more["region"]})
    assert named == given
    assert named == mk.evaluate(model, more, y, clusters="customer", slices="region")
    assert [(part.value, part.rows) for part in named.slices] == [("north", 227), ("south", 57)]
    with pytest.raises(SignatureError, match="region"):
        mk.evaluate(model, more, y, clusters="customer")
    with pytest.raises(UsageError, match="names the column 'client'"):
        mk.evaluate(model, more, y, clusters="client")
    with pytest.raises(UsageError, match="array without names"):
        mk.evaluate(model, X.to_numpy(), y, slices=["region"])


# Kinds of task.


def test_many_classes(tmp_path):
    X, y = load_iris(return_X_y=True)
    with saved(LogisticRegression(max_iter=500).fit(X[::2], y[::2]), X, tmp_path) as model:
        found = checked(mk.evaluate(model, X[1::2], y[1::2]))
    assert found.kind == "multiclass"
    assert (
        found["accuracy"].value == (model.signature.classes is not None) * found["accuracy"].value
    )
    assert len(found.curves) == 6
    assert np.array(found.confusion.counts).sum() == 75


@pytest.mark.parametrize("kind", [OneVsRestClassifier, MultiOutputClassifier])
def test_several_labels(kind, tmp_path):
    X, y = load_iris(return_X_y=True)
    labels = np.column_stack([y == 0, y == 1]).astype(int)
    with saved(kind(LogisticRegression()).fit(X[::2], labels[::2]), X, tmp_path) as model:
        found = checked(mk.evaluate(model, X[1::2], labels[1::2]))
        with pytest.raises(UsageError, match="0 and 1"):
            mk.evaluate(model, X[1::2], labels[1::2] * 2)
    assert found.kind == "multilabel"
    assert [own.label for own in found.classes] == ["0", "1"]
    assert found["roc_auc"].value > 0.8


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, dict, pa.table])
def test_labels_keep_their_names_and_one_that_is_constant_hides_no_other(frame, tmp_path):
    X, y = load_iris(return_X_y=True)
    truth = {"setosa": (y == 0) * 1, "other": (y == 1) * 1, "never": y * 0}
    forest = RandomForestClassifier(5, random_state=0).fit(
        X[::2], np.column_stack([*truth.values()])[::2]
    )
    half = frame({name: values[1::2] for name, values in truth.items()})
    with saved(forest, X[::2], tmp_path) as model:
        found = checked(mk.evaluate(model, X[1::2], half))
    assert [own.label for own in found.classes] == ["setosa", "other", "never"]
    assert {curve.label for curve in found.curves} == {"setosa", "other"}
    assert str(found.classes[1].figures[1]).startswith("recall of other 0.9")
    areas = [own.figures[3].value for own in found.classes]
    assert areas[2] is None
    assert found["roc_auc"].value == pytest.approx((areas[0] + areas[1]) / 2)
    assert found["log_loss"].value is not None
    assert "no row has the label 'never'" in found.notes


@pytest.mark.parametrize("fitted", [LogisticRegression(), LinearSVC()])
@pytest.mark.parametrize("positive", ["late", "on time", None])
def test_the_positive_class_is_that_of_every_figure_and_picture(fitted, positive, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    y = np.where(X[:, 0] + rng.normal(size=300) > 0.8, "late", "on time")
    with saved(fitted.fit(X, y), X, tmp_path) as model:
        found = checked(mk.evaluate(model, X, y, positive=positive))
        plain = mk.evaluate(model, X, y)
    chosen = positive or "on time"
    told = fitted.predict(X)
    scores = fitted.decision_function(X) * (1 if chosen == "on time" else -1)
    expected = {
        "precision": metrics.precision_score(y, told, pos_label=chosen),
        "recall": metrics.recall_score(y, told, pos_label=chosen),
        "f1": metrics.f1_score(y, told, pos_label=chosen),
        "roc_auc": metrics.roc_auc_score(y == chosen, scores),
        "average_precision": metrics.average_precision_score(y, scores, pos_label=chosen),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value)
        assert f"{name} of {chosen} 0." in str(found)
        assert f"{name} of {chosen}" in found._repr_html_()
        assert f"{name} of {chosen}" in found.to_html()
    assert found.positive == chosen
    if found.reliability:
        assert f"the probability of {chosen}, in bins" in found.to_html()
    assert {curve.label for curve in found.curves} == {chosen}
    assert (found.classes, found.confusion) == (plain.classes, plain.confusion)
    assert found.data_digest == plain.data_digest
    assert (found == plain) == (chosen == "on time")
    if found.reliability:  # of the class that was chosen
        share = sum(part.observed * part.rows for part in found.reliability) / 300
        assert share == pytest.approx(np.mean(y == chosen))
    folds = mk.evaluate(fitted, X, y, cv=StratifiedKFold(3), positive=positive)
    assert str(folds["recall"]).startswith(f"recall of {chosen} ")
    assert abs(folds["recall"].value - expected["recall"]) < 0.1


def test_numbers(tmp_path):
    X, y = load_diabetes(return_X_y=True)
    forest = RandomForestRegressor(20, random_state=0).fit(X[::2], y[::2])
    with saved(forest, X, tmp_path) as model:
        found = checked(mk.evaluate(model, X[1::2], y[1::2], train=(X[::2], y[::2])))
    assert found.kind == "regression"
    assert found["r2"].value == pytest.approx(forest.score(X[1::2], y[1::2]), abs=1e-6)
    assert found.fit.startswith("It looks overfitted: r2 0.9")
    assert len(found.residuals) == 10
    assert sum(band.rows for band in found.residuals) == 221
    assert all(list(band.quantiles) == sorted(band.quantiles) for band in found.residuals)


def test_several_outputs(tmp_path):
    X, y = load_diabetes(return_X_y=True)
    both = np.column_stack([y, X[:, 0]])
    with saved(LinearRegression().fit(X, both), X, tmp_path) as model:
        found = checked(mk.evaluate(model, X, both))
        with pytest.raises(UsageError, match="predictions"):
            mk.evaluate(model, X, y)
    assert found["r2"].value == pytest.approx(LinearRegression().fit(X, both).score(X, both))
    assert found.residuals == ()


def test_rankings(tmp_path):
    X, y = load_diabetes(return_X_y=True)
    relevance = np.digitize(y, [100, 200])
    queries = np.random.default_rng(0).integers(20, size=442).astype(str)
    with saved(LinearRegression().fit(X, y), X, tmp_path) as model:
        found = checked(mk.evaluate(model, X, relevance, queries=queries))
        with pytest.raises(UsageError, match="pass queries="):
            mk.evaluate(model, X, relevance, kind="ranking")
        with pytest.raises(UsageError, match="equal within each query"):
            mk.evaluate(model, X, relevance, queries=queries, sample_weight=np.arange(442))
    assert (found.kind, found.independent) == ("ranking", 20)
    assert "442 rows in 20 queries" in str(found)
    assert 0.5 < found["ndcg@10"].low < found["ndcg@10"].value


def test_clusterings_and_outliers(tmp_path):
    X, y = load_iris(return_X_y=True)
    with saved(KMeans(3, random_state=0, n_init=2).fit(X), X, tmp_path) as model:
        found = checked(mk.evaluate(model, X, y))
        weighted = mk.evaluate(model, X, y, sample_weight=np.ones(150))
    assert found.kind == "clustering"
    assert 0.6 < found["adjusted_rand"].value < 0.8
    assert weighted["v_measure"].value is None
    with saved(IsolationForest(random_state=0).fit(X[:50]), X, tmp_path) as model:
        found = checked(mk.evaluate(model, X, np.where(y == 0, 1, -1)))
    assert found["roc_auc"].value > 0.99
    assert (found.positive, found.classes[0].label, found.classes[0].rows) == ("-1", "-1", 100)
    assert found["recall"].value == found.classes[0].figures[1].value
    with saved(IsolationForest(random_state=0).fit(X[:50]), X, tmp_path) as model:
        inliers = mk.evaluate(model, X, np.where(y == 0, 1, -1), positive=1)
    assert inliers["recall"].value == found.classes[1].figures[1].value
    assert inliers["roc_auc"].value == found["roc_auc"].value
    assert found["brier"].why == "the model gives no probabilities"


def test_what_nothing_tells_is_asked_for():
    signature = mk.Signature(
        (mk.TensorSpec("X", "float64", ("batch", 1)),), (mk.TensorSpec("y", "float64", ("batch",)),)
    )
    model = mk.FunctionModel(lambda feeds: {"y": feeds["X"][:, 0]}, signature)
    X = np.arange(30.0).reshape(-1, 1)
    with pytest.raises(UsageError, match="pass kind="):
        mk.evaluate(model, X, X[:, 0])
    assert mk.evaluate(model, X, X[:, 0] + 1, kind="regression")["mae"].value == 1


# Degenerate rows.


def test_one_row():
    model, X = told([[0.2, 0.8]])
    found = checked(mk.evaluate(model, X, [1]))
    assert found["accuracy"].value == 1
    assert found["accuracy"].low == pytest.approx(0.2065, abs=1e-4)
    assert found["log_loss"].value == pytest.approx(-np.log(0.8))
    assert found["log_loss"].low is None
    assert found["roc_auc"].why == "no row is negative"
    assert any("few" in note for note in found.notes)


def test_constant_predictions():
    model, X = told([[0.5, 0.5]] * 40)
    found = mk.evaluate(model, X, [0, 1] * 20)
    assert found["roc_auc"].value == 0.5
    assert found["matthews"].why.startswith("all predicted classes are equal")
    assert found["calibration_slope"].why.startswith("all probabilities are equal")
    assert found["precision"].why == "no row is predicted to have the class"
    assert mk.Evaluation.from_json(found.to_json()) == found
    assert "<svg" in found.to_html()


def test_nan_scores_are_told_and_not_counted_as_good():
    model, X = told([[0.2, 0.8], [np.nan, np.nan], [0.9, 0.1], [0.3, 0.7]])
    found = mk.evaluate(model, X, [1, 0, 0, 1])
    for name in ("roc_auc", "average_precision", "log_loss", "brier", "calibration_error"):
        assert found[name].value is None
        assert "1 of 4" in found[name].why
    assert found.curves == ()
    assert found.reliability == ()


def test_a_class_without_rows_is_named(tmp_path):
    X, y = load_iris(return_X_y=True)
    with saved(LogisticRegression(max_iter=500).fit(X, y), X, tmp_path) as model:
        found = mk.evaluate(model, X[y < 2], y[y < 2])
    assert found["roc_auc"].why == "of 2 no row is positive"
    assert found["balanced_accuracy"].value == pytest.approx(0.97)
    assert found.classes[2].figures[1].why == "no row has the class"


def test_a_rare_class_widens_an_average_by_its_share_only():
    def macro(rare):
        truth = np.concatenate([np.repeat([0, 1], 200), np.full(rare, 2)])
        predicted = np.where(np.arange(len(truth)) % 5, truth, 0)
        rows = Answered("multiclass", truth, predicted, classes=(0, 1, 2))
        each = METRICS["multiclass"]["balanced_accuracy"]
        low, high = each.interval(each.measure(rows), rows)
        return high - low

    assert macro(200) < macro(5) < 0.9


def test_a_batcher_is_evaluated_as_what_it_wraps(model, held):
    with mk.Batcher(model) as batcher:
        assert mk.evaluate(batcher, *held).figures == mk.evaluate(model, *held).figures


def test_one_class_of_two():
    model, X = told([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]])
    found = mk.evaluate(model, X, [1, 1, 1])
    assert found["accuracy"].value == pytest.approx(2 / 3)
    assert found.confusion.counts == ((0, 0), (1, 2))
    assert "no row has the class 0" in found.notes
    assert found.classes[0].figures[1].why == "no row has the class"
    assert "<svg" in found.to_html()


@pytest.mark.parametrize(
    ("y", "more", "reason"),
    [
        ([1, 2, 0], {}, "holds 2 in 1 rows"),
        (["1", "0", "1"], {}, "'0', '1' in 3 rows"),
        ([1, None, 0], {}, "y is missing in 1 of 3 rows, first in row 1"),
        ([1.0, np.nan, 0.0], {}, "y is missing in 1 of 3"),
        ([1, 0], {}, "y has 2 rows, and the model gave 3"),
        ([], {}, "X is empty"),
        ([1, 0, 1], {"sample_weight": [1, 2]}, "sample_weight"),
        ([1, 0, 1], {"sample_weight": [1, -1, 1]}, "at least 0"),
        ([1, 0, 1], {"sample_weight": [0, 0, 0]}, "one above it"),
        ([1, 0, 1], {"clusters": [1, 2]}, "clusters has 2 values"),
        ([1, 0, 1], {"clusters": [1, None, 2]}, "clusters is missing"),
        ([1, 0, 1], {"sample_weight": [1, np.inf, 1]}, "infinite in 1 of 3 rows, first in row 1"),
        ([1, 0, 1], {"sample_weight": [1, 1e308, 1]}, "up to 1e.308, whose square no float holds"),
        ([1, 0, 1], {"sample_weight": [0, 1e-320, 0]}, "up to 9.*e-321, whose square no float"),
        ([1, 0, 1], {"sample_weight": ["1", "2", "3"]}, "not numbers"),
        ([1, 0, 1], {"kind": "oracle"}, "kind is one of binary"),
        ([1, 0, 1], {"slices": {"a": np.zeros((3, 2))}}, "'a' has one value a row"),
        (1, {}, "y has one value a row"),
        (pd.DataFrame({"a": [1, 0, 1], "b": [1, 1, 0]}), {}, "table of 2"),
        ({"a": [1, 0, 1], "b": [1, 1, 0]}, {}, "table of 2"),
        ([1, 0, 1], {"level": 1.0}, "level"),
        ([1, 0, 1], {"train": 3}, "train is a tuple"),
        ([1, 0, 1], {"positive": "1"}, r"positive='1' is not a class of this model: .*\(0, 1\)"),
        ([1, 0, 1], {"positive": pd.NA}, r"positive=<NA> is not a class of this model"),
        ([1, 0, 1], {"positive": [1]}, r"positive=\[1\] is not a class of this model"),
        ([1, 0, 1], {"positive": 1, "kind": "regression"}, "positive=1 is for a task of two"),
        ([1, 0, 1], {"train": ([], []), "sample_weight": [1, 1, 1]}, "weights"),
    ],
)
def test_what_does_not_fit_is_refused(y, more, reason):
    model, X = told([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]])
    with pytest.raises(UsageError, match=reason):
        mk.evaluate(model, X, y, **more)


@pytest.mark.parametrize(
    ("y", "reason"),
    [
        (["a", "b", "c"], r"not numbers: array\(\['a', 'b', 'c'\]"),
        (pd.Series(["1", "2", "3"]), r"not numbers: array\(\['1', '2', '3'\]"),
        (pd.Series(["1", 2, 3], dtype=object), r"not numbers: array\(\['1', 2, 3\]"),
        ([1, np.inf, 2], "infinite"),
        ([1, None, 2], r"not numbers: array\(\[1, None, 2\]"),
        (pd.date_range("2026-01-01", periods=3), "not numbers: .*2026-01-01"),
    ],
)
def test_the_truth_of_a_regressor_is_finite_numbers(y, reason):
    signature = mk.Signature(
        (mk.TensorSpec("X", "float64", ("batch", 1)),),
        (mk.TensorSpec("prediction", "float64", ("batch",)),),
    )
    model = mk.FunctionModel(lambda feeds: {"prediction": feeds["X"][:, 0]}, signature)
    with pytest.raises(UsageError, match=reason):
        mk.evaluate(model, np.ones((3, 1)), y)


def test_a_path_is_opened_and_evaluated(package, model, held):
    for path in (package, str(package)):
        assert mk.evaluate(path, *held) == mk.evaluate(model, *held)


def test_an_estimator_is_not_a_model(tumours):
    X, y = tumours
    with pytest.raises(TypeError, match="pass cv=KFold"):
        mk.evaluate(LogisticRegression(), X, y)


def test_a_monitor_does_not_see_the_rows(package, held, tumours):
    X, _ = tumours
    with mk.load(package) as model:
        watched = mk.Monitor(model, mk.Profile.fit(X))
        mk.evaluate(watched, *held)
        assert watched.detector.report().rows == 0


@pytest.mark.parametrize(
    ("library", "module", "extra"),
    [("scipy", "scipy", "drift"), ("scikit-learn", "sklearn.metrics", "evaluate")],
)
def test_a_missing_library_is_named_with_its_extra(
    model, held, monkeypatch, library, module, extra
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as caught:
        mk.evaluate(model, *held)
    assert (caught.value.library, caught.value.extra) == (library, extra)


def test_a_bar_changes_nothing(model, held, capsys):
    assert mk.evaluate(model, *held, progress=True) == mk.evaluate(model, *held)
    X, y = load_diabetes(return_X_y=True)
    shown = mk.evaluate(Ridge(), X, y, cv=KFold(3), progress=True)
    assert "cross-validation" in capsys.readouterr().err
    assert shown == mk.evaluate(Ridge(), X, y, cv=KFold(3))


def test_rows_with_missing_strings_are_evaluated_and_judged(penguins_mk, penguins):
    """Inside a graph a missing string is a text that no caller may pass, so rows are coerced once."""
    X, y = penguins
    assert X["sex"].isna().any()
    with mk.load(penguins_mk) as loaded, mk.Batcher(loaded) as batcher:
        for asked in (loaded, batcher):
            assert mk.evaluate(asked, X, y)["accuracy"].value > 0.95
    said = {"margin": 0.05, "budgets": {"p50_ratio": 1000.0}}
    assert mk.gate(penguins_mk, penguins_mk, X, y, **said).decision == "promote"


def test_weights_that_leave_one_class_leave_no_curve(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 2))
    y = (rows[:, 0] + rng.normal(size=60) > 0).astype(int)
    fitted = LogisticRegression().fit(rows, y)
    mk.save(fitted, tmp_path / "a.mk", example=rows, name="a", version="1")
    with mk.load(tmp_path / "a.mk") as model:
        found = mk.evaluate(model, rows, y, sample_weight=y.astype(float))
    assert found["roc_auc"].value is None
    assert found.curves == ()
    assert "<svg" in found.to_html()


def test_rows_with_missing_texts_are_evaluated_and_judged(tmp_path):
    rng = np.random.default_rng(0)
    city = rng.choice(["Oslo", "Lom", None], 400)
    rows = pd.DataFrame({"city": city, "age": np.where(rng.random(400) < 0.1, np.nan, 30.0)})
    truth = np.where(city == "Oslo", "yes", "no")
    before = make_column_transformer((SimpleImputer(), ["age"]), (OneHotEncoder(), ["city"]))
    model = make_pipeline(before, LogisticRegression()).fit(rows, truth)
    mk.save(model, tmp_path / "m.mk", example=rows, name="m", version="1")
    evaluation = mk.evaluate(mk.load(tmp_path / "m.mk"), rows, truth)
    assert evaluation["accuracy"].value == np.mean(model.predict(rows) == truth)
    verdict = mk.gate(tmp_path / "m.mk", tmp_path / "m.mk", rows, truth, margin=0.05)
    assert verdict.decision == "promote"
