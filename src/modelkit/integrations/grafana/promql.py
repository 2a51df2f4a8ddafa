"""What the dashboard asks Prometheus: expressions over the models and versions that are chosen in it."""

from __future__ import annotations

from modelkit.integrations.grafana.alerts import WHERE_FAILED, WHERE_OWED, WHERE_REFUSED

CHOSEN = 'model=~"$model", version=~"$version"'
WINDOW = "[$__rate_interval]"
BY_VERSION = "model, version"
PROCESS = f"and on (job, instance) modelkit_model_info{{{CHOSEN}}}"


def chosen(metric: str, matchers: str = "") -> str:
    """The series of a metric that belong to the chosen models and versions."""
    return f"{metric}{{{', '.join(filter(None, (CHOSEN, matchers)))}}}"


def rate_of(metric: str, matchers: str = "", by: str = "") -> str:
    """How much a counter grows a second, all processes together, for each value of the labels `by`."""
    grouped = f"by ({by}) " if by else ""
    return f"sum {grouped}(rate({chosen(metric, matchers)}{WINDOW}))"


def increase_of(metric: str) -> str:
    """How much a counter of each version has grown, all processes together."""
    return f"sum by ({BY_VERSION}) (increase({chosen(metric)}{WINDOW}))"


def largest_of(metric: str, by: str = BY_VERSION) -> str:
    """The largest value that a process shows, for each value of the labels `by`."""
    return f"max by ({by}) ({chosen(metric)})"


def failed_part(by: str = "") -> str:
    """Of the calls that were owed an answer, the part that got none."""
    failed = rate_of("modelkit_calls_total", WHERE_FAILED, by)
    return f"{failed} / {rate_of('modelkit_calls_total', WHERE_OWED, by)}"


def refused_part(by: str = "") -> str:
    """Of all calls, the part whose rows the signature refused."""
    refused = rate_of("modelkit_calls_total", WHERE_REFUSED, by)
    return f"{refused} / {rate_of('modelkit_calls_total', by=by)}"


def quantile_of(part: float, metric: str, by: str = "") -> str:
    """The value that this part of what a histogram counted does not exceed."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({part:g}, {rate_of(f'{metric}_bucket', by=labels)})"


def queue_filled() -> str:
    """The rows that wait in each process, as a part of those that may."""
    return f"{chosen('modelkit_queue_rows')} / {chosen('modelkit_queue_limit_rows')}"


def alarms_raised() -> str:
    """Of each feature of a version 1 where its alarm is raised, and 0 where it is not."""
    return largest_of("modelkit_drift_alarm", f"{BY_VERSION}, feature")
