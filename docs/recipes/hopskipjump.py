"""HopSkipJump by ART (Chen, Jordan and Wainwright 2020) as an attack of `mk.robustness`.

Needs `pip install adversarial-robustness-toolbox`.

    report = mk.robustness(model, X, y, attacks=[greedy, hopskipjump])

ART moves the numbers of one row at a time, in spreads; each question is projected on the constraints before the model
sees it. Its starting points are ours, so that a seed gives the same figures again: ART draws its own unseeded.
"""

import numpy as np
from art.attacks.evasion import HopSkipJump
from art.estimators.classification import BlackBoxClassifier

from modelkit.lifecycle.robustness.trial import take

STARTS = 100  # draws in the box, half of them at its corners


def hopskipjump(trial, places, seed, rounds=5):
    """HopSkipJump by ART on the numbers of a row, projected on the constraints."""
    limits = trial.constraints
    numbers = [c for c in trial.cells if c.spread and c.name not in limits.immutable]
    rows, queries = take(trial.rows, places), 0
    rng = np.random.default_rng(seed)
    state = np.random.get_state()  # noqa: NPY002 - ART draws from numpy's global state
    np.random.seed(seed)  # noqa: NPY002
    try:
        for at, place in enumerate(places):
            row = _Row(trial, numbers, place)
            starts = rng.uniform(-1, 1, (STARTS, len(numbers)))
            starts[::2] = np.sign(starts[::2])
            hit = np.flatnonzero(row.predict(starts * limits.step)[:, 1])
            if len(hit):
                classifier = BlackBoxClassifier(
                    row.predict, (len(numbers),), 2, clip_values=(-limits.step, limits.step)
                )
                attack = HopSkipJump(
                    classifier, norm=np.inf, max_iter=rounds, max_eval=500, verbose=False
                )
                start = (starts[hit[:1]] * limits.step).astype(np.float32)
                found = attack.generate(np.zeros_like(start), x_adv_init=start)
                if not row.predict(found)[0, 1]:
                    found = start
                for name, values in row.moved(found).items():
                    rows[name][at] = values[0]
            queries += row.queries
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return rows, queries


class _Row:
    """One row, and what becomes of it when its numbers move by some spreads (m, d)."""

    def __init__(self, trial, numbers, place):
        self.trial, self.numbers, self.place = trial, numbers, place
        self.queries = 0

    def moved(self, spreads):
        """The row as many times, with at most as many changed columns as the constraints allow."""
        limits = self.trial.constraints
        spreads = np.clip(spreads, -limits.step, limits.step)
        least = np.abs(spreads).argsort(axis=1)[:, : -limits.most_columns]
        np.put_along_axis(spreads, least, 0, axis=1)
        rows = take(self.trial.rows, np.full(len(spreads), self.place))
        for cells, own in zip(self.numbers, spreads.T, strict=True):
            old = rows[cells.name]
            far = own * cells.spread
            far = far if cells.column.dtype.startswith("float") else np.trunc(far)
            rows[cells.name] = cells.fitted(
                np.clip(old + far, cells.known[0], cells.known[-1]), old
            )
        return rows

    def predict(self, spreads):
        """Two classes for ART: the decision as it was, and another one."""
        spreads = np.array(spreads, float)
        self.queries += len(spreads)
        places = np.full(len(spreads), self.place)
        flipped = self.trial.decide(self.moved(spreads), places)[1]
        return np.column_stack([~flipped, flipped]).astype(np.float32)
