"""Decide whether a candidate may take the place of a champion."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import numpy as np

from modelkit import events
from modelkit._internal.arrays import Array
from modelkit._internal.progress import bars, step
from modelkit.drift.order import check_seed
from modelkit.errors import UsageError
from modelkit.lifecycle.evaluation.answered import Answered, TaskKind
from modelkit.lifecycle.evaluation.check import CheckPart, GateCheck
from modelkit.lifecycle.evaluation.evaluate import FEW_UNITS, library_versions
from modelkit.lifecycle.evaluation.figures import OF_POSITIVE, positive_of
from modelkit.lifecycle.evaluation.metrics import TaskMetric
from modelkit.lifecycle.evaluation.rows import LabelledRows
from modelkit.lifecycle.evaluation.task import positive_place, task_kind
from modelkit.lifecycle.gate.both import AskedRows, Both, answered_by_both, asked_rows
from modelkit.lifecycle.gate.budgets import Clock, budget_checks
from modelkit.lifecycle.gate.claims import HarmCase, Levels, floor_check, no_harm, no_worse
from modelkit.lifecycle.gate.comparison import compare_by
from modelkit.lifecycle.gate.contract import contract_checks, numbers_check
from modelkit.lifecycle.gate.holdout import counted_use, share_of_alpha
from modelkit.lifecycle.gate.opened import Judged, open_judged
from modelkit.lifecycle.gate.policy import GateMetric, GatePolicy, MetricFloor, read_policy
from modelkit.lifecycle.gate.verdict import Verdict, decision_of
from modelkit.lifecycle.registry.registry import Registry
from modelkit.model.model import Model
from modelkit.package.source import Openable

FEW_ROWS = 200  # fewer, of all or of a class, are few


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
    unseal: Any = None,
    seed: int = 0,
    progress: bool | None = None,
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
        clusters: values (n,), or the name of a column of X: rows that belong together, such as one
            customer's, count as one observation.
        queries: the same, for models that rank the rows of each query.
        positive: of two classes, the one that precision, recall, F1 and the areas are of, also in
            floors; by default the second of the champion's, and of outlier detectors the outliers.
        budgets: what the candidate may cost here: "p50_ratio" and "size_ratio" compare it with the
            champion, "p50_seconds" and "size_bytes" do not.
        checks: further ones that you made, of this candidate where they say of which model.
        registry: counts the gates on these rows, by which alpha is divided; and knows what its
            aliases name.
        unseal: what opens the versions of a registry of sealed packages, as `mk.load` takes it.
        seed: of the bootstrap.
        progress: show a bar; by default in a notebook.

    Returns:
        The Verdict, with the decision, its reason and every check.

    Raises:
        UsageError: if it cannot be judged as asked, or the truth does not fit the rows.
        TypeError: for an argument of another type.
        SignatureError: if the rows do not fit the champion.
        PackageError, NotFound: if a model cannot be opened.
        MissingExtraError: if scipy is missing.
    """
    rows = LabelledRows(X, y, slices=slices, clusters=clusters, queries=queries, positive=positive)
    with bars(progress, "gate"), ExitStack() as stack:
        opened = partial(open_judged, registry=registry, unseal=unseal, stack=stack)
        ours = opened(candidate, what="candidate")
        asking = _asking(
            ours,
            opened(champion, what="champion"),
            rows,
            _own_checks(checks, ours),
            seed,
            metric=metric,
            margin=margin,
            alpha=alpha,
            require=require,
            veto=veto,
            budgets=budgets,
        )
        return judge(asking, registry, clock=time.perf_counter)


