"""Cross-validation of a training procedure, on the folds of a splitter of scikit-learn's."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.progress import counted_off
from modelkit.errors import UsageError, importing
from modelkit.lifecycle.evaluation.answered import Answered, TaskKind
from modelkit.lifecycle.evaluation.figures import MetricFigure, class_of
from modelkit.lifecycle.evaluation.metrics import TaskMetric
from modelkit.lifecycle.evaluation.rows import with_answers
from modelkit.signature import frames
from modelkit.stats.influence import Undefined
from modelkit.stats.intervals import corrected_error, student_in

KINDS: dict[str, TaskKind] = {
    "binary": "binary",
    "multiclass": "multiclass",
    "multilabel-indicator": "multilabel",
}


def procedure_kind(estimator: Any, truth: Array) -> TaskKind:
    """The kind of task of an estimator of scikit-learn's. Raises TypeError and UsageError."""
    if not (hasattr(estimator, "fit") and hasattr(estimator, "get_params")):
        raise TypeError(
            f"cross-validation fits an estimator of scikit-learn's kind, not {type(estimator).__name__}"
        )
    with importing("scikit-learn", "cross-validation", "evaluate"):
        from sklearn.base import is_classifier, is_regressor
        from sklearn.utils.multiclass import type_of_target

    if is_regressor(estimator):
        return "regression"
    target = type_of_target(truth)
    if not is_classifier(estimator) or target not in KINDS:
        raise UsageError(
            f"cross-validation is for classifiers and regressors; this is of type "
            f"{type(estimator).__name__}, and its y {target}"
        )
    return KINDS[target]


def fold_places(cv: Any, task: Answered) -> list[tuple[Array, Array]]:
    """The places of training and held-out rows of each fold. Raises UsageError."""
    if not hasattr(cv, "split") and not isinstance(cv, Iterable):
        raise UsageError(
            "cv is a splitter of scikit-learn's, such as KFold(5, shuffle=True, random_state=0) or, "
            "with clusters, GroupKFold(5), or a list with the numbers of the training rows and of the "
            f"held-out rows of each fold; not {cv!r:.80}"
        )
    try:
        with warnings.catch_warnings():  # what a splitter leaves together is checked below
            warnings.filterwarnings("ignore", "The groups parameter is ignored", UserWarning)
            if hasattr(cv, "split"):
                cv = cv.split(np.zeros(len(task)), task.truth, task.clusters)
            folds = [(np.asarray(train), np.asarray(held)) for train, held in cv]
    except (TypeError, ValueError) as error:
        ungrouped = task.clusters is None and "groups" in str(error)
        hint = "; the groups of a splitter are clusters=" if ungrouped else ""
        raise UsageError(f"the rows cannot be split as asked: {error}{hint}") from error
    if not folds:
        raise UsageError("cv= does not split the rows: it yields zero folds")
    for fold, (train, held) in enumerate(folds):
        for what, places in (("training", train), ("test", held)):
            _check_places(f"fold {fold}: the {what} rows", places, len(task))
        _check_apart(fold, train, held, task.clusters)
    return folds


def _check_places(what: str, places: Array, n: int) -> None:
    if places.dtype.kind not in "iu" or places.ndim != 1 or not len(places):
        raise UsageError(f"{what} are places, integers (m,), at least one; got {places!r:.80}")
    if places.min() < 0 or places.max() >= n:
        raise UsageError(
            f"{what} are places from 0 to {n - 1}, and go from {places.min()} to {places.max()}"
        )


def _check_apart(fold: int, train: Array, held: Array, clusters: Array | None) -> None:
    """Raise UsageError for what a fit has seen among the rows that say how good it is."""
    if len(np.unique(held)) < len(held):
        raise UsageError(f"fold {fold}: a test row stands twice, and would count twice")
    both = np.intersect1d(train, held)
    if len(both):
        raise UsageError(
            f"fold {fold}: {len(both):,} rows are trained on and tested on, such as row {both[0]}: such "
            "a fold says nothing of new rows; take each row in one of the two"
        )
    if clusters is not None and np.isin(clusters[held], clusters[train]).any():
        raise UsageError(
            f"fold {fold}: a cluster has training rows and test rows; with clusters, take a splitter "
            "that keeps them together, such as GroupKFold(5)"
        )


def answered_folds(
    estimator: Any, X: Any, truth: Array, task: Answered, folds: Sequence[tuple[Array, Array]]
) -> list[Answered]:
    """The held-out rows of each fold, answered by a clone that was fitted on the others."""
    from sklearn.base import clone

    found = []
    for train, held in counted_off(folds, "cross-validation", "fit"):
        model = clone(estimator).fit(_rows_at(X, train), truth[train])
        found.append(_answers(model, _rows_at(X, held), task.at(held)))
    return found


def _rows_at(X: Any, places: Array) -> Any:
    return X.iloc[places] if hasattr(X, "iloc") else np.asarray(X)[places]


def _answers(model: Any, rows: Any, task: Answered) -> Answered:
    predicted = np.asarray(frames.whole_array(model.predict(rows)))
    outputs = {"prediction" if task.kind == "regression" else "label": predicted}
    if task.kind != "regression" and hasattr(model, "predict_proba"):
        outputs |= _probabilities(model.predict_proba(rows), model, task)
    elif task.kind != "regression" and hasattr(model, "decision_function"):
        outputs["scores"] = np.asarray(model.decision_function(rows))
    return with_answers(task, outputs, None)


def _probabilities(answer: Any, model: Any, task: Answered) -> dict[str, Array]:
    """The probabilities of all classes of the task: 0 for one that the fit did not see."""
    if isinstance(answer, list):
        return {f"probabilities_{at}": np.asarray(pair) for at, pair in enumerate(answer)}
    if task.kind == "multilabel":
        return {"probabilities": np.asarray(answer)}
    whole = np.zeros((len(answer), len(task.classes)))
    whole[:, [task.classes.index(name) for name in model.classes_.tolist()]] = answer
    return {"probabilities": whole}


def pooled(folds: Sequence[Answered]) -> Answered:
    """All held-out rows, each answered by a fit that did not see it."""
    parts: dict[str, Any] = {}
    for name in ("truth", "predicted", "probabilities", "scores", "weights", "clusters"):
        columns = [getattr(fold, name) for fold in folds]
        parts[name] = None if any(column is None for column in columns) else np.concatenate(columns)
    return replace(folds[0], **parts)


def fold_figure(
    metric: TaskMetric, folds: Sequence[Answered], rows: tuple[int, int], level: float
) -> MetricFigure:
    """The mean of a metric over folds with the interval of Nadeau and Bengio.

    `rows` are the mean numbers of rows of a fold that are held out and trained on.
    """
    of = class_of(metric.name, folds[0])
    figure = MetricFigure(metric.name, None, None, None, metric.higher_is_better, of=of)
    values = np.empty(len(folds))
    for place, fold in enumerate(folds):
        try:
            values[place] = metric.measure(fold).value
        except Undefined as reason:
            return replace(figure, why=f"in fold {place}: {reason}")
    mean = float(values.mean())
    error = corrected_error(values, *rows)
    if error is not None:
        low, high = student_in(metric.domain, mean, error, len(folds), level)
        if isfinite(low) and isfinite(high):
            return replace(figure, value=mean, low=low, high=high)
    return replace(figure, value=mean, why="the folds are too few or too alike for an interval")
