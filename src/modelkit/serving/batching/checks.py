"""What a Batcher asks of its model and its arguments."""

from __future__ import annotations

from collections.abc import Callable
from threading import TIMEOUT_MAX

from modelkit._internal.fields import check_integer
from modelkit.errors import BatchError, UsageError
from modelkit.model.model import Model
from modelkit.serving.batching.policy import BatchPlan
from modelkit.signature.signature import Feeds

# Rows in the form in which they are run, and their size: rows, or the cost that the model declares.
Prepare = Callable[[Feeds], tuple[Feeds, int]]


def letters_of(feeds: Feeds) -> int:
    """The letters of all texts in the rows."""
    columns = [feed for feed in feeds.values() if feed.dtype == object]
    return sum(len(text) for column in columns for text in column.flat)


def declares_cost(model: Model) -> bool:
    """Whether the innermost model prepares rows and says what they cost."""
    return type(model.base)._prepare is not Model._prepare


def preparation_of(model: Model) -> Prepare:
    """What prepares rows and gives their size; a call without rows takes its turn as well."""
    first = model.signature.inputs[0].name

    def as_they_are(feeds: Feeds) -> tuple[Feeds, int]:
        return feeds, len(feeds[first]) or 1

    def prepared(feeds: Feeds) -> tuple[Feeds, int]:
        ready, cost = model._prepare(feeds)
        return ready, max(1, cost)

    return prepared if declares_cost(model) else as_they_are


def check_options(max_rows: int, max_queue: int = 1, plan: BatchPlan | str = "measure") -> None:
    """Raise UsageError for an argument of Batcher that is out of its range."""
    for name, value in (("max_rows", max_rows), ("max_queue", max_queue)):
        check_integer(name, value, 1)
    if not isinstance(plan, BatchPlan) and plan not in ("measure", "learn"):
        raise UsageError(f'plan is "measure", "learn" or the plan of another Batcher, got {plan!r}')


def checked_timeout(timeout: float | None) -> float | None:
    """A time to wait. Raises UsageError for one that a lock does not take, or takes for endless."""
    if timeout is not None and not 0 <= timeout <= TIMEOUT_MAX:
        raise UsageError(
            f"timeout is in seconds and at least 0, or None to wait for the end; got {timeout!r}"
        )
    return timeout


def check_batchable(model: Model) -> None:
    """Raise BatchError if rows of one batch could disturb each other, or cannot be told apart."""
    signature = model.signature
    if signature.batch is None:
        raise BatchError(
            "only tensors that all lead with one named dimension can be batched, and this "
            f"model's do not: {signature}",
            model=model,
        )
    if model.unobserved is not model:
        raise UsageError(
            "a Monitor or Meter inside a Batcher would see padding and retries; put it outside, "
            "Meter(Monitor(Batcher(model))), as mk.layered(model) does"
        )
    if not model.batchable:
        raise BatchError(
            f"cannot batch {model!r}, whose rows may depend on their batch: "
            f"{model._why_not_batchable()}",
            model=model,
        )
