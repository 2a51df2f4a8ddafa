"""Every retraining of a model and every refusal of one, for whoever only looks at the registry."""

from __future__ import annotations

import time

from modelkit.lifecycle.registry.registry import Registry
from modelkit.lifecycle.retrain.desk import Desk
from modelkit.lifecycle.retrain.run import RetrainRun


def retrainings_of(
    registry: Registry, name: str, now: float | None = None
) -> tuple[RetrainRun, ...]:
    """The retrainings of a model and the refusals, in the order of time. It writes nothing.

    Equal refusals in a row are one, at the time of the first.

    Args:
        registry: where the model is.
        name: the name of the model.
        now: in POSIX seconds, by which a lease is over; None for the time of this machine.

    Raises NotFound where there is no such model.
    """
    registry.versions(name)
    desk = Desk(registry, name)
    seen = time.time() if now is None else now
    runs = [desk.run(desk.files(number), seen) for number in desk.numbers()]
    refusals = [look.run(name) for look in desk.looks()]
    return tuple(sorted([*runs, *refusals], key=lambda run: run.at))
