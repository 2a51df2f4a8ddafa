"""Converter of FunctionTransformer: a function of arrays, by what it computes.

The function is run on a stand-in for its rows, and what it writes down is run on numbers of every
kind: it is the function only where both give the same.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import groupby, islice
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.code_steps import watched
from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.stand_in_cells import tensor
from modelkit.convert.estimators.stand_in_texts import texts_like
from modelkit.convert.estimators.stand_in_times import extreme_times, usual_times
from modelkit.convert.estimators.stand_ins import (
    Block,
    Symbol,
    Trace,
    dtypes_of,
    is_frame,
    is_pandas,
    kind_of_values,
    tracing,
)
from modelkit.convert.estimators.tensors import STRING, Columns, Var, converts, model_of, width
from modelkit.convert.estimators.traced import variable
from modelkit.convert.estimators.user_code import World, unchanging, writes_globals
from modelkit.errors import ConversionError

COPIES = (np.array, np.asanyarray, np.asarray, np.ascontiguousarray)  # which compute nothing
OTHERS = 256  # times or texts that a function is tried on
ROWS = 64  # of the numbers that a function is tried on
COUNTS = (127, 1009)  # of the rows of a stand-in, above twice the columns: no other axis is as long
FEWER = 251  # than half of the columns, where these are many
NEAR_ENOUGH = 1e-9  # to what the function gives, relative to it
LAST_DIGITS = 16  # in which a sum may differ, of the largest number
HALF = 0.5
SIZE_OF_LONG = 8
SAFE = 1e6  # integers of 64 bits up to here have products that do not wrap around
OF_MODULE = "keep it in a module, and save the model with format='joblib'"
ADVICE = f'write it as docs/reference/what_converts.md says under "Functions of your own", or {OF_MODULE}'


@converts("FunctionTransformer")
def function(estimator: Any, columns: Columns, at: Converting) -> Columns:
    """FunctionTransformer: its function, of all columns at once."""
    copied = estimator.func in COPIES and not estimator.kw_args
    if estimator.func is None or copied:
        return columns
    received = columns.array() if estimator.validate else columns.rows()
    if hasattr(received, "toarray"):  # of scipy, as vectorizers give it: a graph has its zeros too
        received = received.toarray()
    others = any(part.times or part.dtype == STRING for part in columns.parts)
    parts = [
        part if part.times or part.dtype == STRING else part.astype(np.float64)
        for part in (columns.parts if others else [columns.matrix(np.float64)])
    ]
    count = sum(map(width, parts))
    if received is None or len(_columns(received)) != count:
        if others:
            raise ConversionError(
                "FunctionTransformer gets columns of times or texts, and fails on the example; "
                "leave them out",
                step="FunctionTransformer",
            )
        received = _usual_rows(estimator, count)
    return followed(estimator.func, estimator.kw_args, parts, received, at)


def _usual_rows(estimator: Any, count: int) -> Any:
    """Rows of float64, as a function is given them for all that is known: a frame if fit was."""
    rows = _numbers(count)[0]
    names = None if estimator.validate else getattr(estimator, "feature_names_in_", None)
    return rows if names is None else sys.modules["pandas"].DataFrame(rows, columns=list(names))


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def applied(asked: Any, options: dict[str, Any] | None, rows: Var, at: Converting) -> Var:
    """What a function of an array of float64 gives, as a matrix. Raises ConversionError."""
    return followed(asked, options, [rows], _numbers(width(rows))[0], at).matrix(np.float64)


def followed(
    asked: Callable[..., Any],
    options: dict[str, Any] | None,
    parts: list[Var],
    received: Any,
    at: Converting,
) -> Columns:
    """What a function gives for columns, of which it is given rows such as `received`.

    Raises ConversionError, with the reason, for a function that cannot be followed.
    """
    try:
        if not (isinstance(received, np.ndarray) or is_pandas(received)):
            library = type(received).__module__.partition(".")[0]
            raise ConversionError(f"it gets {type(received).__name__} of {library}")
        for column in _columns(received):
            kind_of_values(column) or dtypes_of(column)  # which refuses what no graph holds
        called = partial(asked, **options) if options else asked
        _prove(called, parts, received)
        found, _, _, compared = _followed(called, parts, received)
    except ConversionError as error:
        raise ConversionError(
            f"FunctionTransformer({_name_of(asked)}) cannot be converted: {error}; {ADVICE}",
            step="FunctionTransformer",
        ) from error
    at.check_exact(Columns(tuple(compared)))
    return Columns(tuple(found))


def _name_of(asked: Any) -> str:
    inner = getattr(asked, "func", asked)  # of functools.partial
    return str(getattr(inner, "__name__", type(inner).__name__))


def _followed(
    asked: Callable[..., Any], parts: list[Var], received: Any
) -> tuple[list[Var], Any, World, list[Var]]:
    """What a function writes down for a stand-in, gives for real rows, and tensors that it compares.

    Raises ConversionError.
    """
    blocks = [Block(part, width(part)) for part in parts]
    cells = [(block, place) for block in blocks for place in range(block.width)]
    count = next((count for count in COUNTS if count > 2 * len(cells)), FEWER)
    like = _repeated(received, count)
    world = World()
    trace = Trace(blocks[0], count, world.codes)
    with tracing(trace), _quiet():
        stand_in = Symbol(list(cells), like.copy())
        found, failure, steps = _watched(world.seen(asked), stand_in, trace)
        with unchanging():
            _, own_failure, real_steps = _watched(asked, like, trace)
        if own_failure is not None:
            raise ConversionError(f"it fails on rows like the example's: {own_failure!r:.200}")
        if failure is not None:
            raise ConversionError(
                f"it fails on a stand-in for its rows: {failure!r:.200}"
            ) from failure
        if any(code not in world.cached for code, _ in steps ^ real_steps):
            raise ConversionError("its code takes another path for a stand-in than for real rows")
        if writes_globals(world.codes):
            raise ConversionError("it writes a global name, but a graph cannot keep state")
        _check_rows(found, count)
        return _parts_of(found), found.like, world, list(trace.compared.values())


def _watched(
    asked: Callable[..., Any], rows: Any, trace: Trace
) -> tuple[Any, Exception | None, set[tuple[Any, int]]]:
    """What a function gives, or its error, and its steps. Raises what stopped it."""
    with watched(trace.codes) as steps:
        found, failure = _attempt(asked, rows)
    if trace.stops:
        raise trace.stops[0]
    return found, failure, steps


def _parts_of(found: Symbol) -> list[Var]:
    """Columns as tensors: neighbours of numbers in one, and each of times or texts by itself."""
    if not kind_of_values(found.like):
        return [tensor(found).astype(np.float64)]
    parts: list[Var] = []
    kinds = [kind_of_values(column) for column in _columns(found.like)]
    for kind, run in groupby(range(len(kinds)), lambda at: kinds[at]):
        places = list(run)
        for group in [[at] for at in places] if kind else [places]:
            column = found.iloc[:, group[0] if kind else group]
            parts.append(tensor(column) if kind else tensor(column).astype(np.float64))
            if kind in ("M", "m"):
                parts[-1].times = str(column.dtype)
    return parts


def _check_rows(found: Any, count: int) -> None:
    """Raise ConversionError unless a function gives columns of as many rows as it is given."""
    if not isinstance(found, Symbol):
        raise ConversionError(f"it gives {type(found).__name__} that does not depend on its rows")
    shape = np.shape(found.like)
    if len(shape) == 1:
        raise ConversionError("it gives a vector instead of a column: add reshape(-1, 1)")
    if len(shape) > 2:
        raise ConversionError("it gives more than two dimensions: add reshape(len(X), -1)")
    if shape[0] != count:
        raise ConversionError("it gives another number of rows than it gets")


def _attempt(asked: Any, rows: Any) -> tuple[Any, Exception | None]:
    try:
        return asked(rows), None
    except Exception as error:  # whatever a function of somebody's raises
        return None, error


def _repeated(received: Any, count: int) -> Any:
    """As many rows as asked for, of those that were received."""
    places = np.arange(count) % len(received)
    if is_pandas(received):
        return received.iloc[places].reset_index(drop=True)
    return received[places]


def _prove(asked: Callable[..., Any], parts: list[Var], received: Any) -> None:
    """Raise ConversionError unless what was written down gives the same values."""
    from modelkit.runtimes.onnx import OnnxModel
    from modelkit.runtimes.proto import signature_of

    inputs = {
        f"x{at}": variable(part.dtype, ("batch", width(part))) for at, part in enumerate(parts)
    }
    found, like, world, _ = _followed(asked, list(inputs.values()), received)
    proto, _ = model_of(inputs, {f"y{at}": part for at, part in enumerate(found)})
    dtypes = [column.dtype for rows in (received, like) for column in _columns(rows)]
    narrow = [np.finfo(dtype).eps for dtype in dtypes if dtype in (np.float32, np.float16)]
    eps = float(max(narrow, default=np.finfo(np.float64).eps))
    with OnnxModel(proto.SerializeToString(), signature_of(proto)) as model:
        for rows in _batches(received, world):
            with _quiet():
                truth, failure = _attempt(asked, rows.copy())
            if failure is not None:  # as integers do that are asked about what is missing
                continue
            answers = model.run(_feeds(rows, inputs))
            got = [column for part in answers.values() for column in part.T]
            if different := _difference(got, truth, rows, eps):
                raise ConversionError(
                    f"its graph gives other values than the function itself{different}"
                )


def _feeds(rows: Any, inputs: dict[str, Var]) -> dict[str, Array]:
    """Rows as the inputs of a graph, each of which is some neighbouring columns."""
    given = iter(map(_encoded, _columns(rows)))
    return {name: np.column_stack([*islice(given, width(part))]) for name, part in inputs.items()}


def _columns(rows: Any) -> list[Any]:
    """The columns of an array, of a column or of a frame."""
    if is_frame(rows):
        return [rows.iloc[:, at] for at in range(rows.shape[1])]
    if is_pandas(rows):
        return [rows]
    values = np.asarray(rows)
    return [*values.reshape(len(values), -1).T]


def _encoded(column: Any) -> Array:
    """Numbers, times or texts as a graph has them."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "mM":
        return np.asarray(column).view(np.int64)
    if kind_of_values(column):
        return np.asarray(np.where(column.isna(), None, column.to_numpy(object)))
    if is_pandas(column):
        return np.asarray(column.to_numpy(np.float64, na_value=np.nan))
    return np.asarray(column, np.float64)


