"""Where a rollout stands, as a value with a card and a page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import exp
from typing import Any, final

from modelkit._internal import fields
from modelkit.lifecycle.registry.log import CHAMPION, Entry, State, Underway
from modelkit.lifecycle.registry.registry import Registry
from modelkit.lifecycle.rollout.chart import evidence_chart
from modelkit.lifecycle.rollout.counts import ByArm
from modelkit.lifecycle.rollout.decide import GuardEvidence, lacks, unmet
from modelkit.lifecycle.rollout.guards import DISAGREEMENTS, LATE_LOSSES
from modelkit.lifecycle.rollout.labels import KeysAnswered
from modelkit.lifecycle.rollout.ledger import RegistryLedger, start_in_the_future
from modelkit.lifecycle.rollout.outcomes import Outcomes
from modelkit.lifecycle.rollout.policy import RolloutPolicy
from modelkit.lifecycle.rollout.session import Session
from modelkit.lifecycle.rollout.switch import Switch
from modelkit.lifecycle.rollout.trial import OVER, Point, Trial
from modelkit.model.identity import Identity, identity_of
from modelkit.report import html

HEADER = ("guard", "worse: evidence", "rolls back at", "as good: evidence", "promotes at", "")
ONE_SIDED = (
    "in shadow both answered, and a number is the loss of one answer; pass a function of the "
    "outputs"
)
UNHEARD = (
    "a function needs the outputs, which this process does not have: post to the process that answered "
    "the key, soon after it did, or pass a number"
)
UNWRITTEN = "no process has written what it counted: each does with its first call after {:g} s"
MOST_SHOWN_LOG = 700.0  # the logarithm of the largest evidence that is shown as a number


@final
@dataclass(frozen=True)
class GuardProgress:
    """The evidence of one guard. 1 is none, and 100 or more decides at an alpha of .01.

    Attributes:
        name: the name of the guard.
        worse: the evidence that the candidate is worse than is allowed, the largest there was.
        rolls_back_at: the evidence at which it is rolled back; of disagreement, at which the
            rollout holds.
        better: the evidence that it is within what is allowed for a promotion; None where the guard
            has no say in that.
        promotes_at: the evidence that a promotion needs.
        void: why nothing can be said, or "".
    """

    name: str
    worse: float
    rolls_back_at: float
    better: float | None
    promotes_at: float
    void: str = ""

    def __str__(self) -> str:
        worse, rolls_back_at, better, promotes_at = _numbers(self)
        against = f"{worse} of {rolls_back_at} against it"
        if self.void:
            return f"{self.name}: {self.void}"
        if self.better is None:
            return f"{self.name}: {against}"
        return f"{self.name}: {against}, {better} of {promotes_at} for it"


@final
@dataclass(frozen=True)
class RolloutProgress:
    """Where a rollout stands.

    Attributes:
        champion: the name, version and digest of the Model that answers without a rollout; of one
            that has ended, of the champion that it began with.
        candidate: name, version and digest of the Model on trial; None where there is none.
        decision: "continue", "advance", "rollback", "promote" or "hold", as it was last; "none"
            where there is no rollout.
        reason: why.
        stage: the number of the stage, from 1; 0 where there is none.
        stages: how many there are.
        share: the share of the calls that the candidate answers now.
        seconds: since the rollout began.
        calls: how many calls the candidate and the champion had, in all.
        guards: the evidence of each guard.
        missing: what is missing for the next decision.
        notes: what else should be known, such as calls that were not shadowed.
        points: the evidence after each tick.
        under_way: whether it goes on.
    """

    champion: Identity
    candidate: Identity | None = None
    decision: str = "none"
    reason: str = ""
    stage: int = 0
    stages: int = 0
    share: float = 0.0
    seconds: float = 0.0
    calls: tuple[int, int] = (0, 0)
    guards: tuple[GuardProgress, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    points: tuple[Point, ...] = ()
    under_way: bool = False

    __repr__ = fields.brief

    def __str__(self) -> str:
        lines = [f"{name}: {fact}" for name, fact in self._facts()]
        return "\n".join([*lines, *map(str, self.guards)])

    def to_html(self) -> str:
        """A page of its own with the evidence over time; it has no scripts and loads nothing."""
        title = f"Rollout of {self.candidate.title}" if self.candidate else "Rollout"
        return html.page(title, self._repr_html_(), self.charts())

    def charts(self) -> html.Markup:
        """The evidence of each guard over time, as HTML; "" before there is any."""
        if len(self.points) <= 1:
            return html.Markup()
        charts = [
            evidence_chart(
                guard.name, self.points, number, (guard.rolls_back_at, guard.promotes_at)
            )
            for number, guard in enumerate(self.guards)
        ]
        return html.element("div", *charts, class_="grid")

    def _facts(self) -> list[tuple[str, str]]:
        notes = [("note", note) for note in self.notes]
        facts = [("champion", self.champion.title)]
        if self.candidate is None:
            return [*facts, *notes]
        stage = f"{self.stage} of {self.stages}"
        if self.under_way:
            facts.append(("candidate", self.candidate.title))
            stage = f"{stage}, share {self.share:.3g}"
        else:  # a champion may be none any more
            facts = [("ended", f"{self.candidate.title} against {self.champion.title}"), *notes]
            notes = []
        candidate, champion = self.calls
        decision = self.decision
        if decision != "continue":  # whose reason is what is missing
            decision = f"{decision}: {self.reason}"
        facts += [
            ("decision", decision),
            ("stage", stage),
            ("time", f"{self.seconds:,.0f} s"),
            ("calls", f"candidate {candidate:,}, champion {champion:,}"),
        ]
        facts += [("missing", what) for what in self.missing]
        return [*facts, *notes]

    def _repr_html_(self) -> html.Markup:
        rows = [[guard.name, *_numbers(guard), guard.void] for guard in self.guards]
        return html.card("Rollout", self._facts(), HEADER if rows else (), rows)


def _numbers(guard: GuardProgress) -> list[str]:
    """Both kinds of evidence, each before what it needs; "" for what has no say."""
    needed = None if guard.better is None else guard.promotes_at
    numbers = (guard.worse, guard.rolls_back_at, guard.better, needed)
    return ["" if number is None else f"{number:.3g}" for number in numbers]


def _guard_progress(policy: RolloutPolicy, guard: GuardEvidence) -> GuardProgress:
    """The evidence of a guard, beside what decides."""
    return GuardProgress(
        name=guard.name,
        worse=_shown(guard.worse),
        rolls_back_at=_shown(policy.to_promote if guard.pauses else policy.to_roll_back),
        better=None if guard.better is None else _shown(guard.better),
        promotes_at=_shown(policy.to_promote),
        void=guard.void,
    )


def _missing(trial: Trial) -> list[str]:
    """What a rollout lacks for its next decision."""
    state = trial.state()
    found = unmet(trial.policy, state)
    if trial.stage == len(trial.policy.stages) - 1:
        found += lacks(trial.policy, state)
        found += _keys_missing(trial)
    return found


def _keys_missing(trial: Trial) -> list[str]:
    """How many keys count for a promotion, where calls have keys and guards go by calls."""
    names = {guard.name for guard in trial.policy.guards}
    if trial.whole_keys >= trial.keys or names <= {DISAGREEMENTS, LATE_LOSSES}:
        return []
    calls = trial.policy.key_calls
    had = f"{trial.whole_keys:,} of {trial.keys:,} keys have"
    return [f"a key counts for a promotion once it has had {calls:,} calls: {had}"]


def _shown(logarithm: float) -> float:
    return exp(min(logarithm, MOST_SHOWN_LOG))


def progress_of(
    trial: Trial,
    identities: tuple[Identity, Identity],
    *,
    stage: int,
    under_way: bool,
    notes: Iterable[str],
) -> RolloutProgress:
    """Where the rollout of a trial stands.

    Args:
        trial: the trial, with what was counted.
        identities: of the champion and the candidate.
        stage: that calls are in, from 0.
        under_way: whether it goes on.
        notes: what else should be known.
    """
    state = trial.state()
    champion, candidate = identities
    return RolloutProgress(
        champion=champion,
        candidate=candidate,
        decision=trial.decision.kind,
        reason=trial.decision.reason,
        stage=stage + 1,
        stages=len(trial.policy.stages),
        share=trial.policy.stages[stage].share if under_way else 0.0,
        seconds=state.in_all,
        calls=(trial.all_calls.candidate, trial.all_calls.champion),
        guards=tuple(_guard_progress(trial.policy, guard) for guard in state.guards),
        missing=tuple(_missing(trial)) if under_way and not trial.over else (),
        notes=tuple(notes),
        points=tuple(trial.points),
        under_way=under_way,
    )


def progress_here(switch: Switch) -> RolloutProgress:
    """Where the rollout in this process stands, or how the last one ended."""
    with switch.lock:
        session = switch.session or switch.past
        notes = _notes(switch, session)
        if session is None:
            return RolloutProgress(identity_of(switch.champion), notes=notes)
        return progress_of(
            session.trial,
            session.identities,
            stage=session.stage,
            under_way=session is switch.session,
            notes=notes,
        )


def progress_afar(registry: Registry, name: str) -> RolloutProgress:
    """Where the rollout of a model stands, or how the last one ended, by what its processes wrote.

    Raises NotFound where the model has no champion.
    """
    state = State()
    rollout: Underway | None = None
    end: Entry | None = None
    for entry in registry.history(name):
        before, state = state.rollout, state.after(entry)
        if state.rollout is not None:
            rollout, end = state.rollout, None
        elif before is not None:
            end = entry
    now = _identity(registry, name, CHAMPION)
    if rollout is None:
        return RolloutProgress(now)
    trial, notes = _replayed(registry, name, rollout)
    if end is not None:
        notes.insert(0, ended_note(now))
    elif trial.all_calls == ByArm():
        notes.insert(0, UNWRITTEN.format(trial.policy.tick))
    versions = (rollout.champion, rollout.candidate)
    champion, candidate = (_identity(registry, name, version) for version in versions)
    progress = progress_of(
        trial, (champion, candidate), stage=rollout.stage, under_way=end is None, notes=notes
    )
    if end is None:
        return progress
    kind = end.about.get("decision")
    if kind in OVER:
        return replace(progress, decision=kind, reason=end.reason)
    return replace(progress, decision="none", reason="the champion was set by hand")


def _replayed(registry: Registry, name: str, rollout: Underway) -> tuple[Trial, list[str]]:
    """The trial as its processes have it, from all sums of what they counted; and what is odd."""
    policy = RolloutPolicy.from_json(rollout.policy, f"the policy of {rollout.candidate}")
    notes = start_in_the_future(rollout)
    trial = Trial(policy, 0.0)
    for found in RegistryLedger(registry, name, rollout, policy).read():
        trial.tick(found.counts, found.at, found.stage)
        notes += found.left_out
    return trial, notes + losses_left_out(trial)


def _identity(registry: Registry, name: str, which: str) -> Identity:
    release = registry.version(name, which)
    return Identity(name, release.version, release.digest)


def _notes(switch: Switch, session: Session[Any] | None) -> tuple[str, ...]:
    """What else should be known."""
    found = []
    if switch.failures:
        found.append(f"{switch.failures:,} failures beside the calls, last {switch.last_failure}")
    if session is None:
        return tuple(found)
    if session is not switch.session and not switch.closed:
        found.append(ended_note(identity_of(switch.champion)))
    found += session.ledger.odd
    if session.trial.full:
        found.append("there are more keys than are counted; the further ones count no more")
    if session.lost:
        found.append(
            f"nothing counts of {session.lost:,} ticks: what was counted before could not be written"
        )
    losses, shadow = session.losses, session.lineups.shadow
    if losses is not None and losses.turned_away:
        found.append(
            f"{losses.turned_away:,} losses were not taken, as too many waited to be weighed: post "
            "them again"
        )
    if shadow is not None and shadow.dropped:
        found.append(f"{shadow.dropped:,} calls were not shadowed: the queue was full")
    if shadow is not None and shadow.failures:
        found.append(f"{shadow.failures:,} copies could not be compared")
    if losses is not None:
        found += losses_left_out(session.trial, losses.outcomes)
    return tuple(found)


def ended_note(champion: Identity) -> str:
    """What is said of a rollout that is over."""
    return f"it has ended, and {champion.title} answers everything"


def losses_left_out(trial: Trial, outcomes: Outcomes | None = None) -> list[str]:
    """How many losses do not count, and why: those of this process, and those of the trial."""
    kept: list[Outcomes | KeysAnswered] = [] if trial.losses is None else [trial.losses.keys]
    kept += [] if outcomes is None else [outcomes]
    reasons = {
        "their keys were answered in two stages": sum(each.left_out for each in kept),
        "no answer to their keys is known": sum(each.unknown for each in kept),
        ONE_SIDED: sum(each.one_sided for each in kept),
        UNHEARD: 0 if outcomes is None else outcomes.unheard,
    }
    return [f"{count:,} losses left out: {why}" for why, count in reasons.items() if count]
