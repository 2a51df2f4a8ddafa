"""Columns whose values are arrays, as the tensors that they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit.errors import SignatureError
from modelkit.signature.spec import TensorSpec, no_rows


def stacked(column: Any, spec: TensorSpec) -> Any:
    """A column of a pandas frame as a tensor, where its values are arrays.

    Raises SignatureError for arrays of different shapes, and for missing ones.
    """
    return no_rows(spec) if not len(column) else block_of(column, spec.name)


def with_text_names(frame: Any) -> Any:
    """A pandas frame whose columns have texts as names, as the signature has them."""
    names = list(map(str, frame.columns))
    return frame if names == list(frame.columns) else frame.set_axis(names, axis=1)


def block_of(column: Any, name: str) -> Any:
    """The arrays of one or more rows as one, (n, ...); a column of other values as it is.

    Raises SignatureError for arrays of different shapes, and for missing ones.
    """
    ends = column.iloc[0], column.iloc[-1]
    if not any(map(is_array, ends)):
        return column
    try:
        arrays = [*map(np.asarray, column)]
    except ValueError as error:  # lists of different lengths in one list
        raise SignatureError(
            f"column {name!r} has a value that is not an array: {error}"
        ) from error
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise SignatureError(
            f"column {name!r} has arrays of the shapes {sorted(shapes)}; a tensor has one"
        )
    if len({array.dtype.kind for array in arrays}) > 1:
        # Stacked as they are, large integers would be rounded beside floats, and numbers be texts.
        arrays = [array.astype(object) for array in arrays]
    return np.stack(arrays)


def is_array(value: object) -> bool:
    """Whether a value of a column is an array, or lists."""
    return isinstance(value, list | tuple) or bool(np.ndim(value))  # type: ignore[arg-type]
