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
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.cast import Array
from modelkit.convert.estimators.scaling import one_table
from modelkit.convert.estimators.stand_ins import (
    Block,
    Symbol,
    Trace,
    dtypes_of,
    is_frame,
    tensor,
    tracing,
)
from modelkit.convert.estimators.symbol_tables import followed
from modelkit.convert.estimators.tensors import (
    STRING,
    Answer,
    Columns,
    Var,
    argument,
    cast,
    dtype_of,
    model_of,
    width,
)
from modelkit.convert.estimators.user_code import World, watched, writes_globals
from modelkit.convert.steps import with_parts
from modelkit.convert.tables import ASKED
from modelkit.errors import ConversionError
from modelkit.spec import TensorSpec

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting

COPIES = (np.array, np.asanyarray, np.asarray, np.ascontiguousarray)  # which compute nothing
ROWS = 64  # of the numbers that a function is tried on
NO_ROWS = -1  # are counted by a stand-in for a table of several kinds
COUNTS = (127, 1009, 10007)  # of the rows of a stand-in: no other axis is as long
NEAR_ENOUGH = 1e-9  # to what the function gives, relative to it
LAST_DIGITS = 16  # in which a sum may differ, of the largest number
HALF = 0.5
SIZE_OF_LONG = 8
SAFE = 1e6  # integers of 64 bits up to here have products that do not wrap around
OF_MODULE = "keep it in a module, and save the model with format='joblib'"
ADVICE = (
    f'write it with what docs/converting.md lists under "Functions of your own", or {OF_MODULE}'
)


def function(
    estimator: Any,
    columns: Columns,
    at: Converting,
) -> Answer:
    """FunctionTransformer: its function, of all columns at once."""
    copied = estimator.func in COPIES and not estimator.kw_args
    if estimator.func is None or copied:
        return Answer(table=columns)
    if any(dtype_of(part) == STRING for part in columns.parts):
        raise ConversionError(
            f"FunctionTransformer({_name_of(estimator.func)}) cannot be converted, for it is given "
            f"columns of strings; {OF_MODULE}",
            step="FunctionTransformer",
        )
    if any(map(at.time_of, columns.parts)):
        names = None if estimator.validate else getattr(estimator, "feature_names_in_", None)
        return Answer(table=_of_table(estimator, columns, names, at))
    rows = columns.matrix(np.float64)
    received = at.received.get(id(estimator))
    if received is None or np.shape(received)[1] != width(rows):
        received = _usual_rows(estimator, width(rows))
    return one_table(applied(estimator.func, estimator.kw_args, rows, received))


def _usual_rows(estimator: Any, count: int) -> Any:
    """Rows of float64, as a function is given them for all that is known: a frame if fit was."""
    rows = _numbers(count)[0]
    names = None if estimator.validate else getattr(estimator, "feature_names_in_", None)
    return rows if names is None else sys.modules["pandas"].DataFrame(rows, columns=list(names))


