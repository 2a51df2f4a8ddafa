"""Every function that a stand-in follows, beside numpy and pandas themselves, on hard values."""

import itertools
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.examples import some
from helpers.followed import table

from modelkit.convert.estimators import functions
from modelkit.convert.estimators.stand_ins import FOLLOWED
from modelkit.convert.estimators.tensors import argument, model_of
from modelkit.errors import ConversionError
from modelkit.runtimes.onnx import OnnxModel
from modelkit.runtimes.proto import signature_of
from modelkit.signature.spec import TensorSpec

HARD = (
    *(np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -2e-310, 2.3e-308, 1.7e308, -1.7e308, 0.5, 1.5, -2.5),
    *(1.0, -1.0, 2.0, 3.0, -7.0, 1 / 3, 100.25, 1e15 + 0.5, 2.0**53, 127.0, -128.0, 1e-9),
)  # fmt: skip
DOCS = Path(__file__).parents[4] / "docs"
PAIRS = np.array(list(itertools.product(HARD, HARD)))
ROWS = np.column_stack([PAIRS, np.roll(PAIRS[:, 0], 7)])
DTYPES = ("float64", "float32", "int64", "int8", "uint8", "int32", "bool")


def rows_of(dtype):
    if dtype == "bool":
        return ROWS > 0
    if dtype.startswith("f"):
        with np.errstate(over="ignore"):
            return ROWS.astype(dtype)
    ends = np.iinfo(dtype)
    low, high = max(ends.min, -(2**15)), min(ends.max, 2**15)  # whose products do not wrap around
    return np.clip(np.nan_to_num(ROWS), low, high).astype(dtype)


def answers(body, rows):
    """What a function gives, and what its graph gives; both as matrices of float64."""
    count = 1 if rows.ndim == 1 else rows.shape[1]
    given = argument(TensorSpec("x0", "float64", ("batch", count)))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        truth = body(rows.copy())
        found, *_ = functions._followed(body, [given], rows)
    proto, _ = model_of({"x0": given}, {f"y{at}": part for at, part in enumerate(found)})
    with OnnxModel(proto.SerializeToString(), signature_of(proto)) as model:
        got = model.run({"x0": matrix(rows)})
    return np.concatenate(list(got.values()), axis=1), matrix(truth)


def matrix(rows):
    """Rows as an array of float64."""
    return np.column_stack(list(map(functions._encoded, functions._columns(rows))))


def filled(rows):
    made = np.empty_like(rows)
    made[:] = rows
    return made


def written(frame):
    frame["d"] = frame["a"]
    frame.loc[frame["a"] > 1, "b"] = 1
    frame[["a", "c"]] = frame[["c", "a"]].to_numpy()
    return frame


def inserted(frame):
    frame.insert(1, "z", frame["a"])
    return frame


def of_rows(function):
    """A function of each row of an array."""
    return lambda x: function(x, axis=1, keepdims=True)


def of_frame_rows(name):
    """A method of each row of a frame."""
    return lambda f: getattr(f, name)(axis=1).to_frame()


def by_name(name):
    """A method without arguments."""
    return lambda f: getattr(f, name)()


def beside(name):
    """An operator by its name, beside a number and beside a column."""
    return lambda f: pd.concat([getattr(f, name)(2), getattr(f, name)(f["b"], axis=0)], axis=1)


