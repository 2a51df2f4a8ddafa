"""A version that was opened from a registry, with the layers around it; what opened it closes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, final

from modelkit.errors import UntrustedError, UsageError
from modelkit.lifecycle.registry.registry import Registry
from modelkit.model.golden import GOLDEN
from modelkit.model.model import Model
from modelkit.model.wrapper import close_layers

Wrap = Callable[[Model], Model]


@final
class OpenVersion:
    """A loaded Model, and what `wrap` made of it.

    Attributes:
        version: its version.
        model: the outermost layer.
    """

    def __init__(self, version: str, loaded: Model, model: Model) -> None:
        self.version = version
        self.model = model
        self._loaded = loaded
        where = loaded.placement
        self._threads = 1 if where is None else where.threads
        self._arms = 1

    def share_threads(self, arms: int) -> None:
        """Use the part of the threads of one of so many arms, from the next run on."""
        if arms == self._arms:
            return
        threads = max(1, self._threads // arms)
        self._arms = 0  # where a layer raises, the others have changed
        self.model._use_threads(threads)
        self._loaded._use_threads(threads)  # where a layer does not hand it on
        self._arms = arms

    def close(self) -> None:
        """Close every layer, the outermost first; raises an error of one when all were closed."""
        with closing(self._loaded):
            close_layers(self.model, self._loaded)


def open_layers(
    registry: Registry, name: str, version: str, wrap: Wrap | None, options: Mapping[str, Any]
) -> OpenVersion:
    """Load a version, run its golden rows at all sizes and compare their answers, and wrap it.

    Raises whatever keeps it from answering.
    """
    try:
        loaded = registry.load(name, version, **options)
    except UntrustedError as error:
        raise UntrustedError(
            f"{name} {version} is a joblib package: opening it runs code, and whoever sets an alias "
            "may be somebody whom you do not trust. Pass allow={'joblib'} and digest=[...] to the "
            "Rollout, with the digest of every version that it may follow, as whoever made them "
            "gives them to you (of modelkit serve: --allow joblib, and --digest for each); or save "
            f"the model as ONNX. Missing: {' and '.join(error.missing)}",
            missing=error.missing,
        ) from error
    try:
        if GOLDEN in loaded.attachments:
            loaded.warmup()
            loaded.verify()
        model = loaded if wrap is None else wrap(loaded)
        _check_around(model, loaded, f"{name} {version}")
        return OpenVersion(version, loaded, model)
    except BaseException:
        loaded.close()
        raise


def _check_around(model: object, loaded: Model, named: str) -> None:
    """Raise UsageError unless `wrap` returned layers around the Model that it was given.

    Another Model would answer as this version, and be closed by who did not open it.
    """
    wanted = (
        f"wrap= returns a Model around the one that it is given, {named}, such as mk.Batcher(model)"
    )
    if not isinstance(model, Model):
        raise UsageError(f"{wanted}, and not {model!r:.80} ({type(model).__name__})")
    if model.base is not loaded.base:
        raise UsageError(
            f"{wanted}, and not another one, {model!r:.80}: subclass mk.Wrapper for layers of your own"
        )
    if model.closed:
        raise UsageError(f"{wanted}, and not one that is closed, {model!r:.80}")
