"""What each layer of a Model says of itself, as figures of the families."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf, log

from modelkit.drift.monitor import Monitor
from modelkit.integrations.families import Figure, Histogram, Labels
from modelkit.lifecycle.rollout.guards import DISAGREEMENTS
from modelkit.lifecycle.rollout.rollout import Rollout
from modelkit.model.model import Model
from modelkit.model.wrapper import Wrapper
from modelkit.serving.batching.batcher import Batcher
from modelkit.serving.metering.book import Counted
from modelkit.serving.metering.totals import BOUNDS, RequestTotals

LEAST_EVIDENCE = 1e-300


def layers_of(model: Model) -> Iterator[Model]:
    """A Model and those that it wraps, from the outside inwards."""
    yield model
    while isinstance(model, Wrapper):
        model = model.inner
        yield model


def figures_of_calls(counted: Counted) -> Iterator[Figure]:
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
        where = (placement.device, placement.asked, str(placement.threads))
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
    for (route, status), requests in totals.requests.items():
        yield "modelkit_http_requests", (route, str(status)), requests
    for route, durations in totals.durations.items():
        seconds = histogram_of_seconds(durations, totals.seconds[route])
        yield "modelkit_http_request_duration_seconds", (route,), seconds
    yield "modelkit_http_in_flight", (), totals.in_flight


def histogram_of_seconds(durations: Iterable[int], seconds: float) -> Histogram:
    """Durations that were counted by `BOUNDS`, with their sum."""
    return Histogram(dict(zip((*BOUNDS, inf), durations, strict=True)), seconds)
