"""Decide whether a candidate may take the place of a champion."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from modelkit.errors import UsageError
from modelkit.lifecycle.evaluation.answered import TaskKind
from modelkit.lifecycle.evaluation.sides import LabelledRows
from modelkit.lifecycle.evaluation.task import positive_place, task_kind
from modelkit.lifecycle.gate.check import GateCheck
from modelkit.lifecycle.gate.judging import Asking, judge, refuse_twice
from modelkit.lifecycle.gate.opened import Judged, open_judged
from modelkit.lifecycle.gate.policy import GateMetric, read_policy
from modelkit.lifecycle.gate.verdict import Verdict
from modelkit.lifecycle.registry.registry import Registry
from modelkit.model.model import Model
from modelkit.package.load import Openable


def gate(
    candidate: Model | Openable,
    champion: Model | Openable,
    X: Any,
    y: Any,
    *,
    margin: float | Mapping[str, float],
    metric: str | GateMetric | None = None,
    alpha: float = 0.05,
    require: Sequence[str | GateMetric] = (),
    veto: Sequence[str | GateMetric] = (),
    slices: Any = None,
    clusters: Any = None,
    queries: Any = None,
    positive: Any = None,
    budgets: Mapping[str, float] | None = None,
    checks: Sequence[GateCheck] = (),
    registry: Registry | None = None,
    seed: int = 0,
) -> Verdict:
    """Whether a candidate may take the place of a champion, judged on the same labelled rows.

        verdict = mk.gate("new.mk", "churn.mk", X_test, y_test, margin=0.01)
        verdict.decision, verdict.reason

    The decision is "promote" where all that is required is shown, "block" where a contract or a
    floor is broken or harm is shown, and else "inconclusive", with the number of rows that would
    decide. Differences are the candidate's figure less the champion's, with the sign turned where
    lower is better: above zero, the candidate is better.

    Args:
        candidate: a Model that was loaded from a package; or what `mk.load` opens, such as a path;
            or with `registry` a text such as "registry:churn@1.1.0".
        champion: the same; "registry:churn@champion" is judged as what this alias names now, and
            `Registry.set_alias(verdict=...)` then takes the Verdict for that alias only.
        X: n rows, as `Model.run` takes them, that neither was trained on.
        y: their truth, as `mk.evaluate` takes it.
        margin: how much worse the candidate may be, in units of the primary metric; 0 asks it to be
            shown better. For further metrics a dict, by metric.
        metric: the primary metric, by its name or as a GateMetric; by default the first of the task,
            such as "accuracy".
        alpha: the probability, at most, of promoting one that is worse than the margin allows.
        require: what must be shown, beside the primary metric: names of metrics in which the
            candidate is no worse than its margin, and floors such as "recall >= 0.6".
        veto: names of metrics in which no harm beyond their margin may be shown.
        slices: names of columns of X, or one name, or a dict of values (n,) by name: of the rows of
            each value, no harm may be shown.
        clusters: values (n,), or the name of a column of X: rows that belong together, such as
            those of one customer, count as one observation.
        queries: the same, for models that rank the rows of each query.
        positive: of two classes, the one that precision, recall, F1 and the areas are of, also in
            floors; by default the second of the champion's, and of outlier detectors the outliers.
        budgets: what the candidate may cost here: "p50_ratio" and "size_ratio" compare it with the
            champion, "p50_seconds" and "size_bytes" do not.
        checks: further ones that you made.
        registry: counts the gates on these rows, by which alpha is divided; and knows what its
            aliases name.
        seed: of the bootstrap.

    Raises:
        UsageError: if it cannot be judged as asked, or the truth does not fit the rows.
        TypeError: for an argument of another type.
        SignatureError: if the rows do not fit the champion.
        PackageError, NotFound: if a model cannot be opened.
        MissingExtraError: if scipy is missing.
    """
    rows = LabelledRows(X, y, slices=slices, clusters=clusters, queries=queries, positive=positive)
    own = _own_checks(checks)
    _check_registry(registry)
    _check_seed(seed)
    with ExitStack() as stack:
        ours = open_judged(candidate, registry, stack, "candidate")
        theirs = open_judged(champion, registry, stack, "champion")
        kind = task_kind(theirs.model.signature, theirs.manifest, queries=queries is not None)
        _refuse_encoder(ours, kind)
        place = positive_place(kind, theirs.model.signature.classes, positive)
        policy = read_policy(
            kind,
            metric=metric,
            margin=margin,
            alpha=alpha,
            require=require,
            veto=veto,
            budgets=budgets,
            about=_about(rows, own, seed, place),
        )
        asking = Asking(ours, theirs, rows, kind, policy, seed)
        return judge(asking, own, registry, clock=time.perf_counter)


def _check_registry(registry: object) -> None:
    if not isinstance(registry, Registry | None):
        raise TypeError(f"registry is a mk.Registry, not {registry!r:.80}")


def _check_seed(seed: object) -> None:
    if not isinstance(seed, int) or seed < 0:
        raise UsageError(f"seed is a whole number of at least 0, not {seed!r}")


def _refuse_encoder(candidate: Judged, kind: TaskKind) -> None:
    """Raise UsageError for models that embed texts, with what to do instead."""
    if kind == "retrieval":
        raise UsageError(
            f"{candidate.named} is an encoder, and a gate compares none. Evaluate both on the same "
            "texts, mk.evaluate(encoder, texts, labels), and compare their figures, such as "
            "recall_at_10, with their intervals. If a model uses the vectors, gate that model, and "
            "pass what you found as checks=[mk.types.GateCheck(...)]"
        )


def _about(
    rows: LabelledRows, checks: Sequence[GateCheck], seed: int, positive: int
) -> dict[str, Any]:
    """What the answers depend on, beside what the policy says of metrics and margins."""
    return {
        "seed": seed,
        "slices": sorted(map(str, rows.slices or ())),
        "clusters": rows.clusters is not None,
        "queries": rows.queries is not None,
        "positive": positive,
        "checks": [check.name for check in checks],
    }


def _own_checks(checks: Sequence[GateCheck]) -> tuple[GateCheck, ...]:
    """The checks of the caller. Raises TypeError for anything else, and UsageError for two of one name."""
    listed = () if isinstance(checks, GateCheck) else tuple(checks)
    if isinstance(checks, GateCheck) or not all(isinstance(check, GateCheck) for check in listed):
        raise TypeError(f"checks is a list of mk.types.GateCheck, not {checks!r:.80}")
    refuse_twice(listed)
    return listed
