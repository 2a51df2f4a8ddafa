"""What happened to the retrainings of a model, one numbered entry after another; pure.

A retraining is begun by a claim. Whoever makes the next claim takes it over, and only the last
claim adds steps. What holds now is the sum of all entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, final

from modelkit._internal import fields
from modelkit.lifecycle.registry.log import ALIAS, CHAMPION, DECIDED, ROLLOUT, Entry
from modelkit.lifecycle.retrain.policy import WINDOW, StandingAlarm
from modelkit.lifecycle.retrain.run import RetrainRun, RetrainStep, RunState, moment, posix_of
from modelkit.store.entries import EntryForm

CLAIM = "claim"  # somebody begins a retraining, or takes it over
STEPS = ("train", "save", "gate", "register", "rollout")
LEFT = "left"  # its holder leaves it
END = "end"  # it has ended
REFUSED = "refused"  # there is no retraining, and why
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
        run: the number of the retraining; 0 of a refusal.
        claim: of a claim, its number: the last claim of a retraining holds.
        lease: of a claim, the seconds after which it is over, if nothing is heard of the holder.
        reason: why there is a retraining; of a refusal, what of.
        end: of an end, the state.
        text: what came of a step, how it ended, or why it was refused.
        champion: of a first claim, the version that the retraining is to replace.
        champion_generation: of a first claim and of a refusal, the number of the entry by which the champion is it.
        alarms: those that led to a retraining, or that stood when it was refused.
        results: of a step, what all steps have come to.
    """

    generation: int
    kind: str
    at: float
    holder: str
    id: str
    previous: str
    run: int = 0
    claim: int = 0
    lease: float = 0.0
    reason: str = ""
    end: RunState | None = None
    text: str = ""
    champion: str = ""
    champion_generation: int = 0
    alarms: tuple[StandingAlarm, ...] = ()
    results: StepResults = StepResults()

    __repr__ = fields.brief

    def __str__(self) -> str:
        return f"{self.kind} of retraining {self.run}, by {self.holder}"


class RunEnd(NamedTuple):
    """Where a retraining stands: `at` is when it ended, in POSIX seconds, or 0.0."""

    state: RunState
    message: str
    at: float = 0.0


@final
@dataclass(frozen=True)
class OpenRun:
    """A retraining that has not ended.

    Attributes:
        first: the claim that began it.
        last: the claim that holds.
        left: whether its holder said that it leaves it.
        steps: what was done.
        results: what that came to.
    """

    first: RunEntry
    last: RunEntry
    left: bool = False
    steps: tuple[RetrainStep, ...] = ()
    results: StepResults = StepResults()

    @property
    def number(self) -> int:
        """Its number."""
        return self.first.run

    @property
    def on_trial(self) -> bool:
        """Whether its last step is done."""
        return bool(self.results.generation)

    def after(self, entry: RunEntry) -> OpenRun:
        """The retraining after one more entry about it."""
        if entry.kind == CLAIM:
            return replace(self, last=entry, left=False)
        if entry.kind == LEFT:
            return replace(self, left=True)
        if entry.kind not in STEPS:
            return self
        step = RetrainStep(entry.kind, entry.at, entry.holder, entry.text)
        return replace(self, steps=(*self.steps, step), results=entry.results)

    def run(self, name: str, end: RunEnd) -> RetrainRun:
        """The retraining of a model as a value."""
        return RetrainRun(
            name=name,
            number=self.number,
            state=end.state,
            reason=self.first.reason,
            message=end.message,
            at=self.first.at,
            ended=end.at,
            champion=self.first.champion,
            version=self.results.version,
            holder=self.last.holder,
            steps=self.steps,
            alarms=self.first.alarms,
        )


