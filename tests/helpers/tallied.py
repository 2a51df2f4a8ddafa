"""A profile of streets, and rows beside it whose tally is known."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

import modelkit as mk
from modelkit.drift import codec
from modelkit.drift.counts import TALLY_SCHEMA


def rows_of(n, seed):
    r = np.random.default_rng(seed)
    return pd.DataFrame({"x": r.normal(size=n), "city": r.choice(["Oslo", "Lom"], n)})


def answers(n, seed):
    p = np.random.default_rng(seed).beta(2, 5, n)
    return {"probabilities": np.column_stack([1 - p, p])}


@dataclass(frozen=True)
class Past:
    """A profile, rows beside it, and their tally."""

    profile: mk.Profile
    rows: pd.DataFrame
    scores: dict[str, np.ndarray]
    tally: mk.types.Tally

    def forged(self, groups, counts):
        about = {"profile": self.profile.digest, "groups": groups}
        return mk.types.Tally.from_bytes(codec.pack(TALLY_SCHEMA, about, {"counts": counts}))


def make_past():
    profile = mk.Profile.fit(rows_of(1500, 0), reference=rows_of(1500, 1), scores=answers(1500, 2))
    rows = rows_of(400, 3)
    scores = answers(400, 4)
    return Past(profile, rows, scores, profile.tally(rows, scores))
