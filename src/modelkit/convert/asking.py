"""What is said of a source that does not answer rows of its own example."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from modelkit.errors import ConversionError


@contextmanager
def asking(estimator: Any, verb: str, rows: Any) -> Iterator[None]:
    """Ask an estimator for its answer to rows.

    Raises ConversionError where it fails, with the likely cause instead of a library's words.
    """
    try:
        yield
    except ConversionError:
        raise
    except Exception as error:
        name = type(estimator).__name__
        raise ConversionError(_said(error, estimator, verb, rows), step=name) from error


def check_fitted(estimator: Any) -> None:
    """Raise ConversionError for an estimator that fit was not called on."""
    from sklearn.utils.validation import check_is_fitted

    with asking(estimator, "fit", None):
        check_is_fitted(estimator)


def _said(
    error: Exception,
    estimator: Any,
    verb: str,
    rows: Any,
) -> str:
    name = type(estimator).__name__
    if type(error).__name__ == "NotFittedError":
        return f"{name} is not fitted: call fit before save"
    fitted = getattr(estimator, "n_features_in_", None)
    shape = np.shape(rows)
    if fitted is not None and len(shape) > 1 and shape[1] != fitted:
        return f"{name} was fitted on {fitted} columns, and the example has {shape[1]}: pass rows as fit was given them"
    return (
        f"{name} fails on rows of the example with a {type(error).__name__}: pass rows as fit was given "
        f"them, of the same columns and dtypes; model.{verb}(example) shows what it says"
    )
