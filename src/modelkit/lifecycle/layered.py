"""A package as an App serves it: loaded, batched, watched and counted."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import closing
from typing import final

from modelkit.drift.monitor import Monitor
from modelkit.drift.profile import PROFILE_NAME
from modelkit.errors import ClosedError
from modelkit.model.golden import GOLDEN
from modelkit.model.model import Model
from modelkit.model.wrapper import close_layers
from modelkit.package.load import load
from modelkit.serving.batching.batcher import Batcher
from modelkit.serving.metering.meter import Meter


@final
class Opened:
    """A package that was opened, with what was put around it.

    Args:
        path: of the package.
        digest: see `load`.
        allow: see `load`.

    Attributes:
        model: Meter(Monitor(Batcher(loaded))), without Batcher where rows depend on each other, and
            without Monitor where the package has no profile.
    """

    __slots__ = ("_loaded", "model")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        digest: Collection[str] | None = None,
        allow: Collection[str] = (),
    ) -> None:
        self._loaded = load(path, digest=digest, allow=allow)
        try:
            self.model = layered(self._loaded)
        except BaseException:
            self._loaded.close()
            raise

    def close(self) -> None:
        """Close every layer, the outermost first, and the others although one fails."""
        with closing(self._loaded):
            close_layers(self.model, self._loaded)


def layered(loaded: Model) -> Model:
    """A Model as an App serves what it opened: Meter(Monitor(Batcher(loaded))).

    Without Batcher where rows depend on each other, and without Monitor where the package has no
    profile. Where a layer cannot be made, those before it are closed, and the Model is not.
    """
    model = loaded
    try:
        if model.batchable and model.signature.batch is not None:
            model = Batcher(model)
        if PROFILE_NAME in model.attachments:
            model = Monitor(model)
        return Meter(model)
    except BaseException:
        close_layers(model, loaded)
        raise


def check_answers(model: Model) -> None:
    """Warm a model up, and compare its golden rows, where it has some.

    Raises PackageError and IntegrityError, and ClosedError for a model that was closed.
    """
    if model.closed:
        raise ClosedError("the model that is to answer was closed")
    unseen = model.unobserved
    if GOLDEN in unseen.attachments:
        unseen.warmup()
        unseen.verify()
