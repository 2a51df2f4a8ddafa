"""Where an estimator stands in the model that it is part of, and what a refusal says of that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from modelkit.errors import ConversionError

BETWEEN = " > "


def place_of_last(path: Sequence[Any]) -> str:
    """Where the last of some estimators stands, each of which is part of the one before it.

    It is empty for a model that stands alone.
    """
    pairs = pairwise(path)
    return BETWEEN.join(_place(whole, part) for whole, part in pairs if whole is not part)


def _place(whole: Any, part: Any) -> str:
    """Where a part stands in what it is a part of: its name there, or else the kind of the whole."""
    steps = getattr(whole, "steps", [])
    for number, (name, step) in enumerate(steps, 1):
        if step is part:
            return f"step {name!r} (pipeline step {number} of {len(steps)})"
    kind = type(whole).__name__
    for what, name, known in _named_parts(whole):
        if known is part:
            return f"{what} {name!r} of the {kind}"
    return f"the {type(part).__name__} inside the {kind}"


def _named_parts(whole: Any) -> Iterator[tuple[str, str, Any]]:
    """What each part of an estimator that has a name there is called, its name, and the part."""
    for name, part, *_ in getattr(whole, "transformers_", []):
        yield "transformer", name, part
    for name, part in getattr(whole, "transformer_list", []):
        yield "transformer", name, part
    named = getattr(whole, "named_estimators_", {})
    for name, part in named.items():
        yield "estimator", name, part


def placed(error: Exception, path: Sequence[Any]) -> ConversionError:
    """What was raised for the last of some estimators, with its place in front.

    An error of another kind says how a converter failed, and nothing to who has the model.
    """
    name = type(path[-1]).__name__
    if not isinstance(error, ConversionError):
        message = (
            f"{name} cannot be converted as it was fitted; save the model with format='joblib'"
        )
        return placed(ConversionError(message, step=name), path)
    if "place" in vars(error):  # it was placed further inside
        return error
    message = str(error)
    about = {"step": name} | vars(error)
    if str(about["step"]) not in message:
        message = f"{name} cannot be converted: {message}"
    place = place_of_last(path)
    said = f"{place}: {message}" if place else message
    return type(error)(said, **about | {"place": place})
