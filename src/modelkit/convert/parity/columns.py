"""What the parity check learns of each column: whether it may be missing, and which values it is bound to.

Source and graph are asked about many columns at once, in rows of which each has one column changed:
what they say to the rows of a column is the verdict on it. Only where they answer none of the rows
are the columns halved, until those at fault are found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.parity.compare import Differences, merge
from modelkit.convert.parity.questions import FEW_ROWS, Questions
from modelkit.convert.parity.rows import blank, count, dtypes_in, gaps, put, repeated, spread
from modelkit.convert.parity.strange import strange_texts
from modelkit.convert.source import Columns, Source, is_native
from modelkit.errors import ConversionError
from modelkit.signature.signature import Signature
from modelkit.signature.spec import AS_OBJECTS, TIMES, Column

LEAST_ROWS = 16  # in which one column is changed; all of few rows where there are few columns
MOST_ROWS = 4096  # for all columns, before each has the least
CELLS = 2**21  # of one question
FEW_COLUMNS = 8  # of a group that is not halved any more: each one is asked about alone
MOST_QUESTIONS = 160  # after which columns that were not sorted out are refused; 64 need 73
FURTHER_ROWS = 2048
# A category that no training set holds; XGBoost refuses an unseen one only where it is the last.
UNSEEN = "\x7f\ufdd1 unseen"
REFUSED = "refused"
AGREES = "agrees"
DISAGREES = "disagrees"

# Some rows of one column, and its name: what they become.
Change = Callable[[str, Array], Array]
Verdicts = dict[str, str]
Values = dict[str, tuple[Any, ...]]


def learn(questions: Questions) -> tuple[Signature, int]:
    """The signature with each column as source and graph take it, and the number of rows with gaps.

    Raises:
        ParityError: if they disagree on gaps where the example has some, or on values that it does
            not hold.
        ConversionError: if a column is bound to values that cannot be told.
    """
    signature = questions.source.signature
    columns = {column.name: column for column in signature_columns(signature)}
    nullable = _nullable(questions, columns)
    finite = _finite(questions, columns, nullable)
    closed = _closed(questions, columns)

    def learned(column: Column) -> Column:
        name = column.name
        return dataclasses.replace(
            column, nullable=name in nullable, finite=name in finite, categories=closed.get(name)
        )

    return with_columns(signature, learned), len(nullable) * _size(questions)


def signature_columns(signature: Signature) -> list[Column]:
    """The columns of all inputs, in their order."""
    return [column for spec in signature.inputs for column in spec.columns]


def with_columns(signature: Signature, change: Callable[[Column], Column]) -> Signature:
    """The signature with each of its columns changed."""
    inputs = tuple(
        dataclasses.replace(spec, columns=tuple(map(change, spec.columns)))
        for spec in signature.inputs
    )
    return dataclasses.replace(signature, inputs=inputs)


def sort_out(names: list[str], judge: Callable[[list[str]], Verdicts | None]) -> Verdicts:
    """The verdict on each column, by a judge that gives one for each of a group, or None for none.

    One column at fault among n is found with about 2 log2(n) questions.
    """
    verdicts: Verdicts = {}
    groups = [names] if names else []
    asked = 0
    while groups:
        group = groups.pop(0)
        asked += 1
        found = judge(group) if asked <= MOST_QUESTIONS else dict.fromkeys(group, REFUSED)
        if found is None and len(group) > 1:
            size = 1 if len(group) <= FEW_COLUMNS else (len(group) + 1) // 2
            groups += [group[start : start + size] for start in range(0, len(group), size)]
        else:
            verdicts |= dict.fromkeys(group, REFUSED) if found is None else found
    return verdicts


def _size(questions: Questions) -> int:
    """The number of rows in which one column is changed."""
    return max(LEAST_ROWS, min(FEW_ROWS, MOST_ROWS // len(questions.rows)))


def _changed(questions: Questions, group: list[str], change: Change) -> Columns:
    """Rows of which each has one column of a group changed; the last ones are as they are."""
    size = _size(questions)
    found = repeated(questions.few, size * (len(group) + 1))
    for number, name in enumerate(group):
        places = slice(size * number, size * (number + 1))
        found[name] = put(found[name], places, change(name, found[name][places]))
    return found


def _verdicts(
    questions: Questions, names: list[str], change: Change, found: dict[str, Differences]
) -> Verdicts:
    """What source and graph say to rows in which these columns are changed.

    What agreed is merged into the total; `found` gets the differences of columns that did not.
    """
    size = _size(questions)

    def judge(group: list[str]) -> Verdicts | None:
        differences = questions.ask(_changed(questions, group, change))
        if differences is None or (differences.wrong.all() and len(group) > 1):
            return None
        if differences.agree:
            merge(questions.total, differences)
        *changed, same = map(np.any, differences.wrong.reshape(-1, size))
        at_fault = [name for name, wrong in zip(group, changed, strict=True) if wrong or same]
        found.update(dict.fromkeys(at_fault, differences))
        return dict.fromkeys(group, AGREES) | dict.fromkeys(at_fault, DISAGREES)

    most = max(FEW_COLUMNS, CELLS // (size * len(questions.rows)))
    dtypes = _dtypes(questions)
    verdicts: Verdicts = {}
    # A gap makes floats of whole numbers, and pandas then of what stands beside them.
    for dtype in dict.fromkeys(map(str, dtypes.values())):
        alike = [name for name in names if str(dtypes[name]) == dtype]
        for start in range(0, len(alike), most):
            verdicts |= sort_out(alike[start : start + most], judge)
    return verdicts


def _nullable(questions: Questions, columns: dict[str, Column]) -> set[str]:
    """The columns that may be missing.

    Raises ParityError for a disagreement on what the example has.
    """
    gone = {name for name, values in questions.rows.items() if gaps(values).any()}
    found: dict[str, Differences] = {}
    verdicts = _verdicts(
        questions,
        _taking_gaps(questions, gone),
        lambda _, values: blank(values, slice(None)),
        found,
    )
    for name, verdict in verdicts.items():
        if verdict == DISAGREES and name in gone:
            where = f"rows where {name!r} is missing, as it is in the example"
            questions.refuse(found[name], where)
    agreeing = [name for name in columns if verdicts.get(name) == AGREES]
    if DISAGREES in verdicts.values() and agreeing:
        # Where the two route gaps differently in one column, agreement in the others may be luck.
        agreeing = agreeing if _agree_on_many_gaps(questions, agreeing) else []
    if is_native(questions.source):  # other gaps than those of the example it refuses by itself
        agreeing += [name for name in gone if verdicts.get(name) == REFUSED]
    return set(agreeing)


def _dtypes(questions: Questions) -> dict[str, Any]:
    """The dtype of each column of the example, numpy's or an extension's."""
    return dict(zip(questions.rows, dtypes_in(questions.source.rows), strict=True))


def _taking_gaps(questions: Questions, gone: set[str]) -> list[str]:
    """The columns whose dtype has a missing value, those first that have some in the example.

    Arrays of texts and the booleans of numpy in a frame have none.
    """
    array = isinstance(questions.source.rows, np.ndarray)
    taking = []
    for name, dtype in _dtypes(questions).items():
        none = dtype.kind == "O" if array else isinstance(dtype, np.dtype) and dtype.kind == "b"
        if not none:
            taking.append(name)
    return sorted(taking, key=lambda name: name not in gone)


def _finite(questions: Questions, columns: dict[str, Column], nullable: set[str]) -> set[str]:
    """The columns that may be missing and refuse infinities.

    The source refuses those, as most of scikit-learn does, or the graph answers them otherwise. An
    estimator that is packaged as it is refuses them by itself.
    """
    if is_native(questions.source):
        return set()
    # A column of whole numbers takes floats too, where the model computes in these.
    numbers = [
        name
        for name, column in columns.items()
        if name in nullable and column.dtype not in (*AS_OBJECTS, *TIMES)
    ]
    verdicts = _verdicts(
        questions, numbers, lambda _, values: np.resize([np.inf, -np.inf], len(values)), {}
    )
    return {name for name, verdict in verdicts.items() if verdict != AGREES}


def _agree_on_many_gaps(questions: Questions, names: list[str]) -> bool:
    """Whether source and graph agree on many rows, a fourth of them missing in each column."""
    rows = dict(spread(questions.rows, FURTHER_ROWS))
    chosen = np.random.default_rng(0).random((count(rows), len(names))) < 1 / 4
    for name, places in zip(names, chosen.T, strict=True):
        rows[name] = blank(rows[name], places)
    return questions.agrees(rows)


def _closed(questions: Questions, columns: dict[str, Column]) -> Values:
    """The columns that are bound to a set of values, and these.

    Raises ParityError where source and graph answer others differently, ConversionError where the
    set cannot be told.
    """
    source = questions.source
    known = _known(questions)
    closed = {name: known[name] for name in known if name in source.miscoded}
    # Those that others are told of side by side: most are refused, and so halved together.
    columns = {name: columns[name] for name in sorted(columns, key=known.__contains__)}
    texts = [name for name in columns if columns[name].dtype == "string" and name not in closed]
    found: dict[str, Differences] = {}
    verdicts = _verdicts(questions, texts, partial(_other_texts, source), found)
    codes = [name for name in _codes(source, columns, known) if name not in (*texts, *closed)]
    by_code = partial(_other_codes, questions, known, columns)
    verdicts |= _verdicts(questions, codes, partial(by_code, 0.5), found)
    # LightGBM cuts its codes off, and the graph does not: the docs say what lies between two.
    verdicts |= _verdicts(
        questions,
        [name for name in codes if verdicts[name] == DISAGREES],
        partial(by_code, 0.0),
        found,
    )
    for name, verdict in verdicts.items():
        if verdict == DISAGREES:
            questions.refuse(found[name], f"rows with unknown or unusual values of column {name!r}")
        if verdict == REFUSED and name in known:
            closed[name] = known[name]
        elif verdict == REFUSED:
            _check_open(source, columns[name])
            if name in codes:
                rows = _changed(questions, [name], partial(by_code, 0.5))
                questions.refuse_alike(rows, f"rows with unknown codes of column {name!r}")
    return closed


def _codes(source: Source, columns: dict[str, Column], known: Values) -> list[str]:
    """The columns of numbers that may be codes of categories.

    A tensor of integers, which an estimator has that is packaged as it is, accepts only integers, so only these
    are asked about.
    """
    specs = [spec for spec in source.signature.inputs if "int" in spec.dtype]
    narrow = {column.name for spec in specs for column in spec.columns}
    return [
        name
        for name, column in columns.items()
        if name not in narrow and ("int" in column.dtype or name in known)
    ]


def _other_texts(source: Source, _: str, values: Array) -> Array:
    """Unknown texts; for a model over strings alone, texts that a training set may lack."""
    if isinstance(source.rows, np.ndarray):
        return strange_texts(values)
    return np.full(len(values), UNSEEN, object)


def _other_codes(
    questions: Questions,
    known: Values,
    columns: dict[str, Column],
    step: float,
    name: str,
    values: Array,
) -> Array:
    """Whole numbers that are not codes: one beyond the largest, one below, and one between two.

    The largest and the smallest are taken over the column and the codes that an encoder knows;
    `step` is how far the number between lies from a code.
    """
    few = questions.few[name].astype(np.float64)
    told = np.array(known.get(name, ()), np.float64)
    held = np.append(few[np.isfinite(few)], told)
    if not len(held):
        return values
    turn = np.arange(len(values)) % 3
    beyond = np.where(turn == 0, held.max() + 1, held.min() - 1)
    found = np.where(turn == 1, values.astype(np.float64) + step, beyond)
    dtype = columns[name].dtype
    if "int" in dtype and "64" not in dtype and isinstance(_dtypes(questions)[name], np.dtype):
        ends = np.iinfo(dtype)  # small ones wrap around where others do not
        found = np.clip(np.rint(found), ends.min, ends.max)
    return found


def _known(questions: Questions) -> Values:
    """The values that encoders know, of columns that hold only these."""
    known = {}
    for name, told in (questions.source.categories or {}).items():
        values = questions.rows.get(name)
        if values is not None and set(values[~gaps(values)].tolist()) <= set(told):
            known[name] = told
    return known


def _check_open(source: Source, column: Column) -> None:
    """Raise ConversionError for a column of strings whose known values nothing names.

    Numbers may be refused for what they are: zero by a logarithm. And an estimator that is packaged
    as it is refuses by itself what it does not know.
    """
    if column.dtype == "string" and not is_native(source):
        raise ConversionError(
            f"the source refuses unknown values of column {column.name!r}, and an encoder that "
            "lists the known ones is missing; use OneHotEncoder(handle_unknown='ignore'), or "
            "name the column in a ColumnTransformer",
            column=column.name,
        )
