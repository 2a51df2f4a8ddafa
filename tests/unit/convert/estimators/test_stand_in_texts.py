"""Functions of users over columns of texts."""

import numpy as np
import pandas as pd
import pytest
from helpers.examples import some
from helpers.packages import saved
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from modelkit.errors import ConversionError

RNG = np.random.default_rng(0)
ROWS = 160


def cities(rows):
    known = ["Ghent", "Sète", "Łódź", None]
    frame = pd.DataFrame(
        {
            "city": RNG.choice(known, rows),
            "kind": RNG.choice(["a", "b"], rows),
            "x": RNG.normal(size=rows),
        }
    )
    return frame.assign(at=pd.Timestamp("2026-01-01"))


OF_TEXTS = {
    "filled": lambda f: f[["city", "kind", "x"]].assign(city=f["city"].fillna("none")),
    "all filled": lambda f: f[["city", "kind"]].fillna(""),
    "equal": lambda f: f[["x"]].assign(
        a=f["city"] == "Ghent", b=f["city"] != f["kind"], c=f["kind"].isin(["a", "z"])
    ),
    "mapped": lambda f: f[["x"]].assign(
        n=f["city"].map({"Ghent": 1, "Sète": 2.5}).fillna(-1), gap=f["city"].isna()
    ),
    "mapped to texts": lambda f: f[["x"]].assign(
        city=f["city"].map({"Ghent": "BE", "Sète": "FR"}).fillna("other")
    ),
    "replaced": lambda f: f[["x"]].assign(kind=f["kind"].replace({"a": "z"})),
    "chosen": lambda f: np.where(f["kind"] == "a", f["x"], 0.0).reshape(-1, 1),
}


@pytest.mark.parametrize("dtype", [object, "str"])
@some("name", OF_TEXTS, 3)
def test_functions_of_texts(name, dtype, tmp_path):
    rows = cities(ROWS).astype({"city": dtype, "kind": dtype})
    encoded = make_column_transformer(
        (
            OneHotEncoder(handle_unknown="ignore"),
            make_column_selector(dtype_exclude=["number", "bool", "datetime"]),
        ),
        remainder="passthrough",
    )
    steps = [FunctionTransformer(OF_TEXTS[name])]
    if isinstance(steps[0].transform(rows), pd.DataFrame):
        steps.append(encoded)
    model = make_pipeline(*steps, LinearRegression()).fit(rows, RNG.normal(size=ROWS))
    _, package = saved(model, rows, tmp_path)
    fresh = cities(300).astype({"city": dtype, "kind": dtype})
    fresh.loc[::7, "city"] = "Nowhere"
    np.testing.assert_allclose(package.predict(fresh), model.predict(fresh), rtol=1e-9, atol=1e-12)
    assert "at" in package.signature.ignored


def test_letters_are_refused_with_what_to_do(tmp_path):
    upper = make_pipeline(
        FunctionTransformer(lambda f: f[["kind"]].apply(lambda s: s.str.upper())), OneHotEncoder()
    )
    with pytest.raises(ConversionError, match=r"str\.upper: do it before fit"):
        saved(upper.fit(cities(ROWS)), cities(ROWS), tmp_path)