def received_by(estimator: Any, rows: Any) -> dict[int, Any]:
    """The rows that each FunctionTransformer in an estimator is given when that is asked about rows.

    They are found by the `id` of the FunctionTransformer.
    """
    found: dict[int, Any] = {}
    verb = next((verb for verb in ASKED if hasattr(estimator, verb)), None)
    steps = [step for step in with_parts(estimator) if type(step).__name__ == "FunctionTransformer"]
    if verb is None or all(step.func is None for step in steps):
        return found

    def noting(place: int, asked: Callable[..., Any]) -> Callable[..., Any]:
        def noted(given: Any, *args: Any, **named: Any) -> Any:
            found.setdefault(place, given.copy())
            return asked(given, *args, **named)

        return noted

    # Other processes would note what they are given for themselves.
    alone = [part for part in with_parts(estimator) if getattr(part, "n_jobs", None) is not None]
    changes: list[tuple[Any, str, Any]] = [(part, "n_jobs", None) for part in alone]
    changes += [
        (step, "func", noting(id(step), step.func)) for step in steps if step.func is not None
    ]
    before = [(part, name, getattr(part, name)) for part, name, _ in changes]
    try:
        for part, name, value in changes:
            setattr(part, name, value)
        with _quiet():
            getattr(estimator, verb)(rows)
    except Exception:  # noqa: BLE001, S110 - what it does not answer is found out elsewhere
        pass
    finally:
        for part, name, value in before:
            setattr(part, name, value)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _of_table(
    estimator: Any,
    columns: Columns,
    names: Any,
    at: Converting,
) -> Columns:
    """What a function gives for a frame of which some columns are no numbers."""
    world = World(NO_ROWS)
    trace = Trace(Block(columns.parts[0], 1), NO_ROWS, world.codes)
    try:
        with tracing(trace):
            asked = world.seen(partial(estimator.func, **(estimator.kw_args or {})))
            table = followed(asked, columns, names, at)
            _check_stops(trace)
    except ConversionError as error:
        raise ConversionError(
            f"FunctionTransformer({_name_of(estimator.func)}) cannot be converted: {error}; {ADVICE}",
            step="FunctionTransformer",
        ) from error
    return table


def _check_stops(trace: Trace) -> None:
    """Raise ConversionError for what a function could not do, though it may have caught that."""
    if trace.stops:
        raise trace.stops[0]


def applied(
    asked: Callable[..., Any],
    options: dict[str, Any] | None,
    rows: Var,
    received: Any = None,
) -> Var:
    """What a function of rows gives for a matrix, as a matrix of float64.

    `received` are rows as it is given them: an array of float64 if that is not known.

    Raises ConversionError, with the reason, for a function that cannot be followed.
    """
    if received is None:
        received = _numbers(width(rows))[0]
    given = options or {}
    try:
        if not (isinstance(received, np.ndarray) or is_frame(received)):
            library = type(received).__module__.partition(".")[0]
            raise ConversionError(f"it is given a {type(received).__name__} of {library}")
        _prove(asked, given, received)
        return _followed(asked, given, rows, received)[0]
    except ConversionError as error:
        raise ConversionError(
            f"FunctionTransformer({_name_of(asked)}) cannot be converted: {error}; {ADVICE}",
            step="FunctionTransformer",
        ) from error


def _name_of(asked: Any) -> str:
    inner = getattr(asked, "func", asked)  # of functools.partial
    return str(getattr(inner, "__name__", type(inner).__name__))


def _followed(
    asked: Callable[..., Any],
    options: dict[str, Any],
    rows: Var,
    received: Any,
) -> tuple[Var, Any, World]:
    """What a function writes down when it is given a stand-in, and what it gives for real rows.

    Raises ConversionError.
    """
    columns = width(rows)
    count = next(count for count in COUNTS if count > 2 * columns)
    like = _repeated(received, count)
    world = World(count)
    trace = Trace(Block(rows, columns), count, world.codes)
    with tracing(trace), _quiet():
        seen = world.seen(asked)
        given = {name: world.seen(value) for name, value in options.items()}
        world.note(options)
        stand_in = Symbol([(trace.rows, place) for place in range(columns)], like.copy())
        with watched(world.codes) as steps:
            found, failure = _attempt(seen, stand_in, given)
        _check_stops(trace)
        with watched(world.codes) as real_steps:
            _, own_failure = _attempt(asked, like, options)
        if own_failure is not None:
            raise ConversionError(
                f"it fails on rows like those of the example: {own_failure!r:.200}"
            )
        if failure is not None:
            raise ConversionError(
                f"it fails on a stand-in for its rows: {failure!r:.200}"
            ) from failure
        if steps != real_steps:
            raise ConversionError(
                "it takes another way through its code for a stand-in than for rows"
            )
        if writes_globals(world.codes):
            raise ConversionError("it writes a global name, and a graph keeps no state")
        _check_rows(found, count)
        return cast(tensor(found), np.float64), found.like, world


