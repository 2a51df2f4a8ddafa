"""Choose the best method that fits a model, run it, and check what it says against what the model served."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any, final

import numpy as np

from modelkit.cast import Array
from modelkit.errors import ExplainError
from modelkit.explain import hooks, lime, sampling
from modelkit.explain.exact import ExactMethod, check_gap
from modelkit.explain.explanation import Explanation, kind_of
from modelkit.explain.sampler import Sampler
from modelkit.explain.subject import BACKGROUND, Subject, make_subject
from modelkit.model import Model
from modelkit.signature import Feeds

METHODS = (
    "auto",
    "contributions",
    "additive",
    "trees",
    "enumeration",
    "sampling",
    "lime",
    *hooks.SHAP,
)
EXACT = (
    "additive",
    "trees",
    "enumeration",
)  # not "contributions": how these are defined is up to the model
INEXACT = ("sampling", "lime", *hooks.SHAP)
SPACES = ("auto", "margin", "probability", "value")
ENUMERATED_ROWS = 20_000  # of the model for one explained row, where that makes the answer exact


@dataclass(frozen=True)
class Plan:
    """What an Explainer would do: the method, whether it is exact, model rows for each row at most, and why."""

    method: str
    exact: bool
    output_space: str
    rows_per_row: int
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        how = kind_of(self.method, exact=self.exact)
        why = "".join(f"\n  {reason}" for reason in self.reasons)
        most = "up to " if self.method == "sampling" else ""
        cost = f"{most}{self.rows_per_row} model rows for each row"
        return f"{self.method} ({how}) of the {self.output_space}, {cost}{why}"


@final
class Explainer:
    """Says why a Model gave an output: Shapley values of its raw columns over a background.

    Args:
        model: any Model. The graph is read from `model.base`; the model itself is asked where a
            graph does not do.
        background: rows that stand for "a column is not known": a few hundred typical ones. By
            default those that were stored in the package.
        method: "auto" for the first of "contributions" (an output of the model's own), "additive",
            "trees", "enumeration" and "sampling" that fits, or one of them; or "lime",
            "shap:kernel" or "shap:permutation".
        output: "auto"; "margin" for what comes before a sigmoid, softmax or exponential;
            "probability" or "value" for what is served. With "auto", margins where an exact method
            explains them. Or the name of one of the model's outputs of numbers: a model of several,
            such as the `probabilities_0`, `probabilities_1` and so on of a multi-label one, has
            none that is meant where none is named.
        budget: model rows for each explained row that sampling or shap use. By default, sampling
            passes over the background once to 32 times, until the standard errors of a row are 3 %
            of its values, both as root mean squares; and shap takes its own default. For "lime",
            how many rows it draws: by default 5,000.
        group: "raw": values are of the columns a caller passes, whatever encodes them.
        seed: of sampling. The same row, seed, background and package give the same values from any
            thread.

    Raises:
        ExplainError: if there is no background, the model's inputs or outputs cannot be explained,
            or it has several outputs and none is named.
        SignatureError: if the background does not fit the model.
    """

    def __init__(  # noqa: PLR0913 - all but one by keyword
        self,
        model: Model,
        *,
        background: Any = None,
        method: str = "auto",
        output: str = "auto",
        budget: int | None = None,
        group: str = "raw",
        seed: int | None = None,
    ) -> None:
        _check_names(method, output, group, model.signature.output_names)
        _check_numbers(budget=budget, seed=seed)
        self._seed = 0 if seed is None else int(seed)
        if method == "lime" and lime.is_text(model.signature):
            background = lime.NO_TEXT  # a text is compared with itself less some words
        elif (
            background is None
            and BACKGROUND not in model.attachments
            and lime.is_text(model.signature)
        ):
            raise ExplainError(
                "the words of a text are explained by method='lime'; it needs no background"
            )
        space, served = (output, None) if output in SPACES else ("auto", output)
        self._subject = make_subject(model, background, served)
        if space in ("probability", "value") and space != self._subject.space:
            raise ExplainError(f"this model serves a {self._subject.space}, not a {space}")
        self._background_id = self._subject.background_id()
        self._reasons: list[str] = []
        self._hook = _make_hook(self._subject, method, budget, self._seed)
        hooked = self._hook is not None
        self._exact = (
            None if hooked else ExactMethod.build(self._subject, method, space, self._reasons)
        )
        self._method = self._choose(method, space, budget)
        self._sampler = (
            Sampler(self._subject, budget, self._seed) if self._method == "sampling" else None
        )
        if self._sampler is not None:
            self._reasons.append(self._sampler.reason)

    def _choose(self, method: str, output: str, budget: int | None) -> str:
        if self._exact is not None:
            return self._exact.kind
        if self._hook is not None:
            if output == "margin":
                raise ExplainError(
                    f"{method} explains what is served, not the margin; leave output='auto'"
                )
            self._reasons += [f"method={method!r} was asked for", self._hook.reason]
            return method
        if method in ("contributions", "additive", "trees"):
            raise ExplainError(
                f"method {method!r} does not fit this model: {'; '.join(self._reasons)}"
            )
        if output == "margin":
            raise ExplainError(
                f"no exact method reaches the margin of this model: {'; '.join(self._reasons)}"
            )
        d, count = len(self._subject.players), self._subject.count
        rows = count << d
        fits = d <= sampling.MOST_ENUMERATED and rows <= max(budget or 0, ENUMERATED_ROWS)
        if method == "enumeration" and not fits:
            raise ExplainError(
                f"enumeration takes 2^{d} times {count} model rows for each row; pass a smaller "
                "background, "
                f"budget={rows}, or method='sampling'"
            )
        if method == "enumeration" or (method == "auto" and fits):
            self._reasons.append(f"all {1 << d} coalitions of {d} columns fit the budget")
            return "enumeration"
        return "sampling"

    def plan(self, X: Any = None) -> Plan:
        """What `explain` would do, why, and what it would cost.

        Runs nothing; `X` is checked where it is given.
        """
        if X is not None:
            self._subject.signature.coerce(X)
        d = len(self._subject.players)
        costs = {
            "contributions": 1,
            "additive": d + 1,
            "trees": 1,
            "enumeration": (self._subject.count << d) + 1,
        }
        cost = costs.get(self._method)
        if self._hook is not None:
            cost = self._hook.rows_per_row
        if cost is None:
            cost = 1 if self._sampler is None else self._sampler.most_rows + 1
        space = self._exact.space if self._exact is not None else self._subject.space
        return Plan(self._method, self._method in EXACT, space, cost, tuple(self._reasons))

    def explain(self, X: Any, *, progress: bool = False) -> Explanation:
        """Explain each row of a batch.

        Args:
            X: n rows, in any form the model takes.
            progress: show a bar, for many rows and a slow model.

        Raises:
            SignatureError: if the rows do not fit the model.
            AdditivityError: if exact values do not add up to what the model served.
        """
        feeds = self._subject.signature.coerce(X)
        served = self._subject.ask(feeds)
        if not np.isfinite(served).all():
            row = int(np.flatnonzero(~np.isfinite(served).all(axis=1))[0])
            raise ExplainError(
                f"the model answers row {row} with {served[row]}, and what is no number has no "
                "parts"
            )
        if self._hook is not None:
            return self._hooked(feeds, served, progress=progress)
        warnings: tuple[str, ...] = ()
        if self._exact is not None:
            values, base, gap = self._exact.explain(feeds, served)
            errors, evaluations = None, self.plan().rows_per_row * len(served)
        else:
            values, base, errors, evaluations, warnings = self._black_box(
                feeds, served, progress=progress
            )
            gap = np.abs(base + values.sum(axis=1) - served)
        if self._method not in INEXACT:
            check_gap(gap, served)
        return self._explanation(
            feeds,
            values=values,
            base_values=base,
            additivity_gap=gap,
            std_error=errors,
            evaluations=evaluations,
            warnings=warnings,
        )

    def _hooked(self, feeds: Feeds, served: Array, *, progress: bool) -> Explanation:
        """What a hook says: it need not add up to what was served, so the gap is told and not asserted."""
        assert self._hook is not None  # noqa: S101 - for the type checker
        found = self._hook.explain(feeds, served, _progress(len(served), show=progress))
        own = {"data": found.data, "feature_names": found.names}  # of a text: its words
        return self._explanation(
            feeds,
            values=found.values,
            base_values=found.base,
            additivity_gap=np.abs(found.base + found.values.sum(axis=1) - served),
            std_error=None,
            fidelity=found.fidelity,
            evaluations=found.evaluations,
            warnings=found.warnings,
            **{name: value for name, value in own.items() if value is not None},
        )

    def _explanation(self, feeds: Feeds, **found: Any) -> Explanation:
        """What a method found, with what this Explainer knows."""
        manifest = self._subject.model.manifest
        about = self._subject if self._exact is None else self._exact
        known: dict[str, Any] = {
            "data": self._subject.table(feeds),
            "feature_names": tuple(player.name for player in self._subject.players),
            "output_names": about.names,
            "output_space": about.space,
            "method": self._method,
            "exact": self._method in EXACT,
            "fidelity": None,
            "seed": self._seed,
            "background_id": self._background_id,
            "background_rows": self._subject.count,
            "model_digest": None if manifest is None else manifest.digest,
        }
        return Explanation(**(known | found))

    def _black_box(
        self, feeds: Feeds, served: Array, *, progress: bool
    ) -> tuple[Array, Array, Array | None, int, tuple[str, ...]]:
        """Values, base, standard errors, model rows and warnings, from answers of the model alone."""
        n, d, k = len(served), len(self._subject.players), served.shape[1]
        values, base = np.zeros((n, d, k)), np.zeros((n, k))
        errors = None if self._sampler is None else np.zeros((n, d, k))
        evaluations, worst = n, 0.0
        for i in _progress(n, show=progress):
            row = {name: feed[i] for name, feed in feeds.items()}
            if d == 1:
                base[i] = self._subject.at_background.mean(axis=0)
                values[i, 0] = served[i] - base[i]
            elif self._sampler is None:
                values[i], base[i] = sampling.enumerate_all(
                    partial(self._ask, row), d, self._subject.count
                )
                evaluations += self._subject.count << d
            else:
                assert errors is not None  # noqa: S101 - for the type checker
                values[i], errors[i], base[i], asked, share = self._sampler.explain(row, served[i])
                evaluations, worst = evaluations + asked, max(worst, share)
        return (
            values,
            base,
            errors,
            evaluations,
            () if self._sampler is None else self._sampler.warnings(worst),
        )

    def _ask(self, row: dict[str, Array], masks: Array, rows: Array) -> Array:
        return self._subject.ask_mixed(self._subject.beside(row), self._subject.places(masks, rows))


def _check_names(method: str, output: str, group: str, outputs: tuple[str, ...]) -> None:
    given = {"method": method, "output": output, "group": group}
    known = {"method": METHODS, "output": (*SPACES, *outputs), "group": ("raw",)}
    for what, value in given.items():
        if value not in known[what]:
            raise ExplainError(f"{what} {value!r} is unknown; use one of {list(known[what])}")


def _check_numbers(*, budget: int | None, seed: int | None) -> None:
    for what, number, least in (("budget", budget, 1), ("seed", seed, 0)):
        if number is not None and (
            not isinstance(number, Integral) or isinstance(number, bool) or number < least
        ):
            raise ExplainError(f"{what} is an integer of at least {least}, not {number!r}")


def _make_hook(subject: Subject, method: str, budget: int | None, seed: int) -> hooks.Hook | None:
    if method in hooks.SHAP:
        return hooks.ShapHook(subject, method, budget, seed)
    if method != "lime":
        return None
    return (lime.TextHook if lime.is_text(subject.signature) else lime.TableHook)(
        subject, budget, seed
    )


def _progress(n: int, *, show: bool) -> Any:
    if not show:
        return range(n)
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return range(n)
    return tqdm(range(n), desc="explain", unit="row")