def _difference(got: list[Array], truth: Any, rows: Any, eps: float) -> str:
    """Where a graph gives other values than the function, but for the last digits of the largest."""
    columns = _columns(truth)
    known = list(map(_encoded, columns))
    if [part.shape for part in got] != [part.shape for part in known]:
        return f", which gives the shape {np.shape(truth)} for {len(rows)} rows"
    numbers = [at for at, each in enumerate(known) if each.dtype == np.float64]
    for at, each in enumerate(known):
        if at not in numbers and not np.array_equal(got[at], each):
            return f", in the column {at}"
    if not numbers:
        return ""
    one, other = (np.column_stack([each[at] for at in numbers]) for each in (got, known))
    alike = _alike(one, other, eps)
    if any(getattr(column.dtype, "kind", "O") in "iu" for column in columns):
        given = [each for each in map(_encoded, _columns(rows)) if each.dtype == np.float64]
        sound: Array = np.isfinite(np.stack([np.zeros(len(rows)), *given])).min(axis=0)
        alike |= ~sound[:, None]  # integers say nothing of what is missing or infinite
    if alike.all():
        return ""
    row, column = np.argwhere(~alike)[0]
    shown = np.asarray(rows)[row]
    return f": for {shown!s:.100} {one[row, column]} and not {other[row, column]}"


