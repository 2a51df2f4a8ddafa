"""The same model, watched by other libraries; `python -m benchmarks.metrics.watched PACKAGE` is the multiprocess mode.

The mode must be asked for before prometheus_client is imported, by PROMETHEUS_MULTIPROC_DIR.
"""

import statistics
import sys
import time
from itertools import repeat

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale

import modelkit as mk
from modelkit.model.wrapper import Wrapper
from modelkit.serving.metering.totals import BOUNDS

CALLS = 100  # a chunk of less than a millisecond is seldom interrupted


class Prometheus(Wrapper):
    """Counts calls and rows, and observes durations."""

    _acall = None  # only the sync verbs are called

    def __init__(self, model):
        from prometheus_client import CollectorRegistry, Counter, Histogram

        super().__init__(model)
        registry, labels = CollectorRegistry(), ["model", "version"]
        calls = Counter("calls", "calls", [*labels, "outcome"], registry=registry)
        rows = Counter("rows", "rows", labels, registry=registry)
        took = Histogram("took", "seconds", labels, registry=registry, buckets=BOUNDS)
        self.calls = calls.labels("cancer", "1", "ok")
        self.rows = rows.labels("cancer", "1")
        self.took = took.labels("cancer", "1")

    def _call(self, X, outputs, call):
        start = time.perf_counter()
        answers = self._inner._call(X, outputs, call)
        self.took.observe(time.perf_counter() - start)
        self.calls.inc()
        self.rows.inc(len(answers[outputs[0]]))
        return answers


class OpenTelemetry(Wrapper):
    """The same three with the SDK."""

    _acall = None  # only the sync verbs are called

    def __init__(self, model):
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        super().__init__(model)
        meter = MeterProvider(metric_readers=[InMemoryMetricReader()]).get_meter("cancer")
        self.calls = meter.create_counter("calls")
        self.rows = meter.create_counter("rows")
        self.took = meter.create_histogram("took", explicit_bucket_boundaries_advisory=BOUNDS)
        self.labels = {"model": "cancer", "version": "1"}
        self.ok = self.labels | {"outcome": "ok"}

    def _call(self, X, outputs, call):
        start = time.perf_counter()
        answers = self._inner._call(X, outputs, call)
        self.took.record(time.perf_counter() - start, self.labels)
        self.calls.add(1, self.ok)
        self.rows.add(len(answers[outputs[0]]), self.labels)
        return answers


def one_row():
    return scale(load_breast_cancer().data)[:1]


def microseconds(work):
    """Of one call, by a function that makes `CALLS` of them."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) / CALLS * 1e6


def calling(model):
    row = one_row()

    def work():
        predict = model.predict
        for _ in repeat(None, CALLS):
            predict(row)

    return work


def added(works, rounds):
    """Median microseconds of each, and what it took longer than the first of its round."""
    times = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(microseconds(work))
    bare = next(iter(times.values()))
    return {
        name: (statistics.median(each), statistics.median(np.subtract(each, bare)))
        for name, each in times.items()
    }


if __name__ == "__main__":
    model = mk.load(sys.argv[1], threads=1)
    found = added(
        {"bare": calling(model), "ours": calling(Prometheus(model))}, rounds=int(sys.argv[2])
    )
    print(*found["ours"])
