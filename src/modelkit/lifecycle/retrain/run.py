"""One retraining, as a value, made of what was recorded of it; pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, final

from modelkit._internal import fields
from modelkit._internal.json import from_record, to_record
from modelkit.errors import PackageError
from modelkit.lifecycle.registry.log import ALIAS, CHAMPION, DECIDED, ROLLOUT, Entry
from modelkit.lifecycle.retrain.policy import StandingAlarm
from modelkit.report import html

RUN_SCHEMA = "modelkit.retraining/1"
RUN_STEPS = ("train", "save", "gate", "register", "rollout")
RunState = Literal[
    "refused",
    "running",
    "interrupted",
    "on trial",
    "promoted",
    "rolled back",
    "superseded",
    "blocked",
    "inconclusive",
    "failed",
]
UNDER_WAY = ("running", "interrupted", "on trial")
MOST_CLAIMS = 3  # of a retraining: one that ends each of its processes is not begun for ever


@final
@dataclass(frozen=True)
class RetrainStep:
    """A step that was done.

    Attributes:
        name: "train", "save", "gate", "register" or "rollout".
        at: when it was recorded, in POSIX seconds.
        holder: who did it: user, machine and process.
        text: what came of it.
    """

    name: str
    at: float
    holder: str
    text: str

    def __str__(self) -> str:
        return f"{self.name:<8} {moment(self.at)} {self.text}"


@final
@dataclass(frozen=True, repr=False)
class RetrainRun:
    """One retraining, or the refusal of one. It holds no row.

    Attributes:
        name: the name of the model.
        number: of the retraining, from 1; 0 of a refusal.
        state: "refused"; "running", "interrupted" (the next call goes on with it) or "on trial";
            or how it ended: "promoted", "rolled back", "superseded" (somebody else was faster),
            "blocked" or "inconclusive" (by the gate), or "failed".
        reason: why there is a retraining; of a refusal, what of: "busy", "quiet", "failures", "cooldown",
            "budget", "persist" or "labels".
        message: how it ended, or why it was refused, in a sentence.
        at: when it started, in POSIX seconds.
        ended: when it ended; 0.0 before that.
        champion: the version that it was to replace.
        version: the version that it made; "" before that.
        holder: who does it: user, machine and process.
        steps: what was done.
        alarms: those that led to it, which are closed when it promotes.
    """

    name: str
    number: int
    state: RunState
    reason: str
    message: str
    at: float
    ended: float = 0.0
    champion: str = ""
    version: str = ""
    holder: str = ""
    steps: tuple[RetrainStep, ...] = ()
    alarms: tuple[StandingAlarm, ...] = ()

    @property
    def under_way(self) -> bool:
        """Whether it goes on: the next call sees to it."""
        return self.state in UNDER_WAY

    def to_json(self) -> str:
        """Everything, as one line of ASCII."""
        return to_record(self, RUN_SCHEMA)

    @staticmethod
    def from_json(text: str) -> RetrainRun:
        """The inverse of `to_json`. Raises PackageError for any other text."""
        try:
            return from_record(RetrainRun, text, RUN_SCHEMA, "retraining")
        except (TypeError, ValueError) as error:
            raise PackageError(f"this is not a RetrainRun in JSON: {error}") from error

    def __str__(self) -> str:
        return "\n  ".join([f"{self._title()}: {self._what()}", *map(str, self.steps)])

    __repr__ = fields.brief

    def _title(self) -> str:
        if self.state == "refused":
            return f"no retraining of {self.name}, {moment(self.at)}"
        return f"retraining {self.number} of {self.name}, {moment(self.at)}"

    def _what(self) -> str:
        if self.state == "refused":
            return f"{self.reason}: {self.message}"
        made = f" with {self.version} in place of {self.champion}" if self.version else ""
        message = f": {self.message}" if self.message else ""
        return f"{self.reason}: {self.state}{made}{message}"

    def _repr_html_(self) -> str:
        facts = [("state", self.state), ("reason", self.reason)]
        facts += [("message", self.message)] if self.message else []
        facts += [("champion", self.champion)] if self.champion else []
        facts += [("candidate", self.version)] if self.version else []
        facts += [("alarm", str(alarm)) for alarm in self.alarms]
        rows = [(step.name, moment(step.at), step.holder, step.text) for step in self.steps]
        header = ("step", "at", "by", "")
        return html.card(self._title(), facts, header if rows else (), rows)


@final
@dataclass(frozen=True)
class Claim:
    """Whose turn a retraining is.

    Attributes:
        number: the fencing number: of several claims of a retraining, the last one holds.
        at: when it was made, in POSIX seconds.
        holder: by whom.
        lease: the seconds after which it is over, if nothing is heard of the holder.
        reason: why there is a retraining.
        asked: whether somebody asked for it.
        champion: the version that it is to replace.
        digest: the digest of that version's package.
        generation: the number of the entry by which it is the champion.
        alarms: those that led to it.
        id: what tells apart equal claims of several threads.
    """

    number: int
    at: float
    holder: str
    lease: float
    reason: str
    asked: bool
    champion: str
    digest: str
    generation: int
    alarms: tuple[StandingAlarm, ...] = ()
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


@final
@dataclass(frozen=True)
class RunFiles:
    """What was recorded of a retraining.

    Attributes:
        number: its number.
        claims: whose turn it was, one after another.
        heard: when something was heard of the last holder, in POSIX seconds.
        left: whether the last holder said that it leaves it.
        steps: what came of each step, by its name.
        end: how it ended; empty before that.
    """

    number: int
    claims: tuple[Claim, ...]
    heard: float
    left: bool
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    end: Mapping[str, Any] = field(default_factory=dict)

    @property
    def first(self) -> Claim:
        """The claim that began it."""
        return self.claims[0]

    @property
    def version(self) -> str:
        """The version that it made, or ""."""
        return str(self.steps.get("save", {}).get("version", ""))


class RunEnd(NamedTuple):
    """Where a retraining stands: `at` is when it ended, in POSIX seconds, or 0.0."""

    state: RunState
    message: str
    at: float = 0.0


def run_of(files: RunFiles, name: str, entries: Sequence[Entry], now: float) -> RetrainRun:
    """A retraining by what was recorded of it, and by the log of its model."""
    end = _end_of(files, entries, now)
    steps = [
        RetrainStep(step, files.steps[step]["at"], files.steps[step]["holder"], _text(files, step))
        for step in RUN_STEPS
        if step in files.steps
    ]
    return RetrainRun(
        name=name,
        number=files.number,
        state=end.state,
        reason=files.first.reason,
        message=end.message,
        at=files.first.at,
        ended=end.at,
        champion=files.first.champion,
        version=files.version,
        holder=files.claims[-1].holder,
        steps=tuple(steps),
        alarms=files.first.alarms,
    )


def _end_of(files: RunFiles, entries: Sequence[Entry], now: float) -> RunEnd:
    if files.end:
        return RunEnd(files.end["state"], files.end["message"], files.end["at"])
    if "rollout" in files.steps:
        return trial_end(files.version, files.steps["rollout"], entries)
    last = files.claims[-1]
    since = f"by {last.holder} since {moment(last.at)}"
    # A holder that was heard far in the future had a wrong clock: it must not be waited for.
    if files.left or abs(now - files.heard) >= last.lease:
        if last.number >= MOST_CLAIMS:
            message = f"{last.number} processes ended in it, the last one {last.holder}"
            return RunEnd("failed", message, now)
        return RunEnd("interrupted", f"it was left {since}; the next call goes on with it")
    return RunEnd("running", since)


def trial_end(version: str, step: Mapping[str, Any], entries: Sequence[Entry]) -> RunEnd:
    """How a trial ended, or that it goes on, by the entry that began it and those after it."""
    began, *later = [entry for entry in entries if entry.generation >= step["generation"]]
    if began.kind == ALIAS:
        return RunEnd("promoted", f"{CHAMPION} is {version}", step["at"])
    message = f"since {began.at}"
    for entry in later:
        # By the clock of the retraining, which in a replay is not that of the log.
        at = step["at"] + posix_of(entry.at) - posix_of(began.at)
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


def _text(files: RunFiles, step: str) -> str:
    """What came of a step, in a few words."""
    found = files.steps[step]
    if step == "train":
        return f"{found['seconds']:.1f} s"
    if step == "save":
        return f"{found['version']}, {found['size']:,} bytes, sha256:{found['digest'][:16]}"
    if step == "gate":
        return f"{found['decision']}: {found['reason']}"
    if step == "register":
        return str(found["version"])
    return f"entry {found['generation']} of the log"


def posix_of(at: str) -> float:
    """A time of the log in POSIX seconds."""
    return datetime.fromisoformat(at).timestamp()


def moment(at: float) -> str:
    """A time in POSIX seconds as a text, in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="seconds")[:19]
