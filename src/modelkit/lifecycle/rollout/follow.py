"""Follows a registry: what its log says shall answer is loaded aside, and swapped in.

Without calls nothing runs. A call looks for news at most once in `poll` seconds (`look`): in a
folder, it looks for the one file that would be next in the log; in a bucket, a thread does so. Where
there is news, a thread takes it over (`refresh`): first the champion, then the rollout.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Any, final
from uuid import uuid4

from modelkit._internal.process import watch_forks
from modelkit.errors import NotFound, UntrustedError, UsageError, public_text
from modelkit.events import NotFollowed, emit
from modelkit.lifecycle.layered import Opened, Wrap, check_answers
from modelkit.lifecycle.registry.log import CHAMPION, State, Underway
from modelkit.lifecycle.registry.registry import Registry
from modelkit.lifecycle.registry.rules import end_of, is_same
from modelkit.lifecycle.rollout.decide import Kind
from modelkit.lifecycle.rollout.latency import A_SECOND
from modelkit.lifecycle.rollout.ledger import RegistryLedger, start_in_the_future
from modelkit.lifecycle.rollout.lineup import Lineups
from modelkit.lifecycle.rollout.policy import RolloutPolicy
from modelkit.lifecycle.rollout.session import Session
from modelkit.lifecycle.rollout.switch import Switch
from modelkit.model.model import Model

POLLED_EVERY = 5.0  # seconds
RETRY = 60.0  # seconds after which what failed is tried again
LOOKS_A_CHECK = 16  # looks for news, of which one also checks that the log still exists
PATIENCE = 10.0  # seconds that closing waits for calls under way


@final
class Follower:
    """Lets a Switch answer with what a registry says.

    Args:
        registry: the registry.
        name: the name of the model.
        clock: in nanoseconds.
        wrap: makes the layers of each version.
        keep, poll: how many versions stay warm that answered before; seconds between two looks.
        rescue, seed, options: see `Rollout`.

    Raises NotFound if the model lacks a champion.
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
        _check_options(name, keep, poll, options)
        self._registry = registry
        self._name = name
        self._wrap = wrap
        self._keep = keep
        self._poll = int(poll * A_SECOND)
        self._rescue = rescue
        self._seed = seed
        self._options = options
        self._in_bucket = "://" in registry.url
        self._opened: dict[str, Opened] = {}
        self._before: list[str] = []  # versions that answered, the last one first
        self._session: Session[RegistryLedger] | None = None
        self._applied = -1  # the generation of the registry that answers
        self._failed = -1, 0  # the generation that failed, and until when
        self._looks = 0
        self._thread: threading.Thread | None = None
        self._changing = threading.RLock()
        self._busy = False
        self._again = False
        self._champion = _champion(registry, registry.state(name), name)
        registry._allowed("load", name, self._champion)
        self._answered = {self._champion}
        self.switch = Switch(self._open(self._champion).model, clock, self)
        self._due = self.switch.due = clock() + self._poll
        watch_forks(self)
        self._follow_quietly()  # where a rollout is under way and cannot be joined, an event says so

    def look(self, now: int) -> int:
        """Look for news if it is time; returns when it is time again."""
        if now < self._due:
            return self._due
        self._due = now + self._poll
        if self._thread is not None and self._thread.is_alive():
            return self._due
        session = self._session
        unwritten = None if session is None else session.unwritten
        if session is not None and unwritten is not None:
            self._thread = self.switch.start(lambda: session.write(unwritten))
        elif self._in_bucket or self._has_news(now):
            self._thread = self.switch.start(self._follow_quietly)
        return self._due

    def _has_news(self, now: int) -> bool:
        generation = self._registry_generation()
        failed, until = self._failed
        if generation == failed and now < until:
            return False
        self._looks += 1
        if self._looks % LOOKS_A_CHECK == 0 and self._registry.log(self._name).gone:
            return True  # and `_follow` fails with the reason
        return generation != self._applied

    def _follow_quietly(self) -> None:
        """Refresh, without raising: where that fails, what answers goes on, and an event says why."""
        if self._in_bucket and self.switch.clock() < self._failed[1]:
            return
        with suppress(Exception):  # it is reported, and reaches no caller
            self.refresh()

    def refresh(self) -> bool:
        """Do as the registry says; returns whether anything changed.

        It raises for a version that cannot be loaded. A listener that calls it has it run once more.
        """
        with self._changing:
            if self._busy:
                self._again = True
                return False
            self._busy = self._again = True
            before = self._answering()
            try:
                while self._again and not self.switch.closed:
                    self._again = False
                    self._follow()
                return self._answering() != before
            finally:
                self._give_threads_back()
                self._busy = False
                self._again = False

    def _answering(self) -> tuple[str, object, int]:
        """What answers; it compares unequal after a change."""
        session = self.switch.session
        return self._champion, session, 0 if session is None else session.stage

    def _give_threads_back(self) -> None:
        """Let the champion use all threads, where no rollout is under way."""
        if self.switch.session is not None or self.switch.closed:
            return
        try:
            self._opened[self._champion].share_threads(1)
        except Exception as error:  # the champion goes on with the threads that it has
            self.switch.failed(error)

    def _follow(self) -> None:
        version = ""
        if (session := self._session) is not None and session.unwritten is not None:
            session.write(session.unwritten)
        try:
            self._registry.log(self._name).check()
            state = self._registry.state(self._name)
            if state.generation == self._applied:
                return
            version = _champion(self._registry, state, self._name)
            self._conclude(state)
            self._take_champion(version)
            if state.rollout is not None:
                version = state.rollout.candidate
            self._take_rollout(state.rollout)
        except Exception as error:
            generation = self._registry_generation()
            self._failed = (generation, self.switch.clock() + int(RETRY * A_SECOND))
            emit(NotFollowed(self._name, version, public_text(error)))
            self.switch.failed(error)
            raise
        else:
            self._applied = state.generation
        finally:
            self._let_go()

    def _conclude(self, state: State) -> None:
        """Take over how the rollout ended elsewhere, if it did."""
        session = self._session
        end = None if session is None else end_of(session.ledger.rollout, state)
        if session is not None and end is not None:
            session.conclude(*end)

    def _registry_generation(self) -> int:
        """The generation of the registry; -1 where it cannot be read, and `_follow` fails with the reason."""
        try:
            return self._registry.generation(self._name)
        except Exception:
            return -1

    def _take_champion(self, version: str) -> None:
        """Let a new champion answer, which ends the rollout here; nothing for the one that answers."""
        if version == self._champion:
            return
        switch = self.switch
        opened = self._open(version)
        if version not in self._answered:  # going back is always possible
            self._check(version, opened)
        with switch.lock:
            switch.check_open()
            self._before = [each for each in (self._champion, *self._before) if each != version]
            self._champion = version
            self._answered.add(version)
            self._session = None
            switch.end(opened.model)

    def _take_rollout(self, rollout: Underway | None) -> None:
        """Leave a rollout that is over, join the one under way, or enter its stage."""
        switch = self.switch
        session = self._session
        if session is not None and not is_same(session.ledger.rollout, rollout):
            with switch.lock:
                if switch.session is not None:
                    switch.end(switch.champion)
                self._session = session = None
        if rollout is None:
            return
        if session is None:
            self._join(rollout)
        elif not session.rolled_back and rollout.stage != session.ledger.rollout.stage:
            with switch.lock:
                switch.check_open()
                session.queue_counts()
                switch.enter(rollout.stage)
                session.ledger.rollout = rollout

    def _join(self, rollout: Underway) -> None:
        """Take part in a rollout."""
        switch = self.switch
        version = rollout.candidate
        policy = RolloutPolicy.from_json(rollout.policy, f"the policy of {version}")
        opened = self._open(version)
        self._check(version, opened)
        ledger = RegistryLedger(
            self._registry, self._name, rollout, policy, uuid4().hex, switch.clock
        )
        ledger.notice(*start_in_the_future(rollout))
        lineups = Lineups(
            switch.champion,
            opened.model,
            policy,
            salt=rollout.salt,
            seed=self._seed,
            rescue=self._rescue,
        )
        session = Session(ledger, lineups, switch, self._follow_quietly)
        for arm in (self._opened[self._champion], opened):
            arm.share_threads(2)  # equal parts, as the one's times are compared with the other's
        session.read_sums()
        with switch.lock:
            switch.check_open()
            switch.begin(session)
        self._session = session

    def decide_by_hand(self, kind: Kind, reason: str) -> None:
        """Promote or roll back as somebody says. Raises Conflict where nothing is under way."""
        session = self.switch.under_way()
        self._registry._allowed("set_alias", self._name, session.ledger.rollout.candidate)
        session.decide_for_all(kind, reason)
        self.refresh()

    def go_back(self, reason: str) -> None:
        """Let the alias name the version that answered before. Raises NotFound without one.

        Where the registry has a rollout that this process has not seen yet, or whose candidate it
        cannot load, that rollout is rolled back instead.
        """
        registry, name = self._registry, self._name
        under_way = registry.state(name).rollout
        if under_way is not None:
            registry.decide_rollout(name, under_way, "rollback", reason=reason)
        elif self._before:
            before = self._before[0]
            registry.set_alias(name, CHAMPION, before, expected=self._champion, reason=reason)
        else:
            message = f"no version of {name} answered here before {self._champion}"
            raise NotFound(message, name=name, which="")
        self.refresh()

    def models(self) -> list[Model]:
        """Every Model that is open, the ones kept warm too."""
        return [opened.model for opened in [*self._opened.values()]]

    def _open(self, version: str) -> Opened:
        if version not in self._opened:
            self._opened[version] = Opened(self._load(version), self._check_and_wrap)
        return self._opened[version]

    def _load(self, version: str) -> Model:
        try:
            return self._registry._open_followed(self._name, version, self._options)
        except UntrustedError as error:
            if error.missing in ((), ("unseal=",)):  # not signed, or sealed
                raise
            raise UntrustedError(
                f"{self._name} {version} is a joblib package, which runs code, and whoever sets an alias may be "
                "somebody whom you do not trust. Pass the Rollout allow={'joblib'} and digest=[...], as the author of "
                f"each version gives it to you; or save the model as ONNX. Missing: {' and '.join(error.missing)}",
                missing=error.missing,
            ) from error

    def _check_and_wrap(self, loaded: Model) -> Model:
        check_answers(loaded)
        return loaded if self._wrap is None else self._wrap(loaded)

    def _check(self, version: str, opened: Opened) -> None:
        """Close a version that cannot answer in place of the champion, and raise UsageError."""
        try:
            self.switch.check_replaces(opened.model, version)
        except BaseException:
            if version not in self._before:
                self._opened.pop(version).close()
            raise

    def _let_go(self) -> None:
        """Close, in a thread, the versions that nothing needs, once their last calls have ended."""
        used = {self._champion, *self._before[: self._keep]}
        if self._session is not None:
            used.add(self._session.ledger.rollout.candidate)
        gone = [self._opened.pop(version) for version in [*self._opened] if version not in used]
        self._before = self._before[: self._keep]
        drainings = self.switch.still_draining()
        past = self.switch.past

        def close() -> None:
            try:
                for draining in drainings:
                    draining.wait()
                _close(gone, past)
            except Exception as error:  # it is reported, and reaches no caller
                self.switch.failed(error)

        if gone:
            self.switch.start(close)

    def close(self) -> None:
        """Close everything that was opened, once the calls under way have ended."""
        if self._session is not None:
            self._session.finish(PATIENCE)  # without the lock, for which its thread may wait
        with self._changing:
            gone = [*self._opened.values()]
            self._opened.clear()
            end = time.monotonic() + PATIENCE
            for each in self.switch.still_draining():
                each.wait(max(0.0, end - time.monotonic()))
            _close(gone, self.switch.past)

    def after_fork(self) -> None:
        """Begin without threads, and with free locks, in the child of a fork."""
        self._changing = threading.RLock()
        self._busy = False
        self._thread = None
        if self._session is not None:
            self._session.after_fork()


