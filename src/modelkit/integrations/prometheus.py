"""Models as a collector of prometheus_client; the only module that imports it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast, final

from modelkit.errors import importing
from modelkit.integrations.families import FAMILIES, Family, Histogram, Labels
from modelkit.integrations.shown import Shown
from modelkit.model.model import Model

if TYPE_CHECKING:
    from prometheus_client import Metric


@final
class Collector:
    """Shows Prometheus what Models have served: `REGISTRY.register(Collector(model))`.

        from modelkit.integrations.prometheus import Collector
        body, content_type = Collector(mk.layered(model)).text()

    At each scrape it walks the layers of the Models again and says what each of them knows: the
    calls of a Meter, the batches of a Batcher, the drift of a Monitor, where the model runs and
    whether it is open, and the HTTP requests of the Apps of this process. docs/reference/metrics.md says what
    each figure means. A scrape costs a call nothing, and may come from any thread.

    A Model that replaces another one of the same name is found by its Meter; the last three
    versions that went are shown too. No Model is kept alive. Have one Collector in a registry: two
    of them would show the HTTP requests twice, so the registry refuses the second.

    Args:
        models: the outermost Models, each with a name of its own: its package's, or for a
            model without a package the name of its class.

    Raises:
        TypeError: for anything but Models.
        UsageError: for two Models of one name.
        MissingExtraError: if prometheus-client is not installed.
    """

    def __init__(self, *models: Model) -> None:
        _families()
        self._shown = Shown(models)

    def collect(self) -> list[Metric]:
        """The families that have figures now, as prometheus_client asks for them."""
        sums = self._shown.sums()
        found = []
        for name, family in FAMILIES.items():
            if sums[name]:
                found.append(_written(name, family, sums[name]))
        return found

    def describe(self) -> list[Metric]:
        """All families without figures, so a registry knows their names without a scrape."""
        return [_written(name, family, {}) for name, family in FAMILIES.items()]

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """The body and the content type of an answer to a scrape.

        Args:
            accept: the header Accept of the request, which asks for the text of Prometheus or that
                of OpenMetrics; the former without one.
        """
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(accept)
        return encode(self), content_type


@cache
def _families() -> dict[str, Any]:
    """The families of prometheus_client, by kind. Raises MissingExtraError."""
    with importing("prometheus_client", "a Collector", "metrics"):
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )
    return {
        "counter": CounterMetricFamily,
        "gauge": GaugeMetricFamily,
        "histogram": HistogramMetricFamily,
    }


def _written(name: str, family: Family, figures: Mapping[Labels, Any]) -> Metric:
    metric = _families()[family.kind](name, family.about, labels=family.labels)
    for labels, value in figures.items():
        if isinstance(value, Histogram):
            buckets = [(_bound(bound), count) for bound, count in value.cumulative()]
            metric.add_metric(labels, buckets, value.total)
        else:
            metric.add_metric(labels, value)
    return cast("Metric", metric)


@cache
def _bound(value: float) -> str:
    """A bound as both texts write it."""
    from prometheus_client.utils import floatToGoString

    return str(floatToGoString(value))  # type: ignore[no-untyped-call]  # it has no annotations
