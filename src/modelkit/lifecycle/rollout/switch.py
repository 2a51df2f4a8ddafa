"""What answers now, and how that changes: by one assignment, which no call under way sees."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol, final

from modelkit._internal.process import watch_exit
from modelkit.embedding.verbs import recipe_of
from modelkit.errors import ClosedError, Conflict, UsageError, public_text
from modelkit.events import Swapped, emit
from modelkit.lifecycle.rollout.answering import Arm
from modelkit.lifecycle.rollout.latency import A_SECOND
from modelkit.lifecycle.rollout.lineup import Lineup
from modelkit.lifecycle.rollout.session import Session
from modelkit.model.access import acting_as
from modelkit.model.activation import Active, Draining
from modelkit.model.identity import identity_of
from modelkit.model.model import Model
from modelkit.signature.compatible import incompatibilities

PATIENCE = 10.0  # seconds that the end of the interpreter waits for a thread
NEVER = 1 << 62  # in nanoseconds
MOST_INLINE = 500  # events that a call weighs on its way, in less than a millisecond


class Source(Protocol):
    """What says what shall answer: a registry that is followed, or who has two Models."""

    def look(self, now: int) -> int:
        """Look for news if it is time; returns when it is time again, in nanoseconds."""

    def models(self) -> list[Model]:
        """Every Model that is open, the ones kept warm too."""


@final
class Switch:
    """Holds what answers now, and the rollout under way.

    Args:
        champion: the Model that answers first.
        clock: in nanoseconds.
        source: says what shall answer.

    Attributes:
        active: what answers now.
        due: when something has to be looked at, in nanoseconds of `clock`.
        session: the rollout under way.
        past: the one before, for who asks how it ended.
        closed: whether nothing answers any more.
        failures: the errors of what is done beside the calls, which none of them got.
        last_failure: the last one.
    """

    def __init__(self, champion: Model, clock: Callable[[], int], source: Source) -> None:
        self.active: Active[Lineup] = Active(Lineup(Arm(champion)))
        self.clock = clock
        self.due = NEVER
        self.session: Session[Any] | None = None
        self.past: Session[Any] | None = None
        self._source = source
        self.closed = False
        self.failures = 0
        self.last_failure = ""
        self.lock = threading.RLock()
        self._tick_due = NEVER
        self._drainings: list[Draining] = []
        self._threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        watch_exit(self)

    @property
    def champion(self) -> Model:
        """The Model that answers without a rollout."""
        return self.active.now.value.champion.model

    def models(self) -> tuple[Model, ...]:
        """Every Model that is held: the champion, the candidate, and those that are kept warm."""
        held = [self.champion]
        session = self.session
        if session is not None:
            held += session.models
        held += self._source.models()
        return tuple({id(model): model for model in held}.values())

    def look(self) -> None:
        """Do what is due, on the way of a call, which nothing of it reaches.

        Where that takes more than a moment, a thread does it.
        """
        if not self.lock.acquire(blocking=False):
            return  # somebody does it
        try:
            now = self.clock()
            if now < self.due:
                return
            if self.session is None or self.session.waiting <= MOST_INLINE:
                self.settle()
                return
            self.due = now + A_SECOND
            self.start(self._catch_up)
        finally:
            self.lock.release()

    def start(self, work: Callable[[], None]) -> threading.Thread | None:
        """Do something in a thread of its own; None where a thread cannot be started."""
        thread = threading.Thread(target=work, name="modelkit-rollout", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # as when the interpreter ends
            self.failed(error)
            return None
        self._threads.add(thread)
        return thread

    def at_exit(self) -> None:
        """Wait for what is being loaded, weighed or written down."""
        for thread in [*self._threads]:
            thread.join(PATIENCE)

    def _catch_up(self) -> None:
        with self.lock:
            self.due = self.clock()
            self.settle()

    def settle(self) -> None:
        """Do what is due, now."""
        with self.lock, acting_as(None):  # nobody's call decides it
            try:
                if self.clock() >= self.due:
                    self.step()
            except Exception as error:  # it must not reach the caller
                self.failed(error)

    def step(self) -> None:
        """Weigh what was counted, and look for news, where it is time. With the lock held."""
        now = self.clock()
        self.due = now + A_SECOND  # where what follows fails
        session = self.session
        if session is not None and now >= self._tick_due:
            self._tick_due = now + int(session.policy.tick * A_SECOND)
            session.tick()
        self.due = min(self._tick_due, self._source.look(now))

    def begin(self, session: Session[Any]) -> None:
        """Begin a rollout, with the lock held."""
        self.session = session
        self._tick_due = self.clock() + int(session.policy.tick * A_SECOND)
        self.due = min(self.due, self._tick_due)
        self.enter(session.stage)

    def enter(self, stage: int) -> None:
        """Let the rollout under way go on with a stage. Raises Conflict where there is none."""
        self._replace(self.under_way().enter(stage))

    def end(self, model: Model) -> None:
        """Let a Model answer everything from now on, and end the rollout that is under way."""
        before = self.champion
        arm = Arm(model)
        self._replace(Lineup(arm))
        self._end_session()
        if before is not model:
            now, then = arm.identity, identity_of(before)
            emit(Swapped(*now, then.version, then.digest))

    def close(self) -> None:
        """Let nothing answer any more. Raises nothing where that is so already."""
        with self.lock:
            self._end_session()
            self.due = NEVER
            self.closed = True
            self._replace(Lineup(self.active.now.value.champion.closed()))

    def _end_session(self) -> None:
        self._tick_due = NEVER
        if self.session is not None:
            self.session.end()
            self.past = self.session
            self.session = None

    def _replace(self, lineup: Lineup) -> None:
        with self.lock:
            self._drainings = [*self.still_draining(), self.active.replace(lineup)]

    def still_draining(self) -> list[Draining]:
        """What was replaced, and may still have calls under way."""
        with self.lock:
            return [draining for draining in self._drainings if not draining.drained]

    def check_replaces(self, model: Model, named: str = "the candidate") -> None:
        """Raise UsageError, with every reason, unless a Model can answer in place of the champion."""
        problems = incompatibilities(self.champion.signature, model.signature)
        ours, theirs = recipe_of(self.champion), recipe_of(model)
        if ours and theirs and ours.around != theirs.around:  # texts get the champion's prefix
            problems += (f"it goes by {theirs.around}, not by {ours.around}",)
        if problems:
            raise UsageError(
                f"{named} cannot answer in place of the champion: {'; '.join(problems)}",
                problems=problems,
            )

    def check_open(self) -> None:
        """Raise ClosedError if nothing answers any more."""
        if self.closed:
            raise ClosedError("the Rollout was closed")

    def under_way(self) -> Session[Any]:
        """The rollout under way. Raises Conflict where there is none."""
        if self.session is None:
            raise Conflict("no rollout is under way")
        return self.session

    def failed(self, error: BaseException) -> None:
        """Note an error of what is done beside the calls."""
        self.failures += 1
        self.last_failure = public_text(error)

    def after_fork(self) -> None:
        """Begin with free locks, and without threads, in the child of a fork."""
        self.lock = threading.RLock()
        self.active.after_fork()
