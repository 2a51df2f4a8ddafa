"""The Models that a Collector shows, found again at each scrape, and the figures of each.

What replaces a Model is found by the name of its package: the book of Meters knows those that live,
and the last that went.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from math import inf, log
from typing import final

from modelkit._internal.process import watch_forks
from modelkit.drift.monitor import Monitor
from modelkit.errors import UsageError
from modelkit.integrations.families import (
    FAMILIES,
    Figure,
    Histogram,
    Labels,
    Sums,
    add_figures,
    figures_in,
    is_gauge,
)
from modelkit.lifecycle.rollout.guards import DISAGREEMENTS
from modelkit.lifecycle.rollout.rollout import Rollout
from modelkit.model.identity import identity_of
from modelkit.model.model import Model
from modelkit.model.wrapper import layer_of, layers_of
from modelkit.serving.batching.batcher import Batcher
from modelkit.serving.metering import book, requests
from modelkit.serving.metering.book import VersionCounts
from modelkit.serving.metering.ledger import read_folder
from modelkit.serving.metering.totals import BOUNDS, RequestTotals

Layers = Mapping[Batcher | Monitor, Labels]  # with the name and the version of their model
LEAST_EVIDENCE = 1e-300


@final
class Shown:
    """Some Models, and those that replace them; refers to them weakly where possible.

    Args:
        models: the outermost Models, each with a name of its own.

    Raises:
        TypeError: for anything but Models.
        UsageError: for two Models of one name.
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
                f"a Collector takes Models, not {type(model).__name__}; of a dict of them, pass "
                "*models.values()"
            )
        reference = reference_to(model)
        for each in reversed(answering(model)):  # of a Rollout, the champion comes last
            labels = labels_of(each)
            if self._roots.setdefault(labels[0], reference) is not reference:
                raise UsageError(
                    f"two Models are named {labels[0]!r}, and their counts would be one: pass the one "
                    "that answers, since what replaces it is found by its name; or save them under "
                    "two names"
                )
            self._last[labels[0]] = labels

    def after_fork(self) -> None:
        """In the child of a fork: another thread may have held the lock."""
        # Taken again by the thread that has it: a handler of signals may scrape within a scrape.
        self._lock = threading.RLock()

    def sums(self) -> Sums:
        """All figures of now; figures with equal labels are added up. Raises UsageError."""
        found: Sums = {name: {} for name in FAMILIES}
        read = cache(read_folder)  # once a scrape
        add_figures(found, figures_of_requests(requests.totals(read)))
        with self._lock:
            for counted in book.counted(*self._roots, read=read):
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
            rollout = layer_of(root, Rollout)
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
            for layer in layers_of(model):
                if isinstance(layer, Batcher | Monitor):
                    layers[layer] = labels

    def _open(self, name: str) -> list[Model]:
        """The Models of a name that answer: the caller's, and the ones that living Meters hold."""
        root = self._roots[name]()
        found: list[Model] = []
        if root is not None and not root.closed:
            found = [model for model in answering(root) if labels_of(model)[0] == name]
        found += [meter for meter in book.meters(name) if meter is not root]
        return [model for model in found if not model.closed]

    def _of_layers(self, layers: Layers, shown: Container[Labels]) -> Iterator[Figure]:
        """What Batchers and Monitors say.

        Where processes count together, this process would show a part that differs from scrape to
        scrape, so only the gauges are shown.
        """
        shared = {name for name in self._roots if book.is_shared(name)}
        for figure in self._counts.figures(layers, shown):
            if is_gauge(figure) or figure[1][0] not in shared:
                yield figure


def answering(model: Model) -> Sequence[Model]:
    """The Models that answer for one: itself, or those that a Rollout chooses from."""
    rollout = layer_of(model, Rollout)
    return (model,) if rollout is None else rollout.models


def labels_of(model: Model) -> Labels:
    """The name and the version of a model."""
    return identity_of(model)[:2]


def reference_to(model: Model) -> Callable[[], Model | None]:
    """Gives a Model for as long as it lives; one without weak references is kept alive."""
    try:
        return weakref.ref(model)
    except TypeError:
        return partial(lambda kept: kept, model)


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
            alive = reference()
            if alive is None:
                if self._seen.pop(reference, None):  # or a scrape within this one was first
                    add_figures(self._gone.setdefault(labels, {}), before)
                continue
            figures = [*figures_of_layer(labels, alive)]
            counters = [figure for figure in figures if not is_gauge(figure)]
            self._seen[reference] = (labels, counters)
            if alive in layers:
                yield from figures
            elif labels in shown:
                yield from counters
        for labels, sums in [*self._gone.items()]:
            if labels in shown:
                yield from figures_in(sums)
            else:
                self._gone.pop(labels, None)


