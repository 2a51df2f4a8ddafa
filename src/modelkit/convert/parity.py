"""The gate: no package is written before its graph has been compared with its source.

What the gate learns becomes part of the signature: a column is nullable only if source and graph
agree on rows where it is missing, whatever the example happened to hold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from modelkit.cast import Array
from modelkit.convert.columns import Questions, learn, missing_columns
from modelkit.convert.compare import (
    Answers,
    Differences,
    agree,
    compare,
    merge,
    scales_of,
    tolerance,
)
from modelkit.convert.probes import at_thresholds, between, enlarged, not_finite, zeroed
from modelkit.convert.source import Source, count, take
from modelkit.convert.strange import texts_of_terms, with_texts
from modelkit.errors import (
    BatchError,
    ConversionError,
    ModelkitError,
    ParityError,
    SignatureError,
)
from modelkit.manifest import Parity
from modelkit.model import Model
from modelkit.signature import Feeds, Signature

MAX_ROWS = 2048
PROBE_ROWS = 64
BATCH_SIZES = (1, 7, 64)
GRAPH_RUNS = 256  # at most, of one batch size
ESTIMATOR_RUNS = 8  # of which each one takes about as long as a hundred runs of a graph
NEARBY = (2.0, 4.0)
LARGE = 1e4
NOT_FINITE = (np.nan, np.inf, -np.inf)
FEW = (1, 3, 17)  # rows at once for which source and graph are compared as well
LARGEST = float(
    np.finfo(np.float64).max
)  # stands for an infinite difference, which JSON cannot hold


def open_signature(signature: Signature) -> Signature:
    """The signature with every column nullable and any category allowed, to feed the graph what the gate wants."""
    inputs = tuple(
        dataclasses.replace(
            spec,
            columns=tuple(
                dataclasses.replace(c, nullable=True, categories=None) for c in spec.columns
            ),
        )
        for spec in signature.inputs
    )
    return dataclasses.replace(signature, inputs=inputs)


def gate(
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
    rtol, atol = tolerance(source)
    missing_rows, threshold_rows, text_rows, differences = 0, 0, 0, Differences()
    large, large_rows = Differences(), 0
    with build(open_signature(signature)) as model:
        if source.truth is not None:
            check_takes_example(source, model.signature)
            rows = take(source.rows, MAX_ROWS)
            source = dataclasses.replace(source, scales=scales_of(source.truth(rows)))
            for size in (MAX_ROWS, *FEW):
                _agree_on(
                    source,
                    model,
                    take(rows, size),
                    differences,
                    f"{min(size, count(rows))} rows of the example",
                )
            few = take(source.rows, PROBE_ROWS)
            ask, refuse = partial(_ask, source, model), partial(_refuse, source)
            signature, missing_rows = learn(Questions(source, ask, refuse, differences, few))
            signature = _refusing_not_finite(source, signature, model, few)
            text_rows = _agree_on_texts(source, model, few, differences)
            also = partial(_agree_beyond, source, model, total=differences)
            threshold_rows = also(
                at_thresholds(source, few),
                where="rows with values equal to a threshold of its trees, or next to one",
            )
            for scale in NEARBY:  # not far: there, probabilities that come to 1.0 may hide a label
                also(enlarged(few, scale), where=f"rows {scale:g} times those of the example")
            also(
                zeroed(few), where="rows of zeros"
            )  # they have no direction, and nothing to be divided by
            # There trees split, behind a scaler too.
            also(between(rows), where="rows with values halfway between those of the example")
            large, large_rows = _large(source, model, few)
            feeds = model.signature.coerce(rows)
            check_takes_example(source, signature)
        sizes, batch_max_abs, invariant = _batch_invariance(source, model, feeds)
    return signature, Parity(
        against=source.against,
        rows=0 if feeds is None else model.signature.count(feeds),
        missing_rows=missing_rows,
        batch_sizes=sizes,
        rtol=rtol,
        atol=atol,
        max_abs=differences.max_abs,
        max_rel=differences.max_rel,
        label_flips=differences.flips,
        ties=differences.ties,
        batch_max_abs=batch_max_abs,
        batch_invariant=invariant,
        threshold_rows=threshold_rows,
        large_rows=large_rows,
        large_max_rel=large.max_rel if np.isfinite(large.max_rel) else LARGEST,
        large_flips=large.flips,
        text_rows=text_rows,
    )


def check_takes_example(source: Source, signature: Signature) -> None:
    """Raise ConversionError where a package with this signature would refuse rows of its own example."""
    try:
        signature.coerce(source.rows)
    except SignatureError as error:
        said = "\n  ".join(error.problems[:5])
        raise ConversionError(
            "nothing was saved, for the package would refuse rows of its own example:\n  "
            f"{said}\nThe source takes "
            "them, but it was not shown to answer other rows like them, or the graph answers "
            "those otherwise; leave "
            f"such rows out of the example, or change the step that reads this column",
            problems=error.problems,
        ) from error


def _agree_on(source: Source, model: Model, rows: Any, total: Differences, where: str) -> None:
    """Add the differences on `rows` to the total.

    Raises ParityError where they pass the tolerance.
    """
    if source.truth is None:
        return
    truth = source.truth(rows)
    try:
        got = model.run(rows)
    except BatchError as error:
        raise ParityError(
            f"the converted graph fails on {where}, which {source.against} answers; nothing was "
            f"saved{_hint(source.rows)}"
        ) from error
    except ModelkitError:
        raise
    except Exception as error:
        raise ParityError(f"the converted graph does not run on {where}: {error}") from error
    found = compare(truth, got, *tolerance(source), source.scales)
    _refuse(source, found, where)
    merge(total, found)


def _agree_beyond(source: Source, model: Model, rows: Any, total: Differences, where: str) -> int:
    """As `_agree_on`, for rows that the example does not hold, and None where there are no such rows.

    Returns how many there are, and 0 where the source refuses them.
    """
    found = None if rows is None else _ask(source, model, rows)
    if found is None:
        return 0
    _refuse(source, found, where)
    merge(total, found)
    return count(rows)


def _agree_on_texts(source: Source, model: Model, rows: Any, total: Differences) -> int:
    """Compare texts of the model's own terms with strange characters in them; returns how many.

    Raises ParityError.
    """
    columns = [spec.name for spec in source.signature.inputs for _ in spec.columns]
    asked = 0
    for terms in source.terms:
        column = terms.vectorizer.column
        strange = with_texts(rows, columns.index(column), texts_of_terms(terms.vocabulary))
        where = f"texts with unusual characters in column {column!r}"
        asked += _agree_beyond(source, model, strange, total, where)
    return asked


def _large(source: Source, model: Model, rows: Any) -> tuple[Differences, int]:
    """Differences on rows far beyond the example.

    They are recorded, not refused: few models mean anything there.
    """
    beyond = enlarged(rows, LARGE)
    found = None if beyond is None else _ask(source, model, beyond)
    return (Differences(), 0) if found is None else (found, count(beyond))


def _refuse(source: Source, found: Differences, where: str) -> None:
    rtol, atol = tolerance(source)
    if agree(found, rtol, atol):
        return
    raise ParityError(
        f"the converted graph disagrees with {source.against} on {where}: largest relative "
        "difference "
        f"{found.max_rel:.2g} (allowed {rtol:g}), {found.flips} labels flipped; nothing was "
        f"saved{_hint(source.rows)}",
        parity=found,
    )


def _hint(rows: Any) -> str:
    """What to try where graph and source part, if the example has missing values."""
    gone = missing_columns(rows)
    if not gone:
        return ""
    if not isinstance(rows, np.ndarray):
        for position in sorted(gone):
            name = rows.columns[position]
            if any(value is None for value in rows[name].array):
                return (
                    f"; column {str(name)!r} holds None, which scikit-learn takes for a value like "
                    "others, and imputes NaN only: give fit and example X.fillna(np.nan)"
                )
    return "; the example has missing values: if it agrees without them, impute them first"


def _refusing_not_finite(
    source: Source, signature: Signature, model: Model, rows: Any
) -> Signature:
    """The signature, with each tensor of floats marked that source and graph do not agree on if it is not finite."""
    if not isinstance(rows, dict):
        return signature  # of columns, which say so themselves
    inputs = []
    for spec in signature.inputs:
        floats = "float" in spec.dtype and not spec.columns and rows[spec.name].size > 0
        finite = floats and not _agrees_if_not_finite(source, model, rows, spec.name)
        inputs.append(dataclasses.replace(spec, finite=finite))
    return dataclasses.replace(signature, inputs=tuple(inputs))


def _agrees_if_not_finite(source: Source, model: Model, rows: Any, name: str) -> bool:
    """Whether source and graph agree where an input holds NaN or an infinity, at several numbers of rows."""
    for value in NOT_FINITE:
        strange = not_finite(rows, name, value)
        for size in (PROBE_ROWS, *FEW):
            found = _ask(source, model, {key: array[:size] for key, array in strange.items()})
            if found is None or not agree(found, *tolerance(source)):
                return False
    return True


def _ask(source: Source, model: Model, rows: Any) -> Differences | None:
    """Differences on `rows`, or None where the source refuses them, or they are missing integers."""
    if source.truth is None:
        return None
    try:
        truth = source.truth(rows)
    except Exception:  # noqa: BLE001 - any refusal of the source counts
        return None
    try:
        got = model.run(rows)
    except (
        SignatureError
    ):  # of an estimator that is packaged as it is: its integers have no missing value
        return None
    except Exception:  # noqa: BLE001 - the graph fails where its source answers, whatever the runtime calls that
        return Differences(max_abs=np.inf, max_rel=np.inf)
    return compare(truth, got, *tolerance(source), source.scales)


def _batch_invariance(
    source: Source, model: Model, feeds: Feeds | None
) -> tuple[tuple[int, ...], float, bool]:
    """The sizes tried, the largest difference of any number between them, and whether rows are independent.

    One row alone cannot be tried in several sizes: then there is one size, and nothing was
    measured.
    """
    signature = model.signature
    dim = signature.row_dim
    axes = {spec.name: spec.shape.index(dim) for spec in signature.outputs if dim in spec.shape}
    if feeds is None or len(axes) < len(signature.outputs):
        return (), 0.0, False
    rtol, atol = tolerance(source)
    total = min(signature.count(feeds), 4 * max(BATCH_SIZES))
    sizes = (*(size for size in BATCH_SIZES if size < total), total)
    runs = GRAPH_RUNS if source.proto.graph.node else ESTIMATOR_RUNS
    worst = Differences()
    try:
        whole = _in_parts(model, feeds, total, total, axes)
        for size in sizes[:-1]:
            first = min(total, size * runs)
            joined = _in_parts(model, feeds, first, size, axes)
            expected = {
                name: whole[name].take(np.arange(first), axis) for name, axis in axes.items()
            }
            if any(joined[name].shape != expected[name].shape for name in axes):
                return sizes, LARGEST, False
            found = compare(expected, joined, rtol, atol)
            worst.flips += found.flips
            merge(worst, found)
    except Exception:  # noqa: BLE001 - of what runs at one size alone, whatever it is called
        return (), 0.0, False
    largest = worst.max_abs if np.isfinite(worst.max_abs) else LARGEST
    return sizes, largest, len(sizes) > 1 and agree(worst, rtol, atol)


def _in_parts(
    model: Model, feeds: Feeds, total: int, size: int, axes: Mapping[str, int]
) -> Answers:
    """The answers to the first `total` rows, `size` rows a run, joined along the axis of each output."""
    parts = []
    for start in range(0, total, size):
        places = np.arange(start, min(start + size, total))
        parts.append(model.run(_named(model, model.signature.take(feeds, places))))
    return {
        name: np.concatenate([part[name] for part in parts], axis) for name, axis in axes.items()
    }


def _named(model: Model, feeds: Feeds) -> dict[str, Array]:
    """Feeds in a form that `run` coerces back to themselves."""
    return model.signature.columns(feeds)
