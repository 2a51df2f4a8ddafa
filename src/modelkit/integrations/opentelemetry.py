"""What a scrape shows, as points that an exporter of OpenTelemetry takes.

The SDK of OpenTelemetry lacks an instrument for a histogram that was counted elsewhere, so all
figures are made points here, and nothing is recorded a second time. The SDK and its exporters are the
application's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

from modelkit.errors import importing
from modelkit.integrations.families import FAMILIES, Family, Histogram, Labels
from modelkit.integrations.shown import Shown
from modelkit.model.model import Model

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import Metric, MetricsData
    from opentelemetry.sdk.resources import Resource

SCOPE = "modelkit"


@final
class Points:
    """The figures of Models for an exporter of OpenTelemetry: `exporter.export(points.now())`.

        from modelkit.integrations.opentelemetry import Points
        points = Points(mk.layered(model))
        exporter.export(points.now())

    They have the names, labels and bounds that a `Collector` shows, so the same dashboards and
    alert rules serve both. All counts are cumulative.

    Args:
        models: as a `Collector` takes them.
        resource: who reports; None for what the environment variables of OpenTelemetry say.

    Raises:
        TypeError: for anything but Models.
        UsageError: for two Models of one name.
        MissingExtraError: if opentelemetry-sdk is not installed.
    """

    def __init__(self, *models: Model, resource: Resource | None = None) -> None:
        with importing("opentelemetry-sdk", "Points"):
            from opentelemetry.sdk.resources import Resource
        self._shown = Shown(models)
        self._resource = Resource.create() if resource is None else resource
        self._begun = time.time_ns()

    def now(self) -> MetricsData:
        """All figures of this moment; raises UsageError where shared counts cannot be read."""
        from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        sums = self._shown.sums()
        metrics = [self._metric(name, FAMILIES[name], found) for name, found in sums.items()]
        shown = [metric for metric in metrics if metric.data.data_points]
        scope = ScopeMetrics(InstrumentationScope(SCOPE), shown, "")
        return MetricsData([ResourceMetrics(self._resource, [scope], "")])

    def _metric(self, name: str, family: Family, figures: Mapping[Labels, Any]) -> Metric:
        from opentelemetry.sdk.metrics import export

        cumulative = export.AggregationTemporality.CUMULATIVE
        times = self._begun, time.time_ns()
        points: list[Any] = []
        for labels, value in figures.items():
            attributes = dict(zip(family.labels, labels, strict=True))
            if isinstance(value, Histogram):
                points.append(_histogram_point(attributes, value, times))
            else:
                points.append(export.NumberDataPoint(attributes, *times, value))
        data: Any = export.Gauge(points)
        if family.kind == "counter":
            data = export.Sum(points, cumulative, is_monotonic=True)
        elif family.kind == "histogram":
            data = export.Histogram(points, cumulative)
        return export.Metric(name, family.about, "", data)


def _histogram_point(attributes: dict[str, str], value: Histogram, times: tuple[int, int]) -> Any:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    counts = list(value.bins.values())
    bounds = list(value.bins)[:-1]  # the last one is infinity
    unknown: Any = None  # the protocol allows for no minimum and no maximum
    return HistogramDataPoint(
        attributes, *times, sum(counts), value.total, counts, bounds, unknown, unknown
    )
