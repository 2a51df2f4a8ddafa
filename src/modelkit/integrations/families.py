"""The families of figures that a scrape shows, as values; no library of metrics is known here.

Label values come from constructors and manifests, never from a call, so that their number does not
grow with what is served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from operator import add
from typing import Any, Literal

Labels = tuple[str, ...]
Figure = tuple[str, Labels, Any]  # a family, the values of its labels, and a number or a Histogram
Sums = dict[str, dict[Labels, Any]]  # by family and the values of its labels
OF_MODEL = ("model", "version")


@dataclass(frozen=True)
class Histogram:
    """How many values there were up to each bound and above the one before it, and their sum."""

    bins: Mapping[float, int]
    total: float

    def __add__(self, other: Histogram) -> Histogram:
        bins = {}
        for bound in sorted({*self.bins, *other.bins}):
            bins[bound] = self.bins.get(bound, 0) + other.bins.get(bound, 0)
        return Histogram(bins, self.total + other.total)

    def cumulative(self) -> list[tuple[float, int]]:
        """For each bound how many values were up to it."""
        return list(zip(self.bins, accumulate(self.bins.values()), strict=True))


@dataclass(frozen=True)
class Family:
    """One family: what it means, its labels, and how figures of equal labels become one."""

    kind: Literal["counter", "gauge", "histogram"]
    about: str
    labels: Labels = OF_MODEL
    join: Callable[[Any, Any], Any] = add


# By name; that of a counter is shown with the ending _total.
FAMILIES = {
    "modelkit_calls": Family("counter", "Calls by what became of them.", (*OF_MODEL, "outcome")),
    "modelkit_rows": Family("counter", "Rows that were answered."),
    "modelkit_call_duration_seconds": Family(
        "histogram", "Time from a call to its answer, estimated from about one answered call in 16."
    ),
    "modelkit_batch_rows": Family("histogram", "Rows of a batch, or the cost the model declares."),
    "modelkit_batches": Family("counter", "Batches by why they were run.", (*OF_MODEL, "reason")),
    "modelkit_queue_rows": Family("gauge", "Rows that wait, or the cost the model declares."),
    "modelkit_queue_limit_rows": Family("gauge", "The most rows that may wait."),
    "modelkit_out_of_memory": Family("counter", "Batches that did not fit into memory."),
    "modelkit_monitored_rows": Family("counter", "Rows that a Monitor saw."),
    "modelkit_monitor_failures": Family("counter", "Errors in the monitoring itself."),
    "modelkit_drift_alarm": Family(
        "gauge", "1 where the drift of a feature raised an alarm.", (*OF_MODEL, "feature"), max
    ),
    "modelkit_model_info": Family(
        "gauge",
        "1, with what a model is and where it runs.",
        (*OF_MODEL, "digest", "runtime", "device", "requested", "threads"),
        max,
    ),
    "modelkit_model_ready": Family("gauge", "1 where a model is open, 0 where none is.", join=max),
    "modelkit_loaded_timestamp_seconds": Family(
        "gauge", "When a model was loaded, in seconds since 1970.", join=max
    ),
    "modelkit_rollout_stage": Family(
        "gauge", "The stage of a candidate's rollout, from 1; 0 when it has ended.", join=max
    ),
    "modelkit_rollout_share": Family(
        "gauge", "The share of the calls that the candidate answers.", join=max
    ),
    "modelkit_rollout_units": Family(
        "gauge", "The calls of each arm since the rollout began.", (*OF_MODEL, "arm"), max
    ),
    "modelkit_rollout_evidence": Family(
        "gauge",
        "The logarithm of the evidence of a guard for a decision, divided by the one that is needed.",
        (*OF_MODEL, "guard", "decision"),
        max,
    ),
    "modelkit_rollout_decision": Family(
        "gauge", "1 for the last decision about a candidate.", (*OF_MODEL, "decision"), max
    ),
    "modelkit_rollout_failures": Family(
        "counter", "Errors beside the calls of a Rollout, such as a version that cannot be loaded."
    ),
    "modelkit_http_requests": Family(
        "counter", "HTTP requests by route and status.", ("route", "code")
    ),
    "modelkit_http_request_duration_seconds": Family(
        "histogram", "Time from the head of an HTTP request to its answer.", ("route",)
    ),
    "modelkit_http_in_flight": Family("gauge", "HTTP requests under way.", ()),
}


def add_figures(sums: Sums, figures: Iterable[Figure]) -> None:
    """Join figures to figures with equal labels."""
    for name, labels, value in figures:
        found = sums.setdefault(name, {})
        joined = value
        if labels in found:
            joined = FAMILIES[name].join(found[labels], value)
        found[labels] = joined


def figures_in(sums: Sums) -> Iterator[Figure]:
    """The figures that sums consist of."""
    for name, found in sums.items():
        for labels, value in found.items():
            yield name, labels, value


def is_gauge(figure: Figure) -> bool:
    """Whether a figure is one of now, and no count that only grows."""
    return FAMILIES[figure[0]].kind == "gauge"