def figures_of_calls(counted: VersionCounts) -> Iterator[Figure]:
    """What Meters have counted of one version."""
    model = (counted.name, counted.version)
    totals = counted.totals
    for outcome, calls in totals.calls.items():
        yield "modelkit_calls", (*model, outcome), calls
    yield "modelkit_rows", model, totals.rows
    durations = histogram_of_seconds(totals.durations, totals.seconds)
    yield "modelkit_call_duration_seconds", model, durations


def figures_of_layer(model: Labels, layer: Batcher | Monitor) -> Iterator[Figure]:
    """What a Batcher has done, or a Monitor has seen, of a model."""
    if isinstance(layer, Batcher):
        return figures_of_batches(model, layer)
    return figures_of_drift(model, layer)


def figures_of_batches(model: Labels, batcher: Batcher) -> Iterator[Figure]:
    """What a Batcher has done, and what waits in it."""
    stats = batcher.stats()
    bounds = [float((1 << bits) - 1) for bits in range(1, stats.max_rows.bit_length() + 1)]
    bins = dict.fromkeys((*bounds, inf), 0)
    for most, batches in stats.batch_sizes.items():
        bins[next(bound for bound in bins if most <= bound)] += batches
    yield "modelkit_batch_rows", model, Histogram(bins, stats.batched)
    for reason, batches in stats.released.items():
        yield "modelkit_batches", (*model, reason), batches
    yield "modelkit_queue_rows", model, stats.queued
    yield "modelkit_queue_limit_rows", model, stats.max_queue
    yield "modelkit_out_of_memory", model, stats.out_of_memory


def figures_of_drift(model: Labels, monitor: Monitor) -> Iterator[Figure]:
    """What a Monitor has seen; losses have an alarm where its profile has losses."""
    yield "modelkit_monitored_rows", model, monitor.served
    yield "modelkit_monitor_failures", model, monitor.failures
    alarmed = monitor.alarmed
    features = [feature.name for feature in monitor.profile.features]
    if monitor.profile.baseline is not None:
        features.append("loss")
    for feature in features:
        yield "modelkit_drift_alarm", (*model, feature), int(feature in alarmed)


def figures_of_model(labels: Labels, model: Model) -> Iterator[Figure]:
    """What a model is, and where it runs."""
    manifest = model.manifest
    about = ("", "") if manifest is None else (manifest.digest, manifest.runtime)
    placement = model.placement
    where = ("", "", "")
    if placement is not None:
        where = (placement.device, placement.requested, str(placement.threads))
    if placement is not None and placement.since:
        yield "modelkit_loaded_timestamp_seconds", labels, placement.since
    yield "modelkit_model_info", (*labels, *about, *where), 1
    yield "modelkit_model_ready", labels, 1


def figures_of_rollout(rollout: Rollout) -> Iterator[Figure]:
    """Where a rollout stands, or how the last one ended, under the version of its candidate."""
    progress = rollout.status()
    yield "modelkit_rollout_failures", progress.champion[:2], rollout.failures
    if progress.candidate is None:
        return
    labels = progress.candidate[:2]
    yield "modelkit_rollout_stage", labels, progress.stage if progress.under_way else 0
    yield "modelkit_rollout_share", labels, progress.share
    for arm, calls in zip(("candidate", "champion"), progress.calls, strict=True):
        yield "modelkit_rollout_units", (*labels, arm), calls
    yield "modelkit_rollout_decision", (*labels, progress.decision), 1
    for guard in progress.guards:
        against = (*labels, guard.name, "hold" if guard.name == DISAGREEMENTS else "rollback")
        yield "modelkit_rollout_evidence", against, _part(guard.worse, guard.rolls_back_at)
        if guard.better is not None:
            promotion = (*labels, guard.name, "promote")
            yield "modelkit_rollout_evidence", promotion, _part(guard.better, guard.promotes_at)


def _part(evidence: float, needed: float) -> float:
    """How far evidence is on its way, on the scale on which it grows: 0 is none, and 1 decides."""
    return log(max(evidence, LEAST_EVIDENCE)) / log(needed)


def figures_of_requests(totals: RequestTotals) -> Iterator[Figure]:
    """What the web edges of this process have answered."""
    for (route, status), answered in totals.requests.items():
        yield "modelkit_http_requests", (route, str(status)), answered
    for route, durations in totals.durations.items():
        seconds = histogram_of_seconds(durations, totals.seconds[route])
        yield "modelkit_http_request_duration_seconds", (route,), seconds
    yield "modelkit_http_in_flight", (), totals.in_flight


def histogram_of_seconds(durations: Iterable[int], seconds: float) -> Histogram:
    """Durations that were counted by `BOUNDS`, with their sum."""
    return Histogram(dict(zip((*BOUNDS, inf), durations, strict=True)), seconds)
