"""One label in two forms: True, "true", 1 and "1.0" are not equal as names, and mean the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.columns import as_texts, stratum_names
from modelkit.errors import UsageError
from modelkit.signature.cast import MISSING, is_missing

TRUTHS = {"true": 1.0, "false": 0.0}


def as_labels(values: Any, what: str = "labels") -> Array:
    """Labels or predictions as an array, objects with None where some are masked.

    Raises UsageError for lists of several lengths, and as `refuse_bytes`.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise UsageError(f"{what} are one value for each row: {error}") from error
    refuse_bytes(array, what)
    return np.array(values.tolist(), object) if np.ma.is_masked(values) else array


def refuse_bytes(array: Array, what: str) -> None:
    """Raise UsageError for bytes, which are equal to no text and to no number."""
    objects = array.ravel().tolist() if array.dtype.kind == "O" else []
    if array.dtype.kind == "S" or any(isinstance(item, bytes) for item in objects):
        raise UsageError(f"{what} are bytes; decode them, as by values.astype(str)")


def label_names(labels: Array, known: Iterable[str] = ()) -> list[str | None]:
    """The names of labels, (n,), with None where one is missing.

    A number has one name, whether it comes as an integer, a boolean or a float. A boolean is named
    "True" or "False" only where those are among the names that are `known`.
    """
    items = labels.tolist()
    if not any(isinstance(item, bool | int | float) for item in items):
        return list(as_texts(labels))
    in_words = not {"True", "False"}.isdisjoint(known)
    numbers = stratum_names(labels)
    names: list[str | None] = []
    for item, number in zip(items, numbers, strict=True):
        if is_missing(item) or item == MISSING:
            names.append(None)
        elif in_words and isinstance(item, bool):
            names.append(str(item))
        else:
            names.append(number)
    return names


def check_same_forms(pairs: Iterable[tuple[Any, Any]], fix: str) -> None:
    """Raise UsageError where a label means the same as another name, to which it is not equal.

    `fix` says what to do.
    """
    for label, other in set(pairs):
        meant = _meaning(label)
        if label != other and meant is not None and meant == _meaning(other):
            raise UsageError(
                f"the label {label!r} is not equal to {other!r}, and is probably the same class in "
                f"another form: {fix}"
            )


def _meaning(name: str | None) -> float | None:
    """The number or the truth that a name stands for; None for another name.

    A number is one as Python writes it: "01" and "1e1" may be codes.
    """
    text = str(name)
    if text.lower() in TRUTHS:
        return TRUTHS[text.lower()]
    try:
        number = float(text)
    except ValueError:
        return None
    return number if text in (repr(number), f"{number:.0f}") else None
