"""Law 8. Every automatic decision has a stated error guarantee: the probability of ever raising a false one stays below alpha.

These are quick forms; simulations that would find a small excess are in `tests/slow/lifecycle/gate/`,
`tests/unit/drift/test_guarantees.py` and the benchmarks.
"""

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression

import modelkit as mk

ALPHA, STREAMS = 0.2, 40
# More false ones than this come in one run of a million, where the probability of each is ALPHA.
MOST = int(binom.isf(1e-6, STREAMS, ALPHA))


def test_a_detector_that_is_asked_after_every_batch_seldom_raises_a_false_alarm():
    rng = np.random.default_rng(0)
    false = 0
    for seed in range(STREAMS):
        train, reference = rng.normal(size=(2, 400, 2))
        columns = {"a": reference[:, 0], "b": reference[:, 1]}
        profile = mk.Profile.fit({"a": train[:, 0], "b": train[:, 1]}, reference=columns)
        detector = mk.Detector(profile, alpha=ALPHA, seed=seed, clock=lambda: 0.0)
        for _ in range(15):
            batch = rng.normal(size=(40, 2))
            detector.update(X={"a": batch[:, 0], "b": batch[:, 1]})
        false += bool(detector.alarms)
    assert false <= MOST


@pytest.fixture(scope="module")
def by_column(tmp_path_factory):
    """Packages of two models: one says whether column a is positive, the other whether column b is."""
    folder = tmp_path_factory.mktemp("gate")
    rows = np.random.default_rng(0).normal(size=(200, 2))
    for place, name in enumerate(("champion", "candidate")):
        fitted = LogisticRegression(C=1e6).fit(rows * [1 - place, place], rows[:, place] > 0)
        mk.save(fitted, folder / f"{name}.mk", example=rows, name=name, version="1")
    with mk.load(folder / "champion.mk") as champion, mk.load(folder / "candidate.mk") as candidate:
        yield champion, candidate


def test_a_gate_seldom_promotes_a_model_that_is_worse(by_column):
    """The candidate errs on as many rows more as the margin allows, from where on it is false to promote it."""
    champion, candidate = by_column
    rng = np.random.default_rng(1)
    promoted = 0
    for _ in range(STREAMS):
        y = rng.random(400) < 0.5
        answers = y[:, None] ^ (rng.random((400, 2)) < [0.1, 0.2])
        X = 5.0 * (2 * answers - 1)
        verdict = mk.gate(candidate, champion, X, y, margin=0.1, metric="accuracy", alpha=ALPHA)
        promoted += verdict.decision == "promote"
    assert promoted <= MOST


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_an_alarm_of_a_real_change_comes(shift):
    """A detector that never raises an alarm would keep the law too."""
    rng = np.random.default_rng(2)
    train, reference = rng.normal(size=(2, 400))
    profile = mk.Profile.fit({"a": train}, reference={"a": reference})
    detector = mk.Detector(profile, alpha=0.01, clock=lambda: 0.0)
    for _ in range(20):
        detector.update(X={"a": rng.normal(size=50) + shift})
    assert bool(detector.alarms) == bool(shift)
