"""What answers now, and how that changes: by one assignment, which no call under way sees."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Protocol, final

from modelkit._internal.process import watch_exit
from modelkit.errors import ClosedError, Conflict, public_text
from modelkit.events import Swapped, emit
from modelkit.lifecycle.rollout.answering import CLOSED, Arm
from modelkit.lifecycle.rollout.course import Course
from modelkit.lifecycle.rollout.latency import A_SECOND
from modelkit.lifecycle.rollout.lineup import Alone, Lineup
from modelkit.model.activation import Active, Draining
from modelkit.model.identity import Identity, identity_of
from modelkit.model.model import Model

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
        course: the rollout under way.
        past: the one before, for who asks how it ended.
        closed: whether nothing answers any more.
        failures: the errors of what is done beside the calls, which none of them got.
        last_failure: the last one.
    """

    def __init__(self, champion: Model, clock: Callable[[], int], source: Source) -> None:
        self.active: Active[Lineup] = Active(Alone(Arm(champion)))
        self.clock = clock
        self.due = NEVER
        self.course: Course | None = None
        self.past: Course | None = None
        self._source = source
        self.closed = False
        self.failures = 0
        self.last_failure = ""
        self.lock = threading.RLock()
        self._tick: Callable[[], None] = lambda: None
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
        course = self.course
        if course is not None:
            held += course.models
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
            if self.course is None or self.course.waiting <= MOST_INLINE:
                self.settle()
                return
            self.due = now + A_SECOND
            self.start(self._catch_up)
        finally:
            self.lock.release()

    def start(self, work: Callable[[], None]) -> threading.Thread | None:
        """Do something in a thread of its own; None where there are no more threads."""
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
        with self.lock:
            try:
                if self.clock() >= self.due:
                    self.step()
            except Exception as error:  # it must not reach the caller
                self.failed(error)

    def step(self) -> None:
        """Weigh what was counted, and look for news, where it is time. With the lock held."""
        now = self.clock()
        self.due = now + A_SECOND  # where what follows fails
        course = self.course
        if course is not None and now >= self._tick_due:
            self._tick_due = now + int(course.policy.tick * A_SECOND)
            self._tick()
        self.due = min(self._tick_due, self._source.look(now))

    def begin(self, course: Course, tick: Callable[[], None]) -> Draining:
        """Begin a rollout, of which `tick` weighs what was counted, with the lock held."""
        self.course = course
        self._tick = tick
        self._tick_due = self.clock() + int(course.policy.tick * A_SECOND)
        self.due = min(self.due, self._tick_due)
        return self._replace(course.lineup())

    def enter(self, course: Course, stage: int) -> Draining:
        """Let a rollout go on with another stage."""
        return self._replace(course.enter(stage))

    def end(self, model: Model) -> Draining:
        """Let a Model answer everything from now on, and end the rollout that is under way."""
        course = self.course
        before = self.champion
        arm = Arm(model)
        draining = self._replace(Alone(arm))
        if course is not None:
            course.end()
            self.course = None
            self.past = course
            self._tick_due = NEVER
        if before is not model:
            _tell_swapped(identity_of(before), arm.identity)
        return draining

    def close(self) -> Draining:
        """Let nothing answer any more. Raises nothing where that is so already."""
        with self.lock:
            course = self.course
            if course is not None:
                course.end()
                self.past = course
                self.course = None
            self.due = NEVER
            self._tick_due = NEVER
            self.closed = True
            return self._replace(Alone(self.active.now.value.champion.closed()))

    def _replace(self, lineup: Lineup) -> Draining:
        with self.lock:
            self._drainings = [each for each in self._drainings if not each.drained]
            draining = self.active.replace(lineup)
            self._drainings.append(draining)
            return draining

    def still_draining(self) -> list[Draining]:
        """What was replaced, and may still have calls under way."""
        with self.lock:
            return [draining for draining in self._drainings if not draining.drained]

    def check_open(self) -> None:
        """Raise ClosedError if nothing answers any more."""
        if self.closed:
            raise ClosedError(CLOSED)

    def under_way(self) -> Course:
        """The rollout under way. Raises Conflict where there is none."""
        if self.course is None:
            raise Conflict("no rollout is under way")
        return self.course

    def failed(self, error: BaseException) -> None:
        """Note an error of what is done beside the calls."""
        self.failures += 1
        self.last_failure = public_text(error)

    def after_fork(self) -> None:
        """Begin with free locks, and without threads, in the child of a fork."""
        self.lock = threading.RLock()
        self.active.after_fork()
        if self.course is not None:
            self.course.after_fork()


def _tell_swapped(before: Identity, now: Identity) -> None:
    emit(Swapped(now.name, now.version, now.digest, before.version, before.digest))
