"""The method "contributions": values that a model gives as an output of its own.

Additive models of other libraries write them. They are relative to a base of the model's, not to
the background.
"""

from __future__ import annotations

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.explain.method import ExplainRequest, NoFitError
from modelkit.explain.subject import CONTRIBUTIONS, Subject
from modelkit.explain.sums import Sum, SumMethod
from modelkit.explain.time_limit import current_call
from modelkit.signature.signature import Feeds


def make_declared(request: ExplainRequest) -> SumMethod:
    """The method, if the contributions and one base add up to what is served.

    Raises NoFitError if they do not, or the model lacks the output.
    """
    subject = request.subject
    outputs = {spec.name: spec for spec in subject.signature.outputs}
    spec = outputs.get(CONTRIBUTIONS)
    if spec is None:
        missing = f"the model lacks the output {CONTRIBUTIONS!r}"
        raise NoFitError("" if request.method == "auto" else missing)
    if len(spec.shape) in (2, 3) and spec.shape[1] == len(subject.players):
        for link, margin in _margins(subject).items():
            if link != "identity" and request.space in ("probability", "value"):
                continue
            method = _with_link(subject, link, margin)
            if method is not None:
                return method
    raise NoFitError(f"the output {CONTRIBUTIONS!r} and no one base add up to what is served")


def _margins(subject: Subject) -> dict[str, Array]:
    """For each possible link, what stands before it for the background, (m, k)."""
    served = subject.at_background
    margins = {"identity": served}
    with np.errstate(all="ignore"):
        if subject.space == "probability" and served.shape[1] == 2:
            odds = served[:, 1:] / served[:, :1]
            margins["logistic"] = np.log(odds)
        elif subject.space == "value":
            margins["exp"] = np.log(served)
    return margins


def _with_link(subject: Subject, link: str, margin: Array) -> SumMethod | None:
    """The method if the contributions add up to this raw score (m, k) of the background."""
    parts = _contributions(subject, subject.background)
    if parts.shape[2] != margin.shape[1] or not np.isfinite(margin).all():
        return None
    rest = margin - parts.sum(axis=1)
    base = np.median(rest, axis=0)

    def run(feeds: Feeds) -> tuple[Array, Array]:
        return _contributions(subject, feeds), base

    reason = f"the model has an output {CONTRIBUTIONS!r} that adds up to what it serves"
    found = Sum(CONTRIBUTIONS, run, link, rows_per_row=1, reason=reason)
    method = SumMethod(subject, found, exact=False)
    return None if method.misses(subject.count) else method


def _contributions(subject: Subject, feeds: Feeds) -> Array:
    """The contributions (n, players, k) that the model gives for rows."""
    got = subject.model._run(feeds, (CONTRIBUTIONS,), current_call())[CONTRIBUTIONS]
    return got.reshape(len(got), len(subject.players), -1).astype(np.float64)