def _alike(one: Array, other: Array, eps: float) -> Array:
    """Where numbers are equal, but for the last digits of the largest."""
    size = np.abs(other[np.isfinite(other)]).max(initial=0) * eps * LAST_DIGITS
    return np.isclose(one, other, max(NEAR_ENOUGH, eps * LAST_DIGITS), size, equal_nan=True)


def _batches(received: Any, world: World) -> Iterator[Any]:
    """Rows to prove a function on, in the dtypes of those that it is given.

    They are those themselves, one alone, numbers of every kind, those in its code and next to them,
    the largest and smallest of each dtype; beside them times and texts of every kind. Then come as
    many rows as its code may take for few or many.
    """
    yield received
    yield received[:1]
    columns = _columns(received)
    others = any(map(kind_of_values, columns))
    rng = np.random.default_rng(0)
    near = [each for value in sorted(world.numbers) for each in _beside(value)]
    shape = (OTHERS, len(columns))
    batches = _numbers(len(columns))
    if not all(map(kind_of_values, columns)):
        own = [np.zeros(1) if kind_of_values(column) else _encoded(column) for column in columns]
        drawn = np.column_stack([rng.choice(each, OTHERS) for each in own])
        if near:
            batches.append(np.where(rng.random(shape) < HALF, rng.choice(near, shape), drawn))
        ends = [
            rng.choice(_ends(column.dtype, each), OTHERS)
            for column, each in zip(columns, own, strict=True)
        ]
        batches.append(np.column_stack(ends))
    for numbers in batches:
        for extreme in (False, True) if others else (False,):
            made = [
                _drawn(column, numbers[:, at], rng, extreme=extreme)
                for at, column in enumerate(columns)
            ]
            yield _in_form(made, received)
    for count in world.counts():
        yield _repeated(received, count)


