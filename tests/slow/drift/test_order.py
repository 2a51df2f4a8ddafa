"""How rarely sorted tables raise an alarm, in simulation."""

import numpy as np
from helpers.streams import ar, at_most, rng, two_columns

import modelkit as mk

ALPHA = 0.05
SIGNATURE = mk.Signature(
    inputs=[mk.TensorSpec("X", "float32", ("batch", 1), columns=(mk.Column("x", "float32"),))],
    outputs=[mk.TensorSpec("prediction", "float32", ("batch",))],
)


def by_one(rows):
    at = np.argsort(rows["b"], kind="stable")
    return {name: values[at] for name, values in rows.items()}


def sorted_runs(runs, **options):
    """In how many runs without drift sorted batches raise an alarm."""
    count = 0
    for run in range(runs):
        r = rng(run, 41)
        profile = mk.Profile.fit(two_columns(500, r), reference=two_columns(1000, r))
        detector = mk.Detector(profile, alpha=ALPHA, seed=run)
        for _ in range(4):
            detector.update(by_one(two_columns(500, r)), **options)
        count += bool(detector.alarms)
    return count


def test_sorted_batches_raise_no_alarm_without_drift():
    assert at_most(sorted_runs(60), 60, ALPHA)
    assert sorted_runs(5, order="time") == 5  # what the random order is for


def test_sorted_batches_within_strata_raise_no_alarm_without_drift():
    runs, count = 40, 0
    for run in range(runs):
        r = rng(run, 42)

        def draw(n, r=r):
            shop = r.integers(0, 3, n)
            return {"x": r.normal(shop * 2.0), "shop": shop}

        profile = mk.Profile.fit(draw(600), reference=draw(1200), stratum="shop")
        detector = mk.Detector(profile, alpha=ALPHA, seed=run)
        for _ in range(4):
            rows = draw(600)
            at = np.lexsort((rows["x"], rows["shop"]))
            detector.update({name: values[at] for name, values in rows.items()})
        count += bool(detector.alarms)
    assert at_most(count, runs, ALPHA), count


def test_dependent_rows_in_large_calls_are_thinned_in_their_order_and_then_shuffled():
    """Thinning rows that were shuffled before would keep neighbours."""
    runs, count = 40, 0
    for run in range(runs):
        r = rng(run, 43)
        train, held, served = ({"x": ar(n, 0.8, r)} for n in (2000, 6000, 4000))
        profile = mk.Profile.fit(train, reference=held, ordered=True)
        detector = mk.Detector(profile, seed=run)
        for start in range(0, 4000, 1000):
            detector.update({"x": served["x"][start : start + 1000]})
        count += bool(detector.alarms)
    assert at_most(count, runs, 0.01), count


def model():
    return mk.FunctionModel(lambda feeds: {"prediction": feeds["X"][:, 0]}, SIGNATURE)


def test_large_sorted_calls_of_a_monitor_raise_no_alarm():
    runs, count = 40, 0
    for run in range(runs):
        r = rng(run, 47)
        profile = mk.Profile.fit({"x": r.normal(size=500)}, reference={"x": r.normal(size=1000)})
        watched = mk.Monitor(model(), profile, alpha=ALPHA, seed=run, budget=1e9)
        for n in (500, 40, 500, 64, 500, 65, 500, 50, 500, 500, 500, 500):
            watched.predict(np.sort(r.normal(size=(n, 1)).astype(np.float32), axis=0))
        count += bool(watched.detector.alarms)
        assert watched.failures == 0, watched.last_failure
    assert at_most(count, runs, ALPHA), count
