"""The Rollout: a Model that decides which Model answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter_ns
from typing import Any, final, overload

from modelkit._internal.process import watch_forks
from modelkit.errors import UsageError
from modelkit.lifecycle.layered import Wrap
from modelkit.lifecycle.registry.registry import Registry
from modelkit.lifecycle.rollout.follow import POLLED_EVERY, Follower
from modelkit.lifecycle.rollout.lineup import Lineup
from modelkit.lifecycle.rollout.losses import Loss
from modelkit.lifecycle.rollout.planning import RISKS, RolloutPlan, plan_of
from modelkit.lifecycle.rollout.policy import RolloutPolicy
from modelkit.lifecycle.rollout.progress import RolloutProgress
from modelkit.lifecycle.rollout.status import progress_here
from modelkit.lifecycle.rollout.two_models import TwoModels
from modelkit.model.activation import Activation, Active
from modelkit.model.device import Placement
from modelkit.model.manifest import Manifest
from modelkit.model.model import Call, Model, Outputs
from modelkit.model.wrapper import Wrapper
from modelkit.package.keys import lasting
from modelkit.signature.signature import Feeds, Signature


@final
class Rollout(Model):
    """A Model that decides which Model answers; one call is answered by one of them.

        rollout = mk.Rollout(model, candidate, share=0.05)
        rollout.predict(X[:1], key="customer 17")

    **Of two Models** of this process, `Rollout(champion, candidate, share=.05)`: a share of the
    keys, and of the calls without one, goes to the candidate. Guards count what is bad in both
    arms, the champion and the candidate, and decide with a stated error rate, see
    `RolloutPolicy.alpha`: a candidate that is shown to be worse is rolled back, by one assignment
    to the champion, which stays warm; one that every guard has shown to be within what is allowed
    is promoted. Where the time runs out before, the rollout holds and says so. The Models stay
    yours: you close them.

    **Of a registry**, `Rollout(registry, "churn")`: it answers with the version that the alias
    "champion" names, and takes part in the rollout that `Registry.start_rollout` began. A new
    champion is loaded in a thread of its own, runs its golden rows, and is swapped in; calls under
    way end with the version that they began with. A version that cannot be loaded changes nothing:
    it is an event `NotFollowed`, stands in `last_failure`, and is tried again after a
    minute. Two versions are in memory while one takes the other's place, and with `keep=1` after
    that too. Each arm of a rollout has half of the threads that one Model has. A Rollout closes
    what it opened, and nothing else. Without calls nothing runs.

    Both pick the arm first and let it check the rows by its own signature. `base`, `manifest`, `name`, `version`,
    `placement` and `signature` are the champion's at present. Which Model answered a call stands in `served_by`
    of the outputs of `run`.

    Args:
        champion: the Model that answers now; or a Registry.
        candidate: the Model on trial, which takes every row that the champion takes and gives the
            same outputs; or the name of a model in the registry.
        policy: the stages, the guards and the error rate, see `RolloutPolicy`. A stage of share 0
            that comes first is shadow: the candidate runs on copies of rows that the champion
            answered, in a thread of its own, and nobody gets its answers. Never shadow with a
            function that has effects elsewhere.
        share: of the candidate, in place of `policy`: one stage, with the usual guards.
        rescue: whether the champion answers the calls at which the candidate fails, which count as
            failed.
        seed: of the draws and of the hashes of keys; by default, each rollout draws its own.
        wrap: makes the layers of each version, such as `mk.layered`;
            it returns a Model around the one that it is given.
        keep: how many versions stay warm that answered before; 1 by default.
        poll: seconds after which a call looks for news; 5 by default.
        load_options: arguments of `mk.load`, for every version. With `digest`, a list of digests, no
            version of another digest is followed. Joblib packages need `allow={"joblib"}`, and digests
            or a registry with a `Trust`.

    Raises:
        UsageError: if the candidate cannot answer in place of the champion, with every reason; or
            without one of `policy` and `share`.
        TypeError: for options of the other form, see `Registry.start_rollout`; and for a policy or
            a seed of another type.
        NotFound: if the model lacks a champion.
        AccessDenied: if the policy of the registry does not let the caller load it.
        UntrustedError: for a joblib package without these, and for lacking signatures.
        PackageError, DeviceError: as `mk.load` does.
    """

    __slots__ = ("__weakref__", "_active", "_clock", "_pickled", "_source", "_switch")

    @overload
    def __init__(
        self,
        champion: Model,
        candidate: Model,
        *,
        policy: RolloutPolicy | None = None,
        share: float | None = None,
        rescue: bool = False,
        seed: int | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        champion: Registry,
        candidate: str,
        *,
        wrap: Wrap | None = None,
        keep: int = 1,
        poll: float = POLLED_EVERY,
        rescue: bool = False,
        seed: int | None = None,
        **load_options: Any,
    ) -> None: ...

    def __init__(self, champion: Model | Registry, candidate: Model | str, **options: Any) -> None:
        seed = options.get("seed")
        if seed is not None and type(seed) is not int:  # 1.5 would hash keys as 1 does
            raise TypeError(f"seed is a whole number or None, not {seed!r:.80}")
        self._clock: Callable[[], int] = perf_counter_ns
        self._source: Follower | TwoModels
        self._pickled: tuple[Any, ...] | None = None
        if isinstance(champion, Registry) and isinstance(candidate, str):
            options["unseal"] = lasting(options.get("unseal"))
            self._source = Follower(champion, candidate, self._clock, **options)
            self._pickled = (partial(Rollout, **options), (champion, candidate))
        elif isinstance(champion, Model) and isinstance(candidate, Model):
            self._source = TwoModels(champion, candidate, self._clock, **options)
        else:
            raise UsageError(
                "a Rollout takes two Models, or a Registry and the name of a model; got "
                f"{type(champion).__name__} and {type(candidate).__name__}"
            )
        self._switch = self._source.switch
        self._active: Active[Lineup] = self._switch.active
        watch_forks(self._switch)

    # Which Model answers.

    def _call(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        if self._clock() >= self._switch.due:
            self._switch.look()
        activation = self._active.now
        try:
            return activation.value.answer(X, outputs, call)
        finally:
            del activation  # a traceback that is kept would keep it

    async def _acall(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        if self._clock() >= self._switch.due:
            self._switch.look()
        activation = self._active.now
        try:
            return await activation.value.aanswer(X, outputs, call)
        finally:
            del activation

    def _run(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        return self._call(self.signature.columns(feeds), outputs, call)

    async def _arun(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        return await self._acall(self.signature.columns(feeds), outputs, call)

    def _for_key(self, key: str | None) -> Model:
        self._switch.look()
        self._switch.check_open()
        activation = self._active.now
        return Pinned(activation.value.pick(key).model, activation)

    # What you may do with it.

    def outcome(self, key: str, loss: Loss) -> bool:
        """Report how wrong an answer was, once you know it.

            stages, guards = (mk.RolloutStage(0.1),), (mk.Guard("loss", margin=0.02),)
            rollout = mk.Rollout(model, candidate, policy=mk.RolloutPolicy(stages, guards))
            rollout.predict(X[:1], key="customer 17")
            rollout.outcome("customer 17", 0.0)  # True

        It counts for the arm that last answered the key; only the first loss of each key counts.
        Keys that were answered in two stages are left out, and `status().notes` has their number.
        With a registry, any process takes the loss of a key that another one answered.

        Args:
            key: the key of the call.
            loss: from 0, right, to 1; or a function that gives the loss of the outputs that a call
                asked for. Both are taken in every stage. In shadow, where both answered, a function
                gives the loss of each; a number belongs to the champion's answer alone, so it does
                not count, see `status().notes`.

        Returns:
            Whether it counts, or will count if another process answered the key. False if a rollout
            has not begun or has ended, and if too many losses are waiting: then send it again.

        Raises:
            UsageError: if the policy lacks a guard of losses, and for a loss outside 0 to 1.
            TypeError: for a loss that is not a number.
            Exception: what the function raises; the answer then does not count.
        """
        if not self.under_way:
            return False
        session = self._switch.session
        return session is not None and session.outcome(key, loss)

    @property
    def under_way(self) -> bool:
        """Whether a rollout is in progress in this process, which then takes losses."""
        self._switch.look()
        return self._switch.session is not None

    def promote(self, reason: str = "by hand") -> None:
        """Let the candidate answer everything from now on, whatever the evidence.

        The status, and the history of a registry, show `reason`. Raises Conflict if there is no
        rollout, or somebody else decided.
        """
        self._switch.check_open()
        self._source.decide_by_hand("promote", reason)

    def rollback(self, reason: str = "by hand") -> None:
        """Let the champion answer everything; after a promotion, the one before, which is warm.

        The status, and the history of a registry, show `reason`; after a promotion in a registry,
        only the history does.

        Raises:
            UsageError: if there is nothing to go back from, of two Models.
            NotFound: if there is nothing to go back from, of a registry.
            Conflict: if somebody else decided.
        """
        self._switch.check_open()
        if self._switch.session is not None:
            self._source.decide_by_hand("rollback", reason)
        else:
            self._source.go_back(reason)

    def refresh(self) -> bool:
        """Write down a rollback that was decided here, and do what the registry says, in this thread.

        Returns whether anything changed.

        Raises:
            UsageError: if this is a Rollout of two Models.
            NotFound, PackageError, DeviceError: for a version that cannot be loaded; it changes nothing.
        """
        self._switch.check_open()
        return self._source.refresh()

    def status(self) -> RolloutProgress:
        """The state of the rollout, after weighing what is due."""
        self._switch.settle()
        return progress_here(self._switch)

    def plan(
        self, rates: Mapping[str, float] | None = None, risks: Sequence[float] = RISKS
    ) -> RolloutPlan:
        """About how many requests each guard needs to find which regression, at each share.

        Args:
            rates: how often each guard's event happens in the champion, by the guard's name; by
                default .01, and .5 for "slow", which is the rate of its median.
            risks: the regressions: how many times that rate the candidate has.

        Raises:
            UsageError: without a rollout, and for the rate of an unknown guard.
        """
        session = self._switch.session or self._switch.past
        if session is None:
            raise UsageError(
                "no candidate was tried yet, so nothing can be planned; start a rollout first"
            )
        return plan_of(session.policy, rates or {}, risks)

    @property
    def failures(self) -> int:
        """How often work outside the calls, such as loading, failed; callers never see it."""
        return self._switch.failures

    @property
    def last_failure(self) -> str:
        """The last of these errors, or ""."""
        return self._switch.last_failure

    def close(self) -> None:
        """Answer no more, and close what it opened itself; Models that you gave it stay open.

        First it waits for calls under way, ten seconds at most.
        """
        if self._switch.closed:
            return
        self._switch.close()
        self._source.close()

    @property
    def models(self) -> tuple[Model, ...]:
        """Every Model that it holds, each once.

        The champion comes first, then the candidate during a rollout, then those that are kept warm.
        """
        return self._switch.models()

    # What it is, which is what the champion is.

    @property
    def _champion(self) -> Model:
        return self._switch.champion

    @property
    def signature(self) -> Signature:
        """What the champion takes and gives."""
        return self._active.now.value.champion.signature

    @property
    def base(self) -> Model:
        """The innermost Model of the champion."""
        return self._champion.base

    @property
    def placement(self) -> Placement | None:
        """Where the champion really runs."""
        return self._champion.placement

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of the champion's package, or None."""
        # Without its layers, since a Guarded asks for each call.
        return self._active.now.value.champion.manifest

    @property
    def attachments(self) -> Mapping[str, memoryview]:
        """The attachments of that package, by name."""
        return self._champion.attachments

    @property
    def closed(self) -> bool:
        """Whether the Rollout was closed, and answers no more."""
        return self._switch.closed

    @property
    def batchable(self) -> bool:
        """False: each version has a Batcher of its own, so no batch mixes two of them."""
        return False

    def _why_not_batchable(self) -> str:
        return (
            "a Rollout chooses for each call, and a batch has calls of both arms; put a Batcher "
            "into each: Rollout(registry, name, wrap=mk.Batcher), or Rollout(mk.Batcher(champion), "
            "mk.Batcher(candidate), ...)"
        )

    @property
    def runs_at_once(self) -> int:
        """The number of runs that the champion does side by side."""
        return self._champion.runs_at_once

    @property
    def endless(self) -> bool:
        """Whether a run of one of its Models ends only by a deadline, for some rows."""
        return any(model.endless for model in self.models)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._pickled is None:
            raise TypeError(
                "a Rollout of two Models cannot be pickled, since calls elsewhere would not be "
                "counted here; use a Registry, which several processes follow"
            )
        return self._pickled

    def _facts(self) -> list[tuple[str, str]]:
        return [*self._champion._facts(), *self.status()._facts()]


@final
class Pinned(Wrapper):
    """One arm of a Rollout, for a caller that stays with it, as an Explainer does.

    As long as the caller holds this, the Activation is not drained, and the Model stays open.

    Args:
        model: the Model.
        activation: the Activation that it belongs to.
    """

    __slots__ = ("_activation",)

    def __init__(self, model: Model, activation: Activation[Lineup]) -> None:
        super().__init__(model)
        self._activation = activation

    @property
    def unobserved(self) -> Model:
        """The same without Monitors in it."""
        inner = self._inner.unobserved
        return self if inner is self._inner else Pinned(inner, self._activation)
