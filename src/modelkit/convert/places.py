"""Where an estimator stands in the model that it is part of, and what a refusal says of that."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from modelkit.convert.steps import parts_of
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
    named = (each.place for each in parts_of(whole, []) if each.estimator is part and each.place)
    return next(named, f"the {type(part).__name__} inside the {type(whole).__name__}")


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
