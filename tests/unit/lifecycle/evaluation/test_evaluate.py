"""mk.evaluate from labelled rows to a value: every kind of task, leaks, gaps, folds, and what is refused."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers.encoders import tiny
from sklearn import metrics
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import IsolationForest, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import ShuffleSplit, TimeSeriesSplit, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

import modelkit as mk
from modelkit.errors import EvaluationError, IntegrityError, MissingExtraError, SignatureError
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.leakage import equal_rows
from modelkit.lifecycle.evaluation.metrics import METRICS


@pytest.fixture(scope="module")
def tumours():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    return X.filter(like="mean "), y.map({0: "malignant", 1: "benign"})


@pytest.fixture(scope="module")
def package(tumours, tmp_path_factory):
    X, y = tumours
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[::2], y[::2])
    path = tmp_path_factory.mktemp("evaluate") / "tumour.mk"
    mk.save(fitted, path, example=X[::2], name="tumour", version="1.0")
    return path


@pytest.fixture(scope="module")
def model(package):
    with mk.load(package) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def held(tumours):
    X, y = tumours
    return X[1::2].reset_index(drop=True), y[1::2].to_numpy()


@pytest.fixture(scope="module")
def evaluation(model, held, tumours):
    X, y = tumours
    sizes = np.where(held[0]["mean radius"] > 14, "large", "small")
    return mk.evaluate(model, *held, train=(X[::2], y[::2]), slices={"size": sizes})


def saved(fitted, X, tmp_path):
    path = tmp_path / "model.mk"
    mk.save(fitted, path, example=X, name="model", version="1")
    return mk.load(path)


def checked(found):
    """An Evaluation that is the same after JSON, and has a page and a card."""
    assert mk.Evaluation.from_json(found.to_json()) == found
    assert found.to_html().startswith("<!doctype html>")
    assert found.subject in found._repr_html_()
    return found


def told(probabilities):
    """A Model of the classes 0 and 1 that answers the probabilities in its rows, and these rows."""
    columns = tuple(mk.Column(name, "float64", nullable=True) for name in ("p0", "p1"))
    signature = mk.Signature(
        (mk.TensorSpec("X", "float64", ("batch", 2), columns),),
        (
            mk.TensorSpec("label", "int64", ("batch",)),
            mk.TensorSpec("probabilities", "float64", ("batch", 2)),
        ),
        classes=(0, 1),
    )

    def answer(feeds):
        label = np.nan_to_num(feeds["X"], nan=-1).argmax(axis=1)
        return {"label": label, "probabilities": feeds["X"]}

    return mk.FunctionModel(answer, signature), np.asarray(probabilities, np.float64)


def test_an_evaluation_says_what_was_evaluated(evaluation, package):
    assert evaluation.kind == "binary"
    assert evaluation.subject == "tumour 1.0"
    assert evaluation.model_digest == mk.inspect(package).model_digest
    assert (evaluation.rows, evaluation.units, evaluation.weighted) == (284, 284, False)
    assert (
        0.85
        < evaluation["accuracy"].low
        < evaluation["accuracy"].value
        < evaluation["accuracy"].high
    )
    assert [own.label for own in evaluation.classes] == ["benign", "malignant"]
    assert sum(part.rows for part in evaluation.slices) == 284
    with pytest.raises(KeyError, match="there are accuracy"):
        evaluation["f2"]


def test_an_evaluation_is_a_value(evaluation):
    text = evaluation.to_json()
    assert text.isascii()
    assert mk.Evaluation.from_json(text) == evaluation
    assert json.loads(text)["schema"] == "modelkit.evaluation/1"
    with pytest.raises(EvaluationError, match="no Evaluation in JSON"):
        mk.Evaluation.from_json(text.replace('"rows"', '"lines"'))
    with pytest.raises(EvaluationError, match="no record"):
        mk.Evaluation.from_json("{}")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("confusion", "counts"), [[1.0]]),
        (("curves", 0, "x"), [0.0]),
        (("curves", 0, "y"), []),
        (("figures",), []),
        (("kind",), "oracle"),
        (("rows",), "many"),
        (("slices", 0, "figures", 0, "value"), "high"),
        (("notes",), [1]),
    ],
)
def test_a_record_that_was_tampered_with_is_refused(evaluation, path, value):
    plain = json.loads(evaluation.to_json())
    inside = plain
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    with pytest.raises(EvaluationError, match="no Evaluation in JSON"):
        mk.Evaluation.from_json(json.dumps(plain))


def test_infinite_predictions_are_told(tmp_path):
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


def test_the_order_of_rows_changes_nothing_but_the_digest(model, held):
    X, y = held
    order = np.random.default_rng(0).permutation(len(X))
    first = mk.evaluate(model, X, y)
    other = mk.evaluate(model, X.iloc[order], y[order])
    for a, b in zip(first.figures, other.figures, strict=True):
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), rel=1e-9)
    assert first.data_digest != other.data_digest


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
    assert together.units == 36
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
    with pytest.raises(EvaluationError, match="names the column 'client'"):
        mk.evaluate(model, more, y, clusters="client")
    with pytest.raises(EvaluationError, match="array without names"):
        mk.evaluate(model, X.to_numpy(), y, slices=["region"])


def test_slices_have_their_rows_and_missing_values_a_slice(model, held):
    X, y = held
    found = mk.evaluate(model, X, y, slices={"half": [None] * 100 + ["b"] * 184})
    assert [(part.value, part.rows) for part in found.slices] == [("b", 184), ("missing", 100)]
    with pytest.raises(EvaluationError, match="284 different values"):
        mk.evaluate(model, X, y, slices={"row": np.arange(284)})
    with pytest.raises(EvaluationError, match="3 values, and there are 284"):
        mk.evaluate(model, X, y, slices={"a": [1, 2, 3]})
    with pytest.raises(EvaluationError, match="list of names"):
        mk.evaluate(model, X, y, slices=["region", 7])


def test_a_slice_of_one_class_says_what_it_cannot_tell(model, held):
    X, y = held
    part = mk.evaluate(model, X, y, slices={"truth": y}).slices[0]
    figures = {figure.name: figure for figure in part.figures}
    assert figures["roc_auc"].value is None
    assert figures["roc_auc"].why == "no row is positive"
    assert figures["accuracy"].value is not None
    few = str(mk.evaluate(model, X[:20], y[:20]))
    assert re.search(r"matthews [\d.]+, no interval: it rests on", few)


def test_a_frame_has_a_row_for_each_figure(evaluation):
    frame = evaluation.to_dataframe()
    assert list(frame.columns) == [
        "part",
        "value",
        "rows",
        "metric",
        "figure",
        "low",
        "high",
        "why",
    ]
    assert len(frame) == len(evaluation.figures) * 3 + 4 * 2
    row = frame.query("part == 'all' and metric == 'roc_auc'").iloc[0]
    assert row["low"] < row["figure"] < row["high"]


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
        with pytest.raises(EvaluationError, match="0 and 1"):
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
        share = sum(part.came * part.rows for part in found.reliability) / 300
        assert share == pytest.approx(np.mean(y == chosen))
    folds = mk.evaluate(fitted, X, y, cv=3, positive=positive)
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
        with pytest.raises(EvaluationError, match="predictions"):
            mk.evaluate(model, X, y)
    assert found["r2"].value == pytest.approx(LinearRegression().fit(X, both).score(X, both))
    assert found.residuals == ()


def test_rankings(tmp_path):
    X, y = load_diabetes(return_X_y=True)
    relevance = np.digitize(y, [100, 200])
    queries = np.random.default_rng(0).integers(20, size=442).astype(str)
    with saved(LinearRegression().fit(X, y), X, tmp_path) as model:
        found = checked(mk.evaluate(model, X, relevance, queries=queries))
        with pytest.raises(EvaluationError, match="pass queries="):
            mk.evaluate(model, X, relevance, kind="ranking")
        with pytest.raises(EvaluationError, match="equal within each query"):
            mk.evaluate(model, X, relevance, queries=queries, sample_weight=np.arange(442))
    assert (found.kind, found.units) == ("ranking", 20)
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


def test_vectors_find_what_has_their_label():
    encoder = tiny()
    texts = ["river", "the river", "music", "music of", "coffee"]
    found = checked(mk.evaluate(encoder, texts, ["water", "water", "sound", "sound", "alone"]))
    assert (found.kind, found.rows) == ("retrieval", 4)
    assert found.notes[0].startswith("1 texts are the only ones of their label")
    vectors = encoder.embed(texts)
    near = vectors @ vectors.T - 2 * np.eye(5)
    ranks = [1 + int((near[row] > near[row, pair]).sum()) for row, pair in enumerate((1, 0, 3, 2))]
    assert found["mean_reciprocal_rank"].value == pytest.approx(np.mean(1 / np.array(ranks)))
    assert found["recall@1"].value == pytest.approx(np.mean(np.array(ranks) == 1))
    assert found["hit@5"].value == 1
    with pytest.raises(EvaluationError, match="nothing is to be found"):
        mk.evaluate(encoder, texts, list("abcde"))
    with pytest.raises(EvaluationError, match="no train"):
        mk.evaluate(encoder, texts, list("aabbc"), train=(texts, list("aabbc")))


def test_queries_find_rows_of_a_corpus():
    encoder = tiny(roles={"query": "query: ", "text": "text: "})
    corpus = ["the river", "green music", "winter coffee", "a museum", "the engine"]
    found = checked(
        mk.evaluate(
            encoder, ["river", "museum"], [0, [3, 4]], corpus=corpus, roles=("query", "text")
        )
    )
    near = encoder.embed(["river", "museum"], role="query") @ encoder.embed(corpus, role="text").T
    ranks = np.argsort(np.argsort(-near, axis=1), axis=1) + 1
    best = [ranks[0, 0], ranks[1, [3, 4]].min()]
    assert found["mean_reciprocal_rank"].value == pytest.approx(np.mean(1 / np.array(best)))
    assert found["recall@5"].value == 1
    with pytest.raises(EvaluationError, match=r"y\[1\] is 5"):
        mk.evaluate(encoder, ["river", "museum"], [0, 5], corpus=corpus)
    with pytest.raises(EvaluationError, match="y has 1 rows, and X 2"):
        mk.evaluate(encoder, ["river", "museum"], [0], corpus=corpus)


def test_texts_may_be_a_column_of_a_table():
    frame = pd.DataFrame({"text": ["river", "the river", "music", "music of"], "who": list("aabb")})
    found = mk.evaluate(tiny(), frame, list("xxyy"), clusters="who", slices=["who"])
    alone = mk.evaluate(tiny(), frame["text"], list("xxyy"))
    assert found.units == 2
    assert [part.rows for part in found.slices] == [2, 2]
    assert found["mean_reciprocal_rank"].value == alone["mean_reciprocal_rank"].value


def test_vectors_of_any_model_search_and_ties_count_half():
    signature = mk.Signature(
        (mk.TensorSpec("X", "float64", ("batch", 2)),),
        (mk.TensorSpec("embedding", "float64", ("batch", 2)),),
    )
    model = mk.FunctionModel(lambda feeds: {"embedding": feeds["X"]}, signature)
    corpus = np.array([[1.0, 0], [0, 1], [1, 0], [2, 0]])
    found = mk.evaluate(
        model, np.array([[3.0, 0], [0, 5]]), [[0], [1]], corpus=corpus, kind="retrieval"
    )
    # Three rows are as close as the first one's, which stands in their middle.
    assert found["mean_reciprocal_rank"].value == pytest.approx((1 / 2 + 1) / 2)
    assert found["recall@1"].value == 0.5
    with pytest.raises(EvaluationError, match="only an encoder of texts has roles"):
        mk.evaluate(model, corpus, list("abab"), roles=("query", None))


def test_what_nothing_tells_is_asked_for(tmp_path):
    signature = mk.Signature(
        (mk.TensorSpec("X", "float64", ("batch", 1)),), (mk.TensorSpec("y", "float64", ("batch",)),)
    )
    model = mk.FunctionModel(lambda feeds: {"y": feeds["X"][:, 0]}, signature)
    X = np.arange(30.0).reshape(-1, 1)
    with pytest.raises(EvaluationError, match="pass kind="):
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
        ([], {}, "no rows"),
        ([1, 0, 1], {"sample_weight": [1, 2]}, "sample_weight"),
        ([1, 0, 1], {"sample_weight": [1, -1, 1]}, "at least 0"),
        ([1, 0, 1], {"sample_weight": [0, 0, 0]}, "one above it"),
        ([1, 0, 1], {"clusters": [1, 2]}, "clusters has 2 values"),
        ([1, 0, 1], {"clusters": [1, None, 2]}, "clusters is missing"),
        ([1, 0, 1], {"sample_weight": [1, np.inf, 1]}, "infinite"),
        ([1, 0, 1], {"sample_weight": ["1", "2", "3"]}, "no numbers"),
        ([1, 0, 1], {"kind": "oracle"}, "kind is one of binary"),
        ([1, 0, 1], {"slices": {"a": np.zeros((3, 2))}}, "'a' has one value a row"),
        (1, {}, "y has one value a row"),
        (pd.DataFrame({"a": [1, 0, 1], "b": [1, 1, 0]}), {}, "table of 2"),
        ({"a": [1, 0, 1], "b": [1, 1, 0]}, {}, "table of 2"),
        ([1, 0, 1], {"level": 1.0}, "level"),
        ([1, 0, 1], {"train": 3}, "train is a tuple"),
        ([1, 0, 1], {"positive": "1"}, r"positive='1' is no class of this model: .*\(0, 1\)"),
        ([1, 0, 1], {"positive": pd.NA}, r"positive=<NA> is no class of this model"),
        ([1, 0, 1], {"positive": [1]}, r"positive=\[1\] is no class of this model"),
        ([1, 0, 1], {"positive": 1, "kind": "regression"}, "positive=1 is for a task of two"),
        ([1, 0, 1], {"train": ([], []), "sample_weight": [1, 1, 1]}, "weights"),
    ],
)
def test_what_does_not_fit_is_refused(y, more, reason):
    model, X = told([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]])
    with pytest.raises(EvaluationError, match=reason):
        mk.evaluate(model, X, y, **more)


@pytest.mark.parametrize(
    ("y", "reason"),
    [
        (["a", "b", "c"], "no numbers"),
        (["1", "2", "3"], "no numbers"),
        ([1, np.inf, 2], "infinite"),
        ([1, None, 2], "no numbers"),
        (pd.date_range("2026-01-01", periods=3), "no numbers"),
    ],
)
def test_the_truth_of_a_regressor_is_finite_numbers(y, reason):
    signature = mk.Signature(
        (mk.TensorSpec("X", "float64", ("batch", 1)),),
        (mk.TensorSpec("prediction", "float64", ("batch",)),),
    )
    model = mk.FunctionModel(lambda feeds: {"prediction": feeds["X"][:, 0]}, signature)
    with pytest.raises(EvaluationError, match=reason):
        mk.evaluate(model, np.ones((3, 1)), y)


def test_a_path_is_opened_and_evaluated(package, model, held):
    for path in (package, str(package)):
        assert mk.evaluate(path, *held) == mk.evaluate(model, *held)


def test_an_estimator_is_not_a_model(tumours):
    X, y = tumours
    with pytest.raises(TypeError, match="pass cv=5"):
        mk.evaluate(LogisticRegression(), X, y)


def test_a_monitor_does_not_see_the_rows(package, held, tumours):
    X, _ = tumours
    with mk.load(package) as model:
        watched = mk.Monitor(model, mk.Profile.fit(X))
        mk.evaluate(watched, *held)
        assert watched.detector.report().rows == 0


# Training rows and leaks.


def test_a_gap_has_an_interval_and_a_sentence(evaluation):
    gaps = {gap.name: gap for gap in evaluation.gaps}
    gap = gaps["roc_auc"]
    assert gap.gap == pytest.approx(gap.train - gap.held_out)
    assert gap.low < gap.gap < gap.high
    assert gaps["log_loss"].gap == pytest.approx(gaps["log_loss"].held_out - gaps["log_loss"].train)
    assert "held-out ones" in evaluation.fit


def test_a_tree_that_learned_its_rows_by_heart_looks_overfitted(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4))
    y = (X[:, 0] + rng.normal(0, 1.5, 600) > 0).astype(int)
    with saved(DecisionTreeClassifier(random_state=0).fit(X[:300], y[:300]), X, tmp_path) as model:
        deep = mk.evaluate(model, X[300:], y[300:], train=(X[:300], y[:300]))
    assert deep.fit.startswith("It looks overfitted: roc_auc 1 on training rows")
    with saved(LogisticRegression().fit(X[:300], y[:300]), X, tmp_path) as model:
        plain = mk.evaluate(model, X[300:], y[300:], train=(X[:300], y[:300]))
    assert plain.fit.startswith("It does not look overfitted")
    noise = rng.integers(2, size=600)
    with saved(LogisticRegression().fit(X[:300], noise[:300]), X, tmp_path) as model:
        none = mk.evaluate(model, X[300:], noise[300:], train=(X[:300], noise[:300]))
    assert none.fit.startswith("It looks underfitted")


def test_equal_rows_across_the_split_are_found(model, held, tumours):
    X, y = tumours
    both = pd.concat([held[0], X[::2][:40]])
    labels = np.concatenate([held[1], y[::2][:40]])
    found = {
        check.name: check
        for check in mk.evaluate(model, both, labels, train=(X[::2], y[::2])).leaks
    }
    assert found["equal rows"].found
    assert "40 of 324 held-out rows" in found["equal rows"].text
    assert "without them accuracy" in found["equal rows"].text
    clean = {check.name: check for check in mk.evaluate(model, *held, train=(X[::2], y[::2])).leaks}
    assert not clean["equal rows"].found


@pytest.mark.parametrize(
    ("trained", "held_out", "kinds", "copied", "found"),
    [
        (500, 5000, 4000, 0.0, 0.0),  # .36 of the clean splits before
        (1000, 20_000, 4000, 0.0, 0.0),  # .33
        (20, 80, 50, 0.0, 0.0),
        (2000, 2000, 4000, 0.0, 0.0),
        (4000, 1000, None, 0.005, 1.0),
        (4000, 1000, 60_000, 0.06, 0.9),
        (4000, 1000, 12_000, 0.1, 0.9),  # where 30 % of the training rows repeat others: .00
    ],
)
def test_equal_rows_are_counted_beside_those_of_a_random_split(
    trained, held_out, kinds, copied, found
):
    said = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        n = trained + held_out
        keys = rng.permutation(n) if kinds is None else rng.integers(kinds, size=n)
        before, after = keys[:trained], keys[trained:]
        copies = int(copied * held_out)
        after[:copies] = rng.choice(before, copies)
        said.append(equal_rows(before, after)[0].found)
    assert np.mean(said) >= found if copied else np.mean(said) <= 0.03


def test_rows_that_are_often_equal_are_no_leak(tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"colour": rng.choice(["red", "blue"], 400), "n": rng.integers(3, size=400)})
    y = rng.integers(2, size=400)
    with saved(_tree_of_mixed().fit(X[:200], y[:200]), X, tmp_path) as model:
        (check, _) = mk.evaluate(model, X[200:], y[200:], train=(X[:200], y[:200])).leaks
    assert (check.name, check.found) == ("equal rows", False)
    assert "200 of 200" in check.text


def _tree_of_mixed():
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OneHotEncoder

    encoded = make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough")
    return make_pipeline(encoded, DecisionTreeClassifier(max_depth=3))


def test_a_column_that_predicts_alone_is_found(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=500)
    X = np.column_stack([rng.normal(size=500), y + rng.normal(0, 0.1, 500)])
    with saved(LogisticRegression().fit(X[:250], y[:250]), X, tmp_path) as model:
        (check,) = mk.evaluate(model, X[250:], y[250:]).leaks
    assert check.found
    assert "'x1'" in check.text
    assert "'x0'" not in check.text


@pytest.mark.parametrize(("shift", "found"), [(0, True), (400, False)])
def test_training_rows_that_are_later_are_found(model, held, tumours, shift, found):
    X, y = tumours
    days = np.datetime64("2026-01-01") + np.arange(285)
    train = X[::2].assign(day=days)
    test = held[0].assign(day=days[:284] + shift)
    checks = mk.evaluate(model, test, held[1], train=(train, y[::2]), times="day").leaks
    (check,) = [check for check in checks if check.name == "time order"]
    assert check.found is found


def test_clusters_on_both_sides_are_found(model, held, tumours):
    X, y = tumours
    train = X[::2].assign(customer=np.arange(285))
    test = held[0].assign(customer=np.arange(284) + 284)
    checks = mk.evaluate(model, test, held[1], train=(train, y[::2]), clusters="customer").leaks
    (check,) = [check for check in checks if check.name == "shared clusters"]
    assert check.found
    assert check.text.startswith("0.4%")


# Cross-validation.


def test_folds_are_those_of_sklearn():
    X, y = load_diabetes(return_X_y=True)
    split = ShuffleSplit(4, test_size=0.25, random_state=0)
    found = checked(mk.evaluate(Ridge(), X, y, cv=split))
    scores = cross_val_score(Ridge(), X, y, cv=split)
    assert found.folds == 4
    assert found["r2"].value == pytest.approx(scores.mean())
    spread = np.sqrt((1 / 4 + 111 / 331) * scores.var(ddof=1))
    assert found["r2"].high - found["r2"].low > 2 * 3 * spread
    assert found.fit
    assert found.learning.name == "r2"
    assert [point.rows for point in found.learning.points] == [41, 83, 166, 331]
    assert found.model_digest == ""


def test_more_rows_help_a_model_that_still_learns():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 20))
    y = X @ rng.normal(size=20) + rng.normal(size=600)
    learned = mk.evaluate(LinearRegression(), X, y, cv=5).learning
    assert learned.doubling > 0
    flat = mk.evaluate(LinearRegression(), X[:, :1], rng.normal(size=600), cv=5).learning
    assert flat.low < 0.05


def test_classes_clusters_and_frames_in_folds(tumours):
    X, y = tumours
    customers = np.arange(len(X)) // 4
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    found = checked(
        mk.evaluate(pipeline, X, y, cv=4, clusters=customers, sample_weight=np.ones(len(X)))
    )
    assert found.kind == "binary"
    assert found.units == customers.max() + 1
    assert found["roc_auc"].value > 0.97
    assert np.array(found.confusion.counts).sum() == len(X)
    again = mk.evaluate(pipeline, X, y, cv=4, clusters=customers, sample_weight=np.ones(len(X)))
    assert again == found
    assert mk.Evaluation.from_json(found.to_json()) == found


def test_time_goes_forward_in_folds_of_time():
    X, y = load_diabetes(return_X_y=True)
    found = mk.evaluate(Ridge(), X, y, cv=TimeSeriesSplit(3))
    assert (found.folds, found.rows) == (3, 330)


def test_labels_in_folds():
    X, y = load_iris(return_X_y=True)
    labels = np.column_stack([y == 0, y == 1]).astype(int)
    found = checked(mk.evaluate(DecisionTreeClassifier(random_state=0), X, labels, cv=3))
    assert found.kind == "multilabel"
    assert found["f1_micro"].value > 0.9


def test_what_folds_refuse(model, tumours):
    X, y = tumours
    with pytest.raises(TypeError, match="trained already"):
        mk.evaluate(model, X, y, cv=3)
    with pytest.raises(EvaluationError, match="at least 2 folds"):
        mk.evaluate(Ridge(), X, np.arange(len(X)), cv=1)
    with pytest.raises(TypeError, match="not a str"):
        mk.evaluate("ridge", X, y, cv=3)
    with pytest.raises(EvaluationError, match="values of clusters"):
        mk.evaluate(Ridge(), X, y, cv=3, clusters="mean radius")
    with pytest.raises(EvaluationError, match="are for a Model"):
        mk.evaluate(LogisticRegression(), X, y, cv=3, slices=["mean radius"])
    with pytest.raises(EvaluationError, match="cannot be split"):
        mk.evaluate(Ridge(), np.ones((3, 1)), np.arange(3.0), cv=5)
    with pytest.raises(EvaluationError, match="classifiers and regressors"):
        mk.evaluate(KMeans(2), X, np.arange(len(X)) % 2, cv=3)


# Packages, registries and pages.


def test_an_evaluation_goes_into_its_package(evaluation, package, tmp_path, tumours):
    path = tmp_path / "evaluated.mk"
    before = mk.inspect(package)
    after = mk.attach(package, evaluation=evaluation, out=path)
    assert after.model_digest == before.model_digest
    assert after.digest != before.digest
    with mk.load(path) as model:
        assert mk.Evaluation.packaged(model) == evaluation
    with mk.load(package) as model, pytest.raises(EvaluationError, match="holds no Evaluation"):
        mk.Evaluation.packaged(model)
    X, y = tumours
    other = tmp_path / "other.mk"
    mk.save(
        LogisticRegression(max_iter=5000).fit(X, y), other, example=X, name="other", version="1"
    )
    with pytest.raises(IntegrityError, match="the Evaluation is of the model of"):
        mk.attach(other, evaluation=evaluation)
    with pytest.raises(TypeError, match="evaluation="):
        mk.attach(path)


def test_an_evaluation_is_kept_beside_a_version(evaluation, package, tmp_path):
    registry = mk.Registry(tmp_path / "models")
    registry.register(package)
    registry.keep("tumour", "1.0", "evaluation.json", evaluation.to_json().encode())
    text = registry.kept("tumour", "1.0", "evaluation.json").decode()
    assert mk.Evaluation.from_json(text) == evaluation


def test_a_page_has_its_pictures_and_escapes_what_comes_from_data(model, held):
    X, y = held
    evil = "<script>alert(1)</script>"
    page = mk.evaluate(model, X, y, slices={evil: np.where(y == "benign", evil, "b&c")}).to_html()
    assert "<script" not in page
    assert "b&amp;c" in page
    assert page.count("<section>") == 3
    assert "http" not in page.replace("http-equiv", "")


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


@pytest.mark.parametrize(
    ("library", "module"), [("scipy", "scipy"), ("scikit-learn", "sklearn.metrics")]
)
def test_a_missing_library_is_named_with_its_extra(model, held, monkeypatch, library, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as caught:
        mk.evaluate(model, *held)
    assert (caught.value.library, caught.value.extra) == (library, "evaluate")


def test_a_bar_changes_nothing(model, held, capsys):
    assert mk.evaluate(model, *held, progress=True) == mk.evaluate(model, *held)
    X, y = load_diabetes(return_X_y=True)
    shown = mk.evaluate(Ridge(), X, y, cv=3, progress=True)
    assert "cross-validation" in capsys.readouterr().err
    assert shown == mk.evaluate(Ridge(), X, y, cv=3)


def test_rows_with_missing_strings_are_evaluated_and_judged(penguins_mk, penguins):
    """Inside a graph a missing string is a text that no caller may pass, so rows are coerced once."""
    X, y = penguins
    assert X["sex"].isna().any()
    with mk.load(penguins_mk) as loaded, mk.Batcher(loaded) as batcher:
        for asked in (loaded, batcher):
            assert mk.evaluate(asked, X, y)["accuracy"].value > 0.95
    said = {"margin": 0.05, "budgets": {"p50_ratio": 1000.0}}
    assert mk.gate(penguins_mk, penguins_mk, X, y, **said).decision == "promote"
