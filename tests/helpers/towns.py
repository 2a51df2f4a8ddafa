"""A frame of every kind of column that is encoded, and packages that answer for it as their source."""

import warnings

import numpy as np
import pandas as pd
import pytest

from helpers.packages import opened
from modelkit.errors import SignatureError

NAN = np.nan
TOWNS = ["Graz", "Linz", "Wien", "nan", "None", ""]
CODED = {"handle_unknown": "use_encoded_value"}
MIXED = ["town", "kind", "size", "count", "some", "old", "single", "few"]


def towns(n, seed):
    """A column of each kind that is encoded; all but three have gaps."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "town": rng.choice(TOWNS, n, p=[0.4, 0.3, 0.2, 0.05, 0.03, 0.02]),
            "kind": rng.choice(list("abc"), n),
            "size": pd.Categorical(rng.choice(list("xyz"), n, p=[0.7, 0.2, 0.1])),
            "count": rng.integers(-1, 4, n),
            "some": np.round(rng.normal(size=n) * 2) / 10,
            "old": rng.random(n) < 0.3,
            "single": (np.round(rng.normal(size=n) * 3) / 10).astype(np.float32),
            "few": pd.array(rng.integers(0, 3, n), "Int64"),
            "free": rng.normal(size=n),
        }
    )
    for name in ("town", "size", "some", "single", "few"):
        gone = rng.random(n) < 0.1
        frame.loc[gone, name] = pd.NA if name == "few" else NAN
    return frame


def target(frame):
    return (frame["free"] + (frame["count"] > 0) + (frame["town"] == "Graz") > 1).astype(int)


def asked(fitted, rows):
    verb = "predict_proba" if hasattr(fitted, "predict_proba") else "transform"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = getattr(fitted, verb)(rows.copy())
    return answer.toarray() if hasattr(answer, "toarray") else np.asarray(answer, np.float64)


def agree(fitted, example, others, tmp_path, rtol=1e-12):
    """Source and package answer the same, or the package refuses what the source refuses."""
    model = opened(fitted, example, tmp_path)
    last = getattr(model, "predict_proba" if hasattr(fitted, "predict_proba") else "predict")
    for rows in (example, *others):
        try:
            wanted = asked(fitted, rows)
        except ValueError:
            with pytest.raises(SignatureError):
                last(rows)
            continue
        np.testing.assert_allclose(last(rows), wanted, rtol=rtol, atol=1e-14)
    return model


def agree_on_towns(fitted, example, tmp_path):
    fresh = towns(700, 2)[list(example.columns)]
    unknown = fresh.assign(**{name: "elsewhere" for name in ("town", "kind") if name in fresh})
    unknown = unknown.assign(**{name: 77 for name in ("count", "some") if name in fresh})
    return agree(fitted, example, (fresh, fresh[:1], unknown), tmp_path)
