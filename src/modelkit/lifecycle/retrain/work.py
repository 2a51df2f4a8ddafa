"""The steps of a retraining. Each is recorded once; what has a record is not done again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import Any, NoReturn, final

from modelkit.errors import Conflict, PackageError, RegistryError, RetrainError, UsageError
from modelkit.lifecycle.gate.verdict import Verdict
from modelkit.lifecycle.registry.log import CHAMPION
from modelkit.lifecycle.retrain.desk import Desk
from modelkit.lifecycle.retrain.policy import RetrainPolicy
from modelkit.lifecycle.retrain.run import RUN_STEPS, Claim, RunFiles, RunState, trial_entry
from modelkit.lifecycle.retrain.training import Training, check_model_name, manifest_of
from modelkit.package.write import write_file

Train = Callable[[Training], object]
Judge = Callable[[Training], Verdict]
BEATS = 3  # in the time of a lease


class TakenOver(Exception):  # it is no error
    """Somebody else holds the retraining by now."""


class RunEnded(Exception):
    """The retraining has ended before its last step; its record says how."""


@final
class RunWork:
    """One holder's work on a retraining."""

    def __init__(
        self,
        desk: Desk,
        files: RunFiles,
        claim: Claim,
        training: Training,
        *,
        train: Train,
        judge: Judge,
        policy: RetrainPolicy,
        clock: Callable[[], float],
    ) -> None:
        self._desk = desk
        self._number = files.number
        self._generation = files.first.generation
        self._claim = claim
        self._training = training
        self._train_with = train
        self._judge_with = judge
        self._policy = policy
        self._clock = clock
        self._done: dict[str, Mapping[str, Any]] = dict(files.steps)

    def go_on(self) -> None:
        """Do the steps that are left."""
        steps = (self._train, self._save, self._gate, self._register, self._rollout)
        with self._beating(), suppress(RunEnded, TakenOver):
            for name, step in zip(RUN_STEPS, steps, strict=True):
                if name not in self._done:
                    self._check_mine()
                    self._record(name, step())
                self._check_promoted(name)

    @contextmanager
    def _beating(self) -> Iterator[None]:
        """Let others hear of this process; whatever ends it early leaves the retraining to them."""
        over = threading.Event()
        beats = threading.Thread(
            target=self._beat, args=(over,), name="modelkit retraining", daemon=True
        )
        beats.start()
        try:
            yield
        except BaseException:
            with suppress(OSError, RegistryError):
                self._desk.leave(self._number, self._claim)
            raise
        finally:
            over.set()
            beats.join()

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(self._claim.lease / BEATS):
            with suppress(OSError, RegistryError):  # the lease ends where nothing is heard
                self._desk.beat(self._number, self._claim, self._clock())

    def _check_mine(self) -> None:
        if not self._desk.holds(self._number, self._claim):
            raise TakenOver

    def _record(self, name: str, about: Mapping[str, Any]) -> None:
        message = {**about, "at": self._clock(), "holder": self._claim.holder}
        self._done[name] = self._desk.record(self._number, f"step-{name}", message)

    def _end(self, state: RunState, message: str) -> None:
        self._desk.end(self._number, state, message, self._clock())

    def _fail(self, step: str, error: Exception) -> None:
        """End the retraining; what the error says stays with the caller, since it may hold a row."""
        self._check_mine()
        self._end("failed", f"{type(error).__name__} in the step {step}")

    # The steps.

    def _train(self) -> dict[str, Any]:
        training = self._training
        training.package.parent.mkdir(parents=True, exist_ok=True)
        began = perf_counter()  # of the work, where `clock` may replay the past
        try:
            self._train_with(training)
            manifest = manifest_of(training.package)
            check_model_name(manifest, training.name)
        except Exception as error:
            self._fail("train", error)
            raise
        return {
            "seconds": perf_counter() - began,
            "digest": manifest.digest,
            "package": str(training.package),
        }

    def _save(self) -> dict[str, Any]:
        """Keep the package in the registry, so that any machine can go on from here."""
        path = self._trained()
        data = self._desk.keep_package(self._number, path.read_bytes())
        self._put_package(data)
        manifest = manifest_of(self._training.package)
        return {
            "version": manifest.version,
            "digest": manifest.digest,
            "model_digest": manifest.model_digest,
            "size": len(data),
        }

    def _trained(self) -> Path:
        """The path of the package that was trained here; trained anew where there is none."""
        record = self._done["train"]
        path = Path(record["package"])
        if _is(path, str(record["digest"])):
            return path
        own = self._training.package  # where another holder's record was first
        if not own.exists():
            self._train()  # it was on another machine: nothing is left of it but its record
        return own

    def _put_package(self, data: bytes) -> None:
        path = self._training.package
        if not path.exists() or path.read_bytes() != data:
            write_file(path, data)

    def _have_package(self) -> None:
        """Let the package be where `judge` looks for it."""
        self._put_package(self._desk.package(self._number))

    def _gate(self) -> dict[str, Any]:
        self._have_package()
        try:
            verdict = self._judge_with(self._training)
            self._check_verdict(verdict)
        except Exception as error:
            self._fail("gate", error)
            raise
        return {
            "decision": verdict.decision,
            "reason": verdict.reason,
            "verdict": verdict.to_json(),
        }

    def _check_verdict(self, verdict: object) -> None:
        """Raise RetrainError unless it is about the candidate and the champion of this retraining."""
        if not isinstance(verdict, Verdict):
            raise RetrainError(f"judge returns the Verdict of mk.gate, not {verdict!r:.80}")
        if verdict.candidate_digest != self._done["save"]["model_digest"]:
            raise RetrainError(
                f"the Verdict is about {verdict.candidate}, and not about the package at "
                "training.package"
            )
        if verdict.alias != CHAMPION or verdict.generation is None:
            raise RetrainError(
                f"the Verdict is about {verdict.champion}, and not about what the alias names: pass "
                f"champion='registry:{self._training.name}@{CHAMPION}' and registry= to mk.gate"
            )
        champion = self._training.champion
        same = verdict.champion_digest == champion.model_digest
        if verdict.generation == self._generation and not same:
            raise RetrainError(
                f"the Verdict is about {verdict.champion} of another model or registry, and not about "
                f"{champion.name} {champion.version}: pass the name and the registry of this retraining to "
                "mk.gate"
            )

    def _check_promoted(self, name: str) -> None:
        """End the retraining where the gate does not promote."""
        gate = self._done[name]
        if name != "gate" or gate["decision"] == "promote":
            return
        self._end("blocked" if gate["decision"] == "block" else "inconclusive", gate["reason"])
        raise RunEnded

    def _verdict(self) -> Verdict:
        return Verdict.from_json(self._done["gate"]["verdict"])

    def _register(self) -> dict[str, Any]:
        self._have_package()
        verdict = self._verdict()
        parents = [self._training.champion.digest]
        try:
            release = self._desk.registry.register(
                self._training.package, verdict=verdict, parents=parents
            )
        except Conflict as error:
            self._fail("register", error)
            raise
        return {"version": release.version, "digest": release.digest}

    def _rollout(self) -> dict[str, Any]:
        """Put the candidate on trial; done where the log has the entry."""
        registry = self._desk.registry
        generation = self._began()
        if generation is None:
            try:
                self._begin()
            except Conflict as error:
                generation = self._began()  # a holder before, or after, this one was faster
                if generation is None:
                    self._superseded(error)
            except UsageError as error:  # it cannot follow, today or on another day
                self._fail("rollout", error)
                raise
            else:
                generation = self._began()
        if generation is None:
            raise RegistryError(f"the log of {self._desk.name} in {registry.url} lost an entry")
        return {"generation": generation}

    def _began(self) -> int | None:
        """The number of the entry that put the candidate on trial."""
        version = self._done["save"]["version"]
        entries = self._desk.registry.history(self._desk.name)
        entry = trial_entry(version, entries, self._generation)
        return None if entry is None else entry.generation

    def _begin(self) -> None:
        registry = self._desk.registry
        name = self._desk.name
        version = self._done["save"]["version"]
        verdict = self._verdict()
        reason = f"retraining {self._number}: {self._training.reason}"
        if self._policy.rollout is None:
            expected = verdict.generation
            registry.set_alias(
                name, CHAMPION, version, expected=expected, reason=reason, verdict=verdict
            )
        else:
            policy = self._policy.rollout
            registry.start_rollout(name, version, policy, reason=reason, verdict=verdict)

    def _superseded(self, error: Conflict) -> NoReturn:
        self._end("superseded", str(error))
        raise RunEnded from error


def _is(path: Path, digest: str) -> bool:
    """Whether a file is the package of a digest."""
    try:
        return manifest_of(path).digest == digest
    except (PackageError, RetrainError):
        return False
