"""What a training is given, and how its package is found again."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import final

from modelkit.errors import RetrainError
from modelkit.lifecycle.registry.releases import ModelVersion
from modelkit.lifecycle.retrain.log import OpenRun
from modelkit.lifecycle.retrain.policy import StandingAlarm
from modelkit.model.manifest import Manifest
from modelkit.package.source import open_bytes, read_verified

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
        version=f"{time.strftime('%Y.%m.%d', time.gmtime(begun.at))}-{number}",
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
