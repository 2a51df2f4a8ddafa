"""Panels of a dashboard, as Grafana stores them."""

from __future__ import annotations

from typing import Any, NamedTuple

Panel = dict[str, Any]

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SCREEN_WIDTH = 24  # of a dashboard, in its own units
COLUMNS_HIDDEN = ("Time", "Value", "__name__")


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


def state_panel(title: str, unit: str, description: str, *queries: PanelQuery) -> Panel:
    """A bar for each series, which has colour while the series is there."""
    defaults = {"unit": unit, "color": {"mode": "fixed", "fixedColor": "red"}}
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
