"""One retraining, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, final

from modelkit._internal import fields
from modelkit._internal.json import read_report, to_record
from modelkit.lifecycle.retrain.policy import StandingAlarm
from modelkit.report import html

RUN_SCHEMA = "modelkit.retraining/1"
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
    """One retraining, or the refusal of one. It stores no rows.

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
        return read_report(RetrainRun, text, RUN_SCHEMA, "a RetrainRun")

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
        return html.card(self._title(), facts, ("step", "at", "by", "") if rows else (), rows)


def posix_of(at: str) -> float:
    """A time of the log in POSIX seconds."""
    return datetime.fromisoformat(at).timestamp()


def moment(at: float) -> str:
    """A time in POSIX seconds as a text, in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="seconds")[:19]
