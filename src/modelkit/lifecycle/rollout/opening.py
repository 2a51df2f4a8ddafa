"""What the two forms of a Rollout are made of."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from modelkit.errors import UsageError
from modelkit.lifecycle.layered import Wrap
from modelkit.lifecycle.registry.registry import Registry
from modelkit.lifecycle.rollout.course import Course
from modelkit.lifecycle.rollout.follow import Follower
from modelkit.lifecycle.rollout.latency import A_SECOND
from modelkit.lifecycle.rollout.policy import RolloutPolicy, RolloutStage
from modelkit.lifecycle.rollout.substitution import check_compatible
from modelkit.lifecycle.rollout.switch import Switch
from modelkit.model.model import Model

POLLED_EVERY = 5.0  # seconds
OF_TWO_MODELS = ("policy", "share")


def switch_of(
    champion: Model,
    candidate: Model,
    clock: Callable[[], int],
    *,
    policy: RolloutPolicy | None = None,
    share: float | None = None,
    rescue: bool = False,
    seed: int | None = None,
    **others: object,
) -> Switch:
    """The Switch of a Rollout of two Models, whose rollout has begun; see `Rollout`."""
    if others:
        raise TypeError(
            f"a Rollout of two Models takes no {', '.join(others)}; it takes policy=mk.RolloutPolicy(...) "
            "or share=, and rescue and seed"
        )
    if policy is None and share is not None:
        policy = RolloutPolicy((RolloutStage(share),))
    elif policy is None or share is not None:
        raise UsageError(
            "a Rollout of two Models takes either policy=, an mk.RolloutPolicy, or share=, for one stage"
        )
    check_compatible(champion.signature, candidate.signature)
    switch = Switch(champion, clock)
    course = Course(
        champion,
        candidate,
        policy,
        salt=secrets.token_bytes(16) if seed is None else b"%d" % seed,
        seed=seed,
        rescue=rescue,
        began=clock() / A_SECOND,
    )
    switch.begin(course)
    return switch


def follower_of(
    registry: Registry,
    name: str,
    clock: Callable[[], int],
    *,
    wrap: Wrap | None = None,
    keep: int = 1,
    poll: float = POLLED_EVERY,
    rescue: bool = False,
    seed: int | None = None,
    **options: Any,
) -> Follower:
    """The Follower of a Rollout of a registry; see `Rollout`."""
    misplaced = [option for option in options if option in OF_TWO_MODELS]
    if misplaced:
        raise TypeError(
            f"a Rollout of a registry takes no {', '.join(misplaced)}: pass an mk.RolloutPolicy to "
            f"registry.start_rollout({name!r}, version, policy, reason=...)"
        )
    if keep < 0 or not poll > 0:
        raise UsageError(f"keep is 0 or more and poll above 0; got {keep!r} and {poll!r}")
    follower = Follower(
        registry,
        name,
        wrap=wrap,
        keep=keep,
        poll=poll,
        rescue=rescue,
        seed=seed,
        options=options,
        clock=clock,
    )
    follower.begin()
    return follower
