"""The gate: no package is written before its graph has been compared with its source.

What the gate learns becomes part of the signature: a column is nullable only if source and graph agree on rows
where it is missing, whatever the example happened to hold.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from modelkit.cast import Array
from modelkit.convert.compare import Differences, agree, compare, merge, scales_of, tolerance
from modelkit.convert.probes import at_thresholds, between, enlarged, strange_codes, strange_texts, zeroed
from modelkit.convert.source import Source, count, take
from modelkit.errors import ConversionError, ModelkitError, ParityError, SignatureError
from modelkit.manifest import Parity
from modelkit.model import Model
from modelkit.signature import Feeds, Signature
from modelkit.spec import Column

MAX_ROWS = 2048
PROBE_ROWS = 64
BATCH_SIZES = (1, 7, 64)
NEARBY = (2.0, 4.0)
LARGE = 1e4
FEW = (1, 3, 17)  # rows at once for which source and graph are compared as well
LARGEST = float(np.finfo(np.float64).max)  # stands for an infinite difference, which JSON cannot hold
UNSEEN = "\ufdd1 unseen"  # a category that no training set holds
MAX_PROBED = 64  # columns that are probed one by one


def open_signature(signature: Signature) -> Signature:
    """The signature with every column nullable and any category allowed, to feed the graph what the gate wants."""
    inputs = tuple(
        dataclasses.replace(
            spec, columns=tuple(dataclasses.replace(c, nullable=True, categories=None) for c in spec.columns)
        )
        for spec in signature.inputs
    )
    return dataclasses.replace(signature, inputs=inputs)


def gate(source: Source, build: Callable[[Signature], Model], feeds: Feeds | None) -> tuple[Signature, Parity]:
    """Compare a graph with its source and return the signature that holds, with the figures.

    Args:
        source: the graph and what it came from.
        build: makes a Model of the graph with a given signature.
        feeds: rows to measure batch invariance on where the source brings none.

    Raises:
        ParityError: if the graph disagrees with its source.
        ConversionError: if a column's categories cannot be told.
    """
    signature = source.signature
    rtol, atol = tolerance(source)
    missing_rows, threshold_rows, differences = 0, 0, Differences()
    large, large_rows = Differences(), 0
    with build(open_signature(signature)) as model:
        if source.truth is not None:
            rows = take(source.rows, MAX_ROWS)
            source = dataclasses.replace(source, scales=scales_of(source.truth(rows)))
            for size in (MAX_ROWS, *FEW):
                _agree_on(source, model, take(rows, size), differences, f"{min(size, count(rows))} rows of the example")
            few = take(source.rows, PROBE_ROWS)
            signature, missing_rows = _probe(source, model, few, differences)
            also = partial(_agree_beyond, source, model, total=differences)
            threshold_rows = also(
                at_thresholds(source, few), where="rows with values equal to a threshold of its trees, or next to one"
            )
            for scale in NEARBY:  # not far: there, probabilities that come to 1.0 may hide a label
                also(enlarged(few, scale), where=f"rows {scale:g} times those of the example")
            also(zeroed(few), where="rows of zeros")  # they have no direction, and nothing to be divided by
            # There trees split, behind a scaler too.
            also(between(rows), where="rows with values halfway between those of the example")
            large, large_rows = _large(source, model, few)
            feeds = model.signature.coerce(rows)
        sizes, batch_max_abs, invariant = _batch_invariance(model, feeds, rtol, atol)
    return signature, Parity(
        against=source.against,
        rows=0 if feeds is None else count(feeds),
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
    )


def _agree_on(source: Source, model: Model, rows: Any, total: Differences, where: str) -> None:
    """Add the differences on `rows` to the total. Raises ParityError where they pass the tolerance."""
    if source.truth is None:
        return
    truth = source.truth(rows)
    try:
        got = model.run(rows)
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


def _large(source: Source, model: Model, rows: Any) -> tuple[Differences, int]:
    """Differences on rows far beyond the example. They are recorded, not refused: few models mean anything there."""
    beyond = enlarged(rows, LARGE)
    found = None if beyond is None else _ask(source, model, beyond)
    return (Differences(), 0) if found is None else (found, count(beyond))


def _refuse(source: Source, found: Differences, where: str) -> None:
    rtol, atol = tolerance(source)
    if agree(found, rtol, atol):
        return
    columns = sum(len(spec.columns) for spec in source.signature.inputs)
    held = any(_is_missing_in(source.rows, i) for i in range(columns))
    hint = "; the example has missing values: if it agrees without them, impute them first" if held else ""
    raise ParityError(
        f"the converted graph disagrees with {source.against} on {where}: largest relative difference "
        f"{found.max_rel:.2g} (allowed {rtol:g}), {found.flips} labels flipped; nothing was saved{hint}",
        parity=found,
    )


def _probe(source: Source, model: Model, rows: Any, total: Differences) -> tuple[Signature, int]:
    """Find out which columns may be missing and which categories are closed, by asking source and graph."""
    columns = [column for spec in source.signature.inputs for column in spec.columns]
    # A tensor of integers, which an estimator has that is packaged as it is, takes no others to ask about.
    narrow = {c.name for spec in source.signature.inputs if "int" in spec.dtype for c in spec.columns}
    groups = [[i] for i in range(len(columns))] if len(columns) <= MAX_PROBED else [list(range(len(columns)))]
    verdicts = {i: _missing(source, model, rows, group, total) for group in groups for i in group}
    # Where the two route missing values differently in one column, agreement in the others is luck.
    trusted = "disagrees" not in verdicts.values()

    def codes(column: Column) -> bool:
        if column.name in narrow:
            return False
        if column.dtype == "string" or column.name in (source.categories or {}):
            return True
        return "int" in column.dtype and len(columns) <= MAX_PROBED

    learned = {
        column.name: dataclasses.replace(
            column,
            nullable=trusted and verdicts[i] == "agrees",
            categories=_categories(source, model, rows, i, total) if codes(column) else None,
        )
        for i, column in enumerate(columns)
    }
    inputs = tuple(
        dataclasses.replace(spec, columns=tuple(learned[c.name] for c in spec.columns))
        for spec in source.signature.inputs
    )
    asked = count(rows) * sum(verdict == "agrees" for verdict in verdicts.values()) if trusted else 0
    return dataclasses.replace(source.signature, inputs=inputs), asked


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
    except SignatureError:  # of an estimator that is packaged as it is: its integers have no missing value
        return None
    except Exception:  # noqa: BLE001 - the graph fails where its source answers, whatever the runtime calls that
        return Differences(max_abs=np.inf, max_rel=np.inf)
    return compare(truth, got, *tolerance(source), source.scales)


def _missing(source: Source, model: Model, rows: Any, which: list[int], total: Differences) -> str:
    """What source and graph say to rows where some columns are missing: "refused", "agrees" or "disagrees"."""
    blanked = rows
    for i in which:
        blanked = None if blanked is None else _blank(blanked, i, source.rows)
    found = None if blanked is None else _ask(source, model, blanked)
    if found is None:
        return "refused"
    rtol, atol = tolerance(source)
    if agree(found, rtol, atol):
        merge(total, found)
        return "agrees"
    if any(_is_missing_in(source.rows, i) for i in which):
        names = [column.name for spec in source.signature.inputs for column in spec.columns]
        _refuse(source, found, f"rows where {[names[i] for i in which]} is missing, as it is in the example")
    return "disagrees"


def _categories(source: Source, model: Model, rows: Any, i: int, total: Differences) -> tuple[Any, ...] | None:
    """The closed set of values of a column of strings or codes; None where source and graph agree on unknown ones."""
    name, dtype = [(c.name, c.dtype) for spec in source.signature.inputs for c in spec.columns][i]
    known = (source.categories or {}).get(name)
    if dtype != "string":
        strange = strange_codes(rows, i, known or ())
    elif isinstance(rows, np.ndarray):
        strange = strange_texts(rows)
    else:
        strange = rows.copy()
        strange.isetitem(i, _like([UNSEEN] * len(rows), rows.index, source.rows, i))
    found = _ask(source, model, strange)
    if found is not None and dtype != "string" and not agree(found, *tolerance(source)):
        # LightGBM cuts its codes off, and the graph does not: what lies between two of them is told in the docs.
        found = _ask(source, model, strange_codes(rows, i, known or (), between=False))
    if found is not None:
        _refuse(source, found, f"rows with unknown or unusual values of column {name!r}")
        merge(total, found)
        return None
    if known is None and dtype != "string":
        return None  # numbers may be refused for what they are: zero by a logarithm
    if known is None:
        raise ConversionError(
            f"the source refuses unknown values of column {name!r}, and no encoder tells the known ones; use "
            f"OneHotEncoder(handle_unknown='ignore'), or name the column in a ColumnTransformer",
            column=name,
        )
    return known


def _is_missing_in(rows: Any, i: int) -> bool:
    if isinstance(rows, np.ndarray):
        return bool(rows.dtype.kind == "f" and np.isnan(rows[:, i]).any())
    return bool(rows.iloc[:, i].isna().any())


def _blank(rows: Any, i: int, example: Any) -> Any:
    """A copy of `rows` with every second value of column i missing; None where its dtype has no missing value."""
    if isinstance(rows, np.ndarray) and rows.dtype == object:
        return None  # texts: there is no missing one
    if isinstance(rows, np.ndarray):
        blanked = rows.astype(rows.dtype if rows.dtype.kind == "f" else np.float64)
        blanked[::2, i] = np.nan
        return blanked
    kind = getattr(rows.dtypes.iloc[i], "kind", "O")
    if kind == "b":
        return None
    blanked = rows.copy()
    if kind in "iu" and isinstance(rows.dtypes.iloc[i], np.dtype):
        values: Any = rows.iloc[:, i].astype(float)
        values.iloc[::2] = np.nan
    else:
        values = _like([None if row % 2 == 0 else v for row, v in enumerate(rows.iloc[:, i])], rows.index, example, i)
    blanked.isetitem(i, values)
    return blanked


def _like(values: list[Any], index: Any, example: Any, i: int) -> Any:
    """Values as a column of the example's dtype; in object columns, None or NaN as the example marks missing."""
    pd = sys.modules["pandas"]  # the example is one of its frames

    column = example.iloc[:, i]
    if column.dtype == object:
        gone = column[column.isna()]
        marker = gone.iloc[0] if len(gone) else np.nan
        return pd.Series([marker if v is None else v for v in values], index, dtype=object)
    unknown = isinstance(column.dtype, pd.CategoricalDtype) and UNSEEN in values
    return pd.Series(values, index, dtype=object if unknown else column.dtype)


