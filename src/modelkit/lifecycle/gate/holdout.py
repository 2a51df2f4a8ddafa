"""How often the labelled rows of a gate were used, and which part of alpha each use has."""

from __future__ import annotations

from modelkit.store.sequence import Sequence
from modelkit.store.subfolder import Subfolder


def counted_use(folder: Subfolder, gate: str) -> int:
    """Which use of a hold-out a gate is, from 1; the same gate again is the same use.

    Args:
        folder: of the hold-out.
        gate: the digest of both models and of what was asked.
    """
    return Sequence(folder, "uses").append(gate.encode())


def share_of_alpha(alpha: float, use: int) -> float:
    """The part of alpha that a use of a hold-out has: alpha / (k (k + 1)).

    The parts of all uses add up to alpha, however many there are: the sum to k is alpha k / (k + 1).
    So the probability that any candidate, of as many as one likes, is promoted falsely is at most
    alpha (Bonferroni). 0 uses are not counted, and have all of it.
    """
    return alpha / (use * (use + 1)) if use else alpha
