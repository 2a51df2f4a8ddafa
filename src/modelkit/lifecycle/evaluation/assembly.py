"""An Evaluation from answered rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from modelkit.lifecycle.evaluation import leakage
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.calibrated import (
    BrierParts,
    ReliabilityBin,
    brier_parts,
    reliability_bins,
)
from modelkit.lifecycle.evaluation.class_metrics import confidences_of, rows_held
from modelkit.lifecycle.evaluation.details import confusion_of, curves_of, residual_bands
from modelkit.lifecycle.evaluation.digests import keys_of_feeds
from modelkit.lifecycle.evaluation.evaluation import Evaluation
from modelkit.lifecycle.evaluation.figures import (
    MetricFigure,
    class_figures,
    figure_of,
    figures_of,
    positive_of,
    slice_figures,
)
from modelkit.lifecycle.evaluation.folds import fold_figure, pooled
from modelkit.lifecycle.evaluation.gap import JUDGED_BY
from modelkit.lifecycle.evaluation.leakage import LeakageCheck
from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.lifecycle.evaluation.rows import Side
from modelkit.lifecycle.evaluation.task import MOST_NAMED
from modelkit.model.model import Model
from modelkit.signature.signature import Signature
from modelkit.stats.influence import Undefined

FEW_UNITS = 30  # below which intervals are rough
OF_FOLDS = (
    "figures are means over folds, with the interval of Nadeau and Bengio; pictures are of all "
    "held-out rows together, each answered by the fit that did not see it"
)
COMPUTED_BY = ("modelkit-sdk", "numpy", "scipy", "scikit-learn")


def held_out_part(model: Model, side: Side, level: float) -> Evaluation:
    """The Evaluation of a model on held-out rows, without what training rows would add."""
    manifest = model.manifest
    answered = side.answered
    named = type(model.base).__name__ if manifest is None else f"{manifest.name} {manifest.version}"
    found = _evaluation(answered, figures_of(answered, level), side.slices, level)
    return replace(
        found,
        model=named,
        model_digest="" if manifest is None else manifest.model_digest,
        data_digest=side.data_digest,
        notes=(*side.notes, *found.notes),
    )


def fold_part(folds: Sequence[Answered], rows: tuple[int, int], level: float) -> Evaluation:
    """The Evaluation of a training procedure from its folds; see `fold_figure`."""
    metrics = METRICS[folds[0].kind].values()
    figures = tuple(fold_figure(metric, folds, rows, level) for metric in metrics)
    found = _evaluation(pooled(folds), figures, {}, level)
    return replace(found, folds=len(folds), notes=(OF_FOLDS, *found.notes))


def _evaluation(
    answered: Answered, figures: tuple[MetricFigure, ...], slices: Mapping[str, Any], level: float
) -> Evaluation:
    units = answered.units
    bins, parts = _calibration(answered, level)
    return Evaluation(
        kind=answered.kind,
        model="",
        model_digest="",
        rows=len(answered),
        independent=units,
        level=level,
        weighted=answered.weights is not None,
        data_digest="",
        figures=figures,
        positive=positive_of(answered),
        classes=class_figures(answered, level),
        slices=slice_figures(answered, slices, level),
        confusion=confusion_of(answered, level),
        curves=curves_of(answered),
        reliability=bins,
        brier_parts=parts,
        residuals=residual_bands(answered),
        notes=_notes(answered, units),
        versions=library_versions(),
    )


def _calibration(
    answered: Answered, level: float
) -> tuple[tuple[ReliabilityBin, ...], BrierParts | None]:
    if answered.kind not in ("binary", "multiclass"):
        return (), None
    try:
        told, came = confidences_of(answered)
        parts = brier_parts(told, came, answered.weight)
    except Undefined:
        return (), None
    return reliability_bins(told, came, answered.weight, answered.clusters, level), parts


def _notes(answered: Answered, units: int) -> tuple[str, ...]:
    notes = []
    if units < FEW_UNITS:
        what = "rows" if answered.clusters is None else "clusters"
        if answered.kind == "ranking":
            what = "queries"
        notes.append(f"{units:,} independent {what} are few: the intervals are rough")
    if answered.kind in ("binary", "multiclass", "multilabel"):
        notes += _notes_on_classes(answered)
    return tuple(notes)


def _notes_on_classes(answered: Answered) -> Iterator[str]:
    """Which classes, or labels, these rows do not tell apart from the others."""
    held = rows_held(answered)
    several = answered.kind == "multilabel"
    names = answered.classes or tuple(range(held.shape[1]))
    absent = [repr(names[k]) for k in np.flatnonzero(~held.any(axis=0))]
    full = [repr(names[k]) for k in np.flatnonzero(held.all(axis=0))]
    if absent:
        yield f"no row has the {'label' if several else 'class'} {listed(absent)}"
    if full and several:
        yield f"every row has the label {listed(full)}"
    if several and (absent or full):
        yield "roc_auc and average_precision are means over the other labels"


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - MOST_NAMED
    told = ", ".join(names[:MOST_NAMED])
    return f"{told} and {more:,} more" if more > 0 else told


def library_versions() -> dict[str, str]:
    """The versions of what computes figures, by name."""
    return dict(_installed_versions())


@cache
def _installed_versions() -> tuple[tuple[str, str], ...]:
    """Reading them takes 20 ms."""
    found = []
    for name in COMPUTED_BY:
        with suppress(PackageNotFoundError):
            found.append((name, version(name)))
    return tuple(found)


def checked_for_leaks(
    held: Side, trained: Side | None, signature: Signature
) -> tuple[LeakageCheck, ...]:
    """The checks for leaks that these rows allow."""
    if held.feeds is None:
        return ()
    found = []
    if trained is not None and trained.feeds is not None:
        found += _across_the_split(held, trained, signature)
    alone = leakage.telling_columns(held.feeds, signature, held.answered)
    if alone is not None:
        found.append(alone)
    return tuple(found)


def _across_the_split(held: Side, trained: Side, signature: Signature) -> list[LeakageCheck]:
    keys = [keys_of_feeds(side.feeds or {}, signature).keys[:, 0] for side in (trained, held)]
    check, equal = leakage.equal_rows(*keys)
    if check.found and not equal.all():
        check = replace(check, text=f"{check.text}; {_without(held.answered, ~equal)}")
    found = [check]
    before = trained.named_clusters
    after = held.named_clusters
    if before is not None and after is not None:
        found.append(leakage.shared_clusters(before, after))
    return found


def _without(answered: Answered, rows: Any) -> str:
    """What the model is worth without some rows."""
    known = METRICS[answered.kind]
    figure = figure_of(known[JUDGED_BY[answered.kind][-1]], answered.at(rows), 0.95)
    return f"without them {figure}"
