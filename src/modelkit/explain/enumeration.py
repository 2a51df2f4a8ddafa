"""Exact Shapley values from the answers for all coalitions, for models of few columns."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import ExplainError
from modelkit.explain import sampling
from modelkit.explain.method import Attribution, ExplainRequest, NoFitError, check_gap, gap_between
from modelkit.explain.subject import Subject, rows_at
from modelkit.signature.signature import Feeds

MOST_COLUMNS = 12
ENUMERATED_ROWS = 20_000  # model rows for an explained row that are spent without being asked


def make_enumeration(request: ExplainRequest) -> Enumeration:
    """The method, if its cost is within the budget. Raises NoFitError, or ExplainError if named."""
    d = len(request.subject.players)
    count = request.subject.count
    rows = count << d
    if d <= MOST_COLUMNS and rows <= max(request.budget or 0, ENUMERATED_ROWS):
        return Enumeration(request.subject)
    if request.method == "auto":
        raise NoFitError
    raise ExplainError(
        f"enumeration takes 2^{d} times {count} model rows for each row; pass a smaller "
        f"background, budget={rows}, or method='sampling'"
    )


class Enumeration:
    """Asks the model about every coalition of columns on every background row."""

    kind = "enumeration"
    exact = True

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._players = len(subject.players)
        self._rows = subject.count << self._players
        self.space = subject.space
        self.output_names = subject.names
        self.rows_per_row = self._rows + 1
        self.reason = (
            f"all {1 << self._players} coalitions of {self._players} columns fit the budget"
        )

    def explain(self, feeds: Feeds, served: Array, rows: Iterable[int]) -> Attribution:
        """Explain one row after the other."""
        n, k = served.shape
        values = np.zeros((n, self._players, k))
        base = np.zeros((n, k))
        evaluations = n
        for i in rows:
            if self._players == 1:
                found = sampling.only_player(self._subject.at_background, served[i])
            else:
                found = self._enumerate(rows_at(feeds, i))
                evaluations += self._rows
            values[i], base[i] = found
        gap = gap_between(values, base, served)
        check_gap(gap, served)
        return Attribution(values, base, gap, evaluations)

    def _enumerate(self, row: dict[str, Array]) -> tuple[Array, Array]:
        subject = self._subject
        source = subject.beside(row)

        def ask(masks: Array, rows: Array) -> Array:
            return subject.ask_mixed(source, subject.places(masks, rows))

        return sampling.enumerate_all(ask, self._players, subject.count)
