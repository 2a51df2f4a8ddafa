"""A frame with a column of every kind that people have."""

import numpy as np
import pandas as pd

N = 200


def mixed_frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": np.arange(N),
            "when": pd.date_range("2024-01-01", periods=N),
            "a": rng.normal(size=N),
            "cat": rng.choice(["x", "y", None], N),
            "span": pd.interval_range(0, N),
            "b": rng.normal(size=N),
            "thing": [object()] * N,
            "wait": pd.Timedelta("1s"),
            "text": rng.choice(["good film", "bad film", "so so"], N),
            "month": pd.period_range("2020", periods=N),
            "gaps": pd.array([1, None] * (N // 2), "Int64"),
            "kind": pd.Categorical(["u", "v"] * (N // 2)),
        }
    )


def customers(count=200):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "contract": rng.choice(["month", "year", "two years"], count),
            "partner": rng.choice(["yes", "no"], count),
            "months": rng.integers(0, 72, count),
        }
    )
    paid = 20.0 + 3.0 * frame["months"] + rng.normal(size=count)
    return frame, paid