# By the name of what they show: functions of arrays x, and of frames f.
OF_ARRAYS = {
    np.where: lambda x: np.where(x > 1, x, -x[:, :1]),
    np.select: lambda x: np.select([x > 1, x[:, :1] < 0], [x, 7], 3),
    np.clip: lambda x: np.clip(x, -1, 2),
    np.round: lambda x: np.round(x, 2),
    np.around: np.around,
    np.fix: np.fix,
    np.nan_to_num: lambda x: np.nan_to_num(x, nan=5),
    np.isin: lambda x: np.isin(x, [0.0, 2, np.nan, 127]),
    np.searchsorted: lambda x: np.searchsorted([-1.0, 0, 0, 2], x, "right"),
    np.digitize: lambda x: np.digitize(x, [-1.0, 0, 2]),
    np.interp: lambda x: np.interp(x, [-1.0, 0, 2], [5, 1, 7], right=9),
    np.median: lambda x: np.median(x, axis=1, keepdims=True),
    np.sort: lambda x: np.sort(x, axis=1),
    np.diff: lambda x: np.diff(x, axis=1),
    np.cumsum: lambda x: np.cumsum(x, axis=1),
    np.cumprod: lambda x: np.cumprod(x, axis=1),
    np.dot: lambda x: np.dot(x * 1.0, np.eye(3)[:, :2]),
    np.linalg.norm: lambda x: np.linalg.norm(x, 1, axis=1, keepdims=True),
    np.average: lambda x: np.average(x, axis=1, weights=[1, 2, 1])[:, None],
    np.einsum: lambda x: np.einsum("ij, jk -> ik", x * 1.0, np.eye(3)),
    np.vander: lambda x: np.vander(x[:, 0], 4),
    np.append: lambda x: np.append(x, x[:, :1], axis=1),
    np.count_nonzero: lambda x: np.count_nonzero(x, axis=1, keepdims=True),
    np.array_split: lambda x: np.array_split(x, 2, axis=1)[0],
    np.hsplit: lambda x: np.hsplit(x, 3)[1],
    np.split: lambda x: np.split(x, 3, axis=1)[2],
    np.atleast_1d: np.atleast_1d,
    np.atleast_2d: lambda x: np.atleast_2d(x[:, 0]).T,
    np.broadcast_to: lambda x: np.broadcast_to(x[:, :1], x.shape),
    np.column_stack: lambda x: np.column_stack([x, x[:, 1]]),
    np.concatenate: lambda x: np.concatenate([x, x > 1], axis=1),
    np.copy: np.copy,
    np.delete: lambda x: np.delete(x, 1, axis=1),
    np.dstack: lambda x: np.dstack([x, x]).reshape(len(x), -1),
    np.expand_dims: lambda x: np.expand_dims(x[:, 1], 1),
    np.flip: lambda x: np.flip(x, axis=1),
    np.fliplr: np.fliplr,
    np.hstack: lambda x: np.hstack([x, x[:, :1]]),
    np.moveaxis: lambda x: np.moveaxis(x.T, 0, 1),
    np.ravel: lambda x: np.ravel(x[:, :1])[:, None],
    np.repeat: lambda x: np.repeat(x, 2, axis=1),
    np.reshape: lambda x: np.reshape(x[:, 0], (-1, 1)),
    np.roll: lambda x: np.roll(x, 1, axis=1),
    np.squeeze: lambda x: np.squeeze(x[:, :, None]),
    np.stack: lambda x: np.stack([x[:, 0], x[:, 2]], axis=1),
    np.swapaxes: lambda x: np.swapaxes(x.T, 0, 1),
    np.take: lambda x: np.take(x, [2, 0], axis=1),
    np.tile: lambda x: np.tile(x, 2),
    np.transpose: lambda x: np.transpose(x.T),
    np.vstack: lambda x: np.vstack([x[:, 0], x[:, 1]]).T,
    np.shape: lambda x: x.reshape(np.shape(x)),
    np.ndim: lambda x: x + np.ndim(x),
    np.size: lambda x: x + np.size(x, axis=1),
    np.zeros_like: lambda x: np.zeros_like(x) + x,
    np.ones_like: lambda x: np.ones_like(x) * x,
    np.full_like: lambda x: np.maximum(np.full_like(x, 1), x),
    np.empty_like: filled,
    **{
        each: of_rows(each)
        for each in (
            *(np.all, np.any, np.amax, np.amin, np.max, np.min, np.sum, np.prod, np.mean, np.std, np.var),
            *(np.argmax, np.argmin, np.nanmax, np.nanmin, np.nansum, np.nanprod, np.nanmean, np.nanstd),
            *(np.nanvar, np.ptp),
        )
    },
}  # fmt: skip
PLAIN = {
    name: by_name(name)
    for name in (
        *("abs", "copy", "isna", "isnull", "notna", "notnull", "round", "squeeze", "to_numpy"),
    )
}
OF_A_ROW = {
    name: of_frame_rows(name)
    for name in ("all", "any", "max", "min", "sum", "prod", "product", "mean", "std", "var")
}
TWO = (
    *("add", "sub", "mul", "div", "truediv", "floordiv", "mod", "pow"),
    *("eq", "ne", "lt", "le", "gt", "ge"),
)
OF_TWO = {
    name: beside(name)
    for name in (*TWO, "radd", "rsub", "rmul", "rdiv", "rtruediv", "rfloordiv", "rmod", "rpow")
}
OF_FRAMES = {
    **PLAIN,
    **OF_A_ROW,
    **OF_TWO,
    "subtract": lambda f: f.subtract(1) if hasattr(f, "subtract") else f - 1,
    "multiply": lambda f: f.multiply(2),
    "divide": lambda f: f.divide(3),
    "[]": lambda f: f[["c", "a"]],
    "[]=": written,
    "where": lambda f: f.where(f > 1, 3),
    "mask": lambda f: f.mask(lambda g: g["a"].gt(0) if False else g > 1),
    "fillna": lambda f: f.fillna({"a": 1, "c": 2}),
    "clip": lambda f: f.clip(lower=-1, upper=2),
    "between": lambda f: f["a"].between(f["b"], 2, inclusive="left").to_frame(),
    "astype": lambda f: f.fillna(0).clip(-100, 100).astype({"a": "int16", "b": "float32"}),
    "replace": lambda f: f.replace({0: 5, 1: 0, 127: 2}),
    "map": lambda f: f["a"].map({0: 5, 1: 0, 2: np.nan, 0.5: 3}).to_frame(),
    "isin": lambda f: f.isin([0, 1, np.nan]),
    "assign": lambda f: f.assign(d=f["a"] > 0, e=lambda g: g["d"]),
    "insert": inserted,
    "items": lambda f: pd.DataFrame(dict(f.items())),
    "pipe": lambda f: f.pipe(lambda g, by: g[[by]], "b"),
    "pop": lambda f: f.pop("a").to_frame(),
    "select_dtypes": lambda f: f.select_dtypes(["number", "bool"]),
    "apply": lambda f: f.apply(lambda column: column * 2),
    "transform": lambda f: f.transform(np.abs),
    "add_prefix": lambda f: f.add_prefix("p_"),
    "add_suffix": lambda f: f.add_suffix("_s"),
    "drop": lambda f: f.drop(columns="a"),
    "filter": lambda f: f.filter(["a", "c"]),
    "get": lambda f: f.get("b").to_frame(),
    "reindex": lambda f: f.reindex(columns=["c", "a"]),
    "rename": lambda f: f.rename(columns={"a": "z"})[["z"]],
    "set_axis": lambda f: f.set_axis(["x", "y", "z"], axis=1)[["y"]],
    "to_frame": lambda f: f["a"].to_frame(),
    "take": lambda f: f.take([1], axis=1),
    "transpose": lambda f: f.transpose().T,
    "swapaxes": lambda f: f.to_numpy().T.swapaxes(0, 1),
    "cumsum": lambda f: f.cumsum(axis=1),
    "cumprod": lambda f: f.cumprod(axis=1),
    "dot": lambda f: (f * 1.0).dot(np.eye(3)),
    "argmax": lambda f: f.to_numpy().argmax(axis=1)[:, None],
    "argmin": lambda f: f.to_numpy().argmin(axis=1)[:, None],
    "flatten": lambda f: f["a"].to_numpy().flatten()[:, None],
    "ravel": lambda f: f["a"].to_numpy().ravel()[:, None],
    "repeat": lambda f: f.to_numpy().repeat(2, axis=1),
    "reshape": lambda f: f.to_numpy().reshape(len(f), -1),
}


