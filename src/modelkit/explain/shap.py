"""The methods "shap:kernel" and "shap:permutation": shap's own explainers, made safe for a Model.

shap sees the game and not the rows: a row of ones in front of a background of one row of zeros, where
a one is a column that the model knows of the explained row, and each answer is the mean over the whole
background. So it explains columns of any dtype, and keeps all different values apart.

What is unsafe about them, and what is done here:

- No column is dropped by an L1 penalty.
- An explainer of shap keeps the row it explains in itself, so each call makes its own.
- They seed numpy's global random state and draw from it, so it is given back as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import ExplainError, importing
from modelkit.explain.method import Attribution, ExplainRequest, gap_between
from modelkit.explain.subject import Subject, rows_at
from modelkit.signature.signature import Feeds

KERNEL = "shap:kernel"
PERMUTATION = "shap:permutation"

_global_state = Lock()


@contextmanager
def _kept_random_state() -> Iterator[None]:
    """Give numpy's global random state back as it was, for one caller at a time."""
    with _global_state:
        before = np.random.get_state()  # noqa: NPY002 - it is the state that the libraries use
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


def make_shap(request: ExplainRequest) -> ShapMethod:
    """The method. Raises ExplainError or MissingExtraError where shap cannot do it."""
    return ShapMethod(request.subject, request.method, request.budget, request.seed)


class ShapMethod:
    """KernelExplainer or PermutationExplainer of shap, over the whole background.

    Args:
        subject: what is explained.
        method: "shap:kernel" or "shap:permutation".
        budget: model rows for each explained row. A coalition takes one for each background row; by
            default shap's own number of coalitions, 2 d + 2048 or 500.
        seed: of each row, so that its values depend on nothing else.

    Raises:
        ExplainError: if the budget is below what shap needs.
        MissingExtraError: if shap is not installed.
    """

    exact = False

    def __init__(self, subject: Subject, method: str, budget: int | None, seed: int) -> None:
        with importing("shap", f"method={method!r}", "explain-extra"):
            import shap
        self.kind = method
        self.space = subject.space
        self.output_names = subject.names
        self._shap = shap
        self._subject = subject
        self._seed = seed % 2**32  # what the legacy generator takes
        self._coalitions = _coalitions(method, len(subject.players), subject.count, budget)
        self.rows_per_row = self._coalitions * subject.count + 1
        self.reason = (
            f"{method} asks for {self._coalitions} coalitions of {subject.count} background rows"
        )

    def explain(self, feeds: Feeds, served: Array, rows: Iterable[int]) -> Attribution:
        """Shapley values as shap estimates them; concurrent calls run one after the other."""
        n, k = served.shape
        players = len(self._subject.players)
        values = np.zeros((n, players, k))
        base = self._subject.at_background.mean(axis=0)
        asked: list[int] = []
        with _kept_random_state():
            for i in rows:
                np.random.seed(self._seed)  # noqa: NPY002 - shap draws from the global state alone
                worth = partial(self._worth, rows_at(feeds, i), served[i], base, asked)
                values[i] = np.reshape(self._values(worth, players), (players, k))
        bases = np.tile(base, (n, 1))
        return Attribution(values, bases, gap_between(values, bases, served), n + sum(asked))

    def _worth(
        self, row: Feeds, served: Array, base: Array, asked: list[int], masks: Array
    ) -> Array:
        """What the model answers (m, k) in the mean, where it knows some columns of the row alone.

        How many rows that took is added to `asked`.
        """
        subject = self._subject
        chosen = masks.astype(bool)
        known = chosen.sum(axis=1, keepdims=True)
        found: Array = np.where(known == 0, base, served)
        mixed = (known % chosen.shape[1] != 0)[:, 0]
        if mixed.any():
            every = np.tile(np.arange(subject.count), mixed.sum())
            places = subject.places(np.repeat(chosen[mixed], subject.count, axis=0), every)
            answers = subject.ask_mixed(subject.beside(row), places)
            found[mixed] = answers.reshape(-1, subject.count, len(served)).mean(axis=1)
            asked.append(len(every))
        return found

    def _values(self, worth: Callable[[Array], Array], players: int) -> Any:
        none, whole = np.zeros((1, players)), np.ones((1, players))
        if self.kind == KERNEL:
            explainer = self._shap.KernelExplainer(worth, none)
            # The default of l1_reg keeps ten columns and sets all others to zero.
            return explainer.shap_values(
                whole, nsamples=self._coalitions, l1_reg=False, silent=True
            )
        masker = self._shap.maskers.Independent(none)
        explainer = self._shap.PermutationExplainer(worth, masker, seed=self._seed)
        return explainer(whole, max_evals=self._coalitions, silent=True).values


def _coalitions(method: str, players: int, background: int, budget: int | None) -> int:
    """The number of coalitions that a budget buys. Raises ExplainError if shap needs more."""
    most = max(2**players - 2, 1)
    if method == KERNEL:
        # Each column alone, and all but each: fewer leave its regression undetermined.
        least = min(2 * players, most)
        usual = 2 * players + 2048
    else:  # one random order, forwards and backwards
        least = 2 * players + 1
        usual = max(500, least)
    found = usual if budget is None else budget // background
    if found < least:
        raise ExplainError(
            f"a budget of {budget} model rows gives {found} coalitions of {background} background "
            f"rows, and {method} needs {least} for {players} columns: budget={least * background}, "
            "or a smaller background"
        )
    return min(found, most) if method == KERNEL else found
