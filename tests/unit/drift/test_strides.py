"""Strides: from a random row on, told of where they leave few rows, and each figure says how many it has."""

from contextlib import contextmanager

import numpy as np
import pytest
from helpers.streams import ar, rng

import modelkit as mk
from modelkit.drift.order import every
from modelkit.drift.values import Alarm


@contextmanager
def hearing(kind):
    heard = []
    unsubscribe = mk.events.subscribe(heard.append, kind)
    try:
        yield heard
    finally:
        unsubscribe()


@pytest.fixture(scope="module")
def sensor():
    """A reference of 3,000 rows, of which a stride leaves few for one of two columns."""
    r = rng(61)
    held = {"level": ar(3000, 0.9, r), "noise": r.normal(size=3000)}
    train = {"level": ar(500, 0.9, r), "noise": r.normal(size=500)}
    return train, held


def stride_of(profile, name):
    return next(feature.stride for feature in profile.features if feature.name == name)


@pytest.mark.parametrize(("stride", "n"), [(1, 10), (7, 100), (200, 684), (200, 150), (5, 0)])
def test_a_stride_begins_at_each_of_its_rows_as_often(stride, n):
    r = rng(62)
    firsts = [every(stride, n, r).start for _ in range(4000)]
    most = max(min(stride, n), 1)
    counts = np.bincount(firsts, minlength=most)
    assert len(counts) == most
    assert counts.max() <= 4000 / most + 6 * (4000 / most) ** 0.5
    assert len(np.arange(n)[every(stride, n, r)]) >= (n > 0)


def test_which_rows_of_the_reference_and_of_a_batch_count_depends_on_the_seed(sensor):
    train, held = sensor
    one, other, again = (
        mk.Profile.fit(train, reference=held, ordered=True, seed=seed) for seed in (1, 2, 1)
    )
    stride = stride_of(one, "level")
    assert stride > 10
    rows = one.counts[0].sum(axis=1)
    assert abs(rows[0] - 3000 / stride) <= 1
    assert rows[1] == 3000
    assert (one.counts[0, 0] != other.counts[0, 0]).any()
    assert one.digest == again.digest
    ramp = {"level": np.linspace(-3, 3, 10), "noise": np.zeros(10)}
    cells = set()
    for seed in range(8):
        shown = mk.Detector(one, seed=seed).test(ramp).features[0]
        cells |= {label for label, _, now in shown.cells if now}
        assert shown.rows == 1  # of a day shorter than its stride
    assert len(cells) > 3  # and not of its first row, every day


def test_a_batch_says_on_how_many_rows_each_figure_rests(sensor):
    train, held = sensor
    profile = mk.Profile.fit(train, reference=held, ordered=True)
    report = mk.Detector(profile, alpha=0.05).test(
        {"level": np.full(700, 9.0), "noise": rng(63).normal(3, 1, 700)}
    )
    left = int(profile.counts[0, 0].sum())
    stride = stride_of(profile, "level")
    figures = {drift.feature: drift for drift in report.features}
    assert figures["level"].compared == figures["level"].rows == pytest.approx(700 / stride, abs=1)
    assert figures["level"].reference_rows == left
    assert (figures["noise"].compared, figures["noise"].reference_rows) == (700, 3000)
    assert f"of {figures['level'].rows} rows against {left}" in str(report)
    assert f"of {figures['level'].rows} rows against {left}" in report.to_html()
    alarms = {alarm.feature: alarm for alarm in report.alarms}
    assert alarms["level"].rows == figures["level"].rows
    assert f"({alarms['level'].rows} rows looked at)" in str(alarms["level"])
    assert "from" not in str(alarms["noise"])


def test_a_stream_says_so_too(sensor):
    train, held = sensor
    profile = mk.Profile.fit(train, reference=held, ordered=True)
    detector = mk.Detector(profile)
    detector.update({"level": ar(4000, 0.9, rng(64)) + 4, "noise": rng(65).normal(size=4000)})
    level, noise = detector.report().features
    stride = stride_of(profile, "level")
    assert noise.compared == 4000
    assert level.compared == pytest.approx(4000 / stride, abs=1)
    assert f"of {level.compared} rows against {level.reference_rows}" in str(detector.report())
    for alarm in detector.alarms:
        assert isinstance(alarm, Alarm)
        assert alarm.feature == "level"
        assert alarm.rows == pytest.approx(alarm.row / stride, abs=1.1)


def test_a_stride_that_leaves_few_rows_is_told_of_by_the_columns_name(sensor):
    train, held = sensor
    with hearing(mk.events.Advised) as heard:
        profile = mk.Profile.fit(train, reference=held, ordered=True)
    (event,) = heard
    left = int(profile.counts[0, 0].sum())
    assert f"'level' {left} (one in {stride_of(profile, 'level')})" in event.advice
    assert "noise" not in event.advice
    said = profile.assumptions()
    assert any(f"the smallest reference has {left} rows ('level'" in line for line in said)
    with hearing(mk.events.Advised) as more:
        mk.Profile.fit({"noise": train["noise"]}, reference={"noise": held["noise"]}, ordered=True)
    assert more == []
