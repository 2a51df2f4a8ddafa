"""Spans around the calls of a Meter, and its figures sent to a receiver of OTLP over HTTP."""

from __future__ import annotations

import asyncio
import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from helpers.processes import run
from helpers.sums import SIGNATURE, summed
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import modelkit as mk
from modelkit.errors import SignatureError
from modelkit.integrations.opentelemetry import Points
from modelkit.model.model import Model


@pytest.fixture(scope="module")
def exported():
    """Where the spans of this process go; its provider can be set once."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(exported):
    exported.clear()
    return lambda: [span for span in exported.get_finished_spans() if span.name == "modelkit.call"]


def attributes(span):
    return {name.removeprefix("modelkit."): value for name, value in span.attributes.items()}


def test_a_call_is_a_span_below_the_current_one(spans):
    meter = mk.Meter(summed(), spans=True)
    meter.predict(np.ones((3, 2)))
    assert spans() == []
    with trace.get_tracer("host").start_as_current_span("request") as above:
        meter.predict(np.ones((3, 2)))
        asyncio.run(meter.apredict(np.ones((2, 2))))
    first, second = spans()
    assert attributes(first) == {
        "model": "FunctionModel",
        "version": "",
        "rows": 3,
        "outcome": "ok",
    }
    assert attributes(second)["rows"] == 2
    assert first.parent.span_id == second.parent.span_id == above.get_span_context().span_id
    assert meter.totals().calls["ok"] == 3
    assert meter.inner is meter.unobserved


def test_a_span_has_the_outcome_and_no_value(spans):
    value = "12345.678"
    failing = mk.Meter(summed(raising=RuntimeError(value)), spans=True)
    meter = mk.Meter(summed(), spans=True)
    with trace.get_tracer("host").start_as_current_span("request"):
        with pytest.raises(RuntimeError):
            failing._call(np.ones((1, 2)), ("prediction",), mk.types.Call())
        with pytest.raises(SignatureError):
            meter.predict([[float(value), "text"]])
    found = spans()
    assert [attributes(span)["outcome"] for span in found] == ["error", "signature"]
    assert all(span.status.status_code == trace.StatusCode.ERROR for span in found)
    assert not any(value in span.to_json() for span in found)
    assert failing.totals().calls["error"] == meter.totals().calls["signature"] == 1


def test_a_parent_that_is_not_recorded_gets_no_span(spans):
    meter = mk.Meter(summed(), spans=True)
    with trace.use_span(trace.NonRecordingSpan(trace.INVALID_SPAN_CONTEXT)):
        meter.predict(np.ones((3, 2)))
    assert spans() == []
    assert meter.totals().calls["ok"] == 1


def test_without_the_library_a_meter_with_spans_is_refused():
    run(
        """
        import sys
        sys.modules["opentelemetry"] = None
        import modelkit as mk
        signature = mk.Signature(
            (mk.TensorSpec("x", "float64", ("batch", 2)),),
            (mk.TensorSpec("prediction", "float64", ("batch",)),),
        )
        model = mk.FunctionModel(lambda feeds: feeds, signature)
        mk.Meter(model)
        from modelkit.integrations.opentelemetry import Points
        cases = [(lambda: mk.Meter(model, spans=True), "otel"), (lambda: Points(model), None)]
        for refused, extra in cases:
            try:
                refused()
            except mk.errors.MissingExtraError as error:
                assert error.extra == extra
            else:
                raise SystemExit("accepted")
        """
    )


@contextmanager
def receiver():
    """A receiver of OTLP over HTTP, and what it has received."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            received.append(ExportMetricsServiceRequest.FromString(body))
            answer = ExportMetricsServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/metrics", received
        finally:
            server.shutdown()
            thread.join()


class Shop(Model):
    """A Model of a name of its own, whose counts are of this test alone."""

    signature = SIGNATURE
    batchable = True

    def _run(self, feeds, outputs, call):
        return {"prediction": feeds["x"].sum(axis=1)}


def test_points_reach_a_receiver():
    with mk.Batcher(Shop()) as batcher, receiver() as (url, received):
        meter = mk.Meter(batcher)
        points = Points(meter, resource=Resource({"service.name": "shop"}))
        exporter = OTLPMetricExporter(endpoint=url)
        for _ in range(200):
            meter.predict(np.ones((3, 2)))
        with pytest.raises(SignatureError):
            meter.predict("text")
        assert exporter.export(points.now()) is MetricExportResult.SUCCESS
        meter.predict(np.ones((3, 2)))
        assert exporter.export(points.now()) is MetricExportResult.SUCCESS
        exporter.shutdown()
        totals = meter.totals()
    first, second = (request.resource_metrics[0] for request in received)
    assert first.resource.attributes[0].value.string_value == "shop"
    before, after = (
        {metric.name: metric for metric in each.scope_metrics[0].metrics}
        for each in (first, second)
    )
    assert outcomes(before["modelkit_calls"])["ok"] == 200
    assert outcomes(after["modelkit_calls"]) == totals.calls
    (rows,) = after["modelkit_rows"].sum.data_points
    assert rows.as_int == totals.rows == 603
    assert after["modelkit_rows"].sum.is_monotonic
    (durations,) = after["modelkit_call_duration_seconds"].histogram.data_points
    assert tuple(durations.bucket_counts) == totals.durations
    assert len(durations.explicit_bounds) == len(totals.durations) - 1
    assert durations.sum == pytest.approx(totals.seconds)
    assert durations.start_time_unix_nano < durations.time_unix_nano
    assert after["modelkit_queue_rows"].gauge.data_points[0].as_int == 0


def outcomes(metric):
    found = {}
    for point in metric.sum.data_points:
        labels = {label.key: label.value.string_value for label in point.attributes}
        assert labels["model"] == "Shop"
        found[labels["outcome"]] = point.as_int
    return found
