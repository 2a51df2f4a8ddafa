"""What happened to a call that was refused or flagged; `modelkit.events` shows these events."""

from __future__ import annotations

from dataclasses import dataclass

from modelkit._internal.listeners import Event
from modelkit._internal.logs import WARNING


@dataclass(frozen=True, slots=True)
class Refusal(Event):
    """A call was refused because its rows do not fit the signature.

    Attributes:
        name, version: of the model.
        problems, columns: how many things were wrong with the rows, and in which columns.
    """

    log_level = WARNING
    limited_by = ("name", "version")

    name: str
    version: str
    problems: int
    columns: tuple[str, ...]

    def __str__(self) -> str:
        problems = "1 problem" if self.problems == 1 else f"{self.problems:,} problems"
        where = f" in {', '.join(map(repr, self.columns))}" if self.columns else ""
        return f"{self.name} {self.version}: rows refused, with {problems}{where}"


@dataclass(frozen=True, slots=True)
class Overload(Event):
    """A call was refused because the queue was full.

    Attributes:
        name, version: of the model.
        queued, max_queue: the size of what waited, and of what may: rows, or tokens of texts.
    """

    log_level = WARNING
    limited_by = ("name", "version")

    name: str
    version: str
    queued: int
    max_queue: int

    def __str__(self) -> str:
        full = f"{self.queued:,} wait, and at most {self.max_queue:,} may"
        return f"{self.name} {self.version}: call refused, the queue is full: {full}"


@dataclass(frozen=True, slots=True)
class Denied(Event):
    """A policy did not let a caller do something.

    Attributes:
        name, version: of the model.
        action: what the caller wanted, such as "predict".
        principal: who asked; None where that is not known.
        reason: what the policy said, or "".
    """

    log_level = WARNING
    limited_by = ("name", "action")

    name: str
    version: str
    action: str
    principal: str | None
    reason: str

    def __str__(self) -> str:
        who = "an unknown caller" if self.principal is None else repr(self.principal)
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.name} {self.version}: {who} lacks the permission {self.action!r}{reason}"


@dataclass(frozen=True, slots=True)
class Flagged(Event):
    """An InputChecks found odd rows in a call.

    Attributes:
        name, version: of the model.
        check: "range", "novelty" or "probing".
        rows, columns: how many rows are odd, and in which columns.
        principal: who sent them; None where that is not known.
        refused: whether the call was refused.
    """

    log_level = WARNING
    limited_by = ("name", "check")

    name: str
    version: str
    check: str
    rows: int
    columns: tuple[str, ...]
    principal: str | None
    refused: bool

    def __str__(self) -> str:
        rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        done = "refused" if self.refused else "flagged"
        where = f" in {', '.join(map(repr, self.columns))}" if self.columns else ""
        return f"{self.name} {self.version}: {rows} {done} by the check of {self.check}{where}"
