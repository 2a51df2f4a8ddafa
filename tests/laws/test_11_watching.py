"""Law 11. Watching never changes an answer and never raises into a caller. What it costs is measured by the benchmarks."""

import numpy as np
import pandas as pd
import pytest
from helpers.models import arrays, boosting, function, joblib, strings

import modelkit as mk

WATCHED = {
    "arrays": arrays,
    "boosting": boosting,
    "a function": function,
    "strings": strings,
    "joblib": joblib,
}


@pytest.fixture(scope="module", params=WATCHED)
def watched(request):
    subject = WATCHED[request.param](request.getfixturevalue)
    many = pd.concat([subject.rows] * 5)
    return subject, mk.Monitor(subject.model, mk.Profile.fit(many, reference=many))


def bits(answers):
    return {
        name: array.tolist() if array.dtype == object else array.tobytes()
        for name, array in answers.items()
    }


def test_an_answer_is_the_same_to_the_bit_whoever_watches(watched):
    subject, monitor = watched
    for count in (0, 1, 2, len(subject.rows)):
        rows = subject.take(range(count))
        expected = bits(subject.model.run(rows))
        for layer in (monitor, mk.Meter(subject.model), mk.Meter(monitor)):
            assert bits(layer.run(rows)) == expected
            assert layer.predict(rows).tolist() == subject.model.predict(rows).tolist()
    assert monitor.failures == 0, monitor.last_failure


def test_a_watcher_that_fails_reaches_no_caller(watched, monkeypatch):
    subject, monitor = watched

    def fail(*_, **__):
        raise RuntimeError("of the watcher")

    before = monitor.failures
    monkeypatch.setattr(type(monitor._intake), "take", fail)
    stop = mk.events.subscribe(fail)
    try:
        np.testing.assert_array_equal(
            mk.Meter(monitor).predict(subject.rows), subject.model.predict(subject.rows)
        )
    finally:
        stop()
    assert monitor.failures > before
