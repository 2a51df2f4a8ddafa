"""FunctionTransformer: functions of arrays, by what they compute."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from helpers.packages import saved
from scipy.special import expit, logit
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from modelkit.convert.estimators import elementary
from modelkit.errors import ConversionError

NAMES = (
    "abs arcsinh arctanh cbrt ceil cos cosh degrees exp exp2 expm1 floor isfinite isinf isnan log log10 log1p log2 "
    "nan_to_num negative radians reciprocal rint round sign sin sinh sqrt square tanh trunc"
)
RNG = np.random.default_rng(0)
EXAMPLE = RNG.normal(size=(200, 3))
FRESH = np.concatenate([RNG.normal(size=(100, 3)) * 3, np.rint(RNG.normal(size=(20, 3)))])


def by_api(x):
    xp = x.__array_namespace__()
    return xp.log1p(xp.abs(x))


def assigned(x):
    x = x.copy()
    x[x < 0] = 0
    return x


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
    "clipped logit": lambda x: logit(np.clip(expit(x), 0.01, 0.99)),
}
BY_NDONNX = {"by the array API": by_api, "written into": assigned}


def served(model, example, tmp_path):
    """A model as an application has it."""
    return saved(model, example, tmp_path)[1]


def assert_same(model, tmp_path, example=EXAMPLE, fresh=FRESH):
    package = served(model.fit(example), example, tmp_path)
    with np.errstate(all="ignore"):
        truth = np.asarray(model.transform(fresh), float)
    np.testing.assert_allclose(package.predict(fresh), truth, rtol=2e-14, atol=1e-15)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the function itself, out of its domain
@pytest.mark.parametrize("name", NAMES.split())
def test_functions_of_numpy(name, tmp_path):
    shift = 3.0 if name in ("log", "log2", "log10", "sqrt") else 0.0
    example = expit(EXAMPLE) * 0.9 if name == "arctanh" else EXAMPLE + shift
    assert_same(FunctionTransformer(getattr(np, name)), tmp_path, np.abs(example), np.abs(FRESH))


@pytest.mark.parametrize("name", WRITTEN)
def test_functions_of_ones_own(name, tmp_path):
    assert_same(FunctionTransformer(WRITTEN[name]), tmp_path)


@pytest.mark.parametrize("name", BY_NDONNX)
def test_functions_that_ndonnx_follows(name, tmp_path):
    pytest.importorskip("ndonnx")
    assert_same(FunctionTransformer(BY_NDONNX[name]), tmp_path)


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
    package = served(model, frame[:160], tmp_path)
    fresh = frame[160:]
    answer = package.run(fresh)
    np.testing.assert_array_equal(answer["label"], model.predict(fresh))
    np.testing.assert_allclose(
        answer["probabilities"], model.predict_proba(fresh), rtol=1e-12, atol=1e-15
    )


def test_tangents(tmp_path):
    """Next to a pole the last bit of a cosine is worth more."""
    package = served(FunctionTransformer(np.tan), EXAMPLE, tmp_path)
    np.testing.assert_allclose(package.predict(FRESH), np.tan(FRESH), rtol=1e-12)


REFUSED = {
    "a branch": (lambda x: x if x[0, 0] > 0 else -x, "some of the rows"),
    "all rows": (lambda x: x - x.mean(axis=0), "numbers of all rows together"),
    "a vector": (lambda x: x[:, 0], "add reshape"),
    "no operator": (np.arctan, "it uses numpy.arctan; write it"),
    "chance": (lambda x: x + np.random.default_rng().normal(), "gives other numbers than"),
    "rows counted": (lambda x: np.ones((len(x), 1)), "the number of rows"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_functions_that_cannot_be_followed_say_why(name, tmp_path):
    written, reason = REFUSED[name]
    with pytest.raises(ConversionError, match=reason) as caught:
        served(FunctionTransformer(written).fit(EXAMPLE), EXAMPLE, tmp_path)
    assert caught.value.step == "FunctionTransformer"


def in_place(frame):
    frame = frame.copy()
    frame["ratio"] = frame["a"] / frame.b
    frame["a"] = np.log1p(frame["a"].clip(lower=0))
    frame["one"] = 1
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
    "of numpy": np.tanh,
}


@pytest.mark.parametrize("name", OF_FRAMES)
def test_functions_of_frames(name, tmp_path):
    example = pd.DataFrame(EXAMPLE, columns=list("abc"))
    fresh = pd.DataFrame(FRESH, columns=list("abc"))
    assert_same(FunctionTransformer(OF_FRAMES[name]), tmp_path, example, fresh)


REFUSED_FRAMES = {
    "rows": (lambda f: f[f["a"] > 0], "some of the rows"),
    "aligned": (lambda f: f / f["a"], "together with one of its columns"),
    "skipped gaps": (lambda f: f.sum(axis=1).to_frame(), "other numbers"),
    "each row": (lambda f: f.apply(lambda row: row, axis=1), "applied to each row"),
    "unknown": (lambda f: f.rank(), "the attribute 'rank'"),
}


@pytest.mark.parametrize("name", REFUSED_FRAMES)
def test_functions_of_frames_that_cannot_be_followed_say_why(name, tmp_path):
    written, reason = REFUSED_FRAMES[name]
    frame = pd.DataFrame(EXAMPLE, columns=list("abc"))
    with pytest.raises(ConversionError, match=reason):
        served(FunctionTransformer(written).fit(frame), frame, tmp_path)


def test_texts_are_refused(tmp_path):
    frame = pd.DataFrame({"a": ["x", "y"] * 30})
    upper = make_pipeline(FunctionTransformer(lambda x: x.replace("x", "z")), OneHotEncoder())
    with pytest.raises(ConversionError, match="columns of strings"):
        served(upper.fit(frame), frame, tmp_path)


def test_what_was_written_down_is_tried_on_numbers(monkeypatch, tmp_path):
    """A wrong table would be found out before any package is written."""
    monkeypatch.setitem(elementary.UNARY, "sin", elementary.UNARY["cos"])
    with pytest.raises(ConversionError, match="other numbers than the function itself"):
        served(FunctionTransformer(np.sin).fit(EXAMPLE), EXAMPLE, tmp_path)
