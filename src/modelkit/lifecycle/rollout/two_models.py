"""A rollout of two Models of one process."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import final

from modelkit._internal.process import watch_forks
from modelkit.errors import UsageError
from modelkit.lifecycle.rollout.decide import Kind
from modelkit.lifecycle.rollout.ledger import MemoryLedger
from modelkit.lifecycle.rollout.lineup import Lineups
from modelkit.lifecycle.rollout.policy import RolloutPolicy, RolloutStage
from modelkit.lifecycle.rollout.session import Session
from modelkit.lifecycle.rollout.switch import NEVER, Switch
from modelkit.model.model import Model
from modelkit.serving.guarded import check_outside


@final
class TwoModels:
    """Lets a Switch answer with two Models, as a ledger in memory says; see `Rollout`."""

    def __init__(
        self,
        champion: Model,
        candidate: Model,
        clock: Callable[[], int],
        *,
        policy: RolloutPolicy | None = None,
        share: float | None = None,
        rescue: bool = False,
        seed: int | None = None,
        **others: object,
    ) -> None:
        if others:
            raise TypeError(
                f"a Rollout of two Models does not take {', '.join(others)}; it takes "
                "policy=mk.RolloutPolicy(...) or share=, and rescue and seed"
            )
        if policy is None and share is not None:
            policy = RolloutPolicy((RolloutStage(share),))
        elif policy is None or share is not None:
            raise UsageError(
                "a Rollout of two Models takes either policy=, an mk.RolloutPolicy, or share=, for "
                "one stage"
            )
        if not isinstance(policy, RolloutPolicy):
            raise TypeError(f"policy is a mk.RolloutPolicy, not {policy!r:.80}")
        for model in (champion, candidate):
            check_outside(model, "Rollout")
        self.switch = Switch(champion, clock, self)
        self.switch.check_replaces(candidate)
        salt = secrets.token_bytes(16) if seed is None else b"%d" % seed
        ledger = MemoryLedger(clock)
        lineups = Lineups(champion, candidate, policy, salt=salt, seed=seed, rescue=rescue)
        self._kept: Model | None = None  # which answered before a promotion
        self._session = Session(ledger, lineups, self.switch, self._follow)
        self.switch.begin(self._session)
        watch_forks(self)

    def look(self, now: int) -> int:
        """See `Source`: two Models in memory bring no news."""
        return NEVER

    def models(self) -> list[Model]:
        """See `Source`."""
        return [] if self._kept is None else [self._kept]

    def _follow(self) -> None:
        """Do as the ledger says, with the lock of the Switch held."""
        switch = self.switch
        session = switch.session
        ledger = self._session.ledger
        stage = ledger.state()
        if session is None or stage == session.stage:
            return
        if stage is not None:
            session.trial.enter(stage)
            switch.enter(stage)
            return
        champion, candidate = session.models
        if ledger.promoted:
            self._kept = champion
        switch.end(candidate if ledger.promoted else champion)

    def decide_by_hand(self, kind: Kind, reason: str) -> None:
        """Promote or roll back as somebody says. Raises Conflict where nothing is under way."""
        with self.switch.lock:
            session = self.switch.under_way()
            session.write(session.decide(kind, reason))

    def go_back(self, reason: str) -> None:
        """Let the Model answer that did before a promotion. Raises UsageError without one."""
        switch = self.switch
        with switch.lock:
            if self._kept is None:
                raise UsageError("there is nothing to go back to: no candidate was promoted")
            self._session.decide("rollback", reason)
            switch.end(self._kept)
            self._kept = None

    def refresh(self) -> bool:
        """Raises UsageError."""
        raise UsageError("a Rollout of two Models follows no registry")

    def close(self) -> None:
        """Close nothing: the Models belong to the caller."""

    def after_fork(self) -> None:
        """In the child of a fork, hand on nothing that its parent counted."""
        self._session.after_fork()
