"""Rows of one call have no order unless the caller says so: sorted tables raise no alarm, changes still do."""

import numpy as np
import pytest
from helpers.streams import fit_profile, mixed, rng, scored, still

import modelkit as mk
from modelkit.drift.intake import SAMPLE_ROWS
from modelkit.drift.order import Shuffle
from modelkit.errors import UsageError

SIGNATURE = mk.Signature(
    inputs=[mk.TensorSpec("X", "float32", ("batch", 1), columns=(mk.Column("x", "float32"),))],
    outputs=[mk.TensorSpec("prediction", "float32", ("batch",))],
)


def test_labels_that_come_sorted_raise_no_alarm():
    r = rng(44)
    rows = {"x": r.normal(size=3000)}
    losses = (r.random(3000) < 0.2).astype(float)
    profile = mk.Profile.fit({"x": r.normal(size=500)}, reference=rows, losses=losses)
    later = np.sort((r.random(2000) < 0.2).astype(float))[::-1]
    assert mk.Detector(profile).update_labels(losses=later) == []
    assert mk.Detector(profile).update_labels(losses=later, order="time") != []


def test_a_change_is_found_in_either_order():
    r = rng(45)
    profile = mk.Profile.fit({"x": r.normal(size=2000)}, reference={"x": r.normal(size=5000)})
    for order in ("any", "time"):
        detector = mk.Detector(profile)
        assert detector.update({"x": r.normal(size=1000)}, order=order) == []
        alarms = detector.update({"x": r.normal(0.5, 1, 1000)}, order=order)
        assert {alarm.kind for alarm in alarms} >= {"changed"}


def test_an_order_that_is_not_known_is_refused_and_nothing_is_taken():
    profile = mk.Profile.fit({"x": rng(46).normal(size=200)})
    detector = mk.Detector(profile)
    for wrong in ("sorted", None, 1):
        with pytest.raises(UsageError, match='order is "any"'):
            detector.update({"x": [1.0, 2.0]}, order=wrong)
        with pytest.raises(UsageError, match='order is "any"'):
            detector.update_labels(losses=[1.0], order=wrong)
    assert detector.rows == 0


def test_a_random_order_goes_on_bit_for_bit_from_a_state():
    profile = fit_profile()  # with strata, strides, an embedding and losses
    whole, resumed = (mk.Detector(profile, seed=3, clock=still) for _ in range(2))
    for step in range(4):
        for n in (1, 57, 300):
            rows, scores = mixed(n, step), scored(n, step)
            for detector in (whole, resumed):
                detector.update(rows, scores=scores)
                detector.update_labels(losses=np.linspace(0, 1, n))
            resumed = mk.Detector.resume(profile, resumed.state(), clock=still)
    assert whole.state() == resumed.state()
    other = mk.Detector(profile, seed=4)
    other.update(mixed(300, 1), scores=scored(300, 1))
    again = mk.Detector(profile, seed=3)
    again.update(mixed(300, 1), scores=scored(300, 1))
    assert other.state() != again.state()


def test_calls_shuffle_their_own_rows_and_draw_together_what_they_draw_one_by_one():
    sizes = [1, 5, 0, 2, 1, 64, 1]
    seed = np.random.SeedSequence(7)
    together = Shuffle(seed).within(sizes)
    one_by_one, starts = Shuffle(seed), np.cumsum([0, *sizes])
    for size, start in zip(sizes, starts, strict=False):
        own = one_by_one.within([size])
        own = np.arange(size) if own is None else own
        assert (together[start : start + size] == start + own).all()
        assert sorted(own) == list(range(size))
    assert Shuffle(seed).within([1] * 256) is None


def test_every_order_of_three_rows_is_as_likely():
    shuffle = Shuffle(np.random.SeedSequence(8))
    orders = [tuple(shuffle.within([3])) for _ in range(6000)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert min(counts) > 850


# Under a Monitor.


def model():
    return mk.FunctionModel(lambda feeds: {"prediction": feeds["X"][:, 0]}, SIGNATURE)


def test_the_sample_of_a_large_call_is_random_and_of_different_rows():
    """The same 64 places of each call would never see what stands elsewhere."""
    profile = mk.Profile.fit({"x": rng(48).normal(size=500)})
    watched = mk.Monitor(model(), profile)
    seen = [watched._intake.sampled(1000) for _ in range(400)]
    assert all(len(set(chosen)) == SAMPLE_ROWS for chosen in seen)
    often = np.bincount(np.concatenate(seen), minlength=1000)
    assert len(often) == 1000
    assert 4 < often.min() < often.max() < 60  # 25.6 on average
