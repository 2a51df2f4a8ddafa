"""What follows an alarm: false alarms of labels and of new references, p-values of spans and segments.

python -m benchmarks.drift.after            half a minute a line on one core
python -m benchmarks.drift.after --runs .2  a fifth of the runs
"""

import argparse
import logging
import time
from collections.abc import Callable

import numpy as np
from scipy import stats

import modelkit as mk

Columns = dict[str, np.ndarray]
MIX = [0.5, 0.3, 0.2]
SHOPS = list("abcd")


def interval(found: int, runs: int) -> str:
    """A rate with its 95 % Clopper-Pearson interval."""
    low = stats.beta.ppf(0.025, found, runs - found + 1) if found else 0.0
    high = stats.beta.ppf(0.975, found + 1, runs - found) if found < runs else 1.0
    return f"{found} of {runs}: {found / runs:.1%} ({low:.1%} to {high:.1%})"


def normal(n: int, r: np.random.Generator, shift: float = 0.0) -> Columns:
    """One column without drift."""
    return {"x": r.normal(shift, 1, n)}


def labels_alarm(run: int) -> bool:
    """5,000 labels like the reference's 1,000 raise an alarm, at alpha .05."""
    r = np.random.default_rng([run, 5])
    labels = r.choice(3, 1000, p=MIX)
    profile = mk.Profile.fit(normal(60, r), reference=normal(1000, r), scores=labels, labels=labels)
    detector = mk.Detector(profile, alpha=0.05, seed=run, history=0)
    return bool(detector.update_labels(r.choice(3, 5000, p=MIX)))


def reference_alarm(run: int) -> bool:
    """After an alarm, rows like those of the new reference raise another one, at alpha .05."""
    r = np.random.default_rng([run, 6])
    before = mk.Profile.fit(normal(200, r), reference=normal(400, r))
    detector = mk.Detector(before, alpha=0.05, seed=run, history=0)
    while not detector.alarms:
        detector.update(normal(100, r, 0.8))
    known = len(detector.alarms)
    after = mk.Profile.fit(normal(200, r, 0.8), reference=normal(400, r, 0.8))
    detector.rebase(after, "moved")
    detector.update(normal(5000, r, 0.8))
    return len(detector.alarms) > known


def span_small(run: int) -> bool:
    """A span of 90 rows without drift has a p-value of at most .05 among its two columns."""
    r = np.random.default_rng([run, 7])

    def rows(n: int) -> Columns:
        return normal(n, r) | {"y": np.round(r.normal(size=n) * 2)}

    detector = mk.Detector(mk.Profile.fit(rows(100), reference=rows(300)), seed=run)
    detector.update(rows(90))
    found = [drift.p_changed for drift in detector.history.report().features]
    return min(p for p in found if p is not None) <= 0.05


def segments_named(run: int) -> tuple[bool, bool]:
    """One of four segments changes: whether another is named at .1, and whether this one is."""
    r = np.random.default_rng([run, 8])

    def rows(n: int, moved: str = "") -> Columns:
        shop = r.choice(SHOPS, n, p=[0.4, 0.3, 0.2, 0.1])
        return {"price": r.normal(size=n) + 3 * (shop == moved), "shop": shop.astype(object)}

    profile = mk.Profile.fit(rows(300), reference=rows(1500), segments=["shop"])
    detector = mk.Detector(profile, alpha=0.1, seed=run, history=0)
    detector.update(rows(2500, "a"))
    named = {
        drift.segment
        for drift in detector.report().segments
        if drift.feature == "price" and drift.p is not None and drift.p <= 0.1
    }
    return bool(named - {"a"}), "a" in named


LINES: dict[str, tuple[Callable[[int], bool], int]] = {
    "labels that did not change, alarm at .05": (labels_alarm, 600),
    "rows like the new reference, alarm at .05": (reference_alarm, 300),
    "a span without drift, p <= .05": (span_small, 1000),
    "a segment that did not change, p <= .1": (lambda run: segments_named(run)[0], 100),
    "the segment that changed, p <= .1": (lambda run: segments_named(run)[1], 100),
}


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=float, default=1.0, help="a share of the runs")
    share = parser.parse_args().runs
    logging.disable(logging.WARNING)
    for name, (measure, most) in LINES.items():
        start = time.perf_counter()
        runs = max(int(most * share), 1)
        found = sum(map(measure, range(runs)))
        print(f"| {name} | {interval(found, runs)} | {time.perf_counter() - start:.0f} s |")


if __name__ == "__main__":
    main()
