"""Converter of FunctionTransformer: a function of arrays, by what it computes.

The function is run on a stand-in for its rows, and what it writes down is run on numbers of every
kind: it is the function only where both give the same.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.scaling import one_table
from modelkit.convert.estimators.stand_in_cells import tensor, tensor_of
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
from modelkit.convert.estimators.tensors import (
    STRING,
    Answer,
    Columns,
    Var,
    argument,
    converts,
    joined,
    model_of,
    width,
)
from modelkit.convert.estimators.user_code import World, unchanging, watched, writes_globals
from modelkit.errors import ConversionError
from modelkit.signature.spec import TensorSpec

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting

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
Part = tuple[Var, Any]  # a tensor, and the dtype of its times or texts; None for numbers
ADVICE = (
    f'write it with what docs/converting.md lists under "Functions of your own", or {OF_MODULE}'
)


@converts("FunctionTransformer")
def function(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """FunctionTransformer: its function, of all columns at once."""
    copied = estimator.func in COPIES and not estimator.kw_args
    if estimator.func is None or copied:
        return Answer(table=columns)
    received = columns.array() if estimator.validate else columns.rows()
    if any(part.times or part.dtype == STRING for part in columns.parts):
        return Answer(table=_of_columns(estimator, columns, received, at))
    rows = columns.matrix(np.float64)
    if received is None or _columns_in(received) != width(rows):
        received = _usual_rows(estimator, width(rows))
    return one_table(applied(estimator.func, estimator.kw_args, rows, at, received))


def _columns_in(rows: Any) -> int:
    """How many columns rows have: a vector is one."""
    return 1 if np.ndim(rows) == 1 else int(np.shape(rows)[1])


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


def _of_columns(estimator: Any, columns: Columns, received: Any, at: Converting) -> Columns:
    """What a function gives for columns of which some are times or texts."""
    widths = sum(columns.widths)
    if received is None or _columns_in(received) != widths:
        raise ConversionError(
            "FunctionTransformer is given columns of times or texts, and does not answer the example; leave them out",
            step="FunctionTransformer",
        )
    parts = []
    for part in columns.parts:
        as_it_is = part.times or part.dtype == STRING
        parts.append(part if as_it_is else part.astype(np.float64))
    found = followed(estimator.func, estimator.kw_args, parts, received, at)
    for part, kind in found:
        if isinstance(kind, np.dtype) and kind.kind in "mM":
            part.times = str(kind)
    return Columns(tuple(part for part, _ in found))


def applied(
    asked: Callable[..., Any],
    options: dict[str, Any] | None,
    rows: Var,
    at: Converting,
    received: Any = None,
) -> Var:
    """What a function of rows gives for a matrix, as a matrix of float64.

    `received` are rows as it is given them: an array of float64 if that is not known.

    Raises ConversionError, with the reason, for a function that cannot be followed.
    """
    if received is None:
        received = _numbers(width(rows))[0]
    ((found, _),) = followed(asked, options, [rows], received, at)
    return found


def followed(
    asked: Callable[..., Any],
    options: dict[str, Any] | None,
    parts: list[Var],
    received: Any,
    at: Converting,
) -> list[Part]:
    """What a function gives for columns of times and of numbers, as such parts."""
    given = options or {}
    try:
        if not (isinstance(received, np.ndarray) or is_pandas(received)):
            library = type(received).__module__.partition(".")[0]
            raise ConversionError(f"it is given {type(received).__name__} of {library}")
        _prove(asked, given, [(part.dtype, width(part)) for part in parts], received)
        found, _, _, compared = _followed(asked, given, parts, received)
    except ConversionError as error:
        raise ConversionError(
            f"FunctionTransformer({_name_of(asked)}) cannot be converted: {error}; {ADVICE}",
            step="FunctionTransformer",
        ) from error
    at.check_exact(Columns(tuple(compared)))
    return found


def _name_of(asked: Any) -> str:
    inner = getattr(asked, "func", asked)  # of functools.partial
    return str(getattr(inner, "__name__", type(inner).__name__))


def _followed(
    asked: Callable[..., Any], options: dict[str, Any], parts: list[Var], received: Any
) -> tuple[list[Part], Any, World, list[Var]]:
    """What a function writes down when it is given a stand-in, and what it gives for real rows.

    Last come the tensors that it compares with something. Raises ConversionError.
    """
    blocks = [Block(part, width(part)) for part in parts]
    cells = [(block, place) for block in blocks for place in range(block.width)]
    count = next((count for count in COUNTS if count > 2 * len(cells)), FEWER)
    like = _repeated(received, count)
    world = World(count)
    trace = Trace(blocks[0], count, world.codes)
    with tracing(trace), _quiet():
        seen = world.seen(asked)
        given = {name: world.seen(value) for name, value in options.items()}
        world.note(options)
        stand_in = Symbol(list(cells), like.copy())
        with watched(world.codes) as steps:
            found, failure = _attempt(seen, stand_in, given)
        if trace.stops:
            raise trace.stops[0]
        with watched(world.codes) as real_steps, unchanging():
            _, own_failure = _attempt(asked, like, options)
        if trace.stops:
            raise trace.stops[0]
        if own_failure is not None:
            raise ConversionError(f"it fails on rows like the example's: {own_failure!r:.200}")
        if failure is not None:
            raise ConversionError(
                f"it fails on a stand-in for its rows: {failure!r:.200}"
            ) from failure
        if any(code not in world.cached for code, _ in steps ^ real_steps):
            raise ConversionError(
                "it takes another way through its code for a stand-in than for rows"
            )
        if writes_globals(world.codes):
            raise ConversionError("it writes a global name, and a graph keeps no state")
        _check_rows(found, count)
        return _parts_of(found), found.like, world, list(trace.compared.values())


def _parts_of(found: Symbol) -> list[Part]:
    """Columns as tensors: neighbours of numbers in one, and each of times or texts by itself."""
    if not _others_in(found.like):
        return [(tensor(found).astype(np.float64), None)]
    parts: list[Part] = []
    for at, dtype in enumerate(found.like.dtypes):
        kind = kind_of_values(found.like.iloc[:, at])
        one = Symbol(found.cells[at : at + 1], found.like.iloc[:, [at]])
        if kind:
            parts.append((tensor_of(one.cells, np.str_ if kind == "O" else np.int64), dtype))
        elif parts and parts[-1][1] is None:
            parts[-1] = (joined([parts[-1][0], tensor(one).astype(np.float64)]), None)
        else:
            parts.append((tensor(one).astype(np.float64), None))
    return parts


def _others_in(rows: Any) -> list[int]:
    """The positions of the columns of times and texts."""
    if is_frame(rows):
        return [at for at in range(rows.shape[1]) if kind_of_values(rows.iloc[:, at])]
    return [0] if kind_of_values(rows) else []


def _check_rows(found: Any, count: int) -> None:
    """Raise ConversionError unless a function gives columns of as many rows as it is given."""
    if not isinstance(found, Symbol):
        raise ConversionError(f"it gives {type(found).__name__} that its rows have no part in")
    shape = np.shape(found.like)
    if len(shape) == 1:
        raise ConversionError("it gives a vector, and not a column: add reshape(-1, 1)")
    if len(shape) > 2:
        raise ConversionError("it gives more than two axes: add reshape(len(X), -1)")
    if shape[0] != count:
        raise ConversionError("it gives other rows than it is given")


def _attempt(asked: Any, rows: Any, options: dict[str, Any]) -> tuple[Any, Exception | None]:
    try:
        return asked(rows, **options), None
    except Exception as error:  # whatever a function of somebody's raises
        return None, error


def _repeated(received: Any, count: int) -> Any:
    """As many rows as asked for, of those that were received."""
    places = np.arange(count) % len(received)
    if is_pandas(received):
        return received.iloc[places].reset_index(drop=True)
    return received[places]


def _prove(
    asked: Callable[..., Any],
    options: dict[str, Any],
    kinds: list[tuple[np.dtype[Any], int]],
    received: Any,
) -> None:
    """Raise ConversionError unless what was written down gives the same values."""
    from modelkit.runtimes.onnx import OnnxModel
    from modelkit.runtimes.proto import signature_of

    inputs = {}
    for at, (dtype, columns) in enumerate(kinds):
        inputs[f"x{at}"] = argument(
            TensorSpec(f"x{at}", "string" if dtype == STRING else str(dtype), ("batch", columns))
        )
    found, like, world, _ = _followed(asked, options, list(inputs.values()), received)
    proto, _ = model_of(inputs, {f"y{at}": part for at, (part, _) in enumerate(found)})
    floats = [
        dtype
        for rows in (received, like)
        for dtype in dtypes_of(_numbers_of(rows))
        if dtype.kind == "f"
    ]
    eps = float(max((np.finfo(dtype).eps for dtype in floats), default=np.finfo(np.float64).eps))
    with OnnxModel(proto.SerializeToString(), signature_of(proto)) as model:
        counted = (_repeated(received, count) for count in world.counts())
        for rows in chain(_batches(received, sorted(world.numbers)), counted):
            with _quiet():
                truth, failure = _attempt(asked, rows.copy(), options)
            if failure is not None:  # as integers do that are asked about what is missing
                continue
            got = model.run(_feeds(rows, kinds))
            different = _difference(
                list(got.values()), [dtype for _, dtype in found], truth, rows, eps
            )
            if different:
                raise ConversionError(
                    f"its graph gives other values than the function itself{different}"
                )


def _feeds(rows: Any, kinds: list[tuple[np.dtype[Any], int]]) -> dict[str, Array]:
    """Rows as the graph of a proof takes them."""
    if not _others_in(rows):
        return {"x0": _matrix(rows)}
    frame = _framed(rows)
    feeds = {}
    start = 0
    for at, (dtype, columns) in enumerate(kinds):
        part = frame.iloc[:, start : start + columns]
        start += columns
        feeds[f"x{at}"] = _matrix(part) if dtype.kind == "f" else _encoded(part.iloc[:, 0])[:, None]
    return feeds


def _encoded(column: Any) -> Array:
    """Times or texts as a graph has them."""
    if column.dtype.kind in "mM":
        return np.asarray(column.to_numpy().view(np.int64))
    return np.asarray(np.where(column.isna(), None, column.to_numpy(object)))


def _framed(rows: Any) -> Any:
    """Rows as a frame, if they are a column of one."""
    return rows if is_frame(rows) else rows.to_frame()


def _numbers_of(rows: Any) -> Any:
    """The columns of numbers."""
    times = _others_in(rows)
    if not times:
        return rows
    frame = _framed(rows)
    return frame.iloc[:, [at for at in range(frame.shape[1]) if at not in times]]


def _matrix(rows: Any) -> Array:
    """Rows as an array of float64."""
    if is_frame(rows):
        return np.asarray(rows.to_numpy(np.float64, na_value=np.nan))
    values = np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows, np.float64)
    return values.reshape(len(values), -1)


def _difference(got: list[Array], dtypes: list[Any], truth: Any, rows: Any, eps: float) -> str:
    """Where a graph gives other values than the function; nothing if it does not."""
    others = [part for part, dtype in zip(got, dtypes, strict=True) if dtype is not None]
    for part, place in zip(others, _others_in(truth), strict=False):
        if not np.array_equal(part[:, 0], _encoded(truth.iloc[:, place])):
            return f", of the column {truth.columns[place]!r}"
    numbers = [part for part, dtype in zip(got, dtypes, strict=True) if dtype is None]
    if not numbers:
        return ""
    return _difference_of_numbers(np.concatenate(numbers, axis=1), _numbers_of(truth), rows, eps)


def _difference_of_numbers(got: Array, truth: Any, rows: Any, eps: float) -> str:
    known = _matrix(truth)
    if got.shape != known.shape:
        return f", which gives the shape {known.shape} for {len(rows)} rows"
    finite = known[np.isfinite(known)]
    size = np.abs(finite).max(initial=0) * eps * LAST_DIGITS
    near = max(NEAR_ENOUGH, eps * LAST_DIGITS)
    alike = np.isclose(got, known, rtol=near, atol=size, equal_nan=True)
    whole = any(dtype.kind in "iu" for dtype in dtypes_of(truth))
    if whole:  # which say nothing of what is missing or infinite
        alike |= ~np.isfinite(_matrix(_numbers_of(rows))).all(axis=1, keepdims=True)
    if alike.all():
        return ""
    row, column = np.argwhere(~alike)[0]
    shown = np.asarray(rows)[row] if is_pandas(rows) else rows[row]
    return f": for {shown!s:.100} {got[row, column]} and not {known[row, column]}"


def _batches(received: Any, constants: list[float]) -> Iterator[Any]:
    """Rows to prove a function on: of numbers, beside times and texts of every kind."""
    others = _others_in(received)
    if not others:
        yield from _batches_of_numbers(received, constants)
        return
    yield received
    yield received[:1]
    frame = _framed(received)
    numbers = _numbers_of(received)
    rng = np.random.default_rng(0)
    for batch in _batches_of_numbers(numbers, constants) if numbers.shape[1] else [numbers]:
        places = np.arange(max(len(batch), OTHERS)) % len(batch)
        for extreme in (False, True):
            drawn = {
                at: _drawn(frame.iloc[:, at], len(places), rng, extreme=extreme) for at in others
            }
            of_numbers = iter([batch.iloc[places, at].to_numpy() for at in range(numbers.shape[1])])
            made = [drawn[at] if at in drawn else next(of_numbers) for at in range(frame.shape[1])]
            rows = (
                sys.modules["pandas"]
                .DataFrame(dict(enumerate(made)))
                .set_axis(frame.columns, axis=1)
            )
            yield rows if is_frame(received) else rows.iloc[:, 0]


def _drawn(column: Any, count: int, rng: np.random.Generator, *, extreme: bool) -> Any:
    """Usual times or texts; or those at the ends of their range, and missing ones."""
    if column.dtype.kind in "mM":
        return (extreme_times if extreme else usual_times)(column.dtype, count, rng)
    return texts_like(column, count, rng, gaps=extreme)


def _batches_of_numbers(received: Any, constants: list[float]) -> Iterator[Any]:
    """Rows to prove a function on, in the dtypes of those that it is given.

    They are those themselves, one of them alone, numbers of every kind, the numbers that stand in
    its code and those next to them, and the largest and smallest of each dtype.
    """
    own = _matrix(received)
    yield received
    yield received[:1]
    rng = np.random.default_rng(0)
    count = own.shape[1]
    near = [
        each
        for value in constants
        for each in (
            value,
            np.nextafter(value, -np.inf),
            np.nextafter(value, np.inf),
            value - 1,
            value + 1,
        )
    ]
    shape = (4 * ROWS, count)
    for numbers in _numbers(count):
        yield _in_dtypes(numbers, received)
    if near:
        mixed = np.where(
            rng.random(shape) < HALF,
            rng.choice(near, shape),
            own[rng.integers(len(own), size=shape[0])],
        )
        yield _in_dtypes(mixed, received)
    dtypes = dtypes_of(received)
    ends = np.column_stack(
        [
            rng.choice(_ends(dtypes[place % len(dtypes)], own[:, place]), shape[0])
            for place in range(count)
        ]
    )
    yield _in_dtypes(ends, received)


def _ends(dtype: np.dtype[Any], own: Array) -> Array:
    """The ends of a dtype and of the numbers that were seen, and what lies between."""
    usual = np.append(own, [0.0, 1.0, -1.0])
    if dtype.kind == "f":
        return np.concatenate([usual, usual * 10, -usual])
    if dtype.kind == "b":
        return np.array([0.0, 1.0])
    low, high = _range_of(dtype)
    between = np.rint(np.linspace(low, high, 16))
    return np.concatenate([np.clip(usual, low, high), [low, low + 1, high - 1, high], between])


def _range_of(dtype: np.dtype[Any]) -> tuple[float, float]:
    """The integers that a function is tried on: of 64 bits, those whose products do not wrap around."""
    low, high = (float(end) for end in (np.iinfo(dtype).min, np.iinfo(dtype).max))
    return (max(low, -SAFE), SAFE) if dtype.itemsize == SIZE_OF_LONG else (low, high)


def _in_dtypes(numbers: Array, received: Any) -> Any:
    """Numbers in rows like others."""
    if not is_pandas(received):
        found = np.column_stack([_in_dtype(column, received.dtype) for column in numbers.T])
        return found.reshape(-1) if received.ndim == 1 else found
    frame = _framed(received)
    columns = [
        _in_dtype(column, dtype) for column, dtype in zip(numbers.T, frame.dtypes, strict=True)
    ]
    made = sys.modules["pandas"].DataFrame(dict(enumerate(columns)))
    made.columns = frame.columns
    return made if is_frame(received) else made.iloc[:, 0]


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
