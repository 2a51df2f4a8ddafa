"""FunctionTransformer: functions of arrays, by what they compute."""

import datetime as dt
import gc
import importlib
import os
import time
from functools import lru_cache, partial

import numpy as np
import pandas as pd
import pytest
from helpers.examples import some
from helpers.packages import opened, saved
from scipy.special import expit, logit
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.ensemble import BaggingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from modelkit.convert.estimators import traced
from modelkit.errors import ConversionError

NAMES = (
    "abs arcsinh arctanh cbrt ceil cos cosh degrees exp exp2 expm1 floor isfinite isinf isnan log log10 log1p log2 "
    "nan_to_num negative radians reciprocal rint round sign sin sinh sqrt square tanh trunc"
)
RNG = np.random.default_rng(0)
EXAMPLE = RNG.normal(size=(200, 3))
FRESH = np.concatenate([RNG.normal(size=(100, 3)) * 3, np.rint(RNG.normal(size=(20, 3)))])
BY_NAME = {"now": [time.time]}
STEPS = [np.abs, lambda x: np.c_[np.asarray(x), np.amax(x, axis=1)]]


def year():
    return dt.datetime.now().year  # noqa: DTZ005 - as people write it


class Aged:
    def __init__(self, by):
        self.by = by

    def __call__(self, x):
        return (self.year() - x) / self.by

    def year(self):
        return year()


class Scaled(Aged):
    def __init__(self, by):
        super().__init__(by)

    def __call__(self, x, array=np.asarray):
        x = array(x)
        return np.c_[np.asarray(x) / self.by, np.ones(len(x))]


class Further(Scaled):
    def __call__(self, x):
        return super().__call__(x) + isinstance(self, Further)


class Clocks:
    __slots__ = ("by",)
    days = 86_400

    def __init__(self):
        self.by = time.time

    @property
    def today(self):
        return dt.date.today().toordinal()  # noqa: DTZ011

    def hour(self):
        return time.time() // 3600


WATCH = Clocks()


@lru_cache
def day():
    return WATCH.today


@lru_cache
def factor():
    return 3


def writing(x):
    global SEEN  # which is refused
    SEEN = len(x)
    return x


def into_view(x):
    x = x.copy()
    first = x[:, 0]
    first[:] = 1
    return x


def caught(x):
    try:
        return x.choose([1])
    except Exception:  # as people write it
        return x


def by_api(x):
    xp = x.__array_namespace__()
    return xp.log1p(xp.abs(x))


def assigned(x):
    x = x.copy()
    x[x < 0] = 0
    return x


def columns_written(x):
    x = np.asarray(x, float).copy()
    x[:, 0] = np.log1p(np.abs(x[:, 0]))
    x[x[:, 1] > 0, 2] = 5
    x[:, 1:] += 1
    return x


def filled(x):
    out = np.zeros((x.shape[0], 2))
    out[:, 0] = x[:, 1]
    out[x[:, 0] > 0, 1] = 1
    return out


