"""Whether a verdict is about a change of an alias; pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

from modelkit.errors import Conflict, RegistryError
from modelkit.lifecycle.registry.log import State
from modelkit.lifecycle.registry.releases import ModelVersion, Recorded


class Judgement(Recorded, Protocol):
    """The decision of a gate about two models, such as a Verdict."""

    @property
    def decision(self) -> str:
        """Such as "promote"."""

    @property
    def candidate_digest(self) -> str:
        """The model digest of the candidate."""

    @property
    def champion_digest(self) -> str:
        """The model digest of the champion."""

    @property
    def alias(self) -> str:
        """The alias that named the champion, or ""."""

    @property
    def generation(self) -> int | None:
        """The number of the entry by which it did."""


def record_digest(record: bytes) -> str:
    """By what the record of a verdict is known; "" for none."""
    return hashlib.sha256(record).hexdigest() if record else ""


def judged_by(
    verdict: Judgement | None,
    alias: str,
    version: str,
    state: State,
    release: Callable[[str], ModelVersion],
) -> dict[str, str]:
    """What an entry says of the verdict that a change goes by. Raises as `check_verdict`."""
    if verdict is None:
        return {}
    now = state.aliases.get(alias)
    champion = None if now is None else release(now.version)
    check_verdict(verdict, alias, release(version), champion, state)
    return {"verdict": record_digest(verdict.to_json().encode())}


def check_verdict(
    verdict: Judgement,
    alias: str,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    state: State,
) -> None:
    """Raise unless a verdict says that a version may take the place of what an alias names now.

    Args:
        verdict: of a gate.
        alias: the alias that shall name the candidate.
        candidate: the version.
        champion: what the alias names now, or None.
        state: what holds now.

    Raises:
        RegistryError: if the verdict is no promotion, or about another candidate or alias.
        Conflict: if the alias was set since the gate judged what it named.
    """
    name = f"{candidate.name}@{alias}"
    if verdict.decision != "promote":
        raise RegistryError(
            f"the verdict on {candidate.name} {candidate.version} is {verdict.decision!r}, not 'promote'"
        )
    check_candidate(verdict, candidate)
    if verdict.alias != alias or verdict.generation is None:
        judged = f"the alias {verdict.alias!r}" if verdict.alias else "a champion of no alias"
        raise RegistryError(
            f"the verdict judged {judged}, and not {name}: call gate with "
            f"champion='registry:{name}' and registry=..."
        )
    now = state.aliases.get(alias)
    known = champion is not None and champion.model_digest == verdict.champion_digest
    if now is None or now.generation != verdict.generation or not known:
        there = "nothing" if now is None else f"{now.version}, generation {now.generation}"
        raise Conflict(
            f"{name} is {there}, and the verdict judged what it was in generation "
            f"{verdict.generation}: somebody set it since; gate again against what is there now",
            name=candidate.name,
            alias=alias,
            now=now,
        )


def check_candidate(verdict: Judgement, candidate: ModelVersion) -> None:
    """Raise RegistryError unless a verdict is about the model of a version."""
    if verdict.candidate_digest != candidate.model_digest:
        raise RegistryError(
            f"the verdict is about the model {verdict.candidate_digest[:12]}, and "
            f"{candidate.name} {candidate.version} is {candidate.model_digest[:12]}"
        )
