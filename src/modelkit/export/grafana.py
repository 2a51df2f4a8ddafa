"""A dashboard for Grafana: what the metrics of `docs/metrics.md` say, on one screen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from modelkit.export.alerts import FAILED, ON_CPU_INSTEAD, OWED, REFUSED
from modelkit.export.panels import (
    Panel,
    Query,
    heat_map,
    lines,
    row,
    side_by_side,
    stat,
    states,
    table,
)

SCHEMA_VERSION = 42  # the last one of this form of dashboards
CHOSEN = 'model=~"$model", version=~"$version"'
RATE = "[$__rate_interval]"
EACH = "{{model}} {{version}}"
BY_VERSION = "model, version"
STAT_HEIGHT = 3
HEIGHT = 6
PROCESS = f"and on (job, instance) modelkit_model_info{{{CHOSEN}}}"
ONLY_CLIENT = (
    "From prometheus_client's own process collector: there is nothing to see where /metrics is a "
    "Collector alone."
)


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it.

    What matters first is on one screen; the rows below are closed until somebody opens them.
    """
    panels = side_by_side(_at_a_glance(), 0, STAT_HEIGHT)
    top = STAT_HEIGHT
    for title, members in (
        ("Calls and latency", [*_calls(), *_latency()]),
        ("Batches and queue", _batches()),
        ("Drift and refused rows", _drift()),
    ):
        panels += [row(title, top), *side_by_side(members, top + 1, HEIGHT)]
        top += 1 + HEIGHT
    for title, members in (
        ("HTTP (of all models)", _http()),
        ("Which version answers, and where", _versions()),
        ("Processes", _processes()),
    ):
        panels.append(row(title, top, side_by_side(members, top + 1, HEIGHT)))
        top += 1
    return {
        "uid": "modelkit",
        "title": "modelkit",
        "description": "Models that are served with modelkit.",
        "tags": ["modelkit"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": _numbered(panels),
    }


def _numbered(panels: Iterable[Panel]) -> list[Panel]:
    """The panels, each with a number of its own."""
    found = []
    number = 0
    for panel in panels:
        number += 1
        numbered = {"id": number, **panel}
        inner = []
        for member in panel.get("panels", []):
            number += 1
            inner.append({"id": number, **member})
        if panel["type"] == "row":
            numbered["panels"] = inner
        found.append(numbered)
    return found


def _variables() -> list[dict[str, Any]]:
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
    }
    return [
        source,
        _variable("model", "Model", "modelkit_model_info"),
        _variable("version", "Version", 'modelkit_model_info{model=~"$model"}'),
    ]