def _batch_invariance(
    model: Model, feeds: Feeds | None, rtol: float, atol: float
) -> tuple[tuple[int, ...], float, bool]:
    """The sizes tried, the largest difference of any number between them, and whether rows are independent."""
    if feeds is None or model.signature.batch is None:
        return (), 0.0, False
    total = min(count(feeds), 4 * max(BATCH_SIZES))
    feeds = {name: feed[:total] for name, feed in feeds.items()}
    sizes = (*(size for size in BATCH_SIZES if size < total), total)
    whole = model.run(_named(model, feeds))
    worst = Differences()
    for size in sizes[:-1]:
        parts = [
            model.run(_named(model, {name: feed[at : at + size] for name, feed in feeds.items()}))
            for at in range(0, total, size)
        ]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in whole}
        if any(len(joined[name]) != len(whole[name]) for name in whole):
            return sizes, 0.0, False
        found = compare(whole, joined, rtol, atol)
        worst.flips += found.flips
        merge(worst, found)
    finite = worst.max_abs if np.isfinite(worst.max_abs) else 0.0
    return sizes, finite, len(sizes) > 1 and agree(worst, rtol, atol)


def _named(model: Model, feeds: Feeds) -> dict[str, Array]:
    """Feeds in a form that `run` coerces back to themselves."""
    return model.signature.columns(feeds)
