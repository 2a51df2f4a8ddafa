"""What InputChecks cost, how many usual rows they flag, and after how many questions they see an attack.

.venv-bench-robustness/bin/python -m benchmarks.robustness.checks
"""

from __future__ import annotations

import logging
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from benchmarks.common.measure import command, table
from benchmarks.robustness.data import halves
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modelkit as mk

LIBRARIES = ("numpy", "scikit-learn", "adversarial-robustness-toolbox")
ATTACKED = 20  # rows of each data set
WRONG = 1000.0  # the factor of a wrong unit


def models(make=lambda: HistGradientBoostingClassifier(random_state=0)):
    logging.getLogger("modelkit").setLevel(logging.ERROR)
    for name, (X, y), (X_test, y_test) in halves():
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.mk"
            fitted = make().fit(X, y)
            usual = len(X_test) // 2  # the reference; the other half is what is served
            profile = mk.Profile.fit(X)
            mk.save(fitted, path, example=X[:200], profile=profile)
            with mk.load(path, threads=1) as model:
                yield (
                    name,
                    model,
                    X_test[:usual],
                    X_test[usual:].reset_index(drop=True),
                    y_test[usual:],
                )


def turns(calls, count, rounds=15):
    """The least seconds of this process that a call takes, in turns of `count`: others on the machine do not count."""
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            start = time.process_time()
            for _ in range(count):
                call()
            times[name].append((time.process_time() - start) / count)
    return {name: min(values) for name, values in times.items()}


def cost() -> str:
    """What InputChecks add to a call, by its rows: us of this process, the bare call in brackets (least of 15 turns)"""
    rows = []
    for kind, make in (
        ("boosting", lambda: HistGradientBoostingClassifier(random_state=0)),
        ("linear", lambda: make_pipeline(StandardScaler(), LogisticRegression())),
    ):
        for name, model, usual, served, _ in models(make):
            checked = mk.InputChecks(model, usual, rate=0.02)
            cells = []
            for size in (1, 64, 10_000):
                frame = served.iloc[np.resize(np.arange(len(served)), size)]
                # Rows that differ: those that were sent before cost less.
                frame = frame * (1 + np.random.default_rng(0).normal(size=frame.shape) / 100)
                X = frame.to_numpy(model.signature.inputs[0].dtype)
                calls = {"bare": partial(model.predict, X), "checked": partial(checked.predict, X)}
                times = turns(calls, max(1, 1000 // size))
                bare, both = (times[each] * 1e6 for each in ("bare", "checked"))
                cells.append(f"{both - bare:,.0f} ({bare:,.0f})")
            rows.append([kind, name, str(served.shape[1]), *cells])
    return table("model | data set | columns | 1 row: added (bare) | 64 rows | 10,000 rows", rows)


def flags() -> str:
    """Held-out rows that are flagged; and rows with one number times 1,000, or 10, that the check of ranges flags"""
    rows = []
    for name, model, usual, served, _ in models():
        for kind, given in (("rows", usual), ("Profile", None)):
            cells = [name, kind, f"{len(given if given is not None else served):,}"]
            checked = mk.InputChecks(model, given, rate=0.02)
            checked.predict(served)
            cells += [
                f"{checked.counts[check] / len(served):.2%}"
                for check in ("range", "novelty", "probing")
            ]
            rng = np.random.default_rng(0)
            for factor in (WRONG, 10.0):
                wrong = served.to_numpy().copy()
                places = np.arange(len(wrong)), rng.integers(0, wrong.shape[1], len(wrong))
                wrong[places] *= factor
                changed = (wrong != served.to_numpy()).any(axis=1)
                before = checked.counts["range"], checked.counts["novelty"]
                checked.predict(wrong[changed].astype(model.signature.inputs[0].dtype))
                found = [
                    checked.counts[c] - b for c, b in zip(("range", "novelty"), before, strict=True)
                ]
                cells += [f"{count / changed.sum():.0%}" for count in found]
            rows.append(cells)
    return table(
        "data set | reference | its rows | range | novelty | probing | x1,000: range | novelty | x10: range | novelty",
        rows,
    )


class Asked:
    """The questions of one attack to a checked model, a row a call, and when the first was flagged."""

    def __init__(self, checked: mk.InputChecks, key: str) -> None:
        self.checked, self.key, self.dtype = checked, key, checked.signature.inputs[0].dtype
        self.count, self.first = 0, dict.fromkeys(("probing", "novelty"))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        answers = []
        for row in rows:
            before = dict(self.checked.counts)
            answers.append(
                self.checked.predict_proba(row[None].astype(self.dtype), key=self.key)[0]
            )
            self.count += 1
            for check, first in self.first.items():
                if first is None and self.checked.counts[check] > before[check]:
                    self.first[check] = self.count
        return np.array(answers)


def greedy(ask: Asked, row: np.ndarray, usual: np.ndarray) -> bool:
    """Up to three columns, each with sixteen values within half a spread; ends at the first other answer."""
    label = ask(row[None])[0].argmax()
    spread = np.abs(usual - np.median(usual, axis=0)).mean(axis=0)
    for _ in range(3):
        tried = np.repeat(row[None], 16 * len(row), axis=0)
        for j in range(len(row)):
            tried[16 * j : 16 * (j + 1), j] += np.linspace(-0.5, 0.5, 16) * spread[j]
        best = None
        for one in tried:
            answer = ask(one[None])[0]
            if answer.argmax() != label:
                return True
            if best is None or answer[label] < best[0]:
                best = answer[label], one
        row = best[1]
    return False


def hopskipjump(ask: Asked, row: np.ndarray, usual: np.ndarray) -> bool:
    """ART's, with ten rounds."""
    from art.attacks.evasion import HopSkipJump
    from art.estimators.classification import BlackBoxClassifier

    low, high = usual.min(axis=0), usual.max(axis=0)
    ends = (low, np.maximum(high, low + 1e-6))
    classifier = BlackBoxClassifier(ask, row.shape, 2, clip_values=ends)
    attack = HopSkipJump(classifier, max_iter=10, max_eval=200, init_eval=20, verbose=False)
    np.random.seed(0)  # noqa: NPY002 - ART draws from it
    found = attack.generate(row[None].astype(np.float32))
    return bool(ask(found).argmax() != ask(row[None]).argmax())


def attacks() -> str:
    """Attacks on rows one by one, each by a client of its own that sends nothing else"""
    rows = []
    for name, model, usual, served, _ in models():
        for attack in (greedy, hopskipjump):
            checked = mk.InputChecks(model, usual, rate=0.02, window=1e9)
            asked, turned = [], 0
            for at in range(ATTACKED):
                asked.append(Asked(checked, f"client {at}"))
                turned += attack(asked[-1], served.to_numpy()[at], usual.to_numpy())
            questions = f"{np.median([one.count for one in asked]):.0f}"
            cells = [name, attack.__name__, f"{turned} of {ATTACKED}", questions]
            for check in ("probing", "novelty"):
                seen = [one.first[check] for one in asked if one.first[check] is not None]
                cells += [f"{len(seen)} of {ATTACKED}", f"{np.median(seen):.0f}" if seen else ""]
            rows.append(cells)
            print(*rows[-1], sep=" | ", flush=True)
    return table(
        "data set | attack | turned | questions, median | probing flags | after, median | novelty flags | after",
        rows,
    )


SECTIONS = {"cost": cost, "flags": flags, "attacks": attacks}


if __name__ == "__main__":
    command(__doc__, SECTIONS, LIBRARIES, "input_checks")
