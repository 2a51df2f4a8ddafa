"""The layers around a Model in their order, and a package that was opened with its layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Literal, final

from modelkit.drift.monitor import Monitor, packaged
from modelkit.drift.profile import PROFILE_NAME
from modelkit.drift.units import BATCH_UNIT
from modelkit.errors import ClosedError, UsageError
from modelkit.lifecycle.input_checks import InputChecks
from modelkit.model.golden import GOLDEN
from modelkit.model.model import Model
from modelkit.model.wrapper import (
    Wrapper,
    check_is_model,
    close_layers,
    has_several_versions,
    layer_of,
    passed_by_runs,
)
from modelkit.serving.batching.batcher import Batcher
from modelkit.serving.guarded import check_outside
from modelkit.serving.metering.meter import Meter

Layer = bool | Literal["auto"] | Mapping[str, Any]
Wrap = Callable[[Model], Model]


def layered(
    model: Model,
    *,
    checks: Layer = False,
    meter: Layer = "auto",
    monitor: Layer = "auto",
    batcher: Layer = "auto",
) -> Model:
    """A Model in the layers that serve it, in their order: Meter(Monitor(Batcher(model))).

        with mk.layered(model, monitor={"alpha": 0.001}) as served:
            served.predict(X)

    Closing what it returns closes these layers, and not `model`.

    Args:
        model: the Model to serve.
        checks: whether there is an InputChecks, around the others; a dict of its arguments, mostly.
            A Model that a Rollout opens has none: it goes around the Rollout.
        meter: whether there is a Meter. "auto" leaves a layer out that `model` has already, or does
            not allow; False always does. True, or a dict of the layer's arguments, makes the layer
            or raises the reason why there can be none.
        monitor: whether there is a Monitor; "auto" needs a Profile in the package, other than one
            with unit="batch".
        batcher: whether there is a Batcher; "auto" needs rows that were shown not to depend on
            their batch.

    Returns:
        The outermost layer, which has the attributes of that layer; `model` itself, which closing
        then closes, where it has or allows no other layer.

    Raises:
        TypeError: for what is not a Model, and for an argument that the layer does not have.
        UsageError: for a layer that `model` has already, for a Guarded, which goes around, and as the layers raise it.
        BatchError: if a Batcher is required, and rows cannot be batched.
        MissingExtraError: if there is to be a Monitor, as "auto" has one where the package has a
            Profile, and scipy is not installed.
    """
    check_is_model(model, "layered")
    check_outside(model, "layered")
    outer = model
    several = has_several_versions(model)
    try:
        for kind, layer, can_have in (
            (Batcher, batcher, _can_batch),
            (Monitor, monitor, _can_watch),
            (Meter, meter, lambda _: True),
            (InputChecks, checks, lambda _: False),
        ):
            if layer != "auto" and not isinstance(layer, bool | Mapping):
                raise UsageError(
                    f'a layer is True, False, "auto" or a dict of its arguments; got {layer!r}'
                )
            has_one = layer_of(model, kind) is not None
            if layer is False or (layer == "auto" and (has_one or several or not can_have(outer))):
                continue
            if has_one:
                raise UsageError(f"{model!r} has a {kind.__name__} already")
            outer = kind(outer, **(layer if isinstance(layer, Mapping) else {}))
    except BaseException:
        close_layers(outer, model)
        raise
    if isinstance(outer, Wrapper) and outer is not model:
        outer._owns_until = model
    return outer


def _can_batch(model: Model) -> bool:
    alone = model.unobserved is model and passed_by_runs(model) is None
    return alone and model.batchable and model.signature.batch is not None


def _can_watch(model: Model) -> bool:
    has_profile = PROFILE_NAME in model.attachments and passed_by_runs(model) is None
    return has_profile and packaged(model).unit != BATCH_UNIT


@final
class Opened:
    """A loaded Model with the layers around it, all of which whoever opened it closes.

    Args:
        loaded: the Model; it is closed where the layers cannot be made.
        wrap: makes the layers; None for none.

    Attributes:
        model: the outermost layer.

    Raises:
        UsageError: if `wrap` returns anything but layers around the Model that it was given:
            another Model would answer in its place, and be closed by who did not open it.
    """

    def __init__(self, loaded: Model, wrap: Wrap | None) -> None:
        self._loaded = loaded
        try:
            model = loaded if wrap is None else wrap(loaded)
            if not isinstance(model, Model) or model.base is not loaded.base or model.closed:
                raise UsageError(
                    f"wrap= returns an open Model around {loaded!r:.80}, such as mk.Batcher(model) or a "
                    f"subclass of mk.Wrapper; it returned {model!r:.80} ({type(model).__name__})"
                )
            check_outside(model, "Rollout")
        except BaseException:
            loaded.close()
            raise
        self.model = model
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


def check_answers(model: Model) -> None:
    """Warm a model up, and compare its golden rows, where it has some.

    Raises PackageError and IntegrityError, and ClosedError for a model that was closed.
    """
    if model.closed:
        raise ClosedError("the model that is to answer was closed")
    if GOLDEN in model.attachments:
        model.warmup()
        model.verify()
