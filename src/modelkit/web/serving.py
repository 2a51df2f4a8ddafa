"""What answers under a name, and how it is replaced."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, final

from modelkit.activation import Active
from modelkit.batching.batcher import Batcher
from modelkit.batching.policy import BatchPlan
from modelkit.errors import ExplainError
from modelkit.model import Model
from modelkit.web.layers import Opened
from modelkit.web.reply import Refused

if TYPE_CHECKING:
    from modelkit.explain.explainer import Explainer


@final
class Serving:
    """What answers from one replacement to the next.

    Args:
        model: what answers.
        opened: what of it the App opened, and has to close; None for a Model of the caller's.
    """

    __slots__ = (
        "_batcher",
        "_explainer",
        "_lock",
        "digest",
        "model",
        "opened",
        "signature",
        "version",
    )

    def __init__(
        self,
        model: Model,
        opened: Opened | None,
    ) -> None:
        manifest = model.manifest
        self.model = model
        self.opened = opened
        self.signature = model.signature
        self.version = "" if manifest is None else manifest.version
        self.digest = "" if manifest is None else manifest.digest
        self._batcher = _batcher_in(model)
        self._explainer: Explainer | None = None
        self._lock = threading.Lock()

    @property
    def plan(self) -> BatchPlan | None:
        """How its calls are batched at present; None where they are not."""
        return None if self._batcher is None else self._batcher.plan

    def explainer(self, model: Model) -> Explainer:
        """What explains it, made when it is first asked for; or one arm of it, if it is a Rollout.

        Raises Refused where nothing can.
        """
        if model is not self.model:  # the next one may explain another arm, so none is kept
            return _explainer_of(model)
        with self._lock:
            if self._explainer is None:
                self._explainer = _explainer_of(self.model)
            return self._explainer

    def close(self) -> None:
        """Close what the App opened of it."""
        if self.opened is not None:
            self.opened.close()

    def after_fork(self) -> None:
        """Make the lock anew in the child of a fork, where another thread may have held it."""
        self._lock = threading.Lock()


@final
class Served:
    """A name under which one Serving after another answers."""

    __slots__ = ("active", "name", "replacing")

    def __init__(
        self,
        name: str,
        serving: Serving,
    ) -> None:
        self.name = name
        self.active = Active(serving)
        self.replacing = threading.Lock()

    def after_fork(self) -> None:
        """As `Serving.after_fork`."""
        self.replacing = threading.Lock()
        self.active.after_fork()
        self.active.now.value.after_fork()


def check_path_name(name: object) -> None:
    """Raise ValueError for a name that cannot be part of a path."""
    if not isinstance(name, str) or not name or not name.isprintable() or "/" in name:
        raise ValueError(f"the name of a model is a part of a path, without '/'; got {name!r}")


def _batcher_in(model: Model) -> Batcher | None:
    layer: Model | None = model
    while layer is not None and not isinstance(layer, Batcher):
        layer = layer.inner
    return layer


def _explainer_of(model: Model) -> Explainer:
    from modelkit.explain.explainer import Explainer  # it needs onnx, and serving does not

    try:
        return Explainer(model)
    except ExplainError as error:
        raise Refused(501, f"this model is not explained here: {error}") from error
