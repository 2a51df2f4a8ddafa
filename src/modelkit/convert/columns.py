"""What the gate learns of each column: whether it may be missing, and which values it is bound to.

Columns are asked about together, a few of them in each row, so that the number of questions does
not grow with the number of columns. A group that does not agree is halved until the columns at
fault are found.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from modelkit.cast import Array, is_missing
from modelkit.convert.compare import Differences, agree, merge, tolerance
from modelkit.convert.source import Source, count, take
from modelkit.convert.strange import strange_texts
from modelkit.errors import ConversionError
from modelkit.signature import Signature
from modelkit.spec import Column

PATTERNS = 64  # of the rows of one question; columns beyond that many share one
ROWS = 32  # rows of a question in which one column is altered
FEW = 8  # columns of a group that is not halved any more: each one is asked about alone
MANY = 8  # groups of which each one has a column at fault: so have the parts of them, most likely
MOST = 160  # questions, beyond which the verdict on a group is that on its columns; 64 columns need at most 127
FURTHER_ROWS = 2048
UNSEEN = "\ufdd1 unseen"  # a category that no training set holds
REFUSED, AGREES, DISAGREES = "refused", "agrees", "disagrees"

Ask = Callable[[Any], Differences | None]
Refuse = Callable[[Differences, str], None]


@dataclasses.dataclass
class Questions:
    """Rows that were altered in some of their columns, put to source and graph.

    `ask` gives the differences of the two on rows, or None where the source refuses them; `refuse`
    raises ParityError for differences beyond the tolerance. What agreed is merged into `total`;
    `found` holds, by column, the differences of the smallest group that did not agree. `rows`
    counts those that agreed.
    """

    source: Source
    ask: Ask
    refuse: Refuse
    total: Differences
    few: Any
    found: dict[int, Differences] = dataclasses.field(default_factory=dict)
    rows: int = 0

    def verdict(self, columns: list[int], rows: Any) -> str:
        """What source and graph say to rows that were altered in some columns; None stands for no such rows."""
        found = None if rows is None else self.ask(rows)
        if found is None:
            return REFUSED
        if agree(found, *tolerance(self.source)):
            merge(self.total, found)
            self.rows += count(rows)
            return AGREES
        self.found |= dict.fromkeys(columns, found)
        return DISAGREES


def learn(questions: Questions) -> tuple[Signature, int]:
    """The signature with each column as source and graph take it, and how many rows with gaps were compared.

    Raises:
        ParityError: if they disagree on gaps where the example has some, or on values that it does
            not hold.
        ConversionError: if a column is bound to values that cannot be told.
    """
    signature = questions.source.signature
    columns = [column for spec in signature.inputs for column in spec.columns]
    if not columns:
        return signature, 0
    nullable = _nullable(questions, columns)
    rows_with_gaps = questions.rows if nullable else 0
    closed = _closed(questions, columns)
    learned = {
        column.name: dataclasses.replace(column, nullable=i in nullable, categories=closed.get(i))
        for i, column in enumerate(columns)
    }
    inputs = tuple(
        dataclasses.replace(spec, columns=tuple(learned[column.name] for column in spec.columns))
        for spec in signature.inputs
    )
    return dataclasses.replace(signature, inputs=inputs), rows_with_gaps


def sort_out(columns: list[int], judge: Callable[[list[int]], str]) -> dict[int, str]:
    """The verdict on each column, from one on all of them, and from those on the halves of groups that do not agree.

    One column at fault among n is found with about 2 log2(n) questions. Where many groups are all
    at fault, they are not halved further: their columns get their verdict.
    """
    verdicts: dict[int, str] = {}
    failed: list[tuple[list[int], str]] = []
    groups = [columns] if columns else []
    asked = 0
    while groups:
        judged = [(group, judge(group)) for group in groups]
        asked += len(groups)
        for group, verdict in judged:
            verdicts |= dict.fromkeys(group, verdict)
        wrong = [
            (group, verdict) for group, verdict in judged if verdict != AGREES and len(group) > 1
        ]
        failed += wrong
        hopeless = len(columns) > PATTERNS and len(groups) >= MANY and len(wrong) == len(groups)
        if hopeless or asked > MOST:
            break
        groups = [part for group, _ in wrong for part in _parts(group)]
    for group, verdict in reversed(failed):
        if all(
            verdicts[i] == AGREES for i in group
        ):  # what they do together is not what each of them does
            verdicts |= dict.fromkeys(group, verdict)
    return verdicts


def _parts(group: list[int]) -> list[list[int]]:
    if len(group) <= FEW:
        return [[i] for i in group]
    half = len(group) // 2
    return [group[:half], group[half:]]


def _nullable(questions: Questions, columns: list[Column]) -> set[int]:
    """The columns that may be missing.

    Raises ParityError for a disagreement on what the example has.
    """
    source = questions.source
    gone = missing_columns(source.rows)

    def judge(group: list[int]) -> str:
        return questions.verdict(group, _with_gaps(questions.few, group, source.rows))

    verdicts: dict[int, str] = {}
    for group in _alike(source.rows, len(columns), gone):
        verdicts |= sort_out(group, judge)
    for i, verdict in verdicts.items():
        if verdict == DISAGREES and i in gone:
            where = f"rows where {columns[i].name!r} is missing, as it is in the example"
            questions.refuse(questions.found[i], where)
        if verdict == REFUSED and i in gone and _is_native(source):
            verdicts[i] = (
                AGREES  # on the gaps of the example; others the estimator refuses by itself
            )
    agreeing = [i for i, verdict in verdicts.items() if verdict == AGREES]
    if DISAGREES not in verdicts.values() or not agreeing:
        return set(agreeing)
    # Where the two route gaps differently in one column, agreement in the others may be luck.
    return set(agreeing) if _agree_on_many_gaps(questions, agreeing) else set()


def _agree_on_many_gaps(questions: Questions, columns: list[int]) -> bool:
    """Whether source and graph agree on many rows in which every fourth value of some columns is missing."""
    rows = take(questions.source.rows, FURTHER_ROWS)
    chosen = np.random.default_rng(0).random((len(rows), len(columns))) < 1 / 4
    masks = {i: chosen[:, at] for at, i in enumerate(columns)}
    return (
        questions.verdict([], _altered(rows, masks, partial(_gap, questions.source.rows))) == AGREES
    )


def _closed(questions: Questions, columns: list[Column]) -> dict[int, tuple[Any, ...]]:
    """The columns that are bound to a set of values, and these.

    Raises ParityError where source and graph answer others differently, ConversionError where the
    set cannot be told.
    """
    source = questions.source
    known = _known(source, columns)
    # A tensor of integers, which an estimator has that is packaged as it is, takes no others to ask
    # about.
    narrow = {
        column.name
        for spec in source.signature.inputs
        if "int" in spec.dtype
        for column in spec.columns
    }
    texts = [i for i, column in enumerate(columns) if column.dtype == "string"]
    codes = [
        i
        for i, column in enumerate(columns)
        if column.dtype != "string"
        and column.name not in narrow
        and ("int" in column.dtype or column.name in known)
    ]
    told_codes = {i: known[columns[i].name] for i in codes if columns[i].name in known}

    def judge_texts(group: list[int]) -> str:
        return questions.verdict(group, _with_strange_texts(questions.few, group))

    def judge_codes(group: list[int]) -> str:
        verdict = questions.verdict(
            group, _with_strange_codes(questions.few, group, told_codes, between=True)
        )
        if verdict != DISAGREES:
            return verdict
        # LightGBM cuts its codes off, and the graph does not: what lies between two of them is told
        # in the docs.
        return questions.verdict(
            group, _with_strange_codes(questions.few, group, told_codes, between=False)
        )

    closed: dict[int, tuple[Any, ...]] = {}
    for chosen, judge in ((texts, judge_texts), (codes, judge_codes)):
        told = [i for i in chosen if columns[i].name in known]
        others = [i for i in chosen if columns[i].name not in known]
        for i, verdict in (sort_out(told, judge) | sort_out(others, judge)).items():
            name = columns[i].name
            if verdict == DISAGREES:
                questions.refuse(
                    questions.found[i], f"rows with unknown or unusual values of column {name!r}"
                )
            if verdict == REFUSED and name in known:
                closed[i] = known[name]
            if verdict == REFUSED and name not in known:
                _check_open(source, columns[i])
    return closed


def _is_native(source: Source) -> bool:
    """Whether an estimator is packaged as it is: then what runs is the source itself."""
    return not source.proto.graph.node


def _known(source: Source, columns: list[Column]) -> dict[str, tuple[Any, ...]]:
    """The values that encoders tell, of columns that hold no others: what they are told of may be made of a column."""
    known = {}
    for i, column in enumerate(columns):
        told = (source.categories or {}).get(column.name)
        if told is None:
            continue
        held = (
            source.rows[:, i]
            if isinstance(source.rows, np.ndarray)
            else source.rows.iloc[:, i].dropna()
        )
        if all(is_missing(value) for value in set(held.tolist()).difference(told)):
            known[column.name] = told
    return known


def _check_open(source: Source, column: Column) -> None:
    """Raise ConversionError for a column of strings that the source is bound to, where nothing tells which.

    Numbers may be refused for what they are: zero by a logarithm. And an estimator that is packaged
    as it is refuses by itself what it does not know.
    """
    if column.dtype == "string" and not _is_native(source):
        raise ConversionError(
            f"the source refuses unknown values of column {column.name!r}, and no encoder tells "
            "the known ones; use "
            f"OneHotEncoder(handle_unknown='ignore'), or name the column in a ColumnTransformer",
            column=column.name,
        )


def missing_columns(rows: Any) -> set[int]:
    """The positions of the columns in which something is missing."""
    if isinstance(rows, dict):
        return set()
    if isinstance(rows, np.ndarray):
        gone = (
            np.isnan(rows).any(axis=0) if rows.dtype.kind == "f" else np.zeros(rows.shape[1], bool)
        )
    else:
        gone = rows.isna().to_numpy().any(axis=0)
    return set(np.flatnonzero(gone).tolist())


def _alike(rows: Any, width: int, gone: set[int]) -> list[list[int]]:
    """The columns in groups of one dtype, those with gaps apart from those without."""
    kinds = [""] * width if isinstance(rows, np.ndarray) else [str(dtype) for dtype in rows.dtypes]
    groups: dict[tuple[str, bool], list[int]] = {}
    for i, kind in enumerate(kinds):
        groups.setdefault((kind, i in gone), []).append(i)
    return list(groups.values())


def _pattern(rows: Any, group: list[int]) -> tuple[Any, dict[int, Array]]:
    """Rows for a question, and for each column of a group in which of them it is altered.

    There is always a row in which a column is left as it is.
    """
    patterns = min(max(len(group), 2), PATTERNS)
    at = np.arange(patterns * ROWS)
    rows = _repeated(
        rows, at + at // patterns
    )  # so that a column is altered in one row after the other
    return rows, {i: at % patterns == place % patterns for place, i in enumerate(group)}


def _repeated(rows: Any, at: Array) -> Any:
    at = at % len(rows)
    return rows[at] if isinstance(rows, np.ndarray) else rows.iloc[at].reset_index(drop=True)


def _altered(
    rows: Any, masks: Mapping[int, Array], change: Callable[[int, Any, Array], Any]
) -> Any:
    """A copy of rows in which columns are changed where their masks are true.

    `change` takes the position of a column, the column as an array or Series, and its mask.
    """
    if isinstance(rows, np.ndarray):
        out = rows.astype(rows.dtype if rows.dtype.kind in "fO" else np.float64)
        for i, mask in masks.items():
            out[:, i] = change(i, out[:, i], mask)
        return out
    pd = sys.modules["pandas"]  # the rows are one of its frames
    columns = {i: column for i, (_, column) in enumerate(rows.items())}
    for i, mask in masks.items():
        columns[i] = change(i, columns[i], mask)
    frame = pd.DataFrame(columns, index=rows.index)
    frame.columns = rows.columns
    return frame


def _with_gaps(rows: Any, group: list[int], example: Any) -> Any:
    """Rows with gaps in the columns of a group, which share a dtype; None where it has no missing value."""
    dtype = rows.dtype if isinstance(rows, np.ndarray) else rows.dtypes.iloc[group[0]]
    kinds = "O" if isinstance(rows, np.ndarray) else "b"  # an array of objects holds texts
    if isinstance(dtype, np.dtype) and dtype.kind in kinds:
        return None
    return _altered(*_pattern(rows, group), partial(_gap, example))


def _gap(example: Any, i: int, column: Any, mask: Array) -> Any:
    """A column that is missing where the mask is true; in columns of objects, in the way of the example."""
    if isinstance(column, np.ndarray):
        return np.where(mask, np.nan, column)
    if not isinstance(column.dtype, np.dtype):
        return column.mask(mask)
    if column.dtype != object:
        values = column.to_numpy(
            column.dtype if column.dtype.kind == "f" else np.float64, copy=True
        )
        values[mask] = np.nan
        return values
    held = example.iloc[:, i]
    gone = held[held.isna()]
    values = column.to_numpy(copy=True)
    values[mask] = gone.iloc[0] if len(gone) else np.nan
    return sys.modules["pandas"].Series(values, column.index, dtype=object)


def _with_strange_texts(rows: Any, group: list[int]) -> Any:
    if isinstance(rows, np.ndarray):
        return strange_texts(rows)
    return _altered(*_pattern(rows, group), _strange_text)


def _strange_text(_: int, column: Any, mask: Array) -> Any:
    """A column that holds an unknown text where the mask is true: one of objects where it has categories."""
    dtype = object if hasattr(column.dtype, "categories") else column.dtype
    values = column.to_numpy(object, copy=True)
    values[mask] = UNSEEN
    return sys.modules["pandas"].Series(values, column.index, dtype=dtype)


def _with_strange_codes(
    rows: Any, group: list[int], known: Mapping[int, tuple[Any, ...]], *, between: bool
) -> Any:
    return _altered(*_pattern(rows, group), partial(_strange_codes, known, between))


def _strange_codes(
    known: Mapping[int, tuple[Any, ...]],
    between: bool,  # noqa: FBT001 - bound by its place
    i: int,
    column: Any,
    mask: Array,
) -> Array:
    """Whole numbers with others where the mask is true: one beyond the largest, one between two, and one below.

    The largest and the smallest are those of the column and of the codes that an encoder knows.
    """
    codes = (
        column
        if isinstance(column, np.ndarray)
        else column.to_numpy(np.float64, na_value=np.nan, copy=True)
    )
    held = np.append(codes[np.isfinite(codes)], np.array(known.get(i, ()), np.float64))
    if not len(held):
        return codes
    turn = np.cumsum(mask) % 3
    beyond = np.where(turn == 0, held.max() + 1, held.min() - 1)
    halfway = codes + (0.5 if between else 0)
    return np.where(mask, np.where(turn == 1, halfway, beyond), codes)
