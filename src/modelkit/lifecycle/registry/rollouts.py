"""What the log of a model says of rollouts: which may begin, and who decides; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NoReturn

from modelkit.errors import Conflict, NotFound, RegistryError, UsageError
from modelkit.lifecycle.registry.log import CHAMPION, State, Underway

DECISIONS = ("advance", "rollback", "promote", "hold")


def check_start(state: State, name: str, version: str, *, force: bool) -> str:
    """The champion that a candidate is tried against. Raises Conflict and NotFound."""
    champion = state.aliases.get(CHAMPION)
    if champion is None:
        raise NotFound(
            f"{name} has no champion, so there is nothing to compare {version} with: set the alias "
            f"{CHAMPION!r} first",
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
    if version in state.retired:
        raise Conflict(f"{name} {version} was retired: {state.retired[version]}", name=name)
    check_not_rolled_back(state, name, CHAMPION, version, force=force)
    return champion.version


def check_not_rolled_back(
    state: State, name: str, alias: str, version: str, *, force: bool
) -> None:
    """Raise Conflict for a champion that was rolled back, unless forced."""
    if alias == CHAMPION and version in state.rolled_back and not force:
        raise Conflict(
            f"{name} {version} was rolled back: {state.rolled_back[version]}; pass force=True (or --force) if "
            "that does not hold any more, and say why in the reason",
            name=name,
        )


def check_not_tried(state: State, name: str, version: str) -> None:
    """Raise Conflict for the version that a rollout tries."""
    if state.rollout is not None and state.rollout.candidate == version:
        raise Conflict(
            f"{name} {version} is on trial since {state.rollout.at}: roll it back first", name=name
        )


def check_underway(state: State, name: str, rollout: Underway) -> Underway:
    """The rollout as it is now. Raises Conflict if it has ended, or is in another stage."""
    now = state.rollout
    if now is None or (now.generation, now.stage) != (rollout.generation, rollout.stage):
        raise Conflict(
            f"the rollout of {name} {rollout.candidate} is no longer in stage {rollout.stage + 1}: "
            "somebody else decided",
            name=name,
            now=now,
        )
    return now


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


def decision_fields(rollout: Underway, decision: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """What the entry of a decision holds."""
    if decision not in DECISIONS:
        raise UsageError(f"a decision is one of {', '.join(DECISIONS)}, not {decision!r}")
    told = {**about, "decision": decision, "rollout": rollout.generation}
    if decision == "advance":
        told["stage"] = rollout.stage + 1
    if decision == "promote":
        return {"about": told, "alias": CHAMPION, "was": rollout.champion}
    return {"about": told}


def absent(name: str) -> NoReturn:
    """Raise the error of an entry that began no rollout."""
    raise RegistryError(f"the rollout of {name} did not begin")
