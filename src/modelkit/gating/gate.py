"""Decide whether a candidate may take the place of a champion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelkit.gating.check import Check
from modelkit.gating.verdict import Verdict
from modelkit.model import Model
from modelkit.package.load import Openable
from modelkit.registry.registry import Registry


def gate(  # noqa: PLR0913 - what a gate may ask, all by keyword
    candidate: Model | Openable,
    champion: Model | Openable,
    X: Any,
    y: Any,
    *,
    margin: float | Mapping[str, float],
    metric: str | None = None,
    alpha: float = 0.05,
    require: Sequence[Any] = (),
    veto: Sequence[Any] = (),
    slices: Any = None,
    clusters: Any = None,
    queries: Any = None,
    budgets: Mapping[str, float] | None = None,
    checks: Sequence[Check] = (),
    registry: Registry | None = None,
    seed: int = 0,
) -> Verdict:
    """Whether a candidate may take the place of a champion, judged on the same labelled rows.

    The decision is "promote" where all that is required is shown, "block" where a contract or a
    floor is broken or harm is shown, and else "inconclusive", with the number of rows that would
    tell. Differences are the candidate's figure less the champion's, with the sign turned where
    lower is better: above zero, the candidate is better.

    Args:
        candidate: a Model that was loaded from a package; or what `mk.load` opens, such as a path;
            or with `registry` a text such as "registry:churn@1.1.0".
        champion: the same; "registry:churn@champion" is judged as what this alias names now, and
            `Registry.set_alias(verdict=...)` then takes the Verdict for that alias only.
        X: n rows, as `Model.run` takes them, that neither was trained on.
        y: their truth, as `mk.evaluate` takes it.
        margin: how much worse the candidate may be, in units of the primary metric; 0 asks it to be
            shown better. For further metrics a dict, by metric.
        metric: the primary metric; by default the first of the task, such as "accuracy".
        alpha: the probability, at most, of promoting one that is worse than the margin allows.
        require: what must be shown, beside the primary metric: names of metrics of which the
            candidate is no worse than its margin, and floors such as "recall >= 0.6".
        veto: names of metrics of which no harm beyond their margin may be shown.
        slices: names of columns of X, or a dict of values (n,) by name: of the rows of each value,
            no harm may be shown.
        clusters: values (n,), or the name of a column of X: rows that belong together, such as
            those of one customer, count as one observation.
        queries: the same, for models that rank the rows of each query.
        budgets: what the candidate may cost, by name, such as {"p50_ratio": 1.2}.
        checks: further ones that you made.
        registry: counts the gates on these rows, by which alpha is divided; and knows what its
            aliases name.
        seed: of the bootstrap.

    Raises:
        GateError: if it cannot be judged as asked.
        EvaluationError: if the truth does not fit the rows.
        SignatureError: if the rows do not fit the champion.
        PackageError, NotFound: if a model cannot be opened.
        MissingExtraError: if scipy is missing.
    """
    raise NotImplementedError
