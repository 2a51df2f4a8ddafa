"""The steps of a retraining. Each is recorded once; what has a record is not done again."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import gmtime, perf_counter, strftime
from typing import final

from modelkit.errors import (
    Conflict,
    PackageError,
    RegistryError,
    RetrainError,
    UntrustedError,
    UsageError,
)
from modelkit.lifecycle.gate.verdict import Verdict
from modelkit.lifecycle.registry.log import CHAMPION
from modelkit.lifecycle.registry.releases import ModelVersion
from modelkit.lifecycle.retrain.log import LEFT, STEPS, OpenRun, StepResults, trial_began
from modelkit.lifecycle.retrain.policy import RetrainPolicy, StandingAlarm
from modelkit.lifecycle.retrain.records import NotAllowed, RunRecords
from modelkit.lifecycle.retrain.run import RunState
from modelkit.model.manifest import Manifest
from modelkit.package.source import open_bytes, read_verified
from modelkit.package.write import write_file

SEED_BYTES = 4
ID_LETTERS = 8


@final
@dataclass(frozen=True)
class Training:
    """What `train` and `judge` are given. It is the same each time that a retraining goes on.

    Attributes:
        name: the name of the model.
        version: a version that no other retraining has, for `mk.save`; or take your own.
        champion: the version that is to be replaced.
        reason: why there is a retraining.
        at: when the retraining started, in POSIX seconds: take the rows that were there by then.
        seed: for what is random in the training.
        alarms: those that led to it.
        package: where `train` saves the package, and where `judge` finds it.
        folder: the folder of the retraining on this machine, which is there again when the retraining goes on
            here: for checkpoints.
    """

    name: str
    version: str
    champion: ModelVersion
    reason: str
    at: float
    seed: int
    alarms: tuple[StandingAlarm, ...]
    package: Path
    folder: Path


def training_of(champion: ModelVersion, run: OpenRun, folder: Path) -> Training:
    """What a retraining is given, whoever holds it.

    Its folder goes by the id of its first claim, so that retrainings of other registries have others.
    """
    begun = run.run
    number = run.number
    place = folder / champion.name / f"retraining-{number}-{run.id[:ID_LETTERS]}"
    seed = hashlib.sha256(f"{champion.name} {champion.digest} {number}".encode()).digest()
    return Training(
        name=champion.name,
        version=f"{strftime('%Y.%m.%d', gmtime(begun.at))}-{number}",
        champion=champion,
        reason=begun.reason,
        at=begun.at,
        seed=int.from_bytes(seed[:SEED_BYTES], "big"),
        alarms=begun.alarms,
        package=place / f"claim-{run.claim.claim}" / "candidate.mk",
        folder=place,
    )


def manifest_of(path: Path, name: str) -> Manifest:
    """The manifest of the package that a training of a model made, verified.

    Raises PackageError, and RetrainError where there is none, or one of another model.
    """
    if not path.exists():
        raise RetrainError(f"the training saved no package at {path}, which is Training.package")
    manifest, _ = read_verified(open_bytes(path))
    if manifest.name != name:
        raise RetrainError(
            f"the training saved a package of {manifest.name!r}: save it with name=training.name, "
            f"which is {name!r}"
        )
    return manifest


Train = Callable[[Training], object]
Judge = Callable[[Training], Verdict]
# What came of a step in a few words, and what all steps have come to.
Done = tuple[str, StepResults]
BEATS = 3  # in the time of a lease


class RunEnded(Exception):
    """The retraining has ended before its last step; its record says how."""


@final
class RunWork:
    """One holder's work on a retraining."""

    def __init__(
        self,
        records: RunRecords,
        run: OpenRun,
        folder: Path,
        *,
        train: Train,
        judge: Judge,
        policy: RetrainPolicy,
        clock: Callable[[], float],
    ) -> None:
        self._records = records
        self._run = run
        champion = records.registry.version(records.name, run.run.champion)
        self._training = training_of(champion, run, folder)
        self._train_with = train
        self._judge_with = judge
        self._policy = policy
        self._clock = clock

    def go_on(self) -> None:
        """Do the steps that are left, until somebody else takes the retraining over."""
        steps = (self._train, self._save, self._gate, self._register, self._rollout)
        with self._beating(), suppress(RunEnded, NotAllowed):
            for name, step in zip(STEPS, steps, strict=True):
                if name not in {done.name for done in self._run.run.steps}:
                    text, results = step()
                    now = self._clock()
                    self._run = self._records.add(self._run, name, now, text=text, results=results)
                self._check_promoted()

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
            with suppress(OSError, RegistryError, NotAllowed):
                self._records.add(self._run, LEFT, self._clock())
            raise
        finally:
            over.set()
            beats.join()

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(self._run.claim.lease / BEATS):
            with suppress(OSError, RegistryError):  # the lease ends where nothing is heard
                self._records.beat(self._run, self._clock())

    def _end(self, state: RunState, message: str) -> None:
        self._records.end(self._run, self._run.ended(state, message, self._clock()))

    @contextmanager
    def _failing(self, step: str, *kinds: type[Exception]) -> Iterator[None]:
        """End the retraining at such an error; its words stay with the caller, since they may hold a row."""
        try:
            yield
        except kinds as error:
            self._end("failed", f"{type(error).__name__} in the step {step}")
            raise

    # The steps.

    def _train(self) -> Done:
        training = self._training
        training.package.parent.mkdir(parents=True, exist_ok=True)
        began = perf_counter()  # of the work, where `clock` may replay the past
        with self._failing("train", Exception):
            self._train_with(training)
            manifest = manifest_of(training.package, training.name)
        results = StepResults(package=str(training.package), trained=manifest.digest)
        return f"{perf_counter() - began:.1f} s", results

    def _save(self) -> Done:
        """Keep the package in the registry, so that any machine can go on from here."""
        data = self._records.keep_package(self._run, self._trained().read_bytes())
        self._put_package(data)
        manifest = manifest_of(self._training.package, self._training.name)
        version = manifest.version
        text = f"{version}, {len(data):,} bytes, sha256:{manifest.digest[:16]}"
        return text, replace(self._run.results, version=version, model_digest=manifest.model_digest)

    def _trained(self) -> Path:
        """The path of the package that was trained here; trained again where there is none."""
        results = self._run.results
        path = Path(results.package)
        with suppress(PackageError, RetrainError):
            if manifest_of(path, self._training.name).digest == results.trained:
                return path
        self._train()  # it was on another machine: nothing is left of it but its record
        return self._training.package

    def _put_package(self, data: bytes) -> None:
        path = self._training.package
        if not path.exists() or path.read_bytes() != data:
            write_file(path, data)

    def _have_package(self) -> None:
        """Let the package be where `judge` looks for it."""
        self._put_package(self._records.package(self._run))

    def _gate(self) -> Done:
        self._have_package()
        with self._failing("gate", Exception):
            verdict = self._judge_with(self._training)
            self._check_verdict(verdict)
        text = f"{verdict.decision}: {verdict.reason}"
        results = self._run.results
        return text, replace(results, decision=verdict.decision, verdict=verdict.to_json())

    def _check_verdict(self, verdict: object) -> None:
        """Raise RetrainError unless it is about the candidate and the champion of this retraining."""
        if not isinstance(verdict, Verdict):
            raise RetrainError(f"judge returns the Verdict of mk.gate, not {verdict!r:.80}")
        if verdict.candidate_digest != self._run.results.model_digest:
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
        if verdict.generation == self._run.champion_generation and not same:
            raise RetrainError(
                f"the Verdict is about {verdict.champion} of another model or registry, and not about "
                f"{champion.name} {champion.version}: pass the name and the registry of this retraining to "
                "mk.gate"
            )

    def _check_promoted(self) -> None:
        """End the retraining where the gate does not promote."""
        decision = self._run.results.decision
        if decision in ("", "promote"):
            return
        self._end("blocked" if decision == "block" else "inconclusive", self._verdict().reason)
        raise RunEnded

    def _verdict(self) -> Verdict:
        return Verdict.from_json(self._run.results.verdict)

    def _register(self) -> Done:
        self._have_package()
        parents = [self._training.champion.digest]
        with self._failing("register", Conflict, UntrustedError):
            release = self._records.registry.register(
                self._training.package, verdict=self._verdict(), parents=parents
            )
        return release.version, self._run.results

    def _rollout(self) -> Done:
        """Put the candidate on trial; done where the log has the entry."""
        generation = self._began()  # by a holder before this one
        try:
            # What cannot follow will not on another day either.
            with self._failing("rollout", UsageError):
                generation = generation or self._begin()
        except Conflict as error:
            generation = self._began()  # by one after this one
            if not generation:
                self._end("superseded", str(error))
                raise RunEnded from error
        results = replace(self._run.results, generation=generation)
        return f"entry {generation} of the log", results

    def _began(self) -> int:
        """The number of the entry that put the candidate on trial, or made it the champion; or 0."""
        return trial_began(self._run, self._records.registry.history(self._records.name))

    def _begin(self) -> int:
        """Put the candidate on trial, or make it the champion; returns the number of the entry."""
        registry = self._records.registry
        name = self._records.name
        version = self._run.results.version
        verdict = self._verdict()
        reason = f"retraining {self._run.number}: {self._training.reason}"
        if self._policy.rollout is None:
            return registry.set_alias(
                name, CHAMPION, version, expected=verdict.generation, reason=reason, verdict=verdict
            ).generation
        policy = self._policy.rollout
        rollout = registry.start_rollout(name, version, policy, reason=reason, verdict=verdict)
        return rollout.generation
