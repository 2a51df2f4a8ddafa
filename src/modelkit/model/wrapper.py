"""Wrapper: a Model that answers with another Model, and adds something of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping
from contextlib import ExitStack
from itertools import takewhile
from typing import Any, TypeVar

from modelkit.errors import UsageError
from modelkit.model.call import Action
from modelkit.model.device import Placement
from modelkit.model.manifest import Manifest
from modelkit.model.model import Call, Model, Outputs
from modelkit.signature.signature import Feeds, Signature

L = TypeVar("L", bound=Model)
HOOKS = ("_call", "_acall", "_run", "_arun")


def check_is_model(given: object, taker: str) -> None:
    """Raise TypeError for anything but a Model: the path of one, for example; `taker` says who asks."""
    if not isinstance(given, Model):
        kind = type(given).__name__
        raise TypeError(f"{taker} takes a Model, not {kind}; mk.load(path) opens a package")


def has_several_versions(model: Model) -> bool:
    """Whether it is a Rollout, or holds one: which version answers then depends on the call."""
    return model._for_key(None) is not model


def layers_of(model: Model) -> Iterator[Model]:
    """A Model and those that it wraps, from the outside inwards."""
    layer: Model | None = model
    while layer is not None:
        yield layer
        layer = layer.inner


def layer_of(model: Model, kind: type[L]) -> L | None:
    """The outermost layer of a kind, or None."""
    return next((layer for layer in layers_of(model) if isinstance(layer, kind)), None)


def close_layers(model: Model, inner: Model) -> None:
    """Close the layers around a Model, the outermost first, and the others although one fails."""
    with ExitStack() as closing:
        for layer in reversed([*takewhile(lambda layer: layer is not inner, layers_of(model))]):
            closing.callback(layer.close)


def passed_by_runs(model: Model) -> str | None:
    """The kind of a layer of `model` that sees calls only, and so not the runs of a layer around it."""
    for layer in layers_of(model):
        kind = type(layer)
        if kind._call not in (Model._call, Wrapper._call) and kind._run is Wrapper._run:
            return kind.__name__
    return None


def check_runs_are_seen(outer: str, model: Model) -> None:
    """Raise UsageError where a layer of `model` would miss the runs of `outer`."""
    kind = passed_by_runs(model)
    if kind is not None:
        raise UsageError(
            f"{outer} runs coerced rows, which would pass {kind} by, since {kind} sees only calls. Put "
            f"{kind} outside, {kind}({outer}(...)), or override its _run and _arun too; "
            "mk.layered(model) puts the layers of modelkit in order"
        )


class InnerProperties:
    """The properties of a Model that are those of `_inner`, the Model which runs for it.

    A Wrapper has them, and so does a Model over texts, which is no Wrapper: the rows of its `_inner`
    are tokens or counts.
    """

    __slots__ = ()
    _inner: Model

    @property
    def placement(self) -> Placement | None:
        """Where the Model inside really runs."""
        return self._inner.placement

    @property
    def closed(self) -> bool:
        """Whether the Model inside was closed."""
        return self._inner.closed

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of the package that the Model inside was loaded from, or None."""
        return self._inner.manifest

    @property
    def attachments(self) -> Mapping[str, memoryview]:
        """The attachments of that package, by name."""
        return self._inner.attachments

    @property
    def runs_at_once(self) -> int:
        """The number of runs that the Model inside does side by side."""
        return self._inner.runs_at_once

    @property
    def endless(self) -> bool:
        """Whether a run of the Model inside ends only by a deadline, for some rows."""
        return self._inner.endless

    def _use_threads(self, threads: int) -> None:
        self._inner._use_threads(threads)


