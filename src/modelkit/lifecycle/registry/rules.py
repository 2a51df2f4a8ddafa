"""What may follow what in the log of a model: aliases, rollouts, retirements, and the verdicts they go by; pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, Protocol

from modelkit.errors import Conflict, NotFound, RegistryError, UsageError
from modelkit.lifecycle.registry.log import (
    ALIAS,
    CHAMPION,
    DECIDED,
    NAMED,
    RETIREMENT,
    State,
    Underway,
)
from modelkit.lifecycle.registry.releases import ModelVersion, Recorded

ALIAS_PATTERN = re.compile(r"[a-z][a-z0-9_-]{0,63}")
DECISIONS = ("advance", "rollback", "promote", "hold")


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
    """What an entry says of the verdict that a change goes by.

    Args:
        verdict: of a gate; None where the change goes by none.
        alias: the alias that shall name the version.
        version: the candidate.
        state: what holds now.
        release: gives the release of a version.

    Raises:
        RegistryError: if the verdict does not promote, or is about another candidate or alias.
        Conflict: if the alias was set since the gate judged what it named.
    """
    check_judgement(verdict)
    if verdict is None:
        return {}
    candidate = release(version)
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
    known = now is not None and release(now.version).model_digest == verdict.champion_digest
    if now is None or now.generation != verdict.generation or not known:
        there = "nothing" if now is None else f"{now.version}, generation {now.generation}"
        raise Conflict(
            f"{name} is {there}, and the verdict judged what it was in generation "
            f"{verdict.generation}: somebody set it since; gate again against what is there now",
            name=candidate.name,
            alias=alias,
            now=now,
        )
    return {"verdict": record_digest(verdict.to_json().encode())}


def check_judgement(verdict: object) -> None:
    """Raise TypeError for what is given as a verdict, and is something else."""
    if not hasattr(verdict, "to_json") and verdict is not None:
        raise TypeError(f"verdict is what mk.gate(...) gives, not {verdict!r:.80}")


def check_candidate(verdict: Judgement, candidate: ModelVersion) -> None:
    """Raise RegistryError unless a verdict is about the model of a version."""
    if verdict.candidate_digest != candidate.model_digest:
        raise RegistryError(
            f"the verdict is about the model {verdict.candidate_digest[:12]}, and "
            f"{candidate.name} {candidate.version} is {candidate.model_digest[:12]}"
        )


def alias_fields(
    state: State,
    name: str,
    alias: str,
    version: str,
    *,
    expected: str | int | None,
    registered: Collection[str],
    force: bool,
) -> dict[str, Any]:
    """What the entry holds by which an alias names another version.

    Args:
        state: what holds now.
        name: the name of the model.
        alias: the alias.
        version: the version that it shall name.
        expected: as `check_expected` takes it.
        registered: the versions that there are, whose names no alias gets.
        force: whether a version that was rolled back may be the champion.

    Raises:
        RegistryError: if a version has the name of the alias.
        Conflict: if the alias is not what the caller saw, or the version was retired or rolled back.
    """
    if alias in registered or alias in state.names:  # the latter is registered just now
        raise RegistryError(f"{alias!r} is a version of {name}, so no alias can have this name")
    check_expected(state, alias, expected, name)
    check_in_use(state, name, version)
    if alias == CHAMPION:
        check_not_rolled_back(state, name, version, force=force)
    before = state.aliases.get(alias)
    return {"kind": ALIAS, "alias": alias, "was": None if before is None else before.version}


def could_be_alias(version: str) -> bool:
    """Whether an alias could have the name of a version. Raises UsageError for "champion", which is one."""
    if version == CHAMPION:
        raise UsageError(
            f"a version cannot be named {CHAMPION!r}, which is an alias: save it under another one"
        )
    return ALIAS_PATTERN.fullmatch(version) is not None


def name_fields(state: State, name: str, version: str) -> dict[str, Any]:
    """What the entry holds by which no alias gets the name of a version."""
    if version in state.aliases:
        raise RegistryError(f"{name} has an alias {version!r}, so no version can have this name")
    return {"kind": NAMED}


def retirement_fields(state: State, name: str, version: str) -> dict[str, Any]:
    """What the entry of a retirement holds.

    Raises Conflict for a version that an alias names, or a rollout tries.
    """
    for alias, now in state.aliases.items():
        if now.version == version:
            raise Conflict(
                f"{name}@{alias} is {version}: let the alias name another version first",
                name=name,
                alias=alias,
                now=now,
            )
    if state.rollout is not None and state.rollout.candidate == version:
        raise Conflict(
            f"{name} {version} is on trial since {state.rollout.at}: roll it back first", name=name
        )
    return {"kind": RETIREMENT}


def decision_fields(
    state: State, name: str, rollout: Underway, decision: str, about: Mapping[str, Any]
) -> dict[str, Any]:
    """What the entry of a decision about a rollout holds.

    Raises Conflict if the rollout has ended, or is in another stage, and UsageError for another decision.
    """
    now = state.rollout
    if now is None or (now.generation, now.stage) != (rollout.generation, rollout.stage):
        raise Conflict(
            f"the rollout of {name} {rollout.candidate} has left stage {rollout.stage + 1}: "
            "somebody else decided",
            name=name,
            now=now,
        )
    if decision not in DECISIONS:
        raise UsageError(f"a decision is one of {', '.join(DECISIONS)}, not {decision!r}")
    values = {**about, "decision": decision, "rollout": rollout.generation}
    if decision == "advance":
        values["stage"] = rollout.stage + 1
    if decision == "promote":
        check_in_use(state, name, rollout.candidate)
        return {"kind": DECIDED, "about": values, "alias": CHAMPION, "was": rollout.champion}
    return {"kind": DECIDED, "about": values}


def check_expected(state: State, alias: str, expected: str | int | None, name: str) -> None:
    """Raise Conflict unless an alias is what the caller saw.

    Args:
        state: what holds now.
        alias: the alias that the caller wants to set.
        expected: the version it named, the number of the entry that set it, or None for an alias
            that there was not.
        name: the name of the model, for the message.

    Raises TypeError for an expectation of another type, such as bool or a number of numpy.
    """
    if expected is not None and type(expected) not in (str, int):
        raise TypeError(
            f"expected is a version (str), the generation of an entry (int) or None, not "
            f"{expected!r}, of type {type(expected).__name__}"
        )
    now = state.aliases.get(alias)
    seen = None
    why = (
        f"you expected {name}@{alias} to be {expected!r}, but it is not set; expected=None makes it"
    )
    if now is not None:
        seen = now.generation if isinstance(expected, int) else now.version
        why = (
            f"{name}@{alias} is {now.version}, and you expected "
            f"{'none' if expected is None else expected}: {now.actor} set "
            f"it at {now.at}, generation {now.generation}, because: {now.reason}. Judge again what is "
            f"there now, and expect {now.version}"
        )
    if expected != seen:
        raise Conflict(why, name=name, alias=alias, now=now)


def check_in_use(state: State, name: str, version: str) -> None:
    """Raise Conflict for a version that was retired."""
    if version in state.retired:
        raise Conflict(f"{name} {version} was retired: {state.retired[version]}", name=name)


def check_start(state: State, name: str, version: str, *, force: bool) -> str:
    """The champion that a candidate is tried against. Raises Conflict and NotFound."""
    champion = state.aliases.get(CHAMPION)
    if champion is None:
        raise NotFound(
            f"{name} needs a champion to compare {version} with: set the alias {CHAMPION!r} first",
            name=name,
            which=CHAMPION,
        )
    if champion.version == version:
        raise Conflict(f"{name} {version} is the champion already", name=name)
    if state.rollout is not None:
        raise Conflict(
            f"{name} has a rollout of {state.rollout.candidate} under way, since "
            f"{state.rollout.at}: {state.rollout.reason}",
            name=name,
        )
    check_in_use(state, name, version)
    check_not_rolled_back(state, name, version, force=force)
    return champion.version


def check_not_rolled_back(state: State, name: str, version: str, *, force: bool) -> None:
    """Raise Conflict for a version that was rolled back, unless forced."""
    if version in state.rolled_back and not force:
        raise Conflict(
            f"{name} {version} was rolled back: {state.rolled_back[version]}; pass force=True (or --force) if "
            "that does not hold any more, and say why in the reason",
            name=name,
        )


def is_same(rollout: Underway, other: Underway | None) -> bool:
    """Whether the other is this rollout, in whichever stage."""
    return other is not None and rollout.generation == other.generation


def end_of(rollout: Underway, state: State) -> tuple[Literal["promote", "rollback"], str] | None:
    """How a rollout ended, and why; None where it goes on, or somebody moved the champion."""
    champion = state.aliases[CHAMPION]
    if state.rollout is not None:
        return None
    if champion.version == rollout.candidate:
        return "promote", champion.reason
    if rollout.candidate in state.rolled_back:
        return "rollback", state.rolled_back[rollout.candidate]
    return None
