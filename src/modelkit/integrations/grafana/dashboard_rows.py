"""What each row of the dashboard shows, and what a reader should make of it."""

from __future__ import annotations

from modelkit.integrations.grafana.alerts import WHERE_ON_CPU_INSTEAD
from modelkit.integrations.grafana.panels import (
    BY_VERSION,
    PROCESS,
    WINDOW,
    Panel,
    PanelQuery,
    alarms_raised,
    chosen,
    failed_part,
    graph_panel,
    heat_panel,
    increase_of,
    largest_of,
    quantile_of,
    queue_filled,
    rate_of,
    refused_part,
    stat_panel,
    state_panel,
    table_panel,
)

EACH = "{{model}} {{version}}"
ONE_PROCESS = "Not counted where processes share a folder of counts."
ONLY_CLIENT = (
    "From prometheus_client's own process collector: there is nothing to see where /metrics is a "
    "Collector alone."
)


def at_a_glance() -> list[Panel]:
    """Figures of now, each red where somebody should look."""
    fallen = chosen("modelkit_model_info", WHERE_ON_CPU_INSTEAD)
    return [
        stat_panel(
            "Calls",
            "reqps",
            "Calls a second, whatever became of them.",
            rate_of("modelkit_calls_total"),
        ),
        stat_panel(
            "Failed",
            "percentunit",
            "The part of calls with the outcome error, overloaded, deadline or closed. Refused "
            "rows and callers who left do not count.",
            failed_part(),
            (0.001, 0.01),
        ),
        stat_panel(
            "p99",
            "s",
            "99 of 100 answered calls took at most this long.",
            quantile_of(0.99, "modelkit_call_duration_seconds"),
        ),
        stat_panel(
            "Refused",
            "percentunit",
            "The part of calls whose rows the signature refused.",
            refused_part(),
            (0.01, 0.05),
        ),
        stat_panel(
            "Fullest queue",
            "percentunit",
            "Rows that wait, as a part of those that may.",
            f"max({queue_filled()})",
            (0.5, 0.8),
        ),
        stat_panel(
            "Drift alarms",
            "short",
            "Features of models that are no longer as they were in the profile.",
            f"sum({alarms_raised()})",
            (1, 1),
        ),
        stat_panel(
            "Not ready",
            "short",
            "Models that do not answer in a process that runs, counted once a process.",
            f"sum({chosen('modelkit_model_ready')} == bool 0)",
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


def call_panels() -> list[Panel]:
    """Calls by what became of them, and the rows that they had answered."""
    return [
        graph_panel(
            "Calls by outcome",
            "reqps",
            "Calls a second by what became of them: answered (ok), refused by the signature, "
            "refused by a full queue (overloaded), late (deadline), closed, failed (error), or "
            "left by the caller (cancelled).",
            PanelQuery(rate_of("modelkit_calls_total", by="outcome"), "{{outcome}}"),
        ),
        graph_panel(
            "Rows",
            "rowsps",
            "Rows a second that were answered.",
            PanelQuery(rate_of("modelkit_rows_total", by=BY_VERSION), EACH),
        ),
    ]


def latency_panels() -> list[Panel]:
    """How long an answer takes, as quantiles and as a histogram."""
    seconds = "modelkit_call_duration_seconds"
    quantiles = [
        PanelQuery(quantile_of(part, seconds, BY_VERSION), f"{EACH} p{100 * part:.0f}")
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
            f"sum by (le) (increase({chosen(f'{seconds}_bucket')}{WINDOW}))",
        ),
    ]


def batch_panels() -> list[Panel]:
    """What waits, how large the batches are and why they were run."""
    return [
        graph_panel(
            "Queue",
            "percentunit",
            "Rows that wait in the fullest process, as a part of those that may. At 100 % calls "
            "are refused.",
            PanelQuery(f"max by ({BY_VERSION}) ({queue_filled()})", EACH),
        ),
        graph_panel(
            "Rows in a batch",
            "short",
            f"Half of the batches, and 95 of 100, have at most so many rows. {ONE_PROCESS}",
            PanelQuery(quantile_of(0.5, "modelkit_batch_rows", BY_VERSION), f"{EACH} p50"),
            PanelQuery(quantile_of(0.95, "modelkit_batch_rows", BY_VERSION), f"{EACH} p95"),
        ),
        graph_panel(
            "Batches by reason",
            "ops",
            "Why a batch was run: a slot was free (idle), one became free (slot), the largest "
            "batch was reached (cap), or an event loop's calls of one iteration were there (loop). "
            f"Calls that run at once are not batches. {ONE_PROCESS}",
            PanelQuery(rate_of("modelkit_batches_total", by="reason"), "{{reason}}"),
        ),
        graph_panel(
            "Out of memory",
            "short",
            f"Runs that did not fit into memory; each halved the largest batch. {ONE_PROCESS}",
            PanelQuery(increase_of("modelkit_out_of_memory_total"), EACH),
        ),
    ]


def drift_panels() -> list[Panel]:
    """Which features are no longer as they were, and what the signature refused."""
    return [
        state_panel(
            "Drift alarms",
            "Features whose alarm is raised; empty where none is, or where no Monitor watches.",
            PanelQuery(f"{alarms_raised()} > 0", "{{model}} {{version}} {{feature}}"),
        ),
        graph_panel(
            "Monitored rows",
            "rowsps",
            "Rows a second that a Monitor answered. Where there are many, it shows its detector a "
            f"part of them. {ONE_PROCESS}",
            PanelQuery(rate_of("modelkit_monitored_rows_total", by=BY_VERSION), EACH),
        ),
        graph_panel(
            "Failures of the Monitor",
            "short",
            "Errors in the monitoring. They reach no caller, and drift is not seen meanwhile. "
            f"{ONE_PROCESS}",
            PanelQuery(increase_of("modelkit_monitor_failures_total"), EACH),
        ),
        graph_panel(
            "Refused calls",
            "percentunit",
            "The part of calls whose rows the signature refused: a caller sends what the model "
            "was not made for.",
            PanelQuery(refused_part(BY_VERSION), EACH),
        ),
    ]


def http_panels() -> list[Panel]:
    """Requests over HTTP, of all models together."""
    requests = f"rate(modelkit_http_requests_total{WINDOW})"
    buckets = f"rate(modelkit_http_request_duration_seconds_bucket{WINDOW})"
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


def version_panels() -> list[Panel]:
    """Which version answers in which process, and since when."""
    return [
        table_panel(
            "Models",
            "short",
            "Version, digest, device and threads of each model in each process. `requested` is the "
            "device that was wanted first.",
            chosen("modelkit_model_info"),
        ),
        graph_panel(
            "Calls by version",
            "reqps",
            "Calls a second: during a swap or a canary, who answers.",
            PanelQuery(rate_of("modelkit_calls_total", by=BY_VERSION), EACH),
        ),
        graph_panel(
            "Ready",
            "short",
            "Processes in which the version is ready.",
            PanelQuery(f"sum by ({BY_VERSION}) ({chosen('modelkit_model_ready')})", EACH),
        ),
        graph_panel(
            "Loaded for",
            "s",
            "Time since the version was loaded, in the process that loaded it last. It falls at "
            "each restart and swap.",
            PanelQuery(f"time() - {largest_of('modelkit_loaded_timestamp_seconds')}", EACH),
        ),
    ]


def rollout_panels() -> list[Panel]:
    """How far each rollout is, and what it decided."""
    decisions = largest_of("modelkit_rollout_decision", f"{BY_VERSION}, decision")
    return [
        graph_panel(
            "Share of the candidate",
            "percentunit",
            "The share of the calls that a version on trial answers; none in shadow.",
            PanelQuery(largest_of("modelkit_rollout_share"), EACH),
        ),
        graph_panel(
            "Stage",
            "short",
            "The stage of each rollout, from 1; 0 when it has ended.",
            PanelQuery(largest_of("modelkit_rollout_stage"), EACH),
        ),
        graph_panel(
            "Evidence",
            "percentunit",
            "How far each guard is on its way to a decision: at 100 % it rolls back, or all of "
            "them promote.",
            PanelQuery(
                largest_of("modelkit_rollout_evidence", f"{BY_VERSION}, guard, decision"),
                f"{EACH} {{{{guard}}}} {{{{decision}}}}",
            ),
        ),
        graph_panel(
            "Calls of each arm",
            "short",
            "Calls since the rollout began.",
            PanelQuery(
                largest_of("modelkit_rollout_units", f"{BY_VERSION}, arm"), f"{EACH} {{{{arm}}}}"
            ),
        ),
        state_panel(
            "Decision",
            "The last decision about each candidate.",
            PanelQuery(f"{decisions} > 0", f"{EACH} {{{{decision}}}}"),
        ),
        graph_panel(
            "Failures of a Rollout",
            "short",
            "Errors beside the calls, such as a version that cannot be loaded. They reach no "
            "caller.",
            PanelQuery(increase_of("modelkit_rollout_failures_total"), EACH),
        ),
    ]


def process_panels() -> list[Panel]:
    """What each process takes of its machine."""
    each = "{{instance}}"
    return [
        graph_panel(
            "CPU",
            "percentunit",
            f"Cores in use; 100 % is one. {ONLY_CLIENT}",
            PanelQuery(f"rate(process_cpu_seconds_total{WINDOW}) {PROCESS}", each),
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