class Wrapper(InnerProperties, Model):
    """A Model around another one, `inner`; every hook and property is passed on to it.

    With `Model`, this is the only class to subclass. Which hooks you override depends on what your
    layer needs. Override both of a pair, for the sync and the async verbs; a class that would miss
    calls is refused when it is made.

    To see or to count calls as they come, before their rows are checked, override `_call` and
    `_acall`. A SignatureError of `inner` passes through them. Put such a layer outside of a Batcher
    or a Monitor, which run coerced rows:

        class Logged(mk.Wrapper):
            def _call(self, X, outputs, call):
                log.info("a call for %s", outputs)
                return self.inner._call(X, outputs, call)

            async def _acall(self, X, outputs, call):
                log.info("a call for %s", outputs)
                return await self.inner._acall(X, outputs, call)

    To change feeds or answers, which are arrays by tensor name, override `_run` and `_arun`, and
    take `_call` and `_acall` of `Model`, which coerce the rows and run them:

        class Clipped(mk.Wrapper):
            _call = mk.Model._call
            _acall = mk.Model._acall

            def _run(self, feeds, outputs, call):
                answers = self.inner._run(feeds, outputs, call)
                return {name: answer.clip(0, 1) for name, answer in answers.items()}

            _arun = mk.Model._arun  # runs `_run` in a thread

    Call the hooks of `inner`, never its `predict`, which would coerce the rows again. Inside a
    Batcher, `_run` gets what `_prepare` gave: for texts, tokens. `verify` and `warmup` run `base`,
    to which the golden rows belong, so a layer may change answers. `close` leaves `inner` open,
    except for layers that `mk.layered` made together with this one.

    Args:
        inner: the Model to wrap.

    Raises:
        TypeError: when the class is made, if it overrides a verb, or only a part of these hooks.
        UsageError: if a layer inside would miss the calls of this one.
    """

    __slots__ = ("_inner", "_owns_until")

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        verbs = [name for name in vars(cls) if hasattr(vars(Model).get(name), "__final__")]
        if verbs:
            raise TypeError(
                f"{cls.__name__} overrides {verbs[0]}: override _call and _acall instead"
            )
        runs = cls._run is not Wrapper._run
        sees = runs if cls._call is Model._call else cls._call is not Wrapper._call
        waits = runs if cls._acall is Model._acall else cls._acall is not Wrapper._acall
        if sees != waits or runs != (cls._arun is not Wrapper._arun) or (runs and not sees):
            own = [name for name in HOOKS if getattr(cls, name) is not getattr(Wrapper, name)]
            raise TypeError(
                f"{cls.__name__} overrides {' and '.join(own)} alone, so some calls would pass it by: "
                "for calls as they come, override _call and _acall; for coerced feeds, override _run "
                "and _arun, and set _call = mk.Model._call and _acall = mk.Model._acall"
            )

    def __init__(self, inner: Model) -> None:
        if type(self)._call is Model._call:
            check_runs_are_seen(type(self).__name__, inner)
        self._inner = inner
        self._owns_until: Model | None = None  # the Model around which `layered` made all layers

    def __reduce_ex__(self, protocol: Any) -> Any:
        made: Any = super().__reduce_ex__(protocol)
        owned = self._owns_until
        return made if owned is None else (*made, (None, {"_owns_until": owned}))

    @property
    def inner(self) -> Model:
        """The wrapped Model."""
        return self._inner

    @property
    def base(self) -> Model:
        """The innermost Model."""
        return self._inner.base

    @property
    def unobserved(self) -> Model:
        """What gives the same answers unseen by a Monitor."""
        return self._around(self._inner.unobserved)

    def _for_key(self, key: str | None) -> Model:
        return self._around(self._inner._for_key(key))

    def _around(self, inner: Model) -> Model:
        """What stands for this layer where `inner` answers in place of its own Model: by default `inner` alone."""
        return self if inner is self._inner else inner

    def _check_access(self, action: Action) -> bool:
        return self._inner._check_access(action)

    @property
    def signature(self) -> Signature:
        """What the wrapped Model takes and gives."""
        return self._inner.signature

    @property
    def batchable(self) -> bool:
        """Whether a row's answer was shown not to depend on the rows it is batched with."""
        return self._inner.batchable

    def close(self) -> None:
        """Release what this layer holds, and close the layers inside that are its own."""
        if self._owns_until is not None:
            close_layers(self._inner, self._owns_until)

    def _call(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        return self._inner._call(X, outputs, call)

    def _acall(self, X: object, outputs: tuple[str, ...], call: Call) -> Awaitable[Outputs]:
        return self._inner._acall(X, outputs, call)

    def _run(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        return self._inner._run(feeds, outputs, call)

    async def _arun(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        return await self._inner._arun(feeds, outputs, call)

    def _prepare(self, feeds: Feeds) -> tuple[Feeds, int]:
        return self._inner._prepare(feeds)

    def _why_not_batchable(self) -> str:
        return self._inner._why_not_batchable()

    def _facts(self) -> list[tuple[str, str]]:
        return self._inner._facts()
