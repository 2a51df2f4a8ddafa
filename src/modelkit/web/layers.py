"""A package as an App serves it: loaded, batched, watched and counted."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import final

from modelkit.batching.batcher import Batcher
from modelkit.drift.monitor import Monitor
from modelkit.drift.profile import PROFILE_NAME
from modelkit.golden import GOLDEN
from modelkit.metering.meter import Meter
from modelkit.model import Model
from modelkit.package.load import load


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

    __slots__ = ("_layers", "model")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        digest: str | None = None,
        allow: Collection[str] = (),
    ) -> None:
        model = load(path, digest=digest, allow=allow)
        self._layers = [model]
        try:
            if model.batchable and model.signature.batch is not None:
                model = self._around(Batcher(model))
            if PROFILE_NAME in model.attachments:
                model = self._around(Monitor(model))
            self.model = self._around(Meter(model))
        except BaseException:
            self.close()
            raise

    def _around(self, layer: Model) -> Model:
        self._layers.append(layer)
        return layer

    def close(self) -> None:
        """Close every layer, the outermost first."""
        for layer in reversed(self._layers):
            layer.close()


def check_answers(model: Model) -> None:
    """Warm a model up, and compare its golden rows, where it has some.

    Raises PackageError and IntegrityError.
    """
    unseen = model.unobserved
    if GOLDEN in unseen.attachments:
        unseen.warmup()
        unseen.verify()
