"""Evaluate a Model on labelled rows, or a training procedure by cross-validation."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from modelkit.errors import UsageError
from modelkit.lifecycle.evaluation.answered import TaskKind
from modelkit.lifecycle.evaluation.assembly import checked_for_leaks, fold_part, held_out_part
from modelkit.lifecycle.evaluation.digests import keys_of_rows
from modelkit.lifecycle.evaluation.evaluation import Evaluation
from modelkit.lifecycle.evaluation.folds import answered_folds, fold_places, procedure_kind
from modelkit.lifecycle.evaluation.gap import training_gaps, verdict_on_fit
from modelkit.lifecycle.evaluation.rows import (
    LabelledRows,
    Side,
    answered_side,
    searched_side,
    training_rows,
)
from modelkit.lifecycle.evaluation.task import read_task, task_kind, refuse_missing
from modelkit.model.model import Model
from modelkit.model.wrapper import has_several_versions
from modelkit.package.load import load
from modelkit.signature.frames import whole_array
from modelkit.stats.intervals import LEVEL_95


def evaluate(
    model: Any,
    X: Any,
    y: Any,
    *,
    train: tuple[Any, ...] | None = None,
    slices: Any = None,
    clusters: Any = None,
    sample_weight: Any = None,
    queries: Any = None,
    corpus: Any = None,
    roles: tuple[str | None, str | None] = (None, None),
    cv: Any = None,
    kind: TaskKind | None = None,
    positive: Any = None,
    level: float = LEVEL_95,
    progress: bool = False,
) -> Evaluation:
    """What a model is worth on labelled rows, every figure with an interval.

        mk.evaluate("churn.mk", X_test, y_test)["accuracy"]

    Args:
        model: a Model, or the path of a package; or with `cv` an estimator of scikit-learn's kind,
            which is cloned.
        X: n rows, as `Model.run` takes them; texts for an encoder.
        y: their truth, (n,): classes, values, how relevant each row is to its query, or true groups
            of a clustering; (n, L) of 0 and 1 for several labels, whose names are those of a frame's
            columns. For an encoder with a `corpus`
            the place, or places, of what is relevant to each query; without one a label for each
            text: what has the same label is relevant.
        train: (X, y) that the model was trained on, or (X, y, weights) where there are weights: for
            the gap to these rows, and for leaks between the two.
        slices: names of columns of X, or one name, or a dict of values (n,) by name: the figures of
            the rows of each value.
        clusters: values (n,), or the name of a column of X: rows that belong together, such as those
            of one customer, count as one observation in every interval.
        sample_weight: (n,), at least 0; they enter every figure that has weights, and the others
            are undefined.
        queries: values (n,), or the name of a column of X: rows are ranked within their query.
        corpus: what an encoder searches in.
        roles: the roles of an encoder for queries and for the corpus.
        cv: a splitter of scikit-learn's, or a list of pairs of training and test places: evaluate the
            training procedure, not one model. `clusters` are the splitter's groups.
        kind: of task, where it does not follow from the model's outputs.
        positive: of two classes, the one that precision, recall, F1, the areas and the pictures are
            of; by default the second of the model's, and of an outlier detector the outliers, -1.
        level: of the intervals.
        progress: show a bar, for long work.

    A column of X that is only named here, and that the model does not take, is not shown to it.

    Raises:
        UsageError: if truth, weights or columns do not fit the rows, the kind of task is unclear,
            or the model is a Rollout, of several versions.
        SignatureError: if the rows do not fit the model.
        TypeError: for an estimator without `cv`, and for a Model with it.
        MissingExtraError: if scipy or scikit-learn is missing.
    """
    if not isinstance(level, Real) or not 0 < level < 1:
        raise UsageError(f"the level of an interval is between 0 and 1, not {level!r}")
    rows = LabelledRows(
        X, y, sample_weight, slices, clusters, queries, corpus, roles, positive=positive
    )
    if cv is not None:
        return _of_procedure(model, rows, cv, train, level=level, progress=progress)
    with ExitStack() as opened:
        if isinstance(model, str | os.PathLike):
            model = opened.enter_context(load(model))
        if not isinstance(model, Model):
            raise TypeError(
                f"evaluate takes a Model or the path of a package; {type(model).__name__} is "
                "evaluated by cross-validation: pass cv=KFold(5, shuffle=True), or save it"
            )
        if has_several_versions(model):
            raise UsageError(
                "an Evaluation is of one version, and a Rollout has several: pass the Model of one, as "
                "registry.load(name, version) gives it, or the path of its package"
            )
        told = kind or task_kind(model.signature, model.manifest, queries=queries is not None)
        return _of_model(model, rows, told, train, level=level, progress=progress)


def _of_model(
    model: Model, rows: LabelledRows, kind: TaskKind, train: Any, *, level: float, progress: bool
) -> Evaluation:
    before = None if train is None else training_rows(train, rows, kind)
    held = _side(model, rows, kind, progress=progress)
    found = held_out_part(model, held, level)
    trained = None if before is None else _side(model, before, kind, progress=progress)
    if trained is not None:
        gaps = training_gaps(trained.answered, held.answered, level)
        found = replace(found, gaps=gaps, fit=verdict_on_fit(gaps, trained.answered))
    return replace(found, leaks=checked_for_leaks(held, trained, model.signature))


def _side(model: Model, rows: LabelledRows, kind: TaskKind, *, progress: bool) -> Side:
    if kind == "retrieval":
        return searched_side(model, rows)
    return answered_side(model, rows, kind, progress=progress)


def _of_procedure(
    estimator: Any, rows: LabelledRows, cv: Any, train: Any, *, level: float, progress: bool
) -> Evaluation:
    _refuse_beside_folds(estimator, train, rows)
    labels = whole_array(rows.y)
    truth = np.asarray(labels if hasattr(labels, "dtype") else list(rows.y))
    refuse_missing("y", truth)
    kind = procedure_kind(estimator, truth)
    task = read_task(
        kind,
        tuple(np.unique(truth).tolist()) if kind in ("binary", "multiclass") else None,
        rows.y,
        sample_weight=rows.sample_weight,
        clusters=rows.clusters,
        positive=rows.positive,
    )
    places = fold_places(cv, task)
    folds = answered_folds(estimator, rows.X, truth, task, places, progress=progress)
    sizes = np.array([(len(held), len(train)) for train, held in places]).mean(axis=0)
    found = fold_part(folds, (round(sizes[0]), round(sizes[1])), level)
    digest = keys_of_rows({"X": np.asarray(rows.X), "y": truth}).digest
    return replace(found, model=f"the training of {type(estimator).__name__}", data_digest=digest)


def _refuse_beside_folds(estimator: Any, train: Any, rows: LabelledRows) -> None:
    if isinstance(estimator, Model):
        raise TypeError(
            "cross-validation fits again and again, and a Model is trained already: pass the "
            "estimator that it was saved from, or leave out cv"
        )
    if isinstance(rows.clusters, str):
        raise UsageError(
            "with cv, pass the values of clusters and not the name of a column, which the estimator "
            "would be fitted on"
        )
    others = (train, rows.slices, rows.queries, rows.corpus)
    if any(other is not None for other in others):
        raise UsageError(
            "cross-validation takes clusters, sample_weight and level; train, slices, queries and "
            "corpus are for a Model"
        )