# Whose last digits every library has its own way.
NEAR = {
    *("mean", "std", "var", "cumsum", "cumprod", "sum", "prod", "product", "pow", "rpow"),
    *(np.mean, np.std, np.var, np.nanmean, np.nanstd, np.nanvar, np.sum, np.nansum, np.prod, np.nanprod),
}  # fmt: skip
NEAR |= {np.average, np.einsum, np.dot, "dot", np.linalg.norm, np.interp}


# Which numpy and pandas compute in few bits; the comparison at save finds these.
FOUND_OUT = [
    (sign + name, dtype)
    for sign in ("", "r")
    for name, dtype in (("floordiv", "int8"), ("pow", "uint8"), ("mod", "bool"))
]


def named(key):
    return key if isinstance(key, str) else f"np.{key.__name__}"


CASES = {named(key): (key, body) for key, body in {**OF_ARRAYS, **OF_FRAMES}.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@some("name", CASES, 12)
def test_functions_on_hard_values(name, dtype):
    key, body = CASES[name]
    rows = rows_of(dtype)
    rows = pd.DataFrame(rows, columns=list("abc")) if isinstance(key, str) else rows
    if (name, dtype) in FOUND_OUT:
        given = argument(TensorSpec("x0", "float64", ("batch", 3)))
        with pytest.raises(ConversionError, match="other values"):
            functions._prove(body, [given], rows)
        return
    try:
        got, truth = answers(body, rows)
    except ConversionError:  # which says why
        return
    except Exception:
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever numpy or pandas says
            body(rows.copy())
        return
    if key in NEAR or dtype == "float32":
        rtol = 1e-5 if dtype == "float32" else 1e-13
        np.testing.assert_allclose(got, truth, rtol=rtol, atol=1e-300)
    else:
        np.testing.assert_array_equal(got, truth)


def test_every_function_is_tried():
    tried = {key for key, _ in CASES.values()} | {np.cumsum, np.cumprod}
    turned = {f"r{name}" for name in (*TWO, "subtract", "multiply", "divide")}
    others = {"[]", "[]=", "reset_index", "toarray", "todense"} | turned
    assert {key for key in FOLLOWED if not isinstance(key, tuple)} - tried <= others


def test_the_page_lists_what_is_followed():
    """Where it does not, put what `python -m helpers.followed` prints into it."""
    assert table() in DOCS.joinpath("reference/what_converts.md").read_text()
