"""The labelled rows of a gate, answered by both models, in an order of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from modelkit.cast import Array
from modelkit.errors import EvaluationError
from modelkit.evaluation.answered import Answered, TaskKind
from modelkit.evaluation.asking import answers_of, with_answers
from modelkit.evaluation.columns import (
    grouping_values,
    slice_columns,
    texts_of,
    without_columns,
)
from modelkit.evaluation.sides import LabelledRows
from modelkit.evaluation.slices import MOST_VALUES
from modelkit.evaluation.task import read_task, text_codes
from modelkit.gating.check import Check
from modelkit.gating.comparison import Answers
from modelkit.gating.holdout import hold_out_of
from modelkit.model import Model, Outputs
from modelkit.signature import Feeds


class Asked(NamedTuple):
    """Rows and their truth, before the models have answered; their order tells nothing."""

    task: Answered
    truth: Array
    candidate: Feeds
    champion: Feeds
    slices: dict[str, Array]
    digest: str


class Both(NamedTuple):
    """What both models answered to the same rows."""

    candidate: Answers
    champion: Answers


def asked_rows(
    candidate: Model,
    champion: Model,
    rows: LabelledRows,
    kind: TaskKind,
) -> Asked:
    """The rows as both models take them, in the order of their hashes.

    However the caller had them sorted, the models then get the same batches, and every sum is the
    same to the last bit. Raises EvaluationError and SignatureError.
    """
    signature = champion.signature
    clusters = grouping_values(rows.X, rows.clusters, "clusters")
    queries = grouping_values(rows.X, rows.queries, "queries")
    task = read_task(kind, signature.classes, rows.y, clusters=clusters, queries=queries)
    n = len(task)
    slices = {}
    for name, values in slice_columns(rows.X, rows.slices).items():
        slices[name] = _slice_texts(name, values, n)
    theirs = signature.coerce(without_columns(rows.X, rows.named, signature))
    ours = candidate.signature.coerce(without_columns(rows.X, rows.named, candidate.signature))
    if signature.count(theirs) != n:
        raise EvaluationError(f"y has {n:,} rows, and X {signature.count(theirs):,}")
    beside = {f"slice {name}": values for name, values in slices.items()}
    for name, groups in (("clusters", clusters), ("queries", queries)):
        if groups is not None:
            beside[name] = texts_of(groups)
    held = hold_out_of(theirs, signature, task.truth, beside)
    return Asked(
        _renumbered(task.at(held.order)),
        _written(task, signature.classes)[held.order],
        candidate.signature.take(ours, held.order),
        signature.take(theirs, held.order),
        {name: values[held.order] for name, values in slices.items()},
        held.digest,
    )


def _slice_texts(
    name: str,
    values: Any,
    n: int,
) -> Array:
    texts = texts_of(values)
    if len(texts) != n:
        raise EvaluationError(
            f"slices: {name!r} has {len(texts):,} values, and there are {n:,} rows"
        )
    known = len(set(texts.tolist()))
    if known > MOST_VALUES:
        raise EvaluationError(
            f"slices: {name!r} has {known:,} different values; group them into at most {MOST_VALUES}"
        )
    return texts


def _renumbered(task: Answered) -> Answered:
    """Groups are numbered by where they come first, so in the new order they are other numbers."""
    clusters, queries = task.clusters, task.queries
    if clusters is not None:
        clusters = text_codes("clusters", clusters)
    if queries is not None:
        queries = text_codes("queries", queries)
    return replace(task, clusters=clusters, queries=queries)


def _written(
    task: Answered,
    classes: tuple[Any, ...] | None,
) -> Array:
    """The truth as the model writes its answers, (n,) or (n, L)."""
    if task.classes and classes is not None:
        return np.asarray(task.classes)[task.truth]
    truth = task.truth
    return truth[:, 0] if truth.ndim == 2 and truth.shape[1] == 1 else truth


def answered_by_both(
    candidate: Model,
    champion: Model,
    asked: Asked,
) -> Both:
    """Ask both models. Raises EvaluationError where an answer does not fit the truth."""
    ours = answers_of(candidate, asked.candidate)
    theirs = answers_of(champion, asked.champion)
    return Both(
        _answers(asked, ours, candidate.signature.primary),
        _answers(asked, theirs, champion.signature.primary),
    )


def _answers(
    asked: Asked,
    outputs: Outputs,
    primary: str | None,
) -> Answers:
    return Answers(with_answers(asked.task, outputs, primary), asked.truth, outputs)


def numbers_check(both: Both) -> Check:
    """Whether the candidate answers with numbers wherever the champion does."""
    ours = _without_numbers(both.candidate.outputs)
    theirs = _without_numbers(both.champion.outputs)
    lost = int(np.count_nonzero(ours & ~theirs))
    text = "it does"
    if lost:
        text = f"it answers NaN or infinity to {lost:,} of {len(ours):,} rows where the champion does not"
    return Check(
        "numbers",
        "Does it answer with numbers wherever the champion does?",
        "fail" if lost else "pass",
        part="contract",
        text=text,
    )


def _without_numbers(outputs: Mapping[str, Array]) -> Array:
    """Which rows have an answer that is NaN or infinite, (n,)."""
    n = len(next(iter(outputs.values())))
    rows = np.zeros(n, bool)
    for values in outputs.values():
        if values.dtype.kind == "f":
            rows |= ~np.isfinite(values.reshape(n, -1)).all(axis=1)
    return rows
