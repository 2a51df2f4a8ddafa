"""Units for the tests of drift: shares that are drawn, and the evidence on them."""

from types import SimpleNamespace

import numpy as np

from helpers.flights import DAYS, rows_of
from modelkit.drift.alpha import unit_sequence
from modelkit.drift.cells import CELLS
from modelkit.drift.unit_ranks import UnitBag
from modelkit.drift.units import FULL_SHARE, ReferenceUnits, group_table, shares_of

PARTS = {"changed": 2 / 3, "material": 1 / 3}  # of alpha


def some_units(rng, n, d=2, spread=20.0):
    """Shares of n units that differ from each other, uint16 (n, d, 16)."""
    law = rng.dirichlet(np.full(16, spread), (n, d))
    return np.rint(law * FULL_SHARE).astype(np.uint16)


def kept(shares, strata=None):
    member = np.zeros(len(shares), np.int64) if strata is None else np.asarray(strata)
    return ReferenceUnits(shares, member, len(shares))


GROUP_OF_CELL = np.arange(CELLS) * 16 // CELLS
GROUPED = SimpleNamespace(groups=GROUP_OF_CELL)


class Judge:
    """Whole units that are ranked and bet on, known by their shares alone."""

    def __init__(self, reference, strata, levels, tolerances, guarantee, seed):
        d = len(tolerances)
        self.bag = UnitBag(reference, strata, [GROUPED] * d, tolerances, seed)
        self.sequence = unit_sequence(self.bag, levels, guarantee)
        self.crossed = []

    def judge(self, shares, stratum):
        """The slots of its p-values for "changed", (d, 3); -1 where it has none."""
        counts = np.zeros((len(shares), CELLS), np.int64)
        counts[:, np.searchsorted(GROUP_OF_CELL, np.arange(16))] = shares
        ranked = self.bag.rank(counts, shares, stratum, self.sequence.blocks)
        self.sequence.take(ranked)
        self.crossed = self.sequence.settle()
        slots = ranked.slots["changed"].reshape(len(shares), 3, -1)
        return np.where(slots.any(axis=2), slots.argmax(axis=2), -1)


def evidence(shares, alpha=0.05, seed=0, strata=None, guarantee="ever"):
    d = shares.shape[1]
    return Judge(
        kept(shares, strata),
        1 if strata is None else int(max(strata)) + 1,
        {kind: np.full(d, alpha * part / d) for kind, part in PARTS.items()},
        np.full(d, 0.03),
        guarantee,
        np.random.SeedSequence(seed),
    )


def shares_of_days(profile, rows, day):
    cells = np.stack([f.cells(column_of(f, rows)) for f in profile.features])
    table = group_table(profile.features)
    counts = np.zeros((DAYS, len(cells), CELLS), np.int64)
    for j, own in enumerate(cells):
        counts[:, j] = np.bincount(day * CELLS + own, minlength=DAYS * CELLS).reshape(DAYS, CELLS)
    return np.array([shares_of(each, table) for each in counts])


def column_of(feature, rows):
    return rows[feature.name].to_numpy(object if feature.kind == "category" else None)


def later(days, change=lambda rows: rows):
    return change(rows_of(days))


def batches(rng, n, shift=0.0):
    return [{"x": rng.normal(rng.normal(shift), 1, 200)} for _ in range(n)]


def units_of(rng, units, rows, first=0):
    names = np.repeat(np.arange(first, first + units), rows)
    return {"x": rng.normal(size=units * rows), "u": names}
