"""What answers under a name, and how it is replaced."""

from __future__ import annotations

import threading
from typing import final

from modelkit.errors import UsageError
from modelkit.lifecycle.layered import Opened
from modelkit.lifecycle.rollout.rollout import Rollout
from modelkit.model.activation import Active
from modelkit.model.identity import Identity, identity_of
from modelkit.model.model import Model
from modelkit.model.wrapper import layer_of
from modelkit.serving.batching.batcher import Batcher
from modelkit.serving.batching.policy import BatchPlan
from modelkit.web.explainers import Explainers


@final
class Serving:
    """What answers from one replacement to the next.

    Args:
        model: what answers.
        opened: what of it the App opened, and has to close; None for a Model of the caller's.

    Attributes:
        rollout: the Rollout that chooses who answers, if there is one.
    """

    __slots__ = ("_batcher", "explainers", "model", "opened", "rollout")

    def __init__(self, model: Model, opened: Opened | None) -> None:
        self.model = model
        self.opened = opened
        self.rollout = layer_of(model, Rollout)
        self.explainers = Explainers(model)
        self._batcher = layer_of(model, Batcher)

    @property
    def identity(self) -> Identity:
        """Who answers: the champion, of a Rollout."""
        return identity_of(self.model)

    @property
    def version(self) -> str:
        """The version that answers, or "" for a Model without a package."""
        return self.identity.version

    @property
    def plan(self) -> BatchPlan | None:
        """How its calls are batched at present; None where they are not."""
        return None if self._batcher is None else self._batcher.plan

    def close(self) -> None:
        """Close what the App opened of it."""
        if self.opened is not None:
            self.opened.close()

    def after_fork(self) -> None:
        """Make locks anew in the child of a fork, where another thread may have held them."""
        self.explainers.after_fork()


@final
class Served:
    """A name under which one Serving after another answers."""

    __slots__ = ("active", "name", "replacing")

    def __init__(self, name: str, serving: Serving) -> None:
        self.name = name
        self.active = Active(serving)
        self.replacing = threading.Lock()

    def close(self) -> None:
        """Close what answers now, when nothing is taking its place."""
        with self.replacing:
            self.active.now.value.close()

    def after_fork(self) -> None:
        """As `Serving.after_fork`."""
        self.replacing = threading.Lock()
        self.active.after_fork()
        self.active.now.value.after_fork()


def check_path_name(name: object) -> None:
    """Raise UsageError for a name that cannot be part of a path; clients resolve `.` and `..`."""
    fits = isinstance(name, str) and name.isprintable() and "/" not in name
    if not fits or name in ("", ".", ".."):
        raise UsageError(f"the name of a model is a part of a path, without '/'; got {name!r}")
