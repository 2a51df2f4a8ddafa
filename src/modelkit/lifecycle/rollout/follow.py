"""Follows a registry: what its log says shall answer is loaded aside, and swapped in.

Without calls nothing runs. A call looks for news at most once in `poll` seconds: in a folder, that
is a look at one file that is not there; in a bucket, a thread does it. Loading has a thread of its
own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, final

from modelkit._internal.process import watch_forks
from modelkit.errors import NotFound, UntrustedError, UsageError, public_text
from modelkit.events import NotFollowed, emit
from modelkit.lifecycle.layered import Opened, Wrap, check_answers
from modelkit.lifecycle.registry.log import CHAMPION, State, Underway
from modelkit.lifecycle.registry.registry import Registry
from modelkit.lifecycle.registry.rules import end_of, is_same
from modelkit.lifecycle.rollout.course import Course
from modelkit.lifecycle.rollout.decide import Kind
from modelkit.lifecycle.rollout.latency import A_SECOND
from modelkit.lifecycle.rollout.ledger import RegistryLedger
from modelkit.lifecycle.rollout.membership import Membership
from modelkit.lifecycle.rollout.policy import RolloutPolicy
from modelkit.lifecycle.rollout.substitution import check_compatible
from modelkit.lifecycle.rollout.switch import Switch
from modelkit.model.activation import Draining
from modelkit.model.model import Model

POLLED_EVERY = 5.0  # seconds
RETRY = 60.0  # seconds after which what failed is tried again
LOOKS_A_CHECK = 16  # looks for news until one sees whether the log is there, which takes as long
PATIENCE = 10.0  # seconds that closing waits for calls under way


@final
class Follower:
    """Lets a Switch answer with what a registry says.

    Args:
        registry: the registry.
        name: the name of the model.
        clock: in nanoseconds.
        wrap: makes the layers of each version.
        keep: how many versions stay warm that answered before.
        poll: seconds between two looks.
        rescue, seed: see `Rollout`.
        options: those of `mk.load`.

    Raises:
        NotFound: if the model has no champion.
    """

    def __init__(
        self,
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
    ) -> None:
        misplaced = [option for option in ("policy", "share") if option in options]
        if misplaced:
            raise TypeError(
                f"a Rollout of a registry takes no {', '.join(misplaced)}: pass an mk.RolloutPolicy to "
                f"registry.start_rollout({name!r}, version, policy, reason=...)"
            )
        if keep < 0 or not poll > 0:
            raise UsageError(f"keep is 0 or more and poll above 0; got {keep!r} and {poll!r}")
        self._registry = registry
        self._name = name
        self._wrap = wrap
        self._keep = keep
        self._poll = int(poll * A_SECOND)
        self._rescue = rescue
        self._seed = seed
        self._options = options
        self._in_bucket = "://" in registry.url
        self._layers: dict[str, Opened] = {}
        self._before: list[str] = []  # versions that answered, the last one first
        self._membership: Membership[RegistryLedger] | None = None
        self._applied = -1
        self._failed: tuple[int, int] = (-1, 0)  # the generation that failed, and until when
        self._due = 0
        self._looks = 0
        self._following: threading.Thread | None = None
        self._changing = threading.RLock()
        self._busy = False
        self._again = False
        state = registry.state(name)
        self._champion = _champion(registry, state, name)
        self._answered = {self._champion}
        first = self._open(self._champion)
        self.switch = Switch(first.model, clock, self)
        self._due = clock() + self._poll
        self.switch.due = self._due
        watch_forks(self)
        self._follow_quietly()  # where a rollout is under way and cannot be joined, that is told

    def look(self, now: int) -> int:
        """Look for news if it is time; returns when it is time again."""
        if now < self._due:
            return self._due
        self._due = now + self._poll
        if self._following is not None and self._following.is_alive():
            return self._due
        membership = self._membership
        unwritten = None if membership is None else membership.unwritten
        if membership is not None and unwritten is not None:
            self._following = self.switch.start(lambda: membership.write(unwritten))
        elif self._in_bucket or self._has_news(now):
            self._following = self.switch.start(self._follow_quietly)
        return self._due

    def _has_news(self, now: int) -> bool:
        generation = self._registry_generation()
        failed, until = self._failed
        if generation == failed and now < until:
            return False
        self._looks += 1
        if self._looks % LOOKS_A_CHECK == 0 and self._registry.log(self._name).gone:
            return True  # `follow` tells
        return generation != self._applied

    def _follow_quietly(self) -> None:
        """Follow, in a thread: what answers goes on to where that fails, which is told."""
        now = self.switch.clock()
        if self._in_bucket and now < self._failed[1]:
            return
        with suppress(Exception):  # it is reported, and reaches no caller
            self.refresh()

    def refresh(self) -> bool:
        """Do as the registry says; returns whether anything changed.

        What it raises has changed nothing. Whoever listens to events may ask for it while it is
        done; it is then done once more.
        """
        with self._changing:
            if self._busy:
                self._again = True
                return False
            self._busy = True
            try:
                changed = self._follow()
                while self._again and not self.switch.closed:
                    self._again = False
                    changed = self._follow() or changed
                return changed
            finally:
                self._give_threads_back()
                self._busy = False
                self._again = False

    def _give_threads_back(self) -> None:
        """Let the champion use all threads, where no rollout is under way."""
        if self.switch.course is not None or self.switch.closed:
            return
        try:
            self._layers[self._champion].share_threads(1)
        except Exception as error:  # it goes on with those that it has
            self.switch.failed(error)

    def _follow(self) -> bool:
        self.switch.check_open()
        version = ""
        try:
            self._registry.log(self._name).check()
            state = self._registry.state(self._name)
            if state.generation == self._applied:
                return False
            version = _champion(self._registry, state, self._name)
            membership = self._membership
            if membership is not None:
                end = end_of(membership.ledger.rollout, state)
                if end is not None:
                    membership.conclude(*end)
            changed = self._take_champion(version)
            if state.rollout is not None:
                version = state.rollout.candidate
            changed = self._take_rollout(state.rollout) or changed
        except Exception as error:
            generation = self._registry_generation()
            self._failed = (generation, self.switch.clock() + int(RETRY * A_SECOND))
            emit(NotFollowed(self._name, version, public_text(error)))
            self.switch.failed(error)
            self._let_go()
            raise
        self._applied = state.generation
        self._let_go()
        return changed

    def _registry_generation(self) -> int:
        """The generation of the registry; -1 where it cannot be read, as `follow` then tells."""
        try:
            return self._registry.generation(self._name)
        except Exception:
            return -1

    def _take_champion(self, version: str) -> bool:
        if version == self._champion:
            return False
        switch = self.switch
        layers = self._open(version)
        if version not in self._answered:  # going back is always possible
            self._check(version, layers)
        with switch.lock:
            switch.check_open()
            self._before = [each for each in (self._champion, *self._before) if each != version]
            self._champion = version
            self._answered.add(version)
            self._membership = None
            switch.end(layers.model)
        return True

    def _take_rollout(self, rollout: Underway | None) -> bool:
        switch = self.switch
        ended = False
        membership = self._membership
        if membership is not None and not is_same(membership.ledger.rollout, rollout):
            with switch.lock:
                if switch.course is not None:
                    switch.end(switch.champion)
                    ended = True
                self._membership = membership = None
        if rollout is None or (membership is not None and membership.settled):
            return ended
        if membership is None:
            self._join(rollout)
        elif rollout.stage != membership.ledger.rollout.stage:
            with switch.lock:
                switch.check_open()
                membership.collect()
                switch.enter(switch.under_way(), rollout.stage)
                membership.ledger.rollout = rollout
        return True

    def _join(self, rollout: Underway) -> None:
        """Take part in a rollout."""
        switch = self.switch
        version = rollout.candidate
        policy = RolloutPolicy.from_json(rollout.policy, f"the policy of {version}")
        layers = self._open(version)
        self._check(version, layers)
        course = Course(
            switch.champion,
            layers.model,
            policy,
            salt=rollout.salt,
            seed=self._seed,
            rescue=self._rescue,
            began=0.0,
            stage=rollout.stage,
            joint=True,
        )
        for arm in (self._layers[self._champion], layers):
            arm.share_threads(2)  # equal parts, as the one's times are compared with the other's
        ledger = RegistryLedger(self._registry, self._name, rollout, policy, switch.clock)
        membership = Membership(ledger, course, switch, self._follow_quietly)
        membership.read_sums()
        with switch.lock:
            switch.check_open()
            switch.begin(course, membership.tick)
        self._membership = membership

    def decide_by_hand(self, kind: Kind, reason: str) -> None:
        """Promote or roll back as somebody says. Raises Conflict where nothing is under way."""
        self.switch.under_way()
        if self._membership is not None:
            self._membership.decide_by_hand(kind, reason)
            self.refresh()

    def go_back(self, reason: str) -> None:
        """Let the alias name the version that answered before. Raises NotFound without one.

        A rollout of the registry that does not go on here is rolled back instead: this process has
        not seen it yet, or cannot load its candidate.
        """
        under_way = self._registry.state(self._name).rollout
        if under_way is not None:
            self._registry.decide_rollout(self._name, under_way, "rollback", reason=reason)
            self.refresh()
            return
        if not self._before:
            raise NotFound(
                f"no version of {self._name} answered here before {self._champion}",
                name=self._name,
                which="",
            )
        self._registry.set_alias(
            self._name, CHAMPION, self._before[0], expected=self._champion, reason=reason
        )
        self.refresh()

    def models(self) -> list[Model]:
        """Every Model that is open, the ones kept warm too."""
        return [layers.model for layers in [*self._layers.values()]]

    def _open(self, version: str) -> Opened:
        layers = self._layers.get(version)
        if layers is None:
            layers = Opened(self._load(version), self._proven)
            self._layers[version] = layers
        return layers

    def _load(self, version: str) -> Model:
        try:
            return self._registry.load(self._name, version, **self._options)
        except UntrustedError as error:
            raise UntrustedError(
                f"{self._name} {version} is a joblib package: opening it runs code, and whoever sets an "
                "alias may be somebody whom you do not trust. Pass allow={'joblib'} and digest=[...] to "
                "the Rollout, with the digest of every version that it may follow, as whoever made them "
                "gives them to you; or save "
                f"the model as ONNX. Missing: {' and '.join(error.missing)}",
                missing=error.missing,
            ) from error

    def _proven(self, loaded: Model) -> Model:
        check_answers(loaded)
        return loaded if self._wrap is None else self._wrap(loaded)

    def _check(self, version: str, opened: Opened) -> None:
        """Close a version that cannot answer in place of the champion, and raise UsageError."""
        try:
            check_compatible(self.switch.champion.signature, opened.model.signature, version)
        except BaseException:
            if version not in self._before:
                self._layers.pop(version).close()
            raise

    def _let_go(self) -> None:
        """Close, in a thread, what is not needed any more, when its last call has ended."""
        used = {self._champion, *self._before[: self._keep]}
        if self._membership is not None:
            used.add(self._membership.ledger.rollout.candidate)
        gone = [self._layers.pop(version) for version in [*self._layers] if version not in used]
        self._before = self._before[: self._keep]
        drainings = self.switch.still_draining()
        past = self.switch.past
        if gone:
            self.switch.start(lambda: self._close_quietly(gone, drainings, past))

    def _close_quietly(
        self, layers: list[Opened], drainings: list[Draining], course: Course | None
    ) -> None:
        try:
            _close(layers, drainings, course)
        except Exception as error:  # it is told, and reaches no caller
            self.switch.failed(error)

    def close(self) -> None:
        """Close everything that was opened, once the calls under way have ended."""
        if self._membership is not None:
            self._membership.hand_on(PATIENCE)  # without the lock, for which its thread may wait
        with self._changing:
            gone = [*self._layers.values()]
            self._layers.clear()
            drainings = self.switch.still_draining()
            end = time.monotonic() + PATIENCE
            for each in drainings:
                each.wait(max(0.0, end - time.monotonic()))
            _close(gone, [], self.switch.past)

    def after_fork(self) -> None:
        """Begin without threads, and with free locks, in the child of a fork."""
        self._changing = threading.RLock()
        self._busy = False
        self._following = None
        if self._membership is not None:
            self._membership.after_fork()


def _close(layers: list[Opened], drainings: list[Draining], course: Course | None) -> None:
    for draining in drainings:
        draining.wait()
    if course is not None and course.shadow is not None:
        course.shadow.wait(PATIENCE)
    with ExitStack() as closing:  # one that raises leaves none of the others open
        for each in reversed(layers):  # which is undone from the end
            closing.callback(each.close)


def _champion(registry: Registry, state: State, name: str) -> str:
    alias = state.aliases.get(CHAMPION)
    if alias is None:
        registry.versions(name)  # raises NotFound where there is no such model, or no registry
        raise NotFound(
            f"{registry.url} has no {name}@{CHAMPION}; set this alias first",
            name=name,
            which=CHAMPION,
        )
    return alias.version
