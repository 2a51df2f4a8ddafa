"""A dashboard for Grafana: what the metrics of `docs/metrics.md` say, on one screen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from modelkit.export.alerts import WHERE_FAILED, WHERE_ON_CPU_INSTEAD, WHERE_OWED, WHERE_REFUSED
from modelkit.export.panels import (
    Panel,
    PanelQuery,
    graph_panel,
    heat_panel,
    row_line,
    side_by_side,
    stat_panel,
    state_panel,
    table_panel,
)

SCHEMA_VERSION = 42  # the last one of this form of dashboards
CHOSEN = 'model=~"$model", version=~"$version"'
RATE = "[$__rate_interval]"
EACH = "{{model}} {{version}}"
BY_VERSION = "model, version"
LABEL_VALUES = 1  # what Grafana calls this kind of query
STAT_HEIGHT = 3
HEIGHT = 6
PROCESS = f"and on (job, instance) modelkit_model_info{{{CHOSEN}}}"
ONE_PROCESS = "Not counted where processes share a folder of counts."
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
        panels += [row_line(title, top), *side_by_side(members, top + 1, HEIGHT)]
        top += 1 + HEIGHT
    for title, members in (
        ("HTTP (of all models)", _http()),
        ("Which version answers, and where", _versions()),
        ("Rollouts", _rollouts()),
        ("Processes", _processes()),
    ):
        panels.append(row_line(title, top, side_by_side(members, top + 1, HEIGHT)))
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
        "query": {"qryType": LABEL_VALUES, "query": query, "refId": f"values of {label}"},
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
    failed = _rate_of("modelkit_calls_total", WHERE_FAILED, by)
    return f"{failed} / {_rate_of('modelkit_calls_total', WHERE_OWED, by)}"


def _refused(by: str = "") -> str:
    refused = _rate_of("modelkit_calls_total", WHERE_REFUSED, by)
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
    fallen = _of("modelkit_model_info", WHERE_ON_CPU_INSTEAD)
    return [
        stat_panel(
            "Calls",
            "reqps",
            "Calls a second, whatever became of them.",
            _rate_of("modelkit_calls_total"),
        ),
        stat_panel(
            "Failed",
            "percentunit",
            "The part of calls with the outcome error, overloaded, deadline or closed. Refused "
            "rows and callers who left do not count.",
            _failed(),
            (0.001, 0.01),
        ),
        stat_panel(
            "p99",
            "s",
            "99 of 100 answered calls took at most this long.",
            _quantile(0.99, "modelkit_call_duration_seconds"),
        ),
        stat_panel(
            "Refused",
            "percentunit",
            "The part of calls whose rows the signature refused.",
            _refused(),
            (0.01, 0.05),
        ),
        stat_panel(
            "Fullest queue",
            "percentunit",
            "Rows that wait, as a part of those that may.",
            f"max({_queue_filled()})",
            (0.5, 0.8),
        ),
        stat_panel(
            "Drift alarms",
            "short",
            "Features of models that are no longer as they were in the profile.",
            f"sum({_alarms()})",
            (1, 1),
        ),
        stat_panel(
            "Not ready",
            "short",
            "Models that do not answer in a process that runs, counted once a process.",
            f"sum({_of('modelkit_model_ready')} == bool 0)",
            (1, 1),
        ),
        stat_panel(
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
        graph_panel(
            "Calls by outcome",
            "reqps",
            "Calls a second by what became of them: answered (ok), refused by the signature, "
            "refused by a full queue (overloaded), late (deadline), closed, failed (error), or "
            "left by the caller (cancelled).",
            PanelQuery(_rate_of("modelkit_calls_total", by="outcome"), "{{outcome}}"),
        ),
        graph_panel(
            "Rows",
            "rowsps",
            "Rows a second that were answered.",
            PanelQuery(_rate_of("modelkit_rows_total", by=BY_VERSION), EACH),
        ),
    ]


def _latency() -> list[Panel]:
    seconds = "modelkit_call_duration_seconds"
    quantiles = [
        PanelQuery(_quantile(part, seconds, BY_VERSION), f"{EACH} p{100 * part:.0f}")
        for part in (0.5, 0.95, 0.99)
    ]
    return [
        graph_panel(
            "Latency",
            "s",
            "From a call to its answer: 50, 95 and 99 of 100 answered calls took at most this "
            "long, to the bounds of the histogram.",
            *quantiles,
        ),
        heat_panel(
            "Latency, all calls",
            "s",
            "How many answered calls took how long. Two bands are two kinds of calls.",
            f"sum by (le) (increase({_of(f'{seconds}_bucket')}{RATE}))",
        ),
    ]


def _batches() -> list[Panel]:
    return [
        graph_panel(
            "Queue",
            "percentunit",
            "Rows that wait in the fullest process, as a part of those that may. At 100 % calls "
            "are refused.",
            PanelQuery(f"max by ({BY_VERSION}) ({_queue_filled()})", EACH),
        ),
        graph_panel(
            "Rows in a batch",
            "short",
            f"Half of the batches, and 95 of 100, have at most so many rows. {ONE_PROCESS}",
            PanelQuery(_quantile(0.5, "modelkit_batch_rows", BY_VERSION), f"{EACH} p50"),
            PanelQuery(_quantile(0.95, "modelkit_batch_rows", BY_VERSION), f"{EACH} p95"),
        ),
        graph_panel(
            "Batches by reason",
            "ops",
            "Why a batch was run: a slot was free (idle), one became free (slot), the largest "
            "batch was reached (cap), or an event loop's calls of one tick were there (tick). "
            f"Calls that run at once are no batches. {ONE_PROCESS}",
            PanelQuery(_rate_of("modelkit_batches_total", by="reason"), "{{reason}}"),
        ),
        graph_panel(
            "Out of memory",
            "short",
            f"Runs that did not fit into memory; each halved the largest batch. {ONE_PROCESS}",
            PanelQuery(
                f"sum by ({BY_VERSION}) (increase({_of('modelkit_out_of_memory_total')}{RATE}))",
                EACH,
            ),
        ),
    ]


def _drift() -> list[Panel]:
    return [
        state_panel(
            "Drift alarms",
            "bool_yes_no",
            "Features whose alarm is raised; empty where none is, or where no Monitor watches.",
            PanelQuery(f"{_alarms()} > 0", "{{model}} {{version}} {{feature}}"),
        ),
        graph_panel(
            "Monitored rows",
            "rowsps",
            "Rows a second that a Monitor answered. Where there are many, it shows its detector a "
            f"part of them. {ONE_PROCESS}",
            PanelQuery(_rate_of("modelkit_monitored_rows_total", by=BY_VERSION), EACH),
        ),
        graph_panel(
            "Failures of the Monitor",
            "short",
            "Errors in the monitoring. They reach no caller, and drift is not seen meanwhile. "
            f"{ONE_PROCESS}",
            PanelQuery(
                f"sum by ({BY_VERSION}) (increase({_of('modelkit_monitor_failures_total')}{RATE}))",
                EACH,
            ),
        ),
        graph_panel(
            "Refused calls",
            "percentunit",
            "The part of calls whose rows the signature refused: a caller sends what the model "
            "was not made for.",
            PanelQuery(_refused(BY_VERSION), EACH),
        ),
    ]


def _http() -> list[Panel]:
    requests = f"rate(modelkit_http_requests_total{RATE})"
    buckets = f"rate(modelkit_http_request_duration_seconds_bucket{RATE})"
    return [
        graph_panel(
            "Requests",
            "reqps",
            "Requests a second by route and status.",
            PanelQuery(f"sum by (route, code) ({requests})", "{{route}} {{code}}"),
        ),
        graph_panel(
            "Requests by class of status",
            "percentunit",
            "2xx: answered. 4xx: the client's mistake, or a full queue (429). 5xx: ours.",
            PanelQuery(
                f'sum by (class) (label_replace({requests}, "class", "${{1}}xx", "code", "(.).*"))'
                f" / scalar(sum({requests}))",
                "{{class}}",
            ),
        ),
        graph_panel(
            "Latency of requests, p99",
            "s",
            "From the head of a request to the end of its answer.",
            PanelQuery(f"histogram_quantile(0.99, sum by (le, route) ({buckets}))", "{{route}}"),
        ),
        graph_panel(
            "Requests in flight",
            "short",
            "Requests that have begun and are not answered.",
            PanelQuery("sum(modelkit_http_in_flight)", "in flight"),
        ),
    ]


def _versions() -> list[Panel]:
    return [
        table_panel(
            "Models",
            "short",
            "Version, digest, device and threads of each model in each process. `asked` is the "
            "device that was wanted first.",
            _of("modelkit_model_info"),
        ),
        graph_panel(
            "Calls by version",
            "reqps",
            "Calls a second: during a swap or a canary, who answers.",
            PanelQuery(_rate_of("modelkit_calls_total", by=BY_VERSION), EACH),
        ),
        graph_panel(
            "Ready",
            "short",
            "Processes in which the version is ready.",
            PanelQuery(f"sum by ({BY_VERSION}) ({_of('modelkit_model_ready')})", EACH),
        ),
        graph_panel(
            "Loaded for",
            "s",
            "Time since the version was loaded, in the process that loaded it last. It falls at "
            "each restart and swap.",
            PanelQuery(
                f"time() - max by ({BY_VERSION}) ({_of('modelkit_loaded_timestamp_seconds')})", EACH
            ),
        ),
    ]


def _rollouts() -> list[Panel]:
    return [
        graph_panel(
            "Share of the candidate",
            "percentunit",
            "The share of the calls that a version on trial answers; none in shadow.",
            PanelQuery(f"max by ({BY_VERSION}) ({_of('modelkit_rollout_share')})", EACH),
        ),
        graph_panel(
            "Stage",
            "short",
            "The stage of each rollout, from 1; 0 when it has ended.",
            PanelQuery(f"max by ({BY_VERSION}) ({_of('modelkit_rollout_stage')})", EACH),
        ),
        graph_panel(
            "Evidence",
            "percentunit",
            "How far each guard is on its way to a decision: at 100 % it rolls back, or all of "
            "them promote.",
            PanelQuery(
                f"max by ({BY_VERSION}, guard, decision) ({_of('modelkit_rollout_evidence')})",
                f"{EACH} {{{{guard}}}} {{{{decision}}}}",
            ),
        ),
        graph_panel(
            "Calls of each arm",
            "short",
            "Calls since the rollout began.",
            PanelQuery(
                f"max by ({BY_VERSION}, arm) ({_of('modelkit_rollout_units')})",
                f"{EACH} {{{{arm}}}}",
            ),
        ),
        state_panel(
            "Decision",
            "bool_yes_no",
            "The last decision about each candidate.",
            PanelQuery(
                f"max by ({BY_VERSION}, decision) ({_of('modelkit_rollout_decision')}) > 0",
                f"{EACH} {{{{decision}}}}",
            ),
        ),
        graph_panel(
            "Failures of a Rollout",
            "short",
            "Errors beside the calls, such as a version that cannot be loaded. They reach no "
            "caller.",
            PanelQuery(
                f"sum by ({BY_VERSION}) (increase({_of('modelkit_rollout_failures_total')}{RATE}))",
                EACH,
            ),
        ),
    ]


def _processes() -> list[Panel]:
    each = "{{instance}}"
    return [
        graph_panel(
            "CPU",
            "percentunit",
            f"Cores in use; 100 % is one. {ONLY_CLIENT}",
            PanelQuery(f"rate(process_cpu_seconds_total{RATE}) {PROCESS}", each),
        ),
        graph_panel(
            "Memory",
            "bytes",
            f"Resident memory. {ONLY_CLIENT}",
            PanelQuery(f"process_resident_memory_bytes {PROCESS}", each),
        ),
        graph_panel(
            "Open files",
            "short",
            f"Files and connections. {ONLY_CLIENT}",
            PanelQuery(f"process_open_fds {PROCESS}", each),
        ),
        graph_panel(
            "Scrapes",
            "s",
            "How long Prometheus waited for the metrics.",
            PanelQuery(f"scrape_duration_seconds {PROCESS}", each),
        ),
    ]