def _close(gone: list[Opened], session: Session[Any] | None) -> None:
    """Close versions, once the shadow of the last session, which may run one of them, has ended."""
    shadow = None if session is None else session.lineups.shadow
    if shadow is not None:
        shadow.wait(PATIENCE)
    with ExitStack() as closing:  # one that raises leaves none of the others open
        for each in reversed(gone):  # which is undone from the end
            closing.callback(each.close)


def _check_options(name: str, keep: int, poll: float, options: Mapping[str, object]) -> None:
    misplaced = [option for option in ("policy", "share") if option in options]
    if misplaced:
        raise TypeError(
            f"a Rollout of a registry does not take {', '.join(misplaced)}: pass an mk.RolloutPolicy to "
            f"registry.start_rollout({name!r}, version, policy, reason=...)"
        )
    if keep < 0 or not poll > 0:
        raise UsageError(f"keep is 0 or more and poll above 0; got {keep!r} and {poll!r}")


def _champion(registry: Registry, state: State, name: str) -> str:
    """The version that the alias names. Raises NotFound without one."""
    alias = state.aliases.get(CHAMPION)
    if alias is None:
        registry.versions(name)  # raises NotFound where the model or the registry does not exist
        message = f"{registry.url} lacks the alias {name}@{CHAMPION}; set it first"
        raise NotFound(message, name=name, which=CHAMPION)
    return alias.version
