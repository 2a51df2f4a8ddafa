"""The Models that a Collector shows, found anew at each scrape.

What replaces a Model is found by the name of its package: the book of Meters knows those that live,
and the last that went.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from typing import final

from modelkit import forks
from modelkit.batching.batcher import Batcher
from modelkit.drift.monitor import Monitor
from modelkit.identity import identity_of
from modelkit.integrations.families import FAMILIES, Figure, Labels, Sums, add_figures, is_gauge
from modelkit.integrations.figures import (
    figures_of_calls,
    figures_of_model,
    figures_of_requests,
    layers_of,
)
from modelkit.integrations.layers import LayerCounts, Layers
from modelkit.metering import book, requests
from modelkit.model import Model


@final
class Shown:
    """Some Models, and those that replace them; holds no Model that can be referred to weakly.

    Args:
        models: the outermost Models, each with a name of its own.

    Raises:
        TypeError: for anything but Models.
        ValueError: for two Models of one name.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        self._roots: dict[str, Callable[[], Model | None]] = {}
        self._last: dict[str, Labels] = {}  # the version of each name that was open last
        for i, model in enumerate(models):
            if not any(model is other for other in models[:i]):
                self._add(model)
        self._counts = LayerCounts()
        self._lock = threading.Lock()
        forks.watch(self)

    def _add(self, model: Model) -> None:
        if not isinstance(model, Model):
            raise TypeError(
                f"a Collector takes Models, not a {type(model).__name__}; of a dict of them, pass "
                "*models.values()"
            )
        name, version = labels_of(model)
        if name in self._roots:
            raise ValueError(
                f"two Models are named {name!r}, and their counts would be one: pass the one that "
                "answers, since what replaces it is found by its name; or save them under two names"
            )
        self._roots[name] = reference_to(model)
        self._last[name] = (name, version)

    def after_fork(self) -> None:
        """In the child of a fork: another thread may have held the lock."""
        self._lock = threading.Lock()

    def sums(self) -> Sums:
        """All figures of now; those of equal labels are one. Raises MeterError."""
        found: Sums = {name: {} for name in FAMILIES}
        add_figures(found, figures_of_requests(requests.totals()))
        with self._lock:
            for counted in book.counted(*self._roots):
                add_figures(found, figures_of_calls(counted))
            layers: dict[Batcher | Monitor, Labels] = {}
            for name in self._roots:
                models = self._open(name)
                if not models:
                    add_figures(found, [("modelkit_model_ready", self._last[name], 0)])
                for model in models:
                    labels = labels_of(model)
                    self._last[name] = labels
                    add_figures(found, figures_of_model(labels, model))
                    layers |= dict.fromkeys(counting_layers(model), labels)
            shown = {*self._last.values(), *found["modelkit_rows"]}
            add_figures(found, self._of_layers(layers, shown))
        return found

    def _open(self, name: str) -> list[Model]:
        """The Models of a name that answer: that of the caller, and those of living Meters."""
        root = self._roots[name]()
        found: list[Model] = [] if root is None else [root]
        found += [meter for meter in book.meters(name) if meter is not root]
        return [model for model in found if not model.closed]

    def _of_layers(
        self,
        layers: Layers,
        shown: Container[Labels],
    ) -> Iterator[Figure]:
        """What Batchers and Monitors say.

        Where processes count together, those of this one would be a part that differs from scrape
        to scrape, so that only the gauges are shown.
        """
        shared = {name for name in self._roots if book.is_shared(name)}
        for figure in self._counts.figures(layers, shown):
            if is_gauge(figure) or figure[1][0] not in shared:
                yield figure


def labels_of(model: Model) -> Labels:
    """The name and the version of a model."""
    return identity_of(model)[:2]


def counting_layers(model: Model) -> Iterator[Batcher | Monitor]:
    """The layers of a Model that count for themselves."""
    for layer in layers_of(model):
        if isinstance(layer, Batcher | Monitor):
            yield layer


def reference_to(model: Model) -> Callable[[], Model | None]:
    """Gives a Model for as long as it lives; one without weak references is kept alive."""
    try:
        return weakref.ref(model)
    except TypeError:
        return partial(lambda kept: kept, model)
