"""What happened, as frozen values, and whoever wants to know of it.

    stop = mk.events.subscribe(print, mk.events.Loaded, mk.events.Swapped)
    stop()

Nothing here holds a value of a row. Events with a `log_level` are also recorded by the logger `modelkit`
of the standard library's `logging`; see `docs/reference/events.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

from modelkit._internal.listeners import Event as Event  # noqa: PLC0414 - of this module too
from modelkit._internal.listeners import emit as emit  # noqa: PLC0414 - of this module too
from modelkit._internal.listeners import subscribe as subscribe  # noqa: PLC0414 - of this module too
from modelkit._internal.listeners import wanted as wanted  # noqa: PLC0414 - of this module too
from modelkit._internal.logs import INFO, WARNING
from modelkit._internal.refusals import Denied as Denied  # noqa: PLC0414 - of this module too
from modelkit._internal.refusals import Flagged as Flagged  # noqa: PLC0414 - of this module too
from modelkit._internal.refusals import Overload as Overload  # noqa: PLC0414 - of this module too
from modelkit._internal.refusals import Refusal as Refusal  # noqa: PLC0414 - of this module too


@dataclass(frozen=True, slots=True)
class Loaded(Event):
    """A package was opened.

    Attributes:
        name, version: as in its manifest.
        digest: the sha256 of its manifest.
        device, threads: where the model runs, and on how many CPU threads; "" and 0 if unknown.
        seconds, at: the time that it took, and when it was ready, in seconds since 1970.
    """

    log_level = INFO

    name: str
    version: str
    digest: str
    device: str
    threads: int
    seconds: float
    at: float

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        where = f" on {self.device} with {threads}" if self.device else ""
        return f"loaded {self.name} {self.version}{where} in {self.seconds:.3g} s"


@dataclass(frozen=True, slots=True)
class Swapped(Event):
    """Another model answers under a name.

    Attributes:
        name: the name under which both answer.
        version, digest: of what answers from now on.
        before_version, before_digest: of what answered until now.
    """

    log_level = INFO

    name: str
    version: str
    digest: str
    before_version: str
    before_digest: str

    def __str__(self) -> str:
        return f"{self.name}: {self.version} answers now, {self.before_version} did before"


@dataclass(frozen=True, slots=True)
class Decided(Event):
    """A Rollout, or who runs it, decided about a candidate.

    Attributes:
        decision: "advance", "rollback", "promote" or "hold".
        champion, candidate: name and version of what answered until now, and of what is on trial.
        stage: the number of the stage, from 1.
        reason: why.
        evidence: the logarithm of the evidence of each guard that the candidate is worse than is
            allowed, and that it is within what is allowed.
    """

    log_level = WARNING

    decision: str
    champion: str
    candidate: str
    stage: int
    reason: str
    evidence: tuple[tuple[str, float, float], ...]

    def __str__(self) -> str:
        return f"rollout of {self.candidate}, stage {self.stage}: {self.decision}: {self.reason}"


@dataclass(frozen=True, slots=True)
class NotFollowed(Event):
    """A Rollout could not do what its registry says; what answered before goes on to.

    Attributes:
        name: the name of the model.
        version: the version that should answer, or "" where the registry itself did not.
        error: the type of what was raised, with its text where that is ours.
    """

    log_level = WARNING
    limited_by = ("name", "version")

    name: str
    version: str
    error: str

    def __str__(self) -> str:
        return f"{self.name}: {self.version or 'the registry'} was not followed: {self.error}"


@dataclass(frozen=True, slots=True)
class Noticed(Event):
    """Something about a rollout is odd, and the rollout goes on without it.

    Attributes:
        name, version: of the model on trial.
        message: what is odd, such as a file of counts that cannot be read.
    """

    log_level = WARNING
    limited_by = ("name", "version")

    name: str
    version: str
    message: str

    def __str__(self) -> str:
        return f"the rollout of {self.name} {self.version} goes on: {self.message}"


@dataclass(frozen=True, slots=True)
class Retraining(Event):
    """A retraining by `mk.retrain` began, went on, put its candidate on trial, or ended.

    Attributes:
        name: the name of the model.
        number: of the retraining, from 1.
        state: "running", where a process takes it up; "on trial"; or how it ended: "promoted",
            "rolled back", "superseded", "blocked", "inconclusive" or "failed".
        reason: why there is a retraining.
        champion, version: what it is to replace, and what it made; "" before that.
        message: how it ended, but for what the gate found: that names slices, which are of rows.
    """

    log_level = WARNING

    name: str
    number: int
    state: str
    reason: str
    champion: str
    version: str
    message: str

    def __str__(self) -> str:
        made = f" with {self.version} in place of {self.champion}" if self.version else ""
        message = f": {self.message}" if self.message else ""
        return (
            f"retraining {self.number} of {self.name}, {self.reason}: {self.state}{made}{message}"
        )


@dataclass(frozen=True, slots=True)
class NotRetrained(Event):
    """`mk.retrain` was called, and did nothing.

    Attributes:
        name: the name of the model.
        refusal: what of: "busy", "quiet", "failures", "cooldown", "budget", "persist" or "labels".
        message: why, in a sentence.
    """

    log_level = INFO
    limited_by = ("name", "refusal")

    name: str
    refusal: str
    message: str

    def __str__(self) -> str:
        return f"no retraining of {self.name}: {self.refusal}: {self.message}"


@dataclass(frozen=True, slots=True)
class Alarmed(Event):
    """A Detector raised an alarm, which `Detector.alarms` describes in full.

    Attributes:
        name, version: of the model; "" for a Detector without a Monitor.
        kind, feature: "changed", "material" or "performance", and the column of the profile.
        p, level: the p-value of the evidence, and the share of alpha that it fell below.
        row, began: rows seen until then, and an estimate of those before the change, or None.
        unit: the unit that was judged, such as "day 2013-03-09", or "1 unit by 'customer'" where its
            name is a value of rows; None where rows are compared.
    """

    log_level = WARNING

    name: str
    version: str
    kind: str
    feature: str
    p: float
    level: float
    row: int
    began: int | None
    unit: str | None = None

    def __str__(self) -> str:
        whose = f"{self.name} {self.version}: " if self.name else ""
        when = f"with {self.unit}"
        since = ""
        if self.unit is None:
            when = f"at row {self.row:,}"
            since = "" if self.began is None else f", since about row {self.began:,}"
        return f"{whose}{self.feature}: {self.kind} {when}{since}: p {self.p:.2g}"


@dataclass(frozen=True, slots=True)
class Advised(Event):
    """A Profile was fitted, and its reference calls for other arguments than were given.

    Attributes:
        advice: what fits, in one line; for units and strata it is in `Profile.advice`.
    """

    log_level = WARNING

    advice: str

    def __str__(self) -> str:
        return f"profile: {self.advice}"


@dataclass(frozen=True, slots=True)
class Signed(Event):
    """A package was signed.

    Attributes:
        name, version: as in its manifest.
        digest: the sha256 of its manifest, which the signature is of.
        key: the id of the key.
    """

    log_level = INFO

    name: str
    version: str
    digest: str
    key: str

    def __str__(self) -> str:
        return f"signed {self.name} {self.version} with key {self.key:.16}"


@dataclass(frozen=True, slots=True)
class AliasSet(Event):
    """An alias of a registry names another version.

    Attributes:
        name: the name of the model.
        alias: such as "champion".
        version, before: what it names now, and what it named before, or "".
        reason: why, as the history has it.
    """

    log_level = INFO

    name: str
    alias: str
    version: str
    before: str
    reason: str

    def __str__(self) -> str:
        before = f", after {self.before}" if self.before else ""
        return f"{self.name}@{self.alias} is {self.version} now{before}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Judged(Event):
    """A gate compared a candidate with a champion.

    Attributes:
        name, version: of the candidate.
        digest: the digest of all that decides what it answers.
        decision, champion: "promote", "block" or "inconclusive", and against which model.
    """

    log_level = INFO

    name: str
    version: str
    digest: str
    decision: str
    champion: str

    def __str__(self) -> str:
        return f"gate of {self.name} {self.version} against {self.champion}: {self.decision}"


@dataclass(frozen=True, slots=True)
class Handled(Event):
    """An HTTP request was answered. Not recorded: subscribe for an access log of your own.

    Attributes:
        route: the template of its path, or "unmatched".
        method, status: of HTTP.
        seconds: the time from its arrival to its answer.
        principal: who asked, as `auth` said; None without `auth`, or where nobody was let in.
        request_id: the id under which errors of it are logged.
        model: the name of the model that was asked; "" where none was.
        version: the version that answered; "" where none did, or a Model without a package.
    """

    route: str
    method: str
    status: int
    seconds: float
    principal: str | None
    request_id: str
    model: str
    version: str = ""