def _beside(value: float) -> list[float]:
    """A number and those next to it, among all and among whole ones."""
    return [value, np.nextafter(value, -np.inf), np.nextafter(value, np.inf), value - 1, value + 1]


def _drawn(column: Any, numbers: Array, rng: np.random.Generator, *, extreme: bool) -> Any:
    """Numbers in the dtype of a column; or usual times or texts, or those at the ends of their range."""
    kind = kind_of_values(column)
    if kind == "O":
        return texts_like(column, len(numbers), rng, gaps=extreme)
    if kind:
        return (extreme_times if extreme else usual_times)(column.dtype, len(numbers), rng)
    return _in_dtype(numbers, column.dtype)


def _in_form(columns: list[Any], received: Any) -> Any:
    """Columns as rows like others."""
    if not is_pandas(received):
        return columns[0] if received.ndim == 1 else np.column_stack(columns)
    made = sys.modules["pandas"].DataFrame(dict(enumerate(columns)))
    if not is_frame(received):
        return made.iloc[:, 0].rename(received.name)
    return made.set_axis(received.columns, axis=1)


def _ends(dtype: Any, own: Array) -> Array:
    """The ends of a dtype and of the numbers that were seen, and what lies between."""
    usual = np.append(own, [0.0, 1.0, -1.0])
    dtype = getattr(dtype, "numpy_dtype", dtype)
    if dtype.kind not in "iu":
        return np.concatenate([usual, usual * 10, -usual])
    low, high = _range_of(dtype)
    between = np.rint(np.linspace(low, high, 16))
    return np.concatenate([np.clip(usual, low, high), [low, low + 1, high - 1, high], between])


def _range_of(dtype: np.dtype[Any]) -> tuple[float, float]:
    """The integers that a function is tried on: of 64 bits, those whose products do not wrap around."""
    low, high = (float(end) for end in (np.iinfo(dtype).min, np.iinfo(dtype).max))
    return (max(low, -SAFE), SAFE) if dtype.itemsize == SIZE_OF_LONG else (low, high)


def _in_dtype(numbers: Array, dtype: Any) -> Any:
    if not isinstance(dtype, np.dtype):  # of pandas' own, with missing values
        known = np.isfinite(numbers)
        values = _in_dtype(np.where(known, numbers, 0), dtype.numpy_dtype).astype(object)
        return sys.modules["pandas"].array(np.where(known, values, None), dtype=dtype)
    if dtype.kind == "b":
        return numbers > 0
    if dtype.kind == "f":
        return numbers.astype(dtype)
    low, high = _range_of(dtype)
    whole: Array = np.clip(np.rint(np.nan_to_num(numbers, posinf=high, neginf=low)), low, high)
    return whole.astype(dtype)


def _numbers(count: int) -> list[Array]:
    """Numbers of every kind: shares, measurements, whole ones, tiny and large, and none at all."""
    rng = np.random.default_rng(0)
    usual = rng.normal(size=(ROWS, count))
    strange = usual.copy()
    strange.flat[:: 2 * count + 1] = np.nan
    strange.flat[1 :: 3 * count + 1] = np.inf
    strange.flat[2 :: 3 * count + 2] = -np.inf
    whole = np.rint(usual * 3)
    wide = usual * 10.0 ** rng.integers(-12, 12, usual.shape)
    return [usual, np.abs(usual), rng.uniform(size=usual.shape), whole, wide, strange]