WRITTEN = {
    "shifted log": lambda x: np.log(np.abs(x) + 1),
    "powers": lambda x: x**3 - 2**x,
    "ratio": lambda x: x[:, [0]] / x[:, [1]],
    "some columns": lambda x: x[:, 1:],
    "product beside": lambda x: np.column_stack([x, x[:, 0] * x[:, 1]]),
    "hours": lambda x: np.hstack([np.sin(2 * np.pi * x / 24), np.cos(2 * np.pi * x / 24)]),
    "where": lambda x: np.where((x > 0) & (x < 1), x, -1),
    "shares": lambda x: np.abs(x) / np.abs(x).sum(axis=1, keepdims=True),
    "largest of a row": lambda x: x.max(axis=1).reshape(-1, 1),
    "what is left": lambda x: np.concatenate([x % 0.7, x // 0.7], axis=1),
    "rounded": lambda x: np.round(x, 2),
    "whole": lambda x: x.astype(int),
    "signed log": lambda x: np.sign(x) * np.log1p(np.abs(x)),
    "cut off": partial(np.clip, a_min=-0.5, a_max=0.5),
    "expit": expit,
    "by the array API": by_api,
    "written into": assigned,
    "of an object": Scaled(4.0),
    "of an object of a derived class": Further(4.0),
    "a kept answer": lambda x: x * factor(),
    "as an array": lambda x: np.array(x, dtype=float)[:, :2] * 2,
    "beside by c_": lambda x: np.c_[x[:, 0] / (x[:, 1] ** 2 + 1), x[:, [2]]],
    "its shape": lambda x: np.column_stack([x[:, i] ** 2 for i in range(x.shape[1])]).reshape(
        x.shape[0], -1
    ),
    "outer": lambda x: (x[:, :, None] * x[:, None, :]).reshape(len(x), -1),
    "stacked": lambda x: np.hstack(
        [np.stack([x[:, 0], x[:, 1]], axis=1), np.vstack([x[:, 0], x[:, 2]]).T]
    ),
    "select": lambda x: np.select([x < -1, x < 1], [-1.0, x], 2.0),
    "tables": lambda x: np.c_[
        np.digitize(x, [-1, 0, 1]),
        np.searchsorted([-1, 0, 1], x),
        np.interp(x, [-1, 0, 2], [0, 3, 1]),
    ],
    "is in": lambda x: np.isin(x, [-1.0, 0.0, 1.0]),
    "weights": lambda x: np.c_[x @ np.eye(3)[:, :2], np.dot(x, [1.0, 2.0, 3.0])],
    "of rows": lambda x: np.c_[
        x.std(axis=1),
        np.linalg.norm(x, axis=1),
        np.median(x, axis=1),
        np.nanmean(x, axis=1),
        x.argmax(axis=1),
    ],
    "along rows": lambda x: np.c_[np.cumsum(x, axis=1), np.diff(x, axis=1), np.sort(x, axis=1)],
    "moved": lambda x: np.c_[
        np.delete(x, 1, axis=1), np.tile(x, 2), np.flip(x, axis=1), np.take(x, [0, 2], axis=1)
    ],
    "angles": lambda x: np.c_[
        np.arctan(x),
        np.arctan2(x[:, 0], x[:, 1]),
        np.hypot(x[:, 0], x[:, 1]),
        np.arcsin(np.clip(x / 9, -1, 1)),
        np.arccos(np.clip(x / 9, -1, 1)),
    ],
    "columns written": columns_written,
    "made and filled": filled,
    "divided where": lambda x: np.divide(x, x[:, :1], out=np.zeros_like(x), where=x[:, :1] > 0),
    "whole numbers divided": lambda x: np.rint(x).astype(int) // np.rint(x[:, :1]).astype(int),
    "steps in a list": lambda x: STEPS[1](STEPS[0](x)),
    "hypotenuses": lambda x: np.hypot(x, x[:, :1]),
    "between integers": lambda x: np.rint(x * 200).astype(int).astype("int8") + np.int8(3),
    "clipped logit": lambda x: logit(np.clip(expit(x), 0.01, 0.99)),
}


def assert_same(model, tmp_path, example=EXAMPLE, fresh=FRESH):
    package = opened(model.fit(example), example, tmp_path)
    with np.errstate(all="ignore"):
        truth = np.asarray(model.transform(fresh), float)
    np.testing.assert_allclose(package.predict(fresh), truth, rtol=2e-14, atol=1e-15)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the function itself, out of its domain
@some("name", NAMES.split(), 10)
def test_functions_of_numpy(name, tmp_path):
    shift = 3.0 if name in ("log", "log2", "log10", "sqrt") else 0.0
    example = expit(EXAMPLE) * 0.9 if name == "arctanh" else EXAMPLE + shift
    assert_same(FunctionTransformer(getattr(np, name)), tmp_path, np.abs(example), np.abs(FRESH))


@some("name", WRITTEN, 14)
def test_functions_of_ones_own(name, tmp_path):
    assert_same(FunctionTransformer(WRITTEN[name]), tmp_path)


def test_options_of_a_function(tmp_path):
    options = {"a_min": 0, "a_max": None}
    assert_same(FunctionTransformer(np.clip, kw_args=options), tmp_path)
    assert_same(FunctionTransformer(np.nan_to_num, kw_args={"nan": 5.0}), tmp_path)


def test_functions_inside_a_frame_with_gaps_and_texts(tmp_path):
    rows = 240
    frame = pd.DataFrame(
        {
            "income": RNG.lognormal(3, 1, rows),
            "age": RNG.integers(18, 90, rows),
            "city": RNG.choice(["Ghent", "Łódź", "Sète"], rows),
        }
    )
    frame.loc[::7, "income"] = np.nan
    filled = FunctionTransformer(lambda x: np.where(np.isnan(x), 0.0, np.log1p(x)))
    scaled = make_union(StandardScaler(), FunctionTransformer(np.square))
    columns = make_column_transformer(
        (filled, ["income"]), (scaled, ["age"]), (OneHotEncoder(handle_unknown="ignore"), ["city"])
    )
    model = make_pipeline(columns, StandardScaler(with_mean=False), LogisticRegression())
    model.fit(frame[:160], (frame["age"] > 40)[:160].astype(int))
    package = opened(model, frame[:160], tmp_path)
    fresh = frame[160:]
    answer = package.run(fresh)
    np.testing.assert_array_equal(answer["label"], model.predict(fresh))
    np.testing.assert_allclose(
        answer["probabilities"], model.predict_proba(fresh), rtol=1e-12, atol=1e-15
    )


def test_tangents(tmp_path):
    """Next to a pole the last bit of a cosine is worth more."""
    package = opened(FunctionTransformer(np.tan), EXAMPLE, tmp_path)
    np.testing.assert_allclose(package.predict(FRESH), np.tan(FRESH), rtol=1e-12)


REFUSED = {
    "a branch": (lambda x: x if x[0, 0] > 0 else -x, "or of some of them"),
    "all rows": (lambda x: x - x.mean(axis=0), "numbers of all rows together"),
    "a vector": (lambda x: x[:, 0], "add reshape"),
    "no operator": (lambda x: np.sinc(x) + 1, r"`np.sinc\(x\)`, it uses numpy.sinc"),
    "chance": (
        lambda x: x + np.random.default_rng().normal(),
        "numpy.random.default_rng, which would be",
    ),
    "rows counted": (lambda x: x * len(x), "other values than the function itself: for"),
    "the order of rows": (lambda x: x[::-1], "rows in another order"),
    "a global name": (writing, "writes a global name"),
    "a view written into": (into_view, "other values"),
    "a refusal caught": (caught, r"`x.choose`, it uses ndarray.choose"),
    "a number of numbers": (lambda x: x.astype(str), "only numbers"),
    "the clock": (lambda x: x + time.time(), "time.time, which would be"),
    "the day": (
        lambda x: dt.date.today().year - x,  # noqa: DTZ011
        "date.today, which would be",
    ),
    "many rows": (
        lambda x: x * 2 if len(x) > 5000 else x,
        "other (numbers|values) than the function",
    ),
    "the day, elsewhere": (lambda x: year() - x, "datetime.now, which would be"),
    "the environment": (lambda x: x * int(os.environ.get("K", "1")), "would be the same for ever"),
    "an object's clock": (Aged(3), "datetime.now, which would be"),
    "a clock by default, called": (
        lambda x, clock=time.time: x - clock(),
        "time.time, which would be",
    ),
    "a day by default": (
        lambda x, *, day=dt.date.today: x - day().year,
        "date.today, which would be",
    ),
    "a clock in a list in a table": (
        lambda x: x - BY_NAME["now"][0](),
        "time.time, which would be",
    ),
    "a property": (lambda x: x - WATCH.today, "date.today, which would be"),
    "an attribute": (lambda x: x - WATCH.by(), "time.time, which would be"),
    "an object with slots": (lambda x: x - WATCH.hour(), "time.time, which would be"),
    "a kept day": (lambda x: x - day(), "date.today, which would be"),
    "a clock within a library's": (
        lambda x: x - next(map(time.gmtime, [None])).tm_yday,
        "time.gmtime, which would be",
    ),
    "a type": (
        lambda x: np.asarray(x, np.float32).sum(axis=1, keepdims=True),
        r"write it of X.astype\(float\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_functions_that_cannot_be_followed_say_why(name, tmp_path):
    written, reason = REFUSED[name]
    with pytest.raises(ConversionError, match=reason) as caught:
        opened(FunctionTransformer(written).fit(EXAMPLE), EXAMPLE, tmp_path)
    assert caught.value.step == "FunctionTransformer"


def in_place(frame):
    frame = frame.copy()
    frame["ratio"] = frame["a"] / frame.b
    frame["a"] = np.log1p(frame["a"].clip(lower=0))
    frame["one"] = 1
    return frame


def rows_where(frame):
    frame = frame.copy()
    frame.loc[frame["a"] > 1, "a"] = 1
    frame[frame < -1] = -1
    frame[["b", "c"]] = frame[["c", "b"]].to_numpy()
    del frame["a"]
    return frame


def into_itself(frame):
    frame = frame.copy()
    frame.drop(columns=["b"], inplace=True)
    frame.rename(columns={"a": "z"}, inplace=True)
    return frame


OF_FRAMES = {
    "ratio": lambda f: (f["a"] / f["b"]).to_frame(),
    "chosen": lambda f: f[["c", "a"]],
    "by place": lambda f: f.loc[:, ["b"]] * 2,
    "assigned": lambda f: f.assign(d=f["a"] * f["b"], e=lambda g: g["d"] > 0),
    "in place": in_place,
    "dropped": lambda f: f.drop(columns=["b"]).abs(),
    "dropped by axis": lambda f: f.drop("a", axis=1).fillna(0),
    "applied": lambda f: f.apply(np.arcsinh),
    "numbers alone": lambda f: f.to_numpy()[:, 1:] ** 2,
    "two frames": lambda f: f - f.round(1),
    "guarded": lambda f: f.replace(-1, 7) if isinstance(f, pd.DataFrame) else f,
    "guarded otherwise": lambda f: f * 2 if type(f) is pd.DataFrame else f.nothing(),
    "columns it has": lambda f: (
        f * 2 if hasattr(f, "columns") and "a" in f.columns and len(f) else f
    ),
    "rows where": rows_where,
    "cases": lambda f: f.assign(
        d=f["a"].between(-1, 1), e=f["b"].isin([-1, 0]), g=f["c"].round().map({0: 5, 1: 6})
    ),
    "gaps": lambda f: f.where(f > 0).isna(),
    "of its rows": lambda f: (
        f.mask(f > 1).mean(axis=1).to_frame().assign(s=f.mask(f > 1).sum(axis=1), d=f.std(axis=1))
    ),
    "along": lambda f: f.div(f["a"], axis=0).sub([1, 2, 3]).rsub(1),
    "made anew": lambda f: pd.concat(
        [pd.DataFrame({"x": f["a"] * 2, "y": 3}), f.add_suffix("_")], axis=1
    ),
    "cut": lambda f: f.assign(k=pd.cut(f["a"], [-2, -1, 0, 2], labels=False), w=pd.isna(f["b"])),
    "each row": lambda f: f.apply(lambda row: row["a"] / (row.b**2 + 1), axis=1).to_frame(),
    "each column": lambda f: f.apply(lambda values: values.clip(0, 1)),
    "renamed": lambda f: f.rename(columns={"a": "z"}).iloc[:, [1, 0]].loc[:, "b":"z"],
    "as float32": lambda f: f.astype("float32") * 0.1,
    "less a constant": lambda f: f - pd.Series({"c": 3.0, "a": 1.0, "b": 2.0}),
    "of numpy": np.tanh,
    "of kinds": lambda f: f.assign(d=f["a"] > 0).select_dtypes("float") * 2,
    "into itself": into_itself,
    "spread": lambda f: np.c_[np.std(f, axis=1), f.std(axis=1)],
}


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of pandas 3.1 on
@some("name", OF_FRAMES, 10)
def test_functions_of_frames(name, tmp_path):
    example = pd.DataFrame(EXAMPLE, columns=list("abc"))
    fresh = pd.DataFrame(FRESH, columns=list("abc"))
    assert_same(FunctionTransformer(OF_FRAMES[name]), tmp_path, example, fresh)


def test_a_listener_to_the_garbage_collector_may_ask_the_clock(tmp_path):
    """It runs in the middle of a function, whose clock it is not."""
    listened = []
    gc.callbacks.append(lambda *_: listened.append(time.perf_counter()))
    example = pd.DataFrame(EXAMPLE, columns=list("abc"))
    try:
        collecting = FunctionTransformer(lambda f: f * (2 + 0 * gc.collect(0)))
        assert_same(collecting, tmp_path, example, pd.DataFrame(FRESH, columns=list("abc")))
    finally:
        gc.callbacks.pop()
    assert listened


@pytest.mark.parametrize(
    "gaps",
    [
        pytest.param(
            False,
            marks=pytest.mark.skipif(
                pd.__version__ < "3", reason="pandas 2 adds integers and truth values as objects"
            ),
        ),
        True,
    ],
)
def test_functions_of_integers_beside_truth_values(gaps, tmp_path):
    rows = pd.DataFrame(RNG.integers(-9, 9, (160, 2)), columns=list("ab")).assign(c=True)
    rows.loc[::3, "c"] = False
    summed = ["a", "b"] if gaps else ["b", "c"]
    if gaps:
        rows = rows.astype({"a": "Int64", "c": "boolean"}).mask(RNG.random(rows.shape) < 0.1)
    added = FunctionTransformer(
        lambda f: f.assign(
            d=f["a"] / (1 + f["b"] ** 2),
            m=f["a"] % 3,
            s=f[summed].sum(axis=1),
            t=f[summed].max(axis=1),
        )
    )
    model = make_pipeline(added, SimpleImputer()).fit(rows[:120])
    assert_same(model, tmp_path, rows[:120], rows[120:])


def new_column(frame):
    frame = frame.copy()
    frame.loc[frame["a"] > 1, "z"] = 1
    return frame


REFUSED_FRAMES = {
    "rows": (lambda f: f[f["a"] > 0], "chosen by their numbers"),
    "aligned": (lambda f: f / f["a"], "a frame with a column"),
    "each row": (
        lambda f: f.apply(lambda row: 1 if row["a"] > 0 else 0, axis=1).to_frame(),
        "a branch that depends",
    ),
    "unknown": (lambda f: f.rank(), r"in line \d+, `f.rank`, it uses DataFrame.rank"),
    "caught": (lambda f: getattr(f, "rank", None) and f, "DataFrame.rank"),
    "all rows": (lambda f: f - f.mean(), "write them down"),
    "each number": (lambda f: f[["a"]].map(lambda v: round(v, 1)), "write column.round"),
    "texts": (lambda f: f.astype(str), "only numbers can be followed"),
    "a key": (lambda f: f.assign(k=f["a"].map(lambda v: {0: 1}.get(v, 0))), "a number as a key"),
    "some rows of a new column": (new_column, "a new column in some of the rows"),
}


@pytest.mark.parametrize("name", REFUSED_FRAMES)
def test_functions_of_frames_that_cannot_be_followed_say_why(name, tmp_path):
    written, reason = REFUSED_FRAMES[name]
    frame = pd.DataFrame(EXAMPLE, columns=list("abc"))
    with pytest.raises(ConversionError, match=reason):
        opened(FunctionTransformer(written).fit(frame), frame, tmp_path)


@pytest.mark.parametrize("dtype", ["category", "string", "object"])
def test_columns_that_no_function_is_followed_with_are_named_by_their_dtype(dtype, tmp_path):
    """Even where the function does not read them."""
    values = [True, False] if dtype == "object" else ["x", "y"]
    frame = pd.DataFrame({"a": [1.0, 2.0] * 20, "k": pd.Series(values * 20, dtype=dtype)})
    with pytest.raises(
        ConversionError, match=f"it uses values of the dtype {dtype} in column 'k' .give fit"
    ):
        opened(FunctionTransformer(lambda f: f[["a"]]).fit(frame), frame, tmp_path)


NARROW = {
    "gap": lambda f: f.assign(gap=f["a"] - f["b"]),
    "sum": lambda f: f.assign(sum=f["a"] + f["b"], by=f["a"] * 3, opposite=-f["b"]),
    "cents": lambda f: f.assign(cents=f["a"] * f["b"], square=f["a"] ** 2),
    "back to back": lambda f: f.to_numpy().astype("uint8").astype(float) / 2,
    "shares": lambda f: f.div(f["a"], axis=0),
    "left": lambda f: f.assign(left=f["a"] % f["b"], times=f["a"] // f["b"]),
}


@some("name", NARROW, 2)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "float32"])
def test_numbers_of_few_bits_wrap_around_as_they_do_in_numpy(name, dtype, tmp_path):
    rows = RNG.integers(1, 9, (120, 2))
    example = pd.DataFrame(rows, columns=list("ab")).astype(dtype)
    ends = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.iinfo(np.int16)
    fresh = pd.DataFrame(
        RNG.integers(ends.min, ends.max, (200, 2), endpoint=True), columns=list("ab")
    ).astype(dtype)
    model = FunctionTransformer(NARROW[name]).fit(example)
    answer = opened(model, example, tmp_path).predict(fresh)
    with np.errstate(all="ignore"):
        truth = np.asarray(model.transform(fresh), float)
    np.testing.assert_allclose(answer, truth, rtol=1e-6 if dtype == "float32" else 1e-15)


def test_a_value_that_stands_in_the_code_alone_is_tried(tmp_path):
    """The example has no such value, and the function takes another way for a stand-in."""
    odd = FunctionTransformer(
        lambda x: (
            np.asarray(x).choose([1])
            if False
            else np.where(x == -999, x.sum(axis=1, keepdims=True), x)
        )
    )
    assert_same(odd, tmp_path, fresh=np.where(FRESH > 1, -999.0, FRESH))


def test_a_function_behind_others_is_given_what_they_give(tmp_path):
    frame = pd.DataFrame({"a": RNG.normal(size=90), "b": RNG.integers(0, 9, 90).astype("int8")})
    named = FunctionTransformer(lambda f: f.assign(c=f["pass__b"] * f["pass__b"]))
    columns = make_column_transformer((StandardScaler(), ["a"]), ("passthrough", ["b"]))
    columns = columns.set_params(
        transformers=[("scaled", StandardScaler(), ["a"]), ("pass", "passthrough", ["b"])]
    )
    model = make_pipeline(columns.set_output(transform="pandas"), named)
    fresh = frame.assign(b=RNG.integers(-128, 127, 90).astype("int8"))
    package = opened(model.fit(frame), frame, tmp_path)
    np.testing.assert_allclose(
        package.predict(fresh), model.transform(fresh).to_numpy(float), rtol=1e-12
    )


GIVEN = {
    "a vector": make_column_transformer((FunctionTransformer(lambda s: s.to_frame() ** 2), "a")),
    "a vector by place": make_column_transformer(
        (FunctionTransformer(lambda s: s.values[:, None] * 2), 1), ("passthrough", ["a"])
    ),
    "an array": FunctionTransformer(lambda x: x * 2 if hasattr(x, "loc") else x, validate=True),
    "by bagging": BaggingRegressor(
        make_pipeline(
            SimpleImputer(),
            FunctionTransformer(lambda x: x * 2 if hasattr(x, "loc") else x[:, :1]),
            LinearRegression(),
        ),
        n_estimators=3,
        max_features=0.5,
        random_state=0,
    ),
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_function_is_given_what_the_source_gives_it(name, tmp_path):
    frame = pd.DataFrame(EXAMPLE, columns=list("abc"))
    model = GIVEN[name].fit(frame, EXAMPLE[:, 0])
    truth = (model.predict if hasattr(model, "predict") else model.transform)(frame)
    answer = opened(model, frame, tmp_path).predict(frame)
    np.testing.assert_allclose(answer, np.asarray(truth), rtol=1e-12)


def test_what_makes_a_sparse_table_dense_is_followed(tmp_path):
    texts = ["a few words", "a word or two", "two words", "few"] * 20
    dense = FunctionTransformer(
        lambda x: x.toarray() if hasattr(x, "toarray") else x, accept_sparse=True
    )
    model = make_pipeline(TfidfVectorizer(), dense, GaussianNB()).fit(texts, [0, 1, 1, 0] * 20)
    answer = opened(model, texts, tmp_path).predict_proba(["two few", "or", ""])
    np.testing.assert_allclose(answer, model.predict_proba(["two few", "or", ""]), rtol=1e-9)


def test_columns_with_gaps_of_pandas_own_dtypes(tmp_path):
    counts = pd.array(RNG.choice([1, 2, 300, None], 90), dtype="Int64")
    frame = pd.DataFrame({"a": counts, "b": RNG.normal(size=90)})
    model = FunctionTransformer(lambda f: f.assign(c=f["a"].fillna(0) * f["b"], d=f["a"].isna()))
    answer = opened(model.fit(frame), frame, tmp_path).predict(frame)
    np.testing.assert_allclose(answer, model.transform(frame).to_numpy(float, na_value=np.nan))


def test_what_was_written_down_is_tried_on_numbers(monkeypatch, tmp_path):
    """A wrong table would be found out before any package is written."""
    monkeypatch.setitem(traced.UFUNCS, "sin", traced.UFUNCS["cos"])
    with pytest.raises(ConversionError, match="other values than the function itself"):
        opened(FunctionTransformer(np.sin).fit(EXAMPLE), EXAMPLE, tmp_path)


def test_a_column_that_is_the_same_in_each_row_goes_into_the_next_step(tmp_path):
    frame = pd.DataFrame(EXAMPLE, columns=list("abc"))
    model = make_pipeline(
        FunctionTransformer(lambda f: np.c_[f.assign(one=1), np.vander(f["a"], 3)]),
        StandardScaler(),
    )
    assert_same(model, tmp_path, frame, pd.DataFrame(FRESH, columns=list("abc")))


OF_VECTORS = {
    "of a frame": (lambda s: np.log1p(s.abs()).to_frame(), "a"),
    "by its place": (lambda s: pd.DataFrame({"s": np.sin(s), "c": np.cos(s)}), 2),
    "with gaps": (lambda s: s.fillna(0).to_frame(), "whole"),
    "of an array": (lambda s: np.column_stack([np.sin(s), s > 0]), 1),
}


@pytest.mark.parametrize("name", OF_VECTORS)
def test_functions_of_the_one_column_that_a_part_is_given(name, tmp_path):
    body, column = OF_VECTORS[name]
    example = pd.DataFrame(EXAMPLE, columns=list("abc"))
    example["whole"] = pd.Series(np.arange(len(example)) % 5).astype("Int64")
    if name == "of an array":
        example = EXAMPLE
    columns = make_column_transformer((FunctionTransformer(body), column), ("passthrough", [0]))
    model = make_pipeline(columns, DecisionTreeRegressor(random_state=0))
    model.fit(example, np.arange(len(example)) % 7)
    _, package = saved(model, example, tmp_path)
    np.testing.assert_array_equal(package.predict(example), model.predict(example))


INSTALLED = """
import time
import numpy as np

COUNT = 0

def chosen(x): return np.where(np.asarray(x) > 1234.5, 1.0, x)

def aged(x): return x - time.time()

def counted(x):
    global COUNT
    COUNT += 1
    return x
"""


def test_functions_of_a_package_that_is_installed_are_the_users(tmp_path, monkeypatch):
    place = tmp_path / "site-packages"
    place.mkdir()
    (place / "features_of_ours.py").write_text(INSTALLED)
    monkeypatch.syspath_prepend(place)
    ours = importlib.import_module("features_of_ours")
    fresh = np.nextafter(1234.5, [[np.inf, 0, -np.inf]])
    assert_same(FunctionTransformer(ours.chosen), tmp_path, fresh=fresh)
    for function, reason in ((ours.aged, "time.time, which"), (ours.counted, "a global name")):
        with pytest.raises(ConversionError, match=reason):
            opened(FunctionTransformer(function).fit(EXAMPLE), EXAMPLE, tmp_path)


def test_what_a_function_writes_into_holds_no_stand_in_afterwards(tmp_path):
    seen = {"rows": [], "of": {}}

    def noted(x):
        seen["rows"].append(x)
        seen["of"]["last"] = x
        return np.abs(x)

    assert_same(FunctionTransformer(noted), tmp_path)
    assert {type(rows) for rows in [*seen["rows"], seen["of"]["last"]]} == {np.ndarray}


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16"])
def test_a_column_by_its_name_is_one_without_a_frame(dtype, tmp_path):
    frame = pd.DataFrame({"a": RNG.integers(1, 9, 90), "b": RNG.normal(size=90)}, range(7, 97))
    model = ColumnTransformer(
        [
            ("root", FunctionTransformer(lambda a: np.sqrt(a).to_frame()), "a"),
            ("is above", FunctionTransformer(lambda a: a.gt(3).to_frame() * 1.5), "a"),
        ]
    )
    example = frame.astype({"a": dtype})
    answer = opened(model.fit(example), example, tmp_path).predict(example)
    np.testing.assert_allclose(answer, model.transform(example), rtol=1e-6)
