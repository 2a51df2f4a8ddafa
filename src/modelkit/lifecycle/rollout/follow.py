"""Follows a registry: what its log says shall answer is loaded aside, and swapped in.

Without calls nothing runs. A call looks for news at most once in `poll` seconds: in a folder, that
is a look at one file that is not there; in a bucket, a thread does it. Loading has a thread of its
own.
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
        rescue, seed, options: see `Rollout`.

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
        self._layers: dict[str, Opened] = {}
        self._before: list[str] = []  # versions that answered, the last one first
        self._session: Session[RegistryLedger] | None = None
        self._applied = -1
        self._failed: tuple[int, int] = (-1, 0)  # the generation that failed, and until when
        self._looks = 0
        self._following: threading.Thread | None = None
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
        if self._following is not None and self._following.is_alive():
            return self._due
        session = self._session
        unwritten = None if session is None else session.unwritten
        if session is not None and unwritten is not None:
            self._following = self.switch.start(lambda: session.write(unwritten))
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
        """Follow, in a thread: what answers goes on to where that fails, of which there is an event."""
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
        """What answers, which is another one after a change."""
        session = self.switch.session
        return self._champion, session, 0 if session is None else session.stage

    def _give_threads_back(self) -> None:
        """Let the champion use all threads, where no rollout is under way."""
        if self.switch.session is not None or self.switch.closed:
            return
        try:
            self._layers[self._champion].share_threads(1)
        except Exception as error:  # it goes on with those that it has
            self.switch.failed(error)

    def _follow(self) -> None:
        version = ""
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
        """The generation of the registry; -1 where it cannot be read, as `follow` then tells."""
        try:
            return self._registry.generation(self._name)
        except Exception:
            return -1

    def _take_champion(self, version: str) -> None:
        if version == self._champion:
            return
        switch = self.switch
        layers = self._open(version)
        if version not in self._answered:  # going back is always possible
            self._check(version, layers)
        with switch.lock:
            switch.check_open()
            self._before = [each for each in (self._champion, *self._before) if each != version]
            self._champion = version
            self._answered.add(version)
            self._session = None
            switch.end(layers.model)

    def _take_rollout(self, rollout: Underway | None) -> None:
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
        elif not session.settled and rollout.stage != session.ledger.rollout.stage:
            with switch.lock:
                switch.check_open()
                session.hand_on()
                switch.enter(rollout.stage)
                session.ledger.rollout = rollout

    def _join(self, rollout: Underway) -> None:
        """Take part in a rollout."""
        switch = self.switch
        version = rollout.candidate
        policy = RolloutPolicy.from_json(rollout.policy, f"the policy of {version}")
        layers = self._open(version)
        self._check(version, layers)
        ledger = RegistryLedger(
            self._registry, self._name, rollout, policy, uuid4().hex, switch.clock
        )
        ledger.notice(*start_in_the_future(rollout))
        lineups = Lineups(
            switch.champion,
            layers.model,
            policy,
            salt=rollout.salt,
            seed=self._seed,
            rescue=self._rescue,
        )
        session = Session(ledger, lineups, switch, self._follow_quietly)
        for arm in (self._layers[self._champion], layers):
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

        A rollout of the registry that does not go on here is rolled back instead: this process has
        not seen it yet, or cannot load its candidate.
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
        return [layers.model for layers in [*self._layers.values()]]

    def _open(self, version: str) -> Opened:
        layers = self._layers.get(version)
        if layers is None:
            layers = Opened(self._load(version), self._proven)
            self._layers[version] = layers
        return layers

    def _load(self, version: str) -> Model:
        try:
            return self._registry._open_followed(self._name, version, self._options)
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
            self.switch.check_replaces(opened.model, version)
        except BaseException:
            if version not in self._before:
                self._layers.pop(version).close()
            raise

    def _let_go(self) -> None:
        """Close, in a thread, what is not needed any more, when its last call has ended."""
        used = {self._champion, *self._before[: self._keep]}
        if self._session is not None:
            used.add(self._session.ledger.rollout.candidate)
        gone = [self._layers.pop(version) for version in [*self._layers] if version not in used]
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
            gone = [*self._layers.values()]
            self._layers.clear()
            drainings = self.switch.still_draining()
            end = time.monotonic() + PATIENCE
            for each in drainings:
                each.wait(max(0.0, end - time.monotonic()))
            _close(gone, self.switch.past)

    def after_fork(self) -> None:
        """Begin without threads, and with free locks, in the child of a fork."""
        self._changing = threading.RLock()
        self._busy = False
        self._following = None
        if self._session is not None:
            self._session.after_fork()


def _close(layers: list[Opened], session: Session[Any] | None) -> None:
    shadow = None if session is None else session.lineups.shadow
    if shadow is not None:
        shadow.wait(PATIENCE)
    with ExitStack() as closing:  # one that raises leaves none of the others open
        for each in reversed(layers):  # which is undone from the end
            closing.callback(each.close)


def _check_options(name: str, keep: int, poll: float, options: Mapping[str, object]) -> None:
    misplaced = [option for option in ("policy", "share") if option in options]
    if misplaced:
        raise TypeError(
            f"a Rollout of a registry takes no {', '.join(misplaced)}: pass an mk.RolloutPolicy to "
            f"registry.start_rollout({name!r}, version, policy, reason=...)"
        )
    if keep < 0 or not poll > 0:
        raise UsageError(f"keep is 0 or more and poll above 0; got {keep!r} and {poll!r}")


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
