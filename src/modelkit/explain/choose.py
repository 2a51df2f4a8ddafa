"""The table of explanation methods, and the choice among them.

To add a method, write a file with a class that keeps to `Method` and a function `make`, and name it
in METHODS.
"""

from __future__ import annotations

from collections.abc import Callable

from modelkit.errors import ExplainError
from modelkit.explain import (
    declared,
    enumeration,
    exact,
    lime,
    sampler,
    shap,
)
from modelkit.explain.method import Method, NoFitError, Request

Maker = Callable[[Request], Method]  # raises NoFitError if the method does not fit

METHODS: dict[str, Maker] = {
    "contributions": declared.make,
    "additive": exact.make,
    "trees": exact.make,
    "enumeration": enumeration.make,
    "sampling": sampler.make,
    "lime": lime.make,
    shap.KERNEL: shap.make,
    shap.PERMUTATION: shap.make,
}
BEFORE_LINK: tuple[Maker, ...] = (declared.make, exact.make)  # those that can explain a margin
AUTOMATIC: tuple[Maker, ...] = (*BEFORE_LINK, enumeration.make, sampler.make)


def choose(request: Request) -> tuple[Method, tuple[str, ...]]:
    """The method that was named, or the first that fits, and the reasons for the choice.

    Raises ExplainError if the named method does not fit, or none reaches the margin.
    """
    if request.method != "auto":
        return _named(request)
    reasons: list[str] = []
    for make in AUTOMATIC:
        if request.space == "margin" and make not in BEFORE_LINK:
            raise ExplainError(
                f"no exact method reaches the margin of this model: {'; '.join(reasons)}"
            )
        try:
            method = make(request)
        except NoFitError as error:
            reasons += filter(None, [str(error)])
        else:
            return method, (*reasons, method.reason)
    raise AssertionError("sampling fits every model")


def _named(request: Request) -> tuple[Method, tuple[str, ...]]:
    name = request.method
    make = METHODS[name]
    if make not in BEFORE_LINK and request.space == "margin":
        raise ExplainError(f"{name} explains what is served, not the margin; use output='auto'")
    try:
        method = make(request)
    except NoFitError as error:
        raise ExplainError(f"method {name!r} does not fit this model: {error}") from error
    if make in BEFORE_LINK:
        return method, (method.reason,)
    return method, (f"method={name!r} was asked for", method.reason)
