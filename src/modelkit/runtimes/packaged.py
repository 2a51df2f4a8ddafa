"""What a loaded Model keeps of its package, and how it is pickled: as the call that opens it again."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from modelkit.errors import ClosedError
from modelkit.model.manifest import Manifest


class Packaged(NamedTuple):
    """The package of a Model: what it says and carries, and what opens it again.

    Without an `origin`, the Model cannot be pickled.
    """

    manifest: Manifest | None = None
    attachments: Mapping[str, memoryview] = MappingProxyType({})
    origin: partial[Any] | None = None


NOT_PACKAGED = Packaged()


def reopening(model: Any) -> tuple[Any, ...]:
    """The `__reduce__` of a loaded Model: it is pickled as the call that opens its package again.

    Raises ClosedError for a closed Model, and TypeError for one without an origin.
    """
    if model.closed:
        raise ClosedError("the model was closed and cannot be pickled; load it again")
    if model._origin is None:
        raise TypeError(
            "a model is pickled by the path and digest of its package, and this one was loaded "
            "from memory: write the package to a file, load it by path, and pickle that model"
        )
    return model._origin, ()
