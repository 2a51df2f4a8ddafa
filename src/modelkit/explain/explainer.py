"""Choose the best method that fits a model, run it, and say what it found as an Explanation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from modelkit._internal import fields
from modelkit._internal.progress import bars, counted_off
from modelkit.errors import ExplainError, SignatureError, UsageError
from modelkit.explain.explanation import Explanation, method_in_words
from modelkit.explain.method import Attribution, ExplainRequest
from modelkit.explain.subject import Subject, is_text, make_subject
from modelkit.explain.time_limit import current_call, explaining
from modelkit.model.call import make_call
from modelkit.model.golden import BACKGROUND
from modelkit.model.model import Model
from modelkit.model.wrapper import check_is_model
from modelkit.signature.signature import Feeds

OUTPUT_SPACES = ("auto", "raw_score", "probability", "value")


@dataclass(frozen=True)
class ExplainPlan:
    """What an Explainer would do: the method, whether it is exact, its largest cost, and why."""

    method: str
    exact: bool
    output_space: str
    rows_per_row: int
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        how = method_in_words(self.method, exact=self.exact)
        why = "".join(f"\n  {reason}" for reason in self.reasons)
        most = "up to " if self.method == "sampling" else ""
        rows = "row" if self.rows_per_row == 1 else "rows"
        cost = f"{most}{self.rows_per_row:,} model {rows} for each row"
        return f"{how}: explains the {self.output_space}, {cost}{why}"


@final
class Explainer:
    """Says why a Model gave an output: Shapley values of its raw columns over a background.

        mk.Explainer(model, background=X_train[:200]).explain(X[:1]).top()

    Values belong to the columns that you pass, even if the model encodes them.

    Args:
        model: any Model. The graph is read from `model.base`; the model itself is called if the
            graph is not enough.
        background: rows that stand for "a column is not known": a few hundred typical ones. By
            default those that were stored in the package.
        method: "auto" for the first of "contributions" (an output of the model's own), "additive",
            "trees", "enumeration" and "sampling" that fits, or one of them; or "lime",
            "shap:kernel" or "shap:permutation".
        output: "auto"; "raw_score" for the number before a sigmoid, softmax or exponential;
            "probability" or "value" for the served output. With "auto", raw scores if an exact
            method explains them. Or the name of one of the model's outputs of numbers: a model of
            several, such as the `probabilities_0`, `probabilities_1` and so on of a multi-label
            one, needs the name.
        budget: model rows for each explained row that sampling or shap use. By default, sampling
            passes over the background once to 32 times, until the standard errors of a row are 3 %
            of its values, both as root mean squares; and shap takes its own default. For "lime",
            the number of rows it draws: by default 5,000.
        seed: of sampling. The same row, seed, background and package give the same values from any
            thread.
        positive: of two classes, the one whose raw score is explained. It comes last among
            probabilities, so plots show it unless you name another output; by default the second.
        key: of a Rollout: explain the Model that answers calls with this key now, or by default the
            champion. An Explainer stays with that Model, whatever the Rollout decides later.

    Raises:
        ExplainError: if the background is missing, the method does not fit, the model's inputs or
            outputs cannot be explained, or it has several outputs and none is named.
        UsageError: for another method, output, budget, seed or `positive` than the model has.
        SignatureError: if the background does not fit the model.
        TypeError: for anything but a Model.
        MissingExtraError: if onnx is not installed.
    """

    def __init__(
        self,
        model: Model,
        *,
        background: Any = None,
        method: str = "auto",
        output: str = "auto",
        budget: int | None = None,
        seed: int | None = None,
        positive: Any = None,
        key: str | None = None,
    ) -> None:
        check_is_model(model, "an Explainer")
        from modelkit.explain.choose import METHODS, choose_method  # it needs onnx

        model = model._for_key(key)
        _check_known("method", method, ("auto", *METHODS))
        _check_known("output", output, (*OUTPUT_SPACES, *model.signature.output_names))
        if budget is not None:
            fields.check_integer("budget", budget, 1)
        if seed is not None:
            fields.check_integer("seed", seed, 0)
        if is_text(model.signature):
            background = _text_background(model, method, background)
        space = output if output in OUTPUT_SPACES else "auto"
        named = None if output in OUTPUT_SPACES else output
        self._subject = make_subject(model, background, named)
        served = self._subject.space
        if space in ("probability", "value") and space != served:
            raise UsageError(f"this model serves a {served}, not a {space}")
        self._positive = None if positive is None else _place_of_class(self._subject, positive)
        self._seed = 0 if seed is None else int(seed)
        self._background_id = self._subject.background_id()
        request = ExplainRequest(self._subject, method, space, budget, self._seed)
        self._method, self._reasons = choose_method(request)

    def __repr__(self) -> str:
        return fields.cut(f"<Explainer of {self._subject.model!r}: {self.plan()}>")

    def plan(self, X: Any = None) -> ExplainPlan:
        """What `explain` would do, why, and at what cost, without running anything.

        Raises SignatureError if rows are given that do not fit the model.
        """
        if X is not None:
            self._subject.signature.coerce(X)
        method = self._method
        return ExplainPlan(
            method.kind, method.exact, method.space, method.rows_per_row, self._reasons
        )

    @property
    def numbers_per_row(self) -> int:
        """How many values an explanation has for each row: one a column and output."""
        return len(self._subject.players) * len(self._method.output_names)

    def explain(
        self, X: Any, *, deadline: float | None = None, progress: bool | None = None
    ) -> Explanation:
        """Explain each row of a batch.

            mk.Explainer(model).explain(X[:3]).to_dataframe()

        Args:
            X: n rows, in any form the model takes.
            deadline: seconds from now in which you need the result. It is checked between rows, and
                between runs of the model.
            progress: show a bar; by default in a notebook.

        Raises:
            AccessDenied: if a Guarded around the model has a policy that forbids it.
            SignatureError: if the rows do not fit the model.
            ExplainError: if the model answers a row with a number that is not finite, or refuses a
                row that the method derives from it.
            AdditivityError: if exact values do not add up to what the model served.
            DeadlineExceeded: if the deadline passed.
        """
        self._subject.model._check_access("explain")
        feeds = self._subject.signature.coerce(X)
        with bars(progress), explaining(make_call(deadline, -1, None)):
            found = self._found(feeds)
        return self._explanation(feeds, found)

    def _found(self, feeds: Feeds) -> Attribution:
        """What the method finds."""
        served = self._subject.ask(feeds)
        finite = np.isfinite(served).all(axis=1)
        if not finite.all():
            row = int(np.flatnonzero(~finite)[0])
            raise ExplainError(
                f"row {row}: the model's output is {served[row]}; only finite outputs can be "
                "explained"
            )
        rows = counted_off(range(len(served)), "explain", "row")
        try:
            return self._method.explain(feeds, served, _while_time(rows))
        except SignatureError as error:
            raise ExplainError(
                f"{self._method.kind} asks the model about mixtures of these rows and others, and it "
                "refuses some of them; choose an exact method, or background rows that are more "
                f"alike. {error}"
            ) from error

    def _explanation(self, feeds: Feeds, found: Attribution) -> Explanation:
        """What the method found, with what this Explainer knows."""
        subject = self._subject
        manifest = subject.model.manifest
        names = tuple(player.name for player in subject.players)
        explanation = Explanation(
            values=found.values,
            base_values=found.base,
            data=subject.table(feeds) if found.data is None else found.data,
            feature_names=names if found.feature_names is None else found.feature_names,
            output_names=self._method.output_names,
            output_space=self._method.space,
            method=self._method.kind,
            exact=self._method.exact,
            additivity_gap=found.gap,
            std_error=found.std_error,
            fidelity=found.fidelity,
            evaluations=found.evaluations,
            seed=self._seed,
            background_id=self._background_id,
            background_rows=subject.count,
            model_digest=None if manifest is None else manifest.model_digest,
            warnings=found.warnings,
            version=subject.model.version,
        )
        if self._positive is None:
            return explanation
        classes = subject.signature.classes or ()
        return _of_class(explanation, self._positive, str(classes[self._positive]))


def _of_class(found: Explanation, place: int, name: str) -> Explanation:
    """The explanation of one of two classes: with its probability last, or with its raw score."""
    single = len(found.output_names) == 1
    if place == 1:
        return replace(found, output_names=(name,)) if single else found
    fidelity = found.fidelity
    if fidelity is not None:
        both = {key: [row[::-1] for row in fidelity[key]] for key in ("r2", "local_error")}
        fidelity = fidelity | both
    return replace(
        found,
        values=0.0 - found.values if single else found.values[:, :, ::-1],
        base_values=0.0 - found.base_values if single else found.base_values[:, ::-1],
        output_names=(name,) if single else found.output_names[::-1],
        additivity_gap=found.additivity_gap[:, ::-1],
        std_error=None if found.std_error is None else found.std_error[:, :, ::-1],
        fidelity=fidelity,
    )


def _place_of_class(subject: Subject, positive: Any) -> int:
    """The place of a class among two. Raises UsageError where the output is not of two classes."""
    classes = subject.signature.classes or ()
    of_classes = subject.served == "scores" or subject.names == tuple(map(str, classes))
    if len(classes) != 2 or not of_classes:
        raise UsageError(
            f"positive= is for what a model of two classes gives, and what is explained here is "
            f"{list(subject.names)!r:.200}: leave it out, and name an output where you draw"
        )
    if not isinstance(positive, str | int | float | np.generic) or positive not in classes:
        raise UsageError(
            f"positive={positive!r:.80} is not a class of this model: pass one of {classes!r:.200}"
        )
    return classes.index(positive)


def _while_time(rows: Iterable[int]) -> Iterator[int]:
    """The numbers of rows, while there is time. Raises DeadlineExceeded."""
    for row in rows:
        current_call()
        yield row


def _check_known(what: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise UsageError(f"{what} {value!r} is unknown; use one of {list(known)}")


def _text_background(model: Model, method: str, background: Any) -> Any:
    """The background of a model of texts: LIME compares a text with itself without some words."""
    if method == "lime":
        return np.array([[""]], object)
    if background is None and BACKGROUND not in model.attachments:
        raise ExplainError(
            "the words of a text are explained by method='lime', without a background"
        )
    return background
