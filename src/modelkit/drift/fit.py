"""From rows, or the tally of a reference, to a Profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import fitting, refusals
from modelkit.drift.counts import Tally
from modelkit.drift.losses import baseline_of_losses
from modelkit.drift.profile import Profile
from modelkit.drift.reference_fields import counted_fields, labelled_fields
from modelkit.drift.segments import fit_segments
from modelkit.drift.unit_fit import Marking, units_of_counts
from modelkit.drift.vectors import expand
from modelkit.errors import UsageError
from modelkit.model.model import Model


@final
@dataclass(frozen=True)
class Options:
    """The arguments of `Profile.fit` beside the rows; see there."""

    model: Model | None
    scores: Any
    labels: Any
    losses: Any
    positive: Any
    ordered: bool
    stratum: str | None
    text: Sequence[str]
    importance: Mapping[str, float]
    unit: str | None
    time: str | None
    segments: Sequence[str]
    seed: int


def of_rows(X: Any, reference: Any, asked: Options) -> Profile:
    """The profile of rows. Raises what `Profile.fit` says."""
    refusals.check_arguments(
        reference,
        asked.model,
        asked.scores,
        labels=asked.labels,
        losses=asked.losses,
        positive=asked.positive,
    )
    refusals.check_segments(asked.segments, asked.stratum, asked.unit)
    ordered = asked.ordered
    marking = Marking(asked.unit, asked.time, asked.stratum)
    sides, marks = marking.sides(X, reference, asked.model, ordered=ordered, seed=asked.seed)
    kinds = fitting.length_columns(asked.text, asked.model)
    fitted = fitting.Fitting(kinds, fitting.AlphaWeights(asked.importance), asked.seed)
    fitted.inputs(sides.train, marking.aside)
    answers = fitting.fit_answers(fitted, sides, asked.scores, marks.units, ordered=ordered)
    refusals.check_names(fitted.features, asked.labels, kinds, asked.importance)
    found = counted_fields(fitted, sides, answers, marking, marks, ordered=ordered)
    profile = _segmented(Profile(**found), sides, answers, asked.segments, marks.seconds)
    if asked.labels is None:
        losses = asked.losses
        baseline = None if losses is None else baseline_of_losses(losses, profile.rows)
        return replace(profile, baseline=baseline)
    of_labels = labelled_fields(
        fitted,
        answers,
        asked.labels,
        asked.model,
        profile.rows,
        positive=asked.positive,
        ordered=ordered,
    )
    return replace(profile, **of_labels)


def _segmented(
    profile: Profile,
    sides: fitting.Sides,
    answers: fitting.ServedAnswers,
    names: Sequence[str],
    seconds: Array | None,
) -> Profile:
    """A profile with the joint counts of the reference."""
    if not names:
        return profile
    columns = expand(sides.held, profile.bases) | dict(answers.columns)
    segments = fit_segments(names, profile.features, columns, answers.rows, seconds)
    return replace(profile, segments=segments)


def of_tally(X: Any, tally: Tally, asked: Options) -> Profile:
    """A profile with the counts of a tally in place of those of half of X."""
    refusals.check_tallied(
        asked.scores, asked.labels, asked.losses, asked.segments, ordered=asked.ordered
    )
    alone = of_rows(X, None, asked)
    if tally.profile != alone.digest:
        raise UsageError(
            "the reference is a tally by another profile: count it by the one that Profile.fit "
            "makes of the same X, seed and arguments, without reference="
        )
    if tally.strangers:
        raise UsageError(
            f"{tally.strangers:,} rows of the tally are of strata that X does not have; fit X with "
            "rows of each"
        )
    refusals.check_enough(tally.rows, "the reference")
    if not tally.counted.all():
        raise UsageError("the tally lacks the model's answers: give them to tally() as scores")
    counts = np.zeros_like(alone.counts)
    strata = np.array([stratum for _, stratum in tally.groups])
    np.add.at(counts, strata, tally.counts)
    units = None
    if alone.unit is not None:
        keys = [key for key, _ in tally.groups]
        if len(set(keys)) < len(keys):
            raise UsageError("a unit of the tally has rows of several strata")
        units = units_of_counts(tally.counts, strata, alone.features, alone.unit, asked.seed)
    return replace(alone, counts=counts, rows=tally.rows, units=units, duplicates=0, advice="")