def _check_rows(found: Any, count: int) -> None:
    """Raise ConversionError unless a function gives columns of as many rows as it is given."""
    if not isinstance(found, Symbol):
        raise ConversionError(f"it gives a {type(found).__name__} that its rows have no part in")
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
    except Exception as error:  # noqa: BLE001 - whatever a function of somebody's raises
        return None, error


def _repeated(received: Any, count: int) -> Any:
    """As many rows as asked for, of those that were received."""
    places = np.arange(count) % len(received)
    if is_frame(received):
        return received.iloc[places].reset_index(drop=True)
    return received[places]


def _prove(
    asked: Callable[..., Any],
    options: dict[str, Any],
    received: Any,
) -> None:
    """Raise ConversionError unless what was written down gives the same numbers."""
    from modelkit.proto import signature_of
    from modelkit.runtimes.onnx import OnnxModel

    spec = TensorSpec("x", "float64", ("batch", received.shape[1]))
    given = argument(spec)
    found, like, world = _followed(asked, options, given, received)
    proto = model_of({"x": given}, {"y": found})
    kinds = [dtype for rows in (received, like) for dtype in dtypes_of(rows) if dtype.kind == "f"]
    eps = float(max((np.finfo(dtype).eps for dtype in kinds), default=np.finfo(np.float64).eps))
    with OnnxModel(proto.SerializeToString(), signature_of(proto)) as model:
        for rows in _batches(received, sorted(world.numbers)):
            with _quiet():
                truth, failure = _attempt(asked, rows.copy(), options)
            if failure is not None:  # as integers do that are asked about what is missing
                continue
            numbers = _matrix(rows)
            different = _difference(model.run({"x": numbers})["y"], truth, numbers, eps)
            if different:
                raise ConversionError(
                    f"its graph gives other numbers than the function itself{different}"
                )


def _matrix(rows: Any) -> Array:
    """Rows as an array of float64."""
    if is_frame(rows):
        return np.asarray(rows.to_numpy(np.float64, na_value=np.nan))
    return np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows, np.float64)


def _difference(
    got: Array,
    truth: Any,
    numbers: Array,
    eps: float,
) -> str:
    """Where a graph gives other numbers than the function; nothing if it does not."""
    known = _matrix(truth)
    if got.shape != known.shape:
        return f", which gives the shape {known.shape} for {len(numbers)} rows"
    finite = known[np.isfinite(known)]
    size = np.abs(finite).max(initial=0) * eps * LAST_DIGITS
    near = max(NEAR_ENOUGH, eps * LAST_DIGITS)
    alike = np.isclose(got, known, rtol=near, atol=size, equal_nan=True)
    if any(
        dtype.kind in "iu" for dtype in dtypes_of(truth)
    ):  # which say nothing of what is missing or infinite
        alike |= ~np.isfinite(numbers).all(axis=1, keepdims=True)
    if alike.all():
        return ""
    row, column = np.argwhere(~alike)[0]
    return f": for {numbers[row].tolist()!s:.100} {got[row, column]} and not {known[row, column]}"


def _batches(received: Any, constants: list[float]) -> Iterator[Any]:
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
    dtypes = dtypes_of(received)
    columns = [
        _in_dtype(numbers[:, place], dtypes[place % len(dtypes)])
        for place in range(numbers.shape[1])
    ]
    if not is_frame(received):
        return np.column_stack(columns)
    pandas = sys.modules["pandas"]
    frame = pandas.DataFrame(dict(enumerate(columns)))
    frame = frame.astype(dict(enumerate(received.dtypes)))
    frame.columns = received.columns
    return frame


def _in_dtype(numbers: Array, dtype: np.dtype[Any]) -> Array:
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


ESTIMATORS = {
    "sklearn.FunctionTransformer": function,
}