def _variable(label: str, title: str, series: str) -> dict[str, Any]:
    """A choice among the values of a label, of which several or all may be taken."""
    query = f"label_values({series}, {label})"
    return {
        "name": label,
        "label": title,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": query, "refId": f"values of {label}"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _of(metric: str, matchers: str = "") -> str:
    """The series of a metric that belong to the chosen models and versions."""
    return f"{metric}{{{', '.join(filter(None, (CHOSEN, matchers)))}}}"


def _rate_of(metric: str, matchers: str = "", by: str = "") -> str:
    grouped = f"by ({by}) " if by else ""
    return f"sum {grouped}(rate({_of(metric, matchers)}{RATE}))"


def _failed(by: str = "") -> str:
    failed = _rate_of("modelkit_calls_total", FAILED, by)
    return f"{failed} / {_rate_of('modelkit_calls_total', OWED, by)}"


def _refused(by: str = "") -> str:
    refused = _rate_of("modelkit_calls_total", REFUSED, by)
    return f"{refused} / {_rate_of('modelkit_calls_total', by=by)}"


def _quantile(part: float, metric: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({part:g}, {_rate_of(f'{metric}_bucket', by=labels)})"


def _queue_filled() -> str:
    return f"{_of('modelkit_queue_rows')} / {_of('modelkit_queue_limit_rows')}"


def _alarms() -> str:
    return f"max by (model, version, feature) ({_of('modelkit_drift_alarm')})"


def _at_a_glance() -> list[Panel]:
    """Figures of now, each red where somebody should look."""
    fallen = _of("modelkit_model_info", ON_CPU_INSTEAD)
    return [
        stat(
            "Calls",
            "reqps",
            "Calls a second, whatever became of them.",
            _rate_of("modelkit_calls_total"),
        ),
        stat(
            "Failed",
            "percentunit",
            "The part of calls with the outcome error, overloaded, deadline or closed. Refused "
            "rows and callers who left do not count.",
            _failed(),
            (0.001, 0.01),
        ),
        stat(
            "p99",
            "s",
            "99 of 100 answered calls took at most this long.",
            _quantile(0.99, "modelkit_call_duration_seconds"),
        ),
        stat(
            "Refused",
            "percentunit",
            "The part of calls whose rows the signature refused.",
            _refused(),
            (0.01, 0.05),
        ),
        stat(
            "Fullest queue",
            "percentunit",
            "Rows that wait, as a part of those that may.",
            f"max({_queue_filled()})",
            (0.5, 0.8),
        ),
        stat(
            "Drift alarms",
            "short",
            "Features of models that are no longer as they were in the profile.",
            f"sum({_alarms()})",
            (1, 1),
        ),
        stat(
            "Not ready",
            "short",
            "Models that do not answer in a process that runs, counted once a process.",
            f"sum({_of('modelkit_model_ready')} == bool 0)",
            (1, 1),
        ),
        stat(
            "CPU instead",
            "short",
            "Models that run on the CPU although another device was wanted, counted once a "
            "process.",
            f"count({fallen}) or vector(0)",
            (1, 1),
        ),
    ]


def _calls() -> list[Panel]:
    return [
        lines(
            "Calls by outcome",
            "reqps",
            "Calls a second by what became of them: answered (ok), refused by the signature, "
            "refused by a full queue (overloaded), late (deadline), closed, failed (error), or "
            "left by the caller (cancelled).",
            Query(_rate_of("modelkit_calls_total", by="outcome"), "{{outcome}}"),
        ),
        lines(
            "Rows",
            "rowsps",
            "Rows a second that were answered.",
            Query(_rate_of("modelkit_rows_total", by=BY_VERSION), EACH),
        ),
    ]


def _latency() -> list[Panel]:
    seconds = "modelkit_call_duration_seconds"
    quantiles = [
        Query(_quantile(part, seconds, BY_VERSION), f"{EACH} p{100 * part:.0f}")
        for part in (0.5, 0.95, 0.99)
    ]
    return [
        lines(
            "Latency",
            "s",
            "From a call to its answer: 50, 95 and 99 of 100 answered calls took at most this "
            "long, to the bounds of the histogram.",
            *quantiles,
        ),
        heat_map(
            "Latency, all calls",
            "s",
            "How many answered calls took how long. Two bands are two kinds of calls.",
            f"sum by (le) (increase({_of(f'{seconds}_bucket')}{RATE}))",
        ),
    ]


def _batches() -> list[Panel]:
    return [
        lines(
            "Queue",
            "percentunit",
            "Rows that wait in the fullest process, as a part of those that may. At 100 % calls "
            "are refused.",
            Query(f"max by ({BY_VERSION}) ({_queue_filled()})", EACH),
        ),
        lines(
            "Rows in a batch",
            "short",
            "Half of the batches, and 95 of 100, have at most so many rows.",
            Query(_quantile(0.5, "modelkit_batch_rows", BY_VERSION), f"{EACH} p50"),
            Query(_quantile(0.95, "modelkit_batch_rows", BY_VERSION), f"{EACH} p95"),
        ),
        lines(
            "Batches by reason",
            "ops",
            "Why a batch was run: a slot was free (idle), one became free (slot), the largest "
            "batch was reached (cap), or an event loop's calls of one tick were there (tick). "
            "Calls that run at once are no batches.",
            Query(_rate_of("modelkit_batches_total", by="reason"), "{{reason}}"),
        ),
        lines(
            "Out of memory",
            "short",
            "Runs that did not fit into memory; each halved the largest batch.",
            Query(
                f"sum by ({BY_VERSION}) (increase({_of('modelkit_out_of_memory_total')}{RATE}))",
                EACH,
            ),
        ),
    ]


def _drift() -> list[Panel]:
    return [
        states(
            "Drift alarms",
            "bool_yes_no",
            "Features whose alarm is raised; empty where none is, or where no Monitor watches.",
            Query(f"{_alarms()} > 0", "{{model}} {{version}} {{feature}}"),
        ),
        lines(
            "Rows that the Monitor saw",
            "rowsps",
            "Rows a second that the detector was shown. It sees at most 2,000 a second by "
            "default, and 64 of a call.",
            Query(_rate_of("modelkit_monitored_rows_total", by=BY_VERSION), EACH),
        ),
        lines(
            "Failures of the Monitor",
            "short",
            "Errors in the monitoring. They reach no caller, and drift is not seen meanwhile.",
            Query(
                f"sum by ({BY_VERSION}) (increase({_of('modelkit_monitor_failures_total')}{RATE}))",
                EACH,
            ),
        ),
        lines(
            "Refused calls",
            "percentunit",
            "The part of calls whose rows the signature refused: a caller sends what the model "
            "was not made for.",
            Query(_refused(BY_VERSION), EACH),
        ),
    ]


def _http() -> list[Panel]:
    requests = f"rate(modelkit_http_requests_total{RATE})"
    buckets = f"rate(modelkit_http_request_duration_seconds_bucket{RATE})"
    return [
        lines(
            "Requests",
            "reqps",
            "Requests a second by route and status.",
            Query(f"sum by (route, code) ({requests})", "{{route}} {{code}}"),
        ),
        lines(
            "Requests by class of status",
            "percentunit",
            "2xx: answered. 4xx: the client's mistake, or a full queue (429). 5xx: ours.",
            Query(
                f'sum by (class) (label_replace({requests}, "class", "${{1}}xx", "code", "(.).*"))'
                f" / scalar(sum({requests}))",
                "{{class}}",
            ),
        ),
        lines(
            "Latency of requests, p99",
            "s",
            "From the head of a request to the end of its answer.",
            Query(f"histogram_quantile(0.99, sum by (le, route) ({buckets}))", "{{route}}"),
        ),
        lines(
            "Requests in flight",
            "short",
            "Requests that have begun and are not answered.",
            Query("sum(modelkit_http_in_flight)", "in flight"),
        ),
    ]


def _versions() -> list[Panel]:
    return [
        table(
            "Models",
            "short",
            "Version, digest, device and threads of each model in each process. `asked` is the "
            "device that was wanted first.",
            _of("modelkit_model_info"),
        ),
        lines(
            "Calls by version",
            "reqps",
            "Calls a second: during a swap or a canary, who answers.",
            Query(_rate_of("modelkit_calls_total", by=BY_VERSION), EACH),
        ),
        lines(
            "Ready",
            "short",
            "Processes in which the version is ready.",
            Query(f"sum by ({BY_VERSION}) ({_of('modelkit_model_ready')})", EACH),
        ),
        lines(
            "Loaded for",
            "s",
            "Time since the version was loaded, in the process that loaded it last. It falls at "
            "each restart and swap.",
            Query(
                f"time() - max by ({BY_VERSION}) ({_of('modelkit_loaded_timestamp_seconds')})", EACH
            ),
        ),
    ]


def _processes() -> list[Panel]:
    each = "{{instance}}"
    return [
        lines(
            "CPU",
            "percentunit",
            f"Cores in use; 100 % is one. {ONLY_CLIENT}",
            Query(f"rate(process_cpu_seconds_total{RATE}) {PROCESS}", each),
        ),
        lines(
            "Memory",
            "bytes",
            f"Resident memory. {ONLY_CLIENT}",
            Query(f"process_resident_memory_bytes {PROCESS}", each),
        ),
        lines(
            "Open files",
            "short",
            f"Files and connections. {ONLY_CLIENT}",
            Query(f"process_open_fds {PROCESS}", each),
        ),
        lines(
            "Scrapes",
            "s",
            "How long Prometheus waited for the metrics.",
            Query(f"scrape_duration_seconds {PROCESS}", each),
        ),
    ]
