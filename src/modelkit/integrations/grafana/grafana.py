"""A dashboard for Grafana: what the metrics of `docs/metrics.md` say, on one screen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from modelkit.integrations.grafana.dashboard_rows import (
    at_a_glance,
    batch_panels,
    call_panels,
    drift_panels,
    http_panels,
    latency_panels,
    process_panels,
    rollout_panels,
    version_panels,
)
from modelkit.integrations.grafana.panels import SOURCE, Panel, row_line, side_by_side

SCHEMA_VERSION = 42  # the last one of this form of dashboards
LABEL_VALUES = 1  # what Grafana calls this kind of query
STAT_HEIGHT = 3
HEIGHT = 6


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it.

    What matters first is on one screen; the rows below are closed until somebody opens them.
    """
    panels = side_by_side(at_a_glance(), 0, STAT_HEIGHT)
    top = STAT_HEIGHT
    for title, members in (
        ("Calls and latency", [*call_panels(), *latency_panels()]),
        ("Batches and queue", batch_panels()),
        ("Drift and refused rows", drift_panels()),
    ):
        panels += [row_line(title, top), *side_by_side(members, top + 1, HEIGHT)]
        top += 1 + HEIGHT
    for title, members in (
        ("HTTP (of all models)", http_panels()),
        ("Which version answers, and where", version_panels()),
        ("Rollouts", rollout_panels()),
        ("Processes", process_panels()),
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
        "datasource": SOURCE,
        "query": {"qryType": LABEL_VALUES, "query": query, "refId": f"values of {label}"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }
