"""What is recorded of the retrainings of a model: small files in its registry, each made once."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, TypeVar, final

from modelkit._internal import fields
from modelkit._internal.json import parse_json
from modelkit.errors import NotFound, RegistryError
from modelkit.events import Retraining, emit
from modelkit.lifecycle.registry.authors import author
from modelkit.lifecycle.registry.registry import Registry
from modelkit.lifecycle.registry.shelf import Shelf
from modelkit.lifecycle.retrain.policy import StandingAlarm
from modelkit.lifecycle.retrain.run import RUN_STEPS, Claim, RetrainRun, RunFiles, RunState, run_of
from modelkit.store.sequence import Sequence

RecordKind = TypeVar("RecordKind")
PACKAGE = "package.mk"
BY_GATE = ("blocked", "inconclusive")  # whose reason may name a slice, by a value of its rows
THOUSAND = 1000  # a beat is named by milliseconds
# The others are removed; who lists the folder meanwhile finds one of these.
KEPT_BEATS = 2


@final
@dataclass(frozen=True)
class Look:
    """A refusal of a retraining, which stands until the next one.

    Attributes:
        at: when it was first so, in POSIX seconds.
        refusal: what of.
        message: why, in a sentence.
        generation: that of the champion.
        standing: the alarms that stood.
    """

    at: float
    refusal: str
    message: str
    generation: int
    standing: tuple[StandingAlarm, ...] = ()

    def run(self, name: str) -> RetrainRun:
        """The refusal as a RetrainRun of a model."""
        return RetrainRun(
            name, 0, "refused", self.refusal, self.message, self.at, alarms=self.standing
        )


@final
class Desk:
    """Reads and writes what is recorded of the retrainings of a model."""

    def __init__(self, registry: Registry, name: str) -> None:
        self.registry = registry
        self.name = name
        self._shelf: Shelf = registry.retraining_shelf(name)
        self._looks = Sequence(self._shelf, "looks")
        self._beats: list[str] = []

    def numbers(self) -> list[int]:
        """The numbers of the retrainings, the first one first."""
        folders = self._shelf.folders("runs")
        found = [int(folder) for folder in folders if folder.isdecimal()]
        if found and not self._claims(found[-1]):  # who died as they began it left a folder
            del found[-1]
        return found

    def _claims(self, number: int) -> list[str]:
        names = self._shelf.names(_folder(number))
        return [name for name in names if name.startswith("claim-")]

    def files(self, number: int) -> RunFiles:
        """What was recorded of a retraining. Raises NotFound where there is no such retraining."""
        folder = _folder(number)
        names = self._shelf.names(folder)
        claims = [self._claim(f"{folder}/{name}") for name in names if name.startswith("claim-")]
        if not claims:
            raise NotFound(
                f"{self.name} has no retraining {number}", name=self.name, which=str(number)
            )
        last = claims[-1]
        beats = [_beat_time(name) for name in names if name.startswith(f"beat-{last.number:04d}-")]
        steps = {
            step: self._read(f"{folder}/step-{step}")
            for step in RUN_STEPS
            if f"step-{step}" in names
        }
        return RunFiles(
            number=number,
            claims=tuple(claims),
            heard=max([last.at, *beats]),
            left=f"left-{last.number:04d}" in names,
            steps=steps,
            end=self._read(f"{folder}/end") if "end" in names else {},
        )

    def run(self, files: RunFiles, now: float) -> RetrainRun:
        """A retraining as it stands now, in POSIX seconds."""
        on_trial = "rollout" in files.steps and not files.end
        entries = self.registry.history(self.name) if on_trial else ()
        return run_of(files, self.name, entries, now)

    def claim(self, number: int, claim: Claim) -> bool:
        """Make a claim to a retraining; returns False where somebody was faster."""
        return self._create(
            f"{_folder(number)}/claim-{claim.number:04d}", fields.write_object(claim)
        )

    def holds(self, number: int, claim: Claim) -> bool:
        """Whether nobody took a retraining over."""
        later = f"{_folder(number)}/claim-{claim.number + 1:04d}"
        return self._shelf.read(later) is None

    def beat(self, number: int, claim: Claim, now: float) -> None:
        """Let others hear of the holder of a retraining."""
        name = f"{_folder(number)}/beat-{claim.number:04d}-{int(now * THOUSAND):015d}"
        self._shelf.create(name, b"")
        self._beats.append(name)
        if len(self._beats) > KEPT_BEATS:
            self._shelf.remove(self._beats.pop(0))

    def leave(self, number: int, claim: Claim) -> None:
        """Say that the holder leaves a retraining, so that nobody has to wait for its lease."""
        self._shelf.create(f"{_folder(number)}/left-{claim.number:04d}", b"")

    def record(self, number: int, what: str, about: Mapping[str, Any]) -> dict[str, Any]:
        """Record a step, or the end, of a retraining; returns what is recorded: the first record holds."""
        path = f"{_folder(number)}/{what}"
        self._create(path, about)
        return self._read(path)

    def keep_package(self, number: int, data: bytes) -> bytes:
        """Keep the package of a retraining; returns the one that is kept, which is the first."""
        made = self._shelf.create(f"{_folder(number)}/{PACKAGE}", data)
        return data if made else self.package(number)

    def package(self, number: int) -> bytes:
        """The package that a retraining made. Raises RegistryError where it cannot be seen."""
        data = self._shelf.read(f"{_folder(number)}/{PACKAGE}", most=inf)
        if data is None:
            raise RegistryError(
                f"the package of retraining {number} is gone from the registry, or cannot be seen yet"
            )
        return data

    def looks(self) -> tuple[Look, ...]:
        """The refusals, the first one first; equal ones in a row are one."""
        return tuple(self._look(number) for number in self._looks.numbers())

    def last_look(self) -> tuple[int, Look | None]:
        """The number of the last refusal, and it; 0 and None before the first."""
        last = self._looks.last()
        return last, self._look(last) if last else None

    def refuse(self, look: Look, number: int, last: Look | None, *, every: float) -> None:
        """Record a refusal, if it is another one than the last, which has this number.

        Where refusals alternate, one in so many seconds is recorded: no file is ever removed.
        """
        if last is not None and _stands(last, look, every):
            return
        self._create(self._looks.path(number + 1), fields.write_object(look))

    def end(self, number: int, state: RunState, message: str, at: float) -> None:
        """Record how a retraining ended, and tell of it; nothing where that is recorded already."""
        about = {"state": state, "message": message, "at": at}
        if self._create(f"{_folder(number)}/end", about):
            tell_of(self.run(self.files(number), at))

    def _look(self, number: int) -> Look:
        path = self._looks.path(number)
        return _object(Look, self._read(path), path)

    def _claim(self, path: str) -> Claim:
        return _object(Claim, self._read(path), path)

    def _create(self, path: str, about: Mapping[str, Any]) -> bool:
        data = json.dumps(dict(about), sort_keys=True, allow_nan=False)  # what can be read again
        return self._shelf.create(path, data.encode())

    def _read(self, path: str) -> dict[str, Any]:
        data = self._shelf.read(path)
        try:
            plain = parse_json((data or b"").decode())
        except ValueError as error:
            raise RegistryError(
                f"the record {path} of {self.name} cannot be read: {error}"
            ) from None
        if not isinstance(plain, dict):
            raise RegistryError(f"the record {path} of {self.name} is not a JSON object")
        return plain


def retrainings_of(
    registry: Registry, name: str, now: float | None = None
) -> tuple[RetrainRun, ...]:
    """The retrainings of a model and the refusals, in the order of time. It writes nothing.

    Equal refusals in a row are one, at the time of the first.

    Args:
        registry: where the model is.
        name: the name of the model.
        now: in POSIX seconds, by which a lease is over; None for the time of this machine.

    Raises NotFound where there is no such model.
    """
    registry.versions(name)
    desk = Desk(registry, name)
    seen = time.time() if now is None else now
    runs = [desk.run(desk.files(number), seen) for number in desk.numbers()]
    refusals = [look.run(name) for look in desk.looks()]
    return tuple(sorted([*runs, *refusals], key=lambda run: run.at))


def holder_here() -> str:
    """User, machine and process."""
    return f"{author()}, process {os.getpid()}"


def _folder(number: int) -> str:
    return f"runs/{number:010d}"


def _beat_time(name: str) -> float:
    return int(name.rpartition("-")[2]) / THOUSAND


def _stands(last: Look, look: Look, every: float) -> bool:
    """Whether the last refusal stands for this one too."""
    if last.generation != look.generation:
        return False
    alike = _about(last) == _about(look)
    return alike or 0 <= look.at - last.at < every


def _about(look: Look) -> tuple[Any, ...]:
    return look.refusal, {alarm.key for alarm in look.standing}


def tell_of(run: RetrainRun) -> None:
    """Tell of a retraining as an event, which holds no value of a row."""
    message = "" if run.state in BY_GATE else run.message
    emit(
        Retraining(
            name=run.name,
            number=run.number,
            state=run.state,
            reason=run.reason,
            champion=run.champion,
            version=run.version,
            message=message,
        )
    )


def _object(kind: type[RecordKind], plain: dict[str, Any], where: str) -> RecordKind:
    """A value from its record; fields that a newer modelkit added are left out."""
    try:
        return fields.read_known(kind, plain, where)
    except ValueError as error:
        raise RegistryError(f"{where} is not a record of a retraining: {error}") from None