def _asking(
    candidate: Judged,
    champion: Judged,
    rows: LabelledRows,
    own: tuple[GateCheck, ...],
    seed: int,
    **asked: Any,
) -> Asking:
    """All that a gate was asked, `asked` as `read_policy` takes it. Raises UsageError."""
    check_seed(seed)
    signature = champion.model.signature
    kind = task_kind(signature, champion.manifest, queries=rows.queries is not None)
    if kind == "retrieval":
        raise UsageError(
            f"{candidate.named} is an encoder, and a gate compares none. Evaluate both on the same "
            "texts, mk.evaluate(encoder, texts, labels), and compare their figures, such as "
            "recall@10, with their intervals. If a model uses the vectors, gate that model, and "
            "pass what you found as checks=[mk.types.GateCheck(...)]"
        )
    about = {
        "seed": seed,
        "slices": sorted(map(str, rows.slices or ())),
        "clusters": rows.clusters is not None,
        "queries": rows.queries is not None,
        "positive": positive_place(kind, signature.classes, rows.positive),
        "checks": [check.name for check in own],
    }
    policy = read_policy(kind, about=about, **asked)
    return Asking(candidate, champion, rows, kind, policy, own, seed)


def _own_checks(checks: Sequence[GateCheck], candidate: Judged) -> tuple[GateCheck, ...]:
    """The checks of the caller.

    Raises TypeError for anything else, and UsageError for two of one name and for one of another model.
    """
    listed = () if isinstance(checks, GateCheck) else tuple(checks)
    if isinstance(checks, GateCheck) or not all(isinstance(check, GateCheck) for check in listed):
        raise TypeError(f"checks is a list of mk.types.GateCheck, not {checks!r:.80}")
    refuse_twice(listed)
    digest = candidate.manifest.model_digest
    for check in listed:
        if check.model_digest not in ("", digest):
            raise UsageError(
                f"the check {check.name!r} is of the model {check.model_digest:.12}, and the candidate "
                f"{candidate.named} is {digest:.12}: make it of what you measured on the candidate"
            )
    return listed


