"""Texts that are made up, to prove an encoder on."""

from __future__ import annotations

import numpy as np

# For texts of any length, to prove an encoder on, and for `verify` to replay.
EXAMPLE_WORDS = (
    "the of and river to model in a street number error is for that music with as on green was by "
    "table are engine from kitchen be this winter or an window at which request not were coffee "
    "return have has museum"
)


def made_up(count: int, tokens: int) -> list[str]:
    """Texts of one word to `tokens` / 2 words, at most 64, in no order; always the same."""
    rng = np.random.default_rng(0)
    longest = max(1, min(tokens // 2, 64))
    sizes = rng.permutation(np.geomspace(1, longest, count).astype(int))
    return [" ".join(rng.choice(EXAMPLE_WORDS.split(), size)) for size in sizes]