@final
@dataclass(frozen=True)
class Retrainings:
    """What all entries up to one come to.

    Attributes:
        name: the name of the model.
        generation: the number of the last entry; 0 before the first.
        last: its id.
        run: the retraining that has not ended, or None.
        ended: those that have, since the last promotion, and within 30 days: no rule looks at others.
        refusal: the last refusal, or None.
        refusal_generation: the number of the entry by which the champion was it then.
    """

    name: str
    generation: int = 0
    last: str = ""
    run: OpenRun | None = None
    ended: tuple[RetrainRun, ...] = ()
    refusal: RetrainRun | None = None
    refusal_generation: int = 0

    __repr__ = fields.brief

    @property
    def number(self) -> int:
        """The number of the last retraining; 0 before the first."""
        if self.run is not None:
            return self.run.number
        return self.ended[-1].number if self.ended else 0

    def after(self, entry: RunEntry) -> Retrainings:
        """What holds after one more entry. An entry of a kind that is not known changes nothing."""
        state = replace(self, generation=entry.generation, last=entry.id)
        if entry.kind == REFUSED:
            refusal = RetrainRun(
                self.name, 0, "refused", entry.reason, entry.text, entry.at, alarms=entry.alarms
            )
            generation = entry.champion_generation
            return replace(state, refusal=refusal, refusal_generation=generation)
        if self.run is None:
            begins = entry.kind == CLAIM
            return replace(state, run=OpenRun(entry, entry)) if begins else state
        if entry.kind != END or entry.end is None:
            return replace(state, run=self.run.after(entry))
        ended = self.run.run(self.name, RunEnd(entry.end, entry.text, entry.at))
        return replace(state, run=None, ended=_recent((*self.ended, ended)))

    def contradiction(self, stated: Retrainings, entry: RunEntry) -> str:
        """What an entry of a known kind states otherwise than follows."""
        return "retrainings" if entry.kind in KINDS and stated != self else ""


def _recent(runs: tuple[RetrainRun, ...]) -> tuple[RetrainRun, ...]:
    """Those since the last promotion, and those that a budget counts."""
    since = runs[-1].at - WINDOW
    promoted = [run.number for run in runs if run.state == "promoted"]
    least = max(promoted, default=0)
    return tuple(run for run in runs if run.number >= least or run.at > since)


FORM = EntryForm(RunEntry, Retrainings)


def turn_end(run: OpenRun, heard: float, now: float) -> RunEnd:
    """Whether its holder still goes on with a retraining that is not on trial.

    Args:
        run: the retraining.
        heard: when something was last heard of the holder, in POSIX seconds.
        now: in POSIX seconds.
    """
    last = run.last
    since = f"by {last.holder} since {moment(last.at)}"
    # A holder that was heard far in the future had a wrong clock: it must not be waited for.
    if run.left or abs(now - heard) >= last.lease:
        if last.claim >= MOST_CLAIMS:
            message = f"{last.claim} processes ended in it, the last one {last.holder}"
            return RunEnd("failed", message, now)
        return RunEnd("interrupted", f"it was left {since}; the next call goes on with it")
    return RunEnd("running", since)


def trial_end(run: OpenRun, entries: Sequence[Entry]) -> RunEnd:
    """How a trial ended, or that it goes on, by the entry that began it and those after it."""
    version = run.results.version
    start = run.steps[-1].at
    began, *later = [each for each in entries if each.generation >= run.results.generation]
    if began.kind == ALIAS:
        return RunEnd("promoted", f"{CHAMPION} is {version}", start)
    message = f"since {began.at}"
    for entry in later:
        # By the clock of the retraining, which in a replay is not that of the log.
        at = start + posix_of(entry.at) - posix_of(began.at)
        decision = entry.about.get("decision") if entry.kind == DECIDED else None
        if entry.alias == CHAMPION and entry.version == version:
            return RunEnd("promoted", entry.reason, at)
        if entry.alias == CHAMPION:
            moved = f"{CHAMPION} was set to {entry.version}: {entry.reason}"
            return RunEnd("superseded", moved, at)
        if decision == "rollback":
            return RunEnd("rolled back", entry.reason, at)
        if decision == "hold":
            message = f"held, for a person to decide: {entry.reason}"
    return RunEnd("on trial", message)


def trial_entry(version: str, entries: Sequence[Entry], after: int) -> Entry | None:
    """The entry that put a version on trial, or made it the champion; None without one."""
    for entry in entries:
        is_trial = entry.kind == ROLLOUT or entry.alias == CHAMPION
        if is_trial and entry.version == version and entry.generation > after:
            return entry
    return None
