"""Cross-validation of a training procedure: fitted again and again, on other rows each time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.progress import counted_off
from modelkit.errors import UsageError, importing
from modelkit.lifecycle.evaluation.answered import Answered, TaskKind
from modelkit.lifecycle.evaluation.asking import with_answers
from modelkit.lifecycle.evaluation.task import read_task
from modelkit.signature import frames

SHARES = (0.125, 0.25, 0.5, 1.0)  # of a fold's training rows that a learning curve is made of
LEAST_TRAINED = 10  # rows


@final
@dataclass(frozen=True, eq=False)
class FoldPoint:
    """What one fit of one fold is worth.

    Attributes:
        fold: its number.
        share: of the fold's training rows that were used.
        rows: how many these were.
        tested: the rows that were held out, answered.
        trained: the rows of the fit, answered; only where share is 1.
    """

    fold: int
    share: float
    rows: int
    tested: Answered
    trained: Answered | None


class _Fit(NamedTuple):
    fold: int
    share: float
    train: Array
    test: Array


def cross_validate(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    cv: Any,
    sample_weight: Any,
    clusters: Any,
    positive: Any,
    seed: int,
    progress: bool,
) -> list[FoldPoint]:
    """Fit clones of an estimator of scikit-learn's kind on every fold, and answer the other rows.

    Args:
        estimator: it is cloned, and stays as it is.
        X: n rows.
        y: their truth.
        cv: a number of folds, which are shuffled, stratified by class and never split a cluster; or
            a splitter of scikit-learn's, or a list of pairs of training and test places.
        sample_weight: (n,), or None; they enter the metrics, and not the fitting.
        clusters: (n,), or None.
        positive: the positive one of two classes; None for the second.
        seed: of the shuffling.
        progress: whether to show a bar.

    Raises:
        UsageError: if the rows do not make such folds, or the task cannot be told.
    """
    if not (hasattr(estimator, "fit") and hasattr(estimator, "get_params")):
        raise TypeError(
            f"cross-validation fits an estimator of scikit-learn's kind, not {type(estimator).__name__}"
        )
    labels = frames.whole_array(y)
    truth = np.asarray(labels if hasattr(labels, "dtype") else list(y))
    kind = _kind(estimator, truth)
    classes = tuple(np.unique(truth).tolist()) if kind in ("binary", "multiclass") else None
    task = read_task(
        kind, classes, y, sample_weight=sample_weight, clusters=clusters, positive=positive
    )
    fits = list(_fits(task, cv, seed))
    turns = counted_off(len(fits), "cross-validation", "fit") if progress else range(len(fits))
    return [_fitted(estimator, X, truth, task, fits[turn]) for turn in turns]


def _kind(estimator: Any, truth: Array) -> TaskKind:
    with importing("scikit-learn", "cross-validation", "evaluate"):
        from sklearn.base import is_classifier, is_regressor
        from sklearn.utils.multiclass import type_of_target

    if is_regressor(estimator):
        return "regression"
    target = type_of_target(truth)
    kinds: dict[str, TaskKind] = {
        "binary": "binary",
        "multiclass": "multiclass",
        "multilabel-indicator": "multilabel",
    }
    if not is_classifier(estimator) or target not in kinds:
        raise UsageError(
            f"cross-validation is for classifiers and regressors; this is of type "
            f"{type(estimator).__name__}, and its y {target}"
        )
    return kinds[target]


def _fits(task: Answered, cv: Any, seed: int) -> Iterator[_Fit]:
    """The rows of each fit: in each fold nested shares of its training rows."""
    rng = np.random.default_rng(seed)
    for fold, (train, test) in enumerate(_splits(task, cv, seed)):
        order = rng.permutation(train)
        for share in SHARES:
            rows = order[: round(share * len(order))]
            several = task.kind == "regression" or _has_all(task.truth[rows], task.truth[order])
            if share == 1 or (len(rows) >= LEAST_TRAINED and several):
                yield _Fit(fold, share, rows, test)


def _has_all(part: Array, whole: Array) -> bool:
    """Whether a part of the rows has every class, or every label in both states."""
    if whole.ndim == 2:
        return bool((np.ptp(part, axis=0) == np.ptp(whole, axis=0)).all())
    return len(np.unique(part)) == len(np.unique(whole))


def _splits(task: Answered, cv: Any, seed: int) -> Iterator[tuple[Array, Array]]:
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    n = len(task)
    if isinstance(cv, int):
        if cv < 2:
            raise UsageError(f"cv is at least 2 folds, not {cv}")
        classes = task.kind in ("binary", "multiclass")
        kinds = (
            (StratifiedGroupKFold, GroupKFold)
            if task.clusters is not None
            else (StratifiedKFold, KFold)
        )
        cv = kinds[0 if classes else 1](cv, shuffle=True, random_state=seed)
    if not hasattr(cv, "split"):
        yield from cv
        return
    try:
        yield from cv.split(np.zeros(n), task.truth, task.clusters)
    except ValueError as error:
        raise UsageError(f"the rows cannot be split as asked: {error}") from error


def _rows_at(X: Any, places: Array) -> Any:
    return X.iloc[places] if hasattr(X, "iloc") else np.asarray(X)[places]


def _fitted(estimator: Any, X: Any, truth: Array, task: Answered, fit: _Fit) -> FoldPoint:
    from sklearn.base import clone

    model = clone(estimator).fit(_rows_at(X, fit.train), truth[fit.train])
    tested = _answers(model, _rows_at(X, fit.test), task.at(fit.test))
    trained = None
    if fit.share == 1:
        trained = _answers(model, _rows_at(X, fit.train), task.at(fit.train))
    return FoldPoint(fit.fold, fit.share, len(fit.train), tested, trained)


def _answers(model: Any, rows: Any, task: Answered) -> Answered:
    predicted = frames.whole_array(model.predict(rows))
    if task.kind == "regression":
        return with_answers(task, {"prediction": np.asarray(predicted)}, None)
    outputs: dict[str, Array] = {"label": np.asarray(predicted)}
    if hasattr(model, "predict_proba"):
        outputs |= _probabilities(model.predict_proba(rows), model, task)
    elif hasattr(model, "decision_function"):
        outputs["scores"] = np.asarray(model.decision_function(rows))
    return with_answers(task, outputs, None)


def _probabilities(told: Any, model: Any, task: Answered) -> Mapping[str, Array]:
    """The probabilities of all classes of the task: 0 for one that the fit did not see."""
    if isinstance(told, list):
        return {f"probabilities_{at}": np.asarray(pair) for at, pair in enumerate(told)}
    own = np.asarray(told)
    if task.kind == "multilabel":
        return {"probabilities": own}
    whole = np.zeros((len(own), len(task.classes)))
    places = [task.classes.index(name) for name in model.classes_.tolist()]
    whole[:, places] = own
    return {"probabilities": whole}


def pooled(points: Sequence[FoldPoint]) -> Answered:
    """All held-out rows, each answered by a fit that did not see it."""
    parts = [point.tested for point in points if point.share == 1]
    held: dict[str, Any] = {}
    for name in ("truth", "predicted", "probabilities", "scores", "weights", "clusters"):
        columns = [getattr(part, name) for part in parts]
        held[name] = None if any(column is None for column in columns) else np.concatenate(columns)
    return replace(parts[0], **held)
