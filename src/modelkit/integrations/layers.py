"""What Batchers and Monitors have counted, kept when they are gone, so that no counter goes back."""

from __future__ import annotations

import weakref
from collections.abc import Container, Iterator, Mapping
from typing import final

from modelkit.drift.monitor import Monitor
from modelkit.integrations.families import Figure, Labels, Sums, add_figures, figures_in, is_gauge
from modelkit.integrations.figures import figures_of_layer
from modelkit.serving.batching.batcher import Batcher

Layers = Mapping[Batcher | Monitor, Labels]  # with the name and the version of their model


@final
class LayerCounts:
    """The counters of all layers that were seen: of those gone, as they were seen last."""

    def __init__(self) -> None:
        self._seen: dict[weakref.ref[Batcher | Monitor], tuple[Labels, list[Figure]]] = {}
        self._gone: dict[Labels, Sums] = {}

    def figures(self, layers: Layers, shown: Container[Labels]) -> Iterator[Figure]:
        """The gauges of these layers, and the counters of all layers of the versions shown."""
        for layer, labels in layers.items():
            self._seen.setdefault(weakref.ref(layer), (labels, []))
        for reference, (labels, before) in [*self._seen.items()]:
            known = reference()
            if known is None:
                if self._seen.pop(reference, None):  # or a scrape within this one was first
                    add_figures(self._gone.setdefault(labels, {}), before)
                continue
            figures = [*figures_of_layer(labels, known)]
            counters = [figure for figure in figures if not is_gauge(figure)]
            self._seen[reference] = (labels, counters)
            if known in layers:
                yield from figures
            elif labels in shown:
                yield from counters
        for labels, sums in [*self._gone.items()]:
            if labels in shown:
                yield from figures_in(sums)
            else:
                self._gone.pop(labels, None)
