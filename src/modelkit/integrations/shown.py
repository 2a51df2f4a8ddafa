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

from modelkit._internal.process import watch_forks
from modelkit.drift.monitor import Monitor
from modelkit.integrations.families import FAMILIES, Figure, Labels, Sums, add_figures, is_gauge
from modelkit.integrations.figures import (
    figures_of_calls,
    figures_of_model,
    figures_of_requests,
    figures_of_rollout,
    layers_of,
)
from modelkit.integrations.layers import LayerCounts, Layers
from modelkit.lifecycle.rollout.rollout import Rollout
from modelkit.lifecycle.rollout.within import rollout_in
from modelkit.model.identity import identity_of
from modelkit.model.model import Model
from modelkit.serving.batching.batcher import Batcher
from modelkit.serving.metering import book, requests
from modelkit.serving.metering.gone import FoldersRead


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
        self.after_fork()
        watch_forks(self)

    def _add(self, model: Model) -> None:
        if not isinstance(model, Model):
            raise TypeError(
                f"a Collector takes Models, not a {type(model).__name__}; of a dict of them, pass "
                "*models.values()"
            )
        reference = reference_to(model)
        for name in dict.fromkeys(labels_of(each)[0] for each in answering(model)):
            if name in self._roots:
                raise ValueError(
                    f"two Models are named {name!r}, and their counts would be one: pass the one "
                    "that answers, since what replaces it is found by its name; or save them under "
                    "two names"
                )
            self._roots[name] = reference
        for each in reversed(answering(model)):  # of a Rollout, the champion comes last
            labels = labels_of(each)
            self._last[labels[0]] = labels

    def after_fork(self) -> None:
        """In the child of a fork: another thread may have held the lock."""
        # Taken again by the thread that has it: a handler of signals may scrape within a scrape.
        self._lock = threading.RLock()

    def sums(self) -> Sums:
        """All figures of now; those of equal labels are one. Raises MeterError."""
        found: Sums = {name: {} for name in FAMILIES}
        reading = FoldersRead()
        add_figures(found, figures_of_requests(requests.totals(reading)))
        with self._lock:
            for counted in book.counted(*self._roots, reading=reading):
                add_figures(found, figures_of_calls(counted))
            for rollout in self._rollouts():
                add_figures(found, figures_of_rollout(rollout))
            layers: dict[Batcher | Monitor, Labels] = {}
            for name in self._roots:
                add_figures(found, self._of_models(name, layers))
            shown = {*self._last.values(), *layers.values(), *found["modelkit_rows"]}
            add_figures(found, self._of_layers(layers, shown))
        return found

    def _rollouts(self) -> Iterator[Rollout]:
        """The Rollouts among the Models of the caller, each once."""
        roots = [reference() for reference in self._roots.values()]  # None for those that are gone
        for root in {id(root): root for root in roots if root is not None}.values():
            rollout = rollout_in(root)
            if rollout is not None:
                yield rollout

    def _of_models(self, name: str, layers: dict[Batcher | Monitor, Labels]) -> Iterator[Figure]:
        """What the Models of a name are; their layers that count for themselves go to `layers`."""
        models = self._open(name)
        if not models:
            yield "modelkit_model_ready", self._last[name], 0
        for model in models:
            labels = labels_of(model)
            self._last[name] = labels
            yield from figures_of_model(labels, model)
            layers |= dict.fromkeys(counting_layers(model), labels)

    def _open(self, name: str) -> list[Model]:
        """The Models of a name that answer: those of the caller, and those of living Meters."""
        root = self._roots[name]()
        found: list[Model] = []
        if root is not None and not root.closed:
            found = [model for model in answering(root) if labels_of(model)[0] == name]
        found += [meter for meter in book.meters(name) if meter is not root]
        return [model for model in found if not model.closed]

    def _of_layers(self, layers: Layers, shown: Container[Labels]) -> Iterator[Figure]:
        """What Batchers and Monitors say.

        Where processes count together, those of this one would be a part that differs from scrape
        to scrape, so that only the gauges are shown.
        """
        shared = {name for name in self._roots if book.is_shared(name)}
        for figure in self._counts.figures(layers, shown):
            if is_gauge(figure) or figure[1][0] not in shared:
                yield figure


def answering(model: Model) -> Sequence[Model]:
    """The Models that answer for one: itself, or those that a Rollout chooses from."""
    rollout = rollout_in(model)
    return (model,) if rollout is None else rollout.models


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
