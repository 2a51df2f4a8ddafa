"""What the parity check learns of each column: whether it may be missing, and which values it is bound to.

Columns are asked about together, a few of them in each row, so that the number of questions does
not grow with the number of columns. A group that does not agree is halved until the columns at
fault are found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from modelkit.convert.parity.altered import (
    PATTERNS,
    Known,
    altered,
    gaps_like,
    infinities,
    strange_codes,
    unseen_texts,
)
from modelkit.convert.parity.compare import Differences, agree, merge, tolerance
from modelkit.convert.parity.rows import ArrayRows, Rows, Table
from modelkit.convert.parity.strange import strange_texts
from modelkit.convert.source import Source
from modelkit.errors import ConversionError
from modelkit.signature.cast import is_missing
from modelkit.signature.signature import Signature
from modelkit.signature.spec import AS_OBJECTS, TIMES, Column

FEW_COLUMNS = 8  # of a group that is not halved any more: each one is asked about alone
MANY_GROUPS = 8  # that all have a column at fault: most likely, so have the parts of them
MOST_QUESTIONS = 160  # after which columns get the verdict of their group; 64 columns need 127
FURTHER_ROWS = 2048
REFUSED = "refused"
AGREES = "agrees"
DISAGREES = "disagrees"

Ask = Callable[[Rows], Differences | None]
Refuse = Callable[[Differences, str], None]


@dataclasses.dataclass
class Questions:
    """Rows that were altered in some of their columns, put to source and graph.

    `ask` gives the differences of the two on rows, or None where the source refuses them; `refuse`
    raises ParityError for differences beyond the tolerance, and `refuse_alike` for rows that one
    refuses and the other answers. `few` are the rows of the `example`
    that are altered. What agreed is merged into `total`; `found` holds, by column, the differences
    of the smallest group that did not agree. `rows` counts those that agreed.
    """

    source: Source
    ask: Ask
    refuse: Refuse
    refuse_alike: Callable[[Rows, str], None]
    total: Differences
    few: Table
    example: Table
    found: dict[int, Differences] = dataclasses.field(default_factory=dict)
    rows: int = 0

    def verdict(self, columns: list[int], rows: Rows | None) -> str:
        """What source and graph say to rows that were altered in some columns.

        None, for no such rows, counts as refused.
        """
        found = None if rows is None else self.ask(rows)
        if rows is None or found is None:
            return REFUSED
        if agree(found, *tolerance(self.source)):
            merge(self.total, found)
            self.rows += len(rows)
            return AGREES
        self.found |= dict.fromkeys(columns, found)
        return DISAGREES


def learn(questions: Questions) -> tuple[Signature, int]:
    """The signature with each column as source and graph take it, and the number of rows with gaps.

    Raises:
        ParityError: if they disagree on gaps where the example has some, or on values that it does
            not hold.
        ConversionError: if a column is bound to values that cannot be told.
    """
    signature = questions.source.signature
    columns = signature_columns(signature)
    nullable = _nullable(questions, columns)
    rows_with_gaps = questions.rows if nullable else 0
    finite = _finite(questions, columns, nullable)
    closed = _closed(questions, columns)
    learned = {}
    for i, column in enumerate(columns):
        learned[column.name] = dataclasses.replace(
            column, nullable=i in nullable, finite=i in finite, categories=closed.get(i)
        )
    return with_columns(signature, lambda column: learned[column.name]), rows_with_gaps


def signature_columns(signature: Signature) -> list[Column]:
    """The columns of all inputs, in their order."""
    return [column for spec in signature.inputs for column in spec.columns]


def with_columns(signature: Signature, change: Callable[[Column], Column]) -> Signature:
    """The signature with each of its columns changed."""
    inputs = []
    for spec in signature.inputs:
        columns = tuple(change(column) for column in spec.columns)
        inputs.append(dataclasses.replace(spec, columns=columns))
    return dataclasses.replace(signature, inputs=tuple(inputs))


def sort_out(columns: list[int], judge: Callable[[list[int]], str]) -> dict[int, str]:
    """The verdict on each column, from verdicts on all of them and on halves of groups at fault.

    One column at fault among n is found with about 2 log2(n) questions. Where many groups are all
    at fault, they are not halved further: their columns get their verdict.
    """
    verdicts: dict[int, str] = {}
    failed: list[tuple[list[int], str]] = []
    groups = [columns] if columns else []
    asked = 0
    while groups:
        wrong = []
        for group in groups:
            verdict = judge(group)
            verdicts |= dict.fromkeys(group, verdict)
            if verdict != AGREES and len(group) > 1:
                wrong.append((group, verdict))
        asked += len(groups)
        failed += wrong
        all_wrong = len(groups) >= MANY_GROUPS and len(wrong) == len(groups)
        if (all_wrong and len(columns) > PATTERNS) or asked > MOST_QUESTIONS:
            break
        groups = [part for group, _ in wrong for part in _parts(group)]
    for group, verdict in reversed(failed):
        # What columns do together is not what each of them does.
        if all(verdicts[i] == AGREES for i in group):
            verdicts |= dict.fromkeys(group, verdict)
    return verdicts


def _parts(group: list[int]) -> list[list[int]]:
    if len(group) <= FEW_COLUMNS:
        return [[i] for i in group]
    half = len(group) // 2
    return [group[:half], group[half:]]


def _nullable(questions: Questions, columns: list[Column]) -> set[int]:
    """The columns that may be missing.

    Raises ParityError for a disagreement on what the example has.
    """
    gone = questions.example.gaps()
    verdicts = _verdicts_on_gaps(questions, gone)
    for i, verdict in verdicts.items():
        if verdict == DISAGREES and i in gone:
            where = f"rows where {columns[i].name!r} is missing, as it is in the example"
            questions.refuse(questions.found[i], where)
        if verdict == REFUSED and i in gone and is_native(questions.source):
            # Of the gaps of the example; others the estimator refuses by itself.
            verdicts[i] = AGREES
    agreeing = [i for i, verdict in verdicts.items() if verdict == AGREES]
    if DISAGREES not in verdicts.values() or not agreeing:
        return set(agreeing)
    # Where the two route gaps differently in one column, agreement in the others may be luck.
    return set(agreeing) if _agree_on_many_gaps(questions, agreeing) else set()


def _finite(questions: Questions, columns: list[Column], nullable: set[int]) -> set[int]:
    """The columns that may be missing and refuse infinities.

    The source refuses those, as most of scikit-learn does, or the graph answers them otherwise. An
    estimator that is packaged as it is refuses them by itself.
    """
    if is_native(questions.source):
        return set()

    def judge(group: list[int]) -> str:
        return questions.verdict(group, altered(questions.few, group, infinities))

    # A column of whole numbers takes floats too, where the model computes in these.
    numbers = [i for i in sorted(nullable) if columns[i].dtype not in (*AS_OBJECTS, *TIMES)]
    verdicts = sort_out(numbers, judge)
    return {i for i, verdict in verdicts.items() if verdict != AGREES}


def _verdicts_on_gaps(questions: Questions, gone: set[int]) -> dict[int, str]:
    """The verdict on gaps in each column; those that have some in the example are asked apart."""

    def judge(group: list[int]) -> str:
        rows = None
        if questions.few.takes_gaps(group[0]):
            rows = altered(questions.few, group, gaps_like(questions.example))
        return questions.verdict(group, rows)

    verdicts: dict[int, str] = {}
    for group in _alike(questions.example, gone):
        verdicts |= sort_out(group, judge)
    return verdicts


def _alike(rows: Table, gone: set[int]) -> list[list[int]]:
    """The columns in groups of one dtype, those with gaps apart from those without."""
    groups: dict[tuple[str, bool], list[int]] = {}
    for i, dtype in enumerate(rows.dtypes):
        groups.setdefault((str(dtype), i in gone), []).append(i)
    return list(groups.values())


def _agree_on_many_gaps(questions: Questions, columns: list[int]) -> bool:
    """Whether source and graph agree on many rows, a fourth of them missing in each column."""
    example = questions.example
    rows = example.spread(FURTHER_ROWS)
    assert isinstance(rows, Table)  # for the type checker: rows of the example are
    chosen = np.random.default_rng(0).random((len(rows), len(columns))) < 1 / 4
    blank = {i: rows.blank(i, chosen[:, at], example) for at, i in enumerate(columns)}
    return questions.verdict([], rows.with_columns(blank)) == AGREES


def _closed(questions: Questions, columns: list[Column]) -> dict[int, tuple[Any, ...]]:
    """The columns that are bound to a set of values, and these.

    Raises ParityError where source and graph answer others differently, ConversionError where the
    set cannot be told.
    """
    source = questions.source
    known = _known(questions, columns)
    closed = {i: known[i] for i in known if columns[i].name in source.closed}
    texts = [i for i, column in enumerate(columns) if column.dtype == "string" and i not in closed]
    verdicts = _sort_out_known(texts, known, _judge_of_texts(questions))
    codes = [i for i in _codes(source, columns, known) if i not in (*texts, *closed)]
    verdicts |= _sort_out_known(codes, known, _judge_of_codes(questions, known))
    for i, verdict in verdicts.items():
        if verdict == DISAGREES:
            where = f"rows with unknown or unusual values of column {columns[i].name!r}"
            questions.refuse(questions.found[i], where)
        if verdict == REFUSED and i in known:
            closed[i] = known[i]
        if verdict == REFUSED and i not in known:
            _check_open(source, columns[i])
            if i in codes:
                rows = altered(questions.few, [i], strange_codes({}, 0.5))
                questions.refuse_alike(
                    rows, f"rows with unknown codes of column {columns[i].name!r}"
                )
    return closed


def _sort_out_known(
    columns: list[int], known: Known, judge: Callable[[list[int]], str]
) -> dict[int, str]:
    """The verdict on each column; those whose values are known are asked apart from the others."""
    told = [i for i in columns if i in known]
    others = [i for i in columns if i not in known]
    return sort_out(told, judge) | sort_out(others, judge)


def _codes(source: Source, columns: list[Column], known: Known) -> list[int]:
    """The columns of numbers that may be codes of categories.

    A tensor of integers, which an estimator has that is packaged as it is, takes no others to ask
    about.
    """
    narrow: set[str] = set()
    for spec in source.signature.inputs:
        if "int" in spec.dtype:
            narrow.update(column.name for column in spec.columns)
    return [
        i
        for i, column in enumerate(columns)
        if column.name not in narrow and ("int" in column.dtype or i in known)
    ]


def _judge_of_texts(questions: Questions) -> Callable[[list[int]], str]:
    """Puts unknown texts in the columns of a group."""

    def judge(group: list[int]) -> str:
        few = questions.few
        if isinstance(few, ArrayRows):
            return questions.verdict(group, ArrayRows(strange_texts(few.raw)))
        return questions.verdict(group, altered(few, group, unseen_texts))

    return judge


def _judge_of_codes(questions: Questions, known: Known) -> Callable[[list[int]], str]:
    """Puts unknown codes in the columns of a group."""

    def judge(group: list[int]) -> str:
        rows = altered(questions.few, group, strange_codes(known, 0.5))
        verdict = questions.verdict(group, rows)
        if verdict != DISAGREES:
            return verdict
        # LightGBM cuts its codes off, and the graph does not: the docs say what lies between two.
        rows = altered(questions.few, group, strange_codes(known, 0.0))
        return questions.verdict(group, rows)

    return judge


def is_native(source: Source) -> bool:
    """Whether an estimator is packaged as it is: then what runs is the source itself."""
    return not source.proto.graph.node


def _known(questions: Questions, columns: list[Column]) -> dict[int, tuple[Any, ...]]:
    """The values that encoders tell, of columns that hold no others.

    What encoders are told of may be made of a column, and then tells nothing of it.
    """
    told_by_name = questions.source.categories or {}
    known = {}
    for i, column in enumerate(columns):
        told = told_by_name.get(column.name)
        if told is None:
            continue
        others = set(questions.example.held(i)).difference(told)
        if all(is_missing(value) for value in others):
            known[i] = told
    return known


def _check_open(source: Source, column: Column) -> None:
    """Raise ConversionError for a column of strings whose known values nothing tells.

    Numbers may be refused for what they are: zero by a logarithm. And an estimator that is packaged
    as it is refuses by itself what it does not know.
    """
    if column.dtype == "string" and not is_native(source):
        raise ConversionError(
            f"the source refuses unknown values of column {column.name!r}, and no encoder tells "
            "the known ones; use "
            f"OneHotEncoder(handle_unknown='ignore'), or name the column in a ColumnTransformer",
            column=column.name,
        )
