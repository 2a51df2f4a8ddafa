"""What is recorded of the retrainings of a model: a log, and beside it signs of life and packages."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import Any, final

from modelkit.errors import RegistryError
from modelkit.events import NotRetrained, Retraining, emit
from modelkit.lifecycle.registry.authors import author
from modelkit.lifecycle.registry.places import folder_of
from modelkit.lifecycle.registry.registry import Registry
from modelkit.lifecycle.retrain.log import (
    CLAIM,
    END,
    REFUSED,
    OpenRun,
    Retrainings,
    RunEntry,
    at_work,
    begun,
    on_trial,
)
from modelkit.lifecycle.retrain.run import RetrainRun
from modelkit.store.log import Log
from modelkit.store.sequence import Sequence

PACKAGE = "package.mk"
BY_GATE = ("blocked", "inconclusive")  # whose reason may name a slice, by a value of its rows
THOUSAND = 1000  # a sign of life is named by milliseconds
# The others are removed; who lists the folder meanwhile finds one of these.
KEPT_BEATS = 2


class NotAllowed(Exception):  # an answer, not an error
    """What holds by now does not allow the entry, such as that somebody else holds the retraining."""


@final
class RunRecords:
    """Reads what is recorded of the retrainings of a model, and adds to it.

    Raises RegistryError where there are packages of retrainings, and no log of them.
    """

    def __init__(self, registry: Registry, name: str) -> None:
        self.registry = registry
        self.name = name
        self._store = registry.retraining_folder(name)
        self._log = Log(Sequence(self._store, "log"), RunEntry, Retrainings())
        self._beats: list[str] = []
        if not self.state().generation and self._store.folders("runs"):
            raise RegistryError(
                f"{self._store.url} holds retrainings, and their log is gone: put it back, from a copy "
                "of the registry, or remove this folder. No version and no alias is in it"
            )

    def state(self) -> Retrainings:
        """What holds now."""
        return self._log.state()

    def settled(self, now: float) -> Retrainings:
        """What holds now, in POSIX seconds; a retraining whose rollout has ended is ended first."""
        state = self.state()
        if state.open is None:
            return state
        run = self._as_now(state.open, now)
        if run.under_way:
            return replace(state, open=replace(state.open, run=run))
        with suppress(NotAllowed):
            self.end(state.open, run)
        return self.settled(now)

    def history(self, now: float) -> tuple[RetrainRun, ...]:
        """The retrainings and the refusals, in the order of time; equal refusals in a row are one."""
        found = [entry.run for entry in self._log.entries() if entry.kind in (END, REFUSED)]
        state = self.state()
        found += [] if state.open is None else [self._as_now(state.open, now)]
        return tuple(sorted(filter(None, found), key=lambda run: run.at))

    def begin(self, run: RetrainRun, champion_generation: int, lease: float) -> OpenRun:
        """Begin the next retraining. Raises NotAllowed where somebody else did."""

        def allowed(state: Retrainings) -> bool:
            return state.open is None and state.number + 1 == run.number

        values = {"run": run, "claim": 1, "lease": lease}
        entry = self._append(
            CLAIM, run.at, allowed, **values, champion_generation=champion_generation
        )
        return begun(entry, run)

    def take_over(self, run: OpenRun, at: float, lease: float) -> OpenRun:
        """Take over a retraining whose holder is gone. Raises NotAllowed where somebody else did."""
        return self.add(run, CLAIM, at, claim=run.claim.claim + 1, lease=lease)

    def add(self, own: OpenRun, kind: str, at: float, **values: Any) -> OpenRun:
        """Add an entry about a retraining. Raises NotAllowed where somebody else holds it."""

        def allowed(state: Retrainings) -> bool:
            return state.open is not None and state.open.claim.id == own.claim.id

        return own.after(self._append(kind, at, allowed, **values))

    def end(self, run: OpenRun, ended: RetrainRun) -> None:
        """Record how a retraining ended, and emit that. Raises NotAllowed as `add` does."""
        self.add(run, END, ended.ended, run=ended)
        emit_run(ended)

    def refuse(self, refusal: RetrainRun, champion_generation: int, *, every: float) -> None:
        """Emit a refusal, and record it, if it is another one than the last.

        Where refusals alternate, one in so many seconds is recorded: no entry is ever removed.
        """

        def allowed(state: Retrainings) -> bool:
            last = state.refusal
            if last is None or last.run is None or last.champion_generation != champion_generation:
                return True
            return _about(last.run) != _about(refusal) and not 0 <= refusal.at - last.at < every

        with suppress(NotAllowed):
            self._append(
                REFUSED, refusal.at, allowed, run=refusal, champion_generation=champion_generation
            )
        emit(NotRetrained(self.name, refusal.reason, refusal.message))

    def beat(self, run: OpenRun, now: float) -> None:
        """Let others hear of the holder of a retraining."""
        name = f"{_folder(run)}/{_beats(run)}{int(now * THOUSAND):015d}"
        self._store.create(name, b"")
        self._beats.append(name)
        if len(self._beats) > KEPT_BEATS:
            self._store.remove(self._beats.pop(0))

    def keep_package(self, run: OpenRun, data: bytes) -> bytes:
        """Keep the package of a retraining; returns the one that is kept, which is the first."""
        made = self._store.create(f"{_folder(run)}/{PACKAGE}", data)
        return data if made else self.package(run)

    def package(self, run: OpenRun) -> bytes:
        """The package that a retraining made. Raises RegistryError where it cannot be seen."""
        data = self._store.read(f"{_folder(run)}/{PACKAGE}", most=inf)
        if data is None:
            raise RegistryError(
                f"the package of retraining {run.number} is gone from the registry, or cannot be seen yet"
            )
        return data

    def _as_now(self, run: OpenRun, now: float) -> RetrainRun:
        if run.results.generation:
            return on_trial(run, self.registry.history(self.name))
        prefix = _beats(run)
        names = self._store.names(_folder(run), after=prefix)
        beats = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        heard = max([run.claim.at, *(int(beat) / THOUSAND for beat in beats)])
        return at_work(run, heard, now)

    def _append(
        self, kind: str, at: float, allowed: Callable[[Retrainings], bool], **values: Any
    ) -> RunEntry:
        def decide(state: Retrainings) -> dict[str, Any]:
            if not allowed(state):
                raise NotAllowed
            holder = f"{author()}, process {os.getpid()}"
            return {"kind": kind, "at": at, "holder": holder, **values}

        return self._log.append(decide)


def retrainings_of(
    registry: Registry, name: str, now: float | None = None
) -> tuple[RetrainRun, ...]:
    """The retrainings of a model and the refusals, in the order of time. It writes nothing.

    Equal refusals in a row are one, at the time of the first.

    Args:
        registry: where the model is.
        name: the name of the model.
        now: in POSIX seconds, by which a lease is over; None for the time of this machine.

    Raises NotFound where the model does not exist.
    """
    registry.versions(name)
    return RunRecords(registry, name).history(time.time() if now is None else now)


def emit_run(run: RetrainRun) -> None:
    """Emit what became of a retraining as an event, without any value of a row."""
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


def _folder(run: OpenRun) -> str:
    """Of the files of a retraining."""
    return f"runs/{folder_of(run.number, run.id)}"


def _beats(run: OpenRun) -> str:
    """What the names of the signs of life of a holder begin with."""
    return f"beat-{run.claim.claim:04d}-"


def _about(refusal: RetrainRun) -> tuple[Any, ...]:
    return refusal.reason, {alarm.key for alarm in refusal.alarms}
