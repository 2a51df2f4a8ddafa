"""An Endpoint is a name in an App, and a Deployment what answers under it until it is replaced."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, final

from modelkit.errors import DeadlineExceeded, ExplainError
from modelkit.lifecycle.audit.answers import Answers
from modelkit.lifecycle.input_checks import InputChecks
from modelkit.lifecycle.layered import Opened
from modelkit.lifecycle.rollout.rollout import Pinned, Rollout
from modelkit.model.activation import Active
from modelkit.model.identity import Identity, identity_of
from modelkit.model.model import Model
from modelkit.model.wrapper import layer_of, layers_of
from modelkit.serving.batching.batcher import Batcher
from modelkit.serving.batching.policy import BatchPlan
from modelkit.serving.guarded import Guarded
from modelkit.web.replies import Refused
from modelkit.web.request import Request
from modelkit.web.routes import Route

if TYPE_CHECKING:
    from modelkit.explain.explainer import Explainer
    from modelkit.explain.explanation import Explanation

MOST = 2  # a champion and a candidate
MOST_NUMBERS = 1_000_000  # of one explanation


@final
class Deployment:
    """What answers from one replacement to the next.

    Args:
        model: what answers.
        opened: what of it the App opened, and has to close; None for a Model of the caller's.

    Attributes:
        rollout: the Rollout that chooses who answers, if there is one.
        pinnable: whether `_for_key` keeps all layers of a Rollout.
        version: the version that answers; "" for a Model without a package, and for a Rollout, whose
            answers say theirs.
    """

    __slots__ = ("_batcher", "explainers", "model", "opened", "pinnable", "rollout", "version")

    def __init__(self, model: Model, opened: Opened | None) -> None:
        self.model = model
        self.opened = opened
        self.rollout = layer_of(model, Rollout)
        self.pinnable = _unguarded(model) is self.rollout
        self.version = identity_of(model).version if self.rollout is None else ""
        self.explainers = Explainers(model)
        self._batcher = layer_of(model, Batcher)

    @property
    def identity(self) -> Identity:
        """Who answers: the champion, of a Rollout."""
        return identity_of(self.model)

    @property
    def plan(self) -> BatchPlan | None:
        """How its calls are batched at present; None where they are not."""
        return None if self._batcher is None else self._batcher.plan

    def model_for(self, request: Request) -> Model:
        """The Model that a request asks: where its path names a version, the champion of a Rollout.

        Raises Refused where that is of another version by now.
        """
        model = self.model
        if request.route.version is None:
            request.version = self.version
            return model
        if self.pinnable:
            model = model._for_key(None)  # the champion, whatever it would choose
        check_version(request.route, identity_of(model).version)
        request.version = request.route.version
        return model

    def close(self) -> None:
        """Close what the App opened of it."""
        if self.opened is not None:
            self.opened.close()


@final
class Endpoint:
    """A name in an App, under which one Deployment after another answers."""

    __slots__ = ("active", "name", "replacing")

    def __init__(self, name: str, deployment: Deployment) -> None:
        self.name = name
        self.active = Active(deployment)
        self.replacing = threading.Lock()

    @property
    def deployment(self) -> Deployment:
        """What answers now."""
        return self.active.now.value

    def close(self) -> None:
        """Close what answers now, when nothing is taking its place."""
        with self.replacing:
            self.deployment.close()

    def after_fork(self) -> None:
        """Make new locks in the child of a fork, where another thread may have held them."""
        self.replacing = threading.Lock()
        self.active.after_fork()
        self.deployment.explainers.after_fork()


@final
class Explainers:
    """An Explainer for each Model that answers, made when it is first asked for.

    Args:
        model: what answers; of a Rollout, one of its versions does.
    """

    __slots__ = ("_explainers", "_lock", "_model")

    def __init__(self, model: Model) -> None:
        self._model = model
        self._explainers: dict[Model, Explainer] = {}
        self._lock = threading.Lock()

    def explain(self, X: Any, key: str | None, deadline: float) -> tuple[Explanation, str]:
        """Explain what a call with this key is answered by, and say of which version it is.

        Raises Refused where nothing can explain it or there are too many rows, and DeadlineExceeded
        after the deadline, on `time.monotonic()`.
        """
        model = self._model._for_key(key)  # held until the end, so that it is not closed before
        model._check_access("explain")
        explainer = self._explainer_of(model)
        check_size(X, explainer.numbers_per_row)
        left = deadline - monotonic()
        if left <= 0:
            raise DeadlineExceeded("the deadline passed before the explanation was begun")
        return explainer.explain(X, deadline=left), identity_of(model).version

    def _explainer_of(self, model: Model) -> Explainer:
        from modelkit.explain.explainer import Explainer  # it needs onnx, and serving does not

        # What stays with one version of a Rollout is not kept here, so that the version can end.
        subject = _unguarded(model)
        with self._lock:
            explainer = self._explainers.pop(subject, None)
            if explainer is None:
                try:
                    explainer = Explainer(subject)
                except ExplainError as error:
                    raise Refused(f"this model is not explained here: {error}", 501) from error
            self._explainers[subject] = explainer  # the last one used is the last
            while len(self._explainers) > MOST:
                self._explainers.pop(next(iter(self._explainers)))
            return explainer

    def after_fork(self) -> None:
        """As `Endpoint.after_fork`."""
        self._lock = threading.Lock()


def check_version(route: Route, version: str) -> None:
    """Raise Refused if a path names another version than answers, or there are no versions."""
    asked = route.version
    if asked != version or not asked:
        raise Refused(f"{route.name!r} is of version {version!r}, not {asked!r}", 404)


def _unguarded(model: Model) -> Model:
    """What policies guard, an audit log records and InputChecks look at; of one version of a Rollout, this version."""
    kinds = Guarded | Answers | InputChecks | Pinned
    return next(layer for layer in layers_of(model) if not isinstance(layer, kinds))


def check_size(X: Any, numbers_per_row: int) -> None:
    """Raise Refused, 413, for rows whose explanation would have too many numbers."""
    rows = len(next(iter(X.values()), ())) if isinstance(X, Mapping) else len(X)
    most = max(1, MOST_NUMBERS // numbers_per_row)
    if rows > most:
        raise Refused(
            f"{rows:,} rows are more than {most:,}, as many as are explained at once: each has "
            f"{numbers_per_row:,} values. Send fewer rows a request",
            413,
        )
