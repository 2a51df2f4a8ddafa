"""What every way of saving ends in: a model in the bytes of a package, which agrees with its source."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from modelkit.convert.source import Source
from modelkit.errors import ConversionError
from modelkit.model.manifest import Parity
from modelkit.model.model import Model, Outputs
from modelkit.package import container
from modelkit.signature.signature import Feeds, Signature


@dataclass(frozen=True)
class Proven:
    """A model that agrees with its source, in the bytes that will be written.

    `build` makes a Model of these bytes. `runtime` is what opens the package, with these `options`.
    `requires` are the libraries, in exact versions, that a package needs to be opened, and
    `trained_with` those whose versions are recorded. `golden` are rows to store, and `example` rows
    to draw like; both are None where there are none.
    """

    source: Source
    members: container.Members
    build: Callable[[Signature], Model]
    signature: Signature
    parity: Parity
    runtime: str = "onnx"
    options: dict[str, Any] = field(default_factory=dict)
    requires: dict[str, str] = field(default_factory=dict)
    trained_with: tuple[str, ...] = ()
    golden: Feeds | None = None
    example: Feeds | None = None


def run_first(model: Model, candidates: Iterable[Feeds], what: str) -> tuple[Feeds, Outputs]:
    """The first of the candidates that a model runs on, and its answer.

    Raises ConversionError if it runs on none; `what` names the candidates in the message.
    """
    for feeds in candidates:
        try:
            return feeds, model.run(model.signature.columns(feeds))
        except Exception as error:  # whatever a pickled estimator calls it
            refused = error
    shapes = [f"{name}: {feed.shape}" for name, feed in list(feeds.items())[:5]]
    raise ConversionError(
        f"the model does not run on {what}, at last of the shapes {', '.join(shapes)}; pass rows that it "
        "takes as example=, or as golden= to store them as they are"
    ) from refused
