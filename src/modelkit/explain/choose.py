"""The table of explanation methods, and the choice among them.

To add a method, write a file with a class that keeps to `Method` and a function that makes it, and
add a line to METHODS.
"""

from __future__ import annotations

from collections.abc import Callable

from modelkit.errors import ExplainError
from modelkit.explain.declared import make_declared
from modelkit.explain.enumeration import make_enumeration
from modelkit.explain.exact import make_exact
from modelkit.explain.lime import make_lime
from modelkit.explain.method import ExplainRequest, Method, NoFitError
from modelkit.explain.sampler import make_sampler
from modelkit.explain.shap import KERNEL, PERMUTATION, make_shap

Maker = Callable[[ExplainRequest], Method]  # raises NoFitError if the method does not fit

METHODS: dict[str, Maker] = {
    "contributions": make_declared,
    "additive": make_exact,
    "trees": make_exact,
    "enumeration": make_enumeration,
    "sampling": make_sampler,
    "lime": make_lime,
    KERNEL: make_shap,
    PERMUTATION: make_shap,
}
BEFORE_LINK: tuple[Maker, ...] = (make_declared, make_exact)  # those that can explain a raw score
AUTOMATIC: tuple[Maker, ...] = (*BEFORE_LINK, make_enumeration, make_sampler)


def choose_method(request: ExplainRequest) -> tuple[Method, tuple[str, ...]]:
    """The method that was named, or the first that fits, and the reasons for the choice.

    Raises ExplainError if the named method does not fit, or none reaches the raw score.
    """
    if request.method != "auto":
        return _named(request)
    reasons: list[str] = []
    for make in AUTOMATIC:
        if request.space == "raw_score" and make not in BEFORE_LINK:
            raise ExplainError(
                f"no exact method reaches the raw score of this model: {'; '.join(reasons)}"
            )
        try:
            method = make(request)
        except NoFitError as error:
            if str(error):
                reasons.append(str(error))
        else:
            return method, (*reasons, method.reason)
    raise AssertionError("sampling fits every model")


def _named(request: ExplainRequest) -> tuple[Method, tuple[str, ...]]:
    name = request.method
    make = METHODS[name]
    if make not in BEFORE_LINK and request.space == "raw_score":
        raise ExplainError(f"{name} explains what is served, not the raw score; use output='auto'")
    try:
        method = make(request)
    except NoFitError as error:
        raise ExplainError(f"method {name!r} does not fit this model: {error}") from error
    if make in BEFORE_LINK:
        return method, (method.reason,)
    return method, (f"method={name!r} was asked for", method.reason)