def refuse_twice(checks: Sequence[GateCheck]) -> None:
    """Raise UsageError where two checks have one name, by which a Verdict gives them."""
    names = [check.name for check in checks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two checks have the same name: {', '.join(twice)}")


@final
@dataclass(frozen=True, eq=False)
class Asking:
    """All that a gate was asked."""

    candidate: Judged
    champion: Judged
    rows: LabelledRows
    kind: TaskKind
    policy: GatePolicy
    own: tuple[GateCheck, ...]
    seed: int

    def digest(self, clusters: Array | None) -> str:
        """What sets this gate apart from others on the same rows: other clusters make another test."""
        models = (self.candidate.manifest.model_digest, self.champion.manifest.model_digest)
        together = b"" if clusters is None else clusters.astype("<i8").tobytes()
        asked = "\0".join((*models, self.policy.digest)).encode()
        return hashlib.sha256(asked + together).hexdigest()


def judge(asking: Asking, registry: Registry | None, *, clock: Clock) -> Verdict:
    """The Verdict. Where the models do not fit each other, the rows are not looked at."""
    ours = asking.candidate
    theirs = asking.champion
    checks = contract_checks(ours, theirs, asking.rows)
    if decision_of(checks) == "block":
        return _verdict(asking, checks, None, 0)
    asked = asked_rows(ours.model, theirs.model, asking.rows, asking.kind)
    use = 0
    if registry is not None:
        folder = registry.hold_out_folder(asked.digest)
        use = counted_use(folder, asking.digest(asked.task.clusters))
    alpha = asking.policy.alpha
    levels = Levels(share_of_alpha(alpha, use), alpha, share_of_alpha(alpha, min(use, 1)))
    both = answered_by_both(ours.model, theirs.model, asked)
    checks.append(numbers_check(both))
    checks += figure_checks(asking, both, asked.slices, levels)
    sides = (ours, asked.candidate), (theirs, asked.champion)
    checks += budget_checks(asking.policy.budgets, *sides, levels, clock=clock)
    return _verdict(asking, checks, asked, use)


def figure_checks(
    asking: Asking, both: Both, slices: dict[str, Any], levels: Levels
) -> Iterator[GateCheck]:
    """What is asked of the metrics."""
    policy = asking.policy

    def case(title: str, name: str, sides: Both) -> HarmCase:
        compared = partial(compare_by, policy.metrics[name], *sides, seed=asking.seed)
        return title, name, policy.margins[name], compared

    for floor in policy.floors:
        yield _floor(floor, policy, both, levels)
    for name in policy.required:
        step(name)
        _, _, margin, compared = case(name, name, both)
        yield no_worse(name, compared, margin, levels)
    cases: dict[CheckPart, list[HarmCase]] = {"veto": [], "slice": []}
    for name in policy.vetoes:
        cases["veto"].append(case(f"no harm to {name}", name, both))
    for column, texts in slices.items():
        for value in sorted(set(texts.tolist())):
            part = both.at(np.flatnonzero(texts == value))
            for name in policy.sliced:
                cases["slice"].append(case(f"{name} where {column} is {value}", name, part))
    for kind, asked in cases.items():
        yield from no_harm(asked, levels.harm, kind)


def _floor(floor: MetricFloor, policy: GatePolicy, both: Both, levels: Levels) -> GateCheck:
    metric = policy.metrics[floor.metric]
    if not isinstance(metric, TaskMetric):
        raise UsageError(f"a floor is for a metric of the task, not for your own: {floor}")
    return floor_check(floor, metric, both.candidate.answered, levels)


def _verdict(
    asking: Asking, checks: Sequence[GateCheck], asked: AskedRows | None, use: int
) -> Verdict:
    policy = asking.policy
    ours = asking.candidate
    theirs = asking.champion
    checks = [*checks, *asking.own]
    refuse_twice(checks)
    rows: dict[str, Any] = {"rows": 0, "independent": 0, "data_digest": ""}
    notes = ["the answers were not compared, since the contract is broken"]
    if asked is not None:
        task = asked.task
        rows = {"rows": len(task), "independent": task.units, "data_digest": asked.digest}
        rows["positive"] = positive_of(task)
        notes = list(_notes(asking, task, use))
    verdict = Verdict(
        decision=decision_of(checks),
        candidate=ours.named,
        candidate_digest=ours.manifest.model_digest,
        champion=theirs.named,
        champion_digest=theirs.manifest.model_digest,
        generation=theirs.generation,
        alias=theirs.alias,
        kind=asking.kind,
        metric=policy.metric,
        margins=policy.margins,
        alpha=policy.alpha,
        spent=share_of_alpha(policy.alpha, use),
        uses=use,
        policy_digest=policy.digest,
        checks=tuple(checks),
        seed=asking.seed,
        versions=library_versions(),
        notes=tuple(notes),
        **rows,
    )
    found = (verdict.candidate_digest, verdict.decision, verdict.champion)
    events.emit(events.Judged(ours.manifest.name, ours.manifest.version, *found))
    return verdict


def _notes(asking: Asking, task: Answered, use: int) -> Iterator[str]:
    policy = asking.policy
    named = {*policy.margins, *(floor.metric for floor in policy.floors)}
    of_positive = [name for name in OF_POSITIVE if name in named]
    if of_positive and asking.kind == "binary":
        yield f"{', '.join(of_positive)}: of the class {positive_of(task)!r}"
    if use:
        yield (
            f"gate {use:,} on these rows: what speaks for a promotion is tested at "
            f"alpha / ({use} * {use + 1}) = {share_of_alpha(policy.alpha, use):.3g}"
        )
    else:
        yield (
            "your earlier gates on these rows are not counted; pass registry=, and each further candidate "
            "on them gets a smaller share of alpha"
        )
    if asking.candidate.manifest.model_digest == asking.champion.manifest.model_digest:
        yield "candidate and champion are the same model"
    yield from _few(task)


def _few(task: Answered) -> Iterator[str]:
    """What is said of few rows, clusters or rows of a class."""
    least = FEW_ROWS if task.clusters is None else FEW_UNITS
    if task.units < least:
        what = "independent rows" if task.clusters is None else "clusters"
        yield f"{task.units:,} {what} are few: the tests are rough"
    elif task.kind == "binary":
        rarer = int(np.bincount(task.truth, minlength=2).min())
        if rarer < FEW_ROWS:
            yield f"{rarer:,} rows of the rarer class are few: tests of figures by class are rough"
