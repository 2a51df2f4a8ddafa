"""Put all questions of a gate to two models, and decide."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import SignatureError, UsageError
from modelkit.lifecycle.evaluation.answered import Answered, TaskKind
from modelkit.lifecycle.evaluation.assembly import FEW_UNITS, library_versions
from modelkit.lifecycle.evaluation.figures import OF_POSITIVE, positive_of
from modelkit.lifecycle.evaluation.metrics import TaskMetric
from modelkit.lifecycle.evaluation.sides import LabelledRows
from modelkit.lifecycle.gate.both import (
    AskedRows,
    Both,
    answered_by_both,
    asked_rows,
    feeds_of,
    numbers_check,
)
from modelkit.lifecycle.gate.budgets import Clock, budget_checks
from modelkit.lifecycle.gate.check import GateCheck
from modelkit.lifecycle.gate.claims import HarmCase, Levels, no_harm, no_worse
from modelkit.lifecycle.gate.comparison import Comparison, compare_by
from modelkit.lifecycle.gate.contract import contract_checks, gaps_check, gaps_of
from modelkit.lifecycle.gate.floors import floor_check
from modelkit.lifecycle.gate.holdout import counted_use, share_of_alpha
from modelkit.lifecycle.gate.opened import Judged
from modelkit.lifecycle.gate.policy import GatePolicy, MetricFloor
from modelkit.lifecycle.gate.verdict import Verdict, decision_of
from modelkit.lifecycle.registry.registry import Registry
from modelkit.signature.compatible import refused_gaps

FEW_ROWS = 200  # fewer, of all or of a class, are few


@final
@dataclass(frozen=True, eq=False)
class Asking:
    """All that a gate was asked."""

    candidate: Judged
    champion: Judged
    rows: LabelledRows
    kind: TaskKind
    policy: GatePolicy
    seed: int

    def digest(self, clusters: Array | None) -> str:
        """What tells this gate from others on the same rows: other clusters make another test."""
        models = (self.candidate.manifest.model_digest, self.champion.manifest.model_digest)
        together = b"" if clusters is None else clusters.astype("<i8").tobytes()
        told = "\0".join((*models, self.policy.digest)).encode()
        return hashlib.sha256(told + together).hexdigest()


def judge(
    asking: Asking, own: Sequence[GateCheck], registry: Registry | None, *, clock: Clock
) -> Verdict:
    """The Verdict. Where the models do not fit each other, the rows are not looked at."""
    checks = contract_checks(
        asking.candidate.model, asking.candidate.manifest, asking.champion.model.signature
    )
    if not any(check.outcome == "fail" for check in checks):
        checks[0] = _with_gaps(asking, checks[0])
    if any(check.outcome == "fail" for check in checks):
        return _verdict(asking, [*checks, *own], None, 0)
    asked = asked_rows(asking.candidate.model, asking.champion.model, asking.rows, asking.kind)
    use = 0
    if registry is not None:
        gate = asking.digest(asked.task.clusters)
        use = counted_use(registry.hold_out(asked.digest), gate)
    alpha = asking.policy.alpha
    levels = Levels(
        shown=share_of_alpha(alpha, use), harm=alpha, fresh=share_of_alpha(alpha, min(use, 1))
    )
    both = answered_by_both(asking.candidate.model, asking.champion.model, asked)
    checks.append(numbers_check(both))
    checks += figure_checks(asking, both, asked.slices, levels)
    sides = (asking.candidate, asked.candidate), (asking.champion, asked.champion)
    checks += budget_checks(asking.policy.budgets, *sides, levels, clock=clock)
    return _verdict(asking, [*checks, *own], asked, use)


def _with_gaps(asking: Asking, signature: GateCheck) -> GateCheck:
    """The check of the signature, once it is known whether these rows have missing values."""
    ours = asking.candidate.model
    theirs = asking.champion.model
    gaps = refused_gaps(theirs.signature, ours.signature)
    if not gaps:
        return signature
    feeds_of(theirs, asking.rows)  # what the champion refuses as well is the caller's to mend
    refused = None
    try:
        feeds_of(ours, asking.rows)
    except SignatureError as error:
        refused = error
    return gaps_check(signature, gaps, gaps_of(theirs), refused)


def figure_checks(
    asking: Asking, both: Both, slices: dict[str, Any], levels: Levels
) -> list[GateCheck]:
    """What is asked of the metrics."""
    policy = asking.policy
    compared = _Comparer(policy, both, asking.seed)
    found = [_floor(floor, policy, both, levels) for floor in policy.floors]
    found += [
        no_worse(name, compared.of(name), policy.margins[name], levels) for name in policy.required
    ]
    vetoes = [compared.case(name, f"no harm to {name}") for name in policy.vetoes]
    found += no_harm(vetoes, levels.harm, "veto")
    return found + no_harm(_slice_cases(compared, slices), levels.harm, "slice")


def _slice_cases(compared: _Comparer, slices: dict[str, Any]) -> list[HarmCase]:
    cases = []
    for column, texts in slices.items():
        for value in sorted(set(texts.tolist())):
            part = compared.at(np.flatnonzero(texts == value))
            cases += [
                part.case(name, f"{name} where {column} is {value}")
                for name in compared.policy.sliced
            ]
    return cases


@final
@dataclass(frozen=True, eq=False)
class _Comparer:
    """Compares two models by a metric, of all rows or of some."""

    policy: GatePolicy
    both: Both
    seed: int

    def at(self, rows: Any) -> _Comparer:
        return _Comparer(self.policy, Both(*(each.at(rows) for each in self.both)), self.seed)

    def case(self, name: str, title: str) -> HarmCase:
        return title, name, self.policy.margins[name], self.of(name)

    def of(self, name: str) -> partial[Comparison]:
        return partial(compare_by, self.policy.metrics[name], *self.both, seed=self.seed)


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
    refuse_twice(checks)
    rows = 0 if asked is None else len(asked.task)
    units = 0 if asked is None else asked.task.units
    return Verdict(
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
        rows=rows,
        independent=units,
        data_digest="" if asked is None else asked.digest,
        policy_digest=policy.digest,
        checks=tuple(checks),
        seed=asking.seed,
        versions=library_versions(),
        notes=tuple(_notes(asking, asked, use, units)),
        positive="" if asked is None else positive_of(asked.task),
    )


def refuse_twice(checks: Sequence[GateCheck]) -> None:
    """Raise UsageError where two checks have one name, by which a Verdict gives them."""
    names = [check.name for check in checks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two checks have the same name: {', '.join(twice)}")


def _notes(asking: Asking, asked: AskedRows | None, use: int, units: int) -> list[str]:
    if asked is None:
        return ["the answers were not compared, since the contract is broken"]
    notes = []
    told = {*asking.policy.margins, *(floor.metric for floor in asking.policy.floors)}
    of_positive = [name for name in OF_POSITIVE if name in told]
    if of_positive and asking.kind == "binary":
        notes.append(f"{', '.join(of_positive)}: of the class {positive_of(asked.task)!r}")
    alpha = asking.policy.alpha
    if use == 0:
        notes.append(
            "nobody counts how often these rows were used; with registry=, each further candidate on "
            "them has a smaller part of alpha"
        )
    else:
        notes.append(
            f"gate {use:,} on these rows: what speaks for a promotion is tested at "
            f"alpha / ({use} * {use + 1}) = {share_of_alpha(alpha, use):.3g}"
        )
    if asking.candidate.manifest.model_digest == asking.champion.manifest.model_digest:
        notes.append("candidate and champion are the same model")
    return [*notes, *_few(asked.task, units)]


def _few(task: Answered, units: int) -> list[str]:
    """What is said of few rows, clusters or rows of a class."""
    if task.clusters is not None and units < FEW_UNITS:
        return [f"{units:,} clusters are few: the tests are rough"]
    if task.clusters is None and units < FEW_ROWS:
        return [f"{units:,} independent rows are few: the tests are rough"]
    if task.kind != "binary":
        return []
    rarer = int(np.bincount(task.truth, minlength=2).min())
    if rarer >= FEW_ROWS:
        return []
    return [f"{rarer:,} rows of the rarer class are few: tests of figures by class are rough"]
