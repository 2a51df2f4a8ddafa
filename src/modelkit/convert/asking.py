"""What is said of a source that does not answer its own example or cannot be converted, and where it stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

import numpy as np

from modelkit._internal.arrays import is_a
from modelkit.convert.steps import parts_of, with_parts
from modelkit.errors import ConversionError

FILL = "put '' in their place, as fillna('') does, before fit and before the model is asked"
BETWEEN = " > "  # places
_may_fail: ContextVar[bool] = ContextVar("may_fail", default=False)


@contextmanager
def allowed_to_fail() -> Iterator[None]:
    """Ask questions that a source may refuse: nobody reads which of its steps does, which is dear."""
    token = _may_fail.set(True)
    try:
        yield
    finally:
        _may_fail.reset(token)


def on_one_thread(model: object) -> AbstractContextManager[object]:
    """Let an estimator answer on one thread of OpenMP, whose results do not depend on it.

    It answers few rows at a time: beside other processes its threads wait for each other, fifty
    times as long as they compute.
    """
    if not is_a(model, "sklearn.base", "BaseEstimator"):
        return nullcontext()
    from threadpoolctl import threadpool_limits  # scikit-learn brings it

    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="openmp")
    return limits


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
        raise _refusal(error, estimator, verb, rows) from error


def check_fitted(estimator: Any) -> None:
    """Raise ConversionError for an estimator that fit was not called on."""
    from sklearn.utils.validation import check_is_fitted

    with asking(estimator, "fit", None):
        check_is_fitted(estimator)


def _refusal(error: Exception, estimator: Any, verb: str, rows: Any) -> ConversionError:
    """What to say of an estimator that fails on rows of its own example."""
    name = type(estimator).__name__
    if type(error).__name__ == "NotFittedError":
        return ConversionError(f"{name} is not fitted: call fit before save", step=name)
    fitted = getattr(estimator, "n_features_in_", None)
    shape = np.shape(rows)
    if fitted is not None and len(shape) > 1 and shape[1] != fitted:
        return ConversionError(
            f"{name} was fitted on {fitted} columns, and the example has {shape[1]}: pass rows as fit was "
            "given them",
            step=name,
        )
    place, step = ("", name) if _may_fail.get() else _failing_step(estimator, rows)
    where = f"{place}: " if place else ""
    kind = type(error).__name__
    return ConversionError(
        f"{where}{step} fails on rows of the example with {kind}: pass rows like the ones of fit, "
        f"of the same columns, dtypes and kinds of values; model.{verb}(example) shows what it says"
        f"{_of_gaps(estimator, rows)}",
        step=step,
        place=place,
    )


def _of_gaps(estimator: Any, rows: Any) -> str:
    """What to do about missing texts, of columns that a ColumnTransformer reads as texts; "" without."""
    for part in with_parts(estimator):
        for _, _, name in getattr(part, "transformers_", ()):
            if isinstance(name, str) and name in rows and rows[name].isna().any():
                return f". Column {name!r} has missing texts: {FILL}"
    return ""


def _failing_step(estimator: Any, rows: Any) -> tuple[str, str]:
    """The place and the class of the step of a pipeline that fails on rows."""
    steps = [step for _, step in getattr(estimator, "steps", [])]
    if not steps:
        return "", type(estimator).__name__
    failing = steps[-1]
    for step in steps[:-1]:
        if not hasattr(step, "transform"):  # "passthrough", which does nothing
            continue
        try:
            rows = step.transform(rows)
        except Exception:  # any refusal counts
            failing = step
            break
    return place_of_last([estimator, failing]), type(failing).__name__


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
