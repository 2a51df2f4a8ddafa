"""Runs of the model inside a Batcher: each row is answered, in batches of one size if wished."""

from __future__ import annotations

import numpy as np

from modelkit.errors import OutputCountError, SignatureError
from modelkit.model.model import PLAIN, Call, Model, Outputs
from modelkit.serving.batching.isolation import Names, join_rows, row_count
from modelkit.signature.refusing import moved, share
from modelkit.signature.signature import Feeds


class Execution:
    """Runs a model and checks that it answers as many rows as it was given.

    Args:
        model: the Model.
        first: the name of one of its inputs; rows that the model prepared may have others.
    """

    __slots__ = ("_first", "_model", "shape")

    def __init__(self, model: Model, first: str) -> None:
        self._model = model
        self._first = first
        self.shape = 0  # the rows of every batch of `run_padded`

    def run(self, feeds: Feeds, outputs: Names, call: Call = PLAIN) -> Outputs:
        """Run the rows. Raises OutputCountError."""
        try:
            rows = len(feeds[self._first])
        except KeyError:  # the model prepared them
            rows = row_count(feeds)
        answers = self._model._run(feeds, outputs, call)
        for name, array in answers.items():
            if len(array) != rows:
                raise _miscounted(name, len(array), rows)
        return answers

    def run_padded(self, feeds: Feeds, outputs: Names, call: Call = PLAIN) -> Outputs:
        """Run the rows in batches of one size, filled up with a row of the caller's own.

        Raises OutputCountError.
        """
        rows = row_count(feeds)
        if rows == 0:
            return self._model._run(feeds, outputs, call)
        answers = []
        for start in range(0, rows, self.shape):
            places = np.arange(start, start + self.shape)
            take = np.minimum(places, rows - 1)
            part = {name: feed[take] for name, feed in feeds.items()}
            left = rows - start
            try:
                answer = self.run(part, outputs, call)
            except SignatureError as error:
                raise moved(share(error, 0, left) or error, start) from None
            kept = {name: array[:left] for name, array in answer.items()}
            answers.append(kept)
        return join_rows(answers)


def _miscounted(name: str, got: int, expected: int) -> OutputCountError:
    return OutputCountError(
        f"the model gave {got} rows of {name!r} for {expected} rows of input",
        expected=expected,
        got=got,
    )
