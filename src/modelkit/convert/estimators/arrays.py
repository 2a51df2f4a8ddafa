"""Functions written with the array API, followed by ndonnx where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from modelkit.convert.estimators.tensors import Var, inline, width


def traced_by_ndonnx(asked: Callable[[Any], Any], rows: Var) -> Var | None:
    """What a function computes of (n, columns) of float64; None where ndonnx cannot say."""
    if importlib.util.find_spec("ndonnx") is None:
        return None
    import ndonnx

    given = ndonnx.argument(
        shape=("batch", width(rows)),
        dtype=ndonnx.float64,
    )
    try:
        found = asked(given)
        proto = ndonnx.build(
            {"x": given},
            {"y": ndonnx.astype(found, ndonnx.float64)},
        )
    except Exception:  # noqa: BLE001 - whatever it is that cannot be followed
        return None
    (tensor,) = inline(proto, [rows])
    return tensor if tensor.unwrap_tensor().dtype == np.float64 else None
