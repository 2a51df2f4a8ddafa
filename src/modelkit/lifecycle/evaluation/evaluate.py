"""Evaluate a Model on labelled rows, or a training procedure by cross-validation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from numbers import Real
from typing import Any

import numpy as np

from modelkit._internal.progress import bars
from modelkit.errors import UsageError
from modelkit.lifecycle.evaluation import leakage
from modelkit.lifecycle.evaluation.answered import Answered, TaskKind
from modelkit.lifecycle.evaluation.class_metrics import confidences_of
from modelkit.lifecycle.evaluation.details import confusion_of, curves_of, residual_bands
from modelkit.lifecycle.evaluation.digests import keys_of_feeds, keys_of_rows
from modelkit.lifecycle.evaluation.evaluation import Evaluation
from modelkit.lifecycle.evaluation.figures import (
    CLASSIFIED,
    MetricFigure,
    class_figures,
    figure_of,
    figures_of,
    positive_of,
    slice_figures,
)
from modelkit.lifecycle.evaluation.folds import (
    answered_folds,
    fold_figure,
    fold_places,
    pooled,
    procedure_kind,
)
from modelkit.lifecycle.evaluation.gap import (
    JUDGED_BY,
    membership_advantage,
    training_gaps,
    verdict_on_fit,
)
from modelkit.lifecycle.evaluation.leakage import LeakageCheck
from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.lifecycle.evaluation.retrieval import searched_side
from modelkit.lifecycle.evaluation.robustness import RobustnessReport
from modelkit.lifecycle.evaluation.rows import LabelledRows, Side, answered_side, training_rows
from modelkit.lifecycle.evaluation.task import task_kind, whole_column
from modelkit.model.identity import identity_of
from modelkit.model.model import Model
from modelkit.model.wrapper import has_several_versions
from modelkit.package.load import load
from modelkit.report.html import some
from modelkit.signature.frames import whole_array
from modelkit.signature.signature import Signature
from modelkit.stats.calibration import ReliabilityBin, reliability_bins
from modelkit.stats.intervals import LEVEL_95

FEW_UNITS = 30  # below which intervals are rough
OF_FOLDS = (
    "figures are means over folds, with the interval of Nadeau and Bengio; pictures are of all "
    "held-out rows together, each answered by the fit that did not see it"
)
COMPUTED_BY = ("modelkit-sdk", "numpy", "scipy", "scikit-learn")


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
    robustness: RobustnessReport | None = None,
    kind: TaskKind | None = None,
    positive: Any = None,
    level: float = LEVEL_95,
    progress: bool | None = None,
) -> Evaluation:
    """What a model is worth on labelled rows, every figure with an interval.

        mk.evaluate("churn.mk", X_test, y_test)["accuracy"]

    Args:
        model: a Model, or the path of a package; or with `cv` an estimator of scikit-learn's kind,
            which is cloned.
        X: n rows, as `Model.run` takes them; texts for an encoder.
        y: their truth, (n,): classes, values, how relevant each row is to its query, or true groups
            of a clustering; (n, L) of 0 and 1 for several labels, which are named by a frame's
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
        robustness: of the same model, from `mk.robustness`; the Evaluation then holds it.
        kind: of task, where it does not follow from the model's outputs.
        positive: of two classes, the one that precision, recall, F1, the areas and the pictures are
            of; by default the second of the model's, and of an outlier detector the outliers, -1.
        level: of the intervals.
        progress: show a bar; by default in a notebook.

    A column of X that is only named here, and that the model does not take, is not shown to it.

    Returns:
        The Evaluation, which has each metric by its name.

    Raises:
        UsageError: if truth, weights or columns do not fit the rows, the kind of task is unclear,
            the model is a Rollout, of several versions, or the robustness is of another model.
        SignatureError: if the rows do not fit the model.
        TypeError: for an estimator without `cv`, and for a Model with it.
        MissingExtraError: if scipy or scikit-learn is missing.
    """
    if not isinstance(level, Real) or not 0 < level < 1:
        raise UsageError(f"the level of an interval is between 0 and 1, not {level!r}")
    rows = LabelledRows(
        X, y, sample_weight, slices, clusters, queries, corpus, roles, positive=positive
    )
    with ExitStack() as opened:
        opened.enter_context(bars(progress))
        if cv is not None:
            found = _of_procedure(model, rows, cv, train, level=level)
        else:
            one = _one_model(model, opened)
            task = kind or task_kind(one.signature, one.manifest, queries=queries is not None)
            found = _of_model(one, rows, task, train, level=level)
    return _with_robustness(found, robustness)


def _one_model(model: Any, opened: ExitStack) -> Model:
    """A Model of one version, or the one of a package, which the stack closes. Raises UsageError and TypeError."""
    if isinstance(model, str | os.PathLike):
        return opened.enter_context(load(model))
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
    return model


def _with_robustness(found: Evaluation, robustness: RobustnessReport | None) -> Evaluation:
    """An Evaluation with a RobustnessReport, if there is one. Raises UsageError for one of another model."""
    if not isinstance(robustness, RobustnessReport | None):
        raise TypeError(
            f"robustness is what mk.robustness(model, X, y) gives, not {robustness!r:.80}"
        )
    if robustness is not None and robustness.model_digest != found.model_digest:
        raise UsageError(
            f"the robustness is of {robustness.model} {robustness.model_digest:.12}, and this Evaluation "
            f"of {found.model} {found.model_digest:.12}: measure it on the same model"
        )
    return replace(found, robustness=robustness)


def _of_model(
    model: Model, rows: LabelledRows, kind: TaskKind, train: Any, *, level: float
) -> Evaluation:
    before = None if train is None else training_rows(train, rows, kind)
    answer = partial(answered_side, model, kind=kind)
    held = searched_side(model, rows) if kind == "retrieval" else answer(rows)
    answered = held.answered
    figures = figures_of(answered, level)
    slices = slice_figures(answered, held.slices, level)
    trained = None if before is None else answer(before)
    gaps = () if trained is None else training_gaps(trained.answered, answered, level)
    if trained is not None:
        figures = (*figures, membership_advantage(trained.answered, answered, level))
    manifest = model.manifest
    identity = identity_of(model)
    return _evaluation(
        answered,
        figures,
        level,
        held.notes,
        model=f"{identity.name} {identity.version}".rstrip(),
        model_digest="" if manifest is None else manifest.model_digest,
        data_digest=held.data_digest,
        slices=slices,
        gaps=gaps,
        fit="" if trained is None else verdict_on_fit(gaps, trained.answered),
        leaks=_leaks(held, trained, model.signature),
    )


def _of_procedure(
    estimator: Any, rows: LabelledRows, cv: Any, train: Any, *, level: float
) -> Evaluation:
    _refuse_beside_folds(estimator, train, rows)
    labels = whole_array(rows.y)
    truth = np.asarray(labels if hasattr(labels, "dtype") else list(rows.y))
    if truth.ndim == 1:
        whole_column("y", rows.y)  # scikit-learn does not say which row lacks a class
    kind = procedure_kind(estimator, truth)
    labelled = kind in ("binary", "multiclass")
    task = rows.task(kind, tuple(np.unique(truth).tolist()) if labelled else None)
    places = fold_places(cv, task)
    folds = answered_folds(estimator, rows.X, truth, task, places)
    held_out, trained_on = np.mean([(len(held), len(train)) for train, held in places], axis=0)
    sizes = (round(held_out), round(trained_on))
    return _evaluation(
        pooled(folds),
        tuple(fold_figure(metric, folds, sizes, level) for metric in METRICS[kind].values()),
        level,
        (OF_FOLDS,),
        model=f"the training of {type(estimator).__name__}",
        model_digest="",
        data_digest=keys_of_rows({"X": np.asarray(rows.X), "y": truth}).digest,
        folds=len(folds),
    )


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


def _evaluation(
    answered: Answered,
    figures: tuple[MetricFigure, ...],
    level: float,
    notes: tuple[str, ...],
    **more: Any,
) -> Evaluation:
    return Evaluation(
        kind=answered.kind,
        rows=len(answered),
        independent=answered.units,
        level=level,
        weighted=answered.weights is not None,
        figures=figures,
        positive=positive_of(answered),
        classes=class_figures(answered, level),
        confusion=confusion_of(answered, level),
        curves=curves_of(answered),
        residuals=residual_bands(answered),
        notes=(*notes, *_notes(answered)),
        versions=library_versions(),
        reliability=_reliability(answered, level),
        **more,
    )


def _reliability(answered: Answered, level: float) -> tuple[ReliabilityBin, ...]:
    """Whether probabilities come true, where the model gives some."""
    if answered.kind not in ("binary", "multiclass") or answered.probabilities is None:
        return ()
    predicted, observed = confidences_of(answered)
    if not np.isfinite(predicted).all():
        return ()
    return reliability_bins(predicted, observed, answered.weight, answered.clusters, level)


def _notes(answered: Answered) -> Iterator[str]:
    if answered.units < FEW_UNITS:
        what = "rows" if answered.clusters is None else "clusters"
        if answered.kind == "ranking":
            what = "queries"
        yield f"{answered.units:,} independent {what} are few: the intervals are rough"
    if answered.kind in CLASSIFIED:
        yield from _notes_on_classes(answered)


def _notes_on_classes(answered: Answered) -> Iterator[str]:
    """Which classes, or labels, these rows do not distinguish from the others."""
    several = answered.kind == "multilabel"
    absent = []
    full = []
    for part in answered.by_class():
        if not part.positives.any():
            absent.append(repr(part.positive_class))
        elif part.positives.all():
            full.append(repr(part.positive_class))
    if absent:
        yield f"no row has the {'label' if several else 'class'} {some(absent)}"
    if full and several:
        yield f"every row has the label {some(full)}"
    if several and (absent or full):
        yield "roc_auc and average_precision are means over the other labels"


@cache
def _installed_versions() -> tuple[tuple[str, str], ...]:
    """Reading them takes 20 ms."""
    found = []
    for name in COMPUTED_BY:
        with suppress(PackageNotFoundError):
            found.append((name, version(name)))
    return tuple(found)


def library_versions() -> dict[str, str]:
    """The versions of what computes figures, by name."""
    return dict(_installed_versions())


def _leaks(held: Side, trained: Side | None, signature: Signature) -> tuple[LeakageCheck, ...]:
    """The checks for leaks that these rows allow."""
    if held.feeds is None:
        return ()
    across = () if trained is None else _leaks_across(held, trained, signature)
    alone = leakage.telling_columns(held.feeds, signature, held.answered)
    return tuple(filter(None, (*across, alone)))


def _leaks_across(held: Side, trained: Side, signature: Signature) -> Iterator[LeakageCheck]:
    """What both sides of the split share."""
    keys = [keys_of_feeds(side.feeds or {}, signature).keys[:, 0] for side in (trained, held)]
    check, equal = leakage.equal_rows(*keys)
    if check.found and not equal.all():
        judged = METRICS[held.answered.kind][JUDGED_BY[held.answered.kind][-1]]
        figure = figure_of(judged, held.answered.at(~equal), LEVEL_95)
        check = replace(check, text=f"{check.text}; without them {figure}")
    yield check
    before = trained.named_clusters
    after = held.named_clusters
    if before is not None and after is not None:
        yield leakage.shared_clusters(before, after)
