"""The labelled rows of a gate, answered by both models, in an order of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import UsageError
from modelkit.lifecycle.evaluation.answered import Answered, TaskKind
from modelkit.lifecycle.evaluation.columns import texts_of
from modelkit.lifecycle.evaluation.digests import keys_of_feeds, keys_of_rows
from modelkit.lifecycle.evaluation.figures import slice_texts
from modelkit.lifecycle.evaluation.rows import LabelledRows, answers_of, with_answers
from modelkit.lifecycle.evaluation.task import text_codes
from modelkit.lifecycle.gate.comparison import JudgedAnswers
from modelkit.model.model import Model
from modelkit.signature.signature import Feeds


class AskedRows(NamedTuple):
    """Rows and their truth, before the models have answered; their order says nothing."""

    task: Answered
    candidate: Feeds
    champion: Feeds
    slices: dict[str, Array]
    digest: str


class Both(NamedTuple):
    """What both models answered to the same rows."""

    candidate: JudgedAnswers
    champion: JudgedAnswers

    def at(self, rows: Array) -> Both:
        """The rows that places (m,) choose."""
        return Both(self.candidate.at(rows), self.champion.at(rows))


def asked_rows(candidate: Model, champion: Model, rows: LabelledRows, kind: TaskKind) -> AskedRows:
    """The rows as both models take them, in the order of their hashes.

    However the caller had them sorted, the models then get the same batches, and every sum is the
    same to the last bit. What else belongs to rows, such as clusters, orders rows that are equal else,
    and does not enter the digest. Raises UsageError and SignatureError.
    """
    signature = champion.signature
    task = rows.task(kind, signature.classes)
    n = len(task)
    slices = {name: slice_texts(name, values, n) for name, values in rows.sliced().items()}
    ours = rows.feeds(candidate.signature)
    theirs = rows.feeds(signature)
    if signature.count(theirs) != n:
        raise UsageError(f"y has {n:,} rows, and X {signature.count(theirs):,}")
    groups = {name: values for name, values in rows.groups().items() if values is not None}
    beside = {name: texts_of(name, values) for name, values in groups.items()}
    beside |= {f"slice {name}": texts for name, texts in slices.items()}
    keys, digest = keys_of_feeds(theirs, signature, task.truth)
    order = _order(keys, beside)
    return AskedRows(
        _renumbered(task.at(order)),
        candidate.signature.take(ours, order),
        signature.take(theirs, order),
        {name: values[order] for name, values in slices.items()},
        digest,
    )


def _order(keys: Array, beside: Mapping[str, Array]) -> Array:
    """The places of rows by their keys, (n, 2), and of equal ones by what else belongs to them."""
    more = keys_of_rows(beside).keys if beside else keys
    return np.lexsort((*more.T[::-1], *keys.T[::-1]))


def _renumbered(task: Answered) -> Answered:
    """Groups are numbered by where they come first, so in the new order they are other numbers."""
    groups = {"clusters": task.clusters, "queries": task.queries}
    codes: dict[str, Any] = {
        name: text_codes(name, values) for name, values in groups.items() if values is not None
    }
    return replace(task, **codes)


def answered_by_both(candidate: Model, champion: Model, asked: AskedRows) -> Both:
    """Ask both models. Raises UsageError where an answer does not fit the truth."""
    truth = _written(asked.task)
    sides = []
    for model, feeds in ((candidate, asked.candidate), (champion, asked.champion)):
        outputs = answers_of(model, feeds)
        answered = with_answers(asked.task, outputs, model.signature.primary)
        sides.append(JudgedAnswers(answered, truth, outputs))
    return Both(*sides)


def _written(task: Answered) -> Array:
    """The truth as the model writes its answers, (n,) or (n, L)."""
    if task.kind in ("binary", "multiclass"):
        return np.asarray(task.classes)[task.truth]
    truth = task.truth
    return truth[:, 0] if truth.ndim == 2 and truth.shape[1] == 1 else truth
