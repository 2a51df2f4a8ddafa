"""Explains what answers under a name."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, final

from modelkit.errors import DeadlineExceeded, ExplainError
from modelkit.model.identity import identity_of
from modelkit.model.model import Model
from modelkit.web.reply import Refused

if TYPE_CHECKING:
    from modelkit.explain.explainer import Explainer
    from modelkit.explain.explanation import Explanation

MOST = 2  # a champion and a candidate
MOST_NUMBERS = 1_000_000  # of one explanation


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
        explainer = self._explainer_of(model)
        check_size(X, explainer.numbers_per_row)
        left = deadline - monotonic()
        if left <= 0:
            raise DeadlineExceeded("the deadline passed before the explanation was begun")
        return explainer.explain(X, deadline=left), identity_of(model).version

    def _explainer_of(self, model: Model) -> Explainer:
        from modelkit.explain.explainer import Explainer  # it needs onnx, and serving does not

        # What stays with one version of a Rollout is not kept here, so that the version can end.
        subject = model if model is self._model else model.inner or model
        with self._lock:
            explainer = self._explainers.pop(subject, None)
            if explainer is None:
                try:
                    explainer = Explainer(subject)
                except ExplainError as error:
                    raise Refused(501, f"this model is not explained here: {error}") from error
            self._explainers[subject] = explainer  # the last one used is the last
            while len(self._explainers) > MOST:
                self._explainers.pop(next(iter(self._explainers)))
            return explainer

    def after_fork(self) -> None:
        """Make the lock anew in the child of a fork, where another thread may have held it."""
        self._lock = threading.Lock()


def check_size(X: Any, numbers_per_row: int) -> None:
    """Raise Refused, 413, for rows whose explanation would have too many numbers."""
    rows = len(next(iter(X.values()), ())) if isinstance(X, Mapping) else len(X)
    most = max(1, MOST_NUMBERS // numbers_per_row)
    if rows > most:
        raise Refused(
            413,
            f"{rows:,} rows are more than {most:,}, as many as are explained at once: each has "
            f"{numbers_per_row:,} values. Send fewer rows a request",
        )
