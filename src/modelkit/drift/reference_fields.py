"""What a Profile holds of its reference: the counts, and what its labels say of the model."""

from __future__ import annotations

from typing import Any

from modelkit.drift import fitting
from modelkit.drift.advice import advise, told
from modelkit.drift.columns import length
from modelkit.drift.dependence import sparse_text
from modelkit.drift.labelfree import with_positive
from modelkit.drift.losses import baseline_of_labels
from modelkit.drift.outputs import predicted_of
from modelkit.drift.repeats import duplicates
from modelkit.drift.target import TARGET, TargetLabels
from modelkit.drift.unit_fit import CountedRows, Marking, Marks, reference_units
from modelkit.drift.vectors import expand
from modelkit.events import Advised, emit, wanted
from modelkit.model.model import Model


def counted_fields(
    fitted: fitting.Fitting,
    sides: fitting.Sides,
    answers: fitting.ServedAnswers,
    marking: Marking,
    marks: Marks,
    *,
    ordered: bool,
) -> dict[str, Any]:
    """The fields of a Profile with the counts of the reference."""
    columns = expand(sides.held, fitted.bases)
    strata, member = fitting.strata_of(sides.held, marking.stratum, marks.cycle)
    features, counts = fitting.count_cells(
        fitted.features,
        columns | dict(answers.columns),
        member,
        answers.rows,
        ordered=ordered,
        seed=fitted.seed,
    )
    sparse = sparse_text(features, counts)
    if sparse is not None and wanted(Advised):
        emit(Advised(sparse))
    counted = CountedRows(features, columns | dict(answers.columns), answers.rows, member)
    advice = advise(
        counted, marks, marking.unit, stratum=marking.stratum, ordered=ordered, seed=fitted.seed
    )
    units = reference_units(counted, marks.units, str(marking.unit), fitted.seed)
    return {
        "features": fitting.AlphaWeights.shared(features),
        "counts": counts,
        "strata": strata,
        "stratum": marking.stratum,
        "bases": fitted.bases,
        "rows": length(sides.held),
        "train_rows": length(sides.train),
        "ordered": ordered,
        "duplicates": duplicates({f.name: columns[f.name] for f in features if not f.output}),
        "unit": marking.unit,
        "time": marking.time,
        "units": units,
        "timed_stratum": marks.cycle is not None,
        "advice": told(advice),
        "class_names": sides.class_names,
    }


def labelled_fields(
    fitted: fitting.Fitting,
    answers: fitting.ServedAnswers,
    labels: Any,
    model: Model | None,
    rows: int,
    *,
    positive: Any,
    ordered: bool,
) -> dict[str, Any]:
    """The fields with the labels and losses of the reference, and calibrated probabilities.

    `rows` is the number of rows of the reference.
    """
    classes = None if model is None else model.signature.classes
    baseline, classes = baseline_of_labels(
        answers.served, labels, classes, rows, ordered=ordered, seed=fitted.seed
    )
    calibration = None
    if classes is not None:
        calibration = fitting.fit_calibration(answers.served, labels, classes, fitted.seed)
    if positive is not None:
        calibration = with_positive(calibration, positive)
    predicted = predicted_of(answers.served, classes)
    target = TargetLabels.fit(
        labels,
        classes=predicted.dtype.kind != "f",
        ordered=ordered,
        share=fitted.weights.share_of(TARGET, fitted.features),
        seed=fitted.seed,
    )
    return {"baseline": baseline, "calibration": calibration, "target": target}
