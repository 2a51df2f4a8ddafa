"""How a loaded Model is pickled: as the call that opens its package again."""

from __future__ import annotations

from functools import partial
from typing import Any

from modelkit.errors import ClosedError


def reopening(origin: partial[Any] | None, *, closed: bool) -> tuple[Any, ...]:
    """What a loaded Model is pickled as: the call that opens its package again.

    Raises ClosedError and TypeError.
    """
    if closed:
        raise ClosedError("the model was closed and cannot be pickled; load it again")
    if origin is None:
        raise TypeError(
            "a model is pickled by the path and digest of its package, and this one was loaded "
            "from memory: write the package to a file, load it by path, and pickle that model"
        )
    return origin, ()
