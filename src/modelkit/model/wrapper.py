"""Wrapper: a Model that answers with another Model, and adds something of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping
from contextlib import ExitStack
from itertools import takewhile
from typing import TypeVar

from modelkit.model.device import Placement
from modelkit.model.manifest import Manifest
from modelkit.model.model import Call, Model, Outputs
from modelkit.signature.signature import Feeds, Signature

L = TypeVar("L", bound=Model)


def check_is_model(given: object, taker: str) -> None:
    """Raise TypeError for what is no Model, such as the path of one; `taker` says who asks."""
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


class Wrapper(Model):
    """A Model around another one, `inner`; every hook and property is passed on to it.

    With `Model`, this is the only class to subclass. A subclass says which of two forms of a call
    it wants:

    - Calls as they come, before their rows are checked: override `_call` and `_acall`. What the
      signature of `inner` refuses passes through as a SignatureError.
    - Coerced feeds: set `_call = Model._call` and `_acall = Model._acall`, and override `_run` and
      `_arun`.

    Call the hooks of `inner`, never its `predict`, so that rows are coerced once. Inside a Batcher,
    `_run` gets what `_prepare` gave, which for texts are tokens. `close` does not close `inner`.

    Args:
        inner: the Model to wrap.
    """

    __slots__ = ("_inner",)

    def __init__(self, inner: Model) -> None:
        self._inner = inner

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
        inner = self._inner.unobserved
        return self if inner is self._inner else inner

    def _for_key(self, key: str | None) -> Model:
        inner = self._inner._for_key(key)
        return self if inner is self._inner else inner

    @property
    def signature(self) -> Signature:
        """What the wrapped Model takes and gives."""
        return self._inner.signature

    @property
    def placement(self) -> Placement | None:
        """Where the wrapped Model really runs."""
        return self._inner.placement

    @property
    def closed(self) -> bool:
        """Whether the wrapped Model was closed."""
        return self._inner.closed

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of the package that the wrapped Model was loaded from, or None."""
        return self._inner.manifest

    @property
    def attachments(self) -> Mapping[str, memoryview]:
        """The attachments of that package, by name."""
        return self._inner.attachments

    @property
    def batchable(self) -> bool:
        """Whether a row's answer was shown not to depend on the rows it is batched with."""
        return self._inner.batchable

    @property
    def runs_at_once(self) -> int:
        """The number of runs that the wrapped Model does side by side."""
        return self._inner.runs_at_once

    @property
    def endless(self) -> bool:
        """Whether a run of the wrapped Model ends only by a deadline, for some rows."""
        return self._inner.endless

    def _use_threads(self, threads: int) -> None:
        self._inner._use_threads(threads)

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
