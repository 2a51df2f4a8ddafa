"""The parity check: no package is written before its graph has been compared with its source.

What the parity check learns becomes part of the signature: a column is nullable only if source and graph
agree on rows where it is missing, whatever the example happened to hold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from modelkit.convert.parity.columns import learn, with_columns
from modelkit.convert.parity.compare import Differences, scales_of, tolerance
from modelkit.convert.parity.invariance import LARGEST, batch_invariance
from modelkit.convert.parity.probes import (
    at_thresholds,
    between,
    enlarged,
    has_trees,
    in_other_sizes,
    not_finite,
    numeric,
    other_times,
)
from modelkit.convert.parity.questions import FEW_ROWS, Questions
from modelkit.convert.parity.rows import at, columns_of, count, repeated, spread
from modelkit.convert.parity.strange import texts_of_terms
from modelkit.convert.source import Source
from modelkit.errors import ConversionError, SignatureError
from modelkit.model.manifest import Parity
from modelkit.model.model import Model
from modelkit.signature.signature import Feeds, Signature

MAX_ROWS = 2048
MAX_ROWS_OF_TREES = 16_384
NEARBY = (2.0, 4.0)
FAR = 1e4
NOT_FINITE = (np.nan, np.inf, -np.inf)
FURTHER_SIZES = (1, 3, 17)  # numbers of rows for which source and graph are compared as well


def open_signature(signature: Signature) -> Signature:
    """The signature with all columns nullable and open, to feed the graph what the parity check wants."""
    return with_columns(
        signature,
        lambda column: dataclasses.replace(column, nullable=True, categories=None, finite=False),
    )


def prove_parity(
    source: Source, build: Callable[[Signature], Model], feeds: Feeds | None
) -> tuple[Signature, Parity]:
    """Compare a graph with its source and return the signature that holds, with the figures.

    Args:
        source: the graph and what it came from.
        build: makes a Model of the graph with a given signature.
        feeds: rows to measure batch invariance on where the source brings none.

    Raises:
        ParityError: if the graph disagrees with its source.
        ConversionError: if a column's categories cannot be told, or the signature refuses a row of
            the example.
    """
    signature = source.signature
    figures: dict[str, Any] = {"missing_rows": 0}
    total = Differences()
    with build(open_signature(signature)) as model:
        if source.truth is not None:
            check_takes_example(source, model.signature)
            rows = spread(source.rows, MAX_ROWS)
            scales = scales_of(source.truth(rows), source.distances)
            source = dataclasses.replace(source, scales=scales)
            columns = columns_of(source, model.signature)
            signature, figures = _compare(Questions(source, model, columns, total))
            feeds = model.signature.coerce(rows)
            check_takes_example(source, signature)
        sizes, batch_max_abs, invariant = batch_invariance(source, model, feeds)
        count = 0 if feeds is None else model.signature.count(feeds)
    rtol, atol = tolerance(source)
    return signature, Parity(
        against=source.against,
        rows=count,
        batch_sizes=sizes,
        rtol=rtol,
        atol=atol,
        max_abs=total.max_abs,
        max_rel=total.max_rel,
        label_flips=total.flips,
        ties=total.ties,
        batch_max_abs=batch_max_abs,
        batch_invariant=invariant,
        **figures,
    )


def check_takes_example(source: Source, signature: Signature) -> None:
    """Raise ConversionError if a package with this signature would refuse its own example."""
    try:
        signature.coerce(source.rows)
        if source.given is not None:
            signature.coerce(source.given)
    except SignatureError as error:
        said = "\n  ".join(error.problems[:5])
        raise ConversionError(
            "nothing was saved, because the package would refuse rows of its own example:\n  "
            f"{said}\nThe model takes them, but model and graph were not shown to answer such "
            "rows alike; leave such rows out of the example, or change the step that reads this "
            "column",
            problems=error.problems,
        ) from error


def _compare(questions: Questions) -> tuple[Signature, dict[str, Any]]:
    """The signature that holds, and figures of a Parity.

    Raises ParityError where source and graph disagree on the rows of the example, or on rows
    that an application may well have.
    """
    source = questions.source
    every = np.arange(count(source.rows))
    for size in (MAX_ROWS, *FURTHER_SIZES):
        questions.agree_on_example(spread(spread(every, MAX_ROWS), size))
    # Few rows meet the thresholds of trees.
    if len(every) > MAX_ROWS and has_trees(source.proto):
        questions.agree_on_example(spread(every, MAX_ROWS_OF_TREES))
    few = questions.few
    signature = source.signature
    missing_rows = 0
    if isinstance(source.rows, dict):
        signature = _refusing_not_finite(questions, signature)
        _agree_on_tensors(questions)
    else:
        signature, missing_rows = learn(questions)
        questions.signature = signature
    text_rows = _agree_on_texts(questions)
    threshold_rows = _agree_on_probes(questions)
    beyond = enlarged(source, few, FAR)  # recorded, not refused: few models mean anything there
    large = None if beyond is None else questions.ask(beyond)
    return signature, {
        "missing_rows": missing_rows,
        "text_rows": text_rows,
        "threshold_rows": threshold_rows,
        "large_rows": 0 if large is None else count(few),
        "large_max_rel": 0.0 if large is None else min(large.max_rel, LARGEST),
        "large_flips": 0 if large is None else large.flips,
    }


def _agree_on_probes(questions: Questions) -> int:
    """Compare rows that the example lacks; gives the number of those at thresholds."""
    source = questions.source
    few = questions.few
    agree = questions.agree_beyond
    threshold_rows = agree(
        at_thresholds(source, few),
        "rows with values equal to a threshold of its trees, or next to one",
    )
    for scale in NEARBY:  # not far: there, probabilities that come to 1.0 may hide a label
        agree(enlarged(source, few, scale), f"rows {scale:g} times those of the example")
    # They have no direction, and nothing to be divided by.
    numbers = numeric(source, few, "fiu")
    agree(few | {name: few[name] * 0 for name in numbers}, "rows of zeros")
    if isinstance(source.rows, dict):
        return threshold_rows
    # There trees split, behind a scaler too.
    halfway = "rows with values halfway between those of the example"
    agree(between(source, spread(questions.rows, MAX_ROWS)), halfway)
    where = "rows of times at full hours and at the ends of months, or next to these"
    agree(other_times(few), where)
    return threshold_rows


def _agree_on_tensors(questions: Questions) -> None:
    """Compare rows whose free sizes differ from the example's, and rows with -1.

    A table of torch takes whole numbers, and has none for -1. Raises ParityError.
    """
    few = questions.few
    for dim, size, rows in in_other_sizes(few, questions.source.signature):
        questions.agree_beyond(rows, f"rows of which {dim!r} is {size}")
    for name, array in few.items():
        if array.dtype.kind == "i":
            changed = array.copy()
            changed[:1] = -1
            questions.agree_beyond(few | {name: changed}, f"rows with -1 in {name!r}")


def _agree_on_texts(questions: Questions) -> int:
    """Compare texts of the model's own terms with strange characters; gives their number.

    Raises ParityError.
    """
    asked = 0
    for terms in questions.source.terms:
        column = terms.vectorizer.column
        texts = np.array(texts_of_terms(terms.known), object)
        rows = repeated(questions.few, len(texts)) | {column: texts}
        where = f"texts with unusual characters in column {column!r}"
        asked += questions.agree_beyond(rows, where)
    return asked


def _refusing_not_finite(questions: Questions, signature: Signature) -> Signature:
    """The signature, with each tensor, or its columns, marked that must be finite for the two to agree."""
    inputs = []
    for spec in signature.inputs:
        floats = "float" in spec.dtype and questions.few[spec.name].size > 0
        finite = floats and not _agrees_if_not_finite(questions, spec.name)
        columns = tuple(dataclasses.replace(each, nullable=not finite) for each in spec.columns)
        inputs.append(dataclasses.replace(spec, columns=columns, finite=finite and not columns))
    return dataclasses.replace(signature, inputs=tuple(inputs))


def _agrees_if_not_finite(questions: Questions, name: str) -> bool:
    """Whether the two agree on NaN and infinities, at several numbers of rows."""
    strange = (not_finite(questions.few, name, value) for value in NOT_FINITE)
    sizes = (FEW_ROWS, *FURTHER_SIZES)
    return all(questions.agrees(at(rows, slice(size))) for rows in strange for size in sizes)
