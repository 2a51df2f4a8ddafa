"""Panels of a dashboard, as Grafana stores them, and what they ask Prometheus.

Expressions are over the models and versions that are chosen in the dashboard.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from modelkit.integrations.grafana.alerts import WHERE_FAILED, WHERE_OWED, WHERE_REFUSED

Panel = dict[str, Any]

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SCREEN_WIDTH = 24  # of a dashboard, in its own units
COLUMNS_HIDDEN = ("Time", "Value", "__name__")
CHOSEN = 'model=~"$model", version=~"$version"'
WINDOW = "[$__rate_interval]"
BY_VERSION = "model, version"
PROCESS = f"and on (job, instance) modelkit_model_info{{{CHOSEN}}}"


class PanelQuery(NamedTuple):
    """An expression, and the name of each series that it gives."""

    expr: str
    legend: str


def row_line(title: str, top: int, closed: list[Panel] | None = None) -> Panel:
    """The line above panels; it keeps those of a closed row."""
    return {
        "type": "row",
        "title": title,
        "collapsed": closed is not None,
        "gridPos": {"x": 0, "y": top, "w": SCREEN_WIDTH, "h": 1},
        "panels": closed or [],
    }


def side_by_side(panels: list[Panel], top: int, height: int) -> list[Panel]:
    """Panels of one width that fill the screen from left to right."""
    width = SCREEN_WIDTH // len(panels)
    return [
        {**panel, "gridPos": {"x": i * width, "y": top, "w": width, "h": height}}
        for i, panel in enumerate(panels)
    ]


def graph_panel(title: str, unit: str, description: str, *queries: PanelQuery) -> Panel:
    """A graph over time."""
    defaults = {"unit": unit, "min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}}
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return _panel("timeseries", title, description, defaults, options, list(queries))


def state_panel(title: str, description: str, *queries: PanelQuery) -> Panel:
    """A bar for each series, which has colour while the series is there."""
    defaults = {"unit": "bool_yes_no", "color": {"mode": "fixed", "fixedColor": "red"}}
    options = {
        "showValue": "never",
        "mergeValues": True,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
    }
    return _panel("state-timeline", title, description, defaults, options, list(queries))


def stat_panel(
    title: str, unit: str, description: str, expr: str, limits: tuple[float, float] | None = None
) -> Panel:
    """A figure of now, orange from the first limit on and red from the second."""
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if limits is not None:
        orange, red = limits
        steps += [{"color": "orange", "value": orange}, {"color": "red", "value": red}]
    defaults = {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}}
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
    }
    return _panel("stat", title, description, defaults, options, [PanelQuery(expr, title)])


def heat_panel(title: str, unit: str, description: str, buckets: str) -> Panel:
    """The buckets of a histogram over time, the darker the fuller."""
    options = {
        "calculate": False,
        "cellGap": 0,
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5},
        "yAxis": {"unit": unit, "axisPlacement": "left"},
        "tooltip": {"mode": "single", "yHistogram": True},
        "legend": {"show": False},
    }
    panel = _panel(
        "heatmap", title, description, {"unit": unit}, options, [PanelQuery(buckets, "{{le}}")]
    )
    panel["targets"][0]["format"] = "heatmap"
    return panel


def table_panel(title: str, unit: str, description: str, expr: str) -> Panel:
    """The labels of the series of now."""
    panel = _panel(
        "table", title, description, {"unit": unit}, {"showHeader": True}, [PanelQuery(expr, "")]
    )
    panel["targets"][0] |= {"format": "table", "instant": True, "range": False}
    hidden = dict.fromkeys(COLUMNS_HIDDEN, True)
    panel["transformations"] = [{"id": "organize", "options": {"excludeByName": hidden}}]
    return panel


def _panel(
    kind: str,
    title: str,
    description: str,
    defaults: dict[str, Any],
    options: dict[str, Any],
    queries: list[PanelQuery],
) -> Panel:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": letter,
                "datasource": SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
                "range": True,
            }
            for letter, query in zip("ABCDEFGH", queries, strict=False)
        ],
    }


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


def failed_part() -> str:
    """Of the calls that were owed an answer, the part that got none."""
    failed = rate_of("modelkit_calls_total", WHERE_FAILED)
    return f"{failed} / {rate_of('modelkit_calls_total', WHERE_OWED)}"


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
