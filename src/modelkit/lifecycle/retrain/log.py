"""What happened to the retrainings of a model, one numbered entry after another; pure.

A retraining is begun by a claim. Whoever makes the next claim takes it over, and only the last
claim adds steps. What holds now is the sum of all entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from modelkit._internal import fields
from modelkit.errors import RegistryError
from modelkit.lifecycle.registry.log import ALIAS, CHAMPION, DECIDED, ROLLOUT, Entry
from modelkit.lifecycle.retrain.policy import WINDOW
from modelkit.lifecycle.retrain.run import RetrainRun, RetrainStep, RunState, moment, posix_of

CLAIM = "claim"  # somebody begins a retraining, or takes it over
STEPS = ("train", "save", "gate", "register", "rollout")
LEFT = "left"  # its holder leaves it
END = "end"  # it has ended
REFUSED = "refused"  # a retraining that was not begun, and why
MOST_CLAIMS = 3  # of a retraining: one that ends each of its processes is not begun for ever
KINDS = {CLAIM, *STEPS, LEFT, END, REFUSED}


@final
@dataclass(frozen=True)
class StepResults:
    """What the steps of a retraining have come to; "" and 0 before that.

    Attributes:
        package: the path of the package that was trained, on the machine of the holder.
        trained: the digest of that package.
        version: the version of the package that the registry keeps.
        model_digest: the digest of all that decides what it answers.
        decision: the decision of the gate.
        verdict: its Verdict, as JSON.
        generation: the number of the entry by which the version is on trial, or the champion.
    """

    package: str = ""
    trained: str = ""
    version: str = ""
    model_digest: str = ""
    decision: str = ""
    verdict: str = ""
    generation: int = 0


@final
@dataclass(frozen=True)
class RunEntry:
    """One entry of the log of retrainings.

    Attributes:
        generation: its number, from 1.
        kind: "claim", the name of a step, "left", "end", "refused", or what a newer modelkit wrote.
        at: when, in POSIX seconds, by the clock that the caller gave.
        holder: who wrote it: user, machine and process.
        id: by which equal entries of several writers differ.
        previous: the id of the entry before, "" of the first.
        run: the retraining as it begins, as it ended, or as it was refused; else None.
        claim: of a claim, its number: the last claim of a retraining holds.
        lease: of a claim, the seconds after which it is over, if nothing is heard of the holder.
        champion_generation: of a first claim and of a refusal, the number of the entry that set the champion.
        text: of a step, what came of it, in a few words.
        results: of a step, what all steps have come to.
    """

    generation: int
    kind: str
    at: float
    holder: str
    id: str
    previous: str
    run: RetrainRun | None = None
    claim: int = 0
    lease: float = 0.0
    champion_generation: int = 0
    text: str = ""
    results: StepResults = StepResults()

    __repr__ = fields.brief

    def __str__(self) -> str:
        return f"{self.kind}, by {self.holder}"


@final
@dataclass(frozen=True)
class OpenRun:
    """A retraining that has not ended.

    Attributes:
        run: the retraining by its entries so far.
        id: the id of the claim that began it.
        champion_generation: the number of the entry that set the champion.
        claim: the claim that holds.
        left: whether its holder left it.
        results: what its steps have come to.
    """

    run: RetrainRun
    id: str
    champion_generation: int
    claim: RunEntry
    left: bool = False
    results: StepResults = StepResults()

    @property
    def number(self) -> int:
        """Its number."""
        return self.run.number

    def after(self, entry: RunEntry) -> OpenRun:
        """The retraining after one more entry about it."""
        if entry.kind == CLAIM:
            run = replace(self.run, state="running", message="", holder=entry.holder)
            return replace(self, run=run, claim=entry, left=False)
        if entry.kind == LEFT:
            return replace(self, left=True)
        if entry.kind not in STEPS:
            return self
        step = RetrainStep(entry.kind, entry.at, entry.holder, entry.text)
        results = entry.results
        run = replace(self.run, steps=(*self.run.steps, step), version=results.version)
        return replace(self, run=run, results=results)

    def ended(self, state: RunState, message: str, at: float) -> RetrainRun:
        """The retraining as it ended, in POSIX seconds."""
        return replace(self.run, state=state, message=message, ended=at)


def begun(claim: RunEntry, run: RetrainRun) -> OpenRun:
    """The retraining that a first claim begins."""
    run = replace(run, holder=claim.holder)
    return OpenRun(run, claim.id, claim.champion_generation, claim)


@final
@dataclass(frozen=True)
class Retrainings:
    """What all entries up to one come to.

    Attributes:
        generation: the number of the last entry; 0 before the first.
        last: its id.
        open: the retraining that has not ended, or None.
        ended: those that have, since the last promotion, and within 30 days: no rule looks at others.
        refusal: the entry of the last refusal, or None.
    """

    generation: int = 0
    last: str = ""
    open: OpenRun | None = None
    ended: tuple[RetrainRun, ...] = ()
    refusal: RunEntry | None = None

    __repr__ = fields.brief

    @property
    def runs(self) -> tuple[RetrainRun, ...]:
        """The last retrainings, the first one first."""
        return self.ended if self.open is None else (*self.ended, self.open.run)

    @property
    def number(self) -> int:
        """The number of the last retraining; 0 before the first."""
        return self.runs[-1].number if self.runs else 0

    def after(self, entry: RunEntry) -> Retrainings:
        """What holds after one more entry. An entry of a kind that is not known changes nothing."""
        state = replace(self, generation=entry.generation, last=entry.id)
        if entry.kind == REFUSED:
            return replace(state, refusal=entry)
        if entry.kind == END and entry.run is not None:
            return replace(state, open=None, ended=_recent((*self.ended, entry.run)))
        if self.open is not None:
            return replace(state, open=self.open.after(entry))
        if entry.kind != CLAIM or entry.run is None:
            return state
        return replace(state, open=begun(entry, entry.run))

    def contradiction(self, stated: Retrainings, entry: RunEntry) -> str:
        """What an entry of a known kind states otherwise than follows."""
        return "retrainings" if entry.kind in KINDS and stated != self else ""


def _recent(runs: tuple[RetrainRun, ...]) -> tuple[RetrainRun, ...]:
    """Those since the last promotion, and those that a budget counts."""
    since = runs[-1].at - WINDOW
    least = max((run.number for run in runs if run.state == "promoted"), default=0)
    return tuple(run for run in runs if run.number >= least or run.at > since)


def at_work(run: OpenRun, heard: float, now: float) -> RetrainRun:
    """A retraining that is not on trial, as it stands now.

    Args:
        run: the retraining.
        heard: when something was last heard of its holder, in POSIX seconds.
        now: in POSIX seconds.
    """
    claim = run.claim
    since = f"by {claim.holder} since {moment(claim.at)}"
    # A holder that was heard far in the future had a wrong clock: it must not be waited for.
    if not run.left and abs(now - heard) < claim.lease:
        return replace(run.run, message=since)
    if claim.claim >= MOST_CLAIMS:
        message = f"{claim.claim} processes ended in it, the last one {claim.holder}"
        return run.ended("failed", message, now)
    message = f"it was left {since}; the next call goes on with it"
    return replace(run.run, state="interrupted", message=message)


def on_trial(run: OpenRun, entries: Sequence[Entry]) -> RetrainRun:
    """A retraining that is on trial, or was, by all entries of the log of its model.

    Raises RegistryError where the log is not the one in which the trial began.
    """
    version = run.results.version
    since = entries[run.results.generation - 1 :]
    if not trial_began(run, since[:1]):
        raise RegistryError(
            f"retraining {run.number} put {version} on trial by entry {run.results.generation} of "
            f"the log of {run.run.name}, where it is not: entries were lost or replaced; put back "
            "the log, from a copy of the registry"
        )
    began = since[0]
    start = run.run.steps[-1].at
    if began.kind == ALIAS:
        return run.ended("promoted", f"{CHAMPION} is {version}", start)
    message = f"since {began.at}"
    for entry in since[1:]:
        # By the clock of the retraining, which in a replay is another than the log's.
        at = start + posix_of(entry.at) - posix_of(began.at)
        decision = entry.about.get("decision") if entry.kind == DECIDED else None
        if entry.alias == CHAMPION and entry.version == version:
            return run.ended("promoted", entry.reason, at)
        if entry.alias == CHAMPION:
            moved = f"{CHAMPION} was set to {entry.version}: {entry.reason}"
            return run.ended("superseded", moved, at)
        if decision == "rollback":
            return run.ended("rolled back", entry.reason, at)
        if decision == "hold":
            message = f"held, for a person to decide: {entry.reason}"
    return replace(run.run, state="on trial", message=message)


def trial_began(run: OpenRun, entries: Sequence[Entry]) -> int:
    """The number of the entry that put the candidate on trial, or made it the champion; 0 without one."""
    for entry in entries:
        is_trial = entry.kind == ROLLOUT or entry.alias == CHAMPION
        is_new = entry.generation > run.champion_generation
        if is_trial and is_new and entry.version == run.results.version:
            return entry.generation
    return 0
